"""The trainer alone, in plain Python."""

import json
import math
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from finetuning.cases import (
    ANIMALS,
    FILLERS,
    FRUITS,
    sentence,
    sentences,
    settings,
    write_csv,
    write_jsonl,
)
from transformers import (
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
)

from raybert.errors import UserError
from raybert.finetuning.data import prepare_data
from raybert.finetuning.result import read_result
from raybert.finetuning.start import layer_rates
from raybert.finetuning.trainer import FinetuningTrainer
from raybert.settings import Settings
from raybert.storage import Location
from raybert.training.checkpoints import CheckpointStore
from raybert.training.lease import Lease, LeaseHeld
from raybert.training.stopping import StopRequest

CPU = torch.device("cpu")


class Heard:
    """A tracker that remembers."""

    def __init__(self) -> None:
        self.rows: dict[int, dict[str, float]] = {}
        self.pictures: dict[int, tuple[int, ...]] = {}

    def resume(self, step: int) -> None: ...
    def flush(self) -> None: ...

    def log(self, step, scalars) -> None:
        self.rows[step] = dict(scalars)

    def picture(self, step: int, name: str, pixels: np.ndarray) -> None:
        self.pictures[step] = pixels.shape


def trainer_of(asked: Settings, tracker=None, **more) -> FinetuningTrainer:
    return FinetuningTrainer(
        asked, prepare_data(asked), str(asked.run), tracker, device=CPU, **more
    )


@pytest.fixture
def asked(model, tmp_path) -> Settings:
    train = write_csv(tmp_path / "t.csv", sentences(60))
    return settings(model, train, tmp_path / "run", data={"cache": str(tmp_path / "cache")})


def changed(asked: Settings, run: Path, **finetuning) -> Settings:
    section = asked.finetuning.model_copy(update=finetuning)
    return asked.model_copy(update={"run": str(run), "finetuning": section})


def checkpoint_bytes(run: str | Path | None, step: int) -> list[bytes]:
    folder = CheckpointStore(Location.parse(str(run))).location_of(step).local_path
    return [(folder / f"{name}.safetensors").read_bytes() for name in ("model", "optimizer")]


def test_it_learns_and_leaves_everything(model, tmp_path):
    train = write_csv(tmp_path / "t.csv", sentences(120))
    test = write_csv(tmp_path / "x.csv", sentences(33))
    asked = settings(
        model,
        train,
        tmp_path / "run",
        data={"test": str(test)},
        finetuning={"epochs": 12, "class_weights": "balanced"},
    )
    heard = Heard()
    trainer = trainer_of(asked, heard)
    outcome = trainer.train()
    assert (outcome.step, outcome.stopped) == (162, None)
    evaluated = [step for step, row in heard.rows.items() if "eval/accuracy" in row]
    assert (
        evaluated == [math.ceil(108 * epoch / 8) for epoch in range(1, 13)] == list(heard.pictures)
    )
    result = trainer.finish()
    assert result is not None
    assert result.value > 0.95
    assert result.test is not None
    assert result.test["accuracy"] > 0.9
    assert read_result(Location.parse(tmp_path / "run")) == result
    best = max(evaluated, key=lambda step: heard.rows[step]["eval/macro_f1"])
    assert result.best_step == best
    kept = CheckpointStore(Location.parse(tmp_path / "run")).steps()
    assert kept == sorted({best, 162})
    report = (tmp_path / "run" / "report.md").read_text()
    for heading in ("Results", "Data", "Settings", "Curve", "Labels", "Confusion matrix", "Twenty"):
        assert f"## {heading}" in report
    assert "| animal | 36 | 4 | 11 |" in report


def test_stopped_and_gone_on_with_gives_the_same_bytes(asked, tmp_path):
    stop = StopRequest()
    stop.ask("a test")
    assert trainer_of(asked).train(stop).step == 1
    second = trainer_of(asked).train(on_evaluation=lambda step, metrics: step == 14)
    assert (second.first_step, second.step, second.stopped) == (1, 14, "the search")
    assert trainer_of(asked).train().step == 21
    whole = changed(asked, tmp_path / "whole")
    trainer_of(whole).train()
    assert checkpoint_bytes(asked.run, 21) == checkpoint_bytes(whole.run, 21)
    histories = [trainer_of(a).history for a in (asked, whole)]
    assert histories[0].evaluations == histories[1].evaluations


def test_a_finished_run_is_scored_again_and_alike(asked):
    first = trainer_of(asked)
    first.train()
    result = first.finish()
    again = trainer_of(asked)
    outcome = again.train()
    assert (outcome.first_step, outcome.step) == (21, 21)
    assert again.finish() == result


