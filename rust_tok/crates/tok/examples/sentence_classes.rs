//! Writes `src/sentences/classes.bin`: the Sentence_Break class of every code point, read off the
//! behaviour of the crate `unicode-segmentation`.
//!
//! `cargo run --release --example sentence_classes` in `crates/tok`. The file is a list of runs of
//! equal class, each four bytes: the first code point in 24 bits, little endian, and the class. The
//! classes are numbered as in `src/sentences/classes.rs`; Extend and Format behave alike and are one.

use std::error::Error;

use unicode_segmentation::UnicodeSegmentation;

/// Whether a sentence ends at byte `at`.
fn ends(text: &str, at: usize) -> bool {
    text.split_sentence_bound_indices()
        .any(|(start, _)| start == at)
}

/// Whether a sentence ends between `before` and the character, and behind it before `after`.
fn around(before: &str, c: char, after: &str) -> (bool, bool) {
    let text = format!("{before}{c}{after}");
    let start = before.len();
    (ends(&text, start), ends(&text, start + c.len_utf8()))
}

/// The class, by the first context that tells it from those left (UAX 29, rules SB3 to SB11).
fn class(c: char) -> u8 {
    const OTHER: u8 = 0;
    const EXTEND: u8 = 1;
    const SP: u8 = 2;
    const LOWER: u8 = 3;
    const UPPER: u8 = 4;
    const OLETTER: u8 = 5;
    const NUMERIC: u8 = 6;
    const ATERM: u8 = 7;
    const SCONTINUE: u8 = 8;
    const STERM: u8 = 9;
    const CLOSE: u8 = 10;
    const CR: u8 = 11;
    const LF: u8 = 12;
    const SEP: u8 = 13;

    match c {
        '\r' => return CR,
        '\n' => return LF,
        _ => {}
    }
    if around("a", c, "!").1 {
        return SEP;
    }
    if around("a", c, "a").1 {
        return STERM;
    }
    if around("1", c, "A").1 {
        return ATERM;
    }
    if !around("!", c, "").0 {
        return match () {
            () if around("! ", c, "").0 => CLOSE,
            () if around("!", c, ")").1 => SP,
            () if around("!", c, "A").1 => EXTEND,
            () => SCONTINUE,
        };
    }
    match () {
        () if !around(". ", c, "").0 => LOWER,
        () if !around(".", c, "").0 => NUMERIC,
        () if !around("a.", c, "").0 => UPPER,
        () if around(". ", c, "a").0 => OLETTER,
        () => OTHER,
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut bytes = Vec::new();
    let mut last = None;
    for c in '\0'..=char::MAX {
        let class = class(c);
        if last != Some(class) {
            let [a, b, d, _] = u32::from(c).to_le_bytes();
            bytes.extend([a, b, d, class]);
            last = Some(class);
        }
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/sentences/classes.bin");
    std::fs::write(path, &bytes)?;
    println!(
        "{path}: {} runs, Unicode {:?}",
        bytes.len() / 4,
        unicode_segmentation::UNICODE_VERSION
    );
    Ok(())
}
