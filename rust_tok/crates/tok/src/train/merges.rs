//! The merge loop.
//!
//! [`Trainer`] holds the words as [`cells`](super::cells), the counts of all pairs, and the queue of
//! pairs with their places. One step takes the first pair from the queue; if its count has changed
//! since it entered it goes back, else it becomes a symbol: [`Trainer::rewrite`] visits its places,
//! writes the symbol and notes per neighbour what came and went; [`Trainer::account`] brings the
//! counts up to date and queues the new pairs.
//!
//! # Corners of the trainer whose results are to be met
//!
//! Two different merges can spell the same token (`a + bc` and `ab + c`). The second one then makes
//! no new symbol but more places of an old one, and these rules of theirs show:
//!
//! - The count of a pair isn't reduced when the pair itself is merged. If one of its symbols is made
//!   again later, the old count stands and the new places are added to it.
//! - New places of a pair that waits in the queue become a second entry with those places alone; the
//!   pair can so be merged twice, and keeps the *last* rank.
//! - An entry stands for all places of the pair in the *words* of its places.
//!
//! - At the very end, entries that came with a count below `min_frequency` are looked at again, and
//!   one whose pair has become more frequent since is merged.
//!
//! Entries of the same pair and count are taken in the order of their coming; theirs is open there.
//!
//! Most pairs are rare for good. Only the last rule needs them, and only if the vocabulary doesn't
//! get full; so they are left out ([`RarePairs::Spared`]), and in that case, if any pair has come a
//! second time, the training is done again with them. Only small corpora end so.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use super::alphabet::Vocabulary;
use super::cells::{BOUNDARY, HOLE, Initial, Layout, Place};
use super::pairs::{Pair, PairTable};
use super::queue::{Queue, Waiting};
use super::{GoOn, TrainProgress, Trained};
use crate::{Error, Result};

/// Merges between two questions whether to go on.
const STEPS_PER_QUESTION: usize = 64;
/// Reads that run side by side.
const READ_AHEAD: usize = 16;
/// In place of where the next place of a pair goes: the pair isn't queued.
const UNLISTED: usize = usize::MAX;
/// Places below which giving some back isn't worth a pass.
const FEWEST_STALE: usize = 1 << 16;

/// What one merge changes beside one neighbour.
#[derive(Clone, Copy, Default)]
struct Beside {
    /// Weight of the places.
    weight: i64,
    /// Number of the places; while they are laid out, where the next one goes.
    places: usize,
}

/// The neighbours of one merge: sums in arrays by symbol, and which of them are in use.
///
/// A slot is twice the neighbour's symbol, plus one where it stands to the right. The new symbol
/// itself can be a neighbour on either side (`abab`): both share its right slot, one pair.
#[derive(Default)]
struct Neighbours {
    beside: Vec<Beside>,
    used: Vec<u32>,
    /// Slot and place of each new pair, in the order of the cells.
    found: Vec<(u32, Place)>,
    /// Weight of the new symbol as its own left neighbour.
    own_left: i64,
    /// Weight of the new symbol as its own right neighbour.
    own_right: i64,
}

impl Neighbours {
    #[inline]
    fn note(&mut self, slot: u32, place: Place) {
        let beside = &mut self.beside[slot as usize];
        if beside.places == 0 {
            self.used.push(slot);
        }
        beside.weight += i64::from(place.weight);
        beside.places += 1;
        self.found.push((slot, place));
    }
}

/// What becomes of pairs with counts below `min_frequency`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RarePairs {
    /// Queued like all others.
    Kept,
    /// Left out: less memory, less time.
    Spared,
}

/// Whether rare pairs that were left out could have made a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Sure,
    Unsure,
}

/// The state of one training.
pub(super) struct Trainer<'p> {
    vocabulary: Vocabulary,
    /// Dropped from the right symbol of a pair when the token is spelled.
    prefix: &'p str,
    min_frequency: i64,
    /// Pairs of smaller counts aren't queued.
    least_count: i64,
    cells: Vec<u32>,
    /// Number of cells by symbol; 0 for a token that is in no word yet.
    spans: Vec<u32>,
    counts: PairTable,
    queue: Queue,
    places: Vec<Place>,
    /// Number of places whose pair has left the queue.
    stale: usize,
    /// Pairs that may have more than one entry in the queue.
    repeated: HashSet<Pair>,
    merges: Vec<Pair>,
    neighbours: Neighbours,
}

