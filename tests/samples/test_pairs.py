import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raybert.samples.counter_hash import draws, shuffled
from raybert.samples.pairs import ChunkTable, make_pairs

SENTENCE = 4


def table_of(document_C, num_pieces_C):
    """Chunks of sentences of four tokens, one after the other."""
    num_pieces = np.array(num_pieces_C, dtype=np.int64)
    first_piece = np.cumsum(num_pieces) - num_pieces
    start = (first_piece * SENTENCE).astype(np.int32)
    return ChunkTable(
        counter_C=np.arange(len(num_pieces), dtype=np.uint64),
        document_key_C=draws(99, np.array(document_C, dtype=np.uint64)),
        num_pieces_C=num_pieces,
        first_piece_C=first_piece,
        start_C=start,
        end_C=(start + num_pieces * SENTENCE).astype(np.int32),
        piece_start_P=np.arange(num_pieces.sum(), dtype=np.int32) * SENTENCE,
    )


def pair(table, key=1):
    return make_pairs(key, table, shuffled(key, table.counter_C))


@given(
    st.lists(st.tuples(st.integers(0, 6), st.integers(1, 5)), min_size=1, max_size=600),
    st.integers(0, 2**63),
)
@settings(max_examples=150, deadline=None)
def test_partners(chunks, key):
    document, num_pieces = (np.array(column) for column in zip(*chunks, strict=True))
    table = table_of(document, num_pieces)
    pairs = pair(table, key)
    itself = np.arange(len(chunks))
    exchanged = pairs.partner_C != itself
    # Never from the same document.
    assert (document[pairs.partner_C] != document)[exchanged].all()
    # Second halves change hands: each is used once.
    multi = num_pieces > 1
    assert sorted(pairs.partner_C[multi]) == itself[multi].tolist()
    # One sentence always gets a partner where there is another document.
    assert exchanged[~multi].all() or len(np.unique(document)) == 1
    # Cuts lie between sentences.
    cut_piece = (pairs.cut_C - table.start_C) // SENTENCE
    assert ((pairs.cut_C - table.start_C) % SENTENCE == 0).all()
    assert ((cut_piece[multi] >= 1) & (cut_piece[multi] < num_pieces[multi])).all()
    assert (pairs.cut_C[~multi] == table.end_C[~multi]).all()


def test_half_exchange_and_cuts_are_everywhere():
    table = table_of(np.arange(20_000) // 3, np.full(20_000, 5))
    pairs = pair(table)
    exchanged = pairs.partner_C != np.arange(20_000)
    assert abs(exchanged.mean() - 0.5) < 5 * 0.5 / np.sqrt(20_000)
    assert pairs.num_left_over == 0
    counts = np.bincount((pairs.cut_C - table.start_C) // SENTENCE)
    assert counts[0] == 0
    assert np.abs(counts[1:] / 20_000 - 0.25).max() < 0.02
    # Whether a chunk exchanges says nothing about where it is cut.
    assert abs(pairs.cut_C[exchanged].mean() / pairs.cut_C.mean() - 1) < 0.02


def test_halves_that_change_places_are_about_equally_long():
    num_pieces = 2 + np.arange(20_000) % 9
    table = table_of(np.arange(20_000) // 3, num_pieces)
    pairs = pair(table)
    second = table.end_C - pairs.cut_C
    assert (second[pairs.partner_C] == second).mean() > 0.95


def test_partners_come_from_the_whole_window():
    table = table_of(np.arange(20_000) // 10, np.full(20_000, 4))
    partner = pair(table).partner_C
    exchanged = np.flatnonzero(partner != np.arange(20_000))
    places = np.histogram2d(exchanged, partner[exchanged], bins=5)[0]
    assert np.abs(places / places.mean() - 1).max() < 0.25


@pytest.mark.parametrize("share", [0.5, 0.6, 0.9, 1.0])
def test_what_a_document_has_too_much_of_keeps_its_true_half(share):
    num_others = round(1000 * (1 - share))
    document = np.where(np.arange(1000) < 1000 - num_others, 0, np.arange(1000))
    table = table_of(document, np.full(1000, 3))
    pairs = pair(table)
    exchanged = pairs.partner_C != np.arange(1000)
    assert (document[pairs.partner_C] != document)[exchanged].all()
    assert exchanged[document == 0].sum() <= exchanged[document != 0].sum() + 2
    assert (pairs.num_left_over > 0) == (share > 0.5) or share == 0.5
    if share == 1.0:
        assert not exchanged.any()


def test_copies_of_a_document_are_one_document():
    # Two shards with the same document in each, and one more.
    document = np.array([7] * 50 + [7] * 50 + [8] * 100)
    partner = pair(table_of(document, np.full(200, 3))).partner_C
    assert (document[partner] != document)[partner != np.arange(200)].all()


def test_one_sentence_borrows_from_any_other_document():
    document = np.repeat(np.arange(10), 100)
    table = table_of(document, np.ones(1000))
    lenders = document[pair(table).partner_C]
    counts = np.zeros((10, 10))
    np.add.at(counts, (document, lenders), 1)
    assert (np.diag(counts) == 0).all()
    assert (counts + 100 * np.eye(10) > 0).all()


def test_another_key_makes_other_pairs():
    table = table_of(np.arange(1000) // 3, np.full(1000, 5))
    first, second = pair(table, 1), pair(table, 2)
    assert (first.cut_C != second.cut_C).mean() > 0.5
    assert (first.partner_C != second.partner_C).mean() > 0.5
