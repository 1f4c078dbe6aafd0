"""Text in: sources, documents, sentences; a vocabulary and token shards out.

    corpus = Corpus.open(CorpusSettings(paths=("data/*.txt",)))
    tokenizer = train_tokenizer(corpus)
    tokenize(corpus, tokenizer, "tokens")

The jobs do the same on a Ray cluster (`ray_tasks`).
"""

from raybert.corpus.corpus import Corpus
from raybert.corpus.tokenization import open_tokenizer, tokenize
from raybert.corpus.vocabulary import train_tokenizer

__all__ = ["Corpus", "open_tokenizer", "tokenize", "train_tokenizer"]
