//! `rust_tok.train_wordpiece` and `rust_tok.train_bpe`.

use pyo3::prelude::*;
use tok::file::BERT_SPECIAL_TOKENS;
use tok::train::{self, TrainSettings};
use tok::word_counts::{WordCounts as Core, WordKind};

use crate::errors::raise;
use crate::tokenizer::Tokenizer;
use crate::watch::Watch;
use crate::word_counts::{self, WordCounts};

#[pyfunction]
#[pyo3(signature = (
    source,
    vocab_size=30522,
    min_frequency=2,
    lowercase=true,
    special_tokens=None,
    limit_alphabet=Some(1000),
    progress=None,
), text_signature = "(source, vocab_size=30522, min_frequency=2, lowercase=True, special_tokens=None, limit_alphabet=1000, progress=None)")]
#[expect(clippy::too_many_arguments, reason = "Python's keyword arguments")]
pub(crate) fn train_wordpiece(
    py: Python<'_>,
    source: &Bound<'_, PyAny>,
    vocab_size: usize,
    min_frequency: u64,
    lowercase: bool,
    special_tokens: Option<Vec<String>>,
    limit_alphabet: Option<usize>,
    progress: Option<Py<PyAny>>,
) -> PyResult<Tokenizer> {
    let settings = TrainSettings {
        vocab_size,
        min_frequency,
        special_tokens: or_berts(special_tokens),
        limit_alphabet,
    };
    train(
        py,
        source,
        WordKind::WordPiece { lowercase },
        &settings,
        progress,
    )
}

#[pyfunction]
#[pyo3(signature = (
    source,
    vocab_size=30522,
    min_frequency=2,
    add_prefix_space=false,
    special_tokens=None,
    progress=None,
))]
pub(crate) fn train_bpe(
    py: Python<'_>,
    source: &Bound<'_, PyAny>,
    vocab_size: usize,
    min_frequency: u64,
    add_prefix_space: bool,
    special_tokens: Option<Vec<String>>,
    progress: Option<Py<PyAny>>,
) -> PyResult<Tokenizer> {
    let settings = TrainSettings {
        vocab_size,
        min_frequency,
        special_tokens: or_berts(special_tokens),
        limit_alphabet: None,
    };
    train(
        py,
        source,
        WordKind::Bpe { add_prefix_space },
        &settings,
        progress,
    )
}

fn or_berts(special_tokens: Option<Vec<String>>) -> Vec<String> {
    special_tokens.unwrap_or_else(|| BERT_SPECIAL_TOKENS.map(str::to_owned).to_vec())
}

fn train(
    py: Python<'_>,
    source: &Bound<'_, PyAny>,
    kind: WordKind,
    settings: &TrainSettings,
    progress: Option<Py<PyAny>>,
) -> PyResult<Tokenizer> {
    train::check_special_tokens(&settings.special_tokens, kind).map_err(raise)?;
    let mut watch = Watch::new(progress);
    if let Ok(counts) = source.cast::<WordCounts>() {
        let counts = counts.borrow();
        counts.0.same_kind(kind).map_err(raise)?;
        return from_counts(py, &counts.0, settings, &mut watch);
    }
    let mut counts = Core::new(kind);
    word_counts::count(py, &mut counts, source, &mut watch)?;
    from_counts(py, &counts, settings, &mut watch)
}

fn from_counts(
    py: Python<'_>,
    counts: &Core,
    settings: &TrainSettings,
    watch: &mut Watch,
) -> PyResult<Tokenizer> {
    let trained = watch.detached(py, |watch| {
        let trained = train::train(counts, settings, &mut |progress| {
            watch.tick("merge", progress.done, Some(progress.wanted))
        })?;
        trained.into_tokenizer(counts.kind(), settings)
    });
    trained.map(Tokenizer::new)
}
