//! The output of a call, put together from what threads hand in, in the order of the text.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard};

use super::{Lists, lock, too_many};
use crate::id::Id;
use crate::{Error, Result};

/// A chunk waits to be handed in while it is so many ahead of the one whose turn it is: a thread
/// that the system holds up must not make the others fill the memory.
const MAX_AHEAD: usize = 64;

/// The lists of one stretch of rows, or of a part of a row.
#[derive(Debug, Default)]
pub(super) struct Chunk<I> {
    pub(super) lists: Lists<I>,
    /// The first row goes on with the last one of the lists before these.
    pub(super) continues: bool,
}

impl<I> Chunk<I> {
    fn clear(&mut self) {
        self.lists.ids.clear();
        self.lists.lengths.clear();
        self.continues = false;
    }
}

impl<I: Id> Lists<I> {
    fn append(&mut self, chunk: &Chunk<I>) -> Result<()> {
        self.ids.extend_from_slice(&chunk.lists.ids);
        let mut lengths = chunk.lists.lengths.as_slice();
        if let (true, Some(last), [more, rest @ ..]) =
            (chunk.continues, self.lengths.last_mut(), lengths)
        {
            *last = last.checked_add(*more).ok_or_else(too_many)?;
            lengths = rest;
        }
        self.lengths.extend_from_slice(lengths);
        Ok(())
    }
}

/// What was handed in so far.
pub(super) struct Assembly<I> {
    state: Mutex<State<I>>,
    /// Told when the turn has passed on, or everything has failed.
    advanced: Condvar,
}

struct State<I> {
    lists: Lists<I>,
    /// Number of the chunk whose turn it is.
    next: usize,
    waiting: BTreeMap<usize, Chunk<I>>,
    spare: Vec<Chunk<I>>,
    failure: Option<Error>,
    abandoned: bool,
}

impl<I: Id> Assembly<I> {
    /// Goes on after these lists.
    pub(super) fn new(lists: Lists<I>) -> Self {
        Self {
            state: Mutex::new(State {
                lists,
                next: 0,
                waiting: BTreeMap::new(),
                spare: Vec::new(),
                failure: None,
                abandoned: false,
            }),
            advanced: Condvar::new(),
        }
    }

    /// Takes a chunk and gives an empty one; `None` when the call has failed.
    pub(super) fn hand_in(&self, number: usize, mut chunk: Chunk<I>) -> Option<Chunk<I>> {
        let mut state = self.near(number)?;
        if number != state.next {
            state.waiting.insert(number, chunk);
            return Some(state.spare.pop().unwrap_or_default());
        }
        let appended = state.append_turn(&mut chunk);
        drop(state);
        match appended {
            Ok(()) => {
                self.advanced.notify_all();
                Some(chunk)
            }
            Err(error) => {
                self.fail(error);
                None
            }
        }
    }

    /// The state, when the chunk's turn is near.
    fn near(&self, number: usize) -> Option<MutexGuard<'_, State<I>>> {
        let mut state = lock(&self.state);
        while !state.has_ended() && number >= state.next + MAX_AHEAD {
            state = (self.advanced.wait(state)).unwrap_or_else(|error| error.into_inner());
        }
        (!state.has_ended()).then_some(state)
    }

    /// Ends the call for everyone; the first error is its result.
    pub(super) fn fail(&self, error: Error) {
        lock(&self.state).failure.get_or_insert(error);
        self.advanced.notify_all();
    }

    /// Keeps the others from waiting for a thread that panicked.
    pub(super) fn abandoned_by_panic(&self) -> AbandonedByPanic<'_, I> {
        AbandonedByPanic(self)
    }

    /// Everything that was handed in.
    pub(super) fn finish(self) -> Result<Lists<I>> {
        let state = (self.state.into_inner()).unwrap_or_else(|error| error.into_inner());
        match state.failure {
            Some(error) => Err(error),
            None => Ok(state.lists),
        }
    }
}

impl<I: Id> State<I> {
    fn has_ended(&self) -> bool {
        self.abandoned || self.failure.is_some()
    }

    /// Appends the chunk whose turn it is and those that waited for it.
    fn append_turn(&mut self, chunk: &mut Chunk<I>) -> Result<()> {
        self.lists.append(chunk)?;
        self.next += 1;
        while let Some(mut waited) = self.waiting.remove(&self.next) {
            self.lists.append(&waited)?;
            self.next += 1;
            waited.clear();
            self.spare.push(waited);
        }
        chunk.clear();
        Ok(())
    }
}

pub(super) struct AbandonedByPanic<'a, I>(&'a Assembly<I>);

impl<I> Drop for AbandonedByPanic<'_, I> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            lock(&self.0.state).abandoned = true;
            self.0.advanced.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(ids: &[u16]) -> Chunk<u16> {
        let lists = Lists {
            ids: ids.to_vec(),
            lengths: vec![ids.len() as u32],
        };
        Chunk {
            lists,
            continues: false,
        }
    }

    #[test]
    fn nobody_runs_far_ahead_of_a_thread_that_is_held_up() {
        let assembly = Assembly::new(Lists::<u16>::default());
        std::thread::scope(|scope| {
            let ahead = scope.spawn(|| {
                for number in 1..10 * MAX_AHEAD {
                    assembly.hand_in(number, chunk(&[number as u16])).unwrap();
                }
            });
            while lock(&assembly.state).waiting.len() < MAX_AHEAD - 1 {
                std::thread::yield_now();
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
            assert_eq!(lock(&assembly.state).waiting.len(), MAX_AHEAD - 1);
            assembly.hand_in(0, chunk(&[0])).unwrap();
            ahead.join().unwrap();
        });
        let lists = assembly.finish().unwrap();
        assert!(
            lists
                .ids
                .iter()
                .map(|&id| usize::from(id))
                .eq(0..10 * MAX_AHEAD)
        );
    }

    #[test]
    fn a_failure_or_a_panic_ends_the_wait_of_the_others() {
        for panics in [false, true] {
            let assembly = Assembly::new(Lists::<u16>::default());
            std::thread::scope(|scope| {
                let ahead = scope.spawn(|| assembly.hand_in(MAX_AHEAD, chunk(&[1])).is_none());
                let failing = scope.spawn(|| {
                    let _abandons = assembly.abandoned_by_panic();
                    assert!(!panics, "on purpose");
                    assembly.fail(Error::Interrupted);
                });
                assert_eq!(failing.join().is_err(), panics);
                assert!(ahead.join().unwrap());
            });
        }
    }
}
