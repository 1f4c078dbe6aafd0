//! The tokenizer: its parts, one text in, ids out, and back.

use std::collections::BTreeMap;
use std::sync::Mutex;

use serde_json::Value;

use crate::Result;
use crate::added::{AddedToken, AddedTokens, Stretch};
use crate::bert_scan::{ScanScratch, Scanner};
use crate::decode::Decoder;
use crate::model::bpe::MergeScratch;
use crate::model::{Bpe, WordPiece};
use crate::normalize::Normalizer;
use crate::sections::{ByteLevelSection, DecoderSection, PostProcessorSection};
use crate::template::{self, Part, Template};
use crate::vocab::Vocab;
use crate::word_cache::{CachedId, WordCache, WordCaches};

/// A model with the pre-tokenizer it stands with.
#[derive(Debug)]
pub enum Model {
    /// Behind the BERT pre-tokenizer.
    WordPiece(WordPiece),
    /// Behind the byte-level pre-tokenizer.
    Bpe(Bpe, ByteLevelSection),
}

/// What a tokenizer is made of.
#[derive(Debug)]
pub struct Parts {
    /// The model's vocabulary.
    pub vocab: Vocab,
    /// The model.
    pub model: Model,
    /// What is done to the text first.
    pub normalizer: Option<Normalizer>,
    /// Tokens that are found before the model sees the text.
    pub added: AddedTokens,
    /// Where special tokens stand.
    pub post_processor: Option<PostProcessorSection>,
    /// How tokens become text.
    pub decoder: Option<DecoderSection>,
    /// Kept for saving, not applied.
    pub truncation: Value,
    /// Kept for saving, not applied.
    pub padding: Value,
}

/// How a text is encoded.
#[derive(Clone, Copy, Debug)]
pub struct EncodeOptions {
    /// Put the special tokens of the template around the ids.
    pub add_special_tokens: bool,
    /// A literal special token in the text is text.
    pub split_special_tokens: bool,
    /// Cut the ids, special tokens included, to this length; a pair longest first.
    pub max_length: Option<usize>,
}

impl Default for EncodeOptions {
    fn default() -> Self {
        Self {
            add_special_tokens: true,
            split_special_tokens: false,
            max_length: None,
        }
    }
}

/// Which ends of its row a part of a text has.
#[derive(Clone, Copy, Debug)]
pub struct Side {
    /// Nothing stands before the part.
    pub is_first: bool,
    /// Nothing stands behind the part.
    pub is_last: bool,
}

/// Reused memory of one thread's calls.
#[derive(Debug, Default)]
pub struct Scratch {
    scan: ScanScratch,
    merge: MergeScratch,
    prefixed: String,
    caches: WordCaches,
}

/// A tokenizer with the ids of Hugging Face `tokenizers`.
#[derive(Debug)]
pub struct Tokenizer {
    parts: Parts,
    template: Template,
    decoder: Decoder,
    max_id: u32,
    /// For WordPiece.
    scanner: Option<Scanner>,
    /// The scanner takes texts that aren't normalized.
    scans_raw: bool,
    /// Tables that hold the vocabulary's words: each thread's begins as a copy of one.
    filled: WordCaches,
    /// That no call uses, each with the number of the thread that had it.
    scratches: Mutex<Vec<(usize, Scratch)>>,
}

