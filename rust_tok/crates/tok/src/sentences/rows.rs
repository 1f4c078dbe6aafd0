//! The sentences of many texts at once, on all threads.

use std::borrow::Cow;
use std::ops::Range;

use rayon::prelude::*;

use crate::batch::{self, Rows};
use crate::{Error, Result, threads};

/// Text of one task.
const TASK_BYTES: usize = 1 << 18;
/// Text between two looks at whether the caller wants to stop.
const ROUND_BYTES: usize = 64 << 20;

/// Sentences of many rows, as the buffers of a column of lists of strings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sentences {
    /// The text of all rows; a null has none.
    pub text: Vec<u8>,
    /// Where each sentence ends in the text.
    pub ends: Vec<i64>,
    /// Where each row ends among the sentences.
    pub rows: Vec<i64>,
    /// False for a null.
    pub valid: Vec<bool>,
}

/// How texts are split into sentences.
#[derive(Clone, Copy, Debug)]
pub struct SentenceOptions {
    /// A full stop behind an abbreviation doesn't end a sentence.
    pub abbreviations: bool,
    /// A sentence is one line: without the white space (ASCII's) at its ends, and with a blank for each
    /// line's end. Nothing may be left of one.
    pub one_line: bool,
}

/// Splits all rows. `interrupted` is asked between rounds, in the calling thread.
pub fn split_rows(
    texts: &impl Rows,
    options: SentenceOptions,
    interrupted: impl Fn() -> bool,
) -> Result<Sentences> {
    let mut all = Sentences::default();
    for round in batch::stretches(texts, 0..texts.len(), ROUND_BYTES) {
        if interrupted() {
            return Err(Error::Interrupted);
        }
        if threads::count() == 1 {
            all.text.reserve(texts.weight_of(round.clone()));
            all.split(texts, round, options)?;
            continue;
        }
        let tasks: Vec<_> = batch::stretches(texts, round, TASK_BYTES).collect();
        let split = |rows: Range<usize>| {
            let mut part = Sentences::default();
            part.split(texts, rows, options).map(|()| part)
        };
        let parts: Result<Vec<Sentences>> =
            threads::install(|| tasks.into_par_iter().map(split).collect());
        for part in parts? {
            all.append(&part);
        }
    }
    Ok(all)
}

impl Sentences {
    fn split(
        &mut self,
        texts: &impl Rows,
        rows: Range<usize>,
        options: SentenceOptions,
    ) -> Result<()> {
        for row in rows {
            let text = texts.get(row)?;
            self.valid.push(text.is_some());
            if let Some((text, _)) = text {
                if options.one_line {
                    self.add_lines(text, options.abbreviations);
                } else {
                    self.add(text, options.abbreviations);
                }
            }
            self.rows.push(self.ends.len() as i64);
        }
        Ok(())
    }

    fn add(&mut self, text: &str, abbreviations: bool) {
        let start = self.text.len();
        self.text.extend_from_slice(text.as_bytes());
        super::split(text, abbreviations, |end| {
            self.ends.push((start + end) as i64);
        });
    }

    fn add_lines(&mut self, text: &str, abbreviations: bool) {
        let text = if text.contains('\r') {
            Cow::Owned(text.replace("\r\n", "\n"))
        } else {
            Cow::Borrowed(text)
        };
        let place = self.text.len();
        let mut rest = text.as_bytes();
        let mut start = 0;
        super::split(&text, abbreviations, |end| {
            let (sentence, behind) = rest.split_at(end - start);
            (rest, start) = (behind, end);
            self.text.extend_from_slice(trimmed(sentence));
            self.ends.push(self.text.len() as i64);
        });
        // Written whether it changes or not: the compiler makes vectors of this.
        for byte in &mut self.text[place..] {
            *byte = match *byte {
                b'\n' | b'\r' => b' ',
                other => other,
            };
        }
    }

    fn append(&mut self, part: &Self) {
        let (text, sentences) = (self.text.len() as i64, self.ends.len() as i64);
        self.text.extend_from_slice(&part.text);
        self.ends.extend(part.ends.iter().map(|end| end + text));
        self.rows
            .extend(part.rows.iter().map(|row| row + sentences));
        self.valid.extend_from_slice(&part.valid);
    }
}

/// Without ASCII's white space at both ends, the vertical tab included.
fn trimmed(mut text: &[u8]) -> &[u8] {
    while let [b'\t'..=b'\r' | b' ', rest @ ..] = text {
        text = rest;
    }
    while let [rest @ .., b'\t'..=b'\r' | b' '] = text {
        text = rest;
    }
    text
}
