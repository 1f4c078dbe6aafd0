use std::arch::x86_64::*;

use super::Simd;

/// AVX-512 F, BW, DQ and VL; with `BF16` its instructions for bfloat16 too, which take denormal
/// numbers for 0.
#[derive(Clone, Copy)]
pub(crate) struct Avx512<const BF16: bool>;

/// Rounded to bfloat16, in the lower half of every lane.
#[inline(always)]
unsafe fn rounded(x: __m512) -> __m512i {
    // SAFETY: as the caller promises.
    unsafe {
        let bits = _mm512_castps_si512(x);
        let high = _mm512_srli_epi32::<16>(bits);
        let odd = _mm512_and_si512(high, _mm512_set1_epi32(1));
        let bias = _mm512_add_epi32(odd, _mm512_set1_epi32(0x7FFF));
        let rounded = _mm512_srli_epi32::<16>(_mm512_add_epi32(bits, bias));
        let quiet = _mm512_or_si512(high, _mm512_set1_epi32(0x40));
        let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(x, x);
        _mm512_mask_mov_epi32(rounded, nan, quiet)
    }
}

/// Pair l is lane l of the first half of 32 16-bit numbers and lane l of the second half.
const HALVES_TO_PAIRS: [i16; 32] = {
    let mut places = [0; 32];
    let mut i = 0;
    while i < 32 {
        places[i] = (i as i16 % 2) * 16 + i as i16 / 2;
        i += 1;
    }
    places
};

// SAFETY of every block below: the trait's contract, which says that the CPU has the instructions
// and that pointers are good for a whole vector.
#[allow(clippy::undocumented_unsafe_blocks)]
impl<const BF16: bool> Simd for Avx512<BF16> {
    const LANES: usize = 16;
    const TILE: usize = 4;
    const MULTIPLIES_PAIRS: bool = BF16;
    type F = __m512;
    type I = __m512i;
    type M = __mmask16;

