import resource
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from raybert.storage import (
    DamagedFile,
    IncompleteFolder,
    Location,
    committed_folder,
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


def test_no_space_left_keeps_the_previous_file(tmp_path: Path):
    file = Location.parse(tmp_path / "state")
    write_file(file, b"previous")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 12, limits[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            write_file(file, b"x" * (1 << 13))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert file.read_bytes() == b"previous"
    assert names_in(tmp_path) == ["state"]


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
