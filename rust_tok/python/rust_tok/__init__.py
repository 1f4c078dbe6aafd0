"""WordPiece and byte-level BPE with the ids of Hugging Face `tokenizers`."""

from rust_tok._native import __version__

__all__ = ["__version__"]
