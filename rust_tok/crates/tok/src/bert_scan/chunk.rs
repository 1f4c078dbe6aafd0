//! Where words stand in some kilobytes of text: 64 bytes at a time, as bits.

/// Text that is looked at in one go: with its bits it stays in the first-level cache.
pub(super) const CHUNK: usize = 4096;
const BLOCK: usize = 64;
const NUM_BLOCKS: usize = CHUNK / BLOCK;
/// Bytes of bits, and one more block's so that eight can be read at any place.
const NUM_BIT_BYTES: usize = CHUNK / 8 + 16;

/// What stands where in a chunk; see [`Chunk::scan`].
#[derive(Debug)]
pub(super) struct Chunk {
    /// The text, ASCII letters lowercased if that was asked for, and what lay here before.
    bytes: [u8; CHUNK + BLOCK],
    /// A bit where a word or a punctuation character begins.
    starts: [u64; NUM_BLOCKS],
    /// A bit where a byte does not continue a word.
    breaks: [u8; NUM_BIT_BYTES],
    /// A bit where a byte is odd.
    odd: [u8; NUM_BIT_BYTES],
    num_blocks: usize,
    has_odd: bool,
}

impl Default for Chunk {
    fn default() -> Self {
        Self {
            bytes: [0; CHUNK + BLOCK],
            starts: [0; NUM_BLOCKS],
            breaks: [0; NUM_BIT_BYTES],
            odd: [0; NUM_BIT_BYTES],
            num_blocks: 0,
            has_odd: false,
        }
    }
}

/// Bits of 64 bytes. A byte without a bit is a blank.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Masks {
    /// ASCII letters and digits.
    word: u64,
    /// ASCII punctuation.
    punctuation: u64,
    /// Control characters, and bytes of characters that are not ASCII.
    odd: u64,
}

impl Chunk {
    /// Looks at the first [`CHUNK`] bytes of a text, and returns how many of them are whole
    /// words: a word at the end of the chunk that may go on behind it is left out. None are if
    /// all is one word.
    pub(super) fn scan(&mut self, text: &[u8], lowercase: bool) -> usize {
        let len = text.len().min(CHUNK);
        let (blocks, rest) = text[..len].as_chunks::<BLOCK>();
        let fold = if lowercase { 0x20 } else { 0 };
        let (mut before, mut odd) = (0, 0);
        for (number, block) in blocks.iter().enumerate() {
            odd |= self.block(number, block, fold, &mut before);
        }
        self.num_blocks = blocks.len();
        if !rest.is_empty() {
            let mut last = [b' '; BLOCK];
            last[..rest.len()].copy_from_slice(rest);
            odd |= self.block(self.num_blocks, &last, fold, &mut before);
            self.num_blocks += 1;
        }
        put(&mut self.breaks, self.num_blocks, u64::MAX);
        put(&mut self.odd, self.num_blocks, 0);
        self.has_odd = odd != 0;
        if len < text.len() && before != 0 {
            return self.leave_out_last();
        }
        len
    }

    #[inline]
    fn block(&mut self, number: usize, block: &[u8; BLOCK], fold: u8, before: &mut u64) -> u64 {
        let masks = masks(block);
        for (lower, &byte) in self.bytes[number * BLOCK..][..BLOCK].iter_mut().zip(block) {
            *lower = byte | if byte.is_ascii_uppercase() { fold } else { 0 };
        }
        let runs = masks.word | masks.odd;
        let starts = masks.punctuation | (runs & !(runs << 1 | *before));
        *before = runs >> 63;
        self.starts[number] = starts;
        put(&mut self.breaks, number, starts | !runs);
        put(&mut self.odd, number, masks.odd);
        masks.odd
    }

    fn leave_out_last(&mut self) -> usize {
        while let Some(last) = self.num_blocks.checked_sub(1) {
            let starts = &mut self.starts[last];
            if *starts != 0 {
                let bit = 63 - starts.leading_zeros() as usize;
                *starts &= !(1 << bit);
                return last * BLOCK + bit;
            }
            self.num_blocks = last;
        }
        0
    }

    /// Bits where words begin, by blocks of 64.
    #[inline]
    pub(super) fn starts(&self) -> &[u64] {
        &self.starts[..self.num_blocks]
    }

    /// Length of the word that begins here, or more than 57 for one that is longer than that.
    #[inline]
    pub(super) fn short_len(&self, start: usize) -> usize {
        1 + bits(&self.breaks, start + 1).trailing_zeros() as usize
    }

    /// Length of the word that begins here.
    pub(super) fn len(&self, start: usize) -> usize {
        let mut at = start + 1;
        loop {
            match bits(&self.breaks, at).trailing_zeros() {
                64 => at += 57,
                more => return at + more as usize - start,
            }
        }
    }

    /// Whether any of the first `len` bytes from here is odd.
    #[inline]
    pub(super) fn any_odd(&self, start: usize, len: usize) -> bool {
        let mut at = start;
        self.has_odd
            && loop {
                let odd = bits(&self.odd, at);
                let left = start + len - at;
                if left <= 57 {
                    return odd & ((1 << left) - 1) != 0;
                }
                if odd & ((1 << 57) - 1) != 0 {
                    return true;
                }
                at += 57;
            }
    }

    /// Bytes of the chunk.
    #[inline]
    pub(super) fn bytes(&self, start: usize, len: usize) -> &[u8] {
        &self.bytes[start..start + len]
    }

    /// Bytes of the chunk from here on; those behind the text are anything.
    #[inline]
    pub(super) fn rest(&self, start: usize) -> &[u8] {
        &self.bytes[start..]
    }

