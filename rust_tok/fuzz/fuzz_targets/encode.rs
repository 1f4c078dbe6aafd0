//! Any text: no panic, the same ids from a tokenizer that has seen much and one that has seen
//! nothing, cuts that are beginnings, and byte-level ids that decode to the text.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tok::{EncodeOptions, Tokenizer};
use tok_fuzz::{Outcome, must_hold};

const PLAIN: EncodeOptions = EncodeOptions {
    add_special_tokens: false,
    split_special_tokens: false,
    max_length: None,
};

fuzz_target!(|input: (&str, &str, u8)| {
    let (text, pair, length) = input;
    must_hold(check(text, pair, length));
});

fn check(text: &str, pair: &str, length: u8) -> Outcome {
    for tokenizer in tok_fuzz::tokenizers()? {
        let seen = tok_fuzz::encode(tokenizer, text, None, PLAIN)?;
        // A fresh one costs much: only now and then.
        if length == 0 {
            let json = tokenizer.to_json()?;
            let fresh = Tokenizer::from_json(&json)?;
            assert_eq!(tok_fuzz::encode(&fresh, text, None, PLAIN)?, seen);
        }
        let again = tok_fuzz::encode(tokenizer, text, None, PLAIN)?;
        assert_eq!(seen, again);
        let cut = EncodeOptions {
            max_length: Some(length.into()),
            ..PLAIN
        };
        let cut = tok_fuzz::encode(tokenizer, text, None, cut)?;
        assert_eq!(cut, seen[..seen.len().min(length.into())]);
        let options = EncodeOptions {
            add_special_tokens: true,
            split_special_tokens: length % 2 == 0,
            max_length: (length > 8).then_some(length.into()),
        };
        if let Ok(ids) = tok_fuzz::encode(tokenizer, text, Some(pair), options) {
            assert!(ids.iter().all(|&id| tokenizer.id_to_token(id).is_some()));
        }
    }
    let [_, bpe] = tok_fuzz::tokenizers()?;
    let split = EncodeOptions {
        split_special_tokens: true,
        ..PLAIN
    };
    let ids = tok_fuzz::encode(bpe, text, None, split)?;
    assert_eq!(bpe.decode(&ids, false), text);
    Ok(())
}
