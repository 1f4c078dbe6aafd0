//! BERT's words straight from the text: normalization, splitting and the words' ids in one pass.
//!
//! The text is classified 64 bytes at a time into bits (`chunk`); words that are ASCII letters
//! and digits, and ASCII punctuation, go to the table of words as they lie there. What else
//! stands between two ASCII blanks or punctuation characters is split further by characters
//! (`classes`), without being normalized: a table says of each whether normalization leaves it
//! alone. A word with one that is not left alone has its text before normalization as key, so
//! that the normalizer sees each such word once.
//!
//! A key always means: the ids of this piece of text, normalized and split. That is exact where a
//! piece ends at a character that is no part of a word and that normalization neither changes nor
//! moves: marks are not ordered across it, and no mapping looks at its neighbours.
//!
//! # What it costs
//!
//! Instructions per byte (callgrind, AVX2, all that a row takes, 4 MB of English documentation in
//! documents of 2 KB, a vocabulary of 30,522): 24.4 for text met for the first time, 22.7 for known
//! text. Words are looked up some dozens at a time and their lines fetched ahead. The counts leave out
//! what remains: the wait for lines of the table that are not in the second-level cache.

use std::ops::Range;

mod chunk;
mod classes;

use chunk::Chunk;
use classes::{Class, Classes};

use crate::id::Id;
use crate::model::WordPiece;
use crate::normalize::BertNormalizer;
use crate::pretokenize::bert;
use crate::word_cache::{Key, Place, WordCache};

/// Finds the words of a text under a normalizer, or of a text that is already normalized.
#[derive(Debug)]
pub struct Scanner {
    normalizer: Option<BertNormalizer>,
    lowercase: bool,
    classes: Classes,
}

/// Words that are looked up in one go; a block of 64 bytes always fits.
const BATCH: usize = 128;

/// Keys of words, their lines in the table, and where they begin in their chunk.
#[derive(Debug)]
struct Batch([(Key, Place, u16); BATCH]);

impl Default for Batch {
    fn default() -> Self {
        Self([(Key::default(), Place::default(), 0); BATCH])
    }
}

/// Reused memory of a scan.
#[derive(Debug, Default)]
pub struct ScanScratch {
    chunk: Box<Chunk>,
    batch: Box<Batch>,
    normalized: String,
}

/// What the words of a scan go through.
struct Words<'a, I: Id> {
    scanner: &'a Scanner,
    model: &'a WordPiece,
    cache: &'a mut WordCache<I>,
    ids: &'a mut Vec<I>,
    normalized: &'a mut String,
}

impl Scanner {
    /// A scanner for texts that this normalizer has not seen, or for normalized texts.
    pub fn new(normalizer: Option<BertNormalizer>) -> Self {
        Self {
            normalizer,
            lowercase: normalizer.is_some_and(|normalizer| normalizer.lowercase),
            classes: Classes::new(normalizer),
        }
    }

    /// Appends the ids of a text. The table must have been used with this scanner only.
    pub fn encode<I: Id>(
        &self,
        text: &str,
        model: &WordPiece,
        cache: &mut WordCache<I>,
        scratch: &mut ScanScratch,
        ids: &mut Vec<I>,
    ) {
        let ScanScratch {
            chunk,
            batch,
            normalized,
        } = scratch;
        let mut words = Words {
            scanner: self,
            model,
            cache,
            ids,
            normalized,
        };
        let mut rest = text;
        while !rest.is_empty() {
            let mut len = chunk.scan(rest.as_bytes(), self.lowercase);
            if len == 0 {
                len = long_run(rest.as_bytes());
                words.split(&rest[..len], rest.as_bytes());
            } else {
                words.chunk(chunk, rest, batch);
            }
            rest = &rest[len..];
        }
    }
}

/// Length of what stands before the first ASCII blank or punctuation character.
fn long_run(text: &[u8]) -> usize {
    let ends =
        |byte: &u8| matches!(byte, b'\t' | b'\n' | b'\r' | b' ') || byte.is_ascii_punctuation();
    text.iter().position(ends).unwrap_or(text.len())
}

