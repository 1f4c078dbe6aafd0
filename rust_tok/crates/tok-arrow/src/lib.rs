//! Columns of text and of ids by the Arrow C data interface, without a copy of the text, without an
//! Arrow library and without Python: all `unsafe` code of rust_tok is here, where Miri and the
//! fuzzer reach it.

pub mod counts;
pub mod export;
pub mod ffi;
pub mod import;
pub mod lists;
mod rows;

pub use export::Node;
pub use import::Column;
pub use lists::AnyLists;
pub use rows::TextRows;

fn argument(message: impl Into<String>) -> tok::Error {
    tok::Error::Argument(message.into())
}
