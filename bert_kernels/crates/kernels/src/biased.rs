//! What a matrix product gave, before its bias: kernels that read it anyway add the bias then.

use crate::elements::{Element, load_some};
use crate::simd::Simd;

/// Rows (T, C), and what is to be added to each of them, if anything.
#[derive(Clone, Copy, Debug)]
pub struct Biased<'a, E> {
    /// (T, C)
    pub values: &'a [E],
    /// (C,)
    pub bias: Option<&'a [f32]>,
}

impl<E: Element> Biased<'_, E> {
    /// How many rows there are; panics if there is no whole number, or the bias is of another width.
    pub(crate) fn rows(&self, width: usize) -> usize {
        assert_eq!(self.values.len() % width, 0);
        assert!(self.bias.is_none_or(|bias| bias.len() == width));
        self.values.len() / width
    }

    /// A vector of sums of which `count` exist: of the row that begins at `start`, from a column on.
    ///
    /// # Safety
    ///
    /// The instruction set is there, and the row has so many elements from that column on.
    #[inline(always)]
    pub(crate) unsafe fn load<S: Simd>(&self, start: usize, column: usize, count: usize) -> S::F {
        // SAFETY: as the caller promises; the bias is as wide as a row.
        unsafe {
            let x = load_some::<S, E>(self.values.as_ptr().add(start + column), count);
            match self.bias {
                Some(bias) => S::add(x, load_some::<S, f32>(bias.as_ptr().add(column), count)),
                None => x,
            }
        }
    }
}
