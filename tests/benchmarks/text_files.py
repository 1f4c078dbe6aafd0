"""The texts of the encoding benchmarks as Arrow files, so that processes can share them."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import pyarrow as pa
import text

MEGABYTES = {"English": 40, "code": 20, "CJK": 10, "tiny strings": 5, "huge documents": 20}
OTHERS_MEGABYTES = 4
# Measured on several threads, too; the others are there to find cliffs.
MAIN_KINDS = ("English", "code", "CJK", "tiny strings")
# No vocabulary is trained on these.
UNLIKE_TEXT = ("one line", "repeated")


def write_texts(
    kinds: Iterable[str], scale: float, own: Mapping[str, str | None], folder: str
) -> dict[str, str]:
    """Arrow files with a column `text`, by kind; `own` names text files to take in their place."""
    paths = {}
    for kind in kinds:
        num_bytes = int(MEGABYTES.get(kind, OTHERS_MEGABYTES) * scale * 1e6)
        path = own.get(kind)
        documents = text.of_file(path, num_bytes) if path else text.KINDS[kind](num_bytes)
        table = pa.table({"text": pa.array(documents, pa.large_string())})
        paths[kind] = str(Path(folder) / f"{len(paths)}.arrow")
        with pa.OSFile(paths[kind], "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
        size = sum(len(document.encode()) for document in documents) / 1e6
        print(f"{kind}: {size:.1f} MB, {len(documents):,} documents, {path or 'see text.py'}")
    return paths


def read_column(path: str) -> pa.Array:
    with pa.memory_map(path) as file:
        return pa.ipc.open_file(file).read_all()["text"].combine_chunks()


def training_sample(texts: Mapping[str, str]) -> pa.Array:
    """What a vocabulary is trained on: the first documents of every kind that is like text."""
    like_text = [path for kind, path in texts.items() if kind not in UNLIKE_TEXT]
    return pa.concat_arrays([read_column(path).slice(0, 4000) for path in like_text])
