//! WordPiece and byte-level BPE with the ids of the pinned Hugging Face `tokenizers`.

pub mod added;
pub mod batch;
pub mod bert_scan;
pub mod content_hash;
pub mod decode;
pub mod documents;
pub mod error;
pub mod file;
pub mod hash;
pub mod id;
mod memory;
pub mod model;
pub mod normalize;
pub mod pretokenize;
pub mod sections;
pub mod sentences;
pub mod template;
pub mod threads;
pub mod tokenizer;
pub mod train;
pub mod unicode;
pub mod vocab;
pub mod word_cache;
pub mod word_counts;

pub use error::{Error, Result};
pub use tokenizer::{EncodeOptions, Tokenizer};
