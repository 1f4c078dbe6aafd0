//! Sums of rows, the gradients of biases; gradients onto gradients.

use crate::elements::{Element, load_some, store_some};
use crate::kernel::Kernel;
use crate::parallel::{Shared, Team, execute};
use crate::simd::Simd;

const COLUMNS_PER_TASK: usize = 256;
const PER_TASK: usize = 1 << 15;

/// Adds the rows of a matrix, `pitch` elements apart, onto `out`, in order.
pub fn add_rows<E: Element>(team: &dyn Team, values: &[E], pitch: usize, out: &mut [f32]) {
    assert!(out.len() <= pitch);
    assert_eq!(values.len() % pitch, 0);
    execute(
        team,
        &AddRows {
            values,
            pitch,
            width: out.len(),
            out: Shared::new(out),
        },
    );
}

struct AddRows<'a, E> {
    values: &'a [E],
    pitch: usize,
    width: usize,
    out: Shared<f32>,
}

impl<E: Element> Kernel for AddRows<'_, E> {
    fn num_tasks(&self) -> usize {
        self.width.div_ceil(COLUMNS_PER_TASK)
    }

    #[inline(always)]
    unsafe fn run<S: Simd>(&self, task: usize, _: Option<usize>) {
        let begin = task * COLUMNS_PER_TASK;
        let end = (begin + COLUMNS_PER_TASK).min(self.width);
        let mut sums = [0.0_f32; COLUMNS_PER_TASK];
        // SAFETY: lengths were checked; a column belongs to one task.
        unsafe {
            for row in 0..self.values.len() / self.pitch {
                let line = self.values.as_ptr().add(row * self.pitch + begin);
                let mut column = 0;
                while column < end - begin {
                    let place = sums.as_mut_ptr().add(column);
                    let x = load_some::<S, E>(line.add(column), end - begin - column);
                    S::store(place, S::add(S::load(place), x));
                    column += S::LANES;
                }
            }
            for column in begin..end {
                *self.out.at(column) += sums[column - begin];
            }
        }
    }
}

/// out += values
pub fn add<E: Element>(team: &dyn Team, values: &[E], out: &mut [f32]) {
    assert_eq!(values.len(), out.len());
    execute(
        team,
        &Add {
            values,
            out: Shared::new(out),
        },
    );
}

struct Add<'a, E> {
    values: &'a [E],
    out: Shared<f32>,
}

impl<E: Element> Kernel for Add<'_, E> {
    fn num_tasks(&self) -> usize {
        self.values.len().div_ceil(PER_TASK)
    }

    #[inline(always)]
    unsafe fn run<S: Simd>(&self, task: usize, _: Option<usize>) {
        let end = ((task + 1) * PER_TASK).min(self.values.len());
        let mut at = task * PER_TASK;
        while at < end {
            // SAFETY: both are as long; an element belongs to one task.
            unsafe {
                let x = load_some::<S, E>(self.values.as_ptr().add(at), end - at);
                let sum = S::add(x, load_some::<S, f32>(self.out.at(at), end - at));
                store_some::<S, f32>(self.out.at(at), sum, end - at);
            }
            at += S::LANES;
        }
    }
}

/// Rounds float32 to another format.
pub fn round<E: Element>(team: &dyn Team, values: &[f32], out: &mut [E]) {
    assert_eq!(values.len(), out.len());
    execute(
        team,
        &Round {
            values,
            out: Shared::new(out),
        },
    );
}

struct Round<'a, E> {
    values: &'a [f32],
    out: Shared<E>,
}

impl<E: Element> Kernel for Round<'_, E> {
    fn num_tasks(&self) -> usize {
        self.values.len().div_ceil(PER_TASK)
    }

    #[inline(always)]
    unsafe fn run<S: Simd>(&self, task: usize, _: Option<usize>) {
        let end = ((task + 1) * PER_TASK).min(self.values.len());
        let mut at = task * PER_TASK;
        while at < end {
            // SAFETY: both are as long; an element belongs to one task.
            unsafe {
                let x = load_some::<S, f32>(self.values.as_ptr().add(at), end - at);
                store_some::<S, E>(self.out.at(at), x, end - at);
            }
            at += S::LANES;
        }
    }
}

/// Adds rows of `values` (N, D) onto the rows of `table` (V, D) that `ids` name, in order; rows of
/// the id `ignored` are left out.
///
/// # Panics
///
/// If an id lies outside the table.
pub fn scatter_add(
    team: &dyn Team,
    ids: &[i64],
    ignored: Option<i64>,
    values: &[f32],
    width: usize,
    table: &mut [f32],
) {
    assert_eq!(values.len(), ids.len() * width);
    let num_rows = (table.len() / width) as i64;
    assert!(
        ids.iter().all(|id| (0..num_rows).contains(id)),
        "an id lies outside the table"
    );
    execute(
        team,
        &ScatterAdd {
            ids,
            ignored,
            values,
            width,
            table: Shared::new(table),
        },
    );
}

struct ScatterAdd<'a> {
    ids: &'a [i64],
    ignored: Option<i64>,
    values: &'a [f32],
    width: usize,
    table: Shared<f32>,
}

const SCATTER_COLUMNS: usize = 64;

impl Kernel for ScatterAdd<'_> {
    fn num_tasks(&self) -> usize {
        self.width.div_ceil(SCATTER_COLUMNS)
    }

    #[inline(always)]
    unsafe fn run<S: Simd>(&self, task: usize, _: Option<usize>) {
        let begin = task * SCATTER_COLUMNS;
        let end = (begin + SCATTER_COLUMNS).min(self.width);
        for (row, &id) in self.ids.iter().enumerate() {
            if Some(id) == self.ignored {
                continue;
            }
            let mut column = begin;
            while column < end {
                // SAFETY: ids were checked; a column belongs to one task.
                unsafe {
                    let left = end - column;
                    let from = self.values.as_ptr().add(row * self.width + column);
                    let place = self.table.at(id as usize * self.width + column);
                    let sum = S::add(
                        load_some::<S, f32>(place, left),
                        load_some::<S, f32>(from, left),
                    );
                    store_some::<S, f32>(place, sum, left);
                }
                column += S::LANES;
            }
        }
    }
}
