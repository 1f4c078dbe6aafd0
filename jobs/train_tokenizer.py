"""A tokenizer from plain text.

    python jobs/train_tokenizer.py --corpus.paths 'data/*.txt' --tokenizer.vocab_size 30522 \\
        --output tokenizer

Without --corpus.paths it takes the default corpus. DIR gets tokenizer.json (as Hugging Face's
`tokenizers` reads it), tokenizer_config.json and the vocabulary.
"""

from raybert.corpus.jobs import train_tokenizer_job
from raybert.settings.command_line import run_job

if __name__ == "__main__":
    run_job(
        train_tokenizer_job,
        description="Train a WordPiece or byte-level BPE tokenizer on plain text.",
        sections=("output", "corpus", "tokenizer", "cluster"),
    )
