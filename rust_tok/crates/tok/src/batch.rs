//! Many texts at once, on all threads, into one flat list of ids.
//!
//! Workers take the next stretch of rows (about [`CHUNK_BYTES`] of text), encode it into a buffer
//! of their own, and hand it in; whoever hands in the stretch whose turn it is copies it and those
//! that waited to the output. A buffer is used again, so that the memory of a call is its output
//! and some chunks, and the order of the output does not depend on the threads.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard};

use crate::tokenizer::{EncodeOptions, Scratch, Tokenizer};
use crate::vocab::Id;
use crate::{Error, Result, threads};

/// Text of one stretch of rows.
const CHUNK_BYTES: usize = 128 << 10;
/// Text between two looks at whether the caller wants to stop.
const ROUND_BYTES: usize = 64 << 20;

/// Rows of text that threads can read.
pub trait Rows: Sync {
    /// Number of rows.
    fn len(&self) -> usize;

    /// True when there is no row.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of text in a row, without looking at the text.
    fn weight(&self, row: usize) -> usize;

    /// The text of a row, and its pair; `None` for a null.
    fn get(&self, row: usize) -> Result<Option<(&str, Option<&str>)>>;
}

/// Ids of many rows, one after the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lists<I> {
    /// All ids.
    pub ids: Vec<I>,
    /// Ids of each row; none for a null.
    pub lengths: Vec<u32>,
}

impl<I: Id> Lists<I> {
    fn append(&mut self, other: &Self) {
        self.ids.extend_from_slice(&other.ids);
        self.lengths.extend_from_slice(&other.lengths);
    }

    fn clear(&mut self) {
        self.ids.clear();
        self.lengths.clear();
    }

    /// The ids of each row.
    pub fn iter(&self) -> impl Iterator<Item = &[I]> {
        let mut rest = self.ids.as_slice();
        self.lengths.iter().map(move |&length| {
            let (row, tail) = rest.split_at(length as usize);
            rest = tail;
            row
        })
    }
}

/// Encodes all rows. `interrupted` is asked between rounds, in the calling thread.
pub fn encode_rows<I: Id>(
    tokenizer: &Tokenizer,
    rows: &impl Rows,
    options: EncodeOptions,
    interrupted: impl Fn() -> bool,
) -> Result<Lists<I>> {
    let mut lists = Lists {
        ids: Vec::new(),
        lengths: Vec::with_capacity(rows.len()),
    };
    let mut cursor = 0;
    while cursor < rows.len() {
        if interrupted() {
            return Err(Error::Interrupted);
        }
        let round = stretch(rows, cursor..rows.len(), ROUND_BYTES);
        cursor = round.end;
        lists = encode_round(tokenizer, rows, options, round, lists)?;
    }
    lists.ids.shrink_to_fit();
    Ok(lists)
}

/// The first rows of a range that hold about this much text.
pub(crate) fn stretch(rows: &impl Rows, range: Range<usize>, bytes: usize) -> Range<usize> {
    let mut weight = 0;
    let mut end = range.start;
    while end < range.end && weight < bytes {
        weight += rows.weight(end) + 1;
        end += 1;
    }
    range.start..end
}

fn encode_stretch<I: Id>(
    tokenizer: &Tokenizer,
    rows: &impl Rows,
    options: EncodeOptions,
    range: Range<usize>,
    scratch: &mut Scratch,
    lists: &mut Lists<I>,
) -> Result<()> {
    for row in range {
        let start = lists.ids.len();
        if let Some((text, pair)) = rows.get(row)? {
            tokenizer.encode_into(text, pair, options, scratch, &mut lists.ids)?;
        }
        let length = u32::try_from(lists.ids.len() - start)
            .map_err(|_| Error::Argument(format!("row {row} has more than {} ids", u32::MAX)))?;
        lists.lengths.push(length);
    }
    Ok(())
}

fn encode_round<I: Id>(
    tokenizer: &Tokenizer,
    rows: &impl Rows,
    options: EncodeOptions,
    round: Range<usize>,
    mut lists: Lists<I>,
) -> Result<Lists<I>> {
    let small = stretch(rows, round.clone(), CHUNK_BYTES) == round;
    let alone = small || threads::count() == 1;
    let pool = if alone { None } else { threads::pool() };
    let Some(pool) = pool else {
        return tokenizer.with_scratch(|scratch| {
            encode_stretch(tokenizer, rows, options, round, scratch, &mut lists)?;
            Ok(lists)
        });
    };
    let work = Mutex::new(Work {
        number: 0,
        rest: round,
    });
    let assembly = Mutex::new(Assembly {
        lists,
        next: 0,
        waiting: BTreeMap::new(),
        spare: Vec::new(),
        failure: None,
    });
    pool.broadcast(|_| {
        tokenizer.with_scratch(|scratch| {
            let mut chunk = Lists::default();
            while let Some((number, range)) = take(rows, &work) {
                let done = encode_stretch(tokenizer, rows, options, range, scratch, &mut chunk);
                let mut assembly = lock(&assembly);
                if let Err(error) = done {
                    lock(&work).rest = 0..0;
                    assembly.failure.get_or_insert(error);
                    return;
                }
                chunk = assembly.hand_in(number, chunk);
            }
        });
    });
    let assembly = assembly
        .into_inner()
        .unwrap_or_else(|error| error.into_inner());
    match assembly.failure {
        Some(error) => Err(error),
        None => Ok(assembly.lists),
    }
}

struct Work {
    number: usize,
    rest: Range<usize>,
}

fn take(rows: &impl Rows, work: &Mutex<Work>) -> Option<(usize, Range<usize>)> {
    let mut work = lock(work);
    if work.rest.is_empty() {
        return None;
    }
    let range = stretch(rows, work.rest.clone(), CHUNK_BYTES);
    work.rest.start = range.end;
    work.number += 1;
    Some((work.number - 1, range))
}

/// What was handed in so far.
struct Assembly<I> {
    lists: Lists<I>,
    /// Number of the chunk whose turn it is.
    next: usize,
    waiting: BTreeMap<usize, Lists<I>>,
    spare: Vec<Lists<I>>,
    failure: Option<Error>,
}

impl<I: Id> Assembly<I> {
    /// Takes a chunk and gives an empty one.
    fn hand_in(&mut self, number: usize, mut chunk: Lists<I>) -> Lists<I> {
        if number != self.next {
            self.waiting.insert(number, chunk);
            return self.spare.pop().unwrap_or_default();
        }
        self.lists.append(&chunk);
        self.next += 1;
        while let Some(mut waited) = self.waiting.remove(&self.next) {
            self.lists.append(&waited);
            self.next += 1;
            waited.clear();
            self.spare.push(waited);
        }
        chunk.clear();
        chunk
    }
}

/// What these locks guard is whole whenever they are let go, also by a panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|error| error.into_inner())
}

/// The texts of many rows of ids.
pub fn decode_rows(
    tokenizer: &Tokenizer,
    rows: &[Vec<u32>],
    skip_special_tokens: bool,
) -> Vec<String> {
    use rayon::prelude::*;
    let decode = |ids: &Vec<u32>| tokenizer.decode(ids, skip_special_tokens);
    threads::install(|| rows.par_iter().with_min_len(64).map(decode).collect())
}
