use super::Simd;

const N: usize = 8;

/// Arrays that the compiler vectorises for what every CPU of the target has.
#[derive(Clone, Copy)]
pub(crate) struct Portable;

#[inline(always)]
fn map(a: [f32; N], f: impl Fn(f32) -> f32) -> [f32; N] {
    a.map(f)
}

#[inline(always)]
fn zip<T: Copy, U: Copy, V>(a: [T; N], b: [U; N], f: impl Fn(T, U) -> V) -> [V; N] {
    std::array::from_fn(|i| f(a[i], b[i]))
}

/// As bfloat16.
#[inline(always)]
fn rounded(x: f32) -> u16 {
    let bits = x.to_bits();
    if x.is_nan() {
        (bits >> 16) as u16 | 0x40
    } else {
        (bits.wrapping_add(0x7FFF + ((bits >> 16) & 1)) >> 16) as u16
    }
}

// SAFETY of every block below: the trait's contract, pointers are good for a whole vector.
#[allow(clippy::undocumented_unsafe_blocks)]
impl Simd for Portable {
    const LANES: usize = N;
    const TILE: usize = 1;
    type F = [f32; N];
    type I = [u32; N];
    type M = [bool; N];

    #[inline(always)]
    unsafe fn splat(x: f32) -> [f32; N] {
        [x; N]
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> [f32; N] {
        unsafe { p.cast::<[f32; N]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, x: [f32; N]) {
        unsafe { p.cast::<[f32; N]>().write_unaligned(x) }
    }
    #[inline(always)]
    unsafe fn load_bf16(p: *const u16) -> [f32; N] {
        let bits = unsafe { p.cast::<[u16; N]>().read_unaligned() };
        bits.map(|x| f32::from_bits(u32::from(x) << 16))
    }
    #[inline(always)]
    unsafe fn store_bf16(p: *mut u16, x: [f32; N]) {
        unsafe { p.cast::<[u16; N]>().write_unaligned(x.map(rounded)) }
    }
    #[inline(always)]
    unsafe fn store_pairs(p: *mut u32, first: [f32; N], second: [f32; N]) {
        let pairs = zip(first, second, |first, second| {
            u32::from(rounded(first)) | u32::from(rounded(second)) << 16
        });
        unsafe { p.cast::<[u32; N]>().write_unaligned(pairs) }
    }
    #[inline(always)]
    unsafe fn fma_pairs(a: [u32; N], b: [u32; N], c: [f32; N]) -> [f32; N] {
        let first = |x: u32| f32::from_bits(x << 16);
        let second = |x: u32| f32::from_bits(x & !0xFFFF);
        let sum = zip(zip(a, b, |a, b| first(a) * first(b)), c, |ab, c| ab + c);
        zip(zip(a, b, |a, b| second(a) * second(b)), sum, |ab, sum| {
            ab + sum
        })
    }
    #[inline(always)]
    unsafe fn add(a: [f32; N], b: [f32; N]) -> [f32; N] {
        zip(a, b, |a, b| a + b)
    }
    #[inline(always)]
    unsafe fn sub(a: [f32; N], b: [f32; N]) -> [f32; N] {
        zip(a, b, |a, b| a - b)
    }
    #[inline(always)]
    unsafe fn mul(a: [f32; N], b: [f32; N]) -> [f32; N] {
        zip(a, b, |a, b| a * b)
    }
    #[inline(always)]
    unsafe fn div(a: [f32; N], b: [f32; N]) -> [f32; N] {
        zip(a, b, |a, b| a / b)
    }
    #[inline(always)]
    unsafe fn sqrt(a: [f32; N]) -> [f32; N] {
        map(a, f32::sqrt)
    }
    #[inline(always)]
    unsafe fn fma(a: [f32; N], b: [f32; N], c: [f32; N]) -> [f32; N] {
        // Two roundings: without the instruction `mul_add` is a library call per element.
        zip(zip(a, b, |a, b| a * b), c, |ab, c| ab + c)
    }
    #[inline(always)]
    unsafe fn max(a: [f32; N], b: [f32; N]) -> [f32; N] {
        zip(a, b, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    unsafe fn min(a: [f32; N], b: [f32; N]) -> [f32; N] {
        zip(a, b, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    unsafe fn round(a: [f32; N]) -> [f32; N] {
        // Adding 1.5 * 2^23 leaves no bits for a fraction; right for |a| < 2^22.
        map(a, |x| (x + 12_582_912.0) - 12_582_912.0)
    }
    #[inline(always)]
    unsafe fn times_exp2(x: [f32; N], n: [f32; N]) -> [f32; N] {
        zip(x, n, |x, n| {
            x * f32::from_bits(((n as i32 + 127) << 23).cast_unsigned())
        })
    }
    #[inline(always)]
    unsafe fn sum(a: [f32; N]) -> f32 {
        ((a[0] + a[4]) + (a[2] + a[6])) + ((a[1] + a[5]) + (a[3] + a[7]))
    }
    #[inline(always)]
    unsafe fn highest(a: [f32; N]) -> f32 {
        a.into_iter().fold(f32::NEG_INFINITY, f32::max)
    }
    #[inline(always)]
    unsafe fn is_negative(a: [f32; N]) -> [bool; N] {
        a.map(f32::is_sign_negative)
    }
    #[inline(always)]
    unsafe fn select(m: [bool; N], a: [f32; N], b: [f32; N]) -> [f32; N] {
        std::array::from_fn(|i| if m[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    unsafe fn splat_int(x: u32) -> [u32; N] {
        [x; N]
    }
    #[inline(always)]
    unsafe fn load_int(p: *const u32) -> [u32; N] {
        unsafe { p.cast::<[u32; N]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn add_int(a: [u32; N], b: [u32; N]) -> [u32; N] {
        zip(a, b, u32::wrapping_add)
    }
    #[inline(always)]
    unsafe fn xor_int(a: [u32; N], b: [u32; N]) -> [u32; N] {
        zip(a, b, |a, b| a ^ b)
    }
    #[inline(always)]
    unsafe fn mul_int(a: [u32; N], b: [u32; N]) -> [u32; N] {
        zip(a, b, u32::wrapping_mul)
    }
    #[inline(always)]
    unsafe fn shift_right<const BY: u32>(a: [u32; N]) -> [u32; N] {
        a.map(|x| x >> BY)
    }
    #[inline(always)]
    unsafe fn below(bits: [u32; N], limit: i16) -> ([bool; N], [bool; N]) {
        // The low half of a pair belongs to its first column.
        let kept = |column: usize| {
            let pair = bits[column / 2];
            let half = (pair >> (16 * (column % 2))) as u16;
            half.cast_signed() < limit
        };
        (
            std::array::from_fn(kept),
            std::array::from_fn(|i| kept(N + i)),
        )
    }
}
