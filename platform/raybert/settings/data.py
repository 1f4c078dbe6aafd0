"""Labelled data: which files, which columns, how texts become ids."""

from typing import Literal

from raybert.settings.marks import Section, identity, operational

Task = Literal["classification", "multi_label", "regression", "tokens"]


class DataSettings(Section):
    """Labelled texts; csv, tsv, jsonl, parquet, or CoNLL for words with tags."""

    train: str | None = operational(None, "file of labelled texts to learn from", path=True)
    validation: str | None = operational(
        None, "file to choose the best version by; none splits it off the training file", path=True
    )
    test: str | None = operational(
        None, "file that the finished model is scored on, once", path=True
    )
    task: Literal["auto"] | Task = identity(
        "auto",
        "classification: one label per text or pair; multi_label: any number; regression: a "
        "number; tokens: a tag per word; auto: told from the label column, and said",
    )
    text_column: str | None = identity(
        None, "column of texts (of lists of words for tokens); none: guessed, and said"
    )
    pair_column: str | None = identity(
        None, "column of second texts; none: guessed where its name leaves no doubt"
    )
    label_column: str | None = identity(None, "column of labels; none: guessed, and said")
    label_columns: tuple[str, ...] = identity(
        (), "multi_label with a column of 0 and 1 per label: their names"
    )
    label_separator: str = identity(
        ";", "multi_label with several labels in one text: what stands between them", min_length=1
    )
    validation_share: float = identity(
        0.1, "share of training rows split off where there is no validation file", gt=0, lt=1
    )
    split_seed: int = identity(42, "which rows are split off", ge=0, lt=1 << 63)
    max_rows: int | None = identity(
        None, "learn from so many rows at most, drawn by split_seed; none: all", ge=1
    )
    max_length: int = identity(
        128, "tokens of a text or pair, special tokens included; the rest is cut off", ge=8
    )
    empty_texts: Literal["fail", "skip"] = identity(
        "fail", "rows without a text or a label: refuse the file, or leave them out"
    )
    cache: str | None = operational(
        None, "folder for tokenized data, shared between runs; none: in the run", path=True
    )