impl<'p> Trainer<'p> {
    pub(super) fn new(
        vocabulary: Vocabulary,
        layout: Layout,
        prefix: &'p str,
        min_frequency: u64,
        rare_pairs: RarePairs,
    ) -> Self {
        let min_frequency = i64::try_from(min_frequency).unwrap_or(i64::MAX).max(1);
        let least_count = match rare_pairs {
            RarePairs::Kept => 1,
            RarePairs::Spared => min_frequency,
        };
        let adjacent = layout.adjacent();
        let mut counts = PairTable::new();
        let mut queue = Vec::new();
        for Initial {
            pair,
            count,
            places,
        } in adjacent.pairs
        {
            counts.add(pair, count);
            if count >= least_count {
                queue.push(Waiting::new(pair, count, places.start, places.len()));
            }
        }
        Self {
            spans: layout.spans(vocabulary.len()),
            neighbours: Neighbours {
                beside: vec![Beside::default(); vocabulary.len() * 2],
                ..Neighbours::default()
            },
            vocabulary,
            prefix,
            min_frequency,
            least_count,
            cells: layout.cells,
            counts,
            queue: Queue::new(queue),
            places: adjacent.places,
            stale: 0,
            repeated: HashSet::new(),
            merges: Vec::new(),
        }
    }

    /// Merges until the vocabulary has `wanted` tokens or no pair is frequent enough.
    pub(super) fn run(&mut self, wanted: usize, go_on: GoOn<'_>) -> Result<Outcome> {
        let mut outcome = Outcome::Sure;
        let mut steps = 0_usize;
        while self.vocabulary.len() < wanted {
            let Some(waiting) = self.queue.pop() else {
                if self.least_count > 1 && !self.repeated.is_empty() {
                    outcome = Outcome::Unsure;
                }
                break;
            };
            let pair = waiting.pair();
            let count = self.counts.get(pair);
            if waiting.count() != count {
                let Waiting { start, len, .. } = waiting;
                if count >= self.least_count {
                    self.queue.push(Waiting::new(pair, count, start, len));
                } else {
                    self.stale += len;
                }
                continue;
            }
            if count < self.min_frequency {
                break;
            }
            self.merge(pair, waiting.start..waiting.start + waiting.len)?;
            if steps.is_multiple_of(STEPS_PER_QUESTION) {
                let done = self.vocabulary.len();
                go_on(TrainProgress { done, wanted })?;
            }
            steps += 1;
        }
        let done = self.vocabulary.len();
        go_on(TrainProgress { done, wanted })?;
        Ok(outcome)
    }

    fn merge(&mut self, pair: Pair, places: Range<usize>) -> Result<()> {
        let (symbol, is_new) = self.symbol_for(pair)?;
        self.merges.push(pair);
        self.stale += places.len();
        if self.repeated.contains(&pair) {
            let all = self.all_in_words_of(pair, places);
            self.rewrite(pair, symbol, &all);
        } else {
            // The list is read while the cells are written; nothing else touches it.
            let all = std::mem::take(&mut self.places);
            self.rewrite(pair, symbol, &all[places]);
            self.places = all;
        }
        self.account(pair, symbol, is_new);
        self.compact();
        Ok(())
    }

    /// The symbol that a pair becomes, and whether it is new: two pairs can spell the same token.
    fn symbol_for(&mut self, pair: Pair) -> Result<(u32, bool)> {
        let (left, right) = (pair.left(), pair.right());
        let ending = self.vocabulary.token(right);
        let ending = ending.strip_prefix(self.prefix).unwrap_or(ending);
        let token = [self.vocabulary.token(left), ending].concat();
        let span = self.spans[left as usize] + self.spans[right as usize];
        let (symbol, _) = self.vocabulary.add(token);
        if symbol as usize == self.spans.len() {
            self.spans.push(0);
            let slots = self.spans.len() * 2;
            self.neighbours.beside.resize(slots, Beside::default());
        }
        let known = &mut self.spans[symbol as usize];
        let is_new = *known == 0;
        if is_new {
            *known = span;
        } else if *known != span {
            return Err(Error::Argument(format!(
                "the word counts hold a word with {:?} inside, which is no word of any text",
                self.prefix
            )));
        }
        Ok((symbol, is_new))
    }

    /// Writes the symbol over the pair at every place where it still stands.
    fn rewrite(&mut self, pair: Pair, symbol: u32, places: &[Place]) {
        for places in places.chunks(READ_AHEAD) {
            // The cells lie anywhere in memory: these reads don't wait for each other.
            for place in places {
                std::hint::black_box(self.cells[place.cell as usize]);
            }
            for &place in places {
                self.rewrite_at(pair, symbol, place);
            }
        }
    }

