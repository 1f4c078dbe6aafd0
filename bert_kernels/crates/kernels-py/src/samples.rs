//! The binding of the crate `samples`.

use pyo3::prelude::*;
use pyo3::types::PyTuple;
use samples::{
    Chunks, Dealt, Documents, Ids, Masking, Packed, Row, Rule, Special, Window, cut, deal, pack,
    rows,
};

use crate::memory::{Memory, read, write};

/// Chunks of a shard's documents, see `samples::Chunks`.
#[pyclass(frozen, module = "bert_kernels._native")]
pub(crate) struct CutChunks(Chunks);

/// Cuts documents: sentence offsets, document offsets, keys, which are selected.
#[pyfunction]
pub(crate) fn cut_documents(
    py: Python<'_>,
    documents: (Memory, Memory, Memory, Memory),
    limit: i64,
    pairs: bool,
    short_below: u64,
    short_keys: [u64; 2],
) -> PyResult<CutChunks> {
    let rule = Rule {
        limit,
        pairs,
        short_below,
        short_keys,
    };
    let (sentence_offsets, document_offsets, keys, selected) = documents;
    py.detach(|| {
        // SAFETY: the caller's arrays, which nobody writes to; see the module.
        let documents = unsafe {
            Documents {
                sentence_offsets: read(sentence_offsets)?,
                document_offsets: read(document_offsets)?,
                keys: read(keys)?,
                selected: read(selected)?,
            }
        };
        Ok(CutChunks(cut(&documents, &rule)))
    })
}

#[pymethods]
impl CutChunks {
    /// Chunks and pieces.
    fn sizes(&self) -> (usize, usize) {
        (self.0.end.len(), self.0.piece_start.len())
    }

    /// Copies what there is to arrays of those sizes.
    fn copy_to(
        &self,
        first_piece: Memory,
        end: Memory,
        document_key: Memory,
        piece_start: Memory,
    ) -> PyResult<()> {
        // SAFETY: the caller made these arrays and shows them to nobody before this is done.
        unsafe {
            write(first_piece)?.copy_from_slice(&self.0.first_piece);
            write(end)?.copy_from_slice(&self.0.end);
            write(document_key)?.copy_from_slice(&self.0.document_key);
            write(piece_start)?.copy_from_slice(&self.0.piece_start);
        }
        Ok(())
    }
}

/// (first chunks, shard numbers, then chunks' starts, cuts, ends, partners and order).
type Columns = (Memory, Memory, Memory, Memory, Memory, Memory, Memory);

/// What a window is made of; it holds on to whoever owns the memory.
#[pyclass(frozen, module = "bert_kernels._native")]
pub(crate) struct SampleWindow {
    columns: Columns,
    /// Ids, and whether they are of 32 bits.
    shards: Vec<(Memory, bool)>,
    limit: i64,
    sample_key: u64,
    truncation_key: u64,
    _owner: Py<PyAny>,
}

#[pymethods]
impl SampleWindow {
    #[new]
    fn new(
        owner: Py<PyAny>,
        columns: Columns,
        shards: Vec<(Memory, bool)>,
        limit: i64,
        sample_key: u64,
        truncation_key: u64,
    ) -> Self {
        Self {
            columns,
            shards,
            limit,
            sample_key,
            truncation_key,
            _owner: owner,
        }
    }
}

impl SampleWindow {
    fn view(&self) -> PyResult<Window<'_>> {
        let (first_chunk, shard_numbers, start, cut, end, partner, order) = self.columns;
        // SAFETY: the owner keeps the memory, and nobody writes to a window's columns.
        unsafe {
            Ok(Window {
                shard_numbers: read(shard_numbers)?,
                first_chunk: read(first_chunk)?,
                start: read(start)?,
                cut: read(cut)?,
                end: read(end)?,
                partner: read(partner)?,
                order: read(order)?,
                limit: self.limit,
                sample_key: self.sample_key,
                truncation_key: self.truncation_key,
            })
        }
    }

    fn ids(&self) -> impl Iterator<Item = PyResult<Ids<'_>>> {
        self.shards.iter().map(|&(memory, is_wide)| {
            // SAFETY: the owner keeps the shards mapped, and they are only read.
            unsafe {
                Ok(if is_wide {
                    Ids::Wide(read(memory)?)
                } else {
                    Ids::Narrow(read(memory)?)
                })
            }
        })
    }
}

