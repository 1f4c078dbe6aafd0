"""Peak memory of `encode_arrow`, in a process of its own (`test_memory.py` starts it).

    python tests/rust_tok/encode_memory.py ALGORITHM KIND MEGABYTES

ALGORITHM is `wordpiece` or `bpe`; KIND is `text` (English, few distinct words) or `distinct` (every
word is new: the cache of words must not grow with them). Prints JSON: bytes of input and output,
and by how much the most memory that was held rose above what was held with the input alone.
"""

import json
import resource
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa

import rust_tok

WORD_BYTES = 10
STATUS = Path("/proc/self/status")


def english(num_bytes: int) -> pa.Array:
    row = "the cat isn't on a mat; it sat, running unaffably behind 3 tokenizations of text. " * 25
    return pa.array([row] * (num_bytes // len(row)), pa.large_string())


def distinct(num_bytes: int) -> pa.Array:
    """Words of nine letters, hardly one twice, in rows of about 2 KB."""
    num_words = num_bytes // WORD_BYTES
    rng = np.random.default_rng(1)
    letters = rng.integers(ord("a"), ord("z") + 1, (num_words, WORD_BYTES), dtype=np.uint8)
    letters[:, -1] = ord(" ")
    offsets = np.append(np.arange(0, num_bytes - 2000, 2000), num_words * WORD_BYTES)
    buffers = [None, pa.py_buffer(offsets.astype(np.int64)), pa.py_buffer(letters)]
    return pa.LargeStringArray.from_buffers(len(offsets) - 1, buffers[1], buffers[2])


def peak() -> int:
    """Bytes that this process held at most.

    Linux: since `forget_peak`. `ru_maxrss` would begin with what the parent held when it forked.
    """
    if not STATUS.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    (line,) = (line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def forget_peak() -> None:
    if STATUS.exists():
        STATUS.with_name("clear_refs").write_text("5")


def main() -> None:
    algorithm, kind, num_bytes = sys.argv[1], sys.argv[2], int(float(sys.argv[3]) * 1e6)
    train = {"wordpiece": rust_tok.train_wordpiece, "bpe": rust_tok.train_bpe}[algorithm]
    make = {"text": english, "distinct": distinct}[kind]
    small = make(200_000)
    tokenizer = rust_tok.Tokenizer.from_json(train(small, vocab_size=2000).to_json())
    pa.array(tokenizer.encode_arrow(small))  # makes threads and their tables
    column = make(num_bytes)
    forget_peak()
    before = peak()
    ids = pa.array(tokenizer.encode_arrow(column))
    print(json.dumps({"input": column.nbytes, "output": ids.nbytes, "risen": peak() - before}))


if __name__ == "__main__":
    main()
