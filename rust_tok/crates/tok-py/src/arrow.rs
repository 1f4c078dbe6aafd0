//! Columns in and out by the Arrow PyCapsule interface.

use std::ptr;
use std::sync::Arc;

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyCapsule, PyTuple};
use tok::sentences::Sentences;
use tok_arrow::export::{self, Buffer};
use tok_arrow::ffi::{Array, Interface, Schema, Stream};
use tok_arrow::import::Outer;
use tok_arrow::{AnyLists, Column, Node, lists};

use crate::errors::{argument, raise};

/// The Arrow PyCapsule interface of a column.
#[derive(Debug)]
pub(crate) struct Exported(pub(crate) Arc<Node>);

impl Exported {
    pub(crate) fn schema<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyCapsule>> {
        give(py, export::schema(&self.0).map_err(raise)?)
    }

    pub(crate) fn array<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let parts = [self.schema(py)?, give(py, export::array(&self.0))?];
        PyTuple::new(py, parts)
    }

    pub(crate) fn stream<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyCapsule>> {
        give(py, export::stream(&self.0))
    }
}

/// Whether the object has the Arrow interface.
pub(crate) fn is_arrow(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    Ok(object.hasattr("__arrow_c_array__")? || object.hasattr("__arrow_c_stream__")?)
}

/// Takes over a column of text.
pub(crate) fn take_column(object: &Bound<'_, PyAny>) -> PyResult<Column> {
    let (schema, chunks) = take_chunks(object)?;
    // SAFETY: an object with the Arrow interface promises to keep to its specification.
    unsafe { Column::new(&schema, chunks) }.map_err(raise)
}

/// Takes over what the object's Arrow interface gives: a type and the chunks of it.
pub(crate) fn take_chunks(object: &Bound<'_, PyAny>) -> PyResult<(Schema, Vec<Array>)> {
    let (schema, chunks) = if object.hasattr("__arrow_c_array__")? {
        let pair = object.call_method0("__arrow_c_array__")?;
        let schema: Schema = take(&pair.get_item(0)?)?;
        let array: Array = take(&pair.get_item(1)?)?;
        (schema, vec![array])
    } else if object.hasattr("__arrow_c_stream__")? {
        let mut stream: Stream = take(&object.call_method0("__arrow_c_stream__")?)?;
        let schema = stream.schema().map_err(raise)?;
        let mut chunks = Vec::new();
        while let Some(chunk) = stream.next_chunk().map_err(raise)? {
            chunks.push(chunk);
        }
        (schema, chunks)
    } else {
        return Err(PyTypeError::new_err(format!(
            "a column with the Arrow interface (__arrow_c_array__ or __arrow_c_stream__) is \
             needed, not {}; a list of str goes to encode_batch",
            object.get_type().name()?
        )));
    };
    if schema.release.is_none() || chunks.iter().any(|chunk| chunk.release.is_none()) {
        return Err(argument("the Arrow struct was already taken"));
    }
    Ok((schema, chunks))
}

/// Takes the struct out of a capsule, which is left empty.
fn take<T: Interface>(capsule: &Bound<'_, PyAny>) -> PyResult<T> {
    let capsule = capsule.cast::<PyCapsule>()?;
    let held = capsule.pointer_checked(Some(T::CAPSULE))?.cast::<T>();
    // SAFETY: a capsule of this name points to a struct of this type, and the specification
    // makes taking it over by a move the consumer's right.
    Ok(unsafe { ptr::replace(held.as_ptr(), T::empty()) })
}

/// Puts a struct into a capsule, which releases it if nobody takes it.
fn give<T: Interface + Send>(py: Python<'_>, held: T) -> PyResult<Bound<'_, PyCapsule>> {
    PyCapsule::new_with_value(py, held, T::CAPSULE)
}

/// A column of ids, sentences, documents or digests. Give it to any Arrow library:
/// `pyarrow.array(ids)`.
#[pyclass(frozen, module = "rust_tok")]
#[derive(Debug)]
pub(crate) struct ArrowColumn(pub(crate) Exported);

#[pymethods]
impl ArrowColumn {
    fn __arrow_c_schema__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyCapsule>> {
        self.0.schema(py)
    }

    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_array__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyTuple>> {
        // The specification lets a producer give its own type whatever was requested.
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

impl ArrowColumn {
    /// Lists of ids, with the lists around them if there are any.
    pub(crate) fn of_ids(ids: AnyLists, valid: Option<Vec<bool>>, outer: Option<Outer>) -> Self {
        Self(Exported(lists::ids(ids, valid, outer)))
    }

    /// The sentences of each text.
    pub(crate) fn of_sentences(sentences: Sentences) -> Self {
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
