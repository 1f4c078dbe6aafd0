import hashlib
import json
import pickle
import random
import resource
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from raybert.errors import InvalidContent, UserError
from raybert.storage import (
    DamagedFile,
    IncompleteFolder,
    Location,
    NoSpaceLeft,
    committed_file,
    committed_folder,
    remove_folder,
    remove_staging,
    verify_folder,
    write_file,
)


def names_in(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def write_folder(folder: Location, **files: bytes) -> None:
    with committed_folder(folder) as staging:
        for name, data in files.items():
            write_file(staging / name, data)


def test_folder_is_whole_and_verified(tmp_path: Path):
    folder = Location.parse(tmp_path / "out")
    write_folder(folder, a=b"one", b=b"two" * 1000)
    files = verify_folder(folder)
    assert {name: entry["bytes"] for name, entry in files.items()} == {"a": 3, "b": 3000}
    assert names_in(tmp_path) == ["out"]


def test_folder_is_replaced_as_a_whole(tmp_path: Path):
    folder = Location.parse(tmp_path / "out")
    write_folder(folder, old=b"1")
    write_folder(folder, new=b"2")
    assert folder.list_files() == ["manifest.json", "new"]
    assert names_in(tmp_path) == ["out"]


def test_exception_leaves_the_previous_folder_and_no_staging(tmp_path: Path):
    folder = Location.parse(tmp_path / "out")
    write_folder(folder, a=b"kept")

    def write_half() -> None:
        with committed_folder(folder) as staging:
            write_file(staging / "a", b"lost")
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        write_half()
    assert (folder / "a").read_bytes() == b"kept"
    assert names_in(tmp_path) == ["out"]


def fail_half_way(file: Location) -> None:
    with committed_file(file) as stream:
        stream.write(b"half")
        raise RuntimeError("half way")


def test_a_file_given_up_leaves_the_previous_one_and_no_staging(tmp_path: Path):
    file = Location.parse(tmp_path / "file")
    with pytest.raises(RuntimeError, match="half way"):
        fail_half_way(file)
    assert names_in(tmp_path) == []
    write_file(file, b"kept")
    with pytest.raises(RuntimeError, match="half way"):
        fail_half_way(file)
    assert file.read_bytes() == b"kept"
    assert names_in(tmp_path) == ["file"]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda file: file.write_bytes(b"onf"), "is damaged"),
        (lambda file: file.write_bytes(b"one more"), "has 8 bytes"),
        (lambda file: file.unlink(), "is missing"),
    ],
)
def test_damage_is_named(tmp_path: Path, damage, message: str):
    folder = Location.parse(tmp_path / "out")
    write_folder(folder, a=b"one")
    damage(tmp_path / "out" / "a")
    with pytest.raises(DamagedFile, match=message):
        verify_folder(folder)


def test_checksums_of_an_older_manifest_are_verified(tmp_path: Path):
    folder = Location.parse(tmp_path / "out")
    write_folder(folder, a=b"one")
    digest = hashlib.blake2b(b"one", digest_size=16).hexdigest()
    manifest = {"files": {"a": {"bytes": 3, "blake2b": digest}}}
    (tmp_path / "out" / "manifest.json").write_text(json.dumps(manifest))
    assert list(verify_folder(folder)) == ["a"]
    (tmp_path / "out" / "a").write_bytes(b"onf")
    with pytest.raises(DamagedFile, match="is damaged: blake2b"):
        verify_folder(folder)


def test_checksum_of_an_unknown_kind_is_refused(tmp_path: Path):
    folder = Location.parse(tmp_path / "out")
    write_folder(folder, a=b"one")
    manifest = {"files": {"a": {"bytes": 3, "crc128": "0"}}}
    (tmp_path / "out" / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InvalidContent, match=r"out/a: its manifest has no checksum"):
        verify_folder(folder)


def test_folder_without_manifest_does_not_exist(tmp_path: Path):
    write_file(Location.parse(tmp_path / "out") / "a", b"one")
    with pytest.raises(IncompleteFolder, match="did not finish"):
        verify_folder(Location.parse(tmp_path / "out"))


def test_sigkill_while_writing_commits_nothing(tmp_path: Path):
    script = textwrap.dedent(
        """
        import sys, time
        from raybert.storage import Location, committed_folder, write_file
        with committed_folder(Location.parse(sys.argv[1])) as staging:
            write_file(staging / "a", b"half")
            print("writing", flush=True)
            time.sleep(60)
        """
    )
    target = tmp_path / "out"
    writer = subprocess.Popen([sys.executable, "-c", script, target], stdout=subprocess.PIPE)
    assert writer.stdout is not None
    assert writer.stdout.readline() == b"writing\n"
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    writer.stdout.close()
    assert not target.exists()
    write_folder(Location.parse(target), a=b"whole")
    assert verify_folder(Location.parse(target))


