//! A batch by hand. That all values are those of numpy is held by `tests/samples/test_compiled.py`.

use samples::{
    Documents, Ids, Masking, Packed, Row, Rule, Segment, Special, Window, cut, deal, pack, rows,
};

const IDS: [u16; 12] = [10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21];
const SPECIAL: Special = Special {
    cls: 1,
    sep: 2,
    mask: 3,
};

/// Three chunks: the first two exchange their second halves, the last is one sentence that borrows.
fn window() -> Window<'static> {
    Window {
        shard_numbers: &[4, 7],
        first_chunk: &[0, 1, 3],
        start: &[0, 0, 6],
        cut: &[3, 2, 9],
        end: &[6, 6, 9],
        partner: &[1, 0, 0],
        order: &[2, 0, 1],
        limit: 8,
        sample_key: 5,
        truncation_key: 6,
    }
}

fn segment(shard: u32, start: u32, len: u32) -> Segment {
    Segment { shard, start, len }
}

fn of_lengths(lengths: &[u32]) -> Vec<Row> {
    (0u32..)
        .zip(lengths)
        .map(|(start, &len)| Row {
            key: u64::from(start),
            label: 0,
            first: segment(0, start, len),
            second: segment(0, 0, 0),
        })
        .collect()
}

/// Memory for samples, filled with what none of them holds.
struct Room {
    ids: Vec<i64>,
    positions: Vec<i64>,
    types: Vec<i64>,
    offsets: Vec<i32>,
    labels: Vec<i64>,
    masked: Vec<i64>,
}

impl Room {
    fn new(num_tokens: usize, num_samples: usize, num_micro_shards: usize) -> Self {
        Self {
            ids: vec![-1; num_tokens],
            positions: vec![-1; num_tokens],
            types: vec![-1; num_tokens],
            offsets: vec![-1; num_samples + num_micro_shards],
            labels: vec![-1; num_samples],
            masked: vec![-1; 2 * num_tokens],
        }
    }

    fn packed(&mut self) -> Packed<'_> {
        Packed {
            input_ids: &mut self.ids,
            position_ids: &mut self.positions,
            token_type_ids: &mut self.types,
            cu_seqlens: &mut self.offsets,
            next_sentence_labels: &mut self.labels,
            masked: &mut self.masked,
        }
    }
}

#[test]
fn a_window_says_what_its_samples_take() {
    let window = window();
    let found: Vec<Row> = rows(&window, 0..3, 10).collect();
    // Chunk 2 has 3 tokens and borrows 3 of chunk 0, which fit; 0 and 1 take each other's rest.
    let segments: Vec<_> = found.iter().map(|row| (row.first, row.second)).collect();
    let expected = [
        (segment(11, 6, 3), segment(10, 3, 3)),
        (segment(10, 0, 3), segment(11, 2, 4)),
        (segment(11, 0, 2), segment(10, 3, 3)),
    ];
    assert_eq!(segments, expected);
    assert!(found.iter().all(|row| row.label == 1));
    assert_eq!(rows(&window, 1..2, 10).next(), Some(found[1]));
}

#[test]
fn what_does_not_fit_is_taken_from_the_longer_segment() {
    let window = Window {
        limit: 5,
        ..window()
    };
    let found: Vec<Row> = rows(&window, 0..3, 0).collect();
    // A lender's part is what is left over: 2 of 3. Of 3 + 4 tokens 3 + 2 stay.
    let lengths: Vec<_> = found
        .iter()
        .map(|row| (row.first.len, row.second.len))
        .collect();
    assert_eq!(lengths, [(3, 2), (3, 2), (2, 3)]);
}

#[test]
fn samples_are_dealt_to_and_fro_longest_first() {
    let rows = of_lengths(&[3, 9, 4, 9, 1]);
    let dealt = deal(&rows, 2, &[0, 1]);
    let starts = |rows: &[Row]| rows.iter().map(|row| row.first.start).collect::<Vec<_>>();
    let parts: Vec<_> = dealt.parts().map(starts).collect();
    assert_eq!(parts, [vec![1, 0, 4], vec![3, 2]]);
    assert_eq!(deal(&rows, 2, &[1]).rows, dealt.rows[3..]);
    assert!(deal(&rows, 2, &[]).rows.is_empty());
}

