from collections.abc import Sequence
from os import PathLike
from typing import Any, Protocol, final

__version__: str

class ArrowArray(Protocol):
    """A column of any Arrow library, whole."""

    def __arrow_c_array__(self, requested_schema: object | None = None) -> tuple[Any, Any]: ...

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
class IdColumn:
    """A column of lists of ids (uint16 where the vocabulary fits, else uint32).

    Give it to any Arrow library: `pyarrow.array(ids)`, `polars.Series(ids)`. The type is
    `list`, or `large_list` where one call gave more than 2**31 - 1 ids.
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
    ) -> IdColumn:
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
