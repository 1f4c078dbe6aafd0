//! Linear encoding: the longest token first, and back where it can't stand.
//!
//! The idea is that of GitHub's `bpe` crate (rust-gems). Call two tokens *compatible* when the merges
//! leave them apart: encoding the bytes of both gives the two. A row of tokens is what the merges
//! give exactly when each neighbours are compatible, because merges look at neighbours only. So the
//! encoding of a piece can be searched from its start: take the longest token that is compatible
//! with the one before; where there is none, the one before was wrong, and its next shorter prefix is
//! tried. The encoding of a prefix of the piece is unique, hence a place that was given up once is
//! never right, and each is given up once: linear time, and in practice hardly ever a step back.
//!
//! Compatibility is found by undoing the merges of both tokens from the last one on, and asking at
//! each step whether the two symbols at the border would have merged before what was undone. Most
//! neighbours need none of that: 64 bits beside each token tell that nothing at its border merges
//! with anything at the other's.
//!
//! # When it holds
//!
//! A token that its own bytes don't encode to never comes out of merging (as part of a longer one it
//! can't arise either), so such tokens are left out. For the others, the merges inside a token are
//! those of encoding it alone, whatever stands around it, and undoing needs them to have happened in
//! the order of their ranks. That is so when each merge has a higher rank than those that made its
//! sides. Trained merges are like that; [`Greedy::new`] checks it, and gives up the method for
//! tables that aren't.

use super::Merges;
use super::merge::{BytePairs, Queue, SHORT};
use super::trie::Trie;
use crate::id::Id;

/// How a token came about.
#[derive(Clone, Copy, Debug, Default)]
struct Made {
    left: u32,
    right: u32,
    /// Rank of its last merge and 1; 0 for a byte.
    number: u32,
    /// Length in bytes; 0 for what merging never gives.
    len: u32,
}

/// What gives a token, as the list of merges has it.
#[derive(Clone, Copy)]
enum Origin {
    /// No merge.
    Byte,
    /// The one of this rank.
    Merge(u32),
    /// Several.
    Merges,
}

/// What mostly tells that two tokens are compatible, apart from the rest since it is all that is read
/// then.
#[derive(Clone, Copy, Debug, Default)]
struct Marks {
    /// [`mark`]s of all that merges with one of the token's ends: the token, its right side, the
    /// right side of that, and so on.
    partners_of_ends: u64,
    /// [`mark`]s of the token's beginnings: the token, its left side, the left side of that, ...
    beginnings: u64,
}

/// One bit of 64 for a token: a Bloom filter of one hash.
fn mark(id: u32) -> u64 {
    1 << (id.wrapping_mul(0x9E37_79B1) >> 26)
}

/// The marks of all tokens. A merge has a higher rank than those of its sides, so these are ready.
fn marks_of(merges: &Merges, made: &[Made]) -> Box<[Marks]> {
    let mut marks: Box<[Marks]> = (0..made.len() as u32)
        .map(|id| Marks {
            partners_of_ends: 0,
            beginnings: mark(id),
        })
        .collect();
    for &(left, right) in &merges.list {
        if let Some(marks) = marks.get_mut(left as usize) {
            marks.partners_of_ends |= mark(right);
        }
    }
    for (&product, number) in merges.products.iter().zip(1..) {
        let made_of = |id: u32| made.get(id as usize).copied().unwrap_or_default();
        let marks_of = |id: u32| marks.get(id as usize).copied().unwrap_or_default();
        let token = made_of(product);
        if token.len > 0 && token.number == number {
            let ends = marks_of(token.right).partners_of_ends;
            let beginnings = marks_of(token.left).beginnings;
            let marks = &mut marks[product as usize];
            marks.partners_of_ends |= ends;
            marks.beginnings |= beginnings;
        }
    }
    marks
}

/// Tables for the linear way.
#[derive(Debug)]
pub(super) struct Greedy {
    trie: Trie,
    /// By id.
    made: Box<[Made]>,
    /// By id.
    marks: Box<[Marks]>,
    /// By id, the longest token that is a proper prefix, or [`NONE`].
    prefixes: Box<[u32]>,
}

const NONE: u32 = u32::MAX;

/// Reused memory.
#[derive(Debug, Default)]
pub(super) struct Path {
    tokens: Vec<u32>,
    /// A bit for each place that no encoding reaches.
    dead: Vec<u64>,
}

