//! Columns of text, lists of them, slices: every row is a text, a null or an error.

#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use tok_arrow::export::{self, Buffer};
use tok_arrow::{Column, TextRows};
use tok_fuzz::{AnyText, Outcome, must_hold};

fuzz_target!(|input: (AnyText, Option<Vec<i16>>, u8, u8)| {
    let (text, lists, skip, take) = input;
    must_hold(check(text, lists, skip, take));
});

fn check(text: AnyText, lists: Option<Vec<i16>>, skip: u8, take: u8) -> Outcome {
    let text = text.node();
    let node = match lists {
        None => Arc::new(text),
        Some(mut offsets) => {
            offsets.push(i16::try_from(text.length).unwrap_or(i16::MAX));
            let length = offsets.len() - 1;
            let offsets = Buffer::I32(offsets.into_iter().map(i32::from).collect());
            tok_fuzz::nested(
                c"+l",
                length,
                vec![None, Some(offsets)],
                vec![text],
                Vec::new(),
            )
        }
    };
    let schema = export::schema(&node)?;
    let whole = export::array(&node);
    let mut slice = export::array(&node);
    let offset = usize::from(skip).min(node.length);
    slice.offset = offset as i64;
    slice.length = usize::from(take).min(node.length - offset) as i64;
    // SAFETY: buffers as large as types and lengths say, in the array and in the slice of it.
    let Ok(column) = (unsafe { Column::new(&schema, vec![whole, slice]) }) else {
        return Ok(());
    };
    let Ok((texts, outer)) = column.texts() else {
        return Ok(());
    };
    for row in 0..texts.len() {
        let _ = texts.get(row).map(|text| text.map(str::len));
    }
    if outer.is_none() {
        let rows = TextRows {
            texts: &texts,
            pairs: None,
        };
        let [_, bpe] = tok_fuzz::tokenizers()?;
        let options = tok::EncodeOptions {
            add_special_tokens: false,
            split_special_tokens: false,
            max_length: None,
        };
        let _ = tok::batch::encode_rows::<u16>(bpe, &rows, options, || false);
        let _ = rows.validity();
    }
    Ok(())
}
