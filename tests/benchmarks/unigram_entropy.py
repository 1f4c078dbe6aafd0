"""What knowing only how frequent each token is would cost: a masked-language loss must beat it.

python tests/benchmarks/unigram_entropy.py TOKENS
"""

import sys

import numpy as np

from raybert.tokens import Shard, TokenStore


def counts_of(shard: Shard, vocab_size: int) -> tuple[np.ndarray, np.ndarray]:
    """How often each id stands in the training and in the held-out documents: int64 (V,) each."""
    sentence_bounds = shard.sentence_offsets_S1[shard.document_offsets_D1]
    lengths = np.diff(sentence_bounds)
    held_out_T = np.repeat(shard.held_out_D, lengths)
    ids_T = np.asarray(shard.ids_T[sentence_bounds[0] : sentence_bounds[-1]])
    train = np.bincount(ids_T[~held_out_T], minlength=vocab_size)
    return train, np.bincount(ids_T[held_out_T], minlength=vocab_size)


def main() -> None:
    store = TokenStore.open(sys.argv[1])
    train, held_out = np.zeros((2, store.vocab_size), dtype=np.int64)
    for number in range(store.num_shards):
        here, there = counts_of(store.shard(number), store.vocab_size)
        train, held_out = train + here, held_out + there
    smoothed = (train + 1) / (train + 1).sum()
    cost = -(held_out * np.log(smoothed)).sum() / held_out.sum()
    print(f"{train.sum():,} training tokens, {held_out.sum():,} held out")
    print(f"unigram cross-entropy of the held-out tokens: {cost:.3f} nats")


if __name__ == "__main__":
    main()
