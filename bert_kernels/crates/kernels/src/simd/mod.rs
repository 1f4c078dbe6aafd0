//! One set of vector operations for every instruction set, chosen when the program runs.
//!
//! A kernel is written once, generic over [`Simd`], and compiled once per instruction set.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;

#[cfg(target_arch = "x86_64")]
pub(crate) use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) use avx512::Avx512;
pub(crate) use portable::Portable;

/// Vectors of float32 and of 32-bit integers, `LANES` of them.
///
/// # Safety
///
/// Every function needs the CPU to have the instruction set, and pointers to `LANES` elements that
/// may be read or written (`keep` and the reductions take registers only).
pub(crate) trait Simd: Copy + 'static {
    /// Elements of a vector.
    const LANES: usize;
    /// Vectors side by side in a register tile of a matrix product.
    const TILE: usize;
    /// Whether `fma_pairs` is one instruction, so that products of bfloat16 are best left in it.
    const MULTIPLIES_PAIRS: bool = false;
    type F: Copy;
    type I: Copy;
    type M: Copy;

    unsafe fn splat(x: f32) -> Self::F;
    unsafe fn load(p: *const f32) -> Self::F;
    unsafe fn store(p: *mut f32, x: Self::F);
    unsafe fn load_bf16(p: *const u16) -> Self::F;
    /// Rounds to the nearest, ties to even; NaN stays NaN; denormal numbers may become 0.
    unsafe fn store_bf16(p: *mut u16, x: Self::F);
    /// Writes pairs of bfloat16, rounded alike, the first ones into the lower halves.
    unsafe fn store_pairs(p: *mut u32, first: Self::F, second: Self::F);
    /// a₀ b₀ + a₁ b₁ + c of pairs of bfloat16 and float32
    unsafe fn fma_pairs(a: Self::I, b: Self::I, c: Self::F) -> Self::F;
    unsafe fn add(a: Self::F, b: Self::F) -> Self::F;
    unsafe fn sub(a: Self::F, b: Self::F) -> Self::F;
    unsafe fn mul(a: Self::F, b: Self::F) -> Self::F;
    unsafe fn div(a: Self::F, b: Self::F) -> Self::F;
    unsafe fn sqrt(a: Self::F) -> Self::F;
    /// a b + c
    unsafe fn fma(a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// The greater one; b if either is NaN.
    unsafe fn max(a: Self::F, b: Self::F) -> Self::F;
    /// The smaller one; b if either is NaN.
    unsafe fn min(a: Self::F, b: Self::F) -> Self::F;
    unsafe fn round(a: Self::F) -> Self::F;
    /// x times 2 to the power of n, an integral number in [-126, 127].
    unsafe fn times_exp2(x: Self::F, n: Self::F) -> Self::F;
    unsafe fn sum(a: Self::F) -> f32;
    unsafe fn highest(a: Self::F) -> f32;
    unsafe fn is_negative(a: Self::F) -> Self::M;
    /// a where the mask is set, else b.
    unsafe fn select(m: Self::M, a: Self::F, b: Self::F) -> Self::F;
    unsafe fn splat_int(x: u32) -> Self::I;
    unsafe fn load_int(p: *const u32) -> Self::I;
    unsafe fn add_int(a: Self::I, b: Self::I) -> Self::I;
    unsafe fn xor_int(a: Self::I, b: Self::I) -> Self::I;
    unsafe fn mul_int(a: Self::I, b: Self::I) -> Self::I;
    unsafe fn shift_right<const N: u32>(a: Self::I) -> Self::I;
    /// Writes a block of `LANES` rows and as many columns as its transpose.
    #[inline(always)]
    unsafe fn transpose(from: *const f32, pitch: usize, to: *mut f32, to_pitch: usize) {
        for row in 0..Self::LANES {
            for column in 0..Self::LANES {
                // SAFETY: as the caller promises.
                unsafe { *to.add(column * to_pitch + row) = *from.add(row * pitch + column) };
            }
        }
    }
    /// Reads the bits as 2 `LANES` signed 16-bit numbers; which of them lie below the limit, as
    /// masks of two vectors.
    unsafe fn below(bits: Self::I, limit: i16) -> (Self::M, Self::M);
}
