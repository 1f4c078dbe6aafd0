//! Memory of tensors, handed over as an address and a number of elements.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// A tensor's memory: (address, elements). The caller keeps it alive and to itself during the call.
pub(crate) type Memory = (usize, usize);

/// The elements of a tensor.
///
/// # Safety
///
/// The address is that of so many elements of this type, which nobody writes to during the call.
pub(crate) unsafe fn read<'a, T>(memory: Memory) -> PyResult<&'a [T]> {
    check::<T>(memory)?;
    if memory.1 == 0 {
        return Ok(&[]);
    }
    // SAFETY: as the caller promises; neither null nor misaligned.
    Ok(unsafe { std::slice::from_raw_parts(memory.0 as *const T, memory.1) })
}

/// The elements of a tensor, to be written.
///
/// # Safety
///
/// The address is that of so many elements of this type, which nobody else touches during the call.
pub(crate) unsafe fn write<'a, T>(memory: Memory) -> PyResult<&'a mut [T]> {
    check::<T>(memory)?;
    if memory.1 == 0 {
        return Ok(&mut []);
    }
    // SAFETY: as the caller promises; neither null nor misaligned.
    Ok(unsafe { std::slice::from_raw_parts_mut(memory.0 as *mut T, memory.1) })
}

fn check<T>((address, len): Memory) -> PyResult<()> {
    let fits = len
        .checked_mul(size_of::<T>())
        .is_some_and(|bytes| isize::try_from(bytes).is_ok());
    if !fits || (len > 0 && (address == 0 || !address.is_multiple_of(align_of::<T>()))) {
        return Err(PyValueError::new_err(format!(
            "{len} elements can't lie at {address:#x}"
        )));
    }
    Ok(())
}
