//! Columns in and out by the Arrow PyCapsule interface, without a copy of the text and without
//! an Arrow library.

pub(crate) mod counts;
pub(crate) mod export;
pub(crate) mod ffi;
pub(crate) mod import;

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::{PyCapsule, PyTuple};
use tok::batch::Lists;

use export::{Buffer, Exported, Node};
use import::{Outer, Texts};

/// A column of lists of ids. Give it to any Arrow library: `pyarrow.array(ids)`.
#[pyclass(frozen, module = "rust_tok")]
#[derive(Debug)]
pub(crate) struct IdColumn(Exported);

#[pymethods]
impl IdColumn {
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

/// Ids of either width.
pub(crate) enum AnyLists {
    Narrow(Lists<u16>),
    Wide(Lists<u32>),
}

impl IdColumn {
    /// Lists of ids as a column, with the lists around them if there are any.
    pub(crate) fn new(lists: AnyLists, valid: Option<Vec<bool>>, outer: Option<Outer>) -> Self {
        let (format, ids, length, lengths) = match lists {
            AnyLists::Narrow(lists) => (
                "S",
                lists.ids.len(),
                lists.lengths.len(),
                (Buffer::U16(lists.ids), lists.lengths),
            ),
            AnyLists::Wide(lists) => (
                "I",
                lists.ids.len(),
                lists.lengths.len(),
                (Buffer::U32(lists.ids), lists.lengths),
            ),
        };
        let (buffer, lengths) = lengths;
        let values = Node {
            format,
            name: "item",
            length: ids,
            null_count: 0,
            buffers: vec![None, Some(buffer)],
            children: Vec::new(),
            metadata: Vec::new(),
        };
        let mut node = list(offsets_of(lengths, ids), length, valid, values);
        if let Some(outer) = outer {
            let rows = outer.valid.len();
            node = list(Buffer::I64(outer.offsets), rows, Some(outer.valid), node);
        }
        Self(Exported(Arc::new(node)))
    }
}

/// Where lists start: 32 bits while the ids allow it.
fn offsets_of(lengths: Vec<u32>, num_ids: usize) -> Buffer {
    let mut end = 0;
    if i32::try_from(num_ids).is_ok() {
        let mut offsets = Vec::with_capacity(lengths.len() + 1);
        offsets.push(0);
        offsets.extend(lengths.iter().map(|&length| {
            end += length as i32;
            end
        }));
        return Buffer::I32(offsets);
    }
    let mut end = 0;
    let mut offsets = Vec::with_capacity(lengths.len() + 1);
    offsets.push(0);
    offsets.extend(lengths.iter().map(|&length| {
        end += i64::from(length);
        end
    }));
    Buffer::I64(offsets)
}

/// A list node; offsets of 64 bits become 32 where they fit.
pub(crate) fn list(offsets: Buffer, length: usize, valid: Option<Vec<bool>>, child: Node) -> Node {
    let offsets = match offsets {
        Buffer::I64(offsets) if i32::try_from(child.length).is_ok() => {
            Buffer::I32(offsets.iter().map(|&offset| offset as i32).collect())
        }
        other => other,
    };
    let null_count = valid.iter().flatten().filter(|valid| !**valid).count();
    let bits = valid.filter(|_| null_count > 0).map(|valid| {
        let mut bits = vec![0; length.div_ceil(8)];
        for (row, _) in valid.iter().enumerate().filter(|(_, valid)| **valid) {
            bits[row / 8] |= 1 << (row % 8);
        }
        Buffer::U8(bits)
    });
    Node {
        format: if matches!(offsets, Buffer::I32(_)) {
            "+l"
        } else {
            "+L"
        },
        name: "item",
        length,
        null_count,
        buffers: vec![bits, Some(offsets)],
        children: vec![Arc::new(child)],
        metadata: Vec::new(),
    }
}

/// A text node; offsets of 64 bits become 32 where they fit.
pub(crate) fn text(name: &'static str, offsets: Vec<i64>, bytes: Vec<u8>) -> Node {
    let length = offsets.len() - 1;
    let (format, offsets) = if i32::try_from(bytes.len()).is_ok() {
        let narrow = offsets.iter().map(|&offset| offset as i32).collect();
        ("u", Buffer::I32(narrow))
    } else {
        ("U", Buffer::I64(offsets))
    };
    Node {
        format,
        name,
        length,
        null_count: 0,
        buffers: vec![None, Some(offsets), Some(Buffer::U8(bytes))],
        children: Vec::new(),
        metadata: Vec::new(),
    }
}

/// Rows of one column, or of two side by side.
#[derive(Debug)]
pub(crate) struct TextRows<'a> {
    pub(crate) texts: &'a Texts<'a>,
    pub(crate) pairs: Option<&'a Texts<'a>>,
}

impl TextRows<'_> {
    /// Which rows are there; `None` when all are.
    pub(crate) fn validity(&self) -> Option<Vec<bool>> {
        let pair_valid = |row| self.pairs.is_none_or(|pairs| pairs.is_valid(row));
        let valid: Vec<bool> = (0..self.texts.len())
            .map(|row| self.texts.is_valid(row) && pair_valid(row))
            .collect();
        valid.contains(&false).then_some(valid)
    }
}

impl tok::batch::Rows for TextRows<'_> {
    fn len(&self) -> usize {
        self.texts.len()
    }

    #[inline]
    fn weight(&self, row: usize) -> usize {
        self.texts.weight(row) + self.pairs.map_or(0, |pairs| pairs.weight(row))
    }

    #[inline]
    fn get(&self, row: usize) -> tok::Result<Option<(&str, Option<&str>)>> {
        let Some(text) = self.texts.get(row)? else {
            return Ok(None);
        };
        match self.pairs {
            None => Ok(Some((text, None))),
            Some(pairs) => Ok(pairs.get(row)?.map(|pair| (text, Some(pair)))),
        }
    }
}
