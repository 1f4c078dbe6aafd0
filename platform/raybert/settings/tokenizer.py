"""Which tokenizer to train, or where a trained one lies."""

from typing import Literal

from raybert.settings.marks import Section, identity, operational


class TokenizerSettings(Section):
    """The tokenizer: its kind, its size, its training."""

    path: str | None = operational(
        None, "a folder or file with a tokenizer.json (or vocab.txt) to use"
    )
    kind: Literal["wordpiece", "bpe"] = identity("wordpiece", "BERT's WordPiece or byte-level BPE")
    vocab_size: int = identity(30_522, "entries, special tokens included", ge=6, le=1 << 24)
    min_frequency: int = identity(2, "a merge must be seen this often", ge=1)
    lowercase: bool = identity(True, "lowercase and strip accents (wordpiece)")
    limit_alphabet: int = identity(
        1000, "characters kept, the most frequent ones (wordpiece)", ge=1
    )
    add_prefix_space: bool = identity(False, "treat the first word like any other (bpe)")
    sample_bytes: int | None = identity(
        None, "train on about this much text, spread over the corpus; none takes all", ge=1
    )
