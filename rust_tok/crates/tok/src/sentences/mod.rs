//! Sentences: where a text falls into them, by UAX 29 and a few rules on abbreviations.
//!
//! Boundaries are those of Unicode's default sentence segmentation (UAX 29, Unicode 17) with two
//! additions. A line's end inside a paragraph counts as a blank: text is often wrapped, and the
//! default rules would end a sentence at every line; a blank line still does. And a full stop behind
//! an abbreviation isn't an end ([`abbreviations`], can be switched off).
//!
//! # How it is fast
//!
//! The default rules look at every character. But a boundary needs a terminator or the end of a
//! paragraph before it, and only few bytes can begin one of these: [`candidates`] finds them, 64 bytes
//! at once, and everything else is passed over, characters of several bytes included. At a terminator
//! the rules are played out exactly, on the classes of all code points, up to the first character
//! that decides. That looks no further ahead than the next terminator, so the whole is linear.

mod abbreviations;
mod candidates;
mod classes;
mod rows;

use candidates::Candidates;
use classes::Class;
pub use rows::{SentenceOptions, Sentences, split_rows};

/// Calls `end` with the byte where each sentence of the text ends, in order. The sentences are all
/// of the text; blanks belong to the sentence before them.
pub fn split(text: &str, abbreviations: bool, mut end: impl FnMut(usize)) {
    let splitter = Splitter {
        text,
        abbreviations,
    };
    let mut candidates = Candidates::new(text);
    let (mut start, mut at) = (0, 0);
    while let Some(candidate) = candidates.next(at) {
        at = candidate;
        let Some((class, behind)) = splitter.class_at(at) else {
            break;
        };
        let boundary = if class.ends_paragraph() {
            at = behind;
            true
        } else if class.ends_sentence() {
            let decided;
            (at, decided) = splitter.after_terminator(at, class, behind);
            decided
        } else {
            at = behind;
            false
        };
        if boundary && at < text.len() {
            end(at);
            start = at;
        }
    }
    if start < text.len() {
        end(text.len());
    }
}

struct Splitter<'t> {
    text: &'t str,
    abbreviations: bool,
}

impl Splitter<'_> {
    /// The class of the character at a byte and where the next one is; a line's end is one
    /// character, and a blank inside of a paragraph.
    #[inline]
    fn class_at(&self, at: usize) -> Option<(Class, usize)> {
        let c = match *self.text.as_bytes().get(at)? {
            byte @ ..0x80 => char::from(byte),
            _ => self.text.get(at..)?.chars().next()?,
        };
        let class = Class::of(c);
        match class {
            Class::Cr | Class::Lf => Some(self.line_end(at, class)),
            _ => Some((class, at + c.len_utf8())),
        }
    }

    fn line_end(&self, at: usize, class: Class) -> (Class, usize) {
        let bytes = self.text.as_bytes();
        let behind = match (class, bytes.get(at + 1)) {
            (Class::Cr, Some(b'\n')) => at + 2,
            _ => at + 1,
        };
        let is_blank = |&&b: &&u8| b == b' ' || b == b'\t';
        let before = bytes[..at].iter().rev().find(|b| !is_blank(b));
        let after = bytes[behind..].iter().find(|b| !is_blank(b));
        let beside_blank_line = [before, after]
            .iter()
            .any(|b| matches!(b, Some(b'\n' | b'\r')));
        match beside_blank_line {
            true => (class, behind),
            false => (Class::Sp, behind),
        }
    }

    /// Passes over marks, which belong to the character before them (SB5).
    fn skip_marks(&self, mut at: usize) -> usize {
        while let Some((Class::Extend, behind)) = self.class_at(at) {
            at = behind;
        }
        at
    }

    /// Rules SB6 to SB11 for the terminator at `at`: where to go on, and whether a sentence ends
    /// there.
    fn after_terminator(&self, at: usize, terminator: Class, behind: usize) -> (usize, bool) {
        let mut next = self.skip_marks(behind);
        let (mut closes, mut spaces) = (false, false);
        let (class, behind) = loop {
            match self.class_at(next) {
                Some((Class::Close, behind)) if !spaces => {
                    closes = true;
                    next = self.skip_marks(behind);
                }
                Some((Class::Sp, behind)) => {
                    spaces = true;
                    next = self.skip_marks(behind);
                }
                Some(decisive) => break decisive,
                None => return (self.text.len(), false),
            }
        };
        if class.ends_paragraph() {
            return (behind, true);
        }
        if class == Class::SContinue || class.ends_sentence() {
            return (next, false);
        }
        if terminator == Class::STerm {
            return (next, true);
        }
        let touches = !closes && !spaces;
        let continues = touches && class == Class::Numeric
            || touches && class == Class::Upper && self.is_behind_letter(at)
            || self.lower_ahead(next)
            || self.abbreviations && !closes && spaces && self.abbreviates(at, next);
        (next, !continues)
    }

    /// Whether the character before a byte, its marks left out, has a case.
    fn is_behind_letter(&self, at: usize) -> bool {
        let mut classes = self.text[..at].chars().rev().map(Class::of);
        let base = classes.find(|&class| class != Class::Extend);
        matches!(base, Some(Class::Upper | Class::Lower))
    }

    /// Whether the first letter from here on is a lowercase one, in this sentence (SB8).
    fn lower_ahead(&self, mut at: usize) -> bool {
        while let Some((class, behind)) = self.class_at(at) {
            match class {
                Class::Lower => return true,
                Class::OLetter | Class::Upper => return false,
                _ if class.ends_paragraph() || class.ends_sentence() => return false,
                _ => at = behind,
            }
        }
        false
    }

    fn abbreviates(&self, full_stop: usize, next: usize) -> bool {
        self.text[full_stop..].starts_with('.')
            && abbreviations::continues(&self.text[..full_stop], &self.text[next..])
    }
}

#[cfg(test)]
mod tests;
