//! From a word to its ids.

pub mod bpe;
pub mod wordpiece;

pub use bpe::Bpe;
pub use wordpiece::WordPiece;
