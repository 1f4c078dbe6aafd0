"""Which tokenizer to train, or where a trained one lies."""

from typing import Literal

from pydantic import model_validator

from raybert.settings.marks import Section, identity, operational

NUM_SPECIAL_TOKENS = 5  # [PAD] [UNK] [CLS] [SEP] [MASK]
NUM_BYTES = 256


class TokenizerSettings(Section):
    """The tokenizer: its kind, its size, its training."""

    path: str | None = operational(
        None, "a folder or file with a tokenizer.json (or vocab.txt) to use", path=True
    )
    kind: Literal["wordpiece", "bpe"] = identity("wordpiece", "BERT's WordPiece or byte-level BPE")
    vocab_size: int = identity(
        30_522, "entries, special tokens included", ge=NUM_SPECIAL_TOKENS + 1, le=1 << 24
    )
    min_frequency: int = identity(2, "words and merges seen less often are left out", ge=1)
    lowercase: bool = identity(True, "lowercase and strip accents (wordpiece)")
    limit_alphabet: int = identity(
        1000, "characters kept, the most frequent ones (wordpiece)", ge=1
    )
    add_prefix_space: bool = identity(False, "treat the first word like any other (bpe)")
    sample_bytes: int | None = identity(
        None, "train on about this much text, spread over the corpus; none takes all", ge=1
    )

    @model_validator(mode="after")
    def _alphabet_fits(self) -> "TokenizerSettings":
        least = NUM_BYTES + NUM_SPECIAL_TOKENS
        if self.kind == "bpe" and self.vocab_size < least:
            raise ValueError(
                f"tokenizer.vocab_size {self.vocab_size} is too small for tokenizer.kind bpe: it "
                f"starts from {NUM_BYTES} bytes and {NUM_SPECIAL_TOKENS} special tokens, so at "
                f"least {least}"
            )
        return self
