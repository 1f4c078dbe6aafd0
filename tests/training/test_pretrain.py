"""The trainer alone, in plain Python."""

import math

import pytest
import torch
from tiny_tokens import write_tokens

from bert.bert import BertForPreTraining
from bert.hf import load_pretrained
from raybert.errors import UserError
from raybert.samples import PretrainingSamples
from raybert.settings import ModelSettings, PretrainingSettings, SampleSettings, Settings
from raybert.storage import Location
from raybert.tokens import TokenStore
from raybert.training.checkpoints import CheckpointStore
from raybert.training.lease import Lease, LeaseHeld
from raybert.training.pretrain import Trainer
from raybert.training.stopping import StopRequest

SETTINGS = Settings(
    model=ModelSettings(
        size="tiny", num_hidden_layers=1, hidden_size=32, max_position_embeddings=64
    ),
    samples=SampleSettings(max_length=32),
    pretraining=PretrainingSettings(
        precision="fp32",  # Runs of the same bits: `auto` would measure for each of them.
        steps=6,
        batch_size=8,
        micro_shards=2,
        checkpoint_every=4,
        evaluate_every=3,
        log_every=2,
        evaluation_samples=16,
    ),
)


class Heard:
    """A tracker that remembers."""

    def __init__(self) -> None:
        self.resumed: list[int] = []
        self.rows: dict[int, dict[str, float]] = {}

    def resume(self, step: int) -> None:
        self.resumed.append(step)

    def log(self, step, scalars) -> None:
        self.rows[step] = dict(scalars)

    def flush(self) -> None: ...


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> PretrainingSamples:
    tokens = write_tokens(Location.parse(tmp_path_factory.mktemp("corpus") / "tokens"))
    return PretrainingSamples(TokenStore.open(tokens), SETTINGS.samples, 42)


def trainer(samples, run, tracker=None, **changes) -> Trainer:
    pretraining = SETTINGS.pretraining.model_copy(update=changes)
    settings = SETTINGS.model_copy(update={"pretraining": pretraining})
    return Trainer(settings, samples, str(run), tracker, device=torch.device("cpu"))


def test_what_is_due_is_logged_evaluated_and_saved(samples, tmp_path):
    heard = Heard()
    outcome = trainer(samples, tmp_path, heard).train()
    assert (outcome.step, outcome.first_step, outcome.stopped) == (6, 0, None)
    assert heard.resumed == [0]
    assert [s for s, row in heard.rows.items() if "train/loss" in row] == [2, 4, 6]
    assert [s for s, row in heard.rows.items() if "eval/loss" in row] == [3, 6]
    assert CheckpointStore(Location.parse(tmp_path)).steps() == [4, 6]
    last = heard.rows[6]
    assert last["eval/perplexity"] == pytest.approx(math.exp(last["eval/mlm_loss"]))
    assert last["throughput/tokens_per_sec"] > 0
    assert 0 <= last["time/data_wait_fraction"] <= 1
    assert last["throughput/mfu"] > 0


def test_a_deadline_commits_the_step_it_stops_after(samples, tmp_path):
    outcome = trainer(samples, tmp_path, max_hours=0.5).train(deadline=0)
    assert (outcome.step, outcome.stopped) == (1, "max_hours 0.5")
    assert CheckpointStore(Location.parse(tmp_path)).steps() == [1]


def test_a_wish_to_stop_is_granted_and_the_run_goes_on_from_there(samples, tmp_path):
    stop = StopRequest()
    stop.ask("a test")
    assert trainer(samples, tmp_path / "run").train(stop).step == 1
    heard = Heard()
    outcome = trainer(samples, tmp_path / "run", heard).train()
    assert (heard.resumed, outcome.first_step, outcome.step) == ([1], 1, 6)
    whole = trainer(samples, tmp_path / "whole")
    whole.train()
    for name in ("model.safetensors", "optimizer.safetensors"):
        stopped, uninterrupted = (
            (tmp_path / run / "checkpoints" / "step-00000006" / name).read_bytes()
            for run in ("run", "whole")
        )
        assert stopped == uninterrupted


def test_a_finished_run_is_only_evaluated_again(samples, tmp_path):
    first = trainer(samples, tmp_path).train()
    again = trainer(samples, tmp_path).train()
    assert (again.first_step, again.step) == (6, 6)
    assert again.scalars["eval/loss"] == first.scalars["eval/loss"]
    with pytest.raises(UserError, match=r"has taken 6 steps, more than pretraining\.steps 5"):
        trainer(samples, tmp_path, steps=5)


def test_a_second_writer_is_refused(samples, tmp_path):
    late = trainer(samples, tmp_path)
    with Lease(Location.parse(tmp_path)), pytest.raises(LeaseHeld):
        late.train()


def test_the_model_of_another_run_or_export_is_gone_on_with(samples, tmp_path):
    first = trainer(samples, tmp_path / "first")
    first.train()
    first.export()
    for start in ("first", "first/export"):
        model = SETTINGS.model.model_copy(update={"init_from": str(tmp_path / start)})
        settings = SETTINGS.model_copy(update={"model": model})
        second = Trainer(settings, samples, str(tmp_path / f"after-{start[-5:]}"))
        for ours, theirs in zip(second.model.parameters(), first.model.parameters(), strict=True):
            assert torch.equal(ours, theirs)


def test_the_export_holds_the_trained_model(samples, tmp_path):
    first = trainer(samples, tmp_path)
    first.train()
    model, report = load_pretrained(first.export().local_path, BertForPreTraining)
    assert (report.fresh, report.unused) == ((), ())
    for exported, trained in zip(model.parameters(), first.model.parameters(), strict=True):
        assert torch.equal(exported, trained)
    assert "eval/perplexity" in (tmp_path / "export" / "README.md").read_text()
