//! The small sections of a `tokenizer.json`: what is known, and the refusal of all else by name.

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use crate::decode::Decoder;
use crate::normalize::{BertNormalizer, Normalizer};
use crate::template::{Part, Template};
use crate::unicode::Form;
use crate::{Error, Result};

/// The `normalizer` section.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", deny_unknown_fields)]
#[allow(clippy::upper_case_acronyms, missing_docs)]
pub enum NormalizerSection {
    BertNormalizer {
        clean_text: bool,
        handle_chinese_chars: bool,
        strip_accents: Option<bool>,
        lowercase: bool,
    },
    NFC,
    NFD,
    NFKC,
    NFKD,
    Lowercase,
    StripAccents,
    Sequence {
        normalizers: Vec<NormalizerSection>,
    },
}

/// The `pre_tokenizer` section.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type")]
#[allow(missing_docs)]
pub enum PreTokenizerSection {
    BertPreTokenizer,
    ByteLevel(ByteLevelSection),
}

/// Settings of byte-level parts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ByteLevelSection {
    /// Put a blank before a text that has none.
    pub add_prefix_space: bool,
    /// About offsets, which are not computed here.
    pub trim_offsets: bool,
    /// Split as GPT-2 does; otherwise a text is one piece.
    #[serde(default = "yes")]
    pub use_regex: bool,
}

fn yes() -> bool {
    true
}

/// The `post_processor` section.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type")]
#[allow(missing_docs)]
pub enum PostProcessorSection {
    BertProcessing {
        sep: (String, u32),
        cls: (String, u32),
    },
    RobertaProcessing {
        sep: (String, u32),
        cls: (String, u32),
        trim_offsets: bool,
        add_prefix_space: bool,
    },
    ByteLevel(ByteLevelSection),
    TemplateProcessing {
        single: Vec<PieceSection>,
        pair: Vec<PieceSection>,
        special_tokens: Map<String, Value>,
    },
    Sequence {
        processors: Vec<PostProcessorSection>,
    },
}

/// A piece of a template.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub enum PieceSection {
    Sequence { id: SequenceName, type_id: u32 },
    SpecialToken { id: String, type_id: u32 },
}

/// The texts of a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum SequenceName {
    A,
    B,
}

/// The `decoder` section.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type")]
#[allow(missing_docs)]
pub enum DecoderSection {
    WordPiece { prefix: String, cleanup: bool },
    ByteLevel(ByteLevelSection),
}

const NORMALIZERS: &str =
    "BertNormalizer, NFC, NFD, NFKC, NFKD, Lowercase, StripAccents, Sequence, null";
const PRE_TOKENIZERS: &str = "BertPreTokenizer, ByteLevel";
const POST_PROCESSORS: &str =
    "BertProcessing, RobertaProcessing, TemplateProcessing, ByteLevel, Sequence, null";
const DECODERS: &str = "WordPiece, ByteLevel, null";

/// Reads a section whose `type` must be one of `allowed`.
fn typed<T: DeserializeOwned>(
    section: &str,
    value: Value,
    allowed: &'static str,
) -> Result<Option<T>> {
    if value.is_null() {
        return Ok(None);
    }
    let name = value.get("type").and_then(Value::as_str).unwrap_or("");
    if !allowed.split(", ").any(|known| known == name) {
        return Err(Error::Unsupported {
            section: section.to_owned(),
            name: if name.is_empty() {
                value.to_string()
            } else {
                name.to_owned()
            },
            allowed,
        });
    }
    let place = format!("{section} {name}");
    serde_json::from_value(value)
        .map(Some)
        .map_err(|error| Error::Damaged {
            place,
            message: error.to_string(),
        })
}

/// Refuses the members of a `Sequence` by name before they are read.
fn check_members(section: &str, value: &Value, list: &str, allowed: &'static str) -> Result<()> {
    for member in value
        .get(list)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        let name = member.get("type").and_then(Value::as_str).unwrap_or("");
        if !allowed.split(", ").any(|known| known == name) {
            return Err(Error::Unsupported {
                section: format!("{section} Sequence"),
                name: name.to_owned(),
                allowed,
            });
        }
        check_members(section, member, list, allowed)?;
    }
    Ok(())
}

impl NormalizerSection {
    pub(crate) fn parse(value: Value) -> Result<Option<Self>> {
        check_members("normalizer", &value, "normalizers", NORMALIZERS)?;
        typed("normalizer", value, NORMALIZERS)
    }

    pub(crate) fn build(self) -> Normalizer {
        match self {
            Self::BertNormalizer {
                clean_text,
                handle_chinese_chars,
                strip_accents,
                lowercase,
            } => Normalizer::Bert(BertNormalizer {
                clean_text,
                handle_chinese_chars,
                strip_accents,
                lowercase,
            }),
            Self::NFC => Normalizer::Form(Form::Nfc),
            Self::NFD => Normalizer::Form(Form::Nfd),
            Self::NFKC => Normalizer::Form(Form::Nfkc),
            Self::NFKD => Normalizer::Form(Form::Nfkd),
            Self::Lowercase => Normalizer::Lowercase,
            Self::StripAccents => Normalizer::StripAccents,
            Self::Sequence { normalizers } => {
                Normalizer::Sequence(normalizers.into_iter().map(Self::build).collect())
            }
        }
    }

