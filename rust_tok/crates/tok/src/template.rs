//! Where special tokens stand around one text or two.

use crate::{Error, Result};

/// A part of a finished sequence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// The ids of the first text.
    First,
    /// The ids of the second text.
    Second,
    /// Special tokens.
    Special(Vec<u32>),
}

/// The layout of a single text and of a pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    /// For one text.
    pub single: Vec<Part>,
    /// For two texts.
    pub pair: Vec<Part>,
}

impl Default for Template {
    fn default() -> Self {
        Self {
            single: vec![Part::First],
            pair: vec![Part::First, Part::Second],
        }
    }
}

impl Template {
    /// The parts for a call.
    pub fn parts(&self, is_pair: bool) -> &[Part] {
        if is_pair { &self.pair } else { &self.single }
    }

    /// Number of special tokens around a single text or a pair.
    pub fn num_special(&self, is_pair: bool) -> usize {
        let parts = self.parts(is_pair).iter();
        parts
            .map(|part| match part {
                Part::Special(ids) => ids.len(),
                Part::First | Part::Second => 0,
            })
            .sum()
    }
}

/// How many ids of a text, or of each of two, are kept within `room`.
///
/// A pair is cut longest first, by the rule of `tokenizers`: the shorter text is whole while it
/// fits beside an equally long rest of the other; else both get half, the longer one the odd id.
pub fn truncated(first: usize, second: Option<usize>, room: usize) -> (usize, usize) {
    let Some(second) = second else {
        return (first.min(room), 0);
    };
    if first + second <= room {
        return (first, second);
    }
    let (short, long) = (first.min(second), first.max(second));
    let long = if short > room {
        short
    } else {
        short.max(room - short).min(long)
    };
    let (short, long) = if short + long > room {
        (room / 2, room / 2 + room % 2)
    } else {
        (short, long)
    };
    if first > second {
        (long, short)
    } else {
        (short, long)
    }
}

/// Room that special tokens leave in `max_length`.
pub fn room(max_length: usize, num_special: usize) -> Result<usize> {
    max_length.checked_sub(num_special).ok_or_else(|| {
        Error::Argument(format!(
            "max_length {max_length} is less than the {num_special} special tokens of a sequence"
        ))
    })
}
