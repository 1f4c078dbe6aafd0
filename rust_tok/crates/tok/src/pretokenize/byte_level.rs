//! GPT-2's pieces, found without a regular expression engine:
//! `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`,
//! and the characters that stand for bytes in vocabularies of byte-level BPE.

use crate::unicode::{self, flag};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Letter,
    Number,
    Space,
    Other,
}

#[inline]
fn class(c: char) -> Class {
    let found = unicode::record(c);
    if found.is(flag::LETTER) {
        Class::Letter
    } else if found.is(flag::NUMBER) {
        Class::Number
    } else if found.is(flag::SPLIT_SPACE) {
        Class::Space
    } else {
        Class::Other
    }
}

/// Calls `piece` with each piece of the text, in order; together they are the text.
pub fn split<'t>(text: &'t str, mut piece: impl FnMut(&'t str)) {
    let mut rest = text;
    while !rest.is_empty() {
        let (head, tail) = rest.split_at(first_piece(rest));
        piece(head);
        rest = tail;
    }
}

/// Length in bytes of the first piece of a text that is not empty.
fn first_piece(text: &str) -> usize {
    if let Some(len) = contraction(text.as_bytes()) {
        return len;
    }
    let mut chars = text.chars();
    let Some(first) = chars.next() else { return 0 };
    // A blank joins the run behind it; any other white space doesn't.
    let (lead, run_class) = match (first, chars.next().map(class)) {
        (' ', Some(next)) if next != Class::Space => (1, next),
        _ => (0, class(first)),
    };
    let run = &text[lead..];
    let end = run.find(|c| class(c) != run_class);
    match (run_class, end) {
        (_, None) => text.len(),
        // `\s+(?!\S)`: before a word, white space leaves its last character to it.
        (Class::Space, Some(end)) => {
            let last = run[..end].chars().next_back().map_or(0, char::len_utf8);
            if end > last { end - last } else { end }
        }
        (_, Some(end)) => lead + end,
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