    /// Sixteen bytes of the chunk; those behind the text are anything.
    #[inline]
    pub(super) fn sixteen(&self, start: usize) -> &[u8; 16] {
        const NONE: &[u8; 16] = &[0; 16];
        self.bytes[start..].first_chunk().unwrap_or(NONE)
    }
}

#[inline]
fn put(bytes: &mut [u8; NUM_BIT_BYTES], number: usize, bits: u64) {
    bytes[number * 8..][..8].copy_from_slice(&bits.to_le_bytes());
}

/// At least 57 bits from here on.
#[inline]
fn bits(bytes: &[u8; NUM_BIT_BYTES], place: usize) -> u64 {
    const NONE: &[u8; 8] = &[0; 8];
    let eight = bytes[place / 8..].first_chunk().unwrap_or(NONE);
    u64::from_le_bytes(*eight) >> (place % 8)
}

/// The classes of 64 bytes.
#[cfg(target_arch = "x86_64")]
#[inline]
fn masks(block: &[u8; BLOCK]) -> Masks {
    use std::arch::x86_64::*;
    let mut masks = Masks::default();
    for (number, sixteen) in block.as_chunks::<16>().0.iter().enumerate() {
        let [low, high] = halves(sixteen);
        // SAFETY: SSE2 belongs to every x86-64.
        let (word, punctuation, odd) = unsafe {
            let v = _mm_set_epi64x(high, low);
            let all = |byte: u8| _mm_set1_epi8(byte as i8);
            let in_range = |v, first: u8, last: u8| {
                let offset = _mm_sub_epi8(v, all(first));
                _mm_cmpeq_epi8(_mm_min_epu8(offset, all(last - first)), offset)
            };
            let letter = in_range(_mm_or_si128(v, all(0x20)), b'a', b'z');
            let word = _mm_or_si128(letter, in_range(v, b'0', b'9'));
            let printed = in_range(v, b'!', b'~');
            // Tab and carriage return differ in one bit.
            let tab = _mm_cmpeq_epi8(_mm_or_si128(v, all(4)), all(b'\r'));
            let line = _mm_or_si128(tab, _mm_cmpeq_epi8(v, all(b'\n')));
            let blank = _mm_or_si128(line, _mm_cmpeq_epi8(v, all(b' ')));
            (
                _mm_movemask_epi8(word),
                _mm_movemask_epi8(_mm_andnot_si128(word, printed)),
                !_mm_movemask_epi8(_mm_or_si128(printed, blank)),
            )
        };
        let place = |mask: i32| u64::from(mask as u16) << (16 * number);
        masks.word |= place(word);
        masks.punctuation |= place(punctuation);
        masks.odd |= place(odd);
    }
    masks
}

#[cfg(target_arch = "x86_64")]
#[inline]
fn halves(bytes: &[u8; 16]) -> [i64; 2] {
    let whole = u128::from_le_bytes(*bytes);
    [whole as i64, (whole >> 64) as i64]
}

/// The classes of 64 bytes.
#[cfg(not(target_arch = "x86_64"))]
fn masks(block: &[u8; BLOCK]) -> Masks {
    masks_by_definition(block)
}

#[cfg(any(test, not(target_arch = "x86_64")))]
fn masks_by_definition(block: &[u8; BLOCK]) -> Masks {
    let mut masks = Masks::default();
    for (place, &byte) in block.iter().enumerate() {
        let bit = |is: bool| u64::from(is) << place;
        let blank = matches!(byte, b'\t' | b'\n' | b'\r' | b' ');
        masks.word |= bit(byte.is_ascii_alphanumeric());
        masks.punctuation |= bit(byte.is_ascii_punctuation());
        masks.odd |= bit(!byte.is_ascii_graphic() && !blank);
    }
    masks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_the_class_of_its_definition() {
        for first in (0..=255).step_by(BLOCK) {
            let block = std::array::from_fn(|place| (first + place) as u8);
            assert_eq!(masks(&block), masks_by_definition(&block));
        }
    }

    fn words(chunk: &Chunk) -> Vec<(usize, usize)> {
        let mut words = Vec::new();
        for (number, &starts) in chunk.starts().iter().enumerate() {
            for bit in (0..BLOCK).filter(|bit| starts >> bit & 1 == 1) {
                let start = number * BLOCK + bit;
                words.push((start, chunk.len(start)));
            }
        }
        words
    }

    #[test]
    fn words_are_found_across_blocks_and_left_out_at_the_end() {
        let mut chunk = Chunk::default();
        for gap in 1..200 {
            let text = format!(
                "{}{}.{}",
                "a".repeat(gap),
                " ".repeat(gap),
                "B1".repeat(gap)
            );
            assert_eq!(chunk.scan(text.as_bytes(), true), text.len());
            assert_eq!(
                words(&chunk),
                [(0, gap), (2 * gap, 1), (2 * gap + 1, 2 * gap)]
            );
            assert_eq!(chunk.bytes(2 * gap + 1, 2), b"b1");
        }
        let text = format!("x{}", " word".repeat(2000));
        let done = chunk.scan(text.as_bytes(), false);
        assert_eq!(
            done,
            CHUNK - CHUNK % 5 + 2 - if CHUNK % 5 < 2 { 5 } else { 0 }
        );
        assert_eq!(words(&chunk).last(), Some(&(done - 5, 4)));
        assert_eq!(chunk.scan("a".repeat(CHUNK + 1).as_bytes(), false), 0);
        assert_eq!(chunk.scan("a".repeat(CHUNK).as_bytes(), false), CHUNK);
        assert_eq!(words(&chunk), [(0, CHUNK)]);
    }
}
