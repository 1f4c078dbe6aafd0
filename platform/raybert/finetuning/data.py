"""Labelled data, tokenized once: prepared by one process, mapped by all that train.

    data = prepare_data(settings)
    rows = data.rows("train")

A folder of tokenized data is named by a fingerprint of everything that its content depends on, and
committed whole; preparing the same again finds it.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pyarrow as pa

import rust_tok
from raybert.errors import UserError
from raybert.finetuning.columns import Columns
from raybert.finetuning.encoding import Encoded, encode, encode_words
from raybert.finetuning.facts import FORMAT, Facts, SplitFacts
from raybert.finetuning.labels import (
    Vocabulary,
    build_vocabulary,
    imbalance,
    label_text,
    refuse_single_class,
    refuse_unseen,
    split_labels,
    targets_of,
)
from raybert.finetuning.metrics import choose_metric
from raybert.finetuning.reading import (
    Rows,
    Source,
    columns_of,
    open_source,
    read_rows,
    require_same_columns,
    task_of,
)
from raybert.finetuning.rows import LabelledRows
from raybert.finetuning.splitting import limit_rows, split_off
from raybert.finetuning.start import Start, label_order, look_at_start
from raybert.samples.special_tokens import SpecialTokens
from raybert.settings import Settings
from raybert.settings.data import Task
from raybert.settings.identity import identity_of
from raybert.storage import Location, checksum_of_file, committed_folder, verify_folder, write_file
from raybert.storage.commit import (
    DamagedFile,
    IncompleteFolder,
    read_manifest,
    recorded_checksum,
)
from raybert.tokens.cache import NodeCache, default_cache_folder

FOLDER = "data"
FACTS = "data.json"
TOKENIZER = "tokenizer.json"

_UNUSUAL_TARGETS = 10.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TokenizedData:
    """A committed folder of tokenized data; small, picklable, cheap to open in another process.

    Attributes:
        location: the folder.
        facts: about its content.
    """

    location: Location
    facts: Facts

    @classmethod
    def open(cls, location: Location | str) -> TokenizedData:
        """Opens a folder that `prepare_data` committed.

        Raises:
            UserError: it is none.
        """
        location = Location.parse(location)
        read_manifest(location)
        return cls(location, Facts.from_json((location / FACTS).read_bytes()))

    @property
    def fingerprint(self) -> str:
        """Of all that the content depends on."""
        return self.location.name

    @cached_property
    def tokenizer_json(self) -> bytes:
        return (self.location / TOKENIZER).read_bytes()

    def rows(self, split: str) -> LabelledRows:
        """A part of the data, memory-mapped; a remote one by a verified copy on this machine."""
        file = self.location / f"{split}.arrow"
        if self.location.is_local:
            mapped = pa.memory_map(str(file.local_path))
        else:
            described = read_manifest(self.location)[file.name]
            algorithm, checksum = recorded_checksum(file, described)
            cache = NodeCache(default_cache_folder())
            mapped = cache.map(file, checksum, int(str(described["bytes"])), algorithm)
        special = SpecialTokens.from_tokenizer(
            rust_tok.Tokenizer.from_json(self.tokenizer_json.decode())
        )
        table = pa.ipc.open_file(mapped).read_all()
        return LabelledRows(table, self.facts.task, self.facts.num_outputs, special.vocab_size)


def prepare_data(settings: Settings, folder: Location | None = None) -> TokenizedData:
    """Reads, checks and tokenizes the files of the data section, or finds that done.

    Args:
        settings: of them model.init_from, data and finetuning are read.
        folder: for tokenized data; by default data.cache, or the run's data folder.

    Raises:
        UserError: anything that is wrong with the data, or doesn't fit the model or the task.
    """
    start = look_at_start(settings)
    sources = _sources(settings)
    columns = columns_of(sources["train"], settings.data)
    for split, source in sources.items():
        require_same_columns(source, columns, f"data.{split}")
    task = task_of(sources["train"], columns, settings.data)
    choose_metric(task, settings.finetuning.metric)
    place = (folder or _folder_of(settings)) / _fingerprint(settings, start, sources)
    found = _find(place)
    if found is None:
        _write(place, settings, start, sources, columns, task)
        found = TokenizedData.open(place)
    label_order(start, found.facts.label_names, settings, task)
    return found


def _folder_of(settings: Settings) -> Location:
    if settings.data.cache is not None:
        return Location.parse(settings.data.cache)
    if settings.run is None:
        raise UserError("--run is missing: the folder for data, checkpoints, logs and the model")
    return Location.parse(settings.run) / FOLDER


def _sources(settings: Settings) -> dict[str, Source]:
    data = settings.data
    if data.train is None:
        raise UserError("--data.train is missing: a file of labelled texts")
    paths = {"train": data.train, "validation": data.validation, "test": data.test}
    return {
        split: open_source(path, f"data.{split}", data)
        for split, path in paths.items()
        if path is not None
    }


def _find(place: Location) -> TokenizedData | None:
    """Tokenized data that are there already, whole."""
    try:
        verify_folder(place)
    except IncompleteFolder:
        return None
    except DamagedFile as error:
        logger.warning("tokenizing again: %s", error)
        return None
    return TokenizedData.open(place)


def _fingerprint(settings: Settings, start: Start, sources: Mapping[str, Source]) -> str:
    """A hash of contents, settings, tokenizer and, where a head goes on, its labels."""
    finetuning = settings.finetuning
    keeps_head = start.head and not (finetuning.fresh_head or finetuning.fresh_weights)
    content = {
        "format": FORMAT,
        "files": {
            split: [source.place.name, checksum_of_file(source.place)]
            for split, source in sources.items()
        },
        "settings": identity_of(settings.data),
        "tokenizer": start.tokenizer.fingerprint,
        "labels": list(start.config.label_names) if keeps_head else None,
    }
    text = json.dumps(content, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _write(
    place: Location,
    settings: Settings,
    start: Start,
    sources: Mapping[str, Source],
    columns: Columns,
    task: Task,
) -> None:
    data = settings.data
    splits = {split: read_rows(source, columns, task, data) for split, source in sources.items()}
    if task == "regression":
        for rows in splits.values():
            targets_of(rows.file, columns.labels[0], rows.labels, rows.number)
    told = {split: rows.file for split, rows in splits.items()}
    splits["train"] = limit_rows(splits["train"], data)
    if "validation" not in splits:
        labels = _row_labels(splits["train"], data.label_separator, task)
        splits["train"], splits["validation"] = split_off(splits["train"], labels, task, data)
        told["validation"] = (
            f"{data.validation_share:.0%} of the training file, by data.split_seed "
            f"{data.split_seed}"
        )
    counts = {
        split: _count(_row_labels(rows, data.label_separator, task), task)
        for split, rows in splits.items()
    }
    vocabulary = _vocabulary(splits, counts, start, settings, task)
    special = SpecialTokens.from_tokenizer(start.tokenizer)
    order = [split for split in ("train", "validation", "test") if split in splits]
    facts: dict[str, SplitFacts] = {}
    with committed_folder(place) as staging:
        for split in order:
            rows = splits[split]
            table, partial = _encode(
                rows,
                columns,
                task,
                vocabulary,
                start,
                special,
                data.max_length,
                data.label_separator,
            )
            facts[split] = replace(
                partial,
                source=told[split],
                label_counts={name: counts[split].get(name, 0) for name in vocabulary.names},
                num_seen=0 if split == "train" else _num_seen(rows, splits["train"]),
            )
            _write_table(staging / f"{split}.arrow", table)
        described = Facts(
            task=task,
            label_names=vocabulary.names,
            columns=_roles(columns),
            guessed=tuple(columns.guessed),
            task_guessed=data.task == "auto",
            tokenizer=start.tokenizer.fingerprint,
            max_length=data.max_length,
            splits=facts,
            notes=_notes(facts["train"]),
        )
        write_file(staging / FACTS, described.to_json())
        write_file(staging / TOKENIZER, start.tokenizer.to_json().encode())


def _roles(columns: Columns) -> dict[str, str]:
    pair = {} if columns.pair is None else {"pair": columns.pair}
    return {"text": columns.text, **pair, "label": ", ".join(columns.labels)}


def _row_labels(rows: Rows, separator: str, task: Task) -> list[list[str]]:
    """Every row's labels as texts; none for regression."""
    if task == "regression":
        return [[] for _ in rows.labels]
    if task == "multi_label":
        return [[] if v is None else split_labels(v, separator) for v in rows.labels]
    if task == "tokens":
        return [[label_text(tag) for tag in tags] for tags in rows.labels]
    return [[label_text(value)] for value in rows.labels]


