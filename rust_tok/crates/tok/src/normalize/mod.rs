//! Normalizers: what a tokenizer does to a text before it looks for words.

mod bert;

use std::borrow::Cow;

pub use bert::BertNormalizer;

use crate::unicode::{self, Form, flag};

/// A normalizer of a `tokenizer.json` file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Normalizer {
    /// BERT's cleaning, splitting of ideographs, stripping of accents, lowercasing.
    Bert(BertNormalizer),
    /// One of the Unicode normalization forms.
    Form(Form),
    /// Lowercase, character by character.
    Lowercase,
    /// Drops combining marks.
    StripAccents,
    /// One after the other.
    Sequence(Vec<Normalizer>),
}

impl Normalizer {
    /// The normalized text; borrowed where nothing was done.
    pub fn normalize<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let mut out = String::new();
        match self {
            Self::Sequence(steps) => {
                let mut current = Cow::Borrowed(text);
                for step in steps {
                    if let Cow::Owned(changed) = step.normalize(&current) {
                        current = Cow::Owned(changed);
                    }
                }
                return current;
            }
            Self::Bert(bert) => bert.normalize_into(text, &mut out),
            Self::Form(_) | Self::StripAccents if text.is_ascii() => return Cow::Borrowed(text),
            Self::Form(form) => unicode::normalize_into(text, *form, &mut out),
            Self::Lowercase => text.chars().for_each(|c| push_lower(c, &mut out)),
            Self::StripAccents => {
                out.extend(text.chars().filter(|&c| !unicode::is(c, flag::MARK)));
            }
        }
        Cow::Owned(out)
    }
}

#[inline]
fn push_lower(c: char, out: &mut String) {
    if c.is_ascii() {
        out.push(c.to_ascii_lowercase());
    } else {
        match unicode::record(c).lower() {
            Some(lower) => out.push_str(lower),
            None => out.push(c),
        }
    }
}