def test_a_run_goes_on_from_anothers_checkpoint(asked, tmp_path):
    """As population based training exploits: weights, moments and steps, another rate."""
    trainer_of(asked).train(on_evaluation=lambda step, metrics: True)
    checkpoint = CheckpointStore(Location.parse(str(asked.run))).newest_whole()
    assert checkpoint is not None
    other = changed(asked, tmp_path / "other", learning_rate=1e-5)
    exploiting = trainer_of(other, start_from=checkpoint)
    assert exploiting.first_step == checkpoint.step == 7
    theirs = trainer_of(asked)
    for ours, original in zip(
        exploiting.model.parameters(), theirs.model.parameters(), strict=True
    ):
        assert torch.equal(ours, original)
    heard = Heard()
    exploiting = trainer_of(other, heard, start_from=checkpoint)
    assert exploiting.train().first_step == 7
    assert heard.rows[8]["train/learning_rate"] < 1e-5
    assert trainer_of(other).first_step == 21
    assert exploiting.finish() is not None


def test_patience_ends_a_run_for_good(asked, tmp_path):
    patient = changed(asked, tmp_path / "run", patience=1, evaluate_every=2, learning_rate=1e-9)
    outcome = trainer_of(patient).train()
    assert outcome.stopped is None
    assert outcome.step < 21
    assert outcome.ended_early is not None
    again = trainer_of(patient)
    assert again.train().step == outcome.step
    assert again.finish() is not None


def test_frozen_layers_stay_and_the_others_move(asked, tmp_path):
    finetuning = {"frozen_layers": 1, "weight_decay": 0.1}
    trainer = trainer_of(changed(asked, tmp_path / "run", **finetuning))
    before = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    trainer.train()
    moved = {
        name for name, p in trainer.model.named_parameters() if not torch.equal(p, before[name])
    }
    frozen = {n for n in before if ".embeddings." in n or ".layers.0." in n}
    assert moved == set(before) - frozen
    assert trainer_of(changed(asked, tmp_path / "run", **finetuning)).first_step == 21


def test_rates_fall_from_the_head_to_the_embeddings():
    rate_of = layer_rates(2, 0.5)
    assert rate_of is not None
    names = [
        "head.linear.weight",
        "backbone.pooler.dense.bias",
        "backbone.encoder.layers.1.attention.qkv.weight",
        "backbone.encoder.layers.0.feed_forward.up.bias",
        "backbone.embeddings.word.weight",
    ]
    assert [rate_of(name) for name in names] == [1, 1, 0.5, 0.25, 0.125]
    assert layer_rates(2, 1.0) is None


def test_a_layer_decay_run_resumes(asked, tmp_path):
    decayed = changed(asked, tmp_path / "run", layer_decay=0.5)
    trainer_of(decayed).train(on_evaluation=lambda step, metrics: step == 7)
    trainer_of(decayed).train()
    whole = changed(decayed, tmp_path / "whole")
    trainer_of(whole).train()
    assert checkpoint_bytes(decayed.run, 21) == checkpoint_bytes(whole.run, 21)


def test_random_weights_are_a_baseline(asked, tmp_path):
    fresh = trainer_of(changed(asked, tmp_path / "fresh", fresh_weights=True))
    loaded = trainer_of(asked)
    name = "backbone.embeddings.word.weight"
    assert not torch.equal(fresh.model.get_parameter(name), loaded.model.get_parameter(name))
    assert fresh.model.config == loaded.model.config


def test_a_second_writer_is_refused(asked):
    late = trainer_of(asked)
    with Lease(Location.parse(str(asked.run))), pytest.raises(LeaseHeld):
        late.train()


def test_other_settings_and_other_data_are_refused(asked, tmp_path):
    trainer_of(asked).train(on_evaluation=lambda step, metrics: True)
    with pytest.raises(UserError, match=r"finetuning\.learning_rate: 0\.003 -> 0\.1"):
        trainer_of(changed(asked, tmp_path / "run", learning_rate=0.1))
    write_csv(tmp_path / "t.csv", sentences(61))
    with pytest.raises(UserError, match=r"data: [0-9a-f]{32} -> [0-9a-f]{32}"):
        trainer_of(asked)


# What is exported is what transformers computes.


def exported(asked: Settings):
    trainer = trainer_of(asked)
    trainer.train()
    trainer.finish()
    export = str(Path(str(asked.run)) / "export")
    return trainer, export, AutoTokenizer.from_pretrained(export)


