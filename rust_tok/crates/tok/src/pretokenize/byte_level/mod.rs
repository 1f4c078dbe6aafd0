//! GPT-2's pieces, found without a regular expression engine:
//! `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`,
//! and the characters that stand for bytes in vocabularies of byte-level BPE.

mod classes;
mod scan;
mod simd;

pub(crate) use scan::Scanner;
pub(crate) use simd::{BLOCK, Kernel, Level, ROOM, Simd};

/// Calls `piece` with each piece of the text, in order; together they are the text.
pub fn split<'t>(text: &'t str, piece: impl FnMut(&'t str)) {
    Level::detect().run(Split { text, piece });
}

struct Split<'t, F> {
    text: &'t str,
    piece: F,
}

impl<'t, F: FnMut(&'t str)> Kernel for Split<'t, F> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) {
        let mut scanner = Scanner::new(self.text, simd);
        let mut done = 0;
        while let Some((base, mut starts)) = scanner.next() {
            while starts != 0 {
                let start = base + starts.trailing_zeros() as usize;
                starts &= starts - 1;
                if start > 0 {
                    (self.piece)(&self.text[done..start]);
                }
                done = start;
            }
        }
        if done < self.text.len() {
            (self.piece)(&self.text[done..]);
        }
    }
}

/// Length of `'s 't 'm 'd 're 've 'll` at the start, if one stands there.
#[inline]
fn contraction(text: &[u8]) -> Option<usize> {
    match text {
        [b'\'', b's' | b't' | b'm' | b'd', ..] => Some(2),
        [b'\'', b'r' | b'v', b'e', ..] | [b'\'', b'l', b'l', ..] => Some(3),
        _ => None,
    }
}

/// The character that stands for each byte in a byte-level vocabulary.
pub const BYTE_TO_CHAR: [char; 256] = {
    let mut table = ['\0'; 256];
    let (mut byte, mut moved) = (0, 0);
    while byte < 256 {
        let code = byte as u32;
        let code = match code {
            0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF => code,
            _ => {
                moved += 1;
                0xFF + moved
            }
        };
        table[byte] = match char::from_u32(code) {
            Some(c) => c,
            None => '\0',
        };
        byte += 1;
    }
    table
};

/// The byte that a character stands for; `None` for a character outside of the alphabet.
#[inline]
pub fn char_to_byte(c: char) -> Option<u8> {
    const CHAR_TO_BYTE: [Option<u8>; 0x144] = {
        let mut table = [None; 0x144];
        let mut byte = 0;
        while byte < 256 {
            table[BYTE_TO_CHAR[byte] as usize] = Some(byte as u8);
            byte += 1;
        }
        table
    };
    CHAR_TO_BYTE.get(c as usize).copied().flatten()
}

#[cfg(test)]
mod tests;
