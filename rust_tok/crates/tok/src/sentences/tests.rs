use proptest::prelude::*;
use unicode_segmentation::UnicodeSegmentation;

use super::*;

fn ends(text: &str, abbreviations: bool) -> Vec<usize> {
    let mut ends = Vec::new();
    split(text, abbreviations, |end| ends.push(end));
    ends
}

fn sentences(text: &str) -> Vec<&str> {
    let mut start = 0;
    (ends(text, true).into_iter())
        .map(|end| {
            let sentence = &text[start..end];
            start = end;
            sentence
        })
        .collect()
}

/// The text with every line's end that has text on both sides as blanks, said another way than in
/// the splitter: line by line.
fn unwrapped(text: &str) -> String {
    let mut pieces: Vec<(&str, &str)> = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(['\r', '\n']) {
        let len = if rest[at..].starts_with("\r\n") { 2 } else { 1 };
        pieces.push((&rest[..at], &rest[at..at + len]));
        rest = &rest[at + len..];
    }
    pieces.push((rest, ""));
    let blank = |line: &str| line.bytes().all(|b| b == b' ' || b == b'\t');
    let mut out = String::new();
    for (number, (line, end)) in pieces.iter().enumerate() {
        out.push_str(line);
        let before = number > 0 && blank(line);
        let after = number + 2 < pieces.len() && blank(pieces[number + 1].0);
        match before || after {
            true => out.push_str(end),
            false => end.chars().for_each(|_| out.push(' ')),
        }
    }
    out
}

fn oracle(text: &str) -> Vec<usize> {
    let text = unwrapped(text);
    text.split_sentence_bound_indices()
        .map(|(start, sentence)| start + sentence.len())
        .collect()
}

#[test]
fn every_code_point_is_as_in_the_oracle() {
    let contexts = [
        ("a", "!"),
        ("a", "a"),
        ("1", "A"),
        ("!", ""),
        ("! ", ""),
        ("!", ")"),
        ("!", "A"),
        (". ", ""),
        (".", ""),
        ("a.", ""),
        (". ", "a"),
        (".", "A"),
        ("a", ".A"),
    ];
    for c in '\0'..=char::MAX {
        for (before, after) in contexts {
            let text = format!("{before}{c}{after}");
            assert_eq!(ends(&text, false), oracle(&text), "{text:?}");
        }
    }
}

/// One of each class, the awkward ones, and line ends.
const ATOMS: [&str; 27] = [
    "a", "A", "ª", "文", "1", ".", "․", "!", "?", "。", ",", ")", "(", "\"", "’", " ", "\u{a0}",
    "\t", "\n", "\r", "\r\n", "\n\n", "\u{2028}", "\u{301}", "\u{200d}", "\u{85}", "🙂",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn boundaries_are_those_of_the_oracle(
        atoms in prop::collection::vec(prop::sample::select(&ATOMS[..]), 0..24),
    ) {
        let text = atoms.concat();
        prop_assert_eq!(ends(&text, false), oracle(&text), "{:?}", text);
    }

    #[test]
    fn sentences_together_are_the_text(
        atoms in prop::collection::vec(prop::sample::select(&ATOMS[..]), 0..24),
        other in "\\PC{0,20}",
        abbreviations: bool,
    ) {
        for text in [atoms.concat(), other] {
            let ends = ends(&text, abbreviations);
            prop_assert!(ends.iter().all(|&end| end > 0 && text.is_char_boundary(end)));
            prop_assert!(ends.is_sorted_by(|a, b| a < b));
            prop_assert_eq!(ends.last().copied().unwrap_or(0), text.len());
        }
    }

    #[test]
    fn abbreviations_only_take_ends_away(
        words in prop::collection::vec(
            prop::sample::select(&["Dr.", "e.g.", "No.", "X.", "I.", "The", "5", "end."][..]),
            0..12,
        ),
    ) {
        let text = words.join(" ");
        let all = ends(&text, false);
        prop_assert!(ends(&text, true).iter().all(|end| all.contains(end)));
    }
}

#[test]
fn abbreviations_do_not_end_sentences() {
    let expected = [
        "Dr. Curie met Prof. Bohr. ",
        "See (cf. Fig. 3) and e.g. Table 2 of J. R. R. Tolkien. ",
        "He said no. ",
        "5 Men came with No. 7. ",
        "So did I. ",
        "They etc. ",
        "The end.",
    ];
    assert_eq!(sentences(&expected.concat()), expected);
}

#[test]
fn lines_are_wrapped_and_blank_lines_part() {
    let text = "A title\n \nOne line\r\nand the next. Then\nmore\n";
    let expected = [
        "A title\n",
        " \n",
        "One line\r\nand the next. ",
        "Then\nmore\n",
    ];
    assert_eq!(sentences(text), expected);
}

#[test]
fn nothing_has_no_sentences() {
    assert!(sentences("").is_empty());
}

struct Texts<'t>(&'t [Option<&'t str>]);

impl crate::batch::Rows for Texts<'_> {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn weight(&self, row: usize) -> usize {
        self.0[row].map_or(0, str::len)
    }

    fn get(&self, row: usize) -> crate::Result<Option<(&str, Option<&str>)>> {
        Ok(self.0[row].map(|text| (text, None)))
    }
}

#[test]
fn rows_keep_their_sentences_and_nulls() -> crate::Result<()> {
    let long = "One. Two! ".repeat(100_000);
    let texts = [
        Some("A b. C d."),
        None,
        Some(""),
        Some(long.as_str()),
        Some("E."),
    ];
    let options = SentenceOptions {
        abbreviations: true,
        one_line: false,
    };
    let sentences = split_rows(&Texts(&texts), options, || false)?;
    assert_eq!(sentences.valid, [true, false, true, true, true]);
    assert_eq!(sentences.rows, [2, 2, 2, 200_002, 200_003]);
    assert_eq!(sentences.ends[..2], [5, 9]);
    assert_eq!(sentences.text.len(), 9 + long.len() + 2);
    let num_bytes = sentences.text.len() as i64;
    assert_eq!(sentences.ends.last(), Some(&num_bytes));
    let stopped = split_rows(&Texts(&texts), options, || true);
    assert!(matches!(stopped, Err(crate::Error::Interrupted)));
    Ok(())
}