    #[inline(always)]
    unsafe fn splat(x: f32) -> __m512 {
        unsafe { _mm512_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> __m512 {
        unsafe { _mm512_loadu_ps(p) }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, x: __m512) {
        unsafe { _mm512_storeu_ps(p, x) }
    }
    #[inline(always)]
    unsafe fn load_bf16(p: *const u16) -> __m512 {
        unsafe {
            let wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(p.cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide))
        }
    }
    #[inline(always)]
    unsafe fn store_bf16(p: *mut u16, x: __m512) {
        unsafe {
            let narrow = if BF16 {
                std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(x))
            } else {
                _mm512_cvtepi32_epi16(rounded(x))
            };
            _mm256_storeu_si256(p.cast(), narrow);
        }
    }
    #[inline(always)]
    unsafe fn store_pairs(p: *mut u32, first: __m512, second: __m512) {
        unsafe {
            let pairs = if BF16 {
                let halves = _mm512_cvtne2ps_pbh(second, first);
                let places = _mm512_loadu_si512(HALVES_TO_PAIRS.as_ptr().cast());
                _mm512_permutexvar_epi16(places, std::mem::transmute::<__m512bh, __m512i>(halves))
            } else {
                let second = _mm512_slli_epi32::<16>(rounded(second));
                _mm512_or_si512(rounded(first), second)
            };
            _mm512_storeu_si512(p.cast(), pairs);
        }
    }
    #[inline(always)]
    unsafe fn fma_pairs(a: __m512i, b: __m512i, c: __m512) -> __m512 {
        unsafe {
            if BF16 {
                return _mm512_dpbf16_ps(
                    c,
                    std::mem::transmute::<__m512i, __m512bh>(a),
                    std::mem::transmute::<__m512i, __m512bh>(b),
                );
            }
            let high = _mm512_set1_epi32(!0xFFFF);
            let first = |x| _mm512_castsi512_ps(_mm512_slli_epi32::<16>(x));
            let second = |x| _mm512_castsi512_ps(_mm512_and_si512(x, high));
            let sum = _mm512_fmadd_ps(first(a), first(b), c);
            _mm512_fmadd_ps(second(a), second(b), sum)
        }
    }
    #[inline(always)]
    unsafe fn add(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_add_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn sub(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_sub_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn mul(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_mul_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn div(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_div_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn sqrt(a: __m512) -> __m512 {
        unsafe { _mm512_sqrt_ps(a) }
    }
    #[inline(always)]
    unsafe fn fma(a: __m512, b: __m512, c: __m512) -> __m512 {
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    unsafe fn max(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_max_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn min(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_min_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn round(a: __m512) -> __m512 {
        unsafe { _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a) }
    }
    #[inline(always)]
    unsafe fn times_exp2(x: __m512, n: __m512) -> __m512 {
        unsafe { _mm512_scalef_ps(x, n) }
    }
    #[inline(always)]
    unsafe fn sum(a: __m512) -> f32 {
        unsafe { _mm512_reduce_add_ps(a) }
    }
    #[inline(always)]
    unsafe fn highest(a: __m512) -> f32 {
        unsafe { _mm512_reduce_max_ps(a) }
    }
    #[inline(always)]
    unsafe fn is_negative(a: __m512) -> __mmask16 {
        unsafe { _mm512_movepi32_mask(_mm512_castps_si512(a)) }
    }
    #[inline(always)]
    unsafe fn select(m: __mmask16, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_mask_blend_ps(m, b, a) }
    }
    #[inline(always)]
    unsafe fn splat_int(x: u32) -> __m512i {
        unsafe { _mm512_set1_epi32(x.cast_signed()) }
    }
    #[inline(always)]
    unsafe fn load_int(p: *const u32) -> __m512i {
        unsafe { _mm512_loadu_si512(p.cast()) }
    }
    #[inline(always)]
    unsafe fn add_int(a: __m512i, b: __m512i) -> __m512i {
        unsafe { _mm512_add_epi32(a, b) }
    }
    #[inline(always)]
    unsafe fn xor_int(a: __m512i, b: __m512i) -> __m512i {
        unsafe { _mm512_xor_si512(a, b) }
    }
    #[inline(always)]
    unsafe fn mul_int(a: __m512i, b: __m512i) -> __m512i {
        unsafe { _mm512_mullo_epi32(a, b) }
    }
    #[inline(always)]
    unsafe fn shift_right<const N: u32>(a: __m512i) -> __m512i {
        unsafe { _mm512_srli_epi32::<N>(a) }
    }
    #[inline(always)]
    unsafe fn transpose(from: *const f32, pitch: usize, to: *mut f32, to_pitch: usize) {
        unsafe {
            let mut r = [_mm512_setzero_ps(); 16];
            for (row, line) in r.iter_mut().enumerate() {
                *line = _mm512_loadu_ps(from.add(row * pitch));
            }
            let mut t = r;
            for i in 0..8 {
                t[2 * i] = _mm512_unpacklo_ps(r[2 * i], r[2 * i + 1]);
                t[2 * i + 1] = _mm512_unpackhi_ps(r[2 * i], r[2 * i + 1]);
            }
            // Afterwards lane l of vector 4 i + j holds column 4 l + j of rows 4 i to 4 i + 3.
            for i in 0..4 {
                let (a, b) = (_mm512_castps_pd(t[4 * i]), _mm512_castps_pd(t[4 * i + 2]));
                r[4 * i] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
                r[4 * i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
                let (a, b) = (
                    _mm512_castps_pd(t[4 * i + 1]),
                    _mm512_castps_pd(t[4 * i + 3]),
                );
                r[4 * i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
                r[4 * i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
            }
            for j in 0..4 {
                let even = _mm512_shuffle_f32x4::<0x88>(r[j], r[4 + j]);
                let more_even = _mm512_shuffle_f32x4::<0x88>(r[8 + j], r[12 + j]);
                let odd = _mm512_shuffle_f32x4::<0xDD>(r[j], r[4 + j]);
                let more_odd = _mm512_shuffle_f32x4::<0xDD>(r[8 + j], r[12 + j]);
                let to = to.add(j * to_pitch);
                let step = 4 * to_pitch;
                _mm512_storeu_ps(to, _mm512_shuffle_f32x4::<0x88>(even, more_even));
                _mm512_storeu_ps(to.add(step), _mm512_shuffle_f32x4::<0x88>(odd, more_odd));
                _mm512_storeu_ps(
                    to.add(2 * step),
                    _mm512_shuffle_f32x4::<0xDD>(even, more_even),
                );
                _mm512_storeu_ps(
                    to.add(3 * step),
                    _mm512_shuffle_f32x4::<0xDD>(odd, more_odd),
                );
            }
        }
    }
    #[inline(always)]
    unsafe fn below(bits: __m512i, limit: i16) -> (__mmask16, __mmask16) {
        unsafe {
            let kept = _mm512_cmplt_epi16_mask(bits, _mm512_set1_epi16(limit));
            ((kept & 0xFFFF) as __mmask16, (kept >> 16) as __mmask16)
        }
    }
}
