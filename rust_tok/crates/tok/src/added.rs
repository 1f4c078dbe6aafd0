//! Added tokens: texts that are found before (or after) normalization and never split.

use aho_corasick::{AhoCorasick, MatchKind};
use serde::{Deserialize, Serialize};

use crate::hash::FastMap;
use crate::id::MAX_ID;
use crate::normalize::Normalizer;
use crate::unicode::{self, flag};
use crate::vocab::Vocab;
use crate::{Error, Result};

/// One entry of the `added_tokens` of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddedToken {
    /// The id.
    pub id: u32,
    /// The text.
    pub content: String,
    /// Only where no word character touches it.
    pub single_word: bool,
    /// Takes white space on its left.
    pub lstrip: bool,
    /// Takes white space on its right.
    pub rstrip: bool,
    /// Looked for in the normalized text, in its normalized form.
    pub normalized: bool,
    /// Left out by `decode(skip_special_tokens)`.
    pub special: bool,
}

impl AddedToken {
    /// A special token as trainers make them.
    pub fn special(content: &str, id: u32) -> Self {
        Self {
            id,
            content: content.to_owned(),
            single_word: false,
            lstrip: false,
            rstrip: false,
            normalized: false,
            special: true,
        }
    }
}

/// A stretch of text between added tokens, or one of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stretch<'t> {
    /// Text for the model.
    Text(&'t str),
    /// An added token's id.
    Token(u32),
}

/// All added tokens, ready to be found.
#[derive(Debug, Default)]
pub struct AddedTokens {
    /// By id.
    tokens: Vec<AddedToken>,
    by_content: FastMap<String, u32>,
    /// What a normalized token looks like in normalized text, where that is another text.
    normalized_forms: FastMap<u32, String>,
    /// For tokens as they are.
    pub(crate) raw: Matcher,
    /// For tokens in their normalized form.
    pub(crate) normalized: Matcher,
}

impl AddedTokens {
    /// Ids are given as `tokenizers` gives them: the model's where it knows the token, else the
    /// next free one; the ids written in the file don't count.
    pub fn new(
        listed: Vec<AddedToken>,
        vocab: &Vocab,
        normalizer: Option<&Normalizer>,
    ) -> Result<Self> {
        let mut by_content: FastMap<String, u32> = FastMap::default();
        let mut tokens: FastMap<u32, AddedToken> = FastMap::default();
        let mut next = vocab.len() as u32;
        for token in listed {
            if token.content.is_empty() {
                continue;
            }
            let known = by_content.get(&token.content).copied();
            let id = known.or_else(|| vocab.id(&token.content)).unwrap_or(next);
            if id == next {
                next += 1;
            }
            by_content.insert(token.content.clone(), id);
            tokens.insert(id, AddedToken { id, ..token });
        }
        if next > MAX_ID {
            return Err(damaged("more tokens than ids"));
        }
        let mut tokens: Vec<_> = tokens.into_values().collect();
        tokens.sort_unstable_by_key(|token| token.id);

        let mut normalized_forms = FastMap::default();
        for token in tokens.iter().filter(|token| token.normalized) {
            let form = normalizer.map(|normalizer| normalizer.normalize(&token.content));
            if let Some(form) = form.filter(|form| *form != token.content) {
                normalized_forms.insert(token.id, form.into_owned());
            }
        }
        let (cooked, plain): (Vec<_>, Vec<_>) = tokens.iter().partition(|token| token.normalized);
        let raw = Matcher::new(plain.iter().map(|token| (token.content.as_str(), *token)))?;
        let normalized = Matcher::new(cooked.iter().map(|token| {
            let form = normalized_forms.get(&token.id);
            (form.unwrap_or(&token.content).as_str(), *token)
        }))?;
        Ok(Self {
            tokens,
            by_content,
            normalized_forms,
            raw,
            normalized,
        })
    }

    /// The id of an added token.
    pub fn id(&self, content: &str) -> Option<u32> {
        self.by_content.get(content).copied()
    }

    /// The added token of an id.
    pub fn get(&self, id: u32) -> Option<&AddedToken> {
        let place = self.tokens.binary_search_by_key(&id, |token| token.id);
        place.ok().map(|place| &self.tokens[place])
    }

    /// The text that stands for an added token when decoding.
    pub fn decoded(&self, id: u32) -> Option<&str> {
        let token = self.get(id)?;
        let form = self.normalized_forms.get(&id);
        Some(form.unwrap_or(&token.content))
    }