/// How tokens are masked; it holds on to whoever owns the tables.
#[pyclass(frozen, module = "bert_kernels._native")]
pub(crate) struct SampleMasking {
    special: Special,
    rate: u16,
    never_masked: Memory,
    replacements: Memory,
    continuation: Option<Memory>,
    _owner: Py<PyAny>,
}

#[pymethods]
impl SampleMasking {
    #[new]
    fn new(
        owner: Py<PyAny>,
        special: (i64, i64, i64),
        rate: u16,
        never_masked: Memory,
        replacements: Memory,
        continuation: Option<Memory>,
    ) -> Self {
        let (cls, sep, mask) = special;
        Self {
            special: Special { cls, sep, mask },
            rate,
            never_masked,
            replacements,
            continuation,
            _owner: owner,
        }
    }
}

impl SampleMasking {
    fn view(&self) -> PyResult<Masking<'_>> {
        // SAFETY: the owner keeps the tables, and nobody writes to them.
        unsafe {
            Ok(Masking {
                special: self.special,
                rate: self.rate,
                never_masked: read(self.never_masked)?,
                replacements: read(self.replacements)?,
                continuation: self.continuation.map(|memory| read(memory)).transpose()?,
            })
        }
    }
}

/// Samples dealt to micro-shards, not yet built.
#[pyclass(frozen, module = "bert_kernels._native")]
pub(crate) struct DealtSamples {
    dealt: Dealt,
    windows: Vec<Py<SampleWindow>>,
}

/// Which samples of each window make a batch, and those of them in the micro-shards asked for.
///
/// With them the tokens of every sample, a tuple per micro-shard, and the sums of those.
#[pyfunction]
pub(crate) fn deal_samples<'py>(
    py: Python<'py>,
    spans: Vec<(Py<SampleWindow>, usize, usize)>,
    num_micro_shards: usize,
    which: Vec<usize>,
) -> PyResult<(DealtSamples, Vec<Bound<'py, PyTuple>>, Vec<usize>)> {
    let dealt = py.detach(|| {
        let mut all: Vec<Row> = Vec::new();
        let mut num_shards = 0;
        for (window, first, last) in &spans {
            let window = window.get();
            all.extend(rows(&window.view()?, *first..*last, num_shards));
            num_shards += window.shards.len();
        }
        PyResult::Ok(deal(&all, num_micro_shards, &which))
    })?;
    let lengths = |part: &[Row]| PyTuple::new(py, part.iter().map(Row::num_tokens));
    let lengths = dealt.parts().map(lengths).collect::<PyResult<_>>()?;
    let sum = |part: &[Row]| part.iter().map(Row::num_tokens).sum();
    let sums = dealt.parts().map(sum).collect();
    let windows = spans.into_iter().map(|(window, _, _)| window).collect();
    Ok((DealtSamples { dealt, windows }, lengths, sums))
}

#[pymethods]
impl DealtSamples {
    /// Builds the micro-shards, see `samples::Packed`; gives the masked tokens of each.
    fn pack(
        &self,
        py: Python<'_>,
        masking: &SampleMasking,
        tokens: Memory,
        cu_seqlens: Memory,
        next_sentence_labels: Memory,
        masked: Memory,
    ) -> PyResult<Vec<usize>> {
        py.detach(|| {
            let shards: Vec<Ids<'_>> = self
                .windows
                .iter()
                .flat_map(|window| window.get().ids())
                .collect::<PyResult<_>>()?;
            // SAFETY: the caller made these tensors and shows them to nobody before this is done.
            let packed = unsafe {
                let tokens: &mut [i64] = write(tokens)?;
                let (input_ids, others) = tokens.split_at_mut(tokens.len() / 3);
                let (position_ids, token_type_ids) = others.split_at_mut(others.len() / 2);
                Packed {
                    input_ids,
                    position_ids,
                    token_type_ids,
                    cu_seqlens: write(cu_seqlens)?,
                    next_sentence_labels: write(next_sentence_labels)?,
                    masked: write(masked)?,
                }
            };
            Ok(pack(&self.dealt, &shards, &masking.view()?, packed))
        })
    }
}
