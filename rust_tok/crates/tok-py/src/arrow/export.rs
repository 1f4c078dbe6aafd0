//! Lists of ids for any Arrow library, given where they lie.

use std::ffi::{CString, c_char, c_int, c_void};
use std::ptr;
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::{PyCapsule, PyTuple};

use super::ffi::{self, Array, Interface, Schema, Stream};

/// A buffer of one of the types that columns of ids are made of.
#[derive(Debug)]
pub(crate) enum Buffer {
    U8(Vec<u8>),
    U16(Vec<u16>),
    U32(Vec<u32>),
    I32(Vec<i32>),
    I64(Vec<i64>),
    U64(Vec<u64>),
}

impl Buffer {
    fn pointer(&self) -> *const c_void {
        match self {
            Self::U8(items) => items.as_ptr().cast(),
            Self::U16(items) => items.as_ptr().cast(),
            Self::U32(items) => items.as_ptr().cast(),
            Self::I32(items) => items.as_ptr().cast(),
            Self::I64(items) => items.as_ptr().cast(),
            Self::U64(items) => items.as_ptr().cast(),
        }
    }
}

/// A column: lists and structs down to numbers and text.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) format: &'static str,
    pub(crate) name: &'static str,
    pub(crate) length: usize,
    pub(crate) null_count: usize,
    /// Absent ones are null pointers.
    pub(crate) buffers: Vec<Option<Buffer>>,
    pub(crate) children: Vec<Arc<Node>>,
    /// Keys and values of the type's metadata.
    pub(crate) metadata: Vec<(&'static str, String)>,
}

/// What an exported array keeps alive.
struct ArrayState {
    node: Arc<Node>,
    buffers: Vec<*const c_void>,
    children: Vec<*mut Array>,
}

/// What an exported schema keeps alive.
struct SchemaState {
    _format: CString,
    _name: CString,
    _metadata: Vec<u8>,
    children: Vec<*mut Schema>,
}

const NULLABLE: i64 = 2;

fn array(node: &Arc<Node>) -> Array {
    let buffers = node.buffers.iter();
    let mut state = Box::new(ArrayState {
        node: Arc::clone(node),
        buffers: buffers
            .map(|buffer| buffer.as_ref().map_or(ptr::null(), Buffer::pointer))
            .collect(),
        children: node
            .children
            .iter()
            .map(|child| Box::into_raw(Box::new(array(child))))
            .collect(),
    });
    let mut array = Array::empty();
    array.length = state.node.length as i64;
    array.null_count = state.node.null_count as i64;
    array.n_buffers = state.buffers.len() as i64;
    array.n_children = state.children.len() as i64;
    array.buffers = state.buffers.as_mut_ptr();
    array.children = state.children.as_mut_ptr();
    array.release = Some(release_array);
    array.private_data = Box::into_raw(state).cast();
    array
}

unsafe extern "C" fn release_array(array: *mut Array) {
    // SAFETY: the consumer calls this once with a struct that `array` above filled (moved or not).
    let array = unsafe { &mut *array };
    // SAFETY: `private_data` is the box that `array` above leaked, not freed before.
    let state = unsafe { Box::from_raw(array.private_data.cast::<ArrayState>()) };
    for &child in &state.children {
        // SAFETY: a box that `array` above leaked; its own `Drop` releases it if nobody took it.
        drop(unsafe { Box::from_raw(child) });
    }
    array.release = None;
}

fn schema(node: &Node) -> PyResult<Schema> {
    let (format, name) = (CString::new(node.format)?, CString::new(node.name)?);
    let mut schema = Schema::empty();
    (schema.format, schema.name) = (format.as_ptr(), name.as_ptr());
    let metadata = encode_metadata(&node.metadata)?;
    if !metadata.is_empty() {
        schema.metadata = metadata.as_ptr().cast();
    }
    let children = node.children.iter().map(|child| self::schema(child));
    let children = children.collect::<PyResult<Vec<Schema>>>()?;
    let mut state = Box::new(SchemaState {
        _format: format,
        _name: name,
        _metadata: metadata,
        children: (children.into_iter())
            .map(|child| Box::into_raw(Box::new(child)))
            .collect(),
    });
    schema.flags = NULLABLE;
    schema.n_children = state.children.len() as i64;
    schema.children = state.children.as_mut_ptr();
    schema.release = Some(release_schema);
    schema.private_data = Box::into_raw(state).cast();
    Ok(schema)
}

