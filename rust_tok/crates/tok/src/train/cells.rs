//! The words as one flat row of cells that merges shrink in place.
//!
//! A symbol that spans *k* initial symbols keeps their *k* cells: the first and the last hold its
//! id, those between hold [`HOLE`]. So from any symbol both neighbours are one read away (the cell
//! before the first, the cell behind the last), a merge writes at most four cells, and no cell ever
//! moves. Words are separated by [`BOUNDARY`] cells, one before the first and one behind the last.
//!
//! A list of places may name a cell whose symbol has been merged into another since. Reading the
//! cell tells: it then holds a hole or a longer symbol's id, never the id that it held before,
//! because every symbol that came to cover it is longer than the one that started there.

use super::pairs::{Pair, PairTable};
use crate::{Error, Result};

pub(super) const BOUNDARY: u32 = u32::MAX;
pub(super) const HOLE: u32 = u32::MAX - 1;

/// Cells are numbered in 32 bits, with room for one more word. So all weights together stay below
/// 2^63, and no count of a pair overflows.
const MOST_CELLS: usize = 1 << 31;
/// Bounds the copies of a word.
const GREATEST_COUNT: u64 = 1 << 44;

/// A place where a pair stands: the cell of its left symbol, and the count of the word.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Place {
    pub(super) cell: u32,
    pub(super) weight: u32,
}

/// All words of two symbols or more.
pub(super) struct Layout {
    pub(super) cells: Vec<u32>,
    /// The count of each word, in order.
    weights: Vec<u32>,
}

/// A pair of initial symbols: its count and where its places stand in [`Adjacent::places`].
pub(super) struct Initial {
    pub(super) pair: Pair,
    pub(super) count: i64,
    pub(super) places: std::ops::Range<usize>,
}

/// What stands side by side before the first merge.
pub(super) struct Adjacent {
    pub(super) pairs: Vec<Initial>,
    pub(super) places: Vec<Place>,
}

impl Layout {
    /// Lays out the words. Words of one symbol have no pairs and take no place. A count beyond 32
    /// bits becomes several copies of its word: the sums are the same.
    pub(super) fn new<W>(words: impl Iterator<Item = (W, u64)>) -> Result<Self>
    where
        W: Iterator<Item = u32> + Clone,
    {
        let mut layout = Self {
            cells: vec![BOUNDARY],
            weights: Vec::new(),
        };
        for (symbols, count) in words {
            if count > GREATEST_COUNT {
                return Err(Error::Argument(format!(
                    "a word is counted {count} times; a trainer takes at most {GREATEST_COUNT}"
                )));
            }
            let mut rest = count;
            while rest > 0 {
                let weight = rest.min(u32::MAX.into()) as u32;
                rest -= u64::from(weight);
                layout.push(symbols.clone(), weight);
            }
            if layout.cells.len() > MOST_CELLS {
                return Err(Error::Argument(format!(
                    "the distinct words have more than {MOST_CELLS} symbols; prune rare words"
                )));
            }
        }
        Ok(layout)
    }

    fn push(&mut self, symbols: impl Iterator<Item = u32>, weight: u32) {
        let start = self.cells.len();
        self.cells.extend(symbols);
        if self.cells.len() < start + 2 {
            self.cells.truncate(start);
            return;
        }
        self.cells.push(BOUNDARY);
        self.weights.push(weight);
    }

    /// Number of cells by token: 1 for those that words consist of, 0 for the others.
    pub(super) fn spans(&self, tokens: usize) -> Vec<u32> {
        let mut spans = vec![0; tokens];
        for &cell in self.cells.iter().filter(|&&cell| cell != BOUNDARY) {
            spans[cell as usize] = 1;
        }
        spans
    }

    /// Counts the pairs and lists their places, each list in the order of the cells.
    pub(super) fn adjacent(&self) -> Adjacent {
        let mut numbers = PairTable::new();
        let mut pairs: Vec<Initial> = Vec::new();
        self.for_each_pair(|pair, place| {
            let (number, is_new) = numbers.add(pair, 0);
            let number = if is_new {
                numbers.add(pair, pairs.len() as i64);
                pairs.push(Initial {
                    pair,
                    count: 0,
                    places: 0..0,
                });
                pairs.len() - 1
            } else {
                number as usize
            };
            pairs[number].count += i64::from(place.weight);
            pairs[number].places.end += 1;
        });
        let mut end = 0;
        for initial in &mut pairs {
            let len = initial.places.len();
            initial.places = end..end;
            end += len;
        }
        let mut places = vec![Place::default(); end];
        self.for_each_pair(|pair, place| {
            let next = &mut pairs[numbers.get(pair) as usize].places.end;
            places[*next] = place;
            *next += 1;
        });
        Adjacent { pairs, places }
    }

    fn for_each_pair(&self, mut visit: impl FnMut(Pair, Place)) {
        let mut start = 1;
        for &weight in &self.weights {
            let mut cell = start;
            while self.cells[cell + 1] != BOUNDARY {
                let place = Place {
                    cell: cell as u32,
                    weight,
                };
                visit(Pair::new(self.cells[cell], self.cells[cell + 1]), place);
                cell += 1;
            }
            start = cell + 2;
        }
    }
}
