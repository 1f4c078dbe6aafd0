//! Many texts at once, on all threads, into one flat list of ids.
//!
//! Workers take the next stretch of rows (about [`CHUNK_BYTES`] of text) whose turn is theirs, encode it
//! into a buffer of their own, and hand it in; a row of more than [`LARGE_BYTES`] is cut into parts where that
//! changes nothing ([`Tokenizer::cut`]). Whoever hands in the stretch whose turn it is takes the next
//! places of the output for it and those that waited, and copies them there while others go on. A
//! buffer is used again and nobody runs far ahead, so that the memory of a call is its output and
//! some chunks, and the order of the output does not depend on the threads.

mod assembly;

use std::collections::VecDeque;
use std::iter;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard};

use self::assembly::{Assembly, Chunk};
use crate::id::Id;
use crate::memory::prefer_large_pages;
use crate::tokenizer::{EncodeOptions, Scratch, Side, Tokenizer};
use crate::word_cache::CachedId;
use crate::{Error, Result, threads};

/// Text of one stretch of rows.
const CHUNK_BYTES: usize = 128 << 10;
/// Text of a row that more than one thread may work on.
const LARGE_BYTES: usize = 8 * CHUNK_BYTES;
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

    /// Bytes of text in some rows, together. A column may know it without going through them.
    fn weight_of(&self, rows: Range<usize>) -> usize {
        rows.map(|row| self.weight(row)).sum()
    }

    /// The text of a row, and its pair; `None` for a null.
    fn get(&self, row: usize) -> Result<Option<(&str, Option<&str>)>>;

    /// The bytes of a row's text, which need not be checked as UTF-8; `None` for a null.
    fn bytes(&self, row: usize) -> Result<Option<&[u8]>> {
        Ok(self.get(row)?.map(|(text, _)| text.as_bytes()))
    }
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
pub fn encode_rows<I: CachedId>(
    tokenizer: &Tokenizer,
    rows: &impl Rows,
    options: EncodeOptions,
    interrupted: impl Fn() -> bool,
) -> Result<Lists<I>> {
    let mut lists = Lists {
        ids: Vec::new(),
        // One more, so that a column's offsets fit in their place.
        lengths: Vec::with_capacity(rows.len() + 1),
    };
    let mut cursor = 0;
    while cursor < rows.len() {
        if interrupted() {
            return Err(Error::Interrupted);
        }
        let rest = cursor..rows.len();
        let round = if rows.weight_of(rest.clone()) + rest.len() <= ROUND_BYTES {
            rest
        } else {
            stretch(rows, rest, ROUND_BYTES)
        };
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

/// The rows in pieces of about so much text.
pub(crate) fn stretches(
    rows: &impl Rows,
    range: Range<usize>,
    bytes: usize,
) -> impl Iterator<Item = Range<usize>> {
    let mut next = range.start;
    iter::from_fn(move || {
        let piece = stretch(rows, next..range.end, bytes);
        next = piece.end;
        (!piece.is_empty()).then_some(piece)
    })
}

fn too_many() -> Error {
    Error::Argument(format!("a row has more than {} ids", u32::MAX))
}

fn length(start: usize, end: usize) -> Result<u32> {
    u32::try_from(end - start).map_err(|_| too_many())
}

fn encode_stretch<I: CachedId>(
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
        lists.lengths.push(length(start, lists.ids.len())?);
    }
    Ok(())
}

fn encode_task<I: CachedId>(
    tokenizer: &Tokenizer,
    rows: &impl Rows,
    options: EncodeOptions,
    task: Task<'_>,
    scratch: &mut Scratch,
    chunk: &mut Chunk<I>,
) -> Result<()> {
    let lists = &mut chunk.lists;
    match task {
        Task::Rows(range) => encode_stretch(tokenizer, rows, options, range, scratch, lists),
        Task::Part(text, side) => {
            tokenizer.encode_part(text, side, options, scratch, &mut lists.ids);
            lists.lengths.push(length(0, lists.ids.len())?);
            chunk.continues = !side.is_first;
            Ok(())
        }
    }
}

fn encode_round<I: CachedId>(
    tokenizer: &Tokenizer,
    rows: &impl Rows,
    options: EncodeOptions,
    round: Range<usize>,
    mut lists: Lists<I>,
) -> Result<Lists<I>> {
    let bytes = rows.weight_of(round.clone());
    // Hardly a text has more ids than bytes. Memory that nothing is written to isn't taken from the
    // system, and what isn't needed is given back; growing in steps would copy.
    lists.ids.reserve(bytes);
    prefer_large_pages(lists.ids.spare_capacity_mut());
    let alone = bytes <= CHUNK_BYTES || threads::count() == 1;
    let pool = if alone { None } else { threads::pool() };
    let Some(pool) = pool else {
        return tokenizer.with_scratch(0, |scratch| {
            encode_stretch(tokenizer, rows, options, round, scratch, &mut lists)?;
            Ok(lists)
        });
    };
    let work = Mutex::new(Work {
        number: 0,
        rest: round,
        large: None,
        set_aside: VecDeque::new(),
        cuts: tokenizer.can_cut(options),
    });
    let Lists { mut ids, lengths } = lists;
    let assembly = Assembly::new(ids.spare_capacity_mut(), lengths);
    pool.broadcast(|thread| {
        let _abandons = assembly.abandoned_by_panic();
        let turn = Turn {
            thread: thread.index(),
            num_threads: thread.num_threads(),
        };
        tokenizer.with_scratch(turn.thread, |scratch| {
            let mut chunk = Chunk::default();
            loop {
                let taken = lock(&work).take(turn, tokenizer, rows);
                let done = taken.and_then(|taken| {
                    let Some((number, task)) = taken else {
                        return Ok(None);
                    };
                    encode_task(tokenizer, rows, options, task, scratch, &mut chunk)?;
                    Ok(Some(number))
                });
                let handed = match done {
                    Ok(None) => return,
                    Ok(Some(number)) => assembly.hand_in(number, std::mem::take(&mut chunk)),
                    Err(error) => {
                        assembly.fail(error);
                        None
                    }
                };
                let Some(empty) = handed else {
                    lock(&work).stop();
                    return;
                };
                chunk = empty;
            }
        });
    });
    let lengths = assembly.finish()?.append_to(&mut ids);
    Ok(Lists { ids, lengths })
}

/// What a thread does next.
enum Task<'r> {
    Rows(Range<usize>),
    /// A part of a large row.
    Part(&'r str, Side),
}

/// Which pieces of work a thread takes first: those whose number has its own as the remainder. So a
/// text that comes again goes to the threads that had it before and remember its words.
#[derive(Clone, Copy)]
struct Turn {
    thread: usize,
    num_threads: usize,
}

impl Turn {
    fn is_for(self, number: usize) -> bool {
        number % self.num_threads == self.thread
    }
}

/// A piece is left for the thread whose turn it is until one of so much higher a number is due. Nobody
/// waits for a piece that no thread is at work on: see [`assembly::MAX_AHEAD`].
const MAX_LAG: usize = assembly::MAX_AHEAD / 2;

struct Work<'r> {
    number: usize,
    /// For threads that are busy, in order.
    set_aside: VecDeque<(usize, Task<'r>)>,
    rest: Range<usize>,
    /// What is left of a large row, and whether nothing was taken of it yet.
    large: Option<(&'r str, bool)>,
    cuts: bool,
}

impl<'r> Work<'r> {
    /// The next piece for a thread, and its number.
    fn take(
        &mut self,
        turn: Turn,
        tokenizer: &Tokenizer,
        rows: &'r impl Rows,
    ) -> Result<Option<(usize, Task<'r>)>> {
        let own = |(number, _): &(usize, Task<'_>)| turn.is_for(*number);
        loop {
            let oldest = self.set_aside.front();
            if oldest.is_some_and(|(number, _)| number + MAX_LAG <= self.number) {
                return Ok(self.set_aside.pop_front());
            }
            if let Some(place) = self.set_aside.iter().position(own) {
                return Ok(self.set_aside.remove(place));
            }
            match self.next(tokenizer, rows)? {
                Some(next) if own(&next) => return Ok(Some(next)),
                Some(next) => self.set_aside.push_back(next),
                None => return Ok(self.set_aside.pop_front()),
            }
        }
    }

    fn next(
        &mut self,
        tokenizer: &Tokenizer,
        rows: &'r impl Rows,
    ) -> Result<Option<(usize, Task<'r>)>> {
        let task = match self.large.take() {
            Some(large) => Some(self.part(tokenizer, large)),
            None if self.rest.is_empty() => None,
            None => Some(self.rows(tokenizer, rows)?),
        };
        self.number += 1;
        Ok(task.map(|task| (self.number - 1, task)))
    }

    fn rows(&mut self, tokenizer: &Tokenizer, rows: &'r impl Rows) -> Result<Task<'r>> {
        let first = self.rest.start;
        let is_large = |row| self.cuts && rows.weight(row) > LARGE_BYTES;
        if is_large(first)
            && let Some((text, None)) = rows.get(first)?
        {
            self.rest.start += 1;
            return Ok(self.part(tokenizer, (text, true)));
        }
        let mut range = stretch(rows, self.rest.clone(), CHUNK_BYTES);
        if let Some(large) = (first + 1..range.end).find(|&row| is_large(row)) {
            range.end = large;
        }
        self.rest.start = range.end;
        Ok(Task::Rows(range))
    }

    fn part(&mut self, tokenizer: &Tokenizer, (text, is_first): (&'r str, bool)) -> Task<'r> {
        let (head, tail) = match tokenizer.cut(text, CHUNK_BYTES) {
            Some(end) => text.split_at(end),
            None => (text, ""),
        };
        let is_last = tail.is_empty();
        self.large = (!is_last).then_some((tail, false));
        Task::Part(head, Side { is_first, is_last })
    }

    fn stop(&mut self) {
        self.rest = 0..0;
        self.set_aside.clear();
        self.large = None;
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

#[cfg(test)]
mod tests;
