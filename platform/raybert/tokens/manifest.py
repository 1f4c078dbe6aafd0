"""What a token folder says about itself: an entry per shard and the manifest of them all."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from raybert.errors import InvalidContent, UserError
from raybert.storage import Location, checksum_of_bytes, write_file
from raybert.tokens.format import ENTRY_SUFFIX, FORMAT_VERSION, MANIFEST_NAME, SHARD_SUFFIX


@dataclass(frozen=True)
class ShardEntry:
    """One shard: what is in it and what it was made from.

    Attributes:
        name: the shard without its suffix; the file is `<name>.arrow`, the entry `<name>.json`.
        source: fingerprint of the piece of input it was made from.
        settings: fingerprint of the settings and the tokenizer it was made with.
        documents, held_out_documents, sentences, tokens: counts; held-out documents are among
            the documents.
        num_bytes: size of the file.
        checksum: of the file, by `format.SHARD_CHECKSUM`.
        notes: counts the writer wants kept beside it, by name (lines passed over, say).
    """

    name: str
    source: str
    settings: str
    documents: int
    held_out_documents: int
    sentences: int
    tokens: int
    num_bytes: int
    checksum: str
    notes: Mapping[str, int] = field(default_factory=dict)

    @property
    def file_name(self) -> str:
        return self.name + SHARD_SUFFIX


@dataclass(frozen=True)
class Manifest:
    """A finished token folder.

    Attributes:
        tokenizer: fingerprint of the tokenizer (`rust_tok.Tokenizer.fingerprint`).
        vocab_size: ids are below this.
        settings: fingerprint of the settings the shards were made with.
        held_out_share: share of the documents held out of training.
        sources: fingerprint of each input by its name.
        shards: in the order of the corpus; a shard's number is its place here.
    """

    tokenizer: str
    vocab_size: int
    settings: str
    held_out_share: float
    sources: Mapping[str, str]
    shards: tuple[ShardEntry, ...]
    format_version: int = FORMAT_VERSION

    @property
    def num_documents(self) -> int:
        return sum(shard.documents for shard in self.shards)

    @property
    def num_sentences(self) -> int:
        return sum(shard.sentences for shard in self.shards)

    @property
    def num_tokens(self) -> int:
        return sum(shard.tokens for shard in self.shards)

    @cached_property
    def fingerprint(self) -> str:
        """32 hexadecimal digits that name these shards in this order."""
        return checksum_of_bytes(_to_json(self))


def entry_name(shard_name: str) -> str:
    """File name of a shard's entry."""
    return shard_name + ENTRY_SUFFIX


def write_entry(folder: Location, entry: ShardEntry) -> None:
    """Commit a shard: from here on it is whole for everyone."""
    write_file(folder / entry_name(entry.name), _to_json(entry))


def read_entry(folder: Location, name: str) -> ShardEntry | None:
    """The entry of a shard that was written whole, else None.

    A missing file or one of another size counts as not written: a rerun writes it again.

    Raises:
        InvalidContent: there is an entry, but it can't be read.
    """
    place = folder / entry_name(name)
    if not place.is_file():
        return None
    entry = _entry_from(_load(place), place)
    shard = folder / entry.file_name
    return entry if shard.is_file() and shard.size() == entry.num_bytes else None


def build_manifest(
    folder: Location,
    *,
    tokenizer: str,
    vocab_size: int,
    settings: str,
    held_out_share: float,
    sources: Mapping[str, str],
    shards: Sequence[str],
) -> Manifest:
    """Gather the entries of these shards, in this order, and commit the folder's manifest.

    Args:
        shards: names without suffix; documents are numbered and windows are drawn in this order,
            so it must not depend on which task finished first.
        Others: see `Manifest`.

    Raises:
        ValueError: a shard is missing, named twice, or was made with other settings.
        UserError: the shards hold no token at all.
    """
    if len(set(shards)) != len(shards):
        raise ValueError("a shard is named twice")
    entries: list[ShardEntry] = []
    for name in shards:
        entry = read_entry(folder, name)
        if entry is None:
            raise ValueError(f"shard {name} is not finished in {folder}")
        if entry.settings != settings:
            raise ValueError(
                f"shard {name} was made with settings {entry.settings}, not {settings}"
            )
        entries.append(entry)
    manifest = Manifest(
        tokenizer=tokenizer,
        vocab_size=vocab_size,
        settings=settings,
        held_out_share=held_out_share,
        sources=dict(sources),
        shards=tuple(entries),
    )
    if manifest.num_tokens == 0:
        raise UserError(f"{folder}: the corpus is empty: no token in {len(entries)} shard(s)")
    write_file(folder / MANIFEST_NAME, _to_json(manifest))
    return manifest


def read_manifest(folder: Location) -> Manifest:
    """The manifest of a finished token folder.

    Raises:
        UserError: there is none, or it is of another format version.
        InvalidContent: it can't be read.
    """
    place = folder / MANIFEST_NAME
    if not place.is_file():
        what = "is not finished" if folder.is_dir() else "does not exist"
        raise UserError(
            f"{folder}: this token folder {what}: no {MANIFEST_NAME}; "
            "write it with jobs/tokenize_corpus.py"
        )
    content = _load(place)
    version = content.get("format_version")
    if version != FORMAT_VERSION:
        raise UserError(
            f"{place}: format version {version}; this raybert reads version {FORMAT_VERSION}: "
            "tokenize the corpus again, into another folder"
        )
    try:
        shards = tuple(_entry_from(shard, place) for shard in content.pop("shards"))
        return Manifest(shards=shards, **content)
    except (KeyError, TypeError) as error:
        raise InvalidContent(f"{place}: not a manifest of token shards: {error}") from error


def _to_json(record: Manifest | ShardEntry) -> bytes:
    return json.dumps(dataclasses.asdict(record), indent=1, sort_keys=True).encode() + b"\n"


def _load(place: Location) -> dict[str, Any]:
    try:
        content = json.loads(place.read_bytes())
    except ValueError as error:
        raise InvalidContent(f"{place}: not JSON: {error}") from error
    if not isinstance(content, dict):
        raise InvalidContent(f"{place}: expected a JSON object, found {type(content).__name__}")
    return content


def _entry_from(content: Any, place: Location) -> ShardEntry:
    try:
        return ShardEntry(**content)
    except TypeError as error:
        raise InvalidContent(f"{place}: not the entry of a token shard: {error}") from error
