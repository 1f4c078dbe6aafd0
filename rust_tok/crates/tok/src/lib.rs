//! WordPiece and byte-level BPE with the ids of the pinned Hugging Face `tokenizers`.

pub mod error;
pub mod normalize;
pub mod pretokenize;
pub mod unicode;

pub use error::{Error, Result};
