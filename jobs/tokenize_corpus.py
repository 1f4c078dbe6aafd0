"""Token shards from plain text and a tokenizer.

    python jobs/tokenize_corpus.py --corpus.paths 'data/*.txt' --tokenizer.path tokenizer \\
        --output tokens

A job that was killed is run again with the same line: it does what is missing.
"""

from raybert.corpus.jobs import tokenize_corpus_job
from raybert.settings.command_line import run_job

if __name__ == "__main__":
    run_job(
        tokenize_corpus_job,
        description="Turn plain text into token shards, ready for pretraining.",
        sections=("output", "corpus", "tokenizer", "cluster"),
    )
