//! What a character means for the words of a text that isn't normalized yet.

use crate::normalize::BertNormalizer;
use crate::pretokenize::bert;
use crate::unicode::{self, flag};

/// Code points that have an entry in the table: up to the last ideographs.
const NUM_ENTRIES: u32 = 0x3_3480;
/// Hangul syllables: their decompositions are computed, not in the record.
const SYLLABLES: std::ops::Range<u32> = 0xAC00..0xD7A4;

/// What a character does where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// Belongs to a word; normalization leaves it as it is.
    Plain,
    /// Normalization changes it or drops it, or moves it among others: it is dealt with together
    /// with the word around it.
    Hard,
    /// A word of its own, and left as it is.
    Alone,
    /// Splits words.
    Blank,
}

/// The class of every character under a normalizer, or under none.
#[derive(Debug)]
pub(super) struct Classes {
    table: Box<[Class]>,
    normalizer: Option<BertNormalizer>,
}

impl Classes {
    pub(super) fn new(normalizer: Option<BertNormalizer>) -> Self {
        let mut by_record = vec![None; unicode::num_records()];
        let table = (0..NUM_ENTRIES).map(|code| {
            let Some(c) = char::from_u32(code) else {
                return Class::Plain;
            };
            if SYLLABLES.contains(&code) {
                return class(c, normalizer.as_ref());
            }
            *by_record[unicode::record_number(c)]
                .get_or_insert_with(|| class(c, normalizer.as_ref()))
        });
        Self {
            table: table.collect(),
            normalizer,
        }
    }

    #[inline]
    pub(super) fn of(&self, c: char) -> Class {
        match self.table.get(c as usize) {
            Some(class) => *class,
            None => class(c, self.normalizer.as_ref()),
        }
    }
}

/// Asks the normalizer and the pre-tokenizer.
fn class(c: char, normalizer: Option<&BertNormalizer>) -> Class {
    let mut text = String::new();
    match normalizer {
        None => text.push(c),
        Some(normalizer) if normalizer.strips_accents() && unicode::record(c).rank != 0 => {
            return Class::Hard;
        }
        Some(normalizer) => normalizer.normalize_into(&c.to_string(), &mut text),
    }
    let mut name = [0; 4];
    let name = c.encode_utf8(&mut name);
    let mut words = Vec::new();
    bert::split(&text, |word| words.push(word));
    match words.as_slice() {
        [] if text.is_empty() => Class::Hard,
        [] => Class::Blank,
        [word] if *word != name => Class::Hard,
        [_] if text != *name || unicode::is(c, flag::BERT_PUNCTUATION) => Class::Alone,
        [_] => Class::Plain,
        _ => Class::Hard,
    }
}
