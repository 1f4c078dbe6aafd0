use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

const WORDPIECE: WordKind = WordKind::WordPiece { lowercase: true };
const BPE: WordKind = WordKind::Bpe {
    add_prefix_space: false,
};

fn counts(kind: WordKind, words: &[(&str, u64)]) -> Result<WordCounts> {
    let mut counts = WordCounts::new(kind);
    for (word, count) in words {
        counts.add(word, *count)?;
    }
    Ok(counts)
}

fn settings(vocab_size: usize, min_frequency: u64) -> TrainSettings {
    TrainSettings {
        vocab_size,
        min_frequency,
        special_tokens: vec!["[UNK]".into()],
        limit_alphabet: None,
    }
}

fn bpe(counts: &WordCounts, settings: &TrainSettings) -> Result<Trained> {
    train_bpe(counts, settings, &mut |_| Ok(()))
}

fn wordpiece(counts: &WordCounts, settings: &TrainSettings) -> Result<Trained> {
    train_wordpiece(counts, settings, &mut |_| Ok(()))
}

/// Byte pair encoding as one would write it down: rewrite all words, count all pairs, again and
/// again, with the rules of `merges` stated over whole words.
fn by_the_book(words: &HashMap<Vec<u8>, u64>, tokens: &mut Vec<Vec<u8>>, wanted: usize) {
    let mut words: Vec<(Vec<Vec<u8>>, u64)> = (words.iter())
        .map(|(word, &count)| (word.iter().map(|&byte| vec![byte]).collect(), count))
        .collect();
    while tokens.len() < wanted {
        let mut pairs: HashMap<(Vec<u8>, Vec<u8>), u64> = HashMap::new();
        for (word, count) in &words {
            for pair in word.windows(2) {
                *pairs.entry((pair[0].clone(), pair[1].clone())).or_default() += count;
            }
        }
        let ids: HashMap<&Vec<u8>, usize> = tokens.iter().zip(0..).collect();
        let best = (pairs.into_iter())
            .map(|((a, b), count)| (std::cmp::Reverse(count), ids[&a], ids[&b], a, b))
            .min();
        let Some((std::cmp::Reverse(count), _, _, left, right)) = best else {
            break;
        };
        if count < 2 {
            break;
        }
        let token = [left.clone(), right.clone()].concat();
        if !tokens.contains(&token) {
            tokens.push(token.clone());
        }
        for (word, _) in &mut words {
            let mut at = 0;
            while at + 1 < word.len() {
                if word[at] == left && word[at + 1] == right {
                    word.splice(at..at + 2, [token.clone()]);
                }
                at += 1;
            }
        }
    }
}

fn byte_tokens() -> Vec<Vec<u8>> {
    let mut bytes: Vec<u8> = (0..=255).collect();
    bytes.sort_by_key(|&byte| BYTE_TO_CHAR[usize::from(byte)]);
    bytes.into_iter().map(|byte| vec![byte]).collect()
}

proptest! {
    #[test]
    fn bpe_is_by_the_book(
        words in prop::collection::hash_map("[ab]{1,12}|[a-e]{1,8}", 1_u64..9, 1..24),
        extra in 0_usize..60,
    ) {
        let words: HashMap<Vec<u8>, u64> =
            words.into_iter().map(|(word, count)| (word.into_bytes(), count)).collect();
        let mut counted = WordCounts::new(BPE);
        for (word, &count) in &words {
            counted.add(std::str::from_utf8(word)?, count)?;
        }
        let trained = bpe(&counted, &settings(257 + extra, 2))?;
        // Once a token is spelled by two merges the corners of `merges` begin.
        let new_tokens = trained.tokens.len() - 257;
        prop_assume!(trained.merges.len() == new_tokens);
        let mut expected = byte_tokens();
        by_the_book(&words, &mut expected, 256 + extra);
        let found: Option<Vec<Vec<u8>>> = trained.tokens[1..]
            .iter()
            .map(|token| token.chars().map(crate::pretokenize::byte_level::char_to_byte).collect())
            .collect();
        prop_assert_eq!(found, Some(expected));
    }

    #[test]
    fn results_do_not_depend_on_the_order_of_words_or_on_splits(
        words in prop::collection::vec(("[a-dé]{1,9}", 1_u64..5), 1..40),
        parts in 1_usize..4,
        limit in 2_usize..6,
    ) {
        for kind in [WORDPIECE, BPE] {
            let train = |counts: &WordCounts| {
                let settings = TrainSettings {
                    limit_alphabet: Some(limit),
                    ..settings(300, 1)
                };
                match kind {
                    BPE => bpe(counts, &settings),
                    _ => wordpiece(counts, &settings),
                }
            };
            let mut forward = WordCounts::new(kind);
            let mut backward = WordCounts::new(kind);
            for (word, count) in &words {
                forward.add(word, *count)?;
            }
            for (word, count) in words.iter().rev() {
                backward.add(word, *count)?;
            }
            let mut joined = WordCounts::new(kind);
            for part in forward.partition(parts)?.iter().rev() {
                joined.merge(part)?;
            }
            let expected = train(&forward)?;
            prop_assert_eq!(&train(&backward)?, &expected);
            prop_assert_eq!(&train(&joined)?, &expected);
        }
    }
}

