//! The Python module `rust_tok._native`: conversions only, every decision is in `tok`.

use pyo3::prelude::*;

mod arrow;
mod documents;
mod errors;
mod sentences;
mod tokenizer;
mod train;
mod watch;
mod word_counts;

#[pymodule]
mod _native {
    use pyo3::prelude::*;

    #[pymodule_export]
    use crate::arrow::ArrowColumn;
    #[pymodule_export]
    use crate::documents::{DocumentSplitter, xxh3_128};
    #[pymodule_export]
    use crate::errors::{DamagedFileError, TokenizerError, UnsupportedError};
    #[pymodule_export]
    use crate::sentences::split_sentences;
    #[pymodule_export]
    use crate::tokenizer::Tokenizer;
    #[pymodule_export]
    use crate::train::{train_bpe, train_wordpiece};
    #[pymodule_export]
    use crate::word_counts::WordCounts;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("RUST_TOK_VERSION"))
    }
}
