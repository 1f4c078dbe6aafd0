//! The sentences of many texts at once, on all threads.

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

/// Splits all rows. `interrupted` is asked between rounds, in the calling thread.
pub fn split_rows(
    texts: &impl Rows,
    abbreviations: bool,
    interrupted: impl Fn() -> bool,
) -> Result<Sentences> {
    let mut all = Sentences::default();
    let mut round = 0..0;
    while round.end < texts.len() {
        if interrupted() {
            return Err(Error::Interrupted);
        }
        round = batch::stretch(texts, round.end..texts.len(), ROUND_BYTES);
        let mut tasks = Vec::new();
        let mut task = round.start..round.start;
        while task.end < round.end {
            task = batch::stretch(texts, task.end..round.end, TASK_BYTES);
            tasks.push(task.clone());
        }
        let split = |rows: Range<usize>| split_task(texts, rows, abbreviations);
        let parts: Result<Vec<Sentences>> =
            threads::install(|| tasks.into_par_iter().map(split).collect());
        for part in parts? {
            all.append(&part);
        }
    }
    Ok(all)
}

fn split_task(texts: &impl Rows, rows: Range<usize>, abbreviations: bool) -> Result<Sentences> {
    let mut part = Sentences::default();
    for row in rows {
        let text = texts.get(row)?;
        part.valid.push(text.is_some());
        if let Some((text, _)) = text {
            let start = part.text.len();
            part.text.extend_from_slice(text.as_bytes());
            super::split(text, abbreviations, |end| {
                part.ends.push((start + end) as i64)
            });
        }
        part.rows.push(part.ends.len() as i64);
    }
    Ok(part)
}

impl Sentences {
    fn append(&mut self, part: &Self) {
        let (text, sentences) = (self.text.len() as i64, self.ends.len() as i64);
        self.text.extend_from_slice(&part.text);
        self.ends.extend(part.ends.iter().map(|end| end + text));
        self.rows
            .extend(part.rows.iter().map(|row| row + sentences));
        self.valid.extend_from_slice(&part.valid);
    }
}
