//! Tasks over a team of threads. Which thread takes which task never shows in the results.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::instruction_set::InstructionSet;
use crate::kernel::Kernel;

/// Threads that work together.
pub trait Team {
    /// Calls `work` once on each of its threads, at least once in all, and waits for them.
    fn run(&self, work: &(dyn Fn() + Sync));
}

/// The calling thread alone.
pub struct Alone;

impl Team for Alone {
    fn run(&self, work: &(dyn Fn() + Sync)) {
        work();
    }
}

/// Does all tasks.
pub(crate) fn execute<K: Kernel>(team: &dyn Team, kernel: &K) {
    let set = InstructionSet::current();
    let num_tasks = kernel.num_tasks();
    let next = AtomicUsize::new(0);
    let take = || {
        let task = next.fetch_add(1, Ordering::Relaxed);
        (task < num_tasks).then_some(task)
    };
    let work = || {
        let mut taken = take();
        while let Some(task) = taken {
            let following = if K::LOOKS_AHEAD { take() } else { None };
            // SAFETY: `current` is available; the counter hands out each task once.
            unsafe { set.run(kernel, task, following) };
            taken = following.or_else(take);
        }
    };
    if num_tasks == 1 {
        work()
    } else {
        team.run(&work)
    }
}

/// A pointer that tasks may share: each writes to a part of its own.
#[derive(Clone, Copy)]
pub(crate) struct Shared<T>(*mut T);

// SAFETY: tasks of a kernel write to disjoint parts, which every kernel states.
unsafe impl<T: Send> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Shared<T> {}

impl<T> Shared<T> {
    pub(crate) fn new(values: &mut [T]) -> Self {
        Self(values.as_mut_ptr())
    }

    /// The first element's place.
    pub(crate) fn start(self) -> *const T {
        self.0
    }

    /// The element at an index.
    ///
    /// # Safety
    ///
    /// The index lies inside the slice that it was made of.
    #[inline(always)]
    pub(crate) unsafe fn at(self, index: usize) -> *mut T {
        // SAFETY: as the caller promises.
        unsafe { self.0.add(index) }
    }
}

const ALIGNMENT: usize = 16;

thread_local! {
    static SPARE: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

/// Memory of a task, which its thread keeps for the next one.
pub(crate) struct Scratch {
    memory: Vec<f32>,
    offset: usize,
}

impl Scratch {
    /// So many float32 from a cache line's border on, with whatever is in them.
    pub(crate) fn take(len: usize) -> Self {
        let mut memory = SPARE.take();
        if memory.len() < len + ALIGNMENT {
            memory.resize(len + ALIGNMENT, 0.0);
        }
        let offset = memory.as_ptr().align_offset(ALIGNMENT * size_of::<f32>());
        // The offset is counted in elements and may be unknown only to the constant evaluator.
        let offset = offset.min(ALIGNMENT);
        Self { memory, offset }
    }

    pub(crate) fn start(&mut self) -> *mut f32 {
        self.memory[self.offset..].as_mut_ptr()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        SPARE.set(std::mem::take(&mut self.memory));
    }
}