@contextmanager
def limited(num_bytes: int) -> Iterator[None]:
    """This process can't write files of more bytes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


def test_no_space_left_keeps_the_previous_file(tmp_path: Path):
    file = Location.parse(tmp_path / "state")
    write_file(file, b"previous")
    with limited(1 << 12), pytest.raises(NoSpaceLeft, match="state could not be"):
        write_file(file, b"x" * (1 << 13))
    assert file.read_bytes() == b"previous"
    assert names_in(tmp_path) == ["state"]


FULL_DISK = """
import shutil, sys
import numpy as np
from pathlib import Path
from safetensors.numpy import save_file
from raybert.storage import Location, NoSpaceLeft, committed_folder, verify_folder, write_file

root = Path(sys.argv[1])
folder = Location.parse(root / "out")

def write(content: int, num_bytes: int) -> None:
    with committed_folder(folder) as staging:
        save_file({"a": np.full(num_bytes, content, np.uint8)}, staging.local_path / "weights")

write(1, 40_000)
before = (folder / "weights").read_bytes()
for again in range(2):
    try:
        write(2, 400_000)
    except NoSpaceLeft as error:
        print(error)
    assert verify_folder(folder) and (folder / "weights").read_bytes() == before
    assert [entry.name for entry in root.iterdir()] == ["out"]
try:
    with (folder.parent / "filler").open_output_stream() as stream:
        stream.write(bytes(shutil.disk_usage(root).free))
    write_file(folder / "weights", b"x" * 50_000)
except NoSpaceLeft as error:
    print(error)
