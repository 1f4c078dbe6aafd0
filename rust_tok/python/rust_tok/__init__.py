"""WordPiece and byte-level BPE with the ids of Hugging Face `tokenizers`."""

from rust_tok._native import (
    ArrowColumn,
    DamagedFileError,
    DocumentSplitter,
    Tokenizer,
    TokenizerError,
    UnsupportedError,
    WordCounts,
    __version__,
    split_sentences,
    train_bpe,
    train_wordpiece,
    xxh3_128,
)

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
