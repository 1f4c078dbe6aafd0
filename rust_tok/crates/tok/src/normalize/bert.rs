use super::push_lower;
use crate::unicode::{self, flag, normal_form::Decomposer};

/// The normalizer of the original BERT, with the switches of its `tokenizer.json` section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BertNormalizer {
    /// Drop control characters, make every white space a blank.
    pub clean_text: bool,
    /// Put blanks around ideographs.
    pub handle_chinese_chars: bool,
    /// Drop nonspacing marks after canonical decomposition; `None` follows `lowercase`.
    pub strip_accents: Option<bool>,
    /// Lowercase, character by character.
    pub lowercase: bool,
}

impl BertNormalizer {
    /// Every switch as in the published uncased or cased models.
    pub fn new(lowercase: bool) -> Self {
        Self {
            clean_text: true,
            handle_chinese_chars: true,
            strip_accents: None,
            lowercase,
        }
    }

    /// Whether accents are dropped.
    pub fn strips_accents(&self) -> bool {
        self.strip_accents.unwrap_or(self.lowercase)
    }

    /// Appends the normalized text to `out`.
    pub fn normalize_into(&self, text: &str, out: &mut String) {
        out.reserve(text.len());
        let mut decomposer = Decomposer::default();
        let strips = self.strips_accents();
        let mut emit = |c: char| {
            if strips && !c.is_ascii() && unicode::is(c, flag::NONSPACING) {
                return;
            }
            if self.lowercase {
                push_lower(c, out);
            } else {
                out.push(c);
            }
        };
        let mut take = |c: char| {
            if strips {
                decomposer.push(c, false, &mut emit);
            } else {
                emit(c);
            }
        };
        for c in text.chars() {
            let found = unicode::record(c);
            if self.clean_text && found.is(flag::REMOVED) {
                continue;
            }
            if self.clean_text && found.is(flag::BLANK) {
                take(' ');
            } else if self.handle_chinese_chars && found.is(flag::IDEOGRAPH) {
                take(' ');
                take(c);
                take(' ');
            } else {
                take(c);
            }
        }
        decomposer.finish(emit);
    }
}
