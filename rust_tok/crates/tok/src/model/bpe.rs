//! Byte-level BPE: the earliest learnt pair first, leftmost first among equals.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::hash::FastMap;
use crate::pretokenize::byte_level::{BYTE_TO_CHAR, char_to_byte};
use crate::vocab::{Id, Vocab};
use crate::word_cache::WordCache;
use crate::{Error, Result};

/// The settings of a BPE model in a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BpeConfig {
    /// Stands for a byte that is not in the vocabulary; without one, it is left out.
    pub unk_token: Option<String>,
    /// Unknown bytes in a row are one token.
    pub fuse_unk: bool,
    /// A piece that is in the vocabulary is one token, whatever the merges say.
    pub ignore_merges: bool,
    /// Kept as written: only absent and empty mean the same.
    pub continuing_subword_prefix: Option<String>,
    /// Kept as written: only absent and empty mean the same.
    pub end_of_word_suffix: Option<String>,
}

/// What a pair of tokens becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Merge {
    rank: u32,
    id: u32,
}

/// A byte-level BPE model over a vocabulary.
#[derive(Debug)]
pub struct Bpe {
    /// Its settings.
    pub config: BpeConfig,
    /// In the order of the file, as ids.
    merges: Vec<(u32, u32)>,
    table: FastMap<(u32, u32), Merge>,
    bytes: Vec<Option<u32>>,
    unk: Option<u32>,
    whole: FastMap<Box<[u8]>, u32>,
}

/// Reused memory for merging one piece.
#[derive(Debug, Default)]
pub struct MergeScratch {
    symbols: Vec<Symbol>,
    queue: BinaryHeap<Reverse<(Merge, u32)>>,
}

#[derive(Clone, Copy, Debug)]
struct Symbol {
    id: u32,
    /// Place of the next symbol; `END` after the last.
    next: u32,
    /// Place of the previous symbol; `END` before the first.
    previous: u32,
}

const END: u32 = u32::MAX;
/// Id of a symbol that was merged into the one before it.
const GONE: u32 = u32::MAX;

impl Bpe {
    /// Checks the merges against the vocabulary.
    pub fn new(config: BpeConfig, vocab: &Vocab, pairs: &[(String, String)]) -> Result<Self> {
        let mut table = FastMap::default();
        let mut merges = Vec::with_capacity(pairs.len());
        let mut merged = String::new();
        for (rank, (left, right)) in (0u32..).zip(pairs) {
            merged.clear();
            merged.push_str(left);
            merged.push_str(right);
            let id = |token: &str| {
                vocab.id(token).ok_or_else(|| Error::Damaged {
                    place: format!("model, merge {}", rank + 1),
                    message: format!("{token:?} is not in the vocabulary"),
                })
            };
            let (pair, id) = ((id(left)?, id(right)?), id(&merged)?);
            merges.push(pair);
            table.insert(pair, Merge { rank, id });
        }
        let mut name = [0; 4];
        let bytes = BYTE_TO_CHAR.map(|c| vocab.id(c.encode_utf8(&mut name)));
        let unk = match &config.unk_token {
            None => None,
            Some(token) => vocab.id(token),
        };
        let mut whole = FastMap::default();
        if config.ignore_merges {
            for (token, id) in vocab.iter() {
                if let Some(text) = token.chars().map(char_to_byte).collect::<Option<Vec<u8>>>() {
                    whole.insert(text.into(), id);
                }
            }
        }
        if let (None, Some(token)) = (unk, &config.unk_token)
            && bytes.contains(&None)
        {
            return Err(Error::Damaged {
                place: "model".to_owned(),
                message: format!("unk_token {token:?} is not in the vocabulary"),
            });
        }
        Ok(Self {
            config,
            merges,
            table,
            bytes: bytes.to_vec(),
            unk,
            whole,
        })
    }

    /// The merges as pairs of ids, in order.
    pub fn merges(&self) -> &[(u32, u32)] {
        &self.merges
    }

    /// Puts the texts of the tokens into a table.
    pub fn fill<I: Id>(&self, vocab: &Vocab, cache: &mut WordCache<I>) {
        let (mut scratch, mut piece, mut ids) = (MergeScratch::default(), Vec::new(), Vec::new());
        for (token, _) in vocab.iter() {
            piece.clear();
            ids.clear();
            piece.extend(token.chars().map_while(char_to_byte));
            cache.append(&piece, &mut ids, |ids| {
                self.encode_piece(&piece, &mut scratch, ids);
            });
        }
    }

    /// Appends the ids of a piece.
    pub fn encode_piece<I: Id>(&self, piece: &[u8], scratch: &mut MergeScratch, ids: &mut Vec<I>) {
        if let Some(id) = self.whole.get(piece) {
            ids.push(I::new(*id));
            return;
        }
        self.start(piece, scratch);
        self.merge(scratch);
        let symbols = &scratch.symbols;
        let mut place = if symbols.is_empty() { END } else { 0 };
        while place != END {
            let symbol = symbols[place as usize];
            ids.push(I::new(symbol.id));
            place = symbol.next;
        }
    }

    /// Lays out the symbols of the bytes.
    fn start(&self, piece: &[u8], scratch: &mut MergeScratch) {
        let symbols = &mut scratch.symbols;
        symbols.clear();
        let mut after_unknown = false;
        for &byte in piece {
            let known = self.bytes[usize::from(byte)];
            let fused = known.is_none() && after_unknown && self.config.fuse_unk;
            after_unknown = known.is_none();
            if let Some(id) = known.or(self.unk).filter(|_| !fused) {
                let place = symbols.len() as u32;
                symbols.push(Symbol {
                    id,
                    next: place + 1,
                    previous: place.wrapping_sub(1),
                });
            }
        }
        if let Some(last) = symbols.last_mut() {
            last.next = END;
        }
    }

    /// Applies the merges with a queue: n log n for any piece.
    fn merge(&self, scratch: &mut MergeScratch) {
        let MergeScratch { symbols, queue } = scratch;
        let pair = |left: u32, right: u32| self.table.get(&(left, right)).copied();
        queue.clear();
        queue.extend((0u32..).zip(symbols.windows(2)).filter_map(|(place, two)| {
            let merge = pair(two[0].id, two[1].id)?;
            Some(Reverse((merge, place)))
        }));
        while let Some(Reverse((merge, place))) = queue.pop() {
            let left = symbols[place as usize];
            if left.id == GONE || left.next == END {
                continue;
            }
            let right = symbols[left.next as usize];
            // An entry whose symbols have changed since.
            if pair(left.id, right.id) != Some(merge) {
                continue;
            }
            symbols[left.next as usize].id = GONE;
            symbols[place as usize].id = merge.id;
            symbols[place as usize].next = right.next;
            if right.next != END {
                symbols[right.next as usize].previous = place;
                if let Some(next) = pair(merge.id, symbols[right.next as usize].id) {
                    queue.push(Reverse((next, place)));
                }
            }
            if left.previous != END
                && let Some(next) = pair(symbols[left.previous as usize].id, merge.id)
            {
                queue.push(Reverse((next, left.previous)));
            }
        }
    }
}
