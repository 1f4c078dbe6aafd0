import json
import tempfile

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raybert.storage import Location
from raybert.tokens import TokenStore, build_manifest, document_id, read_entry, write_shard

IDS = pa.list_(pa.list_(pa.uint16()))


def ids_for(count):
    return pa.array([document_id(str(i)) for i in range(count)], pa.binary(16))


def write(folder, documents, name="shard-0", **changes):
    arguments = {
        "document_ids": ids_for(len(documents)),
        "sentences": documents,
        "source": "s",
        "settings": "t",
        "held_out_share": 0.5,
    }
    return write_shard(folder, name, **(arguments | changes))


@given(st.lists(st.lists(st.lists(st.integers(0, 999), max_size=4), max_size=4), max_size=6))
@settings(max_examples=40, deadline=None)
def test_what_is_written_is_read_back(documents):
    with tempfile.TemporaryDirectory() as path:
        folder = Location.parse(path)
        # A folder without any token is no corpus, so one document always has one.
        documents = [*documents, [[7]]]
        entry = write(folder, pa.array(documents, IDS))
        build_manifest(
            folder,
            tokenizer="",
            vocab_size=1000,
            settings="t",
            held_out_share=0.5,
            sources={},
            shards=["shard-0"],
        )
        shard = TokenStore.open(folder).shard(0)
        read = [[s.tolist() for s in shard.document(i)] for i in range(shard.num_documents)]
        assert read == documents
        assert entry.documents == len(documents)
        assert entry.held_out_documents == shard.held_out_D.sum()


def test_a_slice_of_large_lists_is_written_as_the_documents_it_covers(tmp_path):
    folder = Location.parse(tmp_path)
    documents = [[[9, 9]], [[1], [2, 3]], [], [[4]], [[8]]]
    large = pa.array(documents, pa.large_list(pa.large_list(pa.uint16())))
    sliced = write(folder, large.slice(1, 3), "sliced", document_ids=ids_for(5).slice(1, 3))
    plain = write(
        folder, pa.array(documents[1:4], IDS), "plain", document_ids=ids_for(4).slice(1, 3)
    )
    assert sliced.checksum == plain.checksum
    assert (sliced.documents, sliced.sentences, sliced.tokens) == (3, 3, 4)


def test_the_same_documents_give_the_same_bytes(tmp_path):
    folder = Location.parse(tmp_path)
    first = write(folder, pa.array([[[1, 2]], [[3]]], IDS), "a")
    second = write(folder, pa.array([[[1, 2]], [[3]]], IDS), "b")
    assert (tmp_path / "a.arrow").read_bytes() == (tmp_path / "b.arrow").read_bytes()
    assert first.checksum == second.checksum


def test_the_entry_is_what_a_rerun_finds(tmp_path):
    folder = Location.parse(tmp_path)
    assert read_entry(folder, "shard-0") is None
    entry = write(folder, pa.array([[[1, 2]], [[3]]], IDS), notes={"skipped_lines": 3})
    assert read_entry(folder, "shard-0") == entry
    assert json.loads((tmp_path / "shard-0.json").read_text())["notes"] == {"skipped_lines": 3}


def test_a_shard_of_another_size_than_its_entry_says_counts_as_not_written(tmp_path):
    folder = Location.parse(tmp_path)
    write(folder, pa.array([[[1, 2]]], IDS))
    with (tmp_path / "shard-0.arrow").open("ab") as file:
        file.write(b"x")
    assert read_entry(folder, "shard-0") is None
    (tmp_path / "shard-0.arrow").unlink()
    assert read_entry(folder, "shard-0") is None


def test_nothing_stays_when_the_shard_cannot_be_written(tmp_path):
    (tmp_path / "shard-0.arrow").mkdir()
    with pytest.raises(OSError):
        write(Location.parse(tmp_path), pa.array([[[1]]], IDS))
    assert [path.name for path in tmp_path.iterdir()] == ["shard-0.arrow"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"document_ids": ids_for(2)}, "2 document ids for 1 documents"),
        ({"document_ids": pa.array([b"short"])}, "fixed_size_binary"),
        ({"sentences": pa.array([[[1]]], pa.list_(pa.list_(pa.int64())))}, "token ids are int64"),
        ({"sentences": pa.array([[1]], pa.list_(pa.uint16()))}, "sentences are uint16"),
        ({"sentences": pa.array([None], IDS)}, "1 of the documents are null"),
        ({"sentences": pa.array([[None]], IDS)}, "1 of the sentences are null"),
        ({"sentences": pa.array([[[None]]], IDS)}, "without nulls"),
        ({"name": "../shard"}, "shard name"),
        ({"held_out_share": 1.0}, "held-out share"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        write(Location.parse(tmp_path), pa.array([[[1]]], IDS), **changes)
    assert list(tmp_path.iterdir()) == []
