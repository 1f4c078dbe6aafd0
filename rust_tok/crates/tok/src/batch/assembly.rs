//! The output of a call, put together from what threads hand in, in the order of the text.

use std::collections::BTreeMap;
use std::mem::MaybeUninit;
use std::sync::{Condvar, Mutex, MutexGuard};

use super::{Lists, lock, too_many};
use crate::id::Id;
use crate::{Error, Result};

/// A chunk waits to be handed in while it is so many ahead of the one whose turn it is: a thread
/// that the system holds up must not make the others fill the memory.
pub(super) const MAX_AHEAD: usize = 64;

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

/// What was handed in so far.
pub(super) struct Assembly<'o, I> {
    state: Mutex<State<'o, I>>,
    /// Told when the turn has passed on, or everything has failed.
    advanced: Condvar,
}

struct State<'o, I> {
    output: Output<'o, I>,
    /// Number of the chunk whose turn it is.
    next: usize,
    waiting: BTreeMap<usize, Chunk<I>>,
    spare: Vec<Chunk<I>>,
    failure: Option<Error>,
    abandoned: bool,
}

/// Where the ids of chunks go, and their lengths.
struct Output<'o, I> {
    /// What is left of the memory for ids.
    room: &'o mut [MaybeUninit<I>],
    /// Ids that have got their place.
    num_ids: usize,
    lengths: Vec<u32>,
    /// All ids from the first chunk on that there was no room for.
    excess: Vec<I>,
}

/// What was handed in, when every place that was given out has been filled.
pub(super) struct Assembled<I> {
    num_ids: usize,
    excess: Vec<I>,
    lengths: Vec<u32>,
}

impl<I: Id> Assembled<I> {
    /// Makes what was written to the spare memory of a vector, which the assembly was made with, part of
    /// it, appends what there was no room for, and returns the ids of each row.
    pub(super) fn append_to(self, ids: &mut Vec<I>) -> Vec<u32> {
        // SAFETY: the places of so many ids were given out in the spare memory, one behind the other,
        // and whoever was given one has filled it before coming back from `hand_in`; a thread that
        // panicked passes on its panic before anyone comes here.
        unsafe { ids.set_len(ids.len() + self.num_ids) };
        ids.extend_from_slice(&self.excess);
        self.lengths
    }
}

/// A chunk, and the place that its ids are to be copied to.
type Placed<'o, I> = (Chunk<I>, &'o mut [MaybeUninit<I>]);

impl<'o, I: Id> Output<'o, I> {
    fn place(&mut self, chunk: Chunk<I>) -> Result<Placed<'o, I>> {
        let mut lengths = chunk.lists.lengths.as_slice();
        if let (true, Some(last), [more, rest @ ..]) =
            (chunk.continues, self.lengths.last_mut(), lengths)
        {
            *last = last.checked_add(*more).ok_or_else(too_many)?;
            lengths = rest;
        }
        self.lengths.extend_from_slice(lengths);
        let ids = &chunk.lists.ids;
        if !self.excess.is_empty() || ids.len() > self.room.len() {
            self.excess.extend_from_slice(ids);
            return Ok((chunk, &mut []));
        }
        self.num_ids += ids.len();
        let (place, rest) = std::mem::take(&mut self.room).split_at_mut(ids.len());
        self.room = rest;
        Ok((chunk, place))
    }
}

/// Copies the ids where they belong, without the lock: a first touch of fresh memory takes the system
/// longer than the copy. Returns the chunk for the next use.
fn copy<I: Id>((mut chunk, place): Placed<'_, I>) -> Chunk<I> {
    for (place, &id) in place.iter_mut().zip(&chunk.lists.ids) {
        place.write(id);
    }
    chunk.clear();
    chunk
}