impl<I: Id> Words<'_, I> {
    /// The words of a chunk, some dozens at a time: first where they are and what the table needs
    /// to find them, then their ids.
    fn chunk(&mut self, chunk: &Chunk, text: &str, batch: &mut Batch) {
        let mut len = 0;
        let mut lines = self.cache.lines();
        for (number, &starts) in chunk.starts().iter().enumerate() {
            let mut starts = starts;
            while starts != 0 {
                let start = number * 64 + starts.trailing_zeros() as usize;
                starts &= starts - 1;
                let word_len = chunk.short_len(start);
                let key = Key::padded(u128::from_le_bytes(*chunk.sixteen(start)), word_len);
                let place = lines.place(key);
                lines.prefetch(place);
                batch.0[len % BATCH] = (key, place, start as u16);
                len += 1;
            }
            if len > BATCH - 64 {
                self.batch(chunk, text, &batch.0[..len.min(BATCH)]);
                len = 0;
                lines = self.cache.lines();
            }
        }
        self.batch(chunk, text, &batch.0[..len.min(BATCH)]);
    }

    #[inline]
    fn batch(&mut self, chunk: &Chunk, text: &str, batch: &[(Key, Place, u16)]) {
        let mut rest = batch;
        loop {
            // Learning a word can give the table another size: where a line isn't the key's any
            // more, the word is not found there, and is looked for again.
            let known =
                self.cache
                    .lines()
                    .push_all(rest, |&(key, place, _)| (key, place), self.ids);
            let [(key, _, start), behind @ ..] = &rest[known..] else {
                return;
            };
            self.unknown(chunk, text, *key, usize::from(*start));
            rest = behind;
        }
    }

    /// A word that is long or not in the table.
    #[inline(never)]
    fn unknown(&mut self, chunk: &Chunk, text: &str, key: Key, start: usize) {
        let len = chunk.len(start);
        if chunk.any_odd(start, len) {
            let known = self
                .cache
                .append_known(key, chunk.bytes(start, len), self.ids);
            if !known {
                self.split(&text[start..start + len], chunk.rest(start));
            }
            return;
        }
        let (model, word) = (self.model, chunk.bytes(start, len));
        let encode = |ids: &mut Vec<I>| model.encode_word(word, ids);
        if key.is_empty() {
            self.cache.append_long(word, self.ids, encode);
        } else {
            self.cache.learn(key, word, self.ids, encode);
        }
    }

    /// Splits what stands between ASCII blanks and punctuation; `keys` begins with the same bytes
    /// with ASCII lowercased.
    fn split(&mut self, text: &str, keys: &[u8]) {
        let mut start = 0;
        for (place, c) in text.char_indices() {
            // In such a stretch, ASCII is letters, digits, and control characters.
            let class = if c.is_ascii_alphanumeric() {
                Class::Plain
            } else {
                self.scanner.classes.of(c)
            };
            if matches!(class, Class::Plain | Class::Hard) {
                continue;
            }
            let end = place + c.len_utf8();
            self.word(text, keys, start..place);
            if class == Class::Alone {
                self.word(text, keys, place..end);
            }
            start = end;
        }
        self.word(text, keys, start..text.len());
    }

    fn word(&mut self, text: &str, keys: &[u8], at: Range<usize>) {
        if at.is_empty() {
            return;
        }
        let Self {
            scanner,
            model,
            cache,
            ids,
            normalized,
        } = self;
        let word = &keys[at.clone()];
        let encode = |ids: &mut Vec<I>| {
            let Some(normalizer) = &scanner.normalizer else {
                return model.encode_word(word, ids);
            };
            normalized.clear();
            normalizer.normalize_into(&text[at.clone()], normalized);
            bert::split(normalized, |word| model.encode_word(word.as_bytes(), ids));
        };
        cache.append_keyed(Key::at(keys, at.start, at.len()), word, ids, encode);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use proptest::prelude::*;

    use super::*;
    use crate::model::wordpiece::WordPieceConfig;
    use crate::vocab::Vocab;

    fn model() -> crate::Result<WordPiece> {
        let mut vocab = Vocab::default();
        let letters = "abcdefghijklmnopqrsuvwxyzABE0123456789éαβ中文кงक\u{301}\u{308}";
        let tokens = [
            "[UNK]", ".", ",", "!", "”", "。", "ab", "##ab", "abc", "word", "##1", "é",
        ];
        let tokens = tokens.map(str::to_owned).into_iter();
        let single = letters
            .chars()
            .flat_map(|c| [c.to_string(), format!("##{c}")]);
        for (id, token) in tokens.chain(single).enumerate() {
            let _ = vocab.insert(&token, id as u32);
        }
        WordPiece::new(WordPieceConfig::default(), &vocab)
    }

    fn text() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            4 => "[a-zA-E0-9]{1,20}",
            4 => "[ .,!\t\r\n-]{1,3}",
            1 => any::<String>(),
            1 => "[éÉα中文。”кงक\u{301}\u{308}\u{316}\u{f900}\u{a0}\u{3000}\u{ad}]{1,4}",
            1 => "[\0\x01\x0b\x0c\x1c\x7f]{1,2}",
            1 => "[\u{340}-\u{345}\u{37e}\u{387}\u{1fef}\u{2000}\u{ac00}\u{130}]{1,3}",
            1 => "[ab中é]{70,130}",
            1 => (prop_oneof![Just("a"), Just("中"), Just("é"), Just("a ")], 900usize..1500)
                .prop_map(|(unit, times)| unit.repeat(times)),
        ];
        prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
    }

    thread_local! {
        /// A scanner with a table that lives through all cases, for each normalizer.
        static USED: RefCell<Vec<(Scanner, Box<WordCache<u16>>)>> = const { RefCell::new(Vec::new()) };
    }

    fn normalizers() -> impl Iterator<Item = Option<BertNormalizer>> {
        let bits = |bits: u32| BertNormalizer {
            clean_text: bits & 1 == 0,
            handle_chinese_chars: bits & 2 == 0,
            strip_accents: [None, Some(true), Some(false)][(bits / 8) as usize],
            lowercase: bits & 4 == 0,
        };
        (0..24).map(move |number| Some(bits(number))).chain([None])
    }

    fn by_definition(
        model: &WordPiece,
        normalizer: Option<BertNormalizer>,
        text: &str,
    ) -> Vec<u16> {
        let mut ids = Vec::new();
        let mut normalized = String::new();
        match normalizer {
            Some(normalizer) => normalizer.normalize_into(text, &mut normalized),
            None => normalized.push_str(text),
        }
        bert::split(&normalized, |word| {
            model.encode_word(word.as_bytes(), &mut ids)
        });
        ids
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 1 } else { 300 }))]

        #[test]
        fn ids_are_those_of_the_steps_one_by_one_whatever_the_table_holds(texts in
            prop::collection::vec(text(), 1..4))
        {
            let model = model()?;
            USED.with_borrow_mut(|used| {
                if used.is_empty() {
                    used.extend(normalizers().map(|n| (Scanner::new(n), Box::default())));
                }
                let mut scratch = ScanScratch::default();
                for (scanner, cache) in used {
                    for text in &texts {
                        let mut ids = Vec::new();
                        scanner.encode(text, &model, cache, &mut scratch, &mut ids);
                        assert_eq!(ids, by_definition(&model, scanner.normalizer, text), "{text:?}");
                    }
                }
            });
        }
    }
}