impl Tokenizer {
    /// Puts a tokenizer together.
    pub fn from_parts(parts: Parts) -> Result<Self> {
        let template = PostProcessorSection::build(parts.post_processor.as_ref())?;
        let decoder = DecoderSection::build(parts.decoder.as_ref());
        let mut max_id = parts.vocab.iter().map(|(_, id)| id).max().unwrap_or(0);
        max_id = max_id.max(parts.added.iter().map(|token| token.id).max().unwrap_or(0));
        for part in template.single.iter().chain(&template.pair) {
            if let Part::Special(ids) = part {
                max_id = max_id.max(ids.iter().copied().max().unwrap_or(0));
            }
        }
        let is_wordpiece = matches!(parts.model, Model::WordPiece(_));
        let bert = match &parts.normalizer {
            // Tokens that are looked for in normalized text need all of it normalized.
            Some(Normalizer::Bert(bert)) if parts.added.normalized.is_idle(false) => Some(*bert),
            _ => None,
        };
        let tokenizer = Self {
            scanner: is_wordpiece.then(|| Scanner::new(bert)),
            scans_raw: is_wordpiece && bert.is_some(),
            parts,
            template,
            decoder,
            max_id,
            filled: WordCaches::default(),
            scratches: Mutex::default(),
        };
        if tokenizer.is_narrow() {
            tokenizer.filled_cache::<u16>();
        } else {
            tokenizer.filled_cache::<u32>();
        }
        Ok(tokenizer)
    }

    /// A table with the words that are tokens, so that it is warm before the first text.
    fn filled_cache<I: CachedId>(&self) -> &WordCache<I> {
        I::cache(&self.filled).get_or_init(|| {
            let mut cache = Box::<WordCache<I>>::default();
            match &self.parts.model {
                Model::WordPiece(model) => self.fill(model, &mut cache),
                Model::Bpe(model, _) => model.fill(&self.parts.vocab, &mut cache),
            }
            cache
        })
    }

    fn fill<I: CachedId>(&self, model: &WordPiece, cache: &mut WordCache<I>) {
        let (mut scratch, mut ids) = (ScanScratch::default(), Vec::new());
        let tokens = self.parts.vocab.iter().map(|(token, _)| token);
        for token in tokens.filter(|token| !model.continues(token)) {
            ids.clear();
            if let Some(scanner) = &self.scanner {
                scanner.encode(token, model, cache, &mut scratch, &mut ids);
            }
        }
    }

    /// The parts it was made of.
    pub fn parts(&self) -> &Parts {
        &self.parts
    }

    /// Where special tokens stand.
    pub fn template(&self) -> &Template {
        &self.template
    }

    /// True when every id fits 16 bits.
    pub fn is_narrow(&self) -> bool {
        self.max_id <= u32::from(u16::MAX)
    }

    /// Number of tokens, added ones included.
    pub fn vocab_size(&self) -> usize {
        let new = |content: &str| self.parts.vocab.id(content).is_none();
        let added = self.parts.added.iter();
        self.parts.vocab.len() + added.filter(|token| new(&token.content)).count()
    }

    /// Every token and its id.
    pub fn vocab(&self) -> BTreeMap<String, u32> {
        let model = self
            .parts
            .vocab
            .iter()
            .map(|(token, id)| (token.to_owned(), id));
        let added = self.parts.added.iter();
        model
            .chain(added.map(|token| (token.content.clone(), token.id)))
            .collect()
    }

    /// The id of a token.
    pub fn token_to_id(&self, token: &str) -> Option<u32> {
        let added = self.parts.added.id(token);
        added.or_else(|| self.parts.vocab.id(token))
    }

    /// The token of an id.
    pub fn id_to_token(&self, id: u32) -> Option<&str> {
        let added = self.parts.added.decoded(id);
        added.or_else(|| self.parts.vocab.token(id))
    }

    /// The special tokens, in order of their ids.
    pub fn special_tokens(&self) -> impl Iterator<Item = (&str, u32)> {
        let added = self.parts.added.iter().filter(|token| token.special);
        added.map(|token| (token.content.as_str(), token.id))
    }

