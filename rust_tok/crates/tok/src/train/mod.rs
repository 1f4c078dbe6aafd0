//! Training: from word counts to a vocabulary and merges.
//!
//! Both trainers are byte pair encoding. Every word starts as a row of symbols (characters, or bytes
//! for byte-level BPE). The most frequent pair of neighbours, counted over all words, becomes a new
//! symbol wherever it stands; then the next one, until the vocabulary is full or no pair is frequent
//! enough. Among equally frequent pairs the one with the smaller ids goes first. WordPiece training
//! is the same with the symbols behind a word's first one spelled `##x`; only the vocabulary is kept.
//!
//! # The same result as Hugging Face's trainers
//!
//! Parity is with the *behaviour* of the pinned `tokenizers`, and that has corners which an ideal
//! byte pair encoding lacks; `merges` names them where they are reproduced. One thing can't be: its
//! WordPiece trainer numbers the `##x` symbols, and chooses among characters of equal count at the
//! alphabet's limit, in the order of a randomly seeded hash table, and ids break ties between pairs.
//! Two runs of it differ in a few entries. Here both orders are those of the code points, so a
//! result is one that a run of theirs could have had, and it is always the same one.
//!
//! # How it is fast
//!
//! Let *n* be the symbols of all distinct words and *m* the merges.
//!
//! 1. *Distinct words.* [`WordCounts`] has each word once with its
//!    count, so *n* is much smaller than the text ([`word_counts`](crate::word_counts)).
//! 2. *Places, not words.* Each pair has the list of its places, each with the count of its word, so
//!    a merge visits exactly what it changes. Stale places are recognised by looking at the symbols;
//!    no list is ever searched. A merge removes a symbol, so all merges together visit at most *n*
//!    live places, and every place is entered in a list once per pair that it ever forms: O(*n*) in
//!    all, also for one word of a megabyte, where rewriting words would take O(*n m*) (`cells`).
//! 3. *Sums per neighbour.* What a merge changes is grouped by the neighbouring symbol in arrays
//!    indexed by symbol. The table of pair counts is asked once per distinct neighbour, not once per
//!    place, and all those look-ups are independent of each other (`merges`, `pairs`).
//! 4. *A lazy queue.* Pairs wait in a heap under the count that they had when they entered, an
//!    upper bound. One that has lost occurrences goes back with its present count when it comes up.
//!    So the heap costs O(log) per new pair and per return, and nothing per changed count; rare
//!    pairs wait outside of it (`queue`).
//! 5. *Reads side by side.* Places and pair counts lie anywhere in memory. Each batch of them is
//!    read once before it is worked on, so that the waits overlap.
//!
//! On 71 MB of English dictionaries (412 thousand distinct pieces, 30,522 entries; an EPYC core) the
//! merge loop takes 0.4 s; with every pair in the heap and without step 5 it took 0.65 s. Counting
//! the words takes 1.2 s of one core and runs on all of them. On two cores BPE takes 0.9 s and
//! WordPiece 1.1 s from text to tokenizer, where `tokenizers` takes 15.0 s and 15.3 s for equal
//! results.
//!
//! Together O(*n* + *p* log *p*) for *p* pairs that ever existed, p ≤ 3*n*. Memory: 4 bytes per
//! symbol, 8 per place, 16 per pair, 32 per queued pair.

mod alphabet;
mod cells;
mod merges;
mod pairs;
mod queue;
mod tokenizer;

use alphabet::Vocabulary;
use cells::Layout;
use merges::{Outcome, RarePairs, Trainer};
pub use tokenizer::check_special_tokens;

use crate::pretokenize::byte_level::BYTE_TO_CHAR;
use crate::word_counts::{WordCounts, WordKind};
use crate::{Error, Result};

/// Marks the pieces behind a word's first one in a WordPiece vocabulary.
pub const CONTINUING_PREFIX: &str = "##";

/// What is asked of a trainer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrainSettings {
    /// Entries that the vocabulary may have, special tokens and alphabet included.
    pub vocab_size: usize,
    /// Least count of a pair that is merged.
    pub min_frequency: u64,
    /// First entries of the vocabulary, in this order.
    pub special_tokens: Vec<String>,
    /// Most characters of a WordPiece alphabet, the most frequent ones; `None` takes all.
    pub limit_alphabet: Option<usize>,
}

