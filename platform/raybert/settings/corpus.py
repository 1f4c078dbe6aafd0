"""Where the text is and how it is read."""

from typing import Annotated, Literal

from pydantic import Field

from raybert.settings.marks import Section, identity, operational


class CorpusSettings(Section):
    """Text in: sources, documents, sentences."""

    paths: tuple[Annotated[str, Field(min_length=1)], ...] = operational(
        (),
        "files, folders or globs, local or s3:// gs://; none takes the documentation strings of "
        "the installed packages",
        path=True,
    )
    format: Literal["auto", "txt", "jsonl", "parquet"] = identity(
        "auto", "how files are read; auto goes by their names (also .gz and .zst)"
    )
    text_column: str = identity("text", "the column of text in jsonl and parquet files")
    sentences: Literal["split", "lines"] = identity(
        "split", "split finds sentence ends by Unicode rules; lines takes every line as one"
    )
    abbreviations: bool = identity(True, "do not end a sentence after Dr., e.g. and the like")
    range_mebibytes: float = identity(
        32.0, "text per task and shard, in MiB of the source file", gt=0, le=64
    )
    held_out_share: float = identity(
        0.01, "share of documents, by content hash, kept out of training for evaluation", ge=0, lt=1
    )
    on_invalid: Literal["fail", "skip", "replace"] = identity(
        "fail",
        "what to do with text that is not UTF-8 and rows that are broken; what was passed over is "
        "counted",
    )
