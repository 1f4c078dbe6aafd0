"""Rows in, predictions out."""

from typing import Annotated, Literal

from pydantic import Field

from raybert.settings.marks import Section, identity, operational


class InputSettings(Section):
    """Which rows are predicted, and where their texts stand."""

    paths: tuple[Annotated[str, Field(min_length=1)], ...] = operational(
        (), "files, folders or globs of rows, local or s3:// gs://", path=True
    )
    format: Literal["auto", "csv", "tsv", "jsonl", "parquet", "txt"] = identity(
        "auto", "how files are read; auto goes by their names (also .gz and .zst)"
    )
    delimiter: str | None = identity(
        None, "between the fields of csv and tsv files; none: a comma, a tab"
    )
    text_column: str = identity("text", "column of texts; a txt file's lines are `text`")
    pair_column: str | None = identity(None, "column of second texts, for models of pairs")
    keep_columns: tuple[str, ...] = identity(
        (), "columns that the output carries over; none named: all"
    )
    on_empty: Literal["fail", "skip"] = identity(
        "fail",
        "rows without text (fill_mask: without exactly one [MASK]): refuse the input, or skip "
        "them; a skipped row keeps its place with nulls",
    )
    rows_per_part: int = identity(
        8192,
        "rows of a part, which is what a worker does at a time and what is kept of a killed job",
        ge=1,
        le=1 << 20,
    )


class PredictionSettings(Section):
    """What is predicted, and by how many workers."""

    kind: Literal["labels", "embeddings", "fill_mask"] = identity(
        "labels",
        "labels: classes with probabilities, numbers or tags, as the model's head says; "
        "embeddings: a vector per text; fill_mask: the likeliest words for [MASK]",
    )
    pooling: Literal["auto", "mean", "cls"] = identity(
        "auto",
        "embeddings: mean of a text's tokens, or its first; auto: as the model's folder says, "
        "else mean",
    )
    normalize: bool = identity(False, "embeddings: scale each to length 1")
    float16: bool = identity(False, "embeddings: store in half precision")
    threshold: float = identity(
        0.5, "multi-label: a label is predicted from this probability on", gt=0, lt=1
    )
    top: int = identity(5, "fill_mask: number of words", ge=1)
    max_length: int | None = identity(
        None,
        "tokens of a text or pair, special tokens included; the rest is cut off; none: as many as "
        "the model takes",
        ge=8,
    )
    prefix: str = identity("", "put before the names of the columns that are added")
    precision: Literal["fp32", "bf16", "fp16"] = identity("fp32", "of the forward pass")
    batch_tokens: int = identity(4096, "tokens of a forward pass, about", ge=8)
    workers: Literal["auto"] | Annotated[int, Field(ge=1)] = operational(
        "auto",
        "processes with a model each, of cluster.cpus_per_worker CPUs and cluster.gpus_per_worker "
        "GPUs; auto: as many as fit the cluster",
    )
