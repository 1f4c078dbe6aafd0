//! What a kernel is: tasks that any thread may do, compiled for every instruction set.

use crate::simd::Simd;

/// Rows of a task, and of one partial sum of a bias's or weight's gradient.
pub const ROWS_PER_BLOCK: usize = 64;

/// Work that is cut into tasks. Tasks write to memory of their own.
pub(crate) trait Kernel: Sync {
    /// Whether a thread says which task it does next, so that its data can be fetched meanwhile.
    const LOOKS_AHEAD: bool = false;

    fn num_tasks(&self) -> usize;

    /// Does one task. The thread's next one is named if the kernel looks ahead and there is one.
    ///
    /// # Safety
    ///
    /// The CPU has the instruction set, `task < num_tasks()`, and no task is done twice.
    unsafe fn run<S: Simd>(&self, task: usize, next: Option<usize>);
}