/// How far a training is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrainProgress {
    /// Entries of the vocabulary so far.
    pub done: usize,
    /// Entries asked for.
    pub wanted: usize,
}

/// Hears of the progress; an error ends the training with it.
pub type GoOn<'c> = &'c mut dyn FnMut(TrainProgress) -> Result<()>;

/// A trained vocabulary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trained {
    /// Entries; the position is the id.
    pub tokens: Vec<String>,
    /// Merged pairs by rank, as ids; no pair twice.
    pub merges: Vec<(u32, u32)>,
}

/// Trains what the words were counted for.
pub fn train(counts: &WordCounts, settings: &TrainSettings, go_on: GoOn<'_>) -> Result<Trained> {
    match counts.kind() {
        WordKind::WordPiece { .. } => train_wordpiece(counts, settings, go_on),
        WordKind::Bpe { .. } => train_bpe(counts, settings, go_on),
    }
}

/// Trains a WordPiece vocabulary. Deterministic in the counts; errors: counts of another kind, and a
/// `vocab_size` that the special tokens and the alphabet alone exceed.
pub fn train_wordpiece(
    counts: &WordCounts,
    settings: &TrainSettings,
    go_on: GoOn<'_>,
) -> Result<Trained> {
    if !matches!(counts.kind(), WordKind::WordPiece { .. }) {
        return Err(wrong_kind("WordPiece", counts));
    }
    let mut vocabulary = Vocabulary::new(&settings.special_tokens);
    let symbols = vocabulary.add_characters(counts, settings.limit_alphabet);
    check_room(&vocabulary, settings)?;
    let words = || (counts.iter()).map(|(word, count)| (symbols.of(word), count));
    let layout = || Layout::new(words());
    finish(&vocabulary, layout, CONTINUING_PREFIX, settings, go_on)
}

/// Trains byte-level BPE; all 256 bytes are in the alphabet. The merges are those of the pinned
/// `tokenizers`, ties included. Errors: counts of another kind, and a `vocab_size` that the special
/// tokens and the alphabet alone exceed.
pub fn train_bpe(
    counts: &WordCounts,
    settings: &TrainSettings,
    go_on: GoOn<'_>,
) -> Result<Trained> {
    if !matches!(counts.kind(), WordKind::Bpe { .. }) {
        return Err(wrong_kind("BPE", counts));
    }
    let mut vocabulary = Vocabulary::new(&settings.special_tokens);
    let ids = vocabulary.add_bytes(&BYTE_TO_CHAR);
    check_room(&vocabulary, settings)?;
    let symbol = |byte: &u8| ids[usize::from(*byte)];
    let words = || (counts.iter()).map(|(word, count)| (word.iter().map(symbol), count));
    finish(&vocabulary, || Layout::new(words()), "", settings, go_on)
}

fn finish(
    vocabulary: &Vocabulary,
    layout: impl Fn() -> Result<Layout>,
    prefix: &str,
    settings: &TrainSettings,
    go_on: GoOn<'_>,
) -> Result<Trained> {
    let trainer = |rare_pairs| {
        let vocabulary = vocabulary.clone();
        let min_frequency = settings.min_frequency;
        Ok::<_, Error>(Trainer::new(
            vocabulary,
            layout()?,
            prefix,
            min_frequency,
            rare_pairs,
        ))
    };
    let mut sparing = trainer(RarePairs::Spared)?;
    if sparing.run(settings.vocab_size, go_on)? == Outcome::Sure {
        return Ok(sparing.into_trained());
    }
    drop(sparing);
    let mut keeping = trainer(RarePairs::Kept)?;
    keeping.run(settings.vocab_size, go_on)?;
    Ok(keeping.into_trained())
}

fn wrong_kind(trainer: &str, counts: &WordCounts) -> Error {
    let kind = counts.kind();
    Error::Argument(format!(
        "{trainer} can't be trained on word counts of {kind}"
    ))
}

fn check_room(vocabulary: &Vocabulary, settings: &TrainSettings) -> Result<()> {
    let (needed, wanted) = (vocabulary.len(), settings.vocab_size);
    if needed <= wanted {
        return Ok(());
    }
    Err(Error::Argument(format!(
        "vocab_size is {wanted}, but the special tokens and the alphabet of this text alone are \
         {needed} entries; raise vocab_size or lower limit_alphabet"
    )))
}

#[cfg(test)]
mod tests;
