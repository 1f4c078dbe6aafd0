//! The Python module `rust_tok._native`: conversions only, every decision is in `tok`.

use pyo3::prelude::*;

mod arrow;
mod errors;
mod tokenizer;

#[pymodule]
mod _native {
    use pyo3::prelude::*;

    #[pymodule_export]
    use crate::arrow::IdColumn;
    #[pymodule_export]
    use crate::errors::{DamagedFileError, TokenizerError, UnsupportedError};
    #[pymodule_export]
    use crate::tokenizer::Tokenizer;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
