use super::*;

impl Rows for Vec<Option<String>> {
    fn len(&self) -> usize {
        self.as_slice().len()
    }

    fn weight(&self, row: usize) -> usize {
        self[row].as_ref().map_or(0, String::len)
    }

    fn get(&self, row: usize) -> Result<Option<(&str, Option<&str>)>> {
        Ok(self[row].as_deref().map(|text| (text, None)))
    }
}

fn tokenizers() -> Result<[Tokenizer; 2]> {
    let section = r#"{"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true}"#;
    let letters: String = (crate::pretokenize::byte_level::BYTE_TO_CHAR.iter())
        .enumerate()
        .map(|(id, c)| format!("{:?}: {id},", c.to_string()))
        .collect();
    let bpe = format!(
        r#"{{"pre_tokenizer": {section}, "model": {{"type": "BPE",
        "vocab": {{{letters} "Ġa": 256, "ab": 257}}, "merges": ["Ġ a", "a b"]}}}}"#
    );
    let wordpiece = r###"{"normalizer": {"type": "BertNormalizer", "clean_text": true,
        "handle_chinese_chars": true, "strip_accents": null, "lowercase": true},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 2], "cls": ["[CLS]", 1]},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "max_input_chars_per_word": 100,
        "continuing_subword_prefix": "##",
        "vocab": {"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "a": 3, "##b": 4, "é": 5, ".": 6}}}"###;
    Ok([
        Tokenizer::from_json(&bpe)?,
        Tokenizer::from_json(wordpiece)?,
    ])
}

#[test]
fn a_piece_waits_for_its_thread_but_not_for_long() -> Result<()> {
    let [tokenizer, _] = tokenizers()?;
    let rows = vec![Some("a".repeat(CHUNK_BYTES)); 4 * MAX_LAG];
    let mut work = Work {
        number: 0,
        rest: 0..rows.as_slice().len(),
        large: None,
        set_aside: VecDeque::new(),
        cuts: false,
    };
    let turn = |thread| Turn {
        thread,
        num_threads: 3,
    };
    let mut take = |thread| match work.take(turn(thread), &tokenizer, &rows)? {
        Some((number, Task::Rows(range))) => {
            assert_eq!(range, number..number + 1);
            Ok(Some(number))
        }
        Some((_, Task::Part(..))) => Err(Error::Argument("no row is to be cut".to_owned())),
        None => Ok(None),
    };
    let first: Result<Vec<_>> = [1, 0, 0, 2, 1].into_iter().map(&mut take).collect();
    assert_eq!(first?, [1, 0, 3, 2, 4].map(Some));
    // The third thread doesn't come again.
    let mut taken = vec![0, 1, 2, 3, 4];
    while let Some(number) = take(taken.len() % 2)? {
        let older = (0..number).find(|number| !taken.contains(number));
        let oldest = older.unwrap_or(number);
        assert!(number <= oldest + MAX_LAG, "{number} before {oldest}");
        taken.push(number);
    }
    taken.sort_unstable();
    assert!(taken.into_iter().eq(0..rows.as_slice().len()));
    Ok(())
}

#[test]
#[cfg_attr(miri, ignore = "hours; the assembly has tests of its own")]
fn large_rows_have_the_ids_of_the_whole() -> Result<()> {
    let words = ["ab ", "a", "  ab\n", "É. ", "<b>", "aab", " a", "中"];
    let mut seed = 1usize;
    let mut large = |bytes: usize| {
        let mut text = String::new();
        while text.len() < bytes {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            text.push_str(words[seed >> 60 & 7]);
        }
        Some(text)
    };
    let short = Some("a ab".to_owned());
    let rows = vec![
        large(LARGE_BYTES * 3 / 2),
        short.clone(),
        None,
        large(LARGE_BYTES * 3),
        short,
        large(90),
    ];
    for tokenizer in tokenizers()? {
        for add_special_tokens in [false, true] {
            let options = EncodeOptions {
                add_special_tokens,
                ..EncodeOptions::default()
            };
            assert!(tokenizer.can_cut(options));
            let lists: Lists<u16> = encode_rows(&tokenizer, &rows, options, || false)?;
            for (ids, row) in lists.iter().zip(&rows) {
                let mut whole = Vec::<u16>::new();
                if let Some(text) = row {
                    tokenizer.with_scratch(0, |scratch| {
                        tokenizer.encode_into(text, None, options, scratch, &mut whole)
                    })?;
                }
                assert!(ids == whole, "{} ids, {} expected", ids.len(), whole.len());
            }
            assert_eq!(lists.lengths.len(), rows.as_slice().len());
        }
    }
    Ok(())
}
