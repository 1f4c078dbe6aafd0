//! Pre-tokenizers: where a normalized text falls into words.

pub mod bert;
pub mod byte_level;
