import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from raybert.errors import InvalidContent
from raybert.storage import Location, checksum_of_bytes
from raybert.tokens import NodeCache
from raybert.tokens.cache import default_cache_folder


@pytest.fixture
def stored(tmp_path):
    """Stores a file somewhere and gives what a shard's entry says of it."""

    def store(name: str, content: bytes):
        path = tmp_path / "stored" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        return Location.parse(path), checksum_of_bytes(content), len(content)

    return store


def names(folder):
    return {path.name for path in folder.iterdir() if path.suffix == ""}


def test_a_file_is_copied_once(tmp_path, stored):
    cache = NodeCache(tmp_path / "cache")
    file = stored("a", b"content")
    assert cache.map(*file).read() == b"content"
    file[0].delete_file()
    assert cache.map(*file).read() == b"content"


def test_the_copy_used_least_recently_goes_first(tmp_path, stored):
    cache = NodeCache(tmp_path / "cache", max_bytes=25)
    files = [stored(name, name.encode() * 10) for name in "abc"]
    for age, file in enumerate(files[:2]):
        cache.map(*file)
        os.utime(cache.folder / file[1], (age, age))
    cache.map(*files[0])
    cache.map(*files[2])
    assert names(cache.folder) == {files[0][1], files[2][1]}


def test_a_copy_larger_than_the_cache_is_still_made(tmp_path, stored):
    cache = NodeCache(tmp_path / "cache", max_bytes=5)
    assert cache.map(*stored("a", b"0123456789")).read() == b"0123456789"


def test_a_mapping_outlives_its_copy(tmp_path, stored):
    cache = NodeCache(tmp_path / "cache", max_bytes=10)
    first = stored("a", b"a" * 10)
    mapped = cache.map(*first)
    cache.map(*stored("b", b"b" * 10))
    assert first[1] not in names(cache.folder)
    assert mapped.read() == b"a" * 10


def test_damage_in_storage_is_named_and_leaves_nothing_behind(tmp_path, stored):
    cache = NodeCache(tmp_path / "cache")
    place, checksum, size = stored("shard-x.arrow", b"content")
    place.local_path.write_bytes(b"CONTENT")
    with pytest.raises(InvalidContent, match=r"shard-x\.arrow: damaged"):
        cache.map(place, checksum, size)
    assert not [path for path in cache.folder.iterdir() if path.suffix != ".lock"]


def test_a_copy_cut_short_is_made_again(tmp_path, stored):
    cache = NodeCache(tmp_path / "cache")
    file = stored("a", b"content")
    cache.map(*file)
    (cache.folder / file[1]).write_bytes(b"con")
    assert cache.map(*file).read() == b"content"


def test_what_a_killed_process_left_is_cleared_after_a_day(tmp_path, stored):
    cache = NodeCache(tmp_path / "cache")
    cache.folder.mkdir()
    for name, age in (("old.part", 0), ("new.part", None)):
        (cache.folder / name).write_bytes(b"x")
        if age is not None:
            os.utime(cache.folder / name, (age, age))
    cache.map(*stored("a", b"content"))
    left = {path.name for path in cache.folder.iterdir() if path.suffix == ".part"}
    assert left == {"new.part"}


def test_many_at_once_get_the_same_bytes(tmp_path, stored):
    cache = NodeCache(tmp_path / "cache", max_bytes=300)
    files = [stored(str(i), str(i).encode() * 100) for i in range(8)]
    with ThreadPoolExecutor(8) as pool:
        contents = list(pool.map(lambda i: cache.map(*files[i % 8]).read(), range(64)))
    assert contents == [str(i % 8).encode() * 100 for i in range(64)]


def test_the_default_folder_is_in_the_users_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache_folder() == tmp_path / "raybert" / "shards"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert default_cache_folder() == tmp_path / "home" / ".cache" / "raybert" / "shards"