    /// Lends memory that earlier calls have used, if there is some, that of the thread of this number.
    pub fn with_scratch<R>(&self, thread: usize, call: impl FnOnce(&mut Scratch) -> R) -> R {
        // A panic under the lock can't leave the list in a bad state.
        let lock = || {
            self.scratches
                .lock()
                .unwrap_or_else(|error| error.into_inner())
        };
        let mut scratch = {
            let mut idle = lock();
            let own = idle.iter().position(|(number, _)| *number == thread);
            let place = own.or(idle.len().checked_sub(1));
            place.map_or_else(Scratch::default, |place| idle.swap_remove(place).1)
        };
        let result = call(&mut scratch);
        lock().push((thread, scratch));
        result
    }

    /// Appends the ids of a text or a pair, special tokens and cutting as the options say.
    pub fn encode_into<I: CachedId>(
        &self,
        text: &str,
        pair: Option<&str>,
        options: EncodeOptions,
        scratch: &mut Scratch,
        ids: &mut Vec<I>,
    ) -> Result<()> {
        let parts = self.template.parts(pair.is_some());
        let num_special = if options.add_special_tokens {
            self.template.num_special(pair.is_some())
        } else {
            0
        };
        let room = options
            .max_length
            .map(|max_length| template::room(max_length, num_special))
            .transpose()?;
        // A pair that is cut needs both lengths first; so does a template of odd order.
        if let (Some(pair), Some(room)) = (pair, room) {
            let (mut first, mut second) = (Vec::new(), Vec::new());
            self.encode_text(text, options.split_special_tokens, scratch, &mut first);
            self.encode_text(pair, options.split_special_tokens, scratch, &mut second);
            let (keep_first, keep_second) =
                template::truncated(first.len(), Some(second.len()), room);
            for part in parts {
                match part {
                    Part::First => ids.extend_from_slice(&first[..keep_first]),
                    Part::Second => ids.extend_from_slice(&second[..keep_second]),
                    Part::Special(special) if options.add_special_tokens => {
                        ids.extend(special.iter().map(|&id| I::new(id)));
                    }
                    Part::Special(_) => {}
                }
            }
            return Ok(());
        }
        for part in parts {
            let start = ids.len();
            match (part, pair) {
                (Part::First, _) => {
                    self.encode_text(text, options.split_special_tokens, scratch, ids);
                }
                (Part::Second, Some(pair)) => {
                    self.encode_text(pair, options.split_special_tokens, scratch, ids);
                }
                (Part::Special(special), _) if options.add_special_tokens => {
                    ids.extend(special.iter().map(|&id| I::new(id)));
                    continue;
                }
                _ => {}
            }
            if let Some(room) = room {
                ids.truncate(start + room);
            }
        }
        Ok(())
    }

    /// Whether [`cut`](Self::cut) and [`encode_part`](Self::encode_part) give a text's ids.
    pub fn can_cut(&self, options: EncodeOptions) -> bool {
        let texts = self
            .template
            .single
            .iter()
            .filter(|part| **part == Part::First);
        let white = |token: &AddedToken| {
            let forms = [
                Some(token.content.as_str()),
                self.parts.added.decoded(token.id),
            ];
            forms
                .into_iter()
                .flatten()
                .any(|text| text.contains(char::is_whitespace))
        };
        let eats = |token: &AddedToken| {
            token.rstrip || (token.lstrip && token.content.starts_with(char::is_alphanumeric))
        };
        let mut added = self.parts.added.iter();
        let model_can = match &self.parts.model {
            Model::WordPiece(_) => true,
            Model::Bpe(_, section) => section.use_regex && !self.parts.added.iter().any(eats),
        };
        options.max_length.is_none() && texts.count() == 1 && model_can && !added.any(white)
    }

    /// A place from `at` on where a text can be cut: the ids of the two parts are those of the
    /// whole. No word, piece or token goes across it, and nothing that is normalized.
    pub fn cut(&self, text: &str, at: usize) -> Option<usize> {
        let bytes = text.as_bytes();
        let blanks =
            (at.max(1)..bytes.len().saturating_sub(1)).filter(|&place| bytes[place] == b' ');
        let mut places = blanks.filter(|&place| match self.parts.model {
            Model::WordPiece(_) => true,
            // `x y`: the blank is the beginning of ` y`.
            Model::Bpe(..) => {
                bytes[place - 1].is_ascii_graphic() && bytes[place + 1].is_ascii_alphabetic()
            }
        });
        places.next()
    }

