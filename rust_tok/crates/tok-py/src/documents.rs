//! `rust_tok.DocumentSplitter` and `rust_tok.xxh3_128`.

use pyo3::prelude::*;
use tok::{content_hash, documents};
use tok_arrow::{TextRows, lists};

use crate::arrow::{ArrowColumn, Exported, take_column};
use crate::errors::{argument, raise};
use crate::tokenizer::detached;

#[pyclass(module = "rust_tok")]
#[derive(Debug)]
pub(crate) struct DocumentSplitter(documents::DocumentSplitter);

#[pymethods]
impl DocumentSplitter {
    #[new]
    fn new(start: u64, end: u64, max_bytes: usize) -> PyResult<Self> {
        if max_bytes == 0 {
            return Err(argument("max_bytes is 0; allowed is 1 or more"));
        }
        Ok(Self(documents::DocumentSplitter::new(
            start, end, max_bytes,
        )))
    }

    fn feed(&mut self, py: Python<'_>, block: &[u8]) -> ArrowColumn {
        let documents = py.detach(|| self.0.feed(block));
        ArrowColumn(Exported(lists::documents(documents)))
    }

    fn close(&mut self, py: Python<'_>) -> ArrowColumn {
        let documents = py.detach(|| self.0.close());
        ArrowColumn(Exported(lists::documents(documents)))
    }

    #[getter]
    fn finished(&self) -> bool {
        self.0.finished()
    }
}

#[pyfunction]
pub(crate) fn xxh3_128(py: Python<'_>, column: &Bound<'_, PyAny>) -> PyResult<ArrowColumn> {
    let column = take_column(column)?;
    let (texts, outer) = column.texts().map_err(raise)?;
    if outer.is_some() {
        return Err(argument("a column of lists; give a column of strings"));
    }
    let rows = TextRows {
        texts: &texts,
        pairs: None,
    };
    let digests = detached(py, |interrupted| {
        content_hash::hash_rows(&rows, interrupted)
    })?;
    Ok(ArrowColumn(Exported(lists::digests(digests))))
}
