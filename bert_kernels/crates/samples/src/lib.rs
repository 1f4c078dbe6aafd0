//! Pretraining samples: documents cut into chunks, which of them a batch takes, how they are dealt to
//! micro-shards, and the micro-shards themselves, masked and packed.
//!
//! `raybert.samples` does the same with numpy and is the definition: every value here is a whole
//! number and the same as there. No unsafe code, no threads, and no state.

mod cut;
mod deal;
mod hash;
mod masking;
mod pack;
mod rows;

pub use cut::{Chunks, Documents, Rule, cut};
pub use deal::{Dealt, deal};
pub use masking::{Masking, Special};
pub use pack::{Ids, Packed, pack};
pub use rows::{Row, Segment, Window, rows};
