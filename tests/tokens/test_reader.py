import gc
import pickle

import numpy as np
import pytest

from raybert.errors import InvalidContent, UserError
from raybert.storage import Location, write_file
from raybert.tokens import NodeCache, TokenStore, read_manifest


def test_documents_and_sentences_are_views_of_the_mapped_file(make_folder):
    store = TokenStore.open(make_folder([[[1, 2], [], [3]], [], [[4]]]))
    shard = store.shard(0)
    assert [s.tolist() for s in shard.document(0)] == [[1, 2], [], [3]]
    assert shard.document(1) == []
    assert shard.sentence(3).tolist() == [4]
    assert shard.ids_T.dtype == np.uint16
    for view in (shard.ids_T, shard.sentence_offsets_S1, shard.document_offsets_D1):
        assert not view.flags.owndata
        assert not view.flags.writeable


def test_a_large_vocabulary_is_read_as_uint32(make_folder):
    store = TokenStore.open(make_folder([[[70_000]]], vocab_size=80_000))
    assert store.shard(0).ids_T.tolist() == [70_000]
    assert store.vocab_size == 80_000


@pytest.mark.parametrize("index", [-1, 3])
def test_places_outside_are_refused(make_folder, index):
    store = TokenStore.open(make_folder([[[1]], [[2]], [[3]]], [], []))
    with pytest.raises(IndexError):
        store.shard(index)
    with pytest.raises(IndexError):
        store.shard(0).sentence(index)
    with pytest.raises(IndexError):
        store.shard(0).document(index)


def test_an_empty_shard_is_read(make_folder):
    shard = TokenStore.open(make_folder([[[1]]], [])).shard(1)
    assert (shard.num_documents, shard.num_sentences, len(shard.ids_T)) == (0, 0, 0)
    assert shard.document_ids_D16.shape == (0, 16)


def test_a_shard_in_use_is_mapped_once_and_dropped_when_no_longer_used(make_folder):
    store = TokenStore.open(make_folder([[[1]]]))
    shard = store.shard(0)
    assert store.shard(0) is shard
    ids = shard.ids_T
    del shard
    gc.collect()
    assert len(store._open) == 0
    assert ids.tolist() == [1]


def test_a_pickled_store_opens_its_shards_anew(make_folder):
    store = TokenStore.open(make_folder([[[1, 2]]]))
    store.shard(0)
    copy = pickle.loads(pickle.dumps(store))
    assert copy.shard(0).ids_T.tolist() == [1, 2]
    assert copy.manifest == store.manifest


def damage(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut_short(path):
    path.write_bytes(path.read_bytes()[:-8])


def remove(path):
    path.unlink()


@pytest.mark.parametrize("harm", [damage, cut_short, remove])
def test_a_damaged_shard_is_named(make_folder, harm):
    folder = make_folder([[[1, 2]]], [[[3]]])
    store = TokenStore.open(folder)
    harm((folder / "shard-1.arrow").local_path)
    assert store.shard(0).ids_T.tolist() == [1, 2]
    with pytest.raises(InvalidContent, match=r"shard-1\.arrow"):
        store.shard(1)


def test_a_shard_of_another_vocabulary_is_refused(make_folder):
    folder = make_folder([[[1]]])
    manifest = (folder / "manifest.json").local_path
    text = manifest.read_text().replace('"vocab_size": 1000', '"vocab_size": 100000')
    manifest.write_text(text)
    with pytest.raises(InvalidContent, match=r"shard-0\.arrow: not a token shard.*uint32"):
        TokenStore.open(folder).shard(0)


def test_the_tokenizer_lies_beside_the_shards(make_folder):
    folder = make_folder([[[1]]])
    store = TokenStore.open(folder)
    with pytest.raises(UserError, match=r"no tokenizer\.json"):
        _ = store.tokenizer_path
    (folder / "tokenizer.json").local_path.write_text("{}")
    assert store.tokenizer_path.read_text() == "{}"


def test_a_remote_folder_is_read_through_the_cache(make_folder, s3_bucket, tmp_path):
    folder = make_folder([[[1, 2]]], [[[3]]], folder=Location.parse(s3_bucket) / "tokens-reader")
    write_file(folder / "tokenizer.json", b"{}")
    store = TokenStore.open(folder, NodeCache(tmp_path / "cache"))
    assert store.shard(1).ids_T.tolist() == [3]
    assert store.tokenizer_path.name == "tokenizer.json"
    assert store.tokenizer_path.read_text() == "{}"
    checksum = read_manifest(folder).shards[1].checksum
    assert (tmp_path / "cache" / checksum).is_file()
