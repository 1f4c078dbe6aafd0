//! Byte-level BPE: the earliest learnt pair first, leftmost first among equals.
//!
//! # How it is fast
//!
//! A text's pieces are found as bit maps (`byte_level::scan`), their ids are looked up in a table of
//! words that grows to a million (`word_cache`). What the table doesn't have is merged as the
//! definition says when it is short (`merge::BytePairs`), and encoded in linear time when it isn't
//! (`greedy`). Instructions per byte (callgrind, AVX2, all that a row of 2 KB takes, a vocabulary of
//! 30,522 trained on the same kinds of text), for text met for the first time and again:
//!
//! | text | first | again |
//! |---|---|---|
//! | English documentation, 4 MB | 46.5 | 21.9 |
//! | generated Chinese and Japanese, 1.5 MB | 145.8 | 20.9 |
//!
//! What brought it there, in time, of text met again: pieces stored by a compression of lanes and not
//! one by one with a branch 12 % (English), a key masked by a table and the number of ids in a register
//! 10 %, characters classified by blocks of 64 code points 40 % (Arabic), 70 % (one character repeated),
//! the places of long words fetched ahead 25 % (Chinese).
//!
//! Of a first pass over English, 30 % goes to new words, about 300 ns for each: a merge waits for the
//! one before, each for a look at a table in the second or third cache. Tried, and no faster: `greedy`
//! for short pieces, too; a filter of 32 KB before the table of pairs; that table as a perfect hash; a
//! step without branches; four words abreast, whose search for new words costs what it saves.
//!
//! The run of letters between two marks of punctuation is one piece: in Chinese it is long and hardly
//! comes twice, so most of a first pass over it goes to `greedy`.

mod encode;
mod greedy;
mod merge;
mod pairs;
mod trie;

use self::encode::Chunk;
use self::greedy::{Greedy, Path};
use self::merge::{BytePairs, FEW, Queue, SHORT, merge_few};
use self::pairs::PairTable;
use crate::hash::FastMap;
use crate::id::{Id, MAX_ID};
use crate::pretokenize::byte_level::{BYTE_TO_CHAR, char_to_byte};
use crate::vocab::Vocab;
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

/// What merges, when, and into what.
#[derive(Debug)]
struct Merges {
    /// By rank.
    list: Vec<(u32, u32)>,
    /// What each merge gives, by rank.
    products: Vec<u32>,
    pairs: PairTable,
}

/// A byte-level BPE model over a vocabulary.
#[derive(Debug)]
pub struct Bpe {
    /// Its settings.
    pub config: BpeConfig,
    merges: Merges,
    /// The token of each byte.
    bytes: Box<[Option<u32>; 256]>,
    unk: Option<u32>,
    /// With `ignore_merges`, the tokens by their texts.
    whole: FastMap<Box<[u8]>, u32>,
    greedy: Option<Greedy>,
    /// Where every byte has a token.
    byte_pairs: Option<BytePairs>,
}

/// Reused memory of one thread.
#[derive(Debug, Default)]
pub struct MergeScratch {
    piece: PieceScratch,
    chunk: Box<Chunk>,
}

#[derive(Debug, Default)]
struct PieceScratch {
    ids: Vec<u32>,
    queue: Queue,
    path: Path,
}

impl Bpe {
    /// Checks the merges against the vocabulary.
    pub fn new(
        config: BpeConfig,
        vocab: &Vocab,
        pairs: &[(impl AsRef<str>, impl AsRef<str>)],
    ) -> Result<Self> {
        let merges = Merges::new(vocab, pairs)?;
        let mut name = [0; 4];
        let bytes = BYTE_TO_CHAR.map(|c| vocab.id(c.encode_utf8(&mut name)));
        let unk = match &config.unk_token {
            None => None,
            Some(token) => vocab.id(token),
        };
        if let (None, Some(token)) = (unk, &config.unk_token)
            && bytes.contains(&None)
        {
            return Err(Error::Damaged {
                place: "model".to_owned(),
                message: format!("unk_token {token:?} is not in the vocabulary"),
            });
        }
        let texts: Vec<_> = (vocab.iter())
            .filter_map(|(token, id)| Some((token_text(token)?, id)))
            .collect();
        let known = all_known(&bytes);
        let byte_pairs = known.map(|bytes| BytePairs::new(&merges, &bytes));
        let greedy = (known.zip(byte_pairs.as_ref()))
            .and_then(|(bytes, pairs)| Greedy::new(&merges, &bytes, pairs, &texts));
        let whole = if config.ignore_merges {
            texts
                .into_iter()
                .map(|(text, id)| (text.into(), id))
                .collect()
        } else {
            FastMap::default()
        };
        Ok(Self {
            config,
            merges,
            bytes: Box::new(bytes),
            unk,
            whole,
            greedy,
            byte_pairs,
        })
    }

