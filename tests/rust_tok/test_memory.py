"""What `encode_arrow` holds at most, measured in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("encode_memory.py")


def measured(algorithm: str, kind: str, megabytes: int) -> tuple[int, int, int]:
    """Bytes of input, of output, and by how much the peak rose."""
    command = [sys.executable, str(SCRIPT), algorithm, kind, str(megabytes)]
    environment = os.environ | {"RAYON_NUM_THREADS": "2"}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment)
    return tuple(json.loads(done.stdout).values())


@pytest.mark.parametrize("algorithm", ["wordpiece", "bpe"])
@pytest.mark.parametrize("kind", ["text", "distinct"])
def test_the_peak_is_below_one_and_a_half_of_output_and_input(algorithm: str, kind: str) -> None:
    given, made, risen = measured(algorithm, kind, 30)
    assert given + risen < 1.5 * (given + made)


@pytest.mark.parametrize("algorithm", ["wordpiece", "bpe"])
def test_words_that_never_come_again_take_no_memory(algorithm: str) -> None:
    _, made, risen = measured(algorithm, "distinct", 15)
    _, made_of_more, risen_of_more = measured(algorithm, "distinct", 60)
    # 4.5 million more distinct words: 180 MB, if a table kept them.
    assert (risen_of_more - made_of_more) - (risen - made) < 40 << 20
