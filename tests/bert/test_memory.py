from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from bert.prepacked import can_prepack

PROGRAM = """
import resource
import numpy as np
from bert.memory import tune_allocator

def faults_of_reuse():
    np.ones(64 * 2**20, dtype=np.uint8)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        np.ones(64 * 2**20, dtype=np.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print(faults_of_reuse(), tune_allocator(), faults_of_reuse())
"""

# Whether Linux was asked for large pages under what is allocated next; MiB that asking takes.
LARGE_PAGES = """
import ctypes, resource, sys
from bert.memory import tune_allocator

if sys.argv[1:]:
    resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10

def flags(address):
    inside = False
    with open("/proc/self/smaps") as file:
        for line in file:
            first, *rest = line.split()
            if rest and "-" in first:
                start, end = (int(number, 16) for number in first.split("-"))
                inside = start <= address < end
            elif inside and first == "VmFlags:":
                return rest

before = peak()
tune_allocator()
grown = peak() - before
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
start = libc.malloc(ctypes.c_size_t(32 << 20))
print("hg" in flags(start + (16 << 20)), grown)
"""

# Resident MiB after products of 100 and of 400 different numbers of rows.
MANY_SHAPES = """
import torch
from bert.prepacked import PrepackedLinear

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 >> 20

torch.set_num_threads(1)
with torch.inference_mode():
    product = PrepackedLinear(torch.nn.Linear(64, 64))
    for rows in range(1, 401):
        product(torch.ones(rows, 64))
        if rows in (100, 400):
            print(resident())
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


@pytest.mark.skipif(
    not Path("/sys/kernel/mm/transparent_hugepage").exists()
    or platform.libc_ver()[0] != "glibc"
    or Path("/proc/sys/vm/overcommit_memory").read_text().strip() == "2",
    reason="asks Linux and glibc for large pages",
)
@pytest.mark.parametrize("limited", [False, True])
def test_pages_are_large_unless_addresses_count_against_a_limit(limited: bool) -> None:
    arguments = ["limited"] if limited else []
    output = subprocess.run(
        [sys.executable, "-c", LARGE_PAGES, *arguments], capture_output=True, text=True, check=True
    ).stdout
    asked, grown = output.split()
    assert asked == str(not limited)
    assert int(grown) < 16


@pytest.mark.skipif(
    sys.platform != "linux" or not can_prepack(), reason="asks Linux about oneDNN's memory"
)
def test_code_that_was_compiled_for_shapes_that_never_come_again_is_let_go() -> None:
    unset = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")
    output = subprocess.run(
        [sys.executable, "-c", MANY_SHAPES],
        env={name: value for name, value in os.environ.items() if name not in unset},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    early, late = map(int, output.split())
    assert late - early < 16
