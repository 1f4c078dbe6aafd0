//! The one place where errors of the core become Python exceptions.

use std::io;

use pyo3::create_exception;
use pyo3::exceptions::{PyKeyboardInterrupt, PyTypeError, PyValueError};
use pyo3::prelude::*;
use tok::Error;

create_exception!(
    rust_tok,
    TokenizerError,
    PyValueError,
    "What rust_tok refuses; the message says what, where and what is allowed."
);
create_exception!(
    rust_tok,
    DamagedFileError,
    TokenizerError,
    "A file that is not what it should be, with the place."
);
create_exception!(
    rust_tok,
    UnsupportedError,
    TokenizerError,
    "A file that asks for something rust_tok does not do exactly, by its name."
);

/// The exception for an error of the core.
pub(crate) fn raise(error: Error) -> PyErr {
    let message = error.to_string();
    match error {
        // FileNotFoundError and its like.
        Error::Io { source, .. } => io::Error::new(source.kind(), message).into(),
        Error::Damaged { .. } => DamagedFileError::new_err(message),
        Error::Unsupported { .. } => UnsupportedError::new_err(message),
        Error::Type(_) => PyTypeError::new_err(message),
        Error::Interrupted => PyKeyboardInterrupt::new_err(()),
        _ => TokenizerError::new_err(message),
    }
}

/// The exception for a wrong argument.
pub(crate) fn argument(message: impl Into<String>) -> PyErr {
    TokenizerError::new_err(message.into())
}
