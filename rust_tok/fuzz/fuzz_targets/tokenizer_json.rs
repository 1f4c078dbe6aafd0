//! Any bytes as a tokenizer.json: an error or a tokenizer, and one that is read is written and read
//! again as the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tok::{EncodeOptions, Tokenizer};
use tok_fuzz::{Outcome, must_hold};

const TEXT: &str = "The caf\u{e9}\u{301} [MASK] isn't  日本 x\u{1f469}\u{200d}\u{1f4bb}\n";

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(tokenizer) = Tokenizer::from_json(text) {
        must_hold(check(&tokenizer));
    }
});

fn check(tokenizer: &Tokenizer) -> Outcome {
    let options = EncodeOptions {
        add_special_tokens: true,
        split_special_tokens: false,
        max_length: None,
    };
    let ids = tok_fuzz::encode(tokenizer, TEXT, None, options);
    let written = tokenizer.to_json()?;
    let again = Tokenizer::from_json(&written)?;
    assert_eq!(again.to_json()?, written);
    let others = tok_fuzz::encode(&again, TEXT, None, options);
    assert_eq!(
        ids.is_ok(),
        others.is_ok(),
        "{ids:?}, read again {others:?}"
    );
    if let (Ok(ids), Ok(others)) = (ids, others) {
        assert_eq!(ids, others);
        tokenizer.decode(&ids, true);
    }
    Ok(())
}
