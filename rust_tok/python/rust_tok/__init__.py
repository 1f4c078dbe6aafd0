"""WordPiece and byte-level BPE with the ids of Hugging Face `tokenizers`."""

from rust_tok._native import (
    DamagedFileError,
    ListColumn,
    Tokenizer,
    TokenizerError,
    UnsupportedError,
    WordCounts,
    __version__,
    split_sentences,
    train_bpe,
    train_wordpiece,
)

__all__ = [
    "DamagedFileError",
    "ListColumn",
    "Tokenizer",
    "TokenizerError",
    "UnsupportedError",
    "WordCounts",
    "__version__",
    "split_sentences",
    "train_bpe",
    "train_wordpiece",
]