impl<'o, I: Id> Assembly<'o, I> {
    /// Goes on after these lengths; ids go to the memory, and beyond it where it doesn't suffice.
    pub(super) fn new(room: &'o mut [MaybeUninit<I>], lengths: Vec<u32>) -> Self {
        let output = Output {
            room,
            num_ids: 0,
            lengths,
            excess: Vec::new(),
        };
        Self {
            state: Mutex::new(State {
                output,
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
    pub(super) fn hand_in(&self, number: usize, chunk: Chunk<I>) -> Option<Chunk<I>> {
        let mut state = self.near(number)?;
        if number != state.next {
            state.waiting.insert(number, chunk);
            return Some(state.spare.pop().unwrap_or_default());
        }
        let placed = state.place_turn(chunk);
        drop(state);
        match placed {
            Ok((own, waited)) => {
                self.advanced.notify_all();
                if !waited.is_empty() {
                    let copied: Vec<_> = waited.into_iter().map(copy).collect();
                    lock(&self.state).spare.extend(copied);
                }
                Some(copy(own))
            }
            Err(error) => {
                self.fail(error);
                None
            }
        }
    }

    /// The state, when the chunk's turn is near.
    fn near(&self, number: usize) -> Option<MutexGuard<'_, State<'o, I>>> {
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
    pub(super) fn abandoned_by_panic(&self) -> AbandonedByPanic<'_, 'o, I> {
        AbandonedByPanic(self)
    }

    /// Everything that was handed in, after all calls of [`hand_in`](Self::hand_in) have come back.
    pub(super) fn finish(self) -> Result<Assembled<I>> {
        let state = (self.state.into_inner()).unwrap_or_else(|error| error.into_inner());
        let Output {
            num_ids,
            excess,
            lengths,
            ..
        } = state.output;
        match state.failure {
            Some(error) => Err(error),
            None => Ok(Assembled {
                num_ids,
                excess,
                lengths,
            }),
        }
    }
}

impl<'o, I: Id> State<'o, I> {
    fn has_ended(&self) -> bool {
        self.abandoned || self.failure.is_some()
    }

    /// Gives a place to the chunk whose turn it is and to those that waited for it.
    fn place_turn(&mut self, chunk: Chunk<I>) -> Result<(Placed<'o, I>, Vec<Placed<'o, I>>)> {
        let own = self.output.place(chunk)?;
        self.next += 1;
        let mut waited = Vec::new();
        while let Some(chunk) = self.waiting.remove(&self.next) {
            waited.push(self.output.place(chunk)?);
            self.next += 1;
        }
        Ok((own, waited))
    }
}

pub(super) struct AbandonedByPanic<'a, 'o, I>(&'a Assembly<'o, I>);

impl<I> Drop for AbandonedByPanic<'_, '_, I> {
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
    fn nobody_runs_far_ahead_of_a_thread_that_is_held_up() -> Result<()> {
        let mut ids = Vec::with_capacity(3 * MAX_AHEAD);
        let assembly = Assembly::new(ids.spare_capacity_mut(), Vec::new());
        std::thread::scope(|scope| {
            let ahead = scope.spawn(|| {
                for number in 1..10 * MAX_AHEAD {
                    assert!(assembly.hand_in(number, chunk(&[number as u16])).is_some());
                }
            });
            while lock(&assembly.state).waiting.len() < MAX_AHEAD - 1 {
                std::thread::yield_now();
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
            assert_eq!(lock(&assembly.state).waiting.len(), MAX_AHEAD - 1);
            assert!(assembly.hand_in(0, chunk(&[0])).is_some());
            assert!(ahead.join().is_ok());
        });
        let assembled = assembly.finish()?;
        assert!(!assembled.excess.is_empty());
        assert_eq!(assembled.append_to(&mut ids).len(), 10 * MAX_AHEAD);
        assert!(ids.into_iter().map(usize::from).eq(0..10 * MAX_AHEAD));
        Ok(())
    }

    #[test]
    fn a_failure_or_a_panic_ends_the_wait_of_the_others() {
        for panics in [false, true] {
            let assembly = Assembly::<u16>::new(&mut [], Vec::new());
            std::thread::scope(|scope| {
                let ahead = scope.spawn(|| assembly.hand_in(MAX_AHEAD, chunk(&[1])).is_none());
                let failing = scope.spawn(|| {
                    let _abandons = assembly.abandoned_by_panic();
                    assert!(!panics, "on purpose");
                    assembly.fail(Error::Interrupted);
                });
                assert_eq!(failing.join().is_err(), panics);
                assert!(matches!(ahead.join(), Ok(true)));
            });
        }
    }
}
