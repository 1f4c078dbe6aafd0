//! Files: `tokenizer.json`, `vocab.txt`, `vocab.json` with `merges.txt`.

mod model;
mod vocab_files;

use std::fs;
use std::path::Path;

use blake2b_simd::Params;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::added::{AddedToken, AddedTokens};
use crate::sections::{
    DecoderSection, NormalizerSection, PostProcessorSection, PreTokenizerSection,
};
use crate::tokenizer::{Model, Parts, Tokenizer};
use crate::{Error, Result};

pub use vocab_files::BERT_SPECIAL_TOKENS;

/// The file as it is written, its sections in the order of `tokenizers`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileIn<'a> {
    version: Option<String>,
    #[serde(default)]
    truncation: Value,
    #[serde(default)]
    padding: Value,
    #[serde(default)]
    added_tokens: Vec<AddedToken>,
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    #[serde(default)]
    post_processor: Value,
    #[serde(default)]
    decoder: Value,
    #[serde(borrow)]
    model: &'a RawValue,
}

#[derive(Serialize)]
struct FileOut<'a> {
    version: &'static str,
    truncation: &'a Value,
    padding: &'a Value,
    added_tokens: Vec<&'a AddedToken>,
    normalizer: Option<NormalizerSection>,
    pre_tokenizer: PreTokenizerSection,
    post_processor: &'a Option<PostProcessorSection>,
    decoder: &'a Option<DecoderSection>,
    model: model::ModelOut<'a>,
}

impl Tokenizer {
    /// Reads a `tokenizer.json`, or a BERT `vocab.txt` (any name that ends in `.txt`).
    ///
    /// `lowercase` is for a `vocab.txt`, which does not say: without it, a vocabulary that has a
    /// capital letter outside of its `[special]` tokens is cased.
    pub fn from_file(path: &Path, lowercase: Option<bool>) -> Result<Self> {
        let bytes = fs::read(path).map_err(|source| Error::Io {
            path: path.to_owned(),
            source,
        })?;
        let name = path.display().to_string();
        let text = String::from_utf8(bytes).map_err(|error| Error::Damaged {
            place: name.clone(),
            message: format!("not UTF-8 at byte {}", error.utf8_error().valid_up_to()),
        })?;
        let read = if path.extension().is_some_and(|extension| extension == "txt") {
            Self::from_vocab_text(&text, lowercase)
        } else if lowercase.is_some() {
            Err(Error::Argument(
                "lowercase is for a vocab.txt; a tokenizer.json says it itself".to_owned(),
            ))
        } else {
            Self::from_json(&text)
        };
        read.map_err(|error| match error {
            Error::Damaged { place, message } => Error::Damaged {
                place: format!("{name}: {place}"),
                message,
            },
            Error::Unsupported {
                section,
                name: found,
                allowed,
            } => Error::Unsupported {
                section: format!("{name}: {section}"),
                name: found,
                allowed,
            },
            other => other,
        })
    }

    /// Reads the text of a `tokenizer.json`.
    pub fn from_json(text: &str) -> Result<Self> {
        let file: FileIn<'_> = serde_json::from_str(text).map_err(|error| damaged(&error, ""))?;
        if let Some(version) = file.version.filter(|version| version != "1.0") {
            return Err(Error::Unsupported {
                section: "version".to_owned(),
                name: version,
                allowed: "1.0",
            });
        }
        let normalizer = NormalizerSection::parse(file.normalizer)?;
        let pre_tokenizer = PreTokenizerSection::parse(file.pre_tokenizer)?;
        let post_processor = PostProcessorSection::parse(file.post_processor)?;
        let decoder = DecoderSection::parse(file.decoder)?;
        let raw = file.model.get();
        let offset = raw.as_ptr() as usize - text.as_ptr() as usize;
        let (vocab, model) = model::parse(raw).map_err(|error| match error {
            model::ParseError::Json(error) => damaged(&error, &text[..offset]),
            model::ParseError::Other(error) => error,
        })?;
        let model = match (model, pre_tokenizer) {
            (model::Parsed::WordPiece(model), PreTokenizerSection::BertPreTokenizer) => {
                Model::WordPiece(model)
            }
            (model::Parsed::Bpe(model), PreTokenizerSection::ByteLevel(section)) => {
                Model::Bpe(model, section)
            }
            (model, pre_tokenizer) => {
                return Err(Error::Unsupported {
                    section: "model".to_owned(),
                    name: format!("{} with {}", model.name(), pre_tokenizer.name()),
                    allowed: "WordPiece with BertPreTokenizer, BPE with ByteLevel",
                });
            }
        };
        let normalizer = normalizer.map(|section| section.build());
        let added = AddedTokens::new(file.added_tokens, &vocab, normalizer.as_ref())?;
        Tokenizer::from_parts(Parts {
            vocab,
            model,
            normalizer,
            added,
            post_processor,
            decoder,
            truncation: file.truncation,
            padding: file.padding,
        })
    }

    /// The text of a `tokenizer.json` that `tokenizers` reads.
    pub fn to_json(&self) -> Result<String> {
        self.write(&self.parts().truncation, &self.parts().padding)
    }

    /// What the ids depend on, hashed: equal for tokenizers that give equal ids by equal files.
    /// Truncation and padding, which are not applied, don't count.
    pub fn fingerprint(&self) -> Result<String> {
        let text = self.write(&Value::Null, &Value::Null)?;
        let digest = Params::new().hash_length(16).hash(text.as_bytes());
        Ok(digest.to_hex().to_string())
    }

    fn write(&self, truncation: &Value, padding: &Value) -> Result<String> {
        let parts = self.parts();
        let file = FileOut {
            version: "1.0",
            truncation,
            padding,
            added_tokens: parts.added.iter().collect(),
            normalizer: parts.normalizer.as_ref().map(NormalizerSection::of),
            pre_tokenizer: match &parts.model {
                Model::WordPiece(_) => PreTokenizerSection::BertPreTokenizer,
                Model::Bpe(_, section) => PreTokenizerSection::ByteLevel(section.clone()),
            },
            post_processor: &parts.post_processor,
            decoder: &parts.decoder,
            model: model::ModelOut::new(&parts.model, &parts.vocab),
        };
        serde_json::to_string_pretty(&file).map_err(|error| damaged(&error, ""))
    }

    /// Writes a `tokenizer.json`.
    pub fn save(&self, path: &Path) -> Result<()> {
        write_file(path, &self.to_json()?)
    }
}

fn write_file(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).map_err(|source| Error::Io {
        path: path.to_owned(),
        source,
    })
}

/// The error of a part of a file, by its place in the whole: behind the text `before`.
fn damaged(error: &serde_json::Error, before: &str) -> Error {
    let mut message = error.to_string();
    if let Some(end) = message.rfind(" at line ") {
        message.truncate(end);
    }
    let line = before.matches('\n').count() + error.line();
    // Only in its first line the part has something before it.
    let column = match error.line() {
        1 => before.len() - before.rfind('\n').map_or(0, |at| at + 1) + error.column(),
        _ => error.column(),
    };
    Error::Damaged {
        place: format!("line {line}, column {column}"),
        message,
    }
}
