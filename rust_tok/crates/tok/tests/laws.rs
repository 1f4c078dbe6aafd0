//! Laws that hold for every text.

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::json;
use tok::normalize::BertNormalizer;
use tok::pretokenize::{bert, byte_level};
use tok::template::truncated;
use tok::unicode::{Form, normalize_into};
use tok::{EncodeOptions, Tokenizer};

/// Any text, with more of what tokenizers stumble over than chance would bring.
fn text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        any::<String>(),
        "[a-c ']{0,12}",
        "[ \t\r\n\u{a0}\u{2028}\u{3000}]{1,4}",
        "[\u{300}-\u{345}\u{1100}-\u{1112}\u{1161}-\u{1175}\u{ac00}-\u{ac20}]{1,6}",
        Just("[MASK]".to_owned()),
        Just("don't've'll".to_owned()),
    ];
    vec(piece, 0..6).prop_map(|pieces| pieces.concat())
}

/// Byte-level BPE over all bytes with a few merges, in the order given.
fn bpe(merges: &[(&str, &str)]) -> tok::Result<Tokenizer> {
    let mut vocab = serde_json::Map::new();
    for token in byte_level::BYTE_TO_CHAR.map(String::from) {
        let id = vocab.len();
        vocab.insert(token, id.into());
    }
    for (left, right) in merges {
        let id = vocab.len();
        vocab.insert(format!("{left}{right}"), id.into());
    }
    let section = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true});
    let file = json!({
        "pre_tokenizer": section,
        "decoder": section,
        "model": {"type": "BPE", "vocab": vocab, "merges": merges},
    });
    Tokenizer::from_json(&file.to_string())
}

const MERGES: [(&str, &str); 8] = [
    ("b", "c"),
    ("a", "a"),
    ("a", "b"),
    ("aa", "aa"),
    ("Ġ", "a"),
    ("ab", "c"),
    ("Ġa", "bc"),
    ("aa", "bc"),
];

fn encode(tokenizer: &Tokenizer, text: &str) -> tok::Result<Vec<u32>> {
    let mut ids = Vec::new();
    tokenizer.with_scratch(0, |scratch| {
        tokenizer.encode_into(text, None, EncodeOptions::default(), scratch, &mut ids)
    })?;
    Ok(ids)
}

/// The definition: again and again the earliest learnt pair, the leftmost of equals.
fn merged_by_definition(piece: &str) -> Vec<String> {
    let mut symbols: Vec<String> = piece
        .bytes()
        .map(|byte| byte_level::BYTE_TO_CHAR[usize::from(byte)].to_string())
        .collect();
    let rank = |left: &str, right: &str| MERGES.iter().position(|merge| *merge == (left, right));
    loop {
        let best = symbols
            .windows(2)
            .enumerate()
            .filter_map(|(place, two)| Some((rank(&two[0], &two[1])?, place)))
            .min();
        let Some((_, place)) = best else {
            return symbols;
        };
        let right = symbols.remove(place + 1);
        symbols[place].push_str(&right);
    }
}

proptest! {
    #[test]
    fn byte_level_pieces_are_the_text(text in text()) {
        let mut joined = String::new();
        byte_level::split(&text, |piece| {
            assert!(!piece.is_empty());
            joined.push_str(piece);
        });
        prop_assert_eq!(joined, text);
    }

    #[test]
    fn bert_words_are_the_text_without_white_space(text in text()) {
        let mut joined = String::new();
        bert::split(&text, |word| {
            assert!(!word.is_empty());
            joined.push_str(word);
        });
        let expected: String = text.chars().filter(|c| !c.is_whitespace()).collect();
        prop_assert_eq!(joined, expected);
    }

    #[test]
    fn decoding_byte_level_ids_gives_the_text_back(text in text()) {
        let tokenizer = bpe(&MERGES)?;
        prop_assert_eq!(tokenizer.decode(&encode(&tokenizer, &text)?, false), text);
    }

    #[test]
    fn the_queue_merges_as_the_definition_says(text in "[abc ]{0,40}|(a|b|c|ab|aaaa){0,60}") {
        let tokenizer = bpe(&MERGES)?;
        let mut expected = Vec::new();
        byte_level::split(&text, |piece| expected.extend(merged_by_definition(piece)));
        let ids = encode(&tokenizer, &text)?;
        let tokens: Vec<_> = ids.iter().filter_map(|&id| tokenizer.id_to_token(id)).collect();
        prop_assert_eq!(tokens, expected);
    }

    #[test]
    fn normal_forms_are_stable(text in text()) {
        let form = |text: &str, form| {
            let mut out = String::new();
            normalize_into(text, form, &mut out);
            out
        };
        for (composed, decomposed) in [(Form::Nfc, Form::Nfd), (Form::Nfkc, Form::Nfkd)] {
            let (c, d) = (form(&text, composed), form(&text, decomposed));
            prop_assert_eq!(form(&c, composed), c.clone());
            prop_assert_eq!(form(&d, decomposed), d.clone());
            prop_assert_eq!(form(&d, composed), c.clone());
            prop_assert_eq!(form(&c, decomposed), d);
        }
    }

    #[test]
    fn bert_normalization_joins_at_blanks(left in text(), right in text(), lowercase: bool) {
        let normalized = |text: &str| {
            let mut out = String::new();
            BertNormalizer::new(lowercase).normalize_into(text, &mut out);
            out
        };
        let whole = normalized(&format!("{left} {right}"));
        prop_assert_eq!(whole, format!("{} {}", normalized(&left), normalized(&right)));
    }

    #[test]
    fn cutting_fills_the_room_and_takes_from_the_longer(
        first in 0usize..40, second in 0usize..40, room in 0usize..60,
    ) {
        let (a, b) = truncated(first, Some(second), room);
        prop_assert_eq!(a + b, room.min(first + second));
        prop_assert!(a <= first && b <= second);
        if a < first && b < second {
            prop_assert!(a.abs_diff(b) <= 1);
        }
    }

    #[test]
    fn no_text_is_a_readable_file_and_none_panics(text in "\\PC{0,200}") {
        prop_assert!(Tokenizer::from_json(&text).is_err());
    }
}