    /// True when a special token has this text.
    pub fn is_special(&self, content: &str) -> bool {
        let token = self.id(content).and_then(|id| self.get(id));
        token.is_some_and(|token| token.special)
    }

    /// In order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = &AddedToken> {
        self.tokens.iter()
    }
}

/// Finds the leftmost, and there the longest, of some tokens.
#[derive(Debug, Default)]
pub(crate) struct Matcher {
    automaton: Option<AhoCorasick>,
    /// First bytes of the tokens, where they are few: text without any of them has no token.
    first_bytes: Option<[u8; 3]>,
    tokens: Vec<AddedToken>,
    all_special: bool,
}

impl Matcher {
    fn new<'a>(patterns: impl Iterator<Item = (&'a str, &'a AddedToken)>) -> Result<Self> {
        let (texts, tokens): (Vec<_>, Vec<_>) = patterns.unzip();
        if texts.is_empty() {
            return Ok(Self::default());
        }
        let mut seen: FastMap<&str, &AddedToken> = FastMap::default();
        for (text, token) in texts.iter().zip(&tokens) {
            if text.is_empty() {
                let content = &token.content;
                return Err(damaged(format!("{content:?} is empty after normalization")));
            }
            if let Some(other) = seen.insert(text, token) {
                let (a, b) = (&other.content, &token.content);
                return Err(damaged(format!(
                    "{a:?} and {b:?} are the same after normalization"
                )));
            }
        }
        let automaton = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(&texts)
            .map_err(|error| damaged(error.to_string()))?;
        let mut bytes: Vec<u8> = texts.iter().map(|text| text.as_bytes()[0]).collect();
        bytes.sort_unstable();
        bytes.dedup();
        let first_bytes = match bytes.as_slice() {
            [a] => Some([*a; 3]),
            [a, b] => Some([*a, *b, *b]),
            [a, b, c] => Some([*a, *b, *c]),
            _ => None,
        };
        Ok(Self {
            automaton: Some(automaton),
            first_bytes,
            all_special: tokens.iter().all(|token| token.special),
            tokens: tokens.into_iter().cloned().collect(),
        })
    }

    /// True when no call with these options can find anything.
    #[inline]
    pub(crate) fn is_idle(&self, split_special_tokens: bool) -> bool {
        self.automaton.is_none() || (split_special_tokens && self.all_special)
    }

    /// Calls `each` with the stretches of the text, in order. A match that is passed over (a
    /// special token that counts as text, a `single_word` inside of a word) is still consumed:
    /// tokens that overlap it are not looked for, as in `tokenizers`.
    pub(crate) fn split<'t>(
        &self,
        text: &'t str,
        split_special_tokens: bool,
        mut each: impl FnMut(Stretch<'t>),
    ) {
        let Some(automaton) = self.automaton.as_ref().filter(|_| !text.is_empty()) else {
            return each(Stretch::Text(text));
        };
        if let Some([a, b, c]) = self.first_bytes
            && memchr::memchr3(a, b, c, text.as_bytes()).is_none()
        {
            return each(Stretch::Text(text));
        }
        let mut done = 0;
        for found in automaton.find_iter(text) {
            let token = &self.tokens[found.pattern().as_usize()];
            let (mut start, mut end) = (found.start(), found.end());
            if split_special_tokens && token.special {
                continue;
            }
            let (before, after) = (&text[..start], &text[end..]);
            if token.single_word {
                let touched = |c: Option<char>| c.is_some_and(|c| unicode::is(c, flag::WORD));
                if touched(before.chars().next_back()) || touched(after.chars().next()) {
                    continue;
                }
            }
            let stripped = |c: char| unicode::is(c, flag::STRIPPED);
            if token.lstrip {
                // Blanks that the previous token took stay with it.
                start = before.trim_end_matches(stripped).len().max(done);
            }
            if token.rstrip {
                end += after.len() - after.trim_start_matches(stripped).len();
            }
            if done < start {
                each(Stretch::Text(&text[done..start]));
            }
            each(Stretch::Token(token.id));
            done = end;
        }
        if done != text.len() {
            each(Stretch::Text(&text[done..]));
        }
    }
}

fn damaged(message: impl Into<String>) -> Error {
    Error::Damaged {
        place: "added_tokens".to_owned(),
        message: message.into(),
    }
}
