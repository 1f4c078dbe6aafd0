"""Predictions for files of any size: checked at the door, carried out part by part, committed.

The input is cut into parts by its content alone, a part's texts are grouped by length, so the files
are the same whoever makes them and however often the job was killed (on the same kind of hardware,
with the same number of threads per worker).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace

import pyarrow as pa

from bert.bert import BertForTokenClassification
from raybert.corpus.origin import Origin, is_from
from raybert.errors import UserError
from raybert.inference.columns import names_added
from raybert.inference.model_folder import MASK, LoadedModel, find_model, load_model
from raybert.inference.parts import NOTES, Entry, PartMaker, Task
from raybert.inference.predictor import Predictor, checked_max_length
from raybert.inference.usable import usable_rows
from raybert.settings import ModelSettings, Settings
from raybert.settings.identity import identity_of
from raybert.storage import Location, checksum_of_bytes, write_file
from raybert.storage.commit import remove_staging
from raybert.tables import Table, common_schema, open_tables, require_columns

MODEL = "model.path"
_ORIGIN = f"{NOTES}/origin.json"
_MANIFEST = f"{NOTES}/manifest.json"
_READERS = 16
_SHOWN_ROWS = 3

CarryOut = Callable[[PartMaker, Sequence[Task]], Iterable[Entry]]
"""Makes all parts and gives each entry once, in any order; raises `UserError`."""


@dataclass(frozen=True)
class BulkPrediction:
    """A model, an input and an output folder, found to fit together.

    Attributes:
        done: parts that stand in the folder already.
        missing: parts to make.
    """

    maker: PartMaker
    tables: tuple[Table, ...]
    done: tuple[Entry, ...]
    missing: tuple[Task, ...]

    @property
    def num_rows(self) -> int:
        return sum(table.num_rows for table in self.tables)

    @property
    def is_finished(self) -> bool:
        return not self.missing and (self.maker.folder / _MANIFEST).is_file()

    def run(
        self, carry_out: CarryOut, on_finished: Callable[[Entry], None] = lambda entry: None
    ) -> list[Entry]:
        """Makes the parts that are missing, then the manifest; the entries in order.

        Raises:
            UserError: broken rows, no space. What is finished stays, and another run begins from
                there.
        """
        entries = list(self.done)
        if self.missing:
            remove_staging(self.maker.folder)
            remove_staging(self.maker.folder / NOTES)
            for entry in carry_out(self.maker, self.missing):
                entries.append(entry)
                on_finished(entry)
            # A worker killed while it wrote leaves what it had begun.
            remove_staging(self.maker.folder)
            remove_staging(self.maker.folder / NOTES)
        entries.sort(key=lambda entry: entry.name)
        content = {
            "model": str(self.maker.model),
            "rows": self.num_rows,
            "sources": [str(table) for table in self.tables],
            "parts": [asdict(entry) for entry in entries],
        }
        write_file(
            self.maker.folder / _MANIFEST,
            json.dumps(content, indent=1, sort_keys=True).encode() + b"\n",
        )
        return entries


def in_process(maker: PartMaker, tasks: Sequence[Task]) -> Iterator[Entry]:
    """One part after the other, here, on the CPU."""
    loaded = load_model(maker.model, maker.prediction.kind, MODEL)
    predictor = Predictor(loaded, maker.prediction)
    for task in tasks:
        yield maker.make(task, predictor)


def prepare(settings: Settings) -> BulkPrediction:
    """Checks model, input and output, reads all texts once, and claims the folder.

    Raises:
        UserError: anything that would end the job later on: see the functions called here.
    """
    assert settings.output is not None  # required at the door, as the two others
    assert settings.model.path is not None
    _refuse_shape(settings.model)
    loaded = load_model(settings.model.path, settings.prediction.kind, MODEL)
    checked_max_length(loaded.config, settings.prediction)
    tables = open_tables(
        settings.input.paths,
        setting="input.paths",
        format=settings.input.format,
        delimiter=settings.input.delimiter,
        rows_per_part=settings.input.rows_per_part,
    )
    _refuse_columns(tables, settings, loaded)
    folder = Location.parse(settings.output)
    origin = _origin(settings, loaded, tables)
    maker = PartMaker(
        folder=folder,
        model=find_model(settings.model.path, MODEL),
        fingerprint=loaded.fingerprint,
        input=settings.input,
        prediction=settings.prediction,
        schema=_carried_schema(tables, settings),
        settings=checksum_of_bytes(origin.to_json()),
    )
    tasks = _tasks(tables)
    if is_from(origin, folder, _ORIGIN):
        with ThreadPoolExecutor(_READERS) as pool:
            found = list(pool.map(maker.finished, tasks))
    else:
        tags_words = isinstance(loaded.model, BertForTokenClassification)
        _refuse_unusable_rows(tables, maker, tags_words)
        write_file(folder / _ORIGIN, origin.to_json())
        found = [None] * len(tasks)
    return BulkPrediction(
        maker=maker,
        tables=tuple(tables),
        done=tuple(entry for entry in found if entry is not None),
        missing=tuple(t for t, entry in zip(tasks, found, strict=True) if entry is None),
    )


def _tasks(tables: Sequence[Table]) -> list[Task]:
    return [
        Task(source, replace(table, parts=(part,)))
        for source, table in enumerate(tables)
        for part in table.parts
    ]


def _origin(settings: Settings, loaded: LoadedModel, tables: Sequence[Table]) -> Origin:
    identity = {
        f"{name}.{key}": value
        for name in ("input", "prediction")
        for key, value in identity_of(getattr(settings, name)).items()
    }
    sources = {str(table): table.file.fingerprint for table in tables}
    return Origin(identity | {"model": loaded.fingerprint}, sources)


def _refuse_shape(model: ModelSettings) -> None:
    """The section is shared with jobs that make models; here it would change nothing."""
    if model.model_copy(update={"path": None}) != ModelSettings():
        raise UserError("of the model settings a prediction takes model.path alone")


def _refuse_columns(tables: Sequence[Table], settings: Settings, loaded: LoadedModel) -> None:
    wanted = settings.input
    for table in tables:
        require_columns(
            table,
            {"input.text_column": wanted.text_column, "input.pair_column": wanted.pair_column},
        )
    if wanted.pair_column is not None and loaded.config.type_vocab_size < 2:
        raise UserError(
            f"input.pair_column: {settings.model.path} has one segment, so it takes no pairs"
        )
    if wanted.pair_column is not None and isinstance(loaded.model, BertForTokenClassification):
        raise UserError("input.pair_column: a model that tags words takes no pairs")
    if not any(table.num_rows for table in tables):
        raise UserError(f"input.paths: {', '.join(map(str, tables[:3]))} hold no row")
    tags_words = isinstance(loaded.model, BertForTokenClassification)
    added = names_added(settings.prediction.kind, loaded.config, tags_words=tags_words)
    taken = [
        settings.prediction.prefix + name
        for name in added
        if settings.prediction.prefix + name in _carried_schema(tables, settings).names
    ]
    if taken:
        raise UserError(
            f"the input has a column {taken[0]!r} already: name the columns to carry over by "
            "input.keep_columns without it, or set prediction.prefix"
        )


def _carried_schema(tables: Sequence[Table], settings: Settings) -> pa.Schema:
    kept = settings.input.keep_columns
    if not kept:
        return common_schema(tables)
    for column in kept:
        if not any(column in table.schema.names for table in tables):
            require_columns(tables[0], {"input.keep_columns": column})
    narrowed = [
        replace(table, schema=pa.schema([f for f in table.schema if f.name in kept]))
        for table in tables
    ]
    schema = common_schema(narrowed)
    return pa.schema([schema.field(name) for name in dict.fromkeys(kept)])


def _refuse_unusable_rows(tables: Sequence[Table], maker: PartMaker, tags_words: bool) -> None:
    """Reads all texts: what is broken or empty in a file of millions is known before a start."""
    columns = [maker.input.text_column]
    if maker.input.pair_column is not None:
        columns.append(maker.input.pair_column)
    count, shown = 0, list[str]()
    for table in tables:
        for part, batch in zip(table.parts, table.batches(columns), strict=True):
            texts, pairs = maker.texts_of(table, batch, part.first_row, tags_words)
            usable = usable_rows(texts, pairs, maker.prediction)
            if not (broken := usable.false_count):
                continue
            count += broken
            rows = (row for row, fine in enumerate(usable.to_pylist()) if not fine)
            while len(shown) < _SHOWN_ROWS and (row := next(rows, None)) is not None:
                shown.append(table.place(part.first_row + row))
    if count and maker.input.on_empty == "fail":
        num_rows = sum(table.num_rows for table in tables)
        fill_mask = maker.prediction.kind == "fill_mask"
        what = f"without exactly one {MASK}" if fill_mask else "without text"
        raise UserError(
            f"{count:,} of {num_rows:,} rows are {what}: {'; '.join(shown)}"
            f"{'; …' if count > len(shown) else ''}. input.on_empty skip leaves them in their "
            "place, with nulls"
        )
    if count == sum(table.num_rows for table in tables):
        raise UserError("not one row of the input holds a text")
