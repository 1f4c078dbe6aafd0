//! `rust_tok.Tokenizer`.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::pybacked::PyBackedStr;
use pyo3::types::{PyList, PyTuple, PyType};
use tok::batch::{self, Rows};
use tok::id::Id;
use tok::{EncodeOptions, Tokenizer as Core};
use tok_arrow::{AnyLists, Column, TextRows};

use crate::arrow::{ArrowColumn, take_column};
use crate::errors::{self, raise};

/// WordPiece or byte-level BPE with the ids of Hugging Face `tokenizers`.
#[pyclass(frozen, module = "rust_tok", name = "Tokenizer")]
pub(crate) struct Tokenizer(Arc<Core>);

impl Tokenizer {
    /// Wraps a tokenizer, as trainers make them.
    pub(crate) fn new(core: Core) -> Self {
        Self(Arc::new(core))
    }

    fn run(&self, py: Python<'_>, rows: &impl Rows, options: EncodeOptions) -> PyResult<AnyLists> {
        let core = &self.0;
        detached(py, |interrupted| {
            if core.is_narrow() {
                batch::encode_rows(core, rows, options, interrupted).map(AnyLists::Narrow)
            } else {
                batch::encode_rows(core, rows, options, interrupted).map(AnyLists::Wide)
            }
        })
    }
}

/// Runs a call without the GIL; it can ask whether the user wants to stop (Ctrl-C).
pub(crate) fn detached<R: Send>(
    py: Python<'_>,
    call: impl FnOnce(&dyn Fn() -> bool) -> tok::Result<R> + Send,
) -> PyResult<R> {
    let (result, signal) = py.detach(|| {
        let signal = RefCell::new(None);
        let interrupted = || {
            let checked = Python::attach(|py| py.check_signals());
            checked
                .map_err(|error| signal.replace(Some(error)))
                .is_err()
        };
        let result = call(&interrupted);
        (result, signal.into_inner())
    });
    result.map_err(|error| signal.unwrap_or_else(|| raise(error)))
}

fn list<'py, I: Id>(py: Python<'py>, ids: &[I]) -> PyResult<Bound<'py, PyList>> {
    PyList::new(py, ids.iter().map(|id| id.get()))
}

/// Python strings as rows.
struct PyRows(Vec<PyBackedStr>);

impl Rows for PyRows {
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

#[pymethods]
impl Tokenizer {
    #[staticmethod]
    #[pyo3(signature = (path, *, lowercase=None))]
    fn from_file(py: Python<'_>, path: PathBuf, lowercase: Option<bool>) -> PyResult<Self> {
        let read = py.detach(|| Core::from_file(&path, lowercase));
        read.map(Self::new).map_err(raise)
    }

    #[staticmethod]
    fn from_json(py: Python<'_>, text: &str) -> PyResult<Self> {
        py.detach(|| Core::from_json(text))
            .map(Self::new)
            .map_err(raise)
    }

    fn to_json(&self) -> PyResult<String> {
        self.0.to_json().map_err(raise)
    }

    fn save(&self, path: PathBuf) -> PyResult<()> {
        self.0.save(&path).map_err(raise)
    }

    fn save_vocab(&self, folder: PathBuf) -> PyResult<()> {
        self.0.save_vocab(&folder).map_err(raise)
    }

