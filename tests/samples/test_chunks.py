import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from raybert.samples.chunks import ChunkRule, cut_documents
from raybert.samples.counter_hash import draws

DOCUMENTS = st.lists(st.lists(st.integers(0, 60), max_size=12), max_size=12)
RULES = st.builds(
    ChunkRule,
    limit=st.integers(5, 40),
    pairs=st.booleans(),
    short_share=st.sampled_from([0.0, 0.1, 0.5]),
)
FULL = ChunkRule(20, pairs=False, short_share=0.0)
PAIRS = ChunkRule(20, pairs=True, short_share=0.0)


def cut(documents, rule, selected=None, keys=None):
    flat = [length for document in documents for length in document]
    if keys is None:
        keys = draws(0, np.arange(len(documents), dtype=np.uint64))
    return cut_documents(
        np.cumsum([0, *flat]).astype(np.int32),
        np.cumsum([0, *map(len, documents)]).astype(np.int32),
        keys,
        np.ones(len(documents), dtype=bool) if selected is None else np.array(selected, bool),
        rule,
    )


def lengths(chunks):
    """Tokens of each chunk's pieces."""
    bounds = chunks.first_piece_C1
    return [
        np.diff([*chunks.piece_start_P[first:last], end]).tolist()
        for first, last, end in zip(bounds[:-1], bounds[1:], chunks.end_C, strict=True)
    ]


def test_whole_sentences_up_to_the_limit():
    assert lengths(cut([[8, 8, 8, 3], [20], [1, 1]], FULL)) == [[8, 8], [8, 3], [20], [1, 1]]


def test_a_sentence_over_the_limit_is_split():
    assert lengths(cut([[45, 2]], FULL)) == [[20], [20], [5, 2]]


def test_pieces_of_a_split_sentence_pair_with_each_other():
    assert lengths(cut([[45]], PAIRS)) == [[10, 10], [10, 10], [5]]


def test_a_last_sentence_is_not_left_alone_where_it_can_be_helped():
    assert lengths(cut([[5, 5, 5, 5, 5]], PAIRS)) == [[5, 5, 5], [5, 5]]
    assert lengths(cut([[5, 5, 5, 5, 5]], FULL)) == [[5, 5, 5, 5], [5]]
    # Two sentences that don't fit together, and a chunk that would be left alone itself.
    assert lengths(cut([[2, 2, 16, 19]], PAIRS)) == [[2, 2, 16], [19]]
    assert lengths(cut([[10, 10, 10]], PAIRS)) == [[10, 10], [10]]


def test_empty_sentences_and_documents_have_no_tokens_to_learn_from():
    assert lengths(cut([[0, 3, 0, 4], [], [0]], FULL)) == [[3, 4]]
    assert len(cut([], PAIRS)) == 0


def test_documents_that_are_not_selected_are_left_out():
    chunks = cut([[9, 9], [7, 7], [5, 5]], PAIRS, selected=[True, False, True])
    assert lengths(chunks) == [[9, 9], [5, 5]]
    assert chunks.end_C.tolist() == [18, 42]


def test_about_the_asked_share_is_short_and_still_a_pair():
    documents = [[4] * 100] * 500
    whole = ChunkRule(40, pairs=True, short_share=0.0)
    short = ChunkRule(40, pairs=True, short_share=0.1)
    assert {len(chunk) for chunk in lengths(cut(documents, whole))} == {10}
    sizes = np.array([len(chunk) for chunk in lengths(cut(documents, short))])
    # The target is uniform in 2..40: the share at 40 is not short, ends of documents are.
    num_ends = 500
    assert abs((sizes < 10).mean() - 0.1) < 0.02 + num_ends / len(sizes)
    assert sizes.min() == 2
    assert set(range(2, 11)) == set(sizes.tolist())


@given(DOCUMENTS, RULES)
@settings(max_examples=200, deadline=None)
def test_chunks_hold_every_token_once_in_order_and_never_two_documents(documents, rule):
    chunks = cut(documents, rule)
    starts = chunks.piece_start_P[chunks.first_piece_C1[:-1]]
    tokens = [t for s, e in zip(starts, chunks.end_C, strict=True) for t in range(s, e)]
    assert tokens == list(range(sum(map(sum, documents))))
    sizes = chunks.end_C - starts
    assert ((sizes > 0) & (sizes <= rule.limit)).all()
    ends = np.cumsum([sum(document) for document in documents])
    document = np.searchsorted(ends, starts, side="right")
    assert (document == np.searchsorted(ends, chunks.end_C - 1, side="right")).all()
    keys = draws(0, np.arange(len(documents), dtype=np.uint64))
    assert (chunks.document_key_C == keys[document]).all()


@given(DOCUMENTS, RULES, st.data())
@settings(max_examples=100, deadline=None)
def test_a_document_is_cut_the_same_wherever_it_stands(documents, rule, data):
    keys = draws(0, np.arange(len(documents), dtype=np.uint64))
    order = data.draw(st.permutations(range(len(documents))))
    alone = [lengths(cut([documents[i]], rule, keys=keys[i : i + 1])) for i in order]
    together = lengths(cut([documents[i] for i in order], rule, keys=keys[order]))
    assert together == [chunk for chunks in alone for chunk in chunks]


def test_the_limit_leaves_room_for_special_tokens():
    assert ChunkRule.of(128, next_sentence=True, short_share=0.1) == ChunkRule(125, True, 0.1)
    assert ChunkRule.of(128, next_sentence=False, short_share=0.1) == ChunkRule(126, False, 0.0)


def test_the_fingerprint_tells_rules_apart():
    rules = [FULL, PAIRS, ChunkRule(21, True, 0.0), ChunkRule(20, True, 0.1)]
    assert len({rule.fingerprint for rule in rules}) == 4