#[test]
fn micro_shards_are_laid_end_to_end_and_labels_say_what_stood_there() {
    let window = window();
    let all: Vec<Row> = rows(&window, 0..3, 0).collect();
    let dealt = deal(&all, 2, &[0, 1]);
    let num_tokens: usize = dealt.rows.iter().map(Row::num_tokens).sum();
    let mut never_masked = [0u8; 22];
    never_masked[..4].fill(1);
    let masking = Masking {
        special: SPECIAL,
        rate: 1 << 15,
        never_masked: &never_masked,
        replacements: &[10, 11],
        continuation: None,
    };
    let mut room = Room::new(num_tokens, 3, 2);
    let shards = [Ids::Narrow(&IDS), Ids::Narrow(&IDS)];
    let counts = pack(&dealt, &shards, &masking, room.packed());
    let Room {
        mut ids,
        positions,
        types,
        offsets,
        labels,
        masked,
    } = room;
    // Undo the masks; places count from the begin of their micro-shard.
    let (places, originals) = masked.split_at(counts.iter().sum());
    let first_tokens = counts.iter().zip([0, 10]).flat_map(|(&n, at)| vec![at; n]);
    for ((&place, &id), first_token) in places.iter().zip(originals).zip(first_tokens) {
        ids[place as usize + first_token] = id;
    }
    let expected = [
        vec![1, 10, 11, 12, 2, 12, 13, 14, 15, 2],
        vec![1, 16, 17, 18, 2, 13, 14, 15, 2],
        vec![1, 10, 11, 2, 13, 14, 15, 2],
    ];
    assert_eq!(ids, expected.concat());
    assert_eq!(offsets, [0, 10, 0, 9, 17]);
    assert_eq!(positions[8..12], [8, 9, 0, 1]);
    assert_eq!(types[..10], [0, 0, 0, 0, 0, 1, 1, 1, 1, 1]);
    assert_eq!(labels, [1, 1, 1]);
    assert!(counts.iter().all(|&count| count > 0));
}

#[test]
fn a_sample_without_luck_still_has_one_masked_token_or_word() {
    let rows = of_lengths(&[6]);
    let dealt = deal(&rows, 1, &[0]);
    let mut never_masked = [0u8; 22];
    never_masked[..4].fill(1);
    let mut continuation = [1u8; 22];
    continuation[10] = 0;
    continuation[13] = 0;
    for (continuation, expected) in [(None, 1), (Some(continuation.as_slice()), 3)] {
        let masking = Masking {
            special: SPECIAL,
            rate: 0,
            never_masked: &never_masked,
            replacements: &[10, 11],
            continuation,
        };
        let mut room = Room::new(8, 1, 1);
        let counts = pack(&dealt, &[Ids::Narrow(&IDS)], &masking, room.packed());
        assert_eq!(counts, [expected]);
    }
}

#[test]
fn documents_are_cut_at_sentences_and_leave_none_alone() {
    let documents = Documents {
        // Of the first document four sentences of 3 tokens, of the last one of 11.
        sentence_offsets: &[0, 3, 6, 9, 12, 17, 28],
        document_offsets: &[0, 4, 5, 6],
        keys: &[1, 2, 3],
        selected: &[1, 0, 1],
    };
    let rule = Rule {
        limit: 9,
        pairs: true,
        short_below: 0,
        short_keys: [0, 0],
    };
    let chunks = cut(&documents, &rule);
    // Three sentences would fit, but the fourth one would have no partner: two and two.
    assert_eq!(chunks.piece_start, [0, 3, 6, 9, 17, 21, 25]);
    assert_eq!(chunks.first_piece, [0, 2, 4, 6, 7]);
    assert_eq!(chunks.end, [6, 12, 25, 28]);
    assert_eq!(chunks.document_key, [1, 1, 3, 3]);
    let alone = cut(
        &documents,
        &Rule {
            pairs: false,
            ..rule
        },
    );
    assert_eq!(alone.piece_start, [0, 3, 6, 9, 17, 26]);
    assert_eq!(alone.end, [9, 12, 26, 28]);
    let short = cut(
        &documents,
        &Rule {
            short_below: u64::MAX,
            ..rule
        },
    );
    assert!(short.end.len() >= chunks.end.len());
}
