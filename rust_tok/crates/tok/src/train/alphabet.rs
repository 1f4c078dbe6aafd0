//! The vocabulary before the first merge: special tokens, then the alphabet.

use std::cmp::Reverse;

use super::CONTINUING_PREFIX;
use crate::hash::FastMap;
use crate::word_counts::WordCounts;

/// Tokens by id and ids by token, growing.
#[derive(Clone)]
pub(super) struct Vocabulary {
    tokens: Vec<String>,
    ids: FastMap<String, u32>,
}

impl Vocabulary {
    pub(super) fn new(special_tokens: &[String]) -> Self {
        let mut vocabulary = Self {
            tokens: Vec::new(),
            ids: FastMap::default(),
        };
        for token in special_tokens {
            vocabulary.add(token.clone());
        }
        vocabulary
    }

    pub(super) fn len(&self) -> usize {
        self.tokens.len()
    }

    pub(super) fn token(&self, id: u32) -> &str {
        &self.tokens[id as usize]
    }

    /// The id of a token, and whether it is new.
    pub(super) fn add(&mut self, token: String) -> (u32, bool) {
        if let Some(&id) = self.ids.get(&token) {
            return (id, false);
        }
        let id = self.tokens.len() as u32;
        self.tokens.push(token.clone());
        self.ids.insert(token, id);
        (id, true)
    }

    /// Adds the characters that stand for the 256 bytes; the id of each byte.
    pub(super) fn add_bytes(&mut self, byte_to_char: &[char; 256]) -> [u32; 256] {
        let mut characters = *byte_to_char;
        characters.sort_unstable();
        for c in characters {
            self.add(c.to_string());
        }
        byte_to_char.map(|c| self.add(c.to_string()).0)
    }

    /// Adds the characters of the words, the most frequent ones up to the limit, and the continuing
    /// form of each that stands behind a word's start.
    ///
    /// As in the trainer whose results are to be met, a special token of one character counts as in
    /// the alphabet, also above the limit.
    pub(super) fn add_characters(&mut self, counts: &WordCounts, limit: Option<usize>) -> Symbols {
        let mut seen = CharacterCounts::of(counts);
        let limit = limit.unwrap_or(usize::MAX);
        if seen.0.len() > limit {
            seen.0
                .sort_unstable_by_key(|&(c, count, _)| (Reverse(count), c));
        }
        let mut kept: Vec<char> = seen.0.iter().take(limit).map(|&(c, ..)| c).collect();
        kept.sort_unstable();
        for c in kept {
            self.add(c.to_string());
        }
        let mut symbols = Symbols(FastMap::default());
        seen.0.sort_unstable_by_key(|&(c, ..)| c);
        for (c, _, continues) in seen.0 {
            let Some(&first) = self.ids.get(c.encode_utf8(&mut [0; 4]) as &str) else {
                continue;
            };
            let continuing = match continues {
                true => self.add(format!("{CONTINUING_PREFIX}{c}")).0,
                false => first,
            };
            symbols.0.insert(c, (first, continuing));
        }
        symbols
    }

    pub(super) fn into_tokens(self) -> Vec<String> {
        self.tokens
    }
}

/// Ids of the characters of the alphabet, at a word's start and behind it.
pub(super) struct Symbols(FastMap<char, (u32, u32)>);

impl Symbols {
    /// The symbols of a word; characters outside of the alphabet are passed over.
    pub(super) fn of<'w>(&'w self, word: &'w [u8]) -> impl Iterator<Item = u32> + Clone + 'w {
        characters(word).enumerate().filter_map(|(position, c)| {
            let &(first, continuing) = self.0.get(&c)?;
            Some(if position == 0 { first } else { continuing })
        })
    }
}

/// Characters with how often they stand in the text, and whether any stands behind a word's start.
struct CharacterCounts(Vec<(char, u64, bool)>);

impl CharacterCounts {
    fn of(counts: &WordCounts) -> Self {
        let mut sums: FastMap<char, (u64, bool)> = FastMap::default();
        for (word, count) in counts.iter() {
            for (position, c) in characters(word).enumerate() {
                let (sum, continues) = sums.entry(c).or_default();
                *sum = sum.saturating_add(count);
                *continues |= position > 0;
            }
        }
        Self(
            sums.into_iter()
                .map(|(c, (sum, continues))| (c, sum, continues))
                .collect(),
        )
    }
}

fn characters(word: &[u8]) -> impl Iterator<Item = char> + Clone + '_ {
    // Words of counts are UTF-8 (`WordCounts::iter`).
    std::str::from_utf8(word).unwrap_or_default().chars()
}
