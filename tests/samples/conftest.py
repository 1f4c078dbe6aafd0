"""Corpora for the tests of samples."""

from collections.abc import Callable

import pytest
from samples.corpora import Corpus, write_corpus


@pytest.fixture
def make_corpus(tmp_path_factory) -> Callable[..., Corpus]:
    """Writes shards of documents of sentences of these lengths."""

    def make(*shards, held_out: float = 0.0) -> Corpus:
        return write_corpus(tmp_path_factory.mktemp("tokens"), *shards, held_out=held_out)

    return make
