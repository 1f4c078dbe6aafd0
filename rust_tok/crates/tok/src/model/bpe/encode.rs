//! A text to ids: pieces, their keys, their ids, a chunk of each after the other.
//!
//! The scanner gives the starts of some hundred pieces. For each of them a key and its line of the
//! [`WordCache`] are computed, and the line is asked for from memory. Then the ids are stored, by
//! when the lines have come. So the three loops have no branch that a piece decides, but for the
//! rare one that the cache doesn't know, and no wait.

use super::{Bpe, MergeScratch};
use crate::id::Id;
use crate::pretokenize::byte_level::{self, Kernel, Level, ROOM, Scanner, Simd};
use crate::word_cache::{Key, Place, SHORT, WordCache};

/// Pieces of a chunk, at least; one more block of the text is always taken whole.
const CHUNK: usize = 192;

/// Reused memory of a chunk.
#[derive(Debug)]
pub(super) struct Chunk {
    starts: [u32; CHUNK + ROOM],
    words: [(Key, Place); CHUNK + ROOM],
}

impl Default for Chunk {
    fn default() -> Self {
        Self {
            starts: [0; CHUNK + ROOM],
            words: [Default::default(); CHUNK + ROOM],
        }
    }
}

/// Longest text whose places 32 bits hold.
const MOST: usize = 1 << 31;

impl Bpe {
    /// Appends the ids of a text that is to be split.
    pub(crate) fn encode_text<I: Id>(
        &self,
        text: &str,
        cache: &mut WordCache<I>,
        scratch: &mut MergeScratch,
        ids: &mut Vec<I>,
    ) {
        if text.len() > MOST {
            return byte_level::split(text, |piece| {
                let piece = piece.as_bytes();
                cache.append(piece, ids, |ids| self.encode_piece(piece, scratch, ids));
            });
        }
        Level::detect().run(Encode {
            model: self,
            text,
            cache,
            scratch,
            ids,
        });
    }
}

struct Encode<'a, I: Id> {
    model: &'a Bpe,
    text: &'a str,
    cache: &'a mut WordCache<I>,
    scratch: &'a mut MergeScratch,
    ids: &'a mut Vec<I>,
}

impl<I: Id> Kernel for Encode<'_, I> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self {
            model,
            text,
            cache,
            scratch,
            ids,
        } = self;
        let MergeScratch {
            piece: scratch,
            chunk,
        } = scratch;
        let mut scanner = Scanner::new(text, simd);
        let bytes = text.as_bytes();
        let Chunk { starts, words } = &mut **chunk;
        // The first of `starts` is that of a piece whose end isn't known yet.
        let mut origin = 0;
        let mut known = 0;
        loop {
            let mut more = true;
            while let Some(room) = starts[known..].first_chunk_mut() {
                let Some((base, bits)) = scanner.next() else {
                    more = false;
                    break;
                };
                known += simd.places((base - origin) as u32, bits, room);
            }
            if !more {
                starts[known] = (bytes.len() - origin) as u32;
                known += 1;
            }
            let num = known - 1;
            let rest = &bytes[origin..];
            let lines = cache.lines();
            for (two, word) in starts[..known].windows(2).zip(&mut words[..num]) {
                let (start, end) = (two[0] as usize, two[1] as usize);
                let key = if end - start <= SHORT {
                    Key::at(rest, start, end - start)
                } else {
                    cache.long_key(&rest[start..end])
                };
                let place = lines.place(key);
                lines.prefetch(place);
                *word = (key, place);
            }
            let mut done = 0;
            loop {
                done += cache.lines().push_all(&words[done..num], |&word| word, ids);
                if done == num {
                    break;
                }
                let piece = &rest[starts[done] as usize..starts[done + 1] as usize];
                cache.learn(words[done].0, piece, ids, |ids| {
                    model.append_piece(piece, scratch, ids);
                });
                done += 1;
            }
            if !more {
                break;
            }
            origin += starts[num] as usize;
            starts[0] = 0;
            known = 1;
        }
    }
}
