//! The Arrow C data interface: its three structs, and what holds them.
//!
//! The format is the one of the Arrow specification ("The Arrow C data interface", "The Arrow C
//! stream interface", "The Arrow PyCapsule interface").

#![expect(missing_docs, reason = "the fields and methods of the specification")]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr;

use tok::{Error, Result};

/// `struct ArrowSchema`: a type.
#[repr(C)]
#[derive(Debug)]
pub struct Schema {
    pub format: *const c_char,
    pub name: *const c_char,
    pub metadata: *const c_char,
    pub flags: i64,
    pub n_children: i64,
    pub children: *mut *mut Schema,
    pub dictionary: *mut Schema,
    pub release: Option<unsafe extern "C" fn(*mut Schema)>,
    pub private_data: *mut c_void,
}

/// `struct ArrowArray`: a column's buffers.
#[repr(C)]
#[derive(Debug)]
pub struct Array {
    pub length: i64,
    pub null_count: i64,
    pub offset: i64,
    pub n_buffers: i64,
    pub n_children: i64,
    pub buffers: *mut *const c_void,
    pub children: *mut *mut Array,
    pub dictionary: *mut Array,
    pub release: Option<unsafe extern "C" fn(*mut Array)>,
    pub private_data: *mut c_void,
}

/// `struct ArrowArrayStream`: columns one after the other.
#[repr(C)]
#[derive(Debug)]
pub struct Stream {
    pub get_schema: Option<unsafe extern "C" fn(*mut Stream, *mut Schema) -> c_int>,
    pub get_next: Option<unsafe extern "C" fn(*mut Stream, *mut Array) -> c_int>,
    pub get_last_error: Option<unsafe extern "C" fn(*mut Stream) -> *const c_char>,
    pub release: Option<unsafe extern "C" fn(*mut Stream)>,
    pub private_data: *mut c_void,
}

/// What the three structs share: an empty state, and a release of what they hold.
pub trait Interface: Sized + 'static {
    /// Name of the capsule that carries it.
    const CAPSULE: &'static CStr;

    /// Holds nothing.
    fn empty() -> Self;

    /// Lets go of what it holds; nothing the second time.
    fn release(&mut self);
}

macro_rules! interface {
    ($type:ty, $capsule:literal, $empty:expr) => {
        impl Interface for $type {
            const CAPSULE: &'static CStr = $capsule;

            fn empty() -> Self {
                $empty
            }

            fn release(&mut self) {
                if let Some(release) = self.release {
                    // SAFETY: the producer's callback, called once with the struct it filled:
                    // it sets `release` to null.
                    unsafe { release(self) };
                }
            }
        }

        impl Drop for $type {
            fn drop(&mut self) {
                Interface::release(self);
            }
        }

        // SAFETY: the specification lets a struct be moved and released in any thread, and what
        // it points to does not change while it is held.
        unsafe impl Send for $type {}
        // SAFETY: as above; shared access only reads.
        unsafe impl Sync for $type {}
    };
}

interface!(
    Schema,
    c"arrow_schema",
    Self {
        format: ptr::null(),
        name: ptr::null(),
        metadata: ptr::null(),
        flags: 0,
        n_children: 0,
        children: ptr::null_mut(),
        dictionary: ptr::null_mut(),
        release: None,
        private_data: ptr::null_mut(),
    }
);
interface!(
    Array,
    c"arrow_array",
    Self {
        length: 0,
        null_count: 0,
        offset: 0,
        n_buffers: 0,
        n_children: 0,
        buffers: ptr::null_mut(),
        children: ptr::null_mut(),
        dictionary: ptr::null_mut(),
        release: None,
        private_data: ptr::null_mut(),
    }
);
interface!(
    Stream,
    c"arrow_array_stream",
    Self {
        get_schema: None,
        get_next: None,
        get_last_error: None,
        release: None,
        private_data: ptr::null_mut(),
    }
);

impl Stream {
    /// The type of the columns.
    pub fn schema(&mut self) -> Result<Schema> {
        let mut schema = Schema::empty();
        if let Some(get_schema) = self.get_schema {
            // SAFETY: the producer's callback with its own stream and a struct to fill.
            let code = unsafe { get_schema(self, &mut schema) };
            self.check(code)?;
        }
        Ok(schema)
    }

    /// The next column; `None` at the end.
    pub fn next_chunk(&mut self) -> Result<Option<Array>> {
        let mut array = Array::empty();
        if let Some(get_next) = self.get_next {
            // SAFETY: the producer's callback with its own stream and a struct to fill.
            let code = unsafe { get_next(self, &mut array) };
            self.check(code)?;
        }
        Ok(array.release.is_some().then_some(array))
    }

    fn check(&mut self, code: c_int) -> Result<()> {
        if code == 0 {
            return Ok(());
        }
        let message = self.get_last_error.map(|get_last_error| {
            // SAFETY: the producer's callback with its own stream.
            let text = unsafe { get_last_error(self) };
            if text.is_null() {
                return None;
            }
            // SAFETY: not null, so a C string that is valid until the next call.
            let text = unsafe { CStr::from_ptr(text) };
            Some(text.to_string_lossy().into_owned())
        });
        let message = message.flatten().unwrap_or_else(|| format!("error {code}"));
        Err(Error::Argument(format!(
            "the Arrow stream failed: {message}"
        )))
    }
}