    #[inline]
    fn rewrite_at(&mut self, pair: Pair, symbol: u32, place: Place) {
        let (left, right) = (pair.left(), pair.right());
        let cells = &mut self.cells;
        let start = place.cell as usize;
        if cells[start] != left {
            return;
        }
        let middle = start + self.spans[left as usize] as usize;
        if cells[middle] != right {
            return;
        }
        let end = middle + self.spans[right as usize] as usize;
        let (before, after) = (cells[start - 1], cells[end]);
        cells[middle - 1] = HOLE;
        cells[middle] = HOLE;
        cells[start] = symbol;
        cells[end - 1] = symbol;
        let weight = i64::from(place.weight);
        if before == symbol {
            let cell = place.cell - self.spans[symbol as usize];
            self.neighbours.own_left += weight;
            self.neighbours
                .note(symbol * 2 + 1, Place { cell, ..place });
        } else if before != BOUNDARY {
            let cell = place.cell - self.spans[before as usize];
            self.neighbours.note(before * 2, Place { cell, ..place });
        }
        if after != BOUNDARY {
            self.neighbours.own_right += if after == symbol { weight } else { 0 };
            self.neighbours.note(after * 2 + 1, place);
        }
    }

    /// Brings counts, places and queue up to date with what `rewrite` found.
    fn account(&mut self, pair: Pair, symbol: u32, is_new: bool) {
        let (left, right) = (pair.left(), pair.right());
        let neighbours = &mut self.neighbours;
        let own = symbol * 2 + 1;
        let old_pair = |slot: u32| match slot % 2 {
            1 => Pair::new(right, slot / 2),
            _ => Pair::new(slot / 2, left),
        };
        let new_pair = |slot: u32| match slot % 2 {
            1 => Pair::new(symbol, slot / 2),
            _ => Pair::new(slot / 2, symbol),
        };
        for slots in neighbours.used.chunks(READ_AHEAD) {
            slots
                .iter()
                .for_each(|&slot| self.counts.touch(old_pair(slot)));
            for &slot in slots {
                if slot == own {
                    self.counts
                        .add(Pair::new(symbol, left), -neighbours.own_left);
                    self.counts
                        .add(Pair::new(right, symbol), -neighbours.own_right);
                } else {
                    let weight = neighbours.beside[slot as usize].weight;
                    self.counts.add(old_pair(slot), -weight);
                }
            }
        }
        let mut start = self.places.len();
        for slots in neighbours.used.chunks(READ_AHEAD) {
            slots
                .iter()
                .for_each(|&slot| self.counts.touch(new_pair(slot)));
            for &slot in slots {
                let beside = &mut neighbours.beside[slot as usize];
                let pair = new_pair(slot);
                let (count, is_first) = self.counts.add(pair, beside.weight);
                if !(is_new || is_first) {
                    self.repeated.insert(pair);
                }
                let len = std::mem::replace(&mut beside.places, UNLISTED);
                beside.weight = 0;
                if count >= self.least_count {
                    self.queue.push(Waiting::new(pair, count, start, len));
                    beside.places = start;
                    start += len;
                }
            }
        }
        self.places.resize(start, Place::default());
        for (slot, place) in neighbours.found.drain(..) {
            let next = &mut neighbours.beside[slot as usize].places;
            if *next != UNLISTED {
                self.places[*next] = place;
                *next += 1;
            }
        }
        for slot in neighbours.used.drain(..) {
            neighbours.beside[slot as usize].places = 0;
        }
        (neighbours.own_left, neighbours.own_right) = (0, 0);
    }

    /// Every place of a pair in the words where the given places are.
    fn all_in_words_of(&self, pair: Pair, places: Range<usize>) -> Vec<Place> {
        let cells = &self.cells;
        let mut found = Vec::new();
        let mut word = 0..0;
        for &Place { cell, weight } in &self.places[places] {
            let cell = cell as usize;
            if word.contains(&cell) {
                continue;
            }
            let before = cells[..cell].iter().rposition(|&c| c == BOUNDARY);
            let start = before.map_or(0, |boundary| boundary + 1);
            let mut at = start;
            while cells[at] != BOUNDARY {
                let next = at + self.spans[cells[at] as usize] as usize;
                if Pair::new(cells[at], cells[next]) == pair {
                    let cell = at as u32;
                    found.push(Place { cell, weight });
                }
                at = next;
            }
            word = start..at;
        }
        found
    }

    /// Gives back the places of merged pairs once they are most of all.
    fn compact(&mut self) {
        if self.stale < FEWEST_STALE || self.stale * 2 < self.places.len() {
            return;
        }
        let mut end = 0;
        self.queue.for_each_by_start(|entry| {
            let old = entry.start..entry.start + entry.len;
            entry.start = end;
            end += entry.len;
            self.places.copy_within(old, entry.start);
        });
        self.places.truncate(end);
        self.stale = 0;
    }

    pub(super) fn into_trained(self) -> Trained {
        let last: HashMap<Pair, usize> = (self.merges.iter().enumerate())
            .map(|(rank, &pair)| (pair, rank))
            .collect();
        let merges = (self.merges.iter().enumerate())
            .filter(|(rank, pair)| last.get(pair) == Some(rank))
            .map(|(_, pair)| (pair.left(), pair.right()))
            .collect();
        Trained {
            tokens: self.vocabulary.into_tokens(),
            merges,
        }
    }
}
