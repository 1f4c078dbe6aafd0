"""What the README says is executed as it stands."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import AutoModelForPreTraining, AutoTokenizer

import rust_tok
from raybert.inference import fill_mask

README = Path(__file__).parents[2] / "README.md"


def write_text(file: Path) -> Path:
    subjects = ("The captain", "A farmer", "My neighbour", "The old teacher", "Her cousin")
    verbs = ("watches", "paints", "remembers", "repairs", "describes")
    objects = ("the river", "a wooden boat", "the blue door", "every letter", "the garden")
    documents = [
        "\n".join(
            f"{subjects[(d + i) % 5]} {verbs[(d * 3 + i) % 5]} {objects[(d + 2 * i) % 5]} at {d}."
            for i in range(6)
        )
        for d in range(300)
    ]
    file.write_text("\n\n".join(documents) + "\n", encoding="utf-8")
    return file


@pytest.mark.parametrize(("kind", "vocab_size"), [("wordpiece", "200"), ("bpe", "400")])
def test_snippet_runs_as_it_stands(tmp_path: Path, kind: str, vocab_size: str):
    snippet = re.search(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert snippet is not None
    code = snippet.group(1)
    assert len(code.splitlines()) <= 20
    small = {
        "RAYBERT__CORPUS__PATHS": str(write_text(tmp_path / "text.txt")),
        "RAYBERT__TOKENIZER__KIND": kind,
        "RAYBERT__TOKENIZER__VOCAB_SIZE": vocab_size,
        "RAYBERT__MODEL__SIZE": "tiny",
        "RAYBERT__PRETRAINING__STEPS": "3",
        "RAYBERT__PRETRAINING__BATCH_SIZE": "8",
        "RAYBERT__CORPUS__HELD_OUT_SHARE": "0.1",
        "OMP_NUM_THREADS": "1",
    }
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, **small},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    export = tmp_path / "runs" / "first" / "export"
    model = AutoModelForPreTraining.from_pretrained(export)
    tokenizer = AutoTokenizer.from_pretrained(export)
    assert model.config.vocab_size == len(tokenizer)
    ours = rust_tok.Tokenizer.from_file(str(export / "tokenizer.json"))
    text = "A farmer repairs the blue door, and [MASK] nothing else."
    assert tokenizer(text)["input_ids"] == ours.encode(text)
    guesses = fill_mask(export, [text], top=3)
    assert len(guesses[0]) == 3
