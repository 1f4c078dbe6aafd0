//! The ways to encode against the definition, for merge tables of any kind.

use proptest::prelude::*;

use super::*;
use crate::pretokenize::byte_level;

/// A model whose alphabet is all bytes, with the merges that the numbers choose: each joins two
/// tokens that exist by then. `proper` merges only make new tokens, as training mostly does.
fn model(choices: &[(usize, usize)], proper: bool) -> Result<(Bpe, Vocab)> {
    // Mostly of few letters, so that merges meet each other.
    let mut tokens: Vec<String> = "abc".chars().map(String::from).collect();
    let mut pairs = Vec::new();
    for &(left, right) in choices {
        let left = tokens[left % tokens.len()].clone();
        let right = tokens[right % tokens.len()].clone();
        let merged = format!("{left}{right}");
        let new = !tokens.contains(&merged);
        if merged.len() > 24 || (proper && !new) {
            continue;
        }
        if new {
            tokens.push(merged);
        }
        pairs.push((left, right));
    }
    let mut vocab = Vocab::default();
    for (id, token) in BYTE_TO_CHAR
        .iter()
        .map(char::to_string)
        .chain(tokens[3..].to_vec())
        .enumerate()
    {
        vocab.insert(&token, id as u32);
    }
    if !proper {
        // Any order of ranks.
        let middle = pairs.len() / 2;
        pairs.rotate_left(middle);
    }
    Ok((Bpe::new(BpeConfig::default(), &vocab, &pairs)?, vocab))
}

/// The id of each byte.
fn symbols(model: &Bpe, piece: &[u8]) -> Result<Vec<u32>> {
    (piece.iter())
        .map(|&byte| model.bytes[usize::from(byte)])
        .collect::<Option<_>>()
        .ok_or_else(|| Error::Argument(format!("a byte of {piece:?} has no id")))
}

/// Again and again the pair of the least rank, the leftmost of equals.
fn merge_by_definition(model: &Bpe, piece: &[u8]) -> Result<Vec<u32>> {
    let mut ids = symbols(model, piece)?;
    let rank = |left, right| {
        model
            .merges
            .list
            .iter()
            .rposition(|&pair| pair == (left, right))
    };
    loop {
        let pairs = (0..ids.len().saturating_sub(1))
            .filter_map(|place| Some((rank(ids[place], ids[place + 1])?, place)));
        let Some((rank, place)) = pairs.min() else {
            return Ok(ids);
        };
        ids.splice(place..place + 2, [model.merges.products[rank]]);
    }
}

fn all_ways(model: &Bpe, piece: &[u8]) -> Result<Vec<(&'static str, Vec<u32>)>> {
    let mut scratch = MergeScratch::default();
    let symbols = symbols(model, piece)?;
    let mut ways = Vec::new();
    let mut ids = Vec::new();
    Queue::default().merge(&model.merges, &symbols, &mut ids);
    ways.push(("queue", ids));
    if symbols.len() <= FEW {
        let mut few = symbols.clone();
        let len = merge_few(&model.merges, &mut few);
        few.truncate(len);
        ways.push(("arrays", few));
    }
    if let Some(greedy) = &model.greedy {
        let mut ids = Vec::new();
        assert!(greedy.encode(&model.merges, piece, &mut scratch.piece.path, &mut ids));
        ways.push(("greedy", ids));
    }
    let mut ids: Vec<u32> = Vec::new();
    model.encode_piece(piece, &mut scratch, &mut ids);
    ways.push(("piece", ids));
    Ok(ways)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 3 } else { 512 }))]

    #[test]
    fn all_ways_merge_as_the_definition_says(
        choices in prop::collection::vec((0usize..64, 0usize..64), 0..24),
        proper: bool,
        pieces in prop::collection::vec("[a-c]{0,40}|(a|ab|abc|aa){0,12}|[a-d]{1,6}", 8),
    ) {
        let (model, _) = model(&choices, proper)?;
        for piece in &pieces {
            let expected = merge_by_definition(&model, piece.as_bytes())?;
            for (way, ids) in all_ways(&model, piece.as_bytes())? {
                prop_assert_eq!(&ids, &expected, "{} of {:?}, merges {:?}", way, piece, model.merges.list);
            }
        }
    }

}

proptest! {
    // Few: each fills two tables.
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 1 } else { 16 }))]

    #[test]
    fn a_text_is_its_pieces_whatever_the_cache_holds(
        choices in prop::collection::vec((0usize..64, 0usize..64), 0..24),
        texts in prop::collection::vec("([a-c]{0,20}|[ \t]{1,3}|é|'s|a{60,90}|[a-d]{1,4}|\u{3000}){0,60}", 4),
    ) {
        let (model, vocab) = model(&choices, true)?;
        let mut filled = WordCache::<u16>::default();
        model.fill(&vocab, &mut filled);
        let mut wide = WordCache::<u32>::default();
        let mut scratch = MergeScratch::default();
        for text in texts.iter().chain(&texts) {
            let mut pieces = Vec::new();
            byte_level::split(text, |piece| pieces.push(merge_by_definition(&model, piece.as_bytes())));
            let expected = pieces.into_iter().collect::<Result<Vec<_>>>()?.concat();
            let (mut ids, mut wide_ids) = (Vec::new(), Vec::new());
            model.encode_text(text, &mut filled, &mut scratch, &mut ids);
            model.encode_text(text, &mut wide, &mut scratch, &mut wide_ids);
            prop_assert_eq!(ids.iter().map(|&id| u32::from(id)).collect::<Vec<_>>(), expected.clone());
            prop_assert_eq!(wide_ids, expected);
        }
    }
}

#[test]
fn merges_in_order_are_encoded_in_linear_time_and_others_are_not_trusted() -> Result<()> {
    let pairs = |pairs: &[(&str, &str)]| {
        let mut vocab = Vocab::default();
        let singles = BYTE_TO_CHAR.iter().map(char::to_string);
        let tokens = singles.chain(["ab", "abc", "bc"].map(String::from));
        for (id, token) in tokens.enumerate() {
            vocab.insert(&token, id as u32);
        }
        let pairs: Vec<_> = pairs
            .iter()
            .map(|(a, b)| (a.to_string(), b.to_string()))
            .collect();
        Bpe::new(BpeConfig::default(), &vocab, &pairs)
    };
    assert!(pairs(&[("a", "b"), ("ab", "c")])?.greedy.is_some());
    // Two ways to one token are none too many.
    assert!(
        pairs(&[("a", "b"), ("b", "c"), ("ab", "c"), ("a", "bc")])?
            .greedy
            .is_some()
    );
    // `abc` is made of what comes later.
    assert!(pairs(&[("ab", "c"), ("a", "b")])?.greedy.is_none());
    Ok(())
}
