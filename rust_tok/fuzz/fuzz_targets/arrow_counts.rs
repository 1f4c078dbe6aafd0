//! Word counts from Arrow: read or refused, and what is read goes out and comes in as the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tok_arrow::counts;
use tok_arrow::export::{self, Buffer, Node};
use tok_fuzz::{AnyText, Outcome, must_hold};

const KINDS: [&str; 5] = [
    "wordpiece(lowercase=true)",
    "wordpiece(lowercase=false)",
    "bpe(add_prefix_space=true)",
    "bpe(add_prefix_space=false)",
    "other",
];

fuzz_target!(|input: (AnyText, Vec<u64>, u8, Option<String>, u8)| {
    let (words, numbers, kind, other, skip) = input;
    let kind = other.unwrap_or_else(|| KINDS[usize::from(kind) % KINDS.len()].to_owned());
    must_hold(check(words, numbers, kind, skip));
});

fn check(words: AnyText, mut numbers: Vec<u64>, kind: String, skip: u8) -> Outcome {
    let words = words.node();
    let length = words.length;
    numbers.resize(length, 1);
    let numbers = Node {
        format: c"L",
        name: c"count",
        length,
        null_count: 0,
        buffers: vec![None, Some(Buffer::U64(numbers))],
        children: Vec::new(),
        metadata: Vec::new(),
    };
    let metadata = vec![("rust_tok.words", kind)];
    let node = tok_fuzz::nested(c"+s", length, vec![None], vec![words, numbers], metadata);
    let schema = export::schema(&node)?;
    let mut array = export::array(&node);
    let offset = usize::from(skip).min(length);
    (array.offset, array.length) = (offset as i64, (length - offset) as i64);
    // SAFETY: buffers as large as types and lengths say.
    let Ok(read) = (unsafe { counts::import(&schema, &[array]) }) else {
        return Ok(());
    };
    let node = counts::export(&read);
    let schema = export::schema(&node)?;
    // SAFETY: made by the exporter.
    let again = unsafe { counts::import(&schema, &[export::array(&node)]) }?;
    assert!(again == read);
    Ok(())
}