def assert_same_logits(trainer, rows, logits) -> None:
    predictions = trainer.predict("validation")
    torch.testing.assert_close(predictions.outputs_UC, logits, rtol=1e-4, atol=1e-5)
    assert predictions.metrics == trainer.history.best.metrics


def texts_of(trainer, column: str = "text") -> list:
    return trainer.rows("validation").column(column).to_pylist()


def case(task: str, folder: Path) -> tuple[Path, dict]:
    dice = random.Random(7)
    rows = []
    for i in range(40):
        kind = ("animal", "fruit")[i % 2]
        text = sentence(dice, kind)
        if task == "pair":
            rows.append({"text": text, "pair": sentence(dice, "stone"), "label": kind})
        elif task == "regression":
            rows.append({"text": text, "label": i % 2 + 0.5})
        elif task == "multi_label":
            rows.append({"text": text, "label": [kind] if i % 3 else [kind, "third"]})
    return write_jsonl(folder / "t.jsonl", rows), {}


@pytest.mark.parametrize("task", ["pair", "regression", "multi_label"])
def test_transformers_computes_the_same_logits(model, tmp_path, task):
    train, data = case(task, tmp_path)
    asked = settings(model, train, tmp_path / "run", data=data, finetuning={"epochs": 2})
    trainer, export, tokenizer = exported(asked)
    theirs = AutoModelForSequenceClassification.from_pretrained(export).eval()
    pair = {"text_pair": texts_of(trainer, "pair")} if task == "pair" else {}
    inputs = tokenizer(texts_of(trainer), **pair, padding=True, return_tensors="pt")
    with torch.no_grad():
        assert_same_logits(trainer, None, theirs(**inputs).logits)
    problem = {
        "pair": "single_label_classification",
        "regression": "regression",
        "multi_label": "multi_label_classification",
    }
    assert theirs.config.problem_type == problem[task]
    names = {
        "pair": {0: "animal", 1: "fruit"},
        "regression": {0: "LABEL_0"},
        "multi_label": {0: "animal", 1: "fruit", 2: "third"},
    }
    assert theirs.config.id2label == names[task]


def test_transformers_computes_the_same_tags(model, tmp_path):
    dice = random.Random(3)
    rows = []
    for _ in range(60):
        words = dice.choices([*FILLERS[:10], *ANIMALS, *FRUITS, "cats"], k=dice.randint(3, 9))
        kinds = ["B-A" if w[:3] in {a[:3] for a in ANIMALS} else "O" for w in words]
        tags = ["B-F" if w in FRUITS else kind for w, kind in zip(words, kinds, strict=True)]
        rows.append({"tokens": words, "tags": tags})
    train = write_jsonl(tmp_path / "t.jsonl", rows)
    trainer, export, tokenizer = exported(
        settings(model, train, tmp_path / "run", finetuning={"epochs": 8})
    )
    assert trainer.history.best is not None
    assert trainer.history.best.metrics["entity_f1"] > 0.8
    theirs = AutoModelForTokenClassification.from_pretrained(export).eval()
    assert theirs.config.id2label == {0: "B-A", 1: "B-F", 2: "O"}
    words = texts_of(trainer)
    inputs = tokenizer(words, is_split_into_words=True, padding=True, return_tensors="pt")
    with torch.no_grad():
        logits = theirs(**inputs).logits
    first = []
    for row in range(len(words)):
        ids = inputs.word_ids(row)
        first += [(row, i) for i, w in enumerate(ids) if w is not None and ids[i - 1] != w]
    assert_same_logits(trainer, None, torch.stack([logits[place] for place in first]))
    assert "## Tags" in (tmp_path / "run" / "report.md").read_text()


def test_a_finetuned_model_is_finetuned_further_with_its_head(asked, tmp_path):
    first, export, _ = exported(asked)
    further = asked.model_copy(
        update={
            "run": str(tmp_path / "further"),
            "model": asked.model.model_copy(update={"init_from": export}),
        }
    )
    second = trainer_of(further)
    assert torch.equal(second.model.head.linear.weight, first.model.head.linear.weight)
    fresh = trainer_of(changed(further, tmp_path / "fresh", fresh_head=True))
    assert not torch.equal(fresh.model.head.linear.weight, first.model.head.linear.weight)
    name = "backbone.embeddings.word.weight"
    assert torch.equal(fresh.model.get_parameter(name), first.model.get_parameter(name))
    assert json.loads((Path(export) / "config.json").read_text())["id2label"]["2"] == "stone"
