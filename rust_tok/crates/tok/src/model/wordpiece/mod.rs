//! WordPiece: the longest known piece first, again and again.

mod pieces;

use pieces::Pieces;

use crate::id::Id;
use crate::vocab::Vocab;
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
    pieces: Pieces,
}

impl WordPiece {
    /// Takes the pieces from the vocabulary.
    pub fn new(config: WordPieceConfig, vocab: &Vocab) -> Result<Self> {
        let unk = vocab.id(&config.unk_token).ok_or_else(|| Error::Damaged {
            place: "model".to_owned(),
            message: format!("unk_token {:?} is not in the vocabulary", config.unk_token),
        })?;
        let prefix = config.continuing_subword_prefix.as_str();
        let tokens = || vocab.iter().filter(|(token, _)| !token.is_empty());
        let inside = tokens().filter_map(|(token, id)| {
            let piece = token.strip_prefix(prefix)?;
            (!piece.is_empty()).then_some((piece.as_bytes(), id))
        });
        let pieces = Pieces::new(tokens().map(|(token, id)| (token.as_bytes(), id)), inside);
        Ok(Self {
            config,
            unk,
            pieces,
        })
    }

    /// Whether a token is for places inside of a word only.
    pub fn continues(&self, token: &str) -> bool {
        let prefix = self.config.continuing_subword_prefix.as_str();
        !prefix.is_empty() && token.starts_with(prefix)
    }

    /// Appends the ids of a word, given as UTF-8.
    pub fn encode_word<I: Id>(&self, word: &[u8], ids: &mut Vec<I>) {
        let max = self.config.max_input_chars_per_word;
        // A byte that continues a character begins with the bits 10.
        if word.len() > max
            && word
                .iter()
                .filter(|&byte| byte >> 6 != 2)
                .nth(max)
                .is_some()
        {
            ids.push(I::new(self.unk));
            return;
        }
        let first = ids.len();
        if !word.is_empty() && !self.pieces.encode(word, ids) {
            ids.truncate(first);
            ids.push(I::new(self.unk));
        }
    }
}
