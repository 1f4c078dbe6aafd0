//! WordPiece: the longest known piece first, again and again.

use crate::hash::FastMap;
use crate::vocab::{Id, Vocab};
use crate::word_cache::WordCache;
use crate::{Error, Result};

/// The settings of a WordPiece model in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WordPieceConfig {
    /// Stands for a word that can't be put together.
    pub unk_token: String,
    /// Marks pieces that are not at the start of a word.
    pub continuing_subword_prefix: String,
    /// Longer words, in characters, are unknown.
    pub max_input_chars_per_word: usize,
}

impl Default for WordPieceConfig {
    fn default() -> Self {
        Self {
            unk_token: "[UNK]".to_owned(),
            continuing_subword_prefix: "##".to_owned(),
            max_input_chars_per_word: 100,
        }
    }
}

/// A WordPiece model over a vocabulary.
#[derive(Debug)]
pub struct WordPiece {
    /// Its settings.
    pub config: WordPieceConfig,
    unk: u32,
    initial: Pieces,
    continuing: Pieces,
}

/// Pieces for one position in a word.
#[derive(Debug, Default)]
struct Pieces {
    ids: FastMap<Box<[u8]>, u32>,
    longest: usize,
}

impl Pieces {
    fn insert(&mut self, piece: &str, id: u32) {
        self.longest = self.longest.max(piece.len());
        self.ids.insert(piece.as_bytes().into(), id);
    }

    /// Length and id of the longest piece at the start of the text.
    fn longest_match(&self, text: &[u8]) -> Option<(usize, u32)> {
        (1..=text.len().min(self.longest))
            .rev()
            .find_map(|len| Some((len, *self.ids.get(&text[..len])?)))
    }
}

impl WordPiece {
    /// Takes the pieces from the vocabulary.
    pub fn new(config: WordPieceConfig, vocab: &Vocab) -> Result<Self> {
        let unk = vocab.id(&config.unk_token).ok_or_else(|| Error::Damaged {
            place: "model".to_owned(),
            message: format!("unk_token {:?} is not in the vocabulary", config.unk_token),
        })?;
        let (mut initial, mut continuing) = (Pieces::default(), Pieces::default());
        for (token, id) in vocab.iter().filter(|(token, _)| !token.is_empty()) {
            initial.insert(token, id);
            if let Some(piece) = token.strip_prefix(config.continuing_subword_prefix.as_str()) {
                continuing.insert(piece, id);
            }
        }
        Ok(Self {
            config,
            unk,
            initial,
            continuing,
        })
    }

    /// Puts the tokens that a word can be into a table.
    pub fn fill<I: Id>(&self, vocab: &Vocab, cache: &mut WordCache<I>) {
        let prefix = self.config.continuing_subword_prefix.as_str();
        let mut ids = Vec::new();
        let continues = |token: &str| !prefix.is_empty() && token.starts_with(prefix);
        for (token, _) in vocab.iter().filter(|(token, _)| !continues(token)) {
            ids.clear();
            cache.append(token.as_bytes(), &mut ids, |ids| {
                self.encode_word(token, ids)
            });
        }
    }

    /// Appends the ids of a word.
    pub fn encode_word<I: Id>(&self, word: &str, ids: &mut Vec<I>) {
        let max = self.config.max_input_chars_per_word;
        if word.len() > max && word.chars().count() > max {
            ids.push(I::new(self.unk));
            return;
        }
        let first = ids.len();
        let mut rest = word.as_bytes();
        let mut pieces = &self.initial;
        while !rest.is_empty() {
            let Some((len, id)) = pieces.longest_match(rest) else {
                ids.truncate(first);
                ids.push(I::new(self.unk));
                return;
            };
            ids.push(I::new(id));
            rest = &rest[len..];
            pieces = &self.continuing;
        }
    }
}
