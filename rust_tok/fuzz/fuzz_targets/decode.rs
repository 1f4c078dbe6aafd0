//! Any ids have a text, also those that no token has.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tok_fuzz::{Outcome, must_hold};

fuzz_target!(|input: (Vec<u16>, Vec<u32>, bool)| {
    let (small, any, skip) = input;
    must_hold(check(small, any, skip));
});

fn check(small: Vec<u16>, any: Vec<u32>, skip: bool) -> Outcome {
    let ids: Vec<u32> = small.into_iter().map(u32::from).chain(any).collect();
    for tokenizer in tok_fuzz::tokenizers()? {
        tokenizer.decode(&ids, skip);
    }
    Ok(())
}
