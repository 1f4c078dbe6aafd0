//! 64 bytes at once: which of them are letters, digits, white space, and so on, one bit each.
//!
//! On x86-64 the widest of AVX-512, AVX2 and SSE2 that the machine has; elsewhere plain Rust. All
//! give the same bits. What uses them is a [`Kernel`], compiled once for each [`Level`].

use std::sync::LazyLock;

/// Bytes of a block.
pub(crate) const BLOCK: usize = 64;

/// Classes of a block's ASCII bytes; bit n is byte n.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct AsciiBits {
    /// `A-Z a-z`
    pub(crate) letters: u64,
    /// `0-9`
    pub(crate) numbers: u64,
    /// Tab to carriage return, and the blank.
    pub(crate) spaces: u64,
    /// The blank alone.
    pub(crate) blanks: u64,
    /// `'`
    pub(crate) apostrophes: u64,
    /// Bytes that are not ASCII.
    pub(crate) high: u64,
}

/// Some of the 64 values that the lowest six bits of a byte may have: those whose bits are set.
pub(crate) type Low6 = u64;

/// A way to look at bytes.
pub(crate) trait Simd: Copy {
    /// Classes of 64 bytes.
    fn classify(self, block: &[u8; BLOCK]) -> AsciiBits;

    /// The bytes that a character of several bytes starts with.
    fn leads(self, block: &[u8; BLOCK]) -> u64;

    /// The bytes that are equal to this one.
    fn equal(self, block: &[u8; BLOCK], byte: u8) -> u64;

    /// The bytes whose lowest six bits are in the set.
    fn within(self, block: &[u8; BLOCK], set: Low6) -> u64;

    /// Stores `base` and the place of each set bit, and returns their number; what lies behind them
    /// becomes anything.
    #[inline(always)]
    fn places(self, base: u32, mut bits: u64, places: &mut [u32; ROOM]) -> usize {
        let num = bits.count_ones() as usize;
        // Eight at a time: how many there are is chance, and a branch for each would be mispredicted.
        for eight in places.as_chunks_mut::<8>().0.iter_mut() {
            for place in eight {
                *place = base.wrapping_add(bits.trailing_zeros());
                bits &= bits.wrapping_sub(1);
            }
            if bits == 0 {
                break;
            }
        }
        num
    }
}

/// Room that [`Simd::places`] takes: 64 places, and a store of 16 behind the last.
pub(crate) const ROOM: usize = BLOCK + 16;

/// Plain Rust.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Portable;

impl Simd for Portable {
    #[inline(always)]
    fn classify(self, block: &[u8; BLOCK]) -> AsciiBits {
        let bits = |is: fn(u8) -> bool| gather(block, |byte| u64::from(is(byte)));
        AsciiBits {
            letters: bits(|byte| byte.is_ascii_alphabetic()),
            numbers: bits(|byte| byte.is_ascii_digit()),
            spaces: bits(|byte| matches!(byte, b'\t'..=b'\r' | b' ')),
            blanks: bits(|byte| byte == b' '),
            apostrophes: bits(|byte| byte == b'\''),
            high: bits(|byte| !byte.is_ascii()),
        }
    }

    #[inline(always)]
    fn leads(self, block: &[u8; BLOCK]) -> u64 {
        gather(block, |byte| u64::from(byte >= 0xC0))
    }

    #[inline(always)]
    fn equal(self, block: &[u8; BLOCK], byte: u8) -> u64 {
        gather(block, |other| u64::from(other == byte))
    }

    #[inline(always)]
    fn within(self, block: &[u8; BLOCK], set: Low6) -> u64 {
        gather(block, |byte| set >> (byte & 0x3F) & 1)
    }
}

/// A bit for each byte of the block.
#[inline(always)]
fn gather(block: &[u8; BLOCK], bit: impl Fn(u8) -> u64) -> u64 {
    let mut bits = 0;
    for (place, &byte) in block.iter().enumerate() {
        bits |= bit(byte) << place;
    }
    bits
}

/// Something to run with the widest instructions of the machine.
pub(crate) trait Kernel {
    /// What it gives.
    type Output;

    /// Is to be `#[inline(always)]`, with all that it calls in its loops: only what is inlined is
    /// compiled for the level.
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}

/// The widest instructions of this machine.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Level {
    /// Plain Rust.
    #[cfg_attr(all(target_arch = "x86_64", not(miri), not(test)), expect(dead_code))]
    Portable,
    #[cfg(target_arch = "x86_64")]
    Sse2(Sse2),
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
}

