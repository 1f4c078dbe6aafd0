import numpy as np
import pytest

from raybert.errors import UserError
from raybert.samples import SpecialTokens


class Vocabulary:
    def __init__(self, tokens, special):
        self.tokens = tokens
        self.special_tokens = special

    def get_vocab(self):
        return {token: i for i, token in enumerate(self.tokens)}


BERT = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def test_wordpiece():
    special = SpecialTokens.from_vocabulary(Vocabulary([*BERT, "a", "##b", "c"], BERT))
    assert (special.pad, special.cls, special.sep, special.mask) == (0, 2, 3, 4)
    assert special.never_masked == (0, 1, 2, 3, 4)
    assert special.replacements.tolist() == [5, 6, 7]
    assert special.continuation_V is not None
    assert np.flatnonzero(special.continuation_V).tolist() == [6]


def test_byte_level_bpe_with_robertas_names():
    names = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    special = SpecialTokens.from_vocabulary(Vocabulary([*names, "Ġa", "b", "Ġ", "c"], names))
    assert (special.cls, special.pad, special.sep, special.mask) == (0, 1, 2, 4)
    assert special.continuation_V is not None
    assert np.flatnonzero(special.continuation_V).tolist() == [6, 8]


def test_a_tokenizer_without_mask_is_refused():
    with pytest.raises(UserError, match=r"\[MASK\] or <mask>"):
        SpecialTokens.from_vocabulary(Vocabulary([*BERT[:4], "a"], BERT[:4]))


def test_the_four_are_never_masked_whatever_is_said():
    assert SpecialTokens(2, 3, 4, 0, (), 10).never_masked == (0, 2, 3, 4)


def test_ids_outside_and_nothing_to_predict_are_refused():
    with pytest.raises(ValueError, match="outside"):
        SpecialTokens(2, 3, 4, 0, (12,), 10)
    with pytest.raises(ValueError, match="special tokens only"):
        SpecialTokens(0, 1, 2, 3, (), 4)
