"""Dynamic masking: which tokens are to be predicted, and what stands in their place.

Devlin et al. 2019, section 3.1: a share of the tokens, of which 80 % become [MASK], 10 % a random
token and 10 % stay. Drawn per token, anew in each epoch, at least one per sample.

Legend: B samples, L columns of a sample, the special tokens included; W words of 64 bits.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from raybert.samples.counter_hash import below, draws
from raybert.samples.special_tokens import SpecialTokens

_DRAWS_PER_WORD: Final = 4
# Counters of a sample's key: columns' draws first, then what replaces a token, then the fallback.
_REPLACEMENT: Final = 1 << 20
_FALLBACK: Final = 1 << 21
_MASK_SHARE: Final = round(0.8 * 2**16)
_RANDOM_SHARE: Final = round(0.1 * 2**16)


def choose_masked(
    ids_BL: np.ndarray,
    is_token_BL: np.ndarray,
    key_B: np.ndarray,
    rate: float,
    special: SpecialTokens,
    whole_words: bool,
) -> np.ndarray:
    """Choose the tokens to predict.

    Args:
        ids_BL: token ids; past a sample's length any of the vocabulary.
        is_token_BL: bool, columns of each sample.
        key_B: uint64, a key per sample.
        rate: chance of a token, or of a word, to be chosen, in steps of 2**-16.
        special: never_masked are never chosen.
        whole_words: a word's tokens are chosen together; needs special.continuation_V.

    Returns:
        int64 (M,), ascending places in ids_BL.ravel(). A sample has at least one unless it has
        nothing but special tokens.
    """
    num_samples, num_columns = ids_BL.shape
    draw_BL = _column_draws(key_B, num_columns)
    if whole_words:
        draw_BL = np.take_along_axis(draw_BL, _word_starts(ids_BL, special), axis=1)
    chosen_BL = draw_BL < np.uint16(round(rate * 2**16))
    chosen_BL &= is_token_BL
    chosen = np.flatnonzero(chosen_BL)
    chosen = chosen[~special.never_masked_V[ids_BL.ravel()[chosen]]]
    has_some_B = np.zeros(num_samples, dtype=bool)
    has_some_B[chosen // num_columns] = True
    without = np.flatnonzero(~has_some_B)
    if len(without) == 0:
        return chosen
    row, column = _choose_one(
        ids_BL[without], is_token_BL[without], key_B[without], special, whole_words
    )
    return np.sort(np.concatenate([chosen, without[row] * num_columns + column]))


def replace_masked(
    ids_BL: np.ndarray, chosen: np.ndarray, key_B: np.ndarray, special: SpecialTokens
) -> np.ndarray:
    """Put [MASK], a random token or nothing in place of the chosen tokens.

    Args:
        ids_BL: contiguous; changed in place.
        chosen: places in ids_BL.ravel().

    Returns:
        The ids that stood there: int64 (M,).
    """
    num_columns = ids_BL.shape[1]
    flat = ids_BL.reshape(-1)
    labels = flat[chosen].astype(np.int64)
    row = chosen // num_columns
    column = chosen - row * num_columns
    bits = draws(key_B[row], (column + _REPLACEMENT).astype(np.uint64))
    choice = (bits & np.uint64(0xFFFF)).astype(np.uint16)
    random = np.flatnonzero((choice >= _MASK_SHARE) & (choice < _MASK_SHARE + _RANDOM_SHARE))
    flat[chosen[choice < _MASK_SHARE]] = special.mask
    replacement = below(bits[random], len(special.replacements)).astype(np.int64)
    flat[chosen[random]] = special.replacements[replacement]
    return labels


def _column_draws(key_B: np.ndarray, num_columns: int) -> np.ndarray:
    """16 random bits per column: uint16 (B, L); four come from one draw."""
    num_words = -(-num_columns // _DRAWS_PER_WORD)
    bits_BW = draws(key_B[:, None], np.arange(num_words, dtype=np.uint64))
    return bits_BW.astype("<u8", copy=False).view("<u2")[:, :num_columns]


def _word_starts(ids_BL: np.ndarray, special: SpecialTokens) -> np.ndarray:
    """The column where each token's word begins: int64 (B, L).

    The column after a special token begins a word, whatever stands there: so does a segment.
    """
    if special.continuation_V is None:
        raise ValueError("whole-word masking needs a table of continuation tokens")
    # What lies past a sample's end is no id of its own, but it is one of the vocabulary.
    begins_BL = ~special.continuation_V[ids_BL]
    begins_BL[:, 0] = True
    begins_BL[:, 1:] |= special.never_masked_V[ids_BL[:, :-1]]
    column_L = np.arange(ids_BL.shape[1])
    return np.maximum.accumulate(np.where(begins_BL, column_L, 0), axis=1)


def _choose_one(
    ids_BL: np.ndarray,
    is_token_BL: np.ndarray,
    key_B: np.ndarray,
    special: SpecialTokens,
    whole_words: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of one token, or one word, of each sample; every token as likely."""
    allowed_BL = is_token_BL & ~special.never_masked_V[ids_BL]
    num_allowed_B = allowed_BL.sum(axis=1)
    bits_B = draws(key_B, np.full(len(key_B), _FALLBACK, dtype=np.uint64))
    rank_B = below(bits_B, num_allowed_B).astype(np.int64)
    hit_BL = allowed_BL & (np.cumsum(allowed_BL, axis=1) - 1 == rank_B[:, None])
    if whole_words:
        starts_BL = _word_starts(ids_BL, special)
        start_B = np.where(hit_BL, starts_BL, 0).max(axis=1)
        hit_BL = allowed_BL & (starts_BL == start_B[:, None])
    row, column = np.nonzero(hit_BL)
    return row, column
