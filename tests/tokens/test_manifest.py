import json

import pytest

from raybert.errors import InvalidContent, UserError
from raybert.storage import Location
from raybert.tokens import build_manifest, read_entry, read_manifest


def build(folder, shards, **changes):
    arguments = {
        "tokenizer": "tokenizer",
        "vocab_size": 1000,
        "settings": "settings",
        "held_out_share": 0.3,
        "sources": {"a.txt": "1"},
    }
    return build_manifest(folder, **(arguments | changes), shards=shards)


def test_a_manifest_is_read_as_it_was_built(make_folder):
    folder = make_folder([[[1, 2], [3]]], [[[4]], [[5, 6]]])
    manifest = read_manifest(folder)
    assert manifest == build(folder, ["shard-0", "shard-1"])
    assert (manifest.num_documents, manifest.num_sentences, manifest.num_tokens) == (3, 4, 6)


def test_the_fingerprint_tells_content_order_and_tokenizer_apart(make_folder):
    folder = make_folder([[[1, 2]]], [[[4]]])
    variants = [
        build(folder, ["shard-0", "shard-1"]),
        build(folder, ["shard-1", "shard-0"]),
        build(folder, ["shard-0"]),
        build(folder, ["shard-0", "shard-1"], tokenizer="other"),
    ]
    assert len({manifest.fingerprint for manifest in variants}) == len(variants)
    assert build(folder, ["shard-0"]).fingerprint == variants[2].fingerprint


def test_unfinished_foreign_and_repeated_shards_are_refused(make_folder):
    folder = make_folder([[[1]]])
    with pytest.raises(ValueError, match="shard-7 is not finished"):
        build(folder, ["shard-0", "shard-7"])
    with pytest.raises(ValueError, match="made with settings"):
        build(folder, ["shard-0"], settings="other")
    with pytest.raises(ValueError, match="named twice"):
        build(folder, ["shard-0", "shard-0"])


def test_an_empty_corpus_is_the_users_to_mend(make_folder):
    folder = make_folder([[[1]]], [[[]]])
    with pytest.raises(UserError, match="the corpus is empty"):
        build(folder, ["shard-1"])


def test_a_folder_without_manifest_is_named(tmp_path):
    with pytest.raises(UserError, match=r"nowhere.*does not exist"):
        read_manifest(Location.parse(tmp_path / "nowhere"))
    with pytest.raises(UserError, match="is not finished"):
        read_manifest(Location.parse(tmp_path))


def change(folder, name, text):
    (folder.local_path / name).write_text(text)


def test_another_format_version_is_refused(make_folder):
    folder = make_folder([[[1]]])
    content = json.loads((folder / "manifest.json").read_text())
    change(folder, "manifest.json", json.dumps(content | {"format_version": 99}))
    with pytest.raises(UserError, match="format version 99"):
        read_manifest(folder)


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"format_version": 2}', '{"format_version": 2, "shards": [{}]}']
)
def test_a_broken_manifest_is_named(make_folder, text):
    folder = make_folder([[[1]]])
    change(folder, "manifest.json", text)
    with pytest.raises(InvalidContent, match=r"manifest\.json"):
        read_manifest(folder)


def test_a_broken_entry_is_named(make_folder):
    folder = make_folder([[[1]]])
    change(folder, "shard-0.json", '{"name": "shard-0"}')
    with pytest.raises(InvalidContent, match=r"shard-0\.json"):
        read_entry(folder, "shard-0")
