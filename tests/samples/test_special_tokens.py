import numpy as np
import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

import rust_tok
from raybert.errors import UserError
from raybert.samples import SpecialTokens

BERT = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
ROBERTA = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]


def tokenizer_of(model, special):
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = (
        normalizers.BertNormalizer() if isinstance(model, models.WordPiece) else None
    )
    tokenizer.pre_tokenizer = (
        pre_tokenizers.BertPreTokenizer()
        if isinstance(model, models.WordPiece)
        else pre_tokenizers.ByteLevel()
    )
    tokenizer.add_special_tokens(special)
    return rust_tok.Tokenizer.from_json(tokenizer.to_str())


def ids(tokens):
    return {token: i for i, token in enumerate(tokens)}


def test_wordpiece():
    # "Ġ" is a letter of Maltese: the kind of a model isn't told by its tokens.
    model = models.WordPiece(ids([*BERT, "a", "##b", "Ġa"]), unk_token="[UNK]")
    special = SpecialTokens.from_tokenizer(tokenizer_of(model, BERT))
    assert (special.pad, special.cls, special.sep, special.mask) == (0, 2, 3, 4)
    assert special.never_masked == (0, 1, 2, 3, 4)
    assert special.replacements.tolist() == [5, 6, 7]
    assert special.continuation_V is not None
    assert np.flatnonzero(special.continuation_V).tolist() == [6]


def test_byte_level_bpe_with_robertas_names():
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = ids([*ROBERTA, *letters, "Ġa", "##"])
    model = models.BPE(vocab, [("Ġ", "a"), ("#", "#")])
    special = SpecialTokens.from_tokenizer(tokenizer_of(model, ROBERTA))
    assert (special.cls, special.pad, special.sep, special.mask) == (0, 1, 2, 4)
    assert special.vocab_size == len(vocab)
    assert special.continuation_V is not None
    begins = np.flatnonzero(~special.continuation_V).tolist()
    assert begins == [0, 1, 2, 3, 4, vocab["Ġ"], vocab["Ġa"]]


def test_a_tokenizer_without_mask_is_refused():
    model = models.WordPiece(ids([*BERT[:4], "a"]), unk_token="[UNK]")
    with pytest.raises(UserError, match=r"\[MASK\] or <mask>"):
        SpecialTokens.from_tokenizer(tokenizer_of(model, BERT[:4]))


def test_the_four_are_never_masked_whatever_is_said():
    assert SpecialTokens(2, 3, 4, 0, (), 10).never_masked == (0, 2, 3, 4)


def test_ids_outside_and_nothing_to_predict_are_refused():
    with pytest.raises(ValueError, match="outside"):
        SpecialTokens(2, 3, 4, 0, (12,), 10)
    with pytest.raises(ValueError, match="special tokens only"):
        SpecialTokens(0, 1, 2, 3, (), 4)
