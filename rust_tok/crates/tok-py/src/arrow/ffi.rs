//! The Arrow C data interface: its three structs, and what holds them.
//!
//! The format is the one of the Arrow specification ("The Arrow C data interface", "The Arrow C
//! stream interface", "The Arrow PyCapsule interface").

use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyCapsule;

/// `struct ArrowSchema`: a type.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Schema {
    pub(crate) format: *const c_char,
    pub(crate) name: *const c_char,
    pub(crate) metadata: *const c_char,
    pub(crate) flags: i64,
    pub(crate) n_children: i64,
    pub(crate) children: *mut *mut Schema,
    pub(crate) dictionary: *mut Schema,
    pub(crate) release: Option<unsafe extern "C" fn(*mut Schema)>,
    pub(crate) private_data: *mut c_void,
}

/// `struct ArrowArray`: a column's buffers.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Array {
    pub(crate) length: i64,
    pub(crate) null_count: i64,
    pub(crate) offset: i64,
    pub(crate) n_buffers: i64,
    pub(crate) n_children: i64,
    pub(crate) buffers: *mut *const c_void,
    pub(crate) children: *mut *mut Array,
    pub(crate) dictionary: *mut Array,
    pub(crate) release: Option<unsafe extern "C" fn(*mut Array)>,
    pub(crate) private_data: *mut c_void,
}

/// `struct ArrowArrayStream`: columns one after the other.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) get_schema: Option<unsafe extern "C" fn(*mut Stream, *mut Schema) -> c_int>,
    pub(crate) get_next: Option<unsafe extern "C" fn(*mut Stream, *mut Array) -> c_int>,
    pub(crate) get_last_error: Option<unsafe extern "C" fn(*mut Stream) -> *const c_char>,
    pub(crate) release: Option<unsafe extern "C" fn(*mut Stream)>,
    pub(crate) private_data: *mut c_void,
}

/// What the three structs share: an empty state, and a release of what they hold.
pub(crate) trait Interface: Sized + 'static {
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

/// Takes the struct out of a capsule, which is left empty.
pub(crate) fn take<T: Interface>(capsule: &Bound<'_, PyAny>) -> PyResult<T> {
    let capsule = capsule.cast::<PyCapsule>()?;
    let held = capsule.pointer_checked(Some(T::CAPSULE))?.cast::<T>();
    // SAFETY: a capsule of this name points to a struct of this type, and the specification
    // makes taking it over by a move the consumer's right.
    Ok(unsafe { ptr::replace(held.as_ptr(), T::empty()) })
}

/// Puts a struct into a capsule, which releases it if nobody takes it.
pub(crate) fn give<T: Interface + Send>(py: Python<'_>, held: T) -> PyResult<Bound<'_, PyCapsule>> {
    PyCapsule::new_with_value(py, held, T::CAPSULE)
}

impl Stream {
    /// The type of the columns.
    pub(crate) fn schema(&mut self) -> PyResult<Schema> {
        let mut schema = Schema::empty();
        if let Some(get_schema) = self.get_schema {
            // SAFETY: the producer's callback with its own stream and a struct to fill.
            let code = unsafe { get_schema(self, &mut schema) };
            self.check(code)?;
        }
        Ok(schema)
    }

    /// The next column; `None` at the end.
    pub(crate) fn next(&mut self) -> PyResult<Option<Array>> {
        let mut array = Array::empty();
        if let Some(get_next) = self.get_next {
            // SAFETY: the producer's callback with its own stream and a struct to fill.
            let code = unsafe { get_next(self, &mut array) };
            self.check(code)?;
        }
        Ok(array.release.is_some().then_some(array))
    }

    fn check(&mut self, code: c_int) -> PyResult<()> {
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
        Err(PyValueError::new_err(format!(
            "the Arrow stream failed: {message}"
        )))
    }
}
