"""Token folders written from plain lists of ids."""

from collections.abc import Callable, Sequence

import pyarrow as pa
import pytest

from raybert.storage import Location
from raybert.tokens import build_manifest, document_id, id_type, write_shard

Documents = Sequence[Sequence[Sequence[int]]]


@pytest.fixture
def make_folder(tmp_path) -> Callable[..., Location]:
    """Writes a token folder; a document's text is its place."""

    def make(
        *shards: Documents,
        vocab_size: int = 1000,
        held_out: float = 0.3,
        folder: Location | None = None,
    ) -> Location:
        folder = folder or Location.parse(tmp_path / "tokens")
        names = []
        for number, documents in enumerate(shards):
            ids = [document_id(f"{number}/{i}") for i in range(len(documents))]
            entry = write_shard(
                folder,
                f"shard-{number}",
                document_ids=pa.array(ids, pa.binary(16)),
                sentences=pa.array(documents, pa.list_(pa.list_(id_type(vocab_size)))),
                source=f"source {number}",
                settings="settings",
                held_out_share=held_out,
            )
            names.append(entry.name)
        build_manifest(
            folder,
            tokenizer="tokenizer",
            vocab_size=vocab_size,
            settings="settings",
            held_out_share=held_out,
            sources={"a.txt": "1"},
            shards=names,
        )
        return folder

    return make