impl Level {
    /// Asks the machine, the first time.
    pub(crate) fn detect() -> Self {
        static LEVEL: LazyLock<Level> = LazyLock::new(Level::ask);
        *LEVEL
    }

    fn ask() -> Self {
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        {
            if let Some(simd) = Avx512::new() {
                return Self::Avx512(simd);
            }
            match Avx2::new() {
                Some(simd) => Self::Avx2(simd),
                None => Self::Sse2(Sse2::new()),
            }
        }
        #[cfg(not(all(target_arch = "x86_64", not(miri))))]
        Self::Portable
    }

    /// All that this machine has.
    #[cfg(test)]
    pub(crate) fn all() -> Vec<Self> {
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        {
            let mut levels = vec![Self::Portable, Self::Sse2(Sse2::new())];
            levels.extend(Avx2::new().map(Self::Avx2));
            levels.extend(Avx512::new().map(Self::Avx512));
            levels
        }
        #[cfg(not(all(target_arch = "x86_64", not(miri))))]
        vec![Self::Portable]
    }

    /// Runs the kernel that was compiled for this level.
    #[inline]
    pub(crate) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        match self {
            Self::Portable => kernel.run(Portable),
            #[cfg(target_arch = "x86_64")]
            Self::Sse2(simd) => kernel.run(simd),
            // SAFETY: a value of `Avx2` or `Avx512` is made only where the machine has all of the
            // features that these functions enable.
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(simd) => unsafe { x86::run_avx2(kernel, simd) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(simd) => unsafe { x86::run_avx512(kernel, simd) },
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{AsciiBits, BLOCK, Kernel, Low6, Portable, ROOM, Simd};

    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
    pub(super) fn run_avx2<K: Kernel>(kernel: K, simd: Avx2) -> K::Output {
        kernel.run(simd)
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx2,bmi1,bmi2,lzcnt,popcnt")]
    pub(super) fn run_avx512<K: Kernel>(kernel: K, simd: Avx512) -> K::Output {
        kernel.run(simd)
    }

    /// Every x86-64 has it.
    #[derive(Clone, Copy, Debug)]
    pub(crate) struct Sse2(());

    impl Sse2 {
        pub(crate) fn new() -> Self {
            Self(())
        }
    }

    impl Simd for Sse2 {
        #[inline(always)]
        fn classify(self, block: &[u8; BLOCK]) -> AsciiBits {
            let mut bits = AsciiBits::default();
            let (quarters, _) = block.as_chunks::<16>();
            for (quarter, shift) in quarters.iter().zip([0, 16, 32, 48]) {
                // SAFETY: SSE2 is part of x86-64; the load reads the 16 bytes of `quarter`.
                let found = unsafe {
                    let bytes = _mm_loadu_si128(quarter.as_ptr().cast());
                    let below = |low: u8, count: u8| {
                        // Unsigned `byte - low < count`, by the signed comparison that there is.
                        let moved = _mm_sub_epi8(bytes, _mm_set1_epi8(low.wrapping_add(128) as i8));
                        _mm_cmplt_epi8(moved, _mm_set1_epi8(count.wrapping_add(128) as i8))
                    };
                    let small = _mm_or_si128(bytes, _mm_set1_epi8(0x20));
                    let moved = _mm_sub_epi8(small, _mm_set1_epi8(b'a'.wrapping_add(128) as i8));
                    let letters =
                        _mm_cmplt_epi8(moved, _mm_set1_epi8(26u8.wrapping_add(128) as i8));
                    let blanks = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(b' ' as i8));
                    let marks = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(b'\'' as i8));
                    let mask = |lanes| u64::from(_mm_movemask_epi8(lanes) as u16);
                    AsciiBits {
                        letters: mask(letters),
                        numbers: mask(below(b'0', 10)),
                        spaces: mask(_mm_or_si128(blanks, below(b'\t', 5))),
                        blanks: mask(blanks),
                        apostrophes: mask(marks),
                        high: mask(bytes),
                    }
                };
                bits.letters |= found.letters << shift;
                bits.numbers |= found.numbers << shift;
                bits.spaces |= found.spaces << shift;
                bits.blanks |= found.blanks << shift;
                bits.apostrophes |= found.apostrophes << shift;
                bits.high |= found.high << shift;
            }
            bits
        }

        #[inline(always)]
        fn leads(self, block: &[u8; BLOCK]) -> u64 {
            Portable.leads(block)
        }

        #[inline(always)]
        fn equal(self, block: &[u8; BLOCK], byte: u8) -> u64 {
            Portable.equal(block, byte)
        }

        #[inline(always)]
        fn within(self, block: &[u8; BLOCK], set: Low6) -> u64 {
            Portable.within(block, set)
        }
    }

    /// By the lowest three bits of a byte, the bit of a byte of a [`Low6`] that tells of it.
    const BITS: u64 = 0x8040_2010_0804_0201;

    /// Proof that the machine has AVX2 and the bit instructions of its time.
    #[derive(Clone, Copy, Debug)]
    pub(crate) struct Avx2(());

    impl Avx2 {
        pub(crate) fn new() -> Option<Self> {
            (is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("bmi1")
                && is_x86_feature_detected!("bmi2")
                && is_x86_feature_detected!("lzcnt")
                && is_x86_feature_detected!("popcnt"))
            .then_some(Self(()))
        }
    }

    impl Simd for Avx2 {
        #[inline(always)]
        fn classify(self, block: &[u8; BLOCK]) -> AsciiBits {
            // SAFETY: a value of this type proves that the machine has AVX2; the loads read the two
            // halves of `block`.
            unsafe {
                let low = _mm256_loadu_si256(block.as_ptr().cast());
                let high = _mm256_loadu_si256(block[32..].as_ptr().cast());
                let mask = |low, high| {
                    let low = _mm256_movemask_epi8(low) as u32;
                    let high = _mm256_movemask_epi8(high) as u32;
                    u64::from(low) | u64::from(high) << 32
                };
                let below = |bytes, first: u8, count: u8| {
                    let moved = _mm256_sub_epi8(bytes, _mm256_set1_epi8(first as i8));
                    let capped = _mm256_min_epu8(moved, _mm256_set1_epi8(count as i8 - 1));
                    _mm256_cmpeq_epi8(moved, capped)
                };
                let letters = |bytes| {
                    let small = _mm256_or_si256(bytes, _mm256_set1_epi8(0x20));
                    below(small, b'a', 26)
                };
                let equal =
                    |bytes, byte: u8| _mm256_cmpeq_epi8(bytes, _mm256_set1_epi8(byte as i8));
                let blanks = mask(equal(low, b' '), equal(high, b' '));
                AsciiBits {
                    letters: mask(letters(low), letters(high)),
                    numbers: mask(below(low, b'0', 10), below(high, b'0', 10)),
                    spaces: mask(below(low, b'\t', 5), below(high, b'\t', 5)) | blanks,
                    blanks,
                    apostrophes: mask(equal(low, b'\''), equal(high, b'\'')),
                    high: mask(low, high),
                }
            }
        }

        #[inline(always)]
        fn leads(self, block: &[u8; BLOCK]) -> u64 {
            // SAFETY: a value of this type proves that the machine has AVX2; the loads read the two
            // halves of `block`.
            unsafe {
                let found = |half: &[u8]| {
                    let bytes = _mm256_loadu_si256(half.as_ptr().cast());
                    let least = _mm256_max_epu8(bytes, _mm256_set1_epi8(0xC0_u8 as i8));
                    u64::from(_mm256_movemask_epi8(_mm256_cmpeq_epi8(bytes, least)) as u32)
                };
                found(&block[..32]) | found(&block[32..]) << 32
            }
        }

        #[inline(always)]
        fn equal(self, block: &[u8; BLOCK], byte: u8) -> u64 {
            // SAFETY: a value of this type proves that the machine has AVX2; the loads read the two
            // halves of `block`.
            unsafe {
                let found = |half: &[u8]| {
                    let bytes = _mm256_loadu_si256(half.as_ptr().cast());
                    let equal = _mm256_cmpeq_epi8(bytes, _mm256_set1_epi8(byte as i8));
                    u64::from(_mm256_movemask_epi8(equal) as u32)
                };
                found(&block[..32]) | found(&block[32..]) << 32
            }
        }

        #[inline(always)]
        fn within(self, block: &[u8; BLOCK], set: Low6) -> u64 {
            // SAFETY: a value of this type proves that the machine has AVX2; the loads read the two
            // halves of `block`.
            unsafe {
                let found = |half: &[u8]| {
                    let bytes = _mm256_loadu_si256(half.as_ptr().cast());
                    let eighth = _mm256_srli_epi16::<3>(bytes);
                    let eighth = _mm256_and_si256(eighth, _mm256_set1_epi8(7));
                    let eighth = _mm256_shuffle_epi8(_mm256_set1_epi64x(set as i64), eighth);
                    let bit = _mm256_and_si256(bytes, _mm256_set1_epi8(7));
                    let bit = _mm256_shuffle_epi8(_mm256_set1_epi64x(BITS as i64), bit);
                    let is = _mm256_cmpeq_epi8(_mm256_and_si256(eighth, bit), bit);
                    u64::from(_mm256_movemask_epi8(is) as u32)
                };
                found(&block[..32]) | found(&block[32..]) << 32
            }
        }
    }

    /// Proof that the machine has AVX-512 for bytes.
    #[derive(Clone, Copy, Debug)]
    pub(crate) struct Avx512(());

    impl Avx512 {
        pub(crate) fn new() -> Option<Self> {
            (Avx2::new().is_some()
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl"))
            .then_some(Self(()))
        }
    }

    impl Simd for Avx512 {
        #[inline(always)]
        fn classify(self, block: &[u8; BLOCK]) -> AsciiBits {
            // SAFETY: a value of this type proves that the machine has AVX-512 F and BW; the load
            // reads the 64 bytes of `block`.
            unsafe {
                let bytes = _mm512_loadu_si512(block.as_ptr().cast());
                let below = |bytes, first: u8, count: u8| {
                    let moved = _mm512_sub_epi8(bytes, _mm512_set1_epi8(first as i8));
                    _mm512_cmplt_epu8_mask(moved, _mm512_set1_epi8(count as i8))
                };
                let equal = |byte: u8| _mm512_cmpeq_epi8_mask(bytes, _mm512_set1_epi8(byte as i8));
                let small = _mm512_or_si512(bytes, _mm512_set1_epi8(0x20));
                let blanks = equal(b' ');
                AsciiBits {
                    letters: below(small, b'a', 26),
                    numbers: below(bytes, b'0', 10),
                    spaces: below(bytes, b'\t', 5) | blanks,
                    blanks,
                    apostrophes: equal(b'\''),
                    high: _mm512_movepi8_mask(bytes),
                }
            }
        }

        #[inline(always)]
        fn leads(self, block: &[u8; BLOCK]) -> u64 {
            // SAFETY: a value of this type proves that the machine has AVX-512 F and BW; the load
            // reads the 64 bytes of `block`.
            unsafe {
                let bytes = _mm512_loadu_si512(block.as_ptr().cast());
                _mm512_cmpge_epu8_mask(bytes, _mm512_set1_epi8(0xC0_u8 as i8))
            }
        }

        #[inline(always)]
        fn equal(self, block: &[u8; BLOCK], byte: u8) -> u64 {
            // SAFETY: a value of this type proves that the machine has AVX-512 F and BW; the load
            // reads the 64 bytes of `block`.
            unsafe {
                let bytes = _mm512_loadu_si512(block.as_ptr().cast());
                _mm512_cmpeq_epi8_mask(bytes, _mm512_set1_epi8(byte as i8))
            }
        }

        #[inline(always)]
        fn places(self, base: u32, bits: u64, places: &mut [u32; ROOM]) -> usize {
            let mut num = 0;
            // SAFETY: a value of this type proves that the machine has AVX-512 F; before each store,
            // at most 48 places are filled, and it fills 16 of 80.
            unsafe {
                let mut lanes = _mm512_add_epi32(
                    _mm512_set1_epi32(base as i32),
                    _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0),
                );
                for quarter in [0, 16, 32, 48] {
                    let mask = (bits >> quarter) as u16;
                    let packed = _mm512_maskz_compress_epi32(mask, lanes);
                    _mm512_storeu_si512(places.as_mut_ptr().add(num).cast(), packed);
                    num += mask.count_ones() as usize;
                    lanes = _mm512_add_epi32(lanes, _mm512_set1_epi32(16));
                }
            }
            num
        }

        #[inline(always)]
        fn within(self, block: &[u8; BLOCK], set: Low6) -> u64 {
            // SAFETY: a value of this type proves that the machine has AVX-512 F and BW; the load
            // reads the 64 bytes of `block`.
            unsafe {
                let bytes = _mm512_loadu_si512(block.as_ptr().cast());
                let eighth = _mm512_srli_epi16::<3>(bytes);
                let eighth = _mm512_and_si512(eighth, _mm512_set1_epi8(7));
                let eighth = _mm512_shuffle_epi8(_mm512_set1_epi64(set as i64), eighth);
                let bit = _mm512_and_si512(bytes, _mm512_set1_epi8(7));
                let bit = _mm512_shuffle_epi8(_mm512_set1_epi64(BITS as i64), bit);
                _mm512_test_epi8_mask(eighth, bit)
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{Avx2, Avx512, Sse2};
