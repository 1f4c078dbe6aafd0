//! Word counts: what training needs of a corpus, countable in parts and in any order.
//!
//! A trainer looks at distinct words and how often each stands in the text, so a corpus of any size
//! is first brought down to a [`WordCounts`]. Counting is a sum, so it may be split over threads,
//! over batches and over the tasks of a cluster: [`WordCounts::merge`] adds, and
//! [`WordCounts::partition`] splits by a hash of the word that is the same in every process, so that
//! part *i* of all tasks can be merged apart from the other parts. Whatever the split, the sums are
//! the same, and the trainers don't look at the order of words.
//!
//! # Why rare words are kept
//!
//! A trainer's `min_frequency` bounds the count of a *pair of symbols*, summed over all words, and
//! not the count of a word. Two words seen once each (`unboxed`, `unboxing`) together make the pair
//! `un + box` as frequent as one word seen twice. Dropping words below `min_frequency` before
//! training therefore changes merges, here as in Hugging Face's trainers, and so counts keep every
//! word by default: training on the merged counts equals training in one process, entry by entry.
//! Where even the distinct words are too many, [`WordCounts::prune`] is the explicit, lossy way: a
//! rare word is taken apart into its characters, so the counts that choose the alphabet stay exact,
//! and only merges that rested on rare words can differ.
//!
//! # Cost
//!
//! One pass over the text, one table look-up per word (most end in a cache of hot words), about 40
//! bytes of memory per distinct word: `table` tells how. 50 million distinct words take 2.25 GiB,
//! and the whole way of a cluster in one process 3.2 GiB (`tools/many_words.py`).

mod table;

use std::fmt;
use std::ops::Range;
use std::str::FromStr;
use std::sync::Mutex;

use rayon::prelude::*;
pub(crate) use table::WordTable;

use crate::batch::{self, Rows};
use crate::normalize::BertNormalizer;
use crate::pretokenize::{bert, byte_level};
use crate::{Error, Result, threads};

/// Text counted between two questions whether to go on.
const BATCH_BYTES: usize = 16 << 20;
/// Text that a thread takes at a time.
const TASK_BYTES: usize = 1 << 18;

/// How a text falls into words: counts of different kinds can't be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WordKind {
    /// BERT's normalizer (cleaning, ideographs, accents with the case) and pre-tokenizer.
    WordPiece {
        /// Lowercase and strip accents.
        lowercase: bool,
    },
    /// GPT-2's split, no normalizer.
    Bpe {
        /// A blank before each text that doesn't start with one.
        add_prefix_space: bool,
    },
}

impl fmt::Display for WordKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WordPiece { lowercase } => write!(f, "wordpiece(lowercase={lowercase})"),
            Self::Bpe { add_prefix_space } => write!(f, "bpe(add_prefix_space={add_prefix_space})"),
        }
    }
}

impl FromStr for WordKind {
    type Err = Error;

    /// Reads what `Display` writes.
    fn from_str(text: &str) -> Result<Self> {
        let kinds = [true, false].into_iter().flat_map(|switch| {
            [
                Self::WordPiece { lowercase: switch },
                Self::Bpe {
                    add_prefix_space: switch,
                },
            ]
        });
        let mut known = kinds.into_iter().filter(|kind| kind.to_string() == text);
        known
            .next()
            .ok_or_else(|| Error::Argument(format!("{text:?} is no kind of word counts")))
    }
}

/// How often each word stands in the texts counted so far.
#[derive(Clone, Debug)]
pub struct WordCounts {
    kind: WordKind,
    table: WordTable,
    total: u64,
}

impl WordCounts {
    /// Counts of no text.
    pub fn new(kind: WordKind) -> Self {
        Self {
            kind,
            table: WordTable::default(),
            total: 0,
        }
    }

    /// How texts fall into words.
    pub fn kind(&self) -> WordKind {
        self.kind
    }

    /// Number of distinct words.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// True when no word was counted.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of words, each as often as it stands in the texts.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Heap memory in bytes.
    pub fn memory(&self) -> usize {
        self.table.memory()
    }

