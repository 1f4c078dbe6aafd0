"""What lies in a folder, to be held against another."""

from pathlib import Path


def content(folder: Path) -> dict[str, bytes]:
    """The bytes of every file below it, by relative path."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}
