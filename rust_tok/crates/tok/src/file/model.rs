//! The `model` section, vocabulary and merges included.

use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::id::MAX_ID;
use crate::model::bpe::BpeConfig;
use crate::model::wordpiece::WordPieceConfig;
use crate::model::{Bpe, WordPiece};
use crate::tokenizer::Model;
use crate::vocab::Vocab;
use crate::{Error, Result};

pub(super) enum Parsed {
    WordPiece(WordPiece),
    Bpe(Bpe),
}

impl Parsed {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::WordPiece(_) => "WordPiece",
            Self::Bpe(_) => "BPE",
        }
    }
}

pub(super) enum ParseError {
    /// With a place relative to the section.
    Json(serde_json::Error),
    Other(Error),
}

impl From<serde_json::Error> for ParseError {
    fn from(error: serde_json::Error) -> Self {
        Self::Json(error)
    }
}

impl From<Error> for ParseError {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

/// What tells the kind of a model; old files don't name it.
#[derive(Deserialize)]
struct Kind {
    r#type: Option<String>,
    merges: Option<serde::de::IgnoredAny>,
    max_input_chars_per_word: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WordPieceIn {
    #[serde(rename = "type")]
    _type: Option<String>,
    unk_token: String,
    continuing_subword_prefix: String,
    max_input_chars_per_word: usize,
    vocab: Entries,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BpeIn {
    #[serde(rename = "type")]
    _type: Option<String>,
    dropout: Option<f32>,
    unk_token: Option<String>,
    continuing_subword_prefix: Option<String>,
    end_of_word_suffix: Option<String>,
    #[serde(default)]
    fuse_unk: bool,
    #[serde(default)]
    byte_fallback: bool,
    #[serde(default)]
    ignore_merges: bool,
    vocab: Entries,
    merges: MergesIn,
}

#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "expected merges: all of them pairs of tokens, or all of them lines of two tokens"
)]
enum MergesIn {
    Pairs(Vec<(String, String)>),
    Lines(Vec<String>),
}

/// A vocabulary in the order of the file; a token that comes again takes its last id.
struct Entries(Vec<(String, u32)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct EntriesVisitor;
        impl<'de> Visitor<'de> for EntriesVisitor {
            type Value = Entries;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of tokens to ids")
            }

            fn visit_map<A: MapAccess<'de>>(
                self,
                mut map: A,
            ) -> std::result::Result<Entries, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(EntriesVisitor)
    }
}

impl Entries {
    fn vocab(self) -> Result<Vocab> {
        let damaged = |message| Error::Damaged {
            place: "model vocab".to_owned(),
            message,
        };
        let mut vocab = Vocab::default();
        for (token, id) in self.0 {
            if id > MAX_ID {
                return Err(damaged(format!("id {id} of {token:?} is over {MAX_ID}")));
            }
            if let Some(other) = vocab.insert(&token, id) {
                return Err(damaged(format!(
                    "{other:?} and {token:?} have the same id {id}"
                )));
            }
        }
        Ok(vocab)
    }
}

/// Reads the section.
pub(super) fn parse(text: &str) -> std::result::Result<(Vocab, Parsed), ParseError> {
    let kind: Kind = serde_json::from_str(text)?;
    let name = kind.r#type.as_deref().unwrap_or(
        match (
            kind.merges.is_some(),
            kind.max_input_chars_per_word.is_some(),
        ) {
            (true, _) => "BPE",
            (false, true) => "WordPiece",
            (false, false) => "no type",
        },
    );
    match name {
        "WordPiece" => {
            let section: WordPieceIn = serde_json::from_str(text)?;
            let vocab = section.vocab.vocab()?;
            let config = WordPieceConfig {
                unk_token: section.unk_token,
                continuing_subword_prefix: section.continuing_subword_prefix,
                max_input_chars_per_word: section.max_input_chars_per_word,
            };
            let model = WordPiece::new(config, &vocab)?;
            Ok((vocab, Parsed::WordPiece(model)))
        }
        "BPE" => Ok(bpe(serde_json::from_str(text)?)?),
        other => Err(unsupported(other, "WordPiece, BPE").into()),
    }
}

fn unsupported(name: impl Into<String>, allowed: &'static str) -> Error {
    Error::Unsupported {
        section: "model".to_owned(),
        name: name.into(),
        allowed,
    }
}

