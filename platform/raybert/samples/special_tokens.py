"""What building samples has to know of a vocabulary."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from raybert.errors import UserError

_BPE_SPACE = "Ġ"
# BERT's names first, then RoBERTa's.
_NAMES = {
    "cls": ("[CLS]", "<s>"),
    "sep": ("[SEP]", "</s>"),
    "mask": ("[MASK]", "<mask>"),
    "pad": ("[PAD]", "<pad>"),
}


class Tokenizer(Protocol):
    """The part of `rust_tok.Tokenizer` that is read here."""

    @property
    def special_tokens(self) -> Sequence[str]: ...
    def get_vocab(self) -> dict[str, int]: ...
    def to_json(self) -> str: ...


@dataclass(frozen=True)
class SpecialTokens:
    """Ids with a meaning of their own.

    Attributes:
        cls, sep, mask, pad: ids of the four.
        never_masked: every id that is neither predicted nor put in as a random token; the four
            and [UNK] among them.
        vocab_size: ids are below this.
        continuation_V: bool (V,), ids that go on with a word begun before them; what whole-word
            masking needs. None where it is not asked for.
    """

    cls: int
    sep: int
    mask: int
    pad: int
    never_masked: tuple[int, ...]
    vocab_size: int
    continuation_V: np.ndarray | None = None

    def __post_init__(self) -> None:
        special = {self.cls, self.sep, self.mask, self.pad, *self.never_masked}
        object.__setattr__(self, "never_masked", tuple(sorted(special)))
        if not 0 <= min(special) <= max(special) < self.vocab_size:
            raise ValueError(f"special tokens {sorted(special)} outside 0..{self.vocab_size - 1}")
        if len(special) == self.vocab_size:
            raise ValueError("a vocabulary of special tokens only")

    @classmethod
    def from_tokenizer(cls, tokenizer: Tokenizer) -> SpecialTokens:
        """Those of a tokenizer, with BERT's names or RoBERTa's.

        Raises:
            UserError: one of the four is missing.
        """
        ids = tokenizer.get_vocab()
        named: dict[str, int] = {}
        for role, names in _NAMES.items():
            found = next((ids[name] for name in names if name in ids), None)
            if found is None:
                raise UserError(
                    f"the tokenizer has no {' or '.join(names)}, which samples need: "
                    "train it with this special token"
                )
            named[role] = found
        special = tuple(ids[token] for token in tokenizer.special_tokens)
        continuation = _continuation(ids, json.loads(tokenizer.to_json())["model"])
        continuation[[*special, *named.values()]] = False
        return cls(
            **named,
            never_masked=special,
            vocab_size=len(continuation),
            continuation_V=continuation,
        )

    @cached_property
    def never_masked_V(self) -> np.ndarray:
        """bool (V,)."""
        table = np.zeros(self.vocab_size, dtype=bool)
        table[list(self.never_masked)] = True
        return table

    @cached_property
    def replacements(self) -> np.ndarray:
        """int64, the ids that a random token is drawn from."""
        return np.flatnonzero(~self.never_masked_V)


def _continuation(ids: Mapping[str, int], model: Mapping[str, Any]) -> np.ndarray:
    """WordPiece marks what goes on with a word, byte-level BPE the space before one."""
    continuation = np.zeros(max(ids.values()) + 1, dtype=bool)
    is_wordpiece = model["type"] == "WordPiece"
    mark = model["continuing_subword_prefix"] if is_wordpiece else _BPE_SPACE
    marked = [number for token, number in ids.items() if token.startswith(mark)]
    continuation[marked] = True
    return continuation if is_wordpiece else ~continuation
