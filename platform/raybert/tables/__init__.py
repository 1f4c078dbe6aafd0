"""Rows of text in tables: csv, tsv, jsonl, parquet and txt (a line a row), local or remote.

    (table,) = open_tables(["reviews.csv"], setting="data.train")
    require_columns(table, {"data.text_column": "text"})
    rows = table.read()  # a pyarrow.Table; or, part by part: table.batches(), table.read_part(part)

csv and tsv columns are strings, as they stand in the file: nothing is guessed, "007" stays "007". A
field without a character between its delimiters is null, `""` is an empty string. txt has the one
column `text`.
"""

from raybert.tables.columns import require_columns, text_column
from raybert.tables.cutting import TablePart
from raybert.tables.files import TableFile, TableFormat, list_tables
from raybert.tables.table import TEXT, Table, common_schema, open_table, open_tables

__all__ = [
    "TEXT",
    "Table",
    "TableFile",
    "TableFormat",
    "TablePart",
    "common_schema",
    "list_tables",
    "open_table",
    "open_tables",
    "require_columns",
    "text_column",
]
