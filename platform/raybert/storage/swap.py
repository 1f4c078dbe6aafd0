"""Two folders exchange their names in one step, so that neither name is ever without a folder."""

import ctypes
import os
import sys
from pathlib import Path

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2  # linux/fs.h
_RENAME_SWAP = 2  # macOS sys/stdio.h


def swap(first: Path, second: Path) -> None:
    """Exchanges two folders of one file system.

    Where the system or the file system can't (some network file systems), three renames do it: a
    process killed between them leaves `second` absent.

    Raises:
        OSError: neither way worked; both folders are where they were.
    """
    if _exchanged_by_kernel(os.fsencode(first), os.fsencode(second)):
        return
    aside = first.with_name(f"{first.name}-old")
    second.rename(aside)
    try:
        first.rename(second)
    except OSError:
        aside.rename(second)
        raise
    aside.rename(first)


def _exchanged_by_kernel(first: bytes, second: bytes) -> bool:
    libc = ctypes.CDLL(None)
    if sys.platform == "linux" and hasattr(libc, "renameat2"):
        return libc.renameat2(_AT_FDCWD, first, _AT_FDCWD, second, _RENAME_EXCHANGE) == 0
    if sys.platform == "darwin":
        return libc.renamex_np(first, second, _RENAME_SWAP) == 0
    return False
