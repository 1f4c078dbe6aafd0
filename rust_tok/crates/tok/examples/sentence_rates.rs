//! Times sentence splitting against the crate `unicode-segmentation` on a text file, interleaved,
//! on one thread; prints the seconds as JSON. Line ends are made blanks and no abbreviation is
//! looked at, so that both do the same; equal boundaries are required before any time is taken.
//!
//! `cargo run --release --example sentence_rates -- FILE ROUNDS`

use std::error::Error;
use std::hint::black_box;
use std::time::Instant;

use tok::sentences;
use unicode_segmentation::UnicodeSegmentation;

fn ours(text: &str, ends: &mut Vec<usize>) {
    ends.clear();
    sentences::split(text, false, |end| ends.push(end));
}

fn theirs(text: &str, ends: &mut Vec<usize>) {
    ends.clear();
    let bounds = text.split_sentence_bound_indices();
    ends.extend(bounds.map(|(start, sentence)| start + sentence.len()));
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("FILE is missing")?;
    let rounds: usize = arguments.next().ok_or("ROUNDS is missing")?.parse()?;
    let text = std::fs::read_to_string(path)?.replace(['\r', '\n'], " ");
    let (mut found, mut expected) = (Vec::new(), Vec::new());
    ours(&text, &mut found);
    theirs(&text, &mut expected);
    if found != expected {
        return Err("the boundaries differ, nothing was timed".into());
    }
    let (mut our_seconds, mut their_seconds) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let begin = Instant::now();
        ours(black_box(&text), &mut found);
        our_seconds.push(begin.elapsed().as_secs_f64());
        let begin = Instant::now();
        theirs(black_box(&text), &mut expected);
        their_seconds.push(begin.elapsed().as_secs_f64());
    }
    println!(
        "{{\"bytes\": {}, \"sentences\": {}, \"rust_tok\": {our_seconds:?}, \
         \"unicode-segmentation\": {their_seconds:?}}}",
        text.len(),
        found.len(),
    );
    Ok(())
}
