//! `vocab.txt`, and `vocab.json` with `merges.txt`.

use std::fmt::Write as _;
use std::path::Path;

use super::model::VocabOut;
use super::{damaged, write_file};
use crate::added::{AddedToken, AddedTokens};
use crate::model::WordPiece;
use crate::model::wordpiece::WordPieceConfig;
use crate::normalize::{BertNormalizer, Normalizer};
use crate::sections::{DecoderSection, PostProcessorSection};
use crate::tokenizer::{Model, Parts, Tokenizer};
use crate::unicode;
use crate::vocab::Vocab;
use crate::{Error, Result};

/// BERT's special tokens, in the order of its vocabularies.
pub const BERT_SPECIAL_TOKENS: [&str; 5] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];

impl Tokenizer {
    /// Reads a BERT `vocab.txt`: a token a line, the line's number its id.
    pub fn from_vocab_text(text: &str, lowercase: Option<bool>) -> Result<Self> {
        let mut vocab = Vocab::default();
        for (id, line) in (0u32..).zip(text.lines()) {
            vocab.insert(line.trim_end(), id);
        }
        let lowercase = lowercase.unwrap_or_else(|| {
            let capital = |c: char| unicode::record(c).lower().is_some();
            let cased = |token: &str| token.contains(capital) && !token.starts_with('[');
            !vocab.iter().any(|(token, _)| cased(token))
        });
        Self::bert(vocab, lowercase)
    }

    /// A BERT tokenizer over a vocabulary with `[UNK]`, `[CLS]` and `[SEP]`.
    pub fn bert(vocab: Vocab, lowercase: bool) -> Result<Self> {
        let special = |token: &str| {
            let id = vocab.id(token).ok_or_else(|| Error::Damaged {
                place: "vocabulary".to_owned(),
                message: format!("{token} is missing"),
            })?;
            Ok((token.to_owned(), id))
        };
        let config = WordPieceConfig::default();
        let (sep, cls) = (special("[SEP]")?, special("[CLS]")?);
        let listed = BERT_SPECIAL_TOKENS
            .iter()
            .filter_map(|token| Some(AddedToken::special(token, vocab.id(token)?)))
            .collect();
        let normalizer = Normalizer::Bert(BertNormalizer::new(lowercase));
        Tokenizer::from_parts(Parts {
            added: AddedTokens::new(listed, &vocab, Some(&normalizer))?,
            decoder: Some(DecoderSection::WordPiece {
                prefix: config.continuing_subword_prefix.clone(),
                cleanup: true,
            }),
            model: Model::WordPiece(WordPiece::new(config, &vocab)?),
            vocab,
            normalizer: Some(normalizer),
            post_processor: Some(PostProcessorSection::BertProcessing { sep, cls }),
            truncation: serde_json::Value::Null,
            padding: serde_json::Value::Null,
        })
    }

    /// Writes `vocab.txt`, or `vocab.json` and `merges.txt`, into a folder.
    pub fn save_vocab(&self, folder: &Path) -> Result<()> {
        let parts = self.parts();
        let vocab = &parts.vocab;
        match &parts.model {
            Model::WordPiece(_) => {
                let mut text = String::new();
                for (line, (token, id)) in (0u32..).zip(vocab.iter()) {
                    if line != id || token.contains('\n') {
                        return Err(Error::Argument(format!(
                            "a vocab.txt can't hold token {token:?} with id {id}: its lines are the ids"
                        )));
                    }
                    text.push_str(token);
                    text.push('\n');
                }
                write_file(&folder.join("vocab.txt"), &text)
            }
            Model::Bpe(model, _) => {
                let json = serde_json::to_string(&VocabOut(vocab));
                let json = json.map_err(|error| damaged(&error, ""))?;
                write_file(&folder.join("vocab.json"), &json)?;
                let mut text = String::from("#version: 0.2\n");
                for &(left, right) in model.merges() {
                    if let (Some(left), Some(right)) = (vocab.token(left), vocab.token(right)) {
                        // Writing to a string can't fail.
                        let _ = writeln!(text, "{left} {right}");
                    }
                }
                write_file(&folder.join("merges.txt"), &text)
            }
        }
    }
}