#[test]
fn wordpiece_marks_continuing_pieces() -> Result<()> {
    let counts = counts(WORDPIECE, &[("abab", 3), ("b", 1)])?;
    let trained = wordpiece(&counts, &settings(100, 2))?;
    let expected = ["[UNK]", "a", "b", "##a", "##b", "ab", "##ab", "abab"];
    assert_eq!(trained.tokens, expected);
    Ok(())
}

#[test]
fn equal_counts_go_by_ids() -> Result<()> {
    let counts = counts(BPE, &[("xy", 5), ("ab", 5), ("cd", 7)])?;
    let trained = bpe(&counts, &settings(260, 2))?;
    assert_eq!(trained.tokens[257..], ["cd", "ab", "xy"]);
    Ok(())
}

#[test]
fn overlapping_pairs_merge_from_the_left() -> Result<()> {
    let counts = counts(BPE, &[("aaaaa", 2)])?;
    let trained = bpe(&counts, &settings(300, 2))?;
    assert_eq!(trained.tokens[257..], ["aa", "aaa", "aaaaa"]);
    Ok(())
}

#[test]
fn min_frequency_is_about_pairs_over_all_words() -> Result<()> {
    let counts = counts(BPE, &[("xun", 1), ("yun", 1)])?;
    let trained = bpe(&counts, &settings(300, 2))?;
    assert_eq!(trained.tokens[257..], ["un"]);
    Ok(())
}

#[test]
fn the_alphabet_keeps_the_most_frequent_characters() -> Result<()> {
    let counts = counts(WORDPIECE, &[("ab", 2), ("ac", 1), ("d", 9), ("e", 1)])?;
    let limited = TrainSettings {
        limit_alphabet: Some(3),
        ..settings(100, 9)
    };
    let trained = wordpiece(&counts, &limited)?;
    assert_eq!(trained.tokens, ["[UNK]", "a", "b", "d", "##b"]);
    Ok(())
}

#[test]
fn counts_beyond_32_bits_weigh_in_full() -> Result<()> {
    let much = u64::from(u32::MAX) * 2 + 3;
    let counts = counts(BPE, &[("ab", much), ("cd", much + 1), ("cx", 5), ("ay", 9)])?;
    let trained = bpe(&counts, &settings(259, 2))?;
    assert_eq!(trained.tokens[257..], ["cd", "ab"]);
    Ok(())
}

#[test]
fn a_special_token_that_a_merge_spells_is_used_for_it() -> Result<()> {
    let counts = counts(BPE, &[("abc", 3)])?;
    let mut asked = settings(300, 2);
    asked.special_tokens = vec!["ab".into()];
    let trained = bpe(&counts, &asked)?;
    assert_eq!(trained.tokens[257..], ["abc"]);
    assert_eq!(trained.merges.len(), 2);
    Ok(())
}

#[test]
fn a_vocabulary_without_room_is_refused() -> Result<()> {
    let outcome = bpe(&counts(BPE, &[])?, &settings(256, 2)).map_err(|error| error.to_string());
    let refused = matches!(&outcome, Err(error) if error.contains("257 entries"));
    assert!(refused, "{outcome:?}");
    Ok(())
}

#[test]
fn counts_of_the_other_kind_are_refused() -> Result<()> {
    let wrong = counts(WORDPIECE, &[])?;
    assert!(train_bpe(&wrong, &settings(300, 2), &mut |_| Ok(())).is_err());
    let wrong = counts(BPE, &[])?;
    assert!(train_wordpiece(&wrong, &settings(300, 2), &mut |_| Ok(())).is_err());
    Ok(())
}

#[test]
fn counts_too_great_to_add_are_refused() -> Result<()> {
    let counts = counts(BPE, &[("ab", u64::MAX)])?;
    assert!(train_bpe(&counts, &settings(300, 2), &mut |_| Ok(())).is_err());
    Ok(())
}

#[test]
fn an_interruption_ends_the_training() -> Result<()> {
    let counts = counts(BPE, &[("ab", 5)])?;
    let mut stop = |_| Err(Error::Interrupted);
    let outcome = train_bpe(&counts, &settings(300, 2), &mut stop);
    assert!(matches!(outcome, Err(Error::Interrupted)));
    Ok(())
}

#[test]
fn one_long_word_takes_linear_time() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let mut state = 1_u32;
    let letters: Vec<u8> = (0..200_000)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            b'a' + (state >> 29) as u8
        })
        .collect();
    let mut counted = WordCounts::new(BPE);
    counted.add(std::str::from_utf8(&letters)?, 1)?;
    let trained = bpe(&counted, &settings(3_000, 2))?;
    assert!(trained.tokens.len() > 1_000);
    Ok(())
}