    /// Appends the ids of a part of a text that [`cut`](Self::cut) gave, with the special tokens
    /// before the first part and behind the last.
    pub fn encode_part<I: CachedId>(
        &self,
        text: &str,
        side: Side,
        options: EncodeOptions,
        scratch: &mut Scratch,
        ids: &mut Vec<I>,
    ) {
        let mut special_is_due = side.is_first;
        for part in &self.template.single {
            match part {
                Part::First => {
                    self.encode_text(text, options.split_special_tokens, scratch, ids);
                    special_is_due = side.is_last;
                }
                Part::Special(special) if options.add_special_tokens && special_is_due => {
                    ids.extend(special.iter().map(|&id| I::new(id)));
                }
                _ => {}
            }
        }
    }

    /// Appends the ids of a text, without a template.
    fn encode_text<I: CachedId>(
        &self,
        text: &str,
        split_special_tokens: bool,
        scratch: &mut Scratch,
        ids: &mut Vec<I>,
    ) {
        let added = &self.parts.added;
        added
            .raw
            .split(text, split_special_tokens, |stretch| match stretch {
                Stretch::Token(id) => ids.push(I::new(id)),
                Stretch::Text(text) if self.scans_raw => {
                    self.encode_normalized(text, scratch, ids);
                }
                Stretch::Text(text) => {
                    let normalizer = self.parts.normalizer.as_ref();
                    let normalized = normalizer.map_or(text.into(), |n| n.normalize(text));
                    let idle = added.normalized.is_idle(split_special_tokens);
                    if idle {
                        return self.encode_normalized(&normalized, scratch, ids);
                    }
                    added
                        .normalized
                        .split(&normalized, split_special_tokens, |stretch| match stretch {
                            Stretch::Token(id) => ids.push(I::new(id)),
                            Stretch::Text(text) => self.encode_normalized(text, scratch, ids),
                        });
                }
            });
    }

    /// Appends the ids of a normalized stretch of text, or of one that the scanner normalizes.
    fn encode_normalized<I: CachedId>(&self, text: &str, scratch: &mut Scratch, ids: &mut Vec<I>) {
        if text.is_empty() {
            return;
        }
        let Scratch {
            scan,
            merge,
            prefixed,
            caches,
        } = scratch;
        let cache = I::cache_mut(caches);
        cache.get_or_init(|| Box::new(self.filled_cache().with_its_short_words()));
        let Some(cache) = cache.get_mut() else { return };
        match &self.parts.model {
            Model::WordPiece(model) => {
                if let Some(scanner) = &self.scanner {
                    scanner.encode(text, model, cache, scan, ids);
                }
            }
            Model::Bpe(model, section) => {
                let text = if section.add_prefix_space && !text.starts_with(' ') {
                    prefixed.clear();
                    prefixed.push(' ');
                    prefixed.push_str(text);
                    prefixed.as_str()
                } else {
                    text
                };
                if section.use_regex {
                    model.encode_text(text, cache, merge, ids);
                } else {
                    let piece = text.as_bytes();
                    cache.append(piece, ids, |ids| model.encode_piece(piece, merge, ids));
                }
            }
        }
    }

    /// The text of some ids. Ids without a token are passed over, as in `tokenizers`.
    pub fn decode(&self, ids: &[u32], skip_special_tokens: bool) -> String {
        let skipped = |token: &&str| skip_special_tokens && self.parts.added.is_special(token);
        let tokens = ids.iter().filter_map(|&id| self.id_to_token(id));
        self.decoder.decode(tokens.filter(|token| !skipped(token)))
    }
}