    /// The merges as pairs of ids, in order.
    pub fn merges(&self) -> &[(u32, u32)] {
        &self.merges.list
    }

    /// Puts the texts of the tokens into a table.
    pub fn fill<I: Id>(&self, vocab: &Vocab, cache: &mut WordCache<I>) {
        let (mut scratch, mut ids) = (MergeScratch::default(), Vec::new());
        let lasts = |id| self.greedy.as_ref().is_some_and(|greedy| greedy.lasts(id));
        for (token, id) in vocab.iter() {
            let Some(piece) = token_text(token) else {
                continue;
            };
            ids.clear();
            cache.append(&piece, &mut ids, |ids| {
                if lasts(id) {
                    ids.push(I::new(id));
                } else {
                    self.encode_piece(&piece, &mut scratch, ids);
                }
            });
        }
    }

    /// Appends the ids of a piece.
    pub fn encode_piece<I: Id>(&self, piece: &[u8], scratch: &mut MergeScratch, ids: &mut Vec<I>) {
        self.append_piece(piece, &mut scratch.piece, ids);
    }

    fn append_piece<I: Id>(&self, piece: &[u8], scratch: &mut PieceScratch, ids: &mut Vec<I>) {
        if let Some(id) = self.whole.get(piece) {
            ids.push(I::new(*id));
            return;
        }
        if let Some(pairs) = &self.byte_pairs
            && piece.len() <= SHORT
        {
            pairs.merge(&self.merges, piece, ids);
            return;
        }
        if let Some(greedy) = &self.greedy
            && greedy.encode(&self.merges, piece, &mut scratch.path, ids)
        {
            return;
        }
        self.merge_piece(piece, scratch, ids);
    }

    /// Appends the ids of a piece as the definition has it.
    fn merge_piece<I: Id>(&self, piece: &[u8], scratch: &mut PieceScratch, ids: &mut Vec<I>) {
        let PieceScratch {
            ids: symbols,
            queue,
            ..
        } = scratch;
        symbols.clear();
        let mut after_unknown = false;
        for &byte in piece {
            let known = self.bytes[usize::from(byte)];
            let fused = known.is_none() && after_unknown && self.config.fuse_unk;
            after_unknown = known.is_none();
            symbols.extend(known.or(self.unk).filter(|_| !fused));
        }
        if symbols.len() > FEW {
            queue.merge(&self.merges, symbols, ids);
            return;
        }
        let len = merge_few(&self.merges, symbols);
        ids.extend(symbols[..len].iter().map(|&id| I::new(id)));
    }
}

impl Merges {
    fn new(vocab: &Vocab, pairs: &[(impl AsRef<str>, impl AsRef<str>)]) -> Result<Self> {
        if pairs.len() > MAX_ID as usize {
            return Err(Error::Damaged {
                place: "model".to_owned(),
                message: format!("{} merges; {MAX_ID} are allowed", pairs.len()),
            });
        }
        let mut list = Vec::with_capacity(pairs.len());
        let mut products = Vec::with_capacity(pairs.len());
        let mut merged = String::new();
        for (number, (left, right)) in (1..).zip(pairs) {
            let (left, right) = (left.as_ref(), right.as_ref());
            merged.clear();
            merged.push_str(left);
            merged.push_str(right);
            let id = |token: &str| {
                vocab.id(token).ok_or_else(|| Error::Damaged {
                    place: format!("model, merge {number}"),
                    message: format!("{token:?} is not in the vocabulary"),
                })
            };
            list.push((id(left)?, id(right)?));
            products.push(id(&merged)?);
        }
        let pairs = PairTable::new(&list);
        Ok(Self {
            list,
            products,
            pairs,
        })
    }
}

/// The bytes that a token stands for; `None` when it has characters outside of the alphabet.
fn token_text(token: &str) -> Option<Vec<u8>> {
    let mut text = Vec::with_capacity(token.len());
    for c in token.chars() {
        text.push(char_to_byte(c)?);
    }
    Some(text)
}

fn all_known(bytes: &[Option<u32>; 256]) -> Option<[u32; 256]> {
    let mut known = [0; 256];
    for (known, byte) in known.iter_mut().zip(bytes) {
        *known = (*byte)?;
    }
    Some(known)
}

#[cfg(test)]
mod tests;
