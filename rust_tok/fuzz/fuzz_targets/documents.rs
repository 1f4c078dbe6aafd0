//! Documents of plain text: the same ones, at the same places, however a file is cut into ranges
//! and blocks, and none but blank lines between them.

#![no_main]

use std::num::TryFromIntError;

use libfuzzer_sys::fuzz_target;
use tok::documents::{DocumentSplitter, Documents};
use tok_fuzz::{Outcome, must_hold};

fn read(
    file: &[u8],
    bounds: &[u64],
    block_bytes: usize,
    max_bytes: usize,
) -> Result<Documents, TryFromIntError> {
    let mut all = Documents::default();
    for bound in bounds.windows(2) {
        let mut splitter = DocumentSplitter::new(bound[0], bound[1], max_bytes);
        let first = usize::try_from(bound[0].saturating_sub(1))?;
        for block in file[first..].chunks(block_bytes) {
            append(&mut all, splitter.feed(block));
            if splitter.finished() {
                break;
            }
        }
        if !splitter.finished() {
            append(&mut all, splitter.close());
        }
    }
    Ok(all)
}

fn append(all: &mut Documents, more: Documents) {
    let start = all.text.len() as i64;
    all.text.extend(more.text);
    all.ends.extend(more.ends.iter().map(|end| start + end));
    all.places.extend(more.places);
}

fuzz_target!(|input: (Vec<u8>, Vec<u16>, u8, u16)| {
    let (file, cuts, block_bytes, max_bytes) = input;
    must_hold(check(&file, cuts, block_bytes, max_bytes));
});

fn check(file: &[u8], cuts: Vec<u16>, block_bytes: u8, max_bytes: u16) -> Outcome {
    let max_bytes = usize::from(max_bytes).max(1);
    let length = file.len() as u64;
    let mut bounds: Vec<u64> = cuts.into_iter().map(u64::from).collect();
    bounds.retain(|&bound| bound < length);
    bounds.extend([0, length.max(1)]);
    bounds.sort_unstable();
    bounds.dedup();
    let whole = read(file, &[0, length.max(1)], file.len().max(1), max_bytes)?;
    let parts = read(file, &bounds, usize::from(block_bytes).max(1), max_bytes)?;
    assert_eq!(whole, parts);

    let mut start = 0;
    for (&end, &place) in whole.ends.iter().zip(&whole.places) {
        let document = &whole.text[start as usize..end as usize];
        let place = usize::try_from(place)?;
        assert_eq!(document, &file[place..place + document.len()]);
        assert!(document.len() <= max_bytes);
        start = end;
    }
    Ok(())
}
