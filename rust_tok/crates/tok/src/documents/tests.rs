use proptest::prelude::*;

use super::*;

/// The definition, over the whole text.
fn expected(text: &[u8]) -> Vec<Vec<u8>> {
    let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
    let mut documents = vec![Vec::new()];
    for line in text.split_inclusive(|&byte| byte == b'\n') {
        if line.ends_with(b"\n") && line.iter().all(|&byte| is_space(byte)) {
            documents.push(Vec::new());
        } else if let Some(document) = documents.last_mut() {
            document.extend_from_slice(line);
        }
    }
    for document in &mut documents {
        while document.ends_with(b"\n") || document.ends_with(b"\r") {
            document.pop();
        }
    }
    documents.retain(|document| !document.iter().all(|&byte| is_space(byte)));
    documents
}

fn split(
    text: &[u8],
    range: (usize, usize),
    block: usize,
    max_bytes: usize,
) -> (Vec<Vec<u8>>, bool) {
    let mut splitter = DocumentSplitter::new(range.0 as u64, range.1 as u64, max_bytes);
    let mut found = Vec::new();
    let mut take = |documents: Documents| {
        let mut begin = 0;
        for (&end, &place) in documents.ends.iter().zip(&documents.places) {
            let document = &documents.text[begin..end as usize];
            assert_eq!(text[place as usize..][..document.len()], *document);
            found.push(document.to_vec());
            begin = end as usize;
        }
        assert_eq!(documents.text.len(), begin);
    };
    for block in text[range.0.saturating_sub(1)..].chunks(block) {
        if splitter.finished() {
            break;
        }
        take(splitter.feed(block));
    }
    let early = splitter.finished();
    if !early {
        take(splitter.close());
    }
    (found, early)
}

fn texts() -> impl Strategy<Value = Vec<u8>> {
    let part = prop::sample::select(vec![
        "\n",
        "\n\n",
        "\r\n",
        "\r\n\r\n",
        "\n \t\n",
        "\n\x0b\n\x0c\n",
        " \n",
        "a",
        "  b",
        "é",
        "字",
        "🙂",
        "\0",
        "\u{2028}",
        "\r",
        " ",
        "x ",
        "\u{feff}",
        "long long long long long",
    ]);
    prop::collection::vec(part, 0..60).prop_map(|parts| parts.concat().into_bytes())
}

proptest! {
    #[test]
    fn ranges_and_blocks_of_any_size_give_every_document_once(
        text in texts(),
        range in 1_usize..40,
        block in 1_usize..400,
    ) {
        let mut found = Vec::new();
        for start in (0..text.len()).step_by(range) {
            let end = (start + range).min(text.len());
            found.extend(split(&text, (start, end), block, 1 << 20).0);
        }
        prop_assert_eq!(found, expected(&text));
    }

    #[test]
    fn pieces_of_long_documents_depend_on_nothing_else(
        text in texts(),
        range in 1_usize..30,
        block in 1_usize..300,
        max_bytes in 4_usize..24,
    ) {
        let whole = split(&text, (0, text.len()), text.len().max(1), max_bytes).0;
        let mut found = Vec::new();
        for start in (0..text.len()).step_by(range) {
            let end = (start + range).min(text.len());
            found.extend(split(&text, (start, end), block, max_bytes).0);
        }
        prop_assert_eq!(&found, &whole);
        for piece in &whole {
            prop_assert!(piece.len() <= max_bytes && std::str::from_utf8(piece).is_ok());
        }
    }
}

proptest! {
    #[test]
    fn blank_lines_are_found_wherever_blocks_of_64_bytes_cut_them(
        text in prop::collection::vec(prop::sample::select(b"\n\n \t\rx\xc3".to_vec()), 0..400),
        run in 0_usize..200,
        begins_blank: bool,
    ) {
        let text = [vec![b' '; run], text].concat();
        let mut expected = Vec::new();
        let mut begin = 0;
        for (place, _) in text.iter().enumerate().filter(|&(_, &byte)| byte == b'\n') {
            if is_blank(&text[begin..place]) && (begin > 0 || begins_blank) {
                expected.push(place);
            }
            begin = place + 1;
        }
        prop_assert_eq!(blank_line_ends(&text, begins_blank), expected);
    }
}

#[test]
fn no_more_is_read_than_the_range_needs() {
    let text = b"one line without an end ".repeat(1000);
    assert_eq!(split(&text, (5000, 6000), 100, 1 << 20), (Vec::new(), true));
}