assert verify_folder(folder)
"""


@pytest.mark.skipif(
    shutil.which("unshare") is None
    or subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "true"], capture_output=True
    ).returncode
    != 0,
    reason="this system does not let a user mount a small disk",
)
def test_full_disk_keeps_the_previous_folder(tmp_path: Path):
    mount = 'mount -t tmpfs -o size=256k none "$1" && exec "$2" -c "$3" "$1"'
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, "sh"]
    command += [str(tmp_path), sys.executable, FULL_DISK]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    told = run.stdout.splitlines()
    assert len(told) == 3
    assert all("No space left on device" in line and "untouched" in line for line in told)


def test_killed_again_and_again_the_folder_stays_whole(tmp_path: Path):
    folder = Location.parse(tmp_path / "out")
    write_folder(folder, a=b"0" * 1000, b=b"0" * 1000)
    script = textwrap.dedent(
        """
        import itertools, sys
        from raybert.storage import Location, committed_folder, write_file
        for n in itertools.count():
            with committed_folder(Location.parse(sys.argv[1])) as staging:
                for name in "ab":
                    write_file(staging / name, str(n % 10).encode() * 1000)
            print(n, flush=True)
        """
    )
    pauses = random.Random(0)
    for _ in range(4):
        writer = subprocess.Popen(
            [sys.executable, "-c", script, str(folder)], stdout=subprocess.PIPE
        )
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"0\n"
        time.sleep(pauses.uniform(0, 0.05))
        writer.kill()
        writer.wait()
        writer.stdout.close()
        assert verify_folder(folder)
        assert (folder / "a").read_bytes() == (folder / "b").read_bytes()
    remove_staging(folder.parent)
    assert names_in(tmp_path) == ["out"]


def test_replacing_without_help_of_the_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("raybert.storage.swap._exchanged_by_kernel", lambda *_: False)
    folder = Location.parse(tmp_path / "out")
    write_folder(folder, old=b"1")
    write_folder(folder, new=b"2")
    assert sorted(verify_folder(folder)) == ["new"]
    assert names_in(tmp_path) == ["out"]


def test_other_content_is_never_replaced(tmp_path: Path):
    mine = tmp_path / "thesis"
    mine.mkdir()
    (mine / "chapter.txt").write_text("years of work")
    with pytest.raises(UserError, match=r"thesis holds other content \(chapter\.txt\)"):
        write_folder(Location.parse(mine), a=b"1")
    (mine / "manifest.json").write_text('{"packages": []}')
    with pytest.raises(UserError, match="holds other content"):
        write_folder(Location.parse(mine), a=b"1")
    with pytest.raises(UserError, match=r"chapter\.txt is a file"):
        write_folder(Location.parse(mine / "chapter.txt"), a=b"1")
    assert (mine / "chapter.txt").read_text() == "years of work"


def test_committed_folder_with_a_damaged_manifest_is_replaced(tmp_path: Path):
    folder = Location.parse(tmp_path / "out")
    write_folder(folder, a=b"1")
    (tmp_path / "out" / "manifest.json").write_text('{"files": {"a"')
    with pytest.raises(IncompleteFolder, match="can't be read"):
        verify_folder(folder)
    write_folder(folder, a=b"2")
    assert verify_folder(folder)


def test_folder_behind_a_link_is_replaced_where_it_is(tmp_path: Path):
    (tmp_path / "disk" / "out").mkdir(parents=True)
    (tmp_path / "out").symlink_to(tmp_path / "disk" / "out")
    for content in (b"1", b"2"):
        write_folder(Location.parse(tmp_path / "out"), a=content)
    assert (tmp_path / "out").is_symlink()
    assert (tmp_path / "disk" / "out" / "a").read_bytes() == b"2"
    assert names_in(tmp_path) == ["disk", "out"]


def test_files_in_inner_folders_count(tmp_path: Path):
    folder = Location.parse(tmp_path / "out")
    with committed_folder(folder) as staging:
        write_file(staging / "inner" / "a", b"1")
    assert list(verify_folder(folder)) == ["inner/a"]


def test_removed_folder_is_gone(tmp_path: Path):
    folder = Location.parse(tmp_path / "out")
    write_folder(folder, a=b"1")
    remove_folder(folder)
    remove_folder(folder)
    assert names_in(tmp_path) == []


def test_folder_on_s3_exists_from_its_manifest_on(s3_bucket: str):
    root = Location.parse(s3_bucket) / "commits"
    folder = root / "out"
    with committed_folder(folder) as staging:
        write_file(staging / "a", b"one")
        write_file(staging / "inner" / "b", b"two")
        with pytest.raises(IncompleteFolder):
            verify_folder(folder)
    assert {name: entry["bytes"] for name, entry in verify_folder(folder).items()} == {
        "a": 3,
        "inner/b": 3,
    }
    again = pickle.loads(pickle.dumps(folder))
    assert (again / "a").read_bytes() == b"one"
    assert root.list_dirs() == ["out"]
    remove_folder(folder)
    assert not (folder / "a").exists()


def test_writer_that_fails_puts_nothing_on_s3(s3_bucket: str):
    folder = Location.parse(s3_bucket) / "failures" / "out"
    write_folder(folder, a=b"kept")

    def write_half() -> None:
        with committed_folder(folder) as staging, (staging / "a").open_output_stream() as stream:
            stream.write(b"half")
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        write_half()
    verify_folder(folder)
    assert (folder / "a").read_bytes() == b"kept"


def test_a_file_given_up_is_not_put_on_s3(s3_bucket: str):
    root = Location.parse(s3_bucket) / "given-up"
    with committed_file(root / "whole") as stream:
        stream.write(b"wh")
        stream.write(b"ole")
    with pytest.raises(RuntimeError, match="half way"):
        fail_half_way(root / "file")
    assert root.list_files() == ["whole"]
    assert (root / "whole").read_bytes() == b"whole"


def test_damage_on_s3_is_named(s3_bucket: str):
    folder = Location.parse(s3_bucket) / "damages" / "out"
    write_folder(folder, a=b"one")
    write_file(folder / "a", b"two")
    with pytest.raises(DamagedFile, match="is damaged"):
        verify_folder(folder)


def test_readers_never_see_half_a_file(tmp_path: Path):
    file = Location.parse(tmp_path / "state")
    write_file(file, b"a" * 100_000)
    script = textwrap.dedent(
        """
        import itertools, sys
        from raybert.storage import Location, write_file
        for letter in itertools.cycle([b"a", b"b"]):
            write_file(Location.parse(sys.argv[1]), letter * 100_000)
        """
    )
    writer = subprocess.Popen([sys.executable, "-c", script, str(file)])
    try:
        seen = set()
        deadline = time.monotonic() + 20
        while len(seen) < 2 and time.monotonic() < deadline:
            data = file.read_bytes()
            assert len(data) == 100_000
            assert len(set(data)) == 1
            seen.add(data[:1])
    finally:
        writer.kill()
        writer.wait()
    assert seen == {b"a", b"b"}