/// The number of entries, then length and bytes of each key and value.
fn encode_metadata(entries: &[(&str, String)]) -> PyResult<Vec<u8>> {
    let mut bytes = Vec::new();
    if !entries.is_empty() {
        bytes.extend(i32::try_from(entries.len())?.to_ne_bytes());
    }
    for text in entries.iter().flat_map(|(key, value)| [*key, value]) {
        bytes.extend(i32::try_from(text.len())?.to_ne_bytes());
        bytes.extend(text.as_bytes());
    }
    Ok(bytes)
}

unsafe extern "C" fn release_schema(schema: *mut Schema) {
    // SAFETY: the consumer calls this once with a struct that `schema` above filled.
    let schema = unsafe { &mut *schema };
    // SAFETY: `private_data` is the box that `schema` above leaked, not freed before.
    let state = unsafe { Box::from_raw(schema.private_data.cast::<SchemaState>()) };
    for &child in &state.children {
        // SAFETY: a box that `schema` above leaked; its own `Drop` releases it if nobody took it.
        drop(unsafe { Box::from_raw(child) });
    }
    schema.release = None;
}

/// A stream of one column.
struct StreamState {
    node: Arc<Node>,
    done: bool,
}

fn stream(node: &Arc<Node>) -> Stream {
    let mut stream = Stream::empty();
    stream.get_schema = Some(stream_schema);
    stream.get_next = Some(stream_next);
    stream.get_last_error = Some(stream_error);
    stream.release = Some(release_stream);
    let state = Box::new(StreamState {
        node: Arc::clone(node),
        done: false,
    });
    stream.private_data = Box::into_raw(state).cast();
    stream
}

const EINVAL: c_int = 22;

unsafe extern "C" fn stream_schema(stream: *mut Stream, out: *mut Schema) -> c_int {
    // SAFETY: a live stream that `stream` above filled.
    let state = unsafe { &*(*stream).private_data.cast::<StreamState>() };
    match schema(&state.node) {
        Ok(schema) => {
            // SAFETY: the consumer's struct, which holds nothing yet.
            unsafe { out.write(schema) };
            0
        }
        Err(_) => EINVAL,
    }
}

unsafe extern "C" fn stream_next(stream: *mut Stream, out: *mut Array) -> c_int {
    // SAFETY: a live stream that `stream` above filled, used by one thread at a time.
    let state = unsafe { &mut *(*stream).private_data.cast::<StreamState>() };
    let next = if state.done {
        Array::empty()
    } else {
        array(&state.node)
    };
    state.done = true;
    // SAFETY: the consumer's struct, which holds nothing yet.
    unsafe { out.write(next) };
    0
}

unsafe extern "C" fn stream_error(_: *mut Stream) -> *const c_char {
    c"a name with a NUL".as_ptr()
}

unsafe extern "C" fn release_stream(stream: *mut Stream) {
    // SAFETY: called once with a struct that `stream` above filled.
    let stream = unsafe { &mut *stream };
    // SAFETY: `private_data` is the box that `stream` above leaked, not freed before.
    drop(unsafe { Box::from_raw(stream.private_data.cast::<StreamState>()) });
    stream.release = None;
}

/// The Arrow PyCapsule interface of a column.
#[derive(Debug)]
pub(crate) struct Exported(pub(crate) Arc<Node>);

impl Exported {
    pub(crate) fn schema<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyCapsule>> {
        ffi::give(py, schema(&self.0)?)
    }

    pub(crate) fn array<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let parts = [self.schema(py)?, ffi::give(py, array(&self.0))?];
        PyTuple::new(py, parts)
    }

    pub(crate) fn stream<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyCapsule>> {
        ffi::give(py, stream(&self.0))
    }
}
