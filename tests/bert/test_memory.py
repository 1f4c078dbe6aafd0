from __future__ import annotations

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource
import numpy as np
from bert.memory import keep_freed_memory

def faults_of_reuse():
    np.ones(64 * 2**20, dtype=np.uint8)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        np.ones(64 * 2**20, dtype=np.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print(faults_of_reuse(), keep_freed_memory(), faults_of_reuse())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc's allocator")
def test_memory_that_was_freed_is_used_again_without_page_faults() -> None:
    """In a process of its own, since the setting lasts."""
    output = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    ).stdout
    before, taken, after = output.split()
    assert taken == "True"
    assert int(after) < int(before) / 10
