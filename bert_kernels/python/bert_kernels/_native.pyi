from typing import TypeAlias, final

# A tensor: (address, elements).
_Memory: TypeAlias = tuple[int, int]
# Rows, and a float32 bias that is still to be added to them.
_Rows: TypeAlias = tuple[_Memory, _Memory | None]
# Row key, column key, limit, scale.
_Drop: TypeAlias = tuple[int, int, int, float]

__all__ = [
    "ROWS_PER_BLOCK",
    "CutChunks",
    "DealtSamples",
    "SampleMasking",
    "SampleWindow",
    "__version__",
    "adamw",
    "add",
    "add_rows",
    "attention_backward",
    "attention_forward",
    "cross_entropy",
    "cut_documents",
    "deal_samples",
    "drop",
    "dropout_add_norm_backward",
    "dropout_add_norm_forward",
    "embeddings_forward",
    "gelu_backward",
    "gelu_forward",
    "has_openmp",
    "instruction_set",
    "instruction_sets",
    "round_bf16",
    "scatter_add",
    "use_instruction_set",
]

__version__: str
ROWS_PER_BLOCK: int

def instruction_set() -> str: ...
def instruction_sets() -> list[str]: ...
def use_instruction_set(name: str) -> bool: ...
def has_openmp() -> bool: ...
def attention_forward(
    num_threads: int,
    low: bool,
    shape: tuple[_Memory, int, int, int],
    drop: _Drop | None,
    qkv: _Rows,
    context: _Memory,
    log_sums: _Memory,
) -> None: ...
def attention_backward(
    num_threads: int,
    low: bool,
    shape: tuple[_Memory, int, int, int],
    drop: _Drop | None,
    qkv: _Rows,
    context: _Memory,
    log_sums: _Memory,
    grad_context: _Memory,
    grad_qkv: _Memory,
) -> None: ...
def dropout_add_norm_forward(
    num_threads: int,
    low: bool,
    values: _Rows,
    residual: _Memory,
    affine: tuple[_Memory, _Memory, float],
    drop: _Drop | None,
    out: _Memory,
    out_low: _Memory,
    saved: tuple[_Memory, _Memory, _Memory],
) -> None: ...
def dropout_add_norm_backward(
    num_threads: int,
    low: bool,
    grad: _Memory,
    grad_low: _Memory,
    saved: tuple[_Memory, _Memory, _Memory],
    weight: _Memory,
    drop: _Drop | None,
    grad_residual: _Memory,
    grad_values: _Memory,
    partial_sums: _Memory,
) -> None: ...
def gelu_forward(num_threads: int, low: bool, width: int, values: _Rows, out: _Memory) -> None: ...
def gelu_backward(
    num_threads: int,
    low: bool,
    width: int,
    values: _Rows,
    grad: _Memory,
    out: _Memory,
    partial_sums: _Memory,
) -> None: ...
def cross_entropy(
    num_threads: int,
    low: bool,
    width: int,
    logits: _Memory,
    bias: _Memory | None,
    labels: _Memory,
    losses: _Memory,
    correct: _Memory,
) -> None: ...
def embeddings_forward(
    num_threads: int,
    lookups: list[tuple[_Memory, _Memory]],
    affine: tuple[_Memory, _Memory, float],
    out: _Memory,
    saved: tuple[_Memory, _Memory, _Memory],
) -> None: ...
def drop(num_threads: int, width: int, drop: _Drop, values: _Memory, out: _Memory) -> None: ...
def scatter_add(
    num_threads: int, ids: _Memory, ignored: int | None, values: _Memory, width: int, table: _Memory
) -> None: ...
def add_rows(num_threads: int, low: bool, values: _Memory, pitch: int, out: _Memory) -> None: ...
def add(num_threads: int, low: bool, values: _Memory, out: _Memory) -> None: ...
def round_bf16(num_threads: int, values: _Memory, out: _Memory) -> None: ...
def adamw(
    num_threads: int,
    step: tuple[float, float, float, float, float, int, float],
    gradient: _Memory,
    values: _Memory,
    exp_avg: _Memory,
    exp_avg_sq: _Memory,
) -> None: ...

@final
class SampleWindow:
    """The columns are those of `samples::Window`: first chunks, shard numbers, starts, cuts, ends,
    partners, order; a shard is its ids and whether they are of 32 bits."""

    def __new__(
        cls,
        owner: object,
        columns: tuple[_Memory, _Memory, _Memory, _Memory, _Memory, _Memory, _Memory],
        shards: list[tuple[_Memory, bool]],
        limit: int,
        sample_key: int,
        truncation_key: int,
    ) -> SampleWindow: ...

@final
class SampleMasking:
    """Special ids are [CLS], [SEP], [MASK]; the rate is in steps of 2**-16."""

    def __new__(
        cls,
        owner: object,
        special: tuple[int, int, int],
        rate: int,
        never_masked: _Memory,
        replacements: _Memory,
        continuation: _Memory | None,
    ) -> SampleMasking: ...

@final
class DealtSamples:
    def pack(
        self,
        masking: SampleMasking,
        tokens: _Memory,
        cu_seqlens: _Memory,
        next_sentence_labels: _Memory,
        masked: _Memory,
    ) -> list[int]: ...

def deal_samples(
    spans: list[tuple[SampleWindow, int, int]], num_micro_shards: int, which: list[int]
) -> tuple[DealtSamples, list[tuple[int, ...]], list[int]]: ...

@final
class CutChunks:
    def sizes(self) -> tuple[int, int]: ...
    def copy_to(
        self, first_piece: _Memory, end: _Memory, document_key: _Memory, piece_start: _Memory
    ) -> None: ...

def cut_documents(
    documents: tuple[_Memory, _Memory, _Memory, _Memory],
    limit: int,
    pairs: bool,
    short_below: int,
    short_keys: tuple[int, int],
) -> CutChunks: ...