def _count(labels: list[list[str]], task: Task) -> dict[str, int]:
    counts: dict[str, int] = {}
    for row in labels:
        for name in set(row) if task == "multi_label" else row:
            counts[name] = counts.get(name, 0) + 1
    return counts


def _vocabulary(
    splits: Mapping[str, Rows],
    counts: Mapping[str, Mapping[str, int]],
    start: Start,
    settings: Settings,
    task: Task,
) -> Vocabulary:
    if task == "regression":
        return Vocabulary(label_order(start, (), settings, task))
    known = counts["train"]
    if task == "multi_label" and settings.data.label_columns:
        known = dict.fromkeys(settings.data.label_columns, 0) | dict(known)
        vocabulary = Vocabulary(settings.data.label_columns)
    else:
        if task != "multi_label":
            refuse_single_class(splits["train"].file, known)
        vocabulary = build_vocabulary(known)
    if not vocabulary.names:
        raise UserError(f"{splits['train'].file} has no label in any row")
    for split, found in counts.items():
        refuse_unseen(splits[split].file, found, vocabulary)
    return Vocabulary(label_order(start, vocabulary.names, settings, task))


def _encode(
    rows: Rows,
    columns: Columns,
    task: Task,
    vocabulary: Vocabulary,
    start: Start,
    special: SpecialTokens,
    max_length: int,
    separator: str,
) -> tuple[pa.Table, SplitFacts]:
    ids = vocabulary.ids
    extra: dict[str, pa.Array] = {}
    lost, mean, std = 0, 0.0, 0.0
    if task == "tokens":
        tags = [ids[name] for row in _row_labels(rows, separator, task) for name in row]
        words = encode_words(
            start.tokenizer, special, rows.text, np.asarray(tags, dtype=np.int32), max_length
        )
        encoded, lost = words.sequences, words.num_lost
        offsets = _offsets(encoded.length_N)
        label = pa.LargeListArray.from_arrays(offsets, pa.array(words.label_P))
        labelled_N = np.add.reduceat(words.label_P >= 0, offsets[:-1].to_numpy(), dtype=np.int64)
        extra["word"] = pa.LargeListArray.from_arrays(_offsets(labelled_N), pa.array(words.word))
    else:
        encoded = encode(start.tokenizer, special, rows.text, rows.pair, max_length)
        if task == "regression":
            column = columns.labels[0]
            target_N = targets_of(rows.file, column, rows.labels, rows.number)
            label = pa.array(target_N)
            mean, std = float(target_N.mean()), float(target_N.std())
        elif task == "multi_label":
            sets = [sorted({ids[n] for n in row}) for row in _row_labels(rows, separator, task)]
            label = pa.array(sets, pa.large_list(pa.int32()))
        else:
            label = pa.array([ids[label_text(value)] for value in rows.labels], pa.int32())
        if rows.pair is not None:
            extra["pair"] = rows.pair
    table = pa.table(
        {
            "ids": pa.LargeListArray.from_arrays(_offsets(encoded.length_N), pa.array(encoded.ids)),
            "second": pa.array(encoded.second_N),
            "label": label,
            "row": pa.array(rows.number),
            "text": rows.text,
            **extra,
        }
    )
    return table, _facts(rows, encoded, lost, mean, std)


