//! `rust_tok.WordCounts`, and where training text comes from.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedStr;
use pyo3::types::{PyCapsule, PyString, PyTuple};
use tok::batch::Rows;
use tok::word_counts::{WordCounts as Core, WordKind};
use tok_arrow::{TextRows, counts};

use crate::arrow::{Exported, is_arrow, take_chunks, take_column};
use crate::errors::{argument, raise};
use crate::watch::Watch;

/// Text taken from a Python iterable before it is counted without the GIL.
const BATCH_BYTES: usize = 16 << 20;

/// How often each word stands in a corpus.
#[pyclass(module = "rust_tok")]
pub(crate) struct WordCounts(pub(crate) Core);

#[pymethods]
impl WordCounts {
    #[new]
    #[pyo3(signature = (kind, *, lowercase=true, add_prefix_space=false))]
    fn new(kind: &str, lowercase: bool, add_prefix_space: bool) -> PyResult<Self> {
        let kind = match kind {
            "wordpiece" => WordKind::WordPiece { lowercase },
            "bpe" => WordKind::Bpe { add_prefix_space },
            other => {
                return Err(argument(format!(
                    "kind is {other:?}; allowed: \"wordpiece\", \"bpe\""
                )));
            }
        };
        Ok(Self(Core::new(kind)))
    }

    #[pyo3(signature = (source, progress=None))]
    fn count(
        &mut self,
        py: Python<'_>,
        source: &Bound<'_, PyAny>,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<()> {
        count(py, &mut self.0, source, &mut Watch::new(progress))
    }

    fn merge(&mut self, py: Python<'_>, other: PyRef<'_, Self>) -> PyResult<()> {
        let other = &other.0;
        py.detach(|| self.0.merge(other)).map_err(raise)
    }

    fn partition(&self, py: Python<'_>, parts: usize) -> PyResult<Vec<Self>> {
        let split = py.detach(|| self.0.partition(parts)).map_err(raise)?;
        Ok(split.into_iter().map(Self).collect())
    }

    fn prune(&self, py: Python<'_>, min_count: u64) -> PyResult<Self> {
        py.detach(|| self.0.prune(min_count))
            .map(Self)
            .map_err(raise)
    }

    #[staticmethod]
    fn from_arrow(py: Python<'_>, counts: &Bound<'_, PyAny>) -> PyResult<Self> {
        let (schema, chunks) = take_chunks(counts)?;
        // SAFETY: an object with the Arrow interface promises to keep to its specification.
        let read = py.detach(|| unsafe { counts::import(&schema, &chunks) });
        read.map(Self).map_err(raise)
    }

    fn __arrow_c_schema__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyCapsule>> {
        Exported(counts::export(&Core::new(self.0.kind()))).schema(py)
    }

    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_array__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyTuple>> {
        let _ = requested_schema;
        py.detach(|| Exported(counts::export(&self.0))).array(py)
    }

    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_stream__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyCapsule>> {
        let _ = requested_schema;
        py.detach(|| Exported(counts::export(&self.0))).stream(py)
    }

    #[getter]
    fn kind(&self) -> &'static str {
        match self.0.kind() {
            WordKind::WordPiece { .. } => "wordpiece",
            WordKind::Bpe { .. } => "bpe",
        }
    }

    #[getter]
    fn total(&self) -> u64 {
        self.0.total()
    }

    #[getter]
    fn nbytes(&self) -> usize {
        self.0.memory()
    }

    fn __len__(&self) -> usize {
        self.0.len()
    }

    fn __eq__(&self, other: PyRef<'_, Self>) -> bool {
        self.0 == other.0
    }

    fn __repr__(&self) -> String {
        let (kind, distinct, total) = (self.0.kind(), self.0.len(), self.0.total());
        format!("WordCounts({kind}, {distinct} distinct of {total} words)")
    }
}

/// Counts the words of a column, or of an iterable of str.
pub(crate) fn count(
    py: Python<'_>,
    counts: &mut Core,
    source: &Bound<'_, PyAny>,
    watch: &mut Watch,
) -> PyResult<()> {
    if is_arrow(source)? {
        let column = take_column(source)?;
        let (texts, _) = column.texts().map_err(raise)?;
        let rows = TextRows {
            texts: &texts,
            pairs: None,
        };
        let wanted = rows.len();
        return watch.detached(py, |watch| {
            counts.count(&rows, &mut |done| watch.tick("count", done, Some(wanted)))
        });
    }
    if source.is_instance_of::<PyString>() {
        return Err(PyTypeError::new_err(
            "source is one str; give an iterable of str, or an Arrow column",
        ));
    }
    let mut texts = source.try_iter()?;
    let mut done = 0;
    loop {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while bytes < BATCH_BYTES {
            let Some(text) = texts.next() else { break };
            let text: PyBackedStr = text?.extract().map_err(|error: PyErr| {
                PyTypeError::new_err(format!("source holds something else than str: {error}"))
            })?;
            bytes += text.len();
            batch.push(text);
        }
        if batch.is_empty() {
            return Ok(());
        }
        let rows = Strings(batch);
        watch.detached(py, |watch| {
            counts.count(&rows, &mut |row| watch.tick("count", done + row, None))
        })?;
        done += rows.len();
    }
}

/// Python strings as rows.
struct Strings(Vec<PyBackedStr>);

impl Rows for Strings {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn weight(&self, row: usize) -> usize {
        self.0[row].len()
    }

    fn get(&self, row: usize) -> tok::Result<Option<(&str, Option<&str>)>> {
        Ok(Some((&self.0[row], None)))
    }
}
