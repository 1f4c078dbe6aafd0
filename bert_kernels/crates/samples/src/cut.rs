//! Documents become chunks of whole sentences, as `raybert.samples.chunks`.

use crate::hash::{below, draw};

const LEAST_TARGET: u64 = 2;

/// How documents are cut.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// Tokens of a chunk at most.
    pub limit: i64,
    /// Chunks are to be cut in two.
    pub pairs: bool,
    /// A chunk stops early where its draw is below this.
    pub short_below: u64,
    /// Added to a document's key for that draw, and for the one of the length.
    pub short_keys: [u64; 2],
}

/// The documents of a shard.
#[derive(Clone, Copy, Debug)]
pub struct Documents<'a> {
    /// Where S sentences begin among the tokens, S + 1.
    pub sentence_offsets: &'a [i32],
    /// Where D documents begin among the sentences, D + 1.
    pub document_offsets: &'a [i32],
    /// From the content of each.
    pub keys: &'a [u64],
    /// Not 0 for those to take.
    pub selected: &'a [u8],
}

/// C chunks of P pieces: a piece is a sentence, or a part of one over the limit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chunks {
    /// A chunk's first piece, C + 1.
    pub first_piece: Vec<i64>,
    /// The place after a chunk's last token in the shard.
    pub end: Vec<i32>,
    /// The key of its document.
    pub document_key: Vec<u64>,
    /// The place of each piece's first token.
    pub piece_start: Vec<i32>,
}

/// Cuts the selected documents.
///
/// # Panics
///
/// Where offsets name sentences that aren't there.
#[must_use]
pub fn cut(documents: &Documents<'_>, rule: &Rule) -> Chunks {
    let mut chunks = Chunks::default();
    let mut pieces = Vec::new();
    let bounds = documents.document_offsets.windows(2);
    for ((bounds, &key), &selected) in bounds.zip(documents.keys).zip(documents.selected) {
        let (first, last) = (bounds[0] as usize, bounds[1] as usize);
        if selected == 0 || first == last {
            continue;
        }
        pieces.clear();
        split(&documents.sentence_offsets[first..=last], rule, &mut pieces);
        let before = chunks.piece_start.len();
        let starts = pieces.iter().map(|piece| piece.start as i32);
        chunks.piece_start.extend(starts);
        let mut piece = 0;
        while piece < pieces.len() {
            let next = next_chunk(&pieces, piece, key, rule);
            chunks.first_piece.push((before + piece) as i64);
            chunks.end.push(pieces[next - 1].end as i32);
            chunks.document_key.push(key);
            piece = next;
        }
    }
    chunks.first_piece.push(chunks.piece_start.len() as i64);
    chunks
}

#[derive(Clone, Copy)]
struct Piece {
    start: i64,
    end: i64,
}

/// The sentences that have tokens, split where they are over the limit.
fn split(offsets: &[i32], rule: &Rule, pieces: &mut Vec<Piece>) {
    let size = if rule.pairs {
        rule.limit / 2
    } else {
        rule.limit
    };
    for bounds in offsets.windows(2) {
        let (mut start, end) = (i64::from(bounds[0]), i64::from(bounds[1]));
        if end - start > rule.limit {
            while end - start > size {
                pieces.push(Piece {
                    start,
                    end: start + size,
                });
                start += size;
            }
        }
        if end > start {
            pieces.push(Piece { start, end });
        }
    }
}

/// The piece that the next chunk begins at, after one that begins at this piece of a document.
fn next_chunk(pieces: &[Piece], piece: usize, key: u64, rule: &Rule) -> usize {
    let stop = pieces.len();
    let start = pieces[piece].start;
    let reach = |tokens: i64| {
        let fitting = pieces[piece..].iter();
        piece
            + fitting
                .take_while(|next| next.end <= start + tokens)
                .count()
    };
    let full = reach(rule.limit);
    if !rule.pairs {
        return full;
    }
    let mut next = full;
    let place = (start - pieces[0].start) as u64;
    let [short, length] = rule.short_keys.map(|added| key.wrapping_add(added));
    if draw(short, place) < rule.short_below {
        let choices = rule.limit as u64 - LEAST_TARGET + 1;
        let target = LEAST_TARGET + below(draw(length, place), choices);
        // A short chunk still takes two sentences where they fit: it is to be a pair.
        next = reach(target as i64).clamp(full.min(piece + 2), full);
    }
    // Where the last sentence would be left alone, take it too or leave it another one.
    if next + 1 == stop {
        let ends_together =
            || stop - piece > 3 && pieces[stop - 1].end <= pieces[stop - 2].start + rule.limit;
        if full == stop {
            next = stop;
        } else if ends_together() {
            next -= 1;
        }
    }
    next
}