    pub(crate) fn of(normalizer: &Normalizer) -> Self {
        match normalizer {
            Normalizer::Bert(bert) => Self::BertNormalizer {
                clean_text: bert.clean_text,
                handle_chinese_chars: bert.handle_chinese_chars,
                strip_accents: bert.strip_accents,
                lowercase: bert.lowercase,
            },
            Normalizer::Form(Form::Nfc) => Self::NFC,
            Normalizer::Form(Form::Nfd) => Self::NFD,
            Normalizer::Form(Form::Nfkc) => Self::NFKC,
            Normalizer::Form(Form::Nfkd) => Self::NFKD,
            Normalizer::Lowercase => Self::Lowercase,
            Normalizer::StripAccents => Self::StripAccents,
            Normalizer::Sequence(steps) => Self::Sequence {
                normalizers: steps.iter().map(Self::of).collect(),
            },
        }
    }
}

impl PreTokenizerSection {
    pub(crate) fn parse(value: Value) -> Result<Self> {
        typed("pre_tokenizer", value, PRE_TOKENIZERS)?.ok_or_else(|| Error::Unsupported {
            section: "pre_tokenizer".to_owned(),
            name: "null".to_owned(),
            allowed: PRE_TOKENIZERS,
        })
    }

    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::BertPreTokenizer => "BertPreTokenizer",
            Self::ByteLevel(_) => "ByteLevel",
        }
    }
}

impl DecoderSection {
    pub(crate) fn parse(value: Value) -> Result<Option<Self>> {
        typed("decoder", value, DECODERS)
    }

    /// What the section asks for.
    pub fn build(section: Option<&Self>) -> Decoder {
        match section {
            None => Decoder::Blanks,
            Some(Self::ByteLevel(_)) => Decoder::ByteLevel,
            Some(Self::WordPiece { prefix, cleanup }) => Decoder::WordPiece {
                prefix: prefix.clone(),
                cleanup: *cleanup,
            },
        }
    }
}

impl PostProcessorSection {
    pub(crate) fn parse(value: Value) -> Result<Option<Self>> {
        check_members("post_processor", &value, "processors", POST_PROCESSORS)?;
        typed("post_processor", value, POST_PROCESSORS)
    }

    /// The layout that the section asks for.
    pub fn build(section: Option<&Self>) -> Result<Template> {
        let special = |token: &(String, u32)| Part::Special(vec![token.1]);
        Ok(match section {
            None | Some(Self::ByteLevel(_)) => Template::default(),
            Some(Self::BertProcessing { sep, cls }) => Template {
                single: vec![special(cls), Part::First, special(sep)],
                pair: vec![
                    special(cls),
                    Part::First,
                    special(sep),
                    Part::Second,
                    special(sep),
                ],
            },
            Some(Self::RobertaProcessing { sep, cls, .. }) => Template {
                single: vec![special(cls), Part::First, special(sep)],
                pair: vec![
                    special(cls),
                    Part::First,
                    special(sep),
                    special(sep),
                    Part::Second,
                    special(sep),
                ],
            },
            Some(Self::TemplateProcessing {
                single,
                pair,
                special_tokens,
            }) => Template {
                single: template("single", single, special_tokens)?,
                pair: template("pair", pair, special_tokens)?,
            },
            Some(Self::Sequence { processors }) => {
                let mut placing = Vec::new();
                flatten(processors, &mut placing);
                if placing.len() > 1 {
                    return Err(Error::Unsupported {
                        section: "post_processor".to_owned(),
                        name: "Sequence of several that place tokens".to_owned(),
                        allowed: "one of them, with any number of ByteLevel",
                    });
                }
                Self::build(placing.first().copied())?
            }
        })
    }
}

/// The processors of nested sequences that place tokens.
fn flatten<'a>(
    processors: &'a [PostProcessorSection],
    placing: &mut Vec<&'a PostProcessorSection>,
) {
    for processor in processors {
        match processor {
            PostProcessorSection::ByteLevel(_) => {}
            PostProcessorSection::Sequence { processors } => flatten(processors, placing),
            other => placing.push(other),
        }
    }
}

fn template(
    name: &str,
    pieces: &[PieceSection],
    special_tokens: &Map<String, Value>,
) -> Result<Vec<Part>> {
    let part = |piece: &PieceSection| match piece {
        PieceSection::Sequence { id, .. } => Ok(match id {
            SequenceName::A => Part::First,
            SequenceName::B => Part::Second,
        }),
        PieceSection::SpecialToken { id, .. } => special_tokens
            .get(id)
            .and_then(|token| token.get("ids"))
            .and_then(|ids| Vec::<u32>::deserialize(ids).ok())
            .map(Part::Special)
            .ok_or_else(|| Error::Damaged {
                place: "post_processor TemplateProcessing".to_owned(),
                message: format!("{name} names {id:?}, which special_tokens does not define"),
            }),
    };
    pieces.iter().map(part).collect()
}
