"""WordPiece and byte-level BPE with the ids of Hugging Face `tokenizers`."""

from rust_tok._native import (
    DamagedFileError,
    IdColumn,
    Tokenizer,
    TokenizerError,
    UnsupportedError,
    __version__,
)

__all__ = [
    "DamagedFileError",
    "IdColumn",
    "Tokenizer",
    "TokenizerError",
    "UnsupportedError",
    "__version__",
]
