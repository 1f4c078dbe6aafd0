//! `rust_tok.split_sentences`.

use pyo3::prelude::*;
use tok::sentences::{self, SentenceOptions};
use tok_arrow::TextRows;

use crate::arrow::{ArrowColumn, take_column};
use crate::errors::{argument, raise};
use crate::tokenizer::detached;

#[pyfunction]
#[pyo3(signature = (column, abbreviations=true, one_line=false))]
pub(crate) fn split_sentences(
    py: Python<'_>,
    column: &Bound<'_, PyAny>,
    abbreviations: bool,
    one_line: bool,
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
    let options = SentenceOptions {
        abbreviations,
        one_line,
    };
    let sentences = detached(py, |interrupted| {
        sentences::split_rows(&rows, options, interrupted)
    })?;
    Ok(ArrowColumn::of_sentences(sentences))
}
