//! `rust_tok.split_sentences`.

use pyo3::prelude::*;
use tok::sentences;
use tok_arrow::TextRows;

use crate::arrow::{ArrowColumn, take_column};
use crate::errors::{argument, raise};
use crate::tokenizer::detached;

#[pyfunction]
#[pyo3(signature = (column, abbreviations=true))]
pub(crate) fn split_sentences(
    py: Python<'_>,
    column: &Bound<'_, PyAny>,
    abbreviations: bool,
) -> PyResult<ArrowColumn> {
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
    Ok(ArrowColumn::of_sentences(sentences))
}
