import pickle
from pathlib import Path

import pytest

from raybert.errors import UserError
from raybert.storage import Location, write_file


def test_local_paths_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    location = Location.parse("a/../b.txt")
    assert location.local_path == tmp_path / "b.txt"
    assert location.is_local
    assert not location.exists()


def test_listing_is_sorted_and_by_suffix(tmp_path: Path):
    folder = Location.parse(tmp_path)
    for name in ("b.arrow", "a.arrow", "a.json"):
        write_file(folder / name, b"")
    (tmp_path / "inner").mkdir()
    assert folder.list_files(".arrow") == ["a.arrow", "b.arrow"]
    assert folder.list_dirs() == ["inner"]
    assert (folder / "nowhere").list_files() == []


def test_unknown_storage_is_refused():
    with pytest.raises(UserError, match=r"ftp://host/x: unknown kind of storage.*s3://"):
        Location.parse("ftp://host/x")


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("s3:///folder", "name of a bucket is missing after s3://"),
        ("s3://key:secret@bucket/x", r"^s3://…@bucket: credentials do not belong"),
        ("s3://bucket/x?no_such_option=1", "can't be opened.*no_such_option"),
    ],
)
def test_addresses_that_cannot_work_are_refused(address: str, message: str):
    with pytest.raises(UserError, match=message) as told:
        Location.parse(address)
    assert "secret" not in str(told.value)


@pytest.mark.parametrize("key", ["part-?.txt", "a#b.txt", "a%20b c.txt", "what?=.txt", "é/ü"])
def test_keys_are_taken_literally(s3_bucket: str, key: str):
    file = Location.parse(s3_bucket) / "keys" / key
    write_file(file, b"x")
    assert file.read_bytes() == b"x"
    bucket, options = s3_bucket.split("?")
    assert Location.parse(f"{bucket}/keys/{key}?{options}") == file
    assert file.path == f"raybert/keys/{key}"


def test_endpoint_from_the_environment(s3_bucket: str, monkeypatch: pytest.MonkeyPatch):
    bucket, options = s3_bucket.split("?")
    write_file(Location.parse(s3_bucket) / "environment", b"x")
    endpoint = dict(option.split("=") for option in options.split("&"))["endpoint_override"]
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{endpoint}")
    assert (Location.parse(bucket) / "environment").read_bytes() == b"x"


def test_names_and_parents(tmp_path: Path):
    location = Location.parse(tmp_path) / "run" / "checkpoints"
    assert location.name == "checkpoints"
    assert location.parent.name == "run"
    assert pickle.loads(pickle.dumps(location)) == location
