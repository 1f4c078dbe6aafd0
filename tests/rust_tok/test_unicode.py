"""The embedded tables are those of the installed `tokenizers`: every code point, every pair of
marks that canonical ordering moves."""

from pathlib import Path
from types import ModuleType

SOURCES = Path(__file__).parents[2] / "rust_tok/crates/tok/src/unicode"


def test_tables_are_those_of_tokenizers(unicode_tables: ModuleType) -> None:
    for name, content in unicode_tables.probe().items():
        assert (SOURCES / name).read_bytes() == content, (
            f"{name} differs: run rust_tok/tools/unicode_tables.py with the pinned tokenizers"
        )
