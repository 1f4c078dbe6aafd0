//! The four normalization forms (UAX 15) over the probed tables.

use super::{compose, record};

/// A normalization form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Canonical composition.
    Nfc,
    /// Canonical decomposition.
    Nfd,
    /// Compatibility composition.
    Nfkc,
    /// Compatibility decomposition.
    Nfkd,
}

/// Appends the normalized text to `out`.
pub fn normalize_into(text: &str, form: Form, out: &mut String) {
    let compatible = matches!(form, Form::Nfkc | Form::Nfkd);
    let mut decomposed = Decomposer::default();
    if matches!(form, Form::Nfd | Form::Nfkd) {
        for c in text.chars() {
            decomposed.push(c, compatible, |c| out.push(c));
        }
        decomposed.finish(|c| out.push(c));
    } else {
        let mut composer = Composer::default();
        for c in text.chars() {
            decomposed.push(c, compatible, |c| composer.push(c, out));
        }
        decomposed.finish(|c| composer.push(c, out));
        composer.finish(out);
    }
}

/// Decomposes characters and hands them on in canonical order.
#[derive(Default)]
pub(crate) struct Decomposer {
    /// Marks waiting for their order, with their ranks.
    marks: Vec<(u8, char)>,
}

impl Decomposer {
    /// Takes one character in; what is certain goes to `emit`.
    #[inline]
    pub(crate) fn push(&mut self, c: char, compatible: bool, mut emit: impl FnMut(char)) {
        if c.is_ascii() {
            self.finish(&mut emit);
            emit(c);
            return;
        }
        if let Some(parts) = decompose_hangul(c) {
            self.finish(&mut emit);
            parts.into_iter().flatten().for_each(emit);
            return;
        }
        let found = record(c);
        let parts = if compatible {
            found.compatible()
        } else {
            found.canonical()
        };
        match parts {
            None => self.order(c, found.rank, &mut emit),
            Some(parts) => {
                for part in parts.chars() {
                    self.order(part, record(part).rank, &mut emit);
                }
            }
        }
    }

    #[inline]
    fn order(&mut self, c: char, rank: u8, emit: &mut impl FnMut(char)) {
        if rank == 0 {
            self.finish(&mut *emit);
            emit(c);
        } else {
            self.marks.push((rank, c));
        }
    }

    /// Hands on the marks that wait. A stable sort: marks of one class keep their order.
    #[inline]
    pub(crate) fn finish(&mut self, mut emit: impl FnMut(char)) {
        if !self.marks.is_empty() {
            self.marks.sort_by_key(|&(rank, _)| rank);
            self.marks.drain(..).for_each(|(_, c)| emit(c));
        }
    }
}

/// Composes a canonically ordered stream.
#[derive(Default)]
struct Composer {
    starter: Option<char>,
    /// Marks after the starter that did not compose with it.
    marks: String,
    last_rank: u8,
}

impl Composer {
    fn push(&mut self, c: char, out: &mut String) {
        let rank = record(c).rank;
        let Some(starter) = self.starter else {
            if rank == 0 {
                self.starter = Some(c);
            } else {
                out.push(c);
            }
            return;
        };
        let blocked = !self.marks.is_empty() && (self.last_rank == 0 || self.last_rank >= rank);
        if !blocked && let Some(composed) = compose(starter, c) {
            self.starter = Some(composed);
            return;
        }
        if rank == 0 {
            self.finish(out);
            self.starter = Some(c);
        } else {
            self.marks.push(c);
            self.last_rank = rank;
        }
    }

    fn finish(&mut self, out: &mut String) {
        out.extend(self.starter.take());
        out.push_str(&self.marks);
        self.marks.clear();
        self.last_rank = 0;
    }
}

const LEADS: u32 = 0x1100;
const VOWELS: u32 = 0x1161;
const TAILS: u32 = 0x11A7;
const SYLLABLES: u32 = 0xAC00;
const NUM_LEADS: u32 = 19;
const NUM_VOWELS: u32 = 21;
const NUM_TAILS: u32 = 28;
const NUM_SYLLABLES: u32 = NUM_LEADS * NUM_VOWELS * NUM_TAILS;

fn decompose_hangul(c: char) -> Option<[Option<char>; 3]> {
    let index = (c as u32).wrapping_sub(SYLLABLES);
    if index >= NUM_SYLLABLES {
        return None;
    }
    let (lead, rest) = (
        index / (NUM_VOWELS * NUM_TAILS),
        index % (NUM_VOWELS * NUM_TAILS),
    );
    let (vowel, tail) = (rest / NUM_TAILS, rest % NUM_TAILS);
    Some([
        char::from_u32(LEADS + lead),
        char::from_u32(VOWELS + vowel),
        char::from_u32(TAILS + tail).filter(|_| tail != 0),
    ])
}

pub(super) fn compose_hangul(first: char, second: char) -> Option<char> {
    let (first, second) = (first as u32, second as u32);
    let (lead, vowel) = (first.wrapping_sub(LEADS), second.wrapping_sub(VOWELS));
    if lead < NUM_LEADS && vowel < NUM_VOWELS {
        return char::from_u32(SYLLABLES + (lead * NUM_VOWELS + vowel) * NUM_TAILS);
    }
    let (syllable, tail) = (first.wrapping_sub(SYLLABLES), second.wrapping_sub(TAILS));
    let open = syllable < NUM_SYLLABLES && syllable % NUM_TAILS == 0;
    (open && (1..NUM_TAILS).contains(&tail))
        .then(|| char::from_u32(first + tail))
        .flatten()
}
