//! A tokenizer from a trained vocabulary.

use serde_json::Value;

use super::{CONTINUING_PREFIX, TrainSettings, Trained};
use crate::added::{AddedToken, AddedTokens};
use crate::model::bpe::BpeConfig;
use crate::model::wordpiece::WordPieceConfig;
use crate::model::{Bpe, WordPiece};
use crate::normalize::{BertNormalizer, Normalizer};
use crate::sections::{ByteLevelSection, DecoderSection, PostProcessorSection};
use crate::tokenizer::{Model, Parts};
use crate::vocab::Vocab;
use crate::word_counts::WordKind;
use crate::{Error, Result, Tokenizer};

const UNK: &str = "[UNK]";

impl Trained {
    /// The tokenizer of the vocabulary: it splits texts as the words of the training were split.
    ///
    /// Special tokens are found in texts. Where `[CLS]` and `[SEP]` are among them, they are put
    /// around texts and pairs as in BERT.
    pub fn into_tokenizer(self, kind: WordKind, settings: &TrainSettings) -> Result<Tokenizer> {
        let mut vocab = Vocab::default();
        for (token, id) in self.tokens.iter().zip(0..) {
            vocab.insert(token, id);
        }
        let (normalizer, model, decoder) = match kind {
            WordKind::WordPiece { lowercase } => {
                let config = WordPieceConfig::default();
                let decoder = DecoderSection::WordPiece {
                    prefix: CONTINUING_PREFIX.to_owned(),
                    cleanup: true,
                };
                let model = Model::WordPiece(WordPiece::new(config, &vocab)?);
                let normalizer = Normalizer::Bert(BertNormalizer::new(lowercase));
                (Some(normalizer), model, decoder)
            }
            WordKind::Bpe { add_prefix_space } => {
                let section = ByteLevelSection {
                    add_prefix_space,
                    trim_offsets: true,
                    use_regex: true,
                };
                let decoder = DecoderSection::ByteLevel(section.clone());
                let model = Bpe::new(BpeConfig::default(), &vocab, &self.merges_as_tokens())?;
                (None, Model::Bpe(model, section), decoder)
            }
        };
        let listed = (settings.special_tokens.iter())
            .filter_map(|token| Some(special_token(token, vocab.id(token)?, kind)))
            .collect();
        let around = |token: &str| {
            let listed = settings.special_tokens.iter().any(|known| known == token);
            Some((token.to_owned(), vocab.id(token).filter(|_| listed)?))
        };
        let post_processor = (around("[SEP]").zip(around("[CLS]")))
            .map(|(sep, cls)| PostProcessorSection::BertProcessing { sep, cls });
        Tokenizer::from_parts(Parts {
            added: AddedTokens::new(listed, &vocab, normalizer.as_ref())?,
            model,
            vocab,
            normalizer,
            post_processor,
            decoder: Some(decoder),
            truncation: Value::Null,
            padding: Value::Null,
        })
    }

    fn merges_as_tokens(&self) -> Vec<(String, String)> {
        let token = |id: u32| self.tokens[id as usize].clone();
        let merges = self.merges.iter();
        merges
            .map(|&(left, right)| (token(left), token(right)))
            .collect()
    }
}

/// In byte-level BPE a word's blank is part of the word, so a mask that stands for a word takes the
/// blank before it: "the [MASK]." has no lone blank that no training text had.
fn special_token(content: &str, id: u32, kind: WordKind) -> AddedToken {
    let is_mask = content == "[MASK]" || content == "<mask>";
    AddedToken {
        lstrip: is_mask && matches!(kind, WordKind::Bpe { .. }),
        ..AddedToken::special(content, id)
    }
}

/// Refuses special tokens that no tokenizer could be made of, before any counting.
pub fn check_special_tokens(special_tokens: &[String], kind: WordKind) -> Result<()> {
    if special_tokens.iter().any(String::is_empty) {
        return Err(Error::Argument("a special token can't be empty".to_owned()));
    }
    let has_unk = special_tokens.iter().any(|token| token == UNK);
    if matches!(kind, WordKind::WordPiece { .. }) && !has_unk {
        return Err(Error::Argument(format!(
            "special_tokens must hold {UNK}, which stands for what WordPiece can't spell"
        )));
    }
    Ok(())
}