def _facts(rows: Rows, encoded: Encoded, lost: int, mean: float, std: float) -> SplitFacts:
    return SplitFacts(
        source=rows.file,
        num_rows=len(rows),
        num_tokens=len(encoded.ids),
        num_cut=encoded.num_cut,
        num_left_out=rows.num_left_out,
        num_lost_words=lost,
        num_seen=0,
        label_counts={},
        target_mean=mean,
        target_std=std,
    )


def _offsets(length_N: np.ndarray) -> pa.Array:
    return pa.array(np.concatenate([[0], np.cumsum(length_N)]).astype(np.int64))


def _num_seen(rows: Rows, train: Rows) -> int:
    """Rows whose texts are a training row's too."""
    known = set(_text_keys(train))
    return sum(key in known for key in _text_keys(rows))


def _text_keys(rows: Rows) -> list[int]:
    texts = rows.text.to_pylist()
    pairs = [None] * len(texts) if rows.pair is None else rows.pair.to_pylist()
    words = (tuple(text) if isinstance(text, list) else text for text in texts)
    return [hash(key) for key in zip(words, pairs, strict=True)]


def _notes(train: SplitFacts) -> tuple[str, ...]:
    notes = []
    if (told := imbalance(train.label_counts)) is not None:
        notes.append(told)
    if max(abs(train.target_mean), train.target_std) > _UNUSUAL_TARGETS:
        notes.append(
            f"targets have mean {train.target_mean:.3g} and standard deviation "
            f"{train.target_std:.3g}: a head starts near 0 and learns slowly to such a scale; "
            "divide them to about 1"
        )
    return tuple(notes)


def _write_table(place: Location, table: pa.Table) -> None:
    (batch,) = table.combine_chunks().to_batches()
    options = pa.ipc.IpcWriteOptions(compression=None)
    with pa.ipc.new_file(str(place.local_path), batch.schema, options=options) as writer:
        writer.write_batch(batch)
