//! Every way the crate refuses, in one enum.

use std::path::PathBuf;

/// What went wrong, in words for the person who gave the file or the call.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file is not what it should be.
    #[error("{place}: {message}")]
    Damaged {
        /// File, line or section.
        place: String,
        /// What was found and what is allowed.
        message: String,
    },
    /// A tokenizer.json asks for something this crate does not do exactly.
    #[error("{section}: {name} is not supported; allowed: {allowed}")]
    Unsupported {
        /// Section of the file.
        section: String,
        /// What the file asks for.
        name: String,
        /// What can be asked for.
        allowed: &'static str,
    },
    /// An argument of a call is wrong.
    #[error("{0}")]
    Argument(String),
    /// An argument of a call is of another type than it can be.
    #[error("{0}")]
    Type(String),
    /// The caller asked to stop.
    #[error("interrupted")]
    Interrupted,
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;