fn bpe(section: BpeIn) -> Result<(Vocab, Parsed)> {
    if let Some(dropout) = section.dropout.filter(|&dropout| dropout != 0.0) {
        return Err(unsupported(format!("dropout {dropout}"), "null"));
    }
    if section.byte_fallback {
        return Err(unsupported("byte_fallback", "false"));
    }
    for (name, value) in [
        (
            "continuing_subword_prefix",
            &section.continuing_subword_prefix,
        ),
        ("end_of_word_suffix", &section.end_of_word_suffix),
    ] {
        if let Some(value) = value.as_ref().filter(|value| !value.is_empty()) {
            return Err(unsupported(format!("{name} {value:?}"), "null, \"\""));
        }
    }
    let vocab = section.vocab.vocab()?;
    let merges = match section.merges {
        MergesIn::Pairs(pairs) => pairs,
        MergesIn::Lines(lines) => split_merges(lines.iter().map(String::as_str))?,
    };
    let config = BpeConfig {
        unk_token: section.unk_token,
        fuse_unk: section.fuse_unk,
        ignore_merges: section.ignore_merges,
        continuing_subword_prefix: section.continuing_subword_prefix,
        end_of_word_suffix: section.end_of_word_suffix,
    };
    let model = Bpe::new(config, &vocab, &merges)?;
    Ok((vocab, Parsed::Bpe(model)))
}

/// Merges as lines of two tokens; `#version` lines don't count.
fn split_merges<'a>(lines: impl Iterator<Item = &'a str>) -> Result<Vec<(String, String)>> {
    let mut merges = Vec::new();
    for line in lines.filter(|line| !line.starts_with("#version")) {
        match line.split(' ').collect::<Vec<_>>()[..] {
            [left, right] => merges.push((left.to_owned(), right.to_owned())),
            _ => {
                return Err(Error::Damaged {
                    place: format!("model, merge {}", merges.len() + 1),
                    message: format!("{line:?} is not two tokens with one blank between"),
                });
            }
        }
    }
    Ok(merges)
}

#[derive(Serialize)]
#[serde(tag = "type")]
pub(super) enum ModelOut<'a> {
    WordPiece {
        unk_token: &'a str,
        continuing_subword_prefix: &'a str,
        max_input_chars_per_word: usize,
        vocab: VocabOut<'a>,
    },
    #[serde(rename = "BPE")]
    Bpe {
        dropout: Option<f32>,
        unk_token: Option<&'a str>,
        continuing_subword_prefix: Option<&'a str>,
        end_of_word_suffix: Option<&'a str>,
        fuse_unk: bool,
        byte_fallback: bool,
        ignore_merges: bool,
        vocab: VocabOut<'a>,
        merges: MergesOut<'a>,
    },
}

impl<'a> ModelOut<'a> {
    pub(super) fn new(model: &'a Model, vocab: &'a Vocab) -> Self {
        match model {
            Model::WordPiece(model) => Self::WordPiece {
                unk_token: &model.config.unk_token,
                continuing_subword_prefix: &model.config.continuing_subword_prefix,
                max_input_chars_per_word: model.config.max_input_chars_per_word,
                vocab: VocabOut(vocab),
            },
            Model::Bpe(model, _) => Self::Bpe {
                dropout: None,
                unk_token: model.config.unk_token.as_deref(),
                continuing_subword_prefix: model.config.continuing_subword_prefix.as_deref(),
                end_of_word_suffix: model.config.end_of_word_suffix.as_deref(),
                fuse_unk: model.config.fuse_unk,
                byte_fallback: false,
                ignore_merges: model.config.ignore_merges,
                vocab: VocabOut(vocab),
                merges: MergesOut(model.merges(), vocab),
            },
        }
    }
}

pub(super) struct VocabOut<'a>(pub(super) &'a Vocab);

impl Serialize for VocabOut<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (token, id) in self.0.iter() {
            map.serialize_entry(token, &id)?;
        }
        map.end()
    }
}

pub(super) struct MergesOut<'a>(&'a [(u32, u32)], &'a Vocab);

impl Serialize for MergesOut<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.0.len()))?;
        for &(left, right) in self.0 {
            list.serialize_element(&(self.1.token(left), self.1.token(right)))?;
        }
        list.end()
    }
}
