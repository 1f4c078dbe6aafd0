import pickle
from pathlib import Path

import pytest

from raybert.errors import UserError
from raybert.storage import (
    IncompleteFolder,
    Location,
    committed_folder,
    verify_folder,
    write_file,
)


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
    with pytest.raises(UserError, match=r"ftp://host: unknown kind of storage.*s3://"):
        Location.parse("ftp://host/x")


def test_names_and_parents(tmp_path: Path):
    location = Location.parse(tmp_path) / "run" / "checkpoints"
    assert location.name == "checkpoints"
    assert location.parent.name == "run"
    assert pickle.loads(pickle.dumps(location)) == location


def test_folder_on_s3_exists_from_its_manifest_on(s3_bucket: str):
    root = Location.parse(s3_bucket) / "commits"
    folder = root / "out"
    with committed_folder(folder) as staging:
        write_file(staging / "a", b"one")
        with pytest.raises(IncompleteFolder):
            verify_folder(folder)
    assert verify_folder(folder)["a"]["bytes"] == 3
    again = pickle.loads(pickle.dumps(folder))
    assert (again / "a").read_bytes() == b"one"
    assert root.list_dirs() == ["out"]
    folder.delete_dir()
    assert not (folder / "a").exists()
