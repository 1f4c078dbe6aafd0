//! The `model` section, vocabulary and merges included.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, MapAccess, SeqAccess, Visitor};
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
struct Kind<'a> {
    #[serde(borrow)]
    r#type: Option<Cow<'a, str>>,
    merges: Option<serde::de::IgnoredAny>,
    max_input_chars_per_word: Option<serde::de::IgnoredAny>,
}

/// The type when it is what the section begins with, as in every file that names it; so the section
/// need not be read twice.
fn leading_type(section: &str) -> Option<&str> {
    let rest = section.strip_prefix('{')?.trim_ascii_start();
    let rest = rest.strip_prefix("\"type\"")?.trim_ascii_start();
    let name = rest.strip_prefix(':')?.trim_ascii_start();
    let (name, _) = name.strip_prefix('"')?.split_once('"')?;
    Some(name)
}

fn kind_of(section: &str) -> std::result::Result<Cow<'_, str>, serde_json::Error> {
    if let Some(name) = leading_type(section) {
        return Ok(name.into());
    }
    let kind: Kind<'_> = serde_json::from_str(section)?;
    Ok(kind.r#type.unwrap_or_else(|| {
        match (
            kind.merges.is_some(),
            kind.max_input_chars_per_word.is_some(),
        ) {
            (true, _) => "BPE".into(),
            (false, true) => "WordPiece".into(),
            (false, false) => "no type".into(),
        }
    }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WordPieceIn<'a> {
    #[serde(rename = "type")]
    _type: Option<String>,
    unk_token: String,
    continuing_subword_prefix: String,
    max_input_chars_per_word: usize,
    #[serde(borrow)]
    vocab: Entries<'a>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BpeIn<'a> {
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
    #[serde(borrow)]
    vocab: Entries<'a>,
    #[serde(borrow)]
    merges: MergesIn<'a>,
}

/// A token, not copied where the file has it without escapes.
#[derive(Deserialize)]
#[serde(transparent)]
struct Token<'a>(#[serde(borrow)] Cow<'a, str>);

impl AsRef<str> for Token<'_> {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

enum MergesIn<'a> {
    Pairs(Vec<(Token<'a>, Token<'a>)>),
    Lines(Vec<Token<'a>>),
}

/// One of them, before it is known which of both they all are.
enum MergeIn<'a> {
    Pair(Token<'a>, Token<'a>),
    Line(Token<'a>),
}

impl<'de: 'a, 'a> Deserialize<'de> for MergeIn<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct MergeVisitor;
        impl<'de> Visitor<'de> for MergeVisitor {
            type Value = MergeIn<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a pair of tokens, or a line of two tokens")
            }

            fn visit_borrowed_str<E>(self, line: &'de str) -> std::result::Result<Self::Value, E> {
                Ok(MergeIn::Line(Token(Cow::Borrowed(line))))
            }

            fn visit_str<E>(self, line: &str) -> std::result::Result<Self::Value, E> {
                Ok(MergeIn::Line(Token(Cow::Owned(line.to_owned()))))
            }

            fn visit_seq<A: SeqAccess<'de>>(
                self,
                mut tokens: A,
            ) -> std::result::Result<Self::Value, A::Error> {
                let mut next = |number| {
                    let token = tokens.next_element()?;
                    token.ok_or_else(|| de::Error::invalid_length(number, &"a pair of tokens"))
                };
                Ok(MergeIn::Pair(next(0)?, next(1)?))
            }
        }
        deserializer.deserialize_any(MergeVisitor)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for MergesIn<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct MergesVisitor;
        impl<'de> Visitor<'de> for MergesVisitor {
            type Value = MergesIn<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "merges: all of them pairs of tokens, or all of them lines of two tokens",
                )
            }

            fn visit_seq<A: SeqAccess<'de>>(
                self,
                mut merges: A,
            ) -> std::result::Result<Self::Value, A::Error> {
                let (mut pairs, mut lines) = (Vec::new(), Vec::new());
                while let Some(merge) = merges.next_element()? {
                    match merge {
                        MergeIn::Pair(left, right) => pairs.push((left, right)),
                        MergeIn::Line(line) => lines.push(line),
                    }
                    if !pairs.is_empty() && !lines.is_empty() {
                        let found = de::Unexpected::Other("both in one list");
                        return Err(de::Error::invalid_type(found, &self));
                    }
                }
                Ok(if lines.is_empty() {
                    MergesIn::Pairs(pairs)
                } else {
                    MergesIn::Lines(lines)
                })
            }
        }
        deserializer.deserialize_seq(MergesVisitor)
    }
}

/// A vocabulary in the order of the file; a token that comes again takes its last id.
struct Entries<'a>(Vec<(Token<'a>, u32)>);

impl<'de: 'a, 'a> Deserialize<'de> for Entries<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct EntriesVisitor;
        impl<'de> Visitor<'de> for EntriesVisitor {
            type Value = Entries<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of tokens to ids")
            }

            fn visit_map<A: MapAccess<'de>>(
                self,
                mut map: A,
            ) -> std::result::Result<Self::Value, A::Error> {
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

impl Entries<'_> {
    fn vocab(self) -> Result<Vocab> {
        let damaged = |message| Error::Damaged {
            place: "model vocab".to_owned(),
            message,
        };
        let mut vocab = Vocab::default();
        for (Token(token), id) in self.0 {
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
    match &*kind_of(text)? {
        "WordPiece" => {
            let section: WordPieceIn<'_> = serde_json::from_str(text)?;
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

fn bpe(section: BpeIn<'_>) -> Result<(Vocab, Parsed)> {
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
    let config = BpeConfig {
        unk_token: section.unk_token,
        fuse_unk: section.fuse_unk,
        ignore_merges: section.ignore_merges,
        continuing_subword_prefix: section.continuing_subword_prefix,
        end_of_word_suffix: section.end_of_word_suffix,
    };
    let model = match section.merges {
        MergesIn::Pairs(pairs) => Bpe::new(config, &vocab, &pairs)?,
        MergesIn::Lines(lines) => {
            let lines = lines.iter().map(AsRef::as_ref);
            Bpe::new(config, &vocab, &split_merges(lines)?)?
        }
    };
    Ok((vocab, Parsed::Bpe(model)))
}

/// Merges as lines of two tokens; `#version` lines don't count.
fn split_merges<'a>(lines: impl Iterator<Item = &'a str>) -> Result<Vec<(&'a str, &'a str)>> {
    let mut merges = Vec::new();
    for line in lines.filter(|line| !line.starts_with("#version")) {
        match line.split_once(' ') {
            Some((left, right)) if !right.contains(' ') => merges.push((left, right)),
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
