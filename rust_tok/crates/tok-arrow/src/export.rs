//! Lists of ids for any Arrow library, given where they lie.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr;
use std::sync::Arc;

use tok::{Error, Result};

use crate::ffi::{Array, Interface, Schema, Stream};

/// A buffer of one of the types that columns of ids are made of.
#[derive(Debug)]
pub enum Buffer {
    /// Text, or bits.
    U8(Vec<u8>),
    /// Ids.
    U16(Vec<u16>),
    /// Ids.
    U32(Vec<u32>),
    /// Offsets.
    I32(Vec<i32>),
    /// Offsets.
    I64(Vec<i64>),
    /// Counts.
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
pub struct Node {
    /// The type, as the C data interface writes it.
    pub format: &'static CStr,
    /// Name of the column.
    pub name: &'static CStr,
    /// Number of rows.
    pub length: usize,
    /// Rows that are null.
    pub null_count: usize,
    /// Absent ones are null pointers.
    pub buffers: Vec<Option<Buffer>>,
    /// Columns inside of this one.
    pub children: Vec<Arc<Node>>,
    /// Keys and values of the type's metadata.
    pub metadata: Vec<(&'static str, String)>,
}

/// What an exported array keeps alive.
struct ArrayState {
    node: Arc<Node>,
    buffers: Vec<*const c_void>,
    children: Vec<*mut Array>,
}

/// What an exported schema keeps alive.
struct SchemaState {
    _metadata: Vec<u8>,
    children: Vec<*mut Schema>,
}

const NULLABLE: i64 = 2;

/// The column for a consumer, who releases it; its buffers are those of the node.
pub fn array(node: &Arc<Node>) -> Array {
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

/// The type of the column for a consumer, who releases it.
pub fn schema(node: &Node) -> Result<Schema> {
    let mut schema = Schema::empty();
    (schema.format, schema.name) = (node.format.as_ptr(), node.name.as_ptr());
    let metadata = encode_metadata(&node.metadata)?;
    if !metadata.is_empty() {
        schema.metadata = metadata.as_ptr().cast();
    }
    let children = node.children.iter().map(|child| self::schema(child));
    let children = children.collect::<Result<Vec<Schema>>>()?;
    let mut state = Box::new(SchemaState {
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
fn encode_metadata(entries: &[(&str, String)]) -> Result<Vec<u8>> {
    let number = |length: usize| {
        i32::try_from(length)
            .map(i32::to_ne_bytes)
            .map_err(|_| Error::Argument("metadata of more than 2**31 - 1 bytes".to_owned()))
    };
    let mut bytes = Vec::new();
    if !entries.is_empty() {
        bytes.extend(number(entries.len())?);
    }
    for text in entries.iter().flat_map(|(key, value)| [*key, value]) {
        bytes.extend(number(text.len())?);
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

/// What an exported stream keeps alive.
struct StreamState {
    node: Arc<Node>,
    done: bool,
}

/// The column as a stream of one chunk.
pub fn stream(node: &Arc<Node>) -> Stream {
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
    c"metadata of more than 2**31 - 1 bytes".as_ptr()
}

unsafe extern "C" fn release_stream(stream: *mut Stream) {
    // SAFETY: called once with a struct that `stream` above filled.
    let stream = unsafe { &mut *stream };
    // SAFETY: `private_data` is the box that `stream` above leaked, not freed before.
    drop(unsafe { Box::from_raw(stream.private_data.cast::<StreamState>()) });
    stream.release = None;
}
