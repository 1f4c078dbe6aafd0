//! `rust_tok.split_sentences`.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::{PyCapsule, PyTuple};
use tok::sentences::{self, Sentences};
use tok_arrow::export::Buffer;
use tok_arrow::{TextRows, lists};

use crate::arrow::{Exported, take_column};
use crate::errors::{argument, raise};
use crate::tokenizer::detached;

/// A column of lists of sentences. Give it to any Arrow library: `pyarrow.array(sentences)`.
#[pyclass(frozen, module = "rust_tok")]
#[derive(Debug)]
pub(crate) struct SentenceColumn(Exported);

impl SentenceColumn {
    fn new(sentences: Sentences) -> Self {
        let Sentences {
            text,
            ends,
            rows,
            valid,
        } = sentences;
        let from_zero = |ends: Vec<i64>| std::iter::once(0).chain(ends).collect();
        let texts = lists::text(c"item", from_zero(ends), text);
        let offsets = Buffer::I64(from_zero(rows));
        let node = lists::list(offsets, valid.len(), Some(valid), texts);
        Self(Exported(Arc::new(node)))
    }
}

#[pymethods]
impl SentenceColumn {
    fn __arrow_c_schema__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyCapsule>> {
        self.0.schema(py)
    }

    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_array__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyTuple>> {
        let _ = requested_schema;
        self.0.array(py)
    }

    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_stream__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyCapsule>> {
        let _ = requested_schema;
        self.0.stream(py)
    }

    fn __len__(&self) -> usize {
        self.0.0.length
    }
}

#[pyfunction]
#[pyo3(signature = (column, abbreviations=true))]
pub(crate) fn split_sentences(
    py: Python<'_>,
    column: &Bound<'_, PyAny>,
    abbreviations: bool,
) -> PyResult<SentenceColumn> {
    let column = take_column(column)?;
    let (texts, outer) = column.texts().map_err(raise)?;
    if outer.is_some() {
        return Err(argument("a column of lists; give a column of strings"));
    }
    let rows = TextRows {
        texts: &texts,
        pairs: None,
    };
    let sentences = detached(py, |interrupted| {
        sentences::split_rows(&rows, abbreviations, interrupted)
    })?;
    Ok(SentenceColumn::new(sentences))
}
