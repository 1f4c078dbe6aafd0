//! The scanner against the regular expression's words, character by character.

use proptest::collection::vec;
use proptest::prelude::*;

use super::classes::{BLOCK_BITS, Block, Class, Classes, class_of};
use super::simd::{BLOCK, Portable};
use super::*;

/// The pieces, read off the expression.
fn split_by_definition(text: &str) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let run_of = |text: &str, class| {
            let end = text.find(|c| class_of(c) != class);
            end.unwrap_or(text.len())
        };
        let next = rest.chars().nth(1).map(class_of);
        let len = if let Some(len) = contraction(rest.as_bytes()) {
            len
        } else if first == ' ' && next.is_some_and(|class| class != Class::Space) {
            1 + run_of(&rest[1..], next.unwrap_or(Class::Other))
        } else if class_of(first) != Class::Space {
            run_of(rest, class_of(first))
        } else {
            let run = run_of(rest, Class::Space);
            let last = rest[..run].chars().next_back().map_or(0, char::len_utf8);
            if run == rest.len() || run == last {
                run
            } else {
                run - last
            }
        };
        let (piece, behind) = rest.split_at(len);
        pieces.push(piece);
        rest = behind;
    }
    pieces
}

/// Texts of several blocks with everything that the scanner treats on its own, at any place.
fn text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        6 => "[a-z]{1,20}",
        4 => "[ \t\n]{1,4}",
        2 => "[0-9.,!-]{1,5}",
        2 => "'(s|t|re|ve|m|ll|d|r|l|x|'|)",
        2 => "[\u{85}\u{a0}\u{1680}\u{2003}\u{2028}\u{3000} ]{1,4}",
        2 => "[ا-يक-हः-९中-丯가-깋а-яé×ぁ-ん。😀-😏]{1,9}",
        1 => any::<char>().prop_map(String::from),
    ];
    vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

fn check<S: Simd>(text: &str, simd: S) {
    let mut pieces = Vec::new();
    Split {
        text,
        piece: |piece| pieces.push(piece),
    }
    .run(simd);
    assert_eq!(pieces, split_by_definition(text));
}

const CASES: u32 = if cfg!(miri) { 4 } else { 512 };

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    #[test]
    fn pieces_are_those_of_the_expression(text in text()) {
        struct Check<'t>(&'t str);
        impl Kernel for Check<'_> {
            type Output = ();
            fn run<S: Simd>(self, simd: S) {
                check(self.0, simd);
            }
        }
        for level in Level::all() {
            level.run(Check(&text));
        }
    }

    #[test]
    fn all_levels_see_the_same_bits(block: [u8; 32], other: [u8; 32], place in 0..BLOCK) {
        struct Look<'b>(&'b [u8; BLOCK], usize);
        impl Kernel for Look<'_> {
            type Output = (simd::AsciiBits, [u64; 3], Vec<u32>);
            fn run<S: Simd>(self, simd: S) -> Self::Output {
                let Self(block, place) = self;
                let set = u64::from_le_bytes(std::array::from_fn(|n| block[n]));
                let found = [
                    simd.leads(block),
                    simd.equal(block, block[place]),
                    simd.within(block, set),
                ];
                let mut places = [0; ROOM];
                let num = simd.places(7, found[0] | found[2], &mut places);
                (simd.classify(block), found, places[..num].to_vec())
            }
        }
        let block: [u8; BLOCK] = std::array::from_fn(|n| if n < 32 { block[n] } else { other[n - 32] });
        let expected = Look(&block, place).run(Portable);
        for level in Level::all() {
            prop_assert_eq!(&level.run(Look(&block, place)), &expected);
        }
    }
}

#[test]
fn every_code_point_has_the_class_of_the_tables() {
    let classes = Classes::get();
    let step = if cfg!(miri) { 997 } else { 1 };
    for c in (0..0x11_0000).step_by(step).filter_map(char::from_u32) {
        let (number, low) = (c as u32 >> BLOCK_BITS, c as u32 & ((1 << BLOCK_BITS) - 1));
        let Block {
            letters,
            numbers,
            spaces,
        } = classes.block(number);
        let [letter, number, space] = [letters, numbers, spaces].map(|set| set >> low & 1);
        let expected = match class_of(c) {
            Class::Letter => (1, 0, 0),
            Class::Number => (0, 1, 0),
            Class::Space => (0, 0, 1),
            Class::Other => (0, 0, 0),
        };
        assert_eq!((letter, number, space), expected, "{c:?}");
    }
}

#[test]
fn first_bytes_of_letters_only_are_those_of_the_tables() {
    let leads = Classes::get().letter_leads;
    let mut others = 0;
    for c in (0x80..0x1_0000).filter_map(char::from_u32) {
        let lead = c.encode_utf8(&mut [0; 4]).as_bytes()[0];
        if class_of(c) != Class::Letter {
            others |= 1 << (lead & 0x3F);
        }
    }
    // Surrogates have no class.
    others |= 1 << (0xED & 0x3F) | 0b11;
    let all = (0xC0..0xF0_u32).fold(0, |all, lead| all | 1 << (lead & 0x3F));
    assert_eq!(leads, all & !others);
}

#[test]
fn a_piece_may_end_or_start_at_any_place_of_a_block() {
    for lead in 0..130 {
        for rest in [
            "'s x",
            "'ll",
            "'lle",
            "\u{3000}a",
            "\u{3000}\u{a0}",
            " \u{2003}b",
            "  ",
            "  c",
            "é1",
            "😀😀a",
            "中文a",
            "а中。ж\u{3000}",
            "'",
        ] {
            let text = format!("{}{rest}", "a".repeat(lead));
            let mut pieces = Vec::new();
            split(&text, |piece| pieces.push(piece));
            assert_eq!(pieces, split_by_definition(&text), "{text:?}");
        }
    }
}