    /// Words with their counts, in no order that means anything. Every word is UTF-8.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&[u8], u64)> + Clone {
        self.table.iter()
    }

    /// Words with their counts in an order that depends on nothing but the words.
    pub fn iter_in_stable_order(&self) -> impl ExactSizeIterator<Item = (&[u8], u64)> {
        let order = self.table.in_stable_order();
        (order.into_iter()).map(|entry| self.table.get(entry as usize))
    }

    /// Bytes of all distinct words.
    pub fn num_bytes(&self) -> usize {
        self.table.num_bytes()
    }

    /// Counts the words of the texts on all threads. After each batch, `go_on` hears how many rows
    /// are counted; its error ends the counting, and then the counts are those of before.
    pub fn count(
        &mut self,
        texts: &impl Rows,
        go_on: &mut dyn FnMut(usize) -> Result<()>,
    ) -> Result<()> {
        let mut counters: Vec<Counter> = (0..threads::count())
            .map(|_| Counter::new(self.kind))
            .collect();
        let mut batch = 0..0;
        while batch.end < texts.len() {
            batch = batch::stretch(texts, batch.end..texts.len(), BATCH_BYTES);
            count_batch(texts, batch.clone(), &mut counters)?;
            go_on(batch.end)?;
        }
        counters.sort_by_key(|counter| std::cmp::Reverse(counter.table.len()));
        for counter in counters {
            self.absorb(counter.table, counter.total)?;
        }
        Ok(())
    }

    /// Adds words that were counted elsewhere; counts of 0 are passed over.
    pub fn add(&mut self, word: &str, count: u64) -> Result<()> {
        if count > 0 {
            self.total = self.checked_total(count)?;
            self.table.add(word.as_bytes(), count)?;
        }
        Ok(())
    }

    /// Adds the counts of another corpus, or of another part of this one.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        self.same_kind(other.kind)?;
        self.total = self.checked_total(other.total)?;
        self.table.merge(&other.table)
    }

    /// Refuses counts of words that were split in another way.
    pub fn same_kind(&self, kind: WordKind) -> Result<()> {
        if kind == self.kind {
            return Ok(());
        }
        Err(Error::Argument(format!(
            "word counts of different settings can't be added: {} and {kind}",
            self.kind
        )))
    }

    /// Splits by a hash of the word into `parts` counts; a word's part is the same in every process.
    pub fn partition(&self, parts: usize) -> Result<Vec<Self>> {
        if parts == 0 {
            return Err(Error::Argument("parts must be at least 1".into()));
        }
        let mut split = vec![Self::new(self.kind); parts];
        for (word, count) in self.iter() {
            let part = &mut split[WordTable::part_of(word, parts)];
            part.table.add(word, count)?;
            part.total += count;
        }
        Ok(split)
    }

    /// Takes words seen fewer than `min_count` times apart into their characters, each counted as a
    /// word: see "Why rare words are kept". To be called on merged counts, never on a part of them.
    pub fn prune(&self, min_count: u64) -> Result<Self> {
        let mut kept = Self::new(self.kind);
        for (word, count) in self.iter() {
            if count >= min_count {
                kept.total = kept.checked_total(count)?;
                kept.table.add(word, count)?;
                continue;
            }
            for c in String::from_utf8_lossy(word).chars() {
                kept.add(c.encode_utf8(&mut [0; 4]), count)?;
            }
        }
        Ok(kept)
    }

    fn absorb(&mut self, table: WordTable, total: u64) -> Result<()> {
        self.total = self.checked_total(total)?;
        if self.is_empty() {
            self.table = table;
            self.table.cool();
            return Ok(());
        }
        self.table.merge(&table)
    }

    fn checked_total(&self, more: u64) -> Result<u64> {
        self.total.checked_add(more).ok_or_else(|| {
            Error::Argument("word counts add up to more than 64 bits hold".to_owned())
        })
    }
}

impl PartialEq for WordCounts {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind
            && self.len() == other.len()
            && (self.iter()).all(|(word, count)| other.table.count_of(word) == Some(count))
    }
}

impl Eq for WordCounts {}

/// One thread's share of the counting.
struct Counter {
    kind: WordKind,
    table: WordTable,
    total: u64,
    normalized: String,
}

impl Counter {
    fn new(kind: WordKind) -> Self {
        Self {
            kind,
            table: WordTable::default(),
            total: 0,
            normalized: String::new(),
        }
    }

    fn count(&mut self, text: &str) -> Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        let mut outcome = Ok(());
        let (table, total) = (&mut self.table, &mut self.total);
        let mut take = |word: &str| {
            *total += 1;
            if let Err(error) = table.add_hot(word.as_bytes(), 1) {
                outcome = Err(error);
            }
        };
        match self.kind {
            WordKind::WordPiece { lowercase } => {
                self.normalized.clear();
                BertNormalizer::new(lowercase).normalize_into(text, &mut self.normalized);
                bert::split(&self.normalized, take);
            }
            WordKind::Bpe { add_prefix_space } if add_prefix_space && !text.starts_with(' ') => {
                // Only the first piece can differ, but where it ends is the split's affair.
                self.normalized.clear();
                self.normalized.push(' ');
                self.normalized.push_str(text);
                byte_level::split(&self.normalized, take);
            }
            WordKind::Bpe { .. } => byte_level::split(text, &mut take),
        }
        outcome
    }
}

/// Counts the words of some rows, each thread the next task until none is left.
fn count_batch(texts: &impl Rows, rows: Range<usize>, counters: &mut [Counter]) -> Result<()> {
    let rest = Mutex::new(rows);
    let next_task = || {
        let mut rest = rest.lock().unwrap_or_else(|error| error.into_inner());
        let task = batch::stretch(texts, rest.clone(), TASK_BYTES);
        rest.start = task.end;
        (!task.is_empty()).then_some(task)
    };
    let work = |counter: &mut Counter| {
        while let Some(task) = next_task() {
            for row in task {
                if let Some((text, _)) = texts.get(row)? {
                    counter.count(text)?;
                }
            }
        }
        Ok(())
    };
    threads::install(|| counters.par_iter_mut().try_for_each(work))
}

#[cfg(test)]
mod tests;
