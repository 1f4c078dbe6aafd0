"""One part of the input to one file of predictions: all that a worker does, in plain Python.

    OUTPUT/part-00000-00003.parquet     rows of part 3 of file 0, in their order, with predictions
    OUTPUT/_raybert/part-….json         that it is finished: written after it, with its checksum
    OUTPUT/_raybert/origin.json         what the folder is made from
    OUTPUT/_raybert/manifest.json       written last: every part, and the columns

Readers of parquet folders pass over names that begin with `_`.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from raybert.errors import InvalidContent
from raybert.inference.predictor import Predictor
from raybert.inference.usable import usable_rows, without_unusable
from raybert.settings import InputSettings, PredictionSettings
from raybert.storage import Location, checksum_of_bytes, write_file
from raybert.tables import Table, TablePart, text_column

NOTES = "_raybert"


@dataclass(frozen=True)
class Task:
    """A part to predict.

    Attributes:
        source: number of the file among the sources.
        table: the file, with this part alone.
    """

    source: int
    table: Table

    @property
    def part(self) -> TablePart:
        (part,) = self.table.parts
        return part

    @property
    def name(self) -> str:
        return f"part-{self.source:05d}-{self.part.number:05d}"


@dataclass(frozen=True)
class Entry:
    """A finished part.

    Attributes:
        settings: fingerprint of what the folder is made from.
        rows_skipped: rows without anything to predict.
        texts_cut: texts that were longer than the model takes.
        tokens: that went through the model.
    """

    name: str
    rows: int
    rows_skipped: int
    texts_cut: int
    tokens: int
    num_bytes: int
    checksum: str
    settings: str

    @property
    def file_name(self) -> str:
        return f"{self.name}.parquet"


@dataclass(frozen=True)
class PartMaker:
    """Everything that decides the bytes of the output, but for model and device; picklable.

    Attributes:
        folder: the output.
        model: its folder.
        fingerprint: of the model.
        schema: the columns that are carried over.
        settings: fingerprint of settings, model and sources.
    """

    folder: Location
    model: Location
    fingerprint: str
    input: InputSettings
    prediction: PredictionSettings
    schema: pa.Schema
    settings: str

    def make(self, task: Task, predictor: Predictor) -> Entry:
        """Predicts and commits a part.

        Raises:
            InvalidContent: rows that are broken; nothing is left of this part.
            OSError: no space, no permission, no connection.
        """
        batch = task.table.read_part(task.part)
        texts, pairs = self.texts_of(task.table, batch, task.part.first_row, predictor.tags_words)
        usable = usable_rows(texts, pairs, self.prediction)
        predicted = predictor.predict(without_unusable(texts, usable), pairs)
        arrays = {field.name: _carried(task.table, batch, field) for field in self.schema}
        data = _as_parquet(pa.table(arrays | predicted.columns))
        entry = Entry(
            name=task.name,
            rows=batch.num_rows,
            rows_skipped=usable.false_count,
            texts_cut=predicted.num_cut,
            tokens=predicted.num_tokens,
            num_bytes=len(data),
            checksum=checksum_of_bytes(data),
            settings=self.settings,
        )
        write_file(self.folder / entry.file_name, data)
        content = json.dumps(asdict(entry), indent=1, sort_keys=True).encode() + b"\n"
        write_file(self.folder / NOTES / f"{entry.name}.json", content)
        return entry

    def texts_of(
        self, table: Table, batch: pa.RecordBatch, first_row: int, tags_words: bool
    ) -> tuple[pa.Array, pa.Array | None]:
        """The texts of a batch, and the second ones.

        Raises:
            UserError: a column that holds something else than text.
        """
        column = self.input.text_column
        if tags_words and pa.types.is_list(batch.schema.field(column).type):
            return batch.column(column), None
        texts = text_column(table, batch, column, first_row)
        second = self.input.pair_column
        return texts, None if second is None else text_column(table, batch, second, first_row)

    def finished(self, task: Task) -> Entry | None:
        """The entry of a part that stands in the folder whole."""
        place = self.folder / NOTES / f"{task.name}.json"
        if not place.is_file():
            return None
        try:
            entry = Entry(**json.loads(place.read_bytes()))
        except (ValueError, TypeError) as error:
            raise InvalidContent(f"{place}: not what raybert wrote there: {error}") from error
        file = self.folder / entry.file_name
        if entry.settings != self.settings or not file.is_file():
            return None
        return entry if file.size() == entry.num_bytes else None


def _carried(table: Table, batch: pa.RecordBatch, field: pa.Field) -> pa.Array:
    if field.name not in table.schema.names:
        return pa.nulls(batch.num_rows, field.type)
    column = batch.column(field.name)
    return column if column.type == field.type else column.cast(field.type)


def _as_parquet(table: pa.Table) -> bytes:
    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue().to_pybytes()