    #[pyo3(signature = (text, pair=None, add_special_tokens=true, *, split_special_tokens=false))]
    fn encode<'py>(
        &self,
        py: Python<'py>,
        text: &str,
        pair: Option<&str>,
        add_special_tokens: bool,
        split_special_tokens: bool,
    ) -> PyResult<Bound<'py, PyList>> {
        let options = EncodeOptions {
            add_special_tokens,
            split_special_tokens,
            max_length: None,
        };
        let mut ids: Vec<u32> = Vec::new();
        let core = &self.0;
        let done = py.detach(|| {
            core.with_scratch(0, |scratch| {
                core.encode_into(text, pair, options, scratch, &mut ids)
            })
        });
        done.map_err(raise)?;
        list(py, &ids)
    }

    #[pyo3(signature = (texts, add_special_tokens=true, *, split_special_tokens=false))]
    fn encode_batch<'py>(
        &self,
        py: Python<'py>,
        texts: Vec<PyBackedStr>,
        add_special_tokens: bool,
        split_special_tokens: bool,
    ) -> PyResult<Bound<'py, PyList>> {
        let options = EncodeOptions {
            add_special_tokens,
            split_special_tokens,
            max_length: None,
        };
        let lists = self.run(py, &PyRows(texts), options)?;
        let rows: Vec<_> = match &lists {
            AnyLists::Narrow(lists) => lists
                .iter()
                .map(|ids| list(py, ids))
                .collect::<PyResult<_>>(),
            AnyLists::Wide(lists) => lists.iter().map(|ids| list(py, ids)).collect(),
        }?;
        PyList::new(py, rows)
    }

    #[pyo3(signature = (
        column,
        pair=None,
        add_special_tokens=false,
        max_length=None,
        *,
        split_special_tokens=false,
    ))]
    fn encode_arrow(
        &self,
        py: Python<'_>,
        column: &Bound<'_, PyAny>,
        pair: Option<&Bound<'_, PyAny>>,
        add_special_tokens: bool,
        max_length: Option<usize>,
        split_special_tokens: bool,
    ) -> PyResult<ArrowColumn> {
        let options = EncodeOptions {
            add_special_tokens,
            split_special_tokens,
            max_length,
        };
        let column = take_column(column)?;
        let pair = pair.map(take_column).transpose()?;
        let (texts, outer) = column.texts().map_err(raise)?;
        let pairs = pair
            .as_ref()
            .map(Column::texts)
            .transpose()
            .map_err(raise)?;
        if let Some((pairs, pair_outer)) = &pairs {
            if pairs.len() != texts.len() {
                return Err(errors::argument(format!(
                    "pair has {} rows, column has {}",
                    pairs.len(),
                    texts.len()
                )));
            }
            if outer.is_some() || pair_outer.is_some() {
                return Err(errors::argument(
                    "a pair of list columns; give columns of strings",
                ));
            }
        }
        let rows = TextRows {
            texts: &texts,
            pairs: pairs.as_ref().map(|(pairs, _)| pairs),
        };
        let lists = self.run(py, &rows, options)?;
        Ok(ArrowColumn::of_ids(lists, rows.validity(), outer))
    }

    #[pyo3(signature = (ids, skip_special_tokens=true))]
    fn decode(&self, py: Python<'_>, ids: Vec<u32>, skip_special_tokens: bool) -> String {
        py.detach(|| self.0.decode(&ids, skip_special_tokens))
    }

    #[pyo3(signature = (sequences, skip_special_tokens=true))]
    fn decode_batch(
        &self,
        py: Python<'_>,
        sequences: Vec<Vec<u32>>,
        skip_special_tokens: bool,
    ) -> Vec<String> {
        py.detach(|| batch::decode_rows(&self.0, &sequences, skip_special_tokens))
    }

    #[getter]
    fn vocab_size(&self) -> usize {
        self.0.vocab_size()
    }

    fn token_to_id(&self, token: &str) -> Option<u32> {
        self.0.token_to_id(token)
    }

    fn id_to_token(&self, id: u32) -> Option<&str> {
        self.0.id_to_token(id)
    }

    fn get_vocab(&self) -> BTreeMap<String, u32> {
        self.0.vocab()
    }

    #[getter]
    fn special_tokens(&self) -> Vec<&str> {
        self.0.special_tokens().map(|(token, _)| token).collect()
    }

    #[getter]
    fn fingerprint(&self) -> PyResult<String> {
        self.0.fingerprint().map_err(raise)
    }

    fn __reduce__<'py>(
        &self,
        py: Python<'py>,
    ) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyTuple>)> {
        let make = PyType::new::<Self>(py).getattr("from_json")?;
        Ok((make, PyTuple::new(py, [self.to_json()?])?))
    }

    fn __repr__(&self) -> String {
        let kind = match &self.0.parts().model {
            tok::tokenizer::Model::WordPiece(_) => "WordPiece",
            tok::tokenizer::Model::Bpe(..) => "BPE",
        };
        format!("Tokenizer({kind}, {} tokens)", self.0.vocab_size())
    }
}
