//! BERT's words: split at white space, every punctuation character a word of its own.

use crate::unicode::{self, flag};

/// Calls `word` with each word of a normalized text, in order.
pub fn split<'t>(text: &'t str, mut word: impl FnMut(&'t str)) {
    let mut start = 0;
    for (position, c) in text.char_indices() {
        let found = unicode::record(c);
        if !found.is(flag::WHITE_SPACE | flag::BERT_PUNCTUATION) {
            continue;
        }
        if start < position {
            word(&text[start..position]);
        }
        start = position + c.len_utf8();
        if found.is(flag::BERT_PUNCTUATION) {
            word(&text[position..start]);
        }
    }
    if start < text.len() {
        word(&text[start..]);
    }
}
