//! XXH3 with digests of 16 bytes (`xxhash-rust`, the canonical big-endian form) of many texts.
//!
//! It tells contents apart and detects damage at the speed of memory; it is not cryptographic.

use std::ops::Range;

use rayon::prelude::*;
use xxhash_rust::xxh3::xxh3_128;

use crate::batch::{self, Rows};
use crate::{Error, Result, threads};

/// Bytes of a digest.
pub const DIGEST_BYTES: usize = 16;

/// Text of one task.
const TASK_BYTES: usize = 1 << 18;
/// Text between two looks at whether the caller wants to stop.
const ROUND_BYTES: usize = 64 << 20;

/// The digests of all rows, one after the other; a null is refused. `interrupted` is asked between
/// rounds, in the calling thread.
pub fn hash_rows(texts: &impl Rows, interrupted: impl Fn() -> bool) -> Result<Vec<u8>> {
    let mut digests = Vec::with_capacity(texts.len() * DIGEST_BYTES);
    for round in batch::stretches(texts, 0..texts.len(), ROUND_BYTES) {
        if interrupted() {
            return Err(Error::Interrupted);
        }
        let hash = |rows| hash_task(texts, rows);
        if threads::count() == 1 {
            digests.extend(hash(round)?);
            continue;
        }
        let tasks: Vec<_> = batch::stretches(texts, round, TASK_BYTES).collect();
        let parts: Result<Vec<Vec<u8>>> =
            threads::install(|| tasks.into_par_iter().map(hash).collect());
        digests.extend(parts?.into_iter().flatten());
    }
    Ok(digests)
}

fn hash_task(texts: &impl Rows, rows: Range<usize>) -> Result<Vec<u8>> {
    let mut digests = Vec::with_capacity(rows.len() * DIGEST_BYTES);
    for row in rows {
        let Some(text) = texts.bytes(row)? else {
            return Err(Error::Argument(format!("row {row} is null")));
        };
        digests.extend_from_slice(&xxh3_128(text).to_be_bytes());
    }
    Ok(digests)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_the_canonical_one() {
        // The test vector of the reference implementation for no bytes and seed 0.
        assert_eq!(xxh3_128(b""), 0x99aa_06d3_0147_98d8_6001_c324_468d_497f);
    }
}
