//! The parts of a BERT training step on a CPU that are no matrix product.
//!
//! Each kernel reads and writes slices, does its rows or heads on a [`Team`] of threads, and gives
//! the same bits for any number of them. Kernels are compiled for several instruction sets, one of
//! which is taken when the program runs.

// Vector code is all unsafe functions over pointers; each states what it needs.
#![allow(clippy::needless_range_loop)]

mod adamw;
mod attention;
mod biased;
mod cross_entropy;
mod dropout;
mod elements;
mod embeddings;
mod gelu;
mod instruction_set;
mod kernel;
mod math;
mod norm;
mod parallel;
mod product;
mod simd;
mod sums;

pub use adamw::{Step, adamw};
pub use attention::{Shape, attention_backward, attention_forward};
pub use biased::Biased;
pub use cross_entropy::cross_entropy;
pub use dropout::{Dropout, drop};
pub use elements::{Bf16, Element};
pub use embeddings::{Lookup, embeddings_forward};
pub use gelu::{gelu_backward, gelu_forward};
pub use instruction_set::InstructionSet;
pub use kernel::ROWS_PER_BLOCK;
pub use norm::{Affine, Gradients, Saved, dropout_add_norm_backward, dropout_add_norm_forward};
pub use parallel::{Alone, Team};
pub use sums::{add, add_rows, round, scatter_add};
