from collections.abc import Callable, Iterable, Sequence
from os import PathLike
from typing import Any, Literal, Protocol, final, type_check_only

__all__ = [
    "ArrowColumn",
    "DamagedFileError",
    "DocumentSplitter",
    "Tokenizer",
    "TokenizerError",
    "UnsupportedError",
    "WordCounts",
    "__version__",
    "split_sentences",
    "train_bpe",
    "train_wordpiece",
    "xxh3_128",
]

__version__: str

@type_check_only
class ArrowArray(Protocol):
    """A column of any Arrow library, whole."""

    def __arrow_c_array__(self, requested_schema: object | None = None) -> tuple[Any, Any]: ...

@type_check_only
class ArrowStream(Protocol):
    """A column of any Arrow library, in chunks."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> Any: ...

class TokenizerError(ValueError):
    """What rust_tok refuses; the message says what, where and what is allowed."""

class DamagedFileError(TokenizerError):
    """A file that is not what it should be, with the place."""

class UnsupportedError(TokenizerError):
    """A file that asks for something rust_tok does not do exactly, by its name."""

@final
class ArrowColumn:
    """A column for any Arrow library: `pyarrow.array(ids)`, `polars.Series(ids)`.

    Lists of ids (uint16 where the vocabulary fits, else uint32) and of sentences are `list`, or
    `large_list` and `large_string` where 32 bits of offset aren't enough for what one call gave.
    """

    def __arrow_c_schema__(self) -> Any: ...
    def __arrow_c_array__(self, requested_schema: object | None = None) -> tuple[Any, Any]: ...
    def __arrow_c_stream__(self, requested_schema: object | None = None) -> Any: ...
    def __len__(self) -> int: ...

@final
class Tokenizer:
    """WordPiece or byte-level BPE with the ids of Hugging Face `tokenizers`.

    `split_special_tokens=True` treats a literal special token in a text ("[MASK]") as text;
    by default it is the special token, as in `tokenizers`. Sections for truncation and padding
    are kept when saving and never applied.
    """

    @staticmethod
    def from_file(path: str | PathLike[str], *, lowercase: bool | None = None) -> Tokenizer:
        """Read a `tokenizer.json`, or a BERT `vocab.txt`.

        A `vocab.txt` doesn't say whether it is cased: `lowercase` does; without it, a vocabulary
        with a capital letter outside of its `[special]` tokens is cased.
        """

    @staticmethod
    def from_json(text: str) -> Tokenizer:
        """Read the text of a `tokenizer.json`."""

    def to_json(self) -> str:
        """The text of a `tokenizer.json`."""

    def save(self, path: str | PathLike[str]) -> None:
        """Write a `tokenizer.json` that `tokenizers` loads."""

    def save_vocab(self, folder: str | PathLike[str]) -> None:
        """Write `vocab.txt`, or `vocab.json` and `merges.txt`, into an existing folder."""

    def encode(
        self,
        text: str,
        pair: str | None = None,
        add_special_tokens: bool = True,
        *,
        split_special_tokens: bool = False,
    ) -> list[int]: ...
    def encode_batch(
        self,
        texts: Sequence[str],
        add_special_tokens: bool = True,
        *,
        split_special_tokens: bool = False,
    ) -> list[list[int]]: ...
    def encode_arrow(
        self,
        column: ArrowArray | ArrowStream,
        pair: ArrowArray | ArrowStream | None = None,
        add_special_tokens: bool = False,
        max_length: int | None = None,
        *,
        split_special_tokens: bool = False,
    ) -> ArrowColumn:
        """Encode a column of string, large_string or string_view, or of lists of them.

        A null stays null. `max_length` cuts each row, special tokens included; a pair is cut
        longest first, as in `tokenizers`.
        """

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str: ...
    def decode_batch(
        self, sequences: Sequence[Sequence[int]], skip_special_tokens: bool = True
    ) -> list[str]: ...
    @property
    def vocab_size(self) -> int:
        """Number of tokens, added ones included."""

    @property
    def special_tokens(self) -> list[str]:
        """In order of their ids."""

    @property
    def fingerprint(self) -> str:
        """A hash (32 hex digits) of all that the ids depend on."""

    def token_to_id(self, token: str) -> int | None: ...
    def id_to_token(self, id: int) -> str | None: ...
    def get_vocab(self) -> dict[str, int]: ...
    def __reduce__(self) -> tuple[Any, tuple[str]]: ...

@final
class WordCounts:
    """How often each word stands in a corpus, in 64 bits: what training needs of it.

    `kind` says how texts fall into words: "wordpiece" (BERT's normalizer and pre-tokenizer, with
    `lowercase`) or "bpe" (GPT-2's split, with `add_prefix_space`). Counts of different kinds or
    settings can't be added. About 40 bytes of memory per distinct word.

    Counts travel as Arrow: `pyarrow.table(counts)` has the columns `word` (string) and `count`
    (uint64), in an order that depends on the words alone, and the settings in the metadata of its
    schema; `from_arrow` reads it again.

    Over a cluster: each task counts its texts and gives away `partition(n)`; part *i* of all tasks
    is merged in one task; training on all merged parts equals training in one process. Words rarer
    than `min_frequency` belong to that, because it bounds pairs over all words and not words;
    `prune` drops them on purpose.
    """

    def __new__(
        cls,
        kind: Literal["wordpiece", "bpe"],
        *,
        lowercase: bool = True,
        add_prefix_space: bool = False,
    ) -> WordCounts: ...
    def count(
        self,
        source: ArrowArray | ArrowStream | Iterable[str],
        progress: Callable[[str, int, int | None], object] | None = None,
    ) -> None:
        """Add the words of a column, or of texts, on all threads; nulls have none.

        `progress(stage, done, wanted)` hears of "count" and texts; what it raises ends the call.
        """

    def merge(self, other: WordCounts) -> None:
        """Add the counts of another corpus, or of another part of this one."""

    def partition(self, parts: int) -> list[WordCounts]:
        """Split by a hash of the word: a word's part is the same in every process."""

    def prune(self, min_count: int) -> WordCounts:
        """Take words seen less often apart into their characters, each counted as a word.

        The counts that choose an alphabet stay exact; merges that rest on rare words can change.
        To be called on merged counts, never on a part of them.
        """

    @staticmethod
    def from_arrow(counts: ArrowArray | ArrowStream) -> WordCounts:
        """Read a table or record batch made from counts; refuse other data and settings."""

    def __arrow_c_schema__(self) -> Any: ...
    def __arrow_c_array__(self, requested_schema: object | None = None) -> tuple[Any, Any]: ...
    def __arrow_c_stream__(self, requested_schema: object | None = None) -> Any: ...
    @property
    def kind(self) -> Literal["wordpiece", "bpe"]: ...
    @property
    def total(self) -> int:
        """Number of words, each as often as it was seen."""

    @property
    def nbytes(self) -> int:
        """Memory of the table in bytes."""

    def __len__(self) -> int:
        """Number of distinct words."""

    def __eq__(self, other: object, /) -> bool: ...

def train_wordpiece(
    source: ArrowArray | ArrowStream | Iterable[str] | WordCounts,
    vocab_size: int = 30522,
    min_frequency: int = 2,
    lowercase: bool = True,
    special_tokens: Sequence[str] | None = None,
    limit_alphabet: int | None = 1000,
    progress: Callable[[str, int, int | None], object] | None = None,
) -> Tokenizer:
    """Train a BERT tokenizer on texts or word counts.

    The vocabulary is one that the WordPiece trainer of `tokenizers` could have given (it breaks
    ties by chance), and always the same one. `special_tokens` are BERT's five by default.
    `progress(stage, done, wanted)` hears of "count" and texts, then of "merge" and tokens; what
    it raises ends the training, as Ctrl-C does.
    """

def train_bpe(
    source: ArrowArray | ArrowStream | Iterable[str] | WordCounts,
    vocab_size: int = 30522,
    min_frequency: int = 2,
    add_prefix_space: bool = False,
    special_tokens: Sequence[str] | None = None,
    progress: Callable[[str, int, int | None], object] | None = None,
) -> Tokenizer:
    """Train a byte-level BPE tokenizer: the vocabulary and merges that `tokenizers` gives.

    All 256 bytes are in the alphabet. `[CLS]` and `[SEP]`, if special, are put around texts as in
    BERT; `[MASK]` or `<mask>` takes the blank before it. `progress` as in `train_wordpiece`.
    """

def split_sentences(
    column: ArrowArray | ArrowStream, abbreviations: bool = True, one_line: bool = False
) -> ArrowColumn:
    """Split each text of a column into sentences; together they are the text. Nulls stay null.

    Sentences end where UAX 29 (Unicode 17) ends them, with two additions: a line's end inside a
    paragraph is a blank (a blank line still ends a sentence), and with `abbreviations` a full stop
    of a title ("Dr. Curie"), of "e.g." and its like, of an initial, or of "No." before a digit
    ends none.

    With `one_line` each sentence is a line by itself: the white space at its ends (ASCII's) is left
    out, nothing may be left of it, and a line's end inside is a blank.
    """

@final
class DocumentSplitter:
    """Finds the documents of the bytes `start` to `end` of a file: what stands between blank lines.

    A blank line holds nothing but ASCII white space. A document belongs to the range in which the
    last blank line before it begins, the first one to the range at 0; so ranges of any size, each
    read by itself, give every document exactly once. One of more than `max_bytes` goes on as the
    next one, after a line if there is one, else after a blank, else after a character. A byte order
    mark at the beginning of the file is left out.
    """

    def __new__(cls, start: int, end: int, max_bytes: int) -> DocumentSplitter: ...
    def feed(self, block: bytes) -> ArrowColumn:
        """The documents that the next bytes of the file complete.

        They are fed from `max(start - 1, 0)` on, in blocks of any sizes, until `finished`. The
        column is of structs: `text` (without the line ends behind it; `string` where all that is
        given is UTF-8, else `binary`; the large types where 32 bits of offset aren't enough) and
        `place` (int64, where it begins in the file).
        """

    def close(self) -> ArrowColumn:
        """The last document, where the file ends before the range is `finished`."""

    @property
    def finished(self) -> bool:
        """Whether all documents of the range have been given."""

def xxh3_128(column: ArrowArray | ArrowStream) -> ArrowColumn:
    """XXH3 with 128 bits of the bytes of each text of a column, without nulls.

    The column is of fixed_size_binary(16), equal to `xxhash.xxh3_128_digest(text)`. It tells
    contents apart, but is not cryptographic: equal hashes can be crafted.
    """