impl Greedy {
    /// `texts` are the bytes of tokens and their ids. `None` when the merges don't allow it.
    pub(super) fn new(
        merges: &Merges,
        bytes: &[u32; 256],
        byte_pairs: &BytePairs,
        texts: &[(Vec<u8>, u32)],
    ) -> Option<Self> {
        let num_ids = texts.iter().map(|(_, id)| *id as usize + 1).max()?;
        let mut origins = vec![Origin::Byte; num_ids];
        for (rank, &product) in (0..).zip(&merges.products) {
            if let Some(origin) = origins.get_mut(product as usize) {
                *origin = match origin {
                    Origin::Byte => Origin::Merge(rank),
                    Origin::Merge(_) | Origin::Merges => Origin::Merges,
                };
            }
        }
        let mut made = vec![Made::default(); num_ids];
        let mut lasting = Vec::with_capacity(texts.len());
        let (mut queue, mut ids) = (Queue::default(), Vec::new());
        let mut merged: Vec<u32> = Vec::new();
        for (text, id) in texts {
            merged.clear();
            let last = match origins[*id as usize] {
                Origin::Merge(rank) if text.len() <= SHORT => {
                    byte_pairs.merge(merges, text, &mut merged);
                    Some(rank)
                }
                _ => {
                    ids.clear();
                    ids.extend(text.iter().map(|&byte| bytes[usize::from(byte)]));
                    queue.merge(merges, &ids, &mut merged)
                }
            };
            if merged != [*id] {
                continue;
            }
            let (left, right) = last.map_or((0, 0), |rank| merges.list[rank as usize]);
            made[*id as usize] = Made {
                left,
                right,
                number: last.map_or(0, |rank| rank + 1),
                len: u32::try_from(text.len()).ok()?,
            };
            lasting.push((text.as_slice(), *id));
        }
        let made_of = |id: u32| made.get(id as usize).copied().unwrap_or_default();
        for (&(left, right), number) in merges.list.iter().zip(1..) {
            let (left, right) = (made_of(left), made_of(right));
            if left.len > 0 && right.len > 0 && number <= left.number.max(right.number) {
                return None;
            }
        }
        let marks = marks_of(merges, &made);
        lasting.sort_unstable();
        let trie = Trie::new(&lasting);
        let mut prefixes = vec![NONE; num_ids];
        for (text, id) in &lasting {
            if let Some((prefix, _)) = trie.longest(&text[..text.len() - 1]) {
                prefixes[*id as usize] = prefix;
            }
        }
        Some(Self {
            trie,
            made: made.into(),
            marks,
            prefixes: prefixes.into(),
        })
    }

    /// True for a token that its own bytes encode to.
    pub(super) fn lasts(&self, id: u32) -> bool {
        self.made.get(id as usize).is_some_and(|made| made.len > 0)
    }

    /// True when the merges leave the two tokens apart.
    #[inline]
    fn compatible(&self, merges: &Merges, mut left: u32, mut right: u32) -> bool {
        let (a, b) = (&self.marks[left as usize], &self.marks[right as usize]);
        if a.partners_of_ends & b.beginnings == 0 {
            return true;
        }
        let mut limit = u32::MAX;
        loop {
            if merges.pairs.rank(left, right) < limit {
                return false;
            }
            let (a, b) = (self.made[left as usize], self.made[right as usize]);
            if a.number > b.number {
                // The same pair at the border would have come after the one inside of `left`.
                limit = a.number - 1;
                left = a.right;
            } else if b.number > 0 {
                // And before the one inside of `right`.
                limit = b.number;
                right = b.left;
            } else {
                return true;
            }
        }
    }

    /// The longest token that is a proper prefix, and its length.
    #[inline]
    fn prefix(&self, token: u32) -> Option<(u32, usize)> {
        let prefix = self.prefixes[token as usize];
        (prefix != NONE).then(|| (prefix, self.made[prefix as usize].len as usize))
    }

    /// Appends the ids of a piece; false, and nothing appended, when a byte has no token.
    pub(super) fn encode<I: Id>(
        &self,
        merges: &Merges,
        piece: &[u8],
        path: &mut Path,
        out: &mut Vec<I>,
    ) -> bool {
        let Path { tokens, dead } = path;
        tokens.clear();
        dead.clear();
        dead.resize(piece.len() / 64 + 1, 0);
        let mut place = 0;
        // A token's length comes with it, so that the search for the next one doesn't wait for the
        // token's line of the table.
        let mut next = self.trie.longest(piece);
        while place < piece.len() {
            let before = tokens.last().copied();
            let fits = |token: u32, len: usize| {
                let end = place + len;
                dead[end / 64] >> (end % 64) & 1 == 0
                    && before.is_none_or(|before| self.compatible(merges, before, token))
            };
            while let Some((token, _)) = next.filter(|&(token, len)| !fits(token, len)) {
                next = self.prefix(token);
            }
            match (next, before) {
                (Some((token, len)), _) => {
                    tokens.push(token);
                    place += len;
                    next = self.trie.longest(&piece[place..]);
                }
                (None, Some(before)) => {
                    dead[place / 64] |= 1 << (place % 64);
                    tokens.pop();
                    place -= self.made[before as usize].len as usize;
                    next = self.prefix(before);
                }
                (None, None) => return false,
            }
        }
        out.extend(tokens.iter().map(|&token| I::new(token)));
        true
    }
}
