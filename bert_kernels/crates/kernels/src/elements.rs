//! What tensors hold: float32, or bfloat16 as its 16 bits.

use crate::simd::Simd;

/// A number format of activations; all arithmetic is in float32.
pub trait Element: Copy + Default + Send + Sync + Vector + 'static {
    /// Whether it is bfloat16.
    const IS_BF16: bool;
    /// The number.
    fn widen(self) -> f32;
}

/// Vectors of a format.
#[allow(private_interfaces, private_bounds)]
pub trait Vector: Sized {
    #[doc(hidden)]
    #[allow(clippy::missing_safety_doc)]
    unsafe fn load<S: Simd>(p: *const Self) -> S::F;
    #[doc(hidden)]
    #[allow(clippy::missing_safety_doc)]
    unsafe fn store<S: Simd>(p: *mut Self, x: S::F);
}

/// bfloat16.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Bf16(pub u16);

impl Element for f32 {
    const IS_BF16: bool = false;

    #[inline(always)]
    fn widen(self) -> f32 {
        self
    }
}

impl Element for Bf16 {
    const IS_BF16: bool = true;

    #[inline(always)]
    fn widen(self) -> f32 {
        f32::from_bits(u32::from(self.0) << 16)
    }
}

#[allow(private_interfaces, private_bounds)]
impl Vector for f32 {
    #[inline(always)]
    unsafe fn load<S: Simd>(p: *const Self) -> S::F {
        // SAFETY: as the caller promises.
        unsafe { S::load(p) }
    }
    #[inline(always)]
    unsafe fn store<S: Simd>(p: *mut Self, x: S::F) {
        // SAFETY: as the caller promises.
        unsafe { S::store(p, x) }
    }
}

#[allow(private_interfaces, private_bounds)]
impl Vector for Bf16 {
    #[inline(always)]
    unsafe fn load<S: Simd>(p: *const Self) -> S::F {
        // SAFETY: as the caller promises.
        unsafe { S::load_bf16(p.cast()) }
    }
    #[inline(always)]
    unsafe fn store<S: Simd>(p: *mut Self, x: S::F) {
        // SAFETY: as the caller promises.
        unsafe { S::store_bf16(p.cast(), x) }
    }
}

/// Lanes of the widest vector.
const WIDEST: usize = 16;

/// Loads a vector of which only the first `count` elements exist; zeros follow them.
///
/// # Safety
///
/// The instruction set is there and `count` elements (at most `LANES` are looked at) can be read.
#[inline(always)]
pub(crate) unsafe fn load_some<S: Simd, E: Element>(p: *const E, count: usize) -> S::F {
    // SAFETY: as the caller promises; the buffer is as long as the widest vector.
    unsafe {
        if count >= S::LANES {
            return E::load::<S>(p);
        }
        let mut buffer = [E::default(); WIDEST];
        std::ptr::copy_nonoverlapping(p, buffer.as_mut_ptr(), count);
        E::load::<S>(buffer.as_ptr())
    }
}

/// Stores the first `count` elements of a vector, all if there are more.
///
/// # Safety
///
/// The instruction set is there and `count` elements (at most `LANES`) can be written.
#[inline(always)]
pub(crate) unsafe fn store_some<S: Simd, E: Element>(p: *mut E, x: S::F, count: usize) {
    // SAFETY: as the caller promises; the buffer is as long as the widest vector.
    unsafe {
        if count >= S::LANES {
            E::store::<S>(p, x);
            return;
        }
        let mut buffer = [E::default(); WIDEST];
        E::store::<S>(buffer.as_mut_ptr(), x);
        std::ptr::copy_nonoverlapping(buffer.as_ptr(), p, count);
    }
}
