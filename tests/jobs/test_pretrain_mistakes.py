"""Refused at the door: one message, before a cluster or anything else starts."""

import subprocess
import sys
from pathlib import Path

import pytest
from tiny_tokens import write_tokens

from bert.bert import BertForPreTraining
from bert.config import BertConfig
from bert.hf import save_pretrained
from raybert.errors import UserError
from raybert.settings import ModelSettings, PretrainingSettings, SampleSettings, Settings
from raybert.storage import Location
from raybert.tokens import TokenStore
from raybert.training.driver import prepare
from raybert.training.run_identity import record, settle

SETTINGS = Settings(
    model=ModelSettings(size="tiny", max_position_embeddings=64),
    samples=SampleSettings(max_length=32),
    pretraining=PretrainingSettings(steps=12, batch_size=16, micro_shards=4),
)


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Location:
    return write_tokens(Location.parse(tmp_path_factory.mktemp("corpus") / "tokens"))


def asked(tokens: Location, run: Path, **changes) -> Settings:
    return SETTINGS.model_copy(update={"tokens": tokens.address, "run": str(run), **changes})


def with_model(**changes) -> dict[str, object]:
    return {"model": SETTINGS.model.model_copy(update=changes)}


def test_folders_have_to_be_named(tokens, tmp_path):
    with pytest.raises(UserError, match="--tokens is missing"):
        prepare(SETTINGS)
    with pytest.raises(UserError, match="--run is missing"):
        prepare(SETTINGS.model_copy(update={"tokens": tokens.address}))


def test_a_folder_without_tokens_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"no manifest\.json"):
        prepare(asked(Location.parse(tmp_path), tmp_path / "run"))


def test_a_file_given_as_run_folder_is_refused(tokens, tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(UserError, match="is a file"):
        prepare(asked(tokens, tmp_path / "run"))


def test_a_folder_of_other_things_is_refused(tokens, tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(UserError, match=r"holds other things \(thesis.tex\)"):
        prepare(asked(tokens, tmp_path))


def test_a_run_of_other_settings_is_refused_with_a_diff(tokens, tmp_path):
    run, manifest = tmp_path / "run", TokenStore.open(tokens).manifest
    first = asked(tokens, run)
    record(settle(first, Location.parse(run), manifest), Location.parse(run), manifest)
    other = SETTINGS.pretraining.model_copy(update={"learning_rate": 1e-3})
    with pytest.raises(UserError, match=r"pretraining\.learning_rate: 0\.0005 -> 0\.001"):
        prepare(asked(tokens, run, pretraining=other))


def test_a_run_of_other_tokens_is_refused(tokens, tmp_path):
    run, manifest = tmp_path / "run", TokenStore.open(tokens).manifest
    first = asked(tokens, run)
    record(settle(first, Location.parse(run), manifest), Location.parse(run), manifest)
    others = write_tokens(Location.parse(tmp_path / "others"), num_documents=50)
    with pytest.raises(UserError, match=r"tokens: [0-9a-f]{32} -> [0-9a-f]{32}"):
        prepare(asked(others, run))


def test_what_is_only_carried_out_otherwise_goes_on(tokens, tmp_path):
    """More steps, other intervals: and the warm-up stays as the first launch settled it."""
    run, manifest = tmp_path / "run", TokenStore.open(tokens).manifest
    first = settle(asked(tokens, run), Location.parse(run), manifest)
    record(first, Location.parse(run), manifest)
    longer = SETTINGS.pretraining.model_copy(update={"steps": 1200, "log_every": 1})
    prepared = prepare(asked(tokens, run, pretraining=longer))
    assert prepared.settings.pretraining.steps == 1200
    assert prepared.settings.pretraining.warmup_steps == first.pretraining.warmup_steps == 1


def test_fewer_steps_than_taken_are_refused(tokens, tmp_path):
    run = tmp_path / "run"
    (run / "checkpoints" / "step-00000020").mkdir(parents=True)
    (run / "checkpoints" / "step-00000020" / "manifest.json").write_text('{"files": {}}')
    (run / "launches.jsonl").write_text("")
    with pytest.raises(UserError, match=r"step 20, beyond pretraining\.steps 12"):
        prepare(asked(tokens, run))


def test_sizes_that_do_not_fit_are_refused(tokens, tmp_path):
    with pytest.raises(UserError, match="multiple of"):
        prepare(
            asked(tokens, tmp_path / "run", **with_model(hidden_size=30, num_attention_heads=4))
        )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: None, "does not exist"),
        (lambda folder: folder.mkdir(), "neither config.json nor checkpoints/"),
        (lambda folder: (folder / "checkpoints").mkdir(parents=True), "no checkpoint yet"),
    ],
)
def test_a_start_that_holds_no_model_is_refused(tokens, tmp_path, make, message):
    make(tmp_path / "start")
    changes = with_model(init_from=str(tmp_path / "start"))
    with pytest.raises(UserError, match=message):
        prepare(asked(tokens, tmp_path / "run", **changes))


def test_a_start_with_another_vocabulary_is_refused(tokens, tmp_path):
    config = BertConfig.named("tiny", vocab_size=77, max_position_embeddings=64)
    save_pretrained(BertForPreTraining(config), tmp_path / "start")
    changes = with_model(init_from=str(tmp_path / "start"))
    with pytest.raises(UserError, match=r"vocabulary of 77 and no tokenizer file.* one of 125"):
        prepare(asked(tokens, tmp_path / "run", **changes))


def test_a_start_with_another_tokenizer_is_refused(tokens, tmp_path):
    config = BertConfig.named("tiny", vocab_size=125, max_position_embeddings=64)
    save_pretrained(BertForPreTraining(config), tmp_path / "start")
    other = write_tokens(Location.parse(tmp_path / "other"), num_words=90)
    content = (other / "tokenizer.json").read_bytes()
    (tmp_path / "start" / "tokenizer.json").write_bytes(content)
    changes = with_model(init_from=str(tmp_path / "start"))
    with pytest.raises(UserError, match=r"were not made with the tokenizer of.*--tokenizer\.path"):
        prepare(asked(tokens, tmp_path / "run", **changes))


def test_a_start_with_too_few_positions_is_refused(tokens, tmp_path):
    config = BertConfig.named("tiny", vocab_size=125, max_position_embeddings=16)
    save_pretrained(BertForPreTraining(config), tmp_path / "start")
    changes = with_model(init_from=str(tmp_path / "start"))
    with pytest.raises(UserError, match=r"samples\.max_length 32 is more than the 16 positions"):
        prepare(asked(tokens, tmp_path / "run", **changes))


def test_the_job_ends_with_2_and_one_message(tokens, tmp_path):
    job = Path(__file__).parents[2] / "jobs" / "pretrain.py"
    done = subprocess.run(
        [sys.executable, job, "--run", tmp_path / "run", "--tokens", tmp_path / "none"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "run").exists()
