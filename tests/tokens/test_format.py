import numpy as np
import pyarrow as pa
import pytest

from raybert.tokens import document_id, id_type
from raybert.tokens.format import held_out_mask


def ids_of(texts):
    return np.array([list(document_id(text)) for text in texts], dtype=np.uint8)


def test_a_document_is_named_by_its_text_alone():
    assert document_id("naïve") == document_id("naïve".encode())
    assert len(document_id("")) == 16
    # Fixed: every corpus written so far depends on it.
    assert document_id("a").hex() == "a96faf705af16834e6c632b61e964e1f"


@pytest.mark.parametrize("share", [0.0, 0.01, 0.25, 0.9])
def test_the_share_held_out_is_about_what_was_asked_for(share):
    ids = ids_of(map(str, range(20_000)))
    found = held_out_mask(ids, share).mean()
    assert abs(found - share) <= 5 * np.sqrt(share * (1 - share) / 20_000)


def test_a_larger_share_holds_out_the_same_documents_and_more():
    ids = ids_of(map(str, range(1000)))
    assert not (held_out_mask(ids, 0.1) & ~held_out_mask(ids, 0.2)).any()


@pytest.mark.parametrize("share", [-0.1, 1.0, float("nan")])
def test_a_share_outside_zero_and_one_is_refused(share):
    with pytest.raises(ValueError, match="held-out share"):
        held_out_mask(ids_of("a"), share)


def test_ids_are_as_narrow_as_the_vocabulary_allows():
    assert id_type(65_536) == pa.uint16()
    assert id_type(65_537) == pa.uint32()
    with pytest.raises(ValueError, match="positive"):
        id_type(0)
