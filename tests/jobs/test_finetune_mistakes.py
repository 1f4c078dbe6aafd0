"""Refused at the door: one message, before a cluster or anything else starts."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from finetuning.cases import sentences, settings, write_csv, write_jsonl, write_model

from bert.bert import BertForSequenceClassification
from bert.config import BertConfig
from bert.hf import save_pretrained
from raybert.errors import UserError
from raybert.finetuning.driver import prepare

JOB = Path(__file__).parents[2] / "jobs" / "finetune.py"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def train(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_csv(tmp_path_factory.mktemp("data") / "t.csv", sentences(30))


def refused(model: Path, train: Path, folder: Path, message: str, **changes) -> None:
    with pytest.raises(UserError, match=message):
        prepare(settings(model, train, folder / "run", **changes))
    assert not (folder / "run").exists()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"label_column": "lable"}, r"no column 'lable' \(data.label_column\).*did you mean label"),
        ({"text_column": "txt"}, r"no column 'txt' \(data.text_column\).*did you mean text"),
        ({"text_column": "label"}, r"text|label"),
        ({"task": "tokens"}, r"has texts; data.task tokens needs lists of words"),
        ({"task": "regression"}, r"of 30 targets in column 'label' are no finite numbers.*row 1:"),
        ({"train": "nowhere.csv"}, r"data\.train: nowhere\.csv"),
        ({"max_length": 65}, r"data.max_length 65 is more than the 64 positions"),
        ({"validation_share": 0.001, "max_rows": 1}, r"one class only, '\w+'|leaves nothing"),
    ],
)
def test_data_settings(model, train, tmp_path, data, message):
    refused(model, train, tmp_path, message, data=data)


@pytest.mark.parametrize(
    ("finetuning", "message"),
    [
        ({"metric": "pearson"}, r"finetuning.metric pearson is none of the task classification"),
        ({"frozen_layers": 3}, r"finetuning.frozen_layers 3 is more than the 2 layers"),
    ],
)
def test_finetuning_settings(model, train, tmp_path, finetuning, message):
    refused(model, train, tmp_path, message, finetuning=finetuning)


def test_columns_that_could_be_several_have_to_be_named(model, tmp_path):
    rows = [{"headline": "a", "story": "b", "kind": str(i % 2)} for i in range(9)]
    train = write_csv(tmp_path / "t.csv", rows)
    refused(model, train, tmp_path, r"which column holds the labels is not clear; set --data.label")
    message = r"which column holds the texts is not clear.*'headline', 'story', 'kind'"
    refused(model, train, tmp_path, message, data={"label_column": "kind"})


def test_labels_that_look_like_free_text(model, tmp_path):
    train = write_csv(tmp_path / "t.csv", [{"text": "a", "label": f"b {i}"} for i in range(9)])
    refused(model, train, tmp_path, r"has 9 different values in 9 rows.*--data.task")


def test_labels_that_no_training_row_has(model, train, tmp_path):
    rows = [{"text": "the cat", "label": "beast"}, *sentences(5)]
    data = {"validation": str(write_csv(tmp_path / "v.csv", rows))}
    message = r"v\.csv has labels that no training row has: 'beast' \(1\); known are 'animal'"
    refused(model, train, tmp_path, message, data=data)


def test_a_validation_file_without_the_training_files_column(model, train, tmp_path):
    rows = [{"text": row["text"], "labels": row["label"]} for row in sentences(5)]
    data = {"validation": str(write_csv(tmp_path / "v.csv", rows))}
    refused(model, train, tmp_path, r"v\.csv: no column 'label'.*did you mean labels", data=data)


def test_one_class_only(model, tmp_path):
    train = write_csv(tmp_path / "t.csv", sentences(20, ("animal",)))
    refused(model, train, tmp_path, r"has one class only, 'animal'")


def test_rows_without_text_or_label(model, tmp_path):
    rows = [*sentences(20), {"text": "  ", "label": "fruit"}, {"text": "a fig", "label": ""}]
    train = write_csv(tmp_path / "t.csv", rows)
    message = (
        r"1 rows without a text \(the first is row 21\) and 1 rows without a label \(the first is "
        r"row 22\); --data.empty_texts skip"
    )
    refused(model, train, tmp_path, message)


def test_targets_that_are_not_numbers(model, tmp_path):
    rows = [{"text": "a cat", "label": value} for value in (0.5, 1.5, float("nan"), 2.5)]
    train = write_jsonl(tmp_path / "t.jsonl", rows)
    message = r"1 of 4 targets in column 'label' are no finite numbers, the first in row 3: nan"
    refused(model, train, tmp_path, message, data={"task": "regression"})


def test_words_and_tags_of_different_number(model, tmp_path):
    rows = [{"tokens": ["a", "cat"], "tags": ["O", "B-A"]}, {"tokens": ["a"], "tags": ["O", "O"]}]
    train = write_jsonl(tmp_path / "t.jsonl", rows)
    refused(model, train, tmp_path, r"row 2 has 1 words and 2 tags")


def finetuned(model: Path, folder: Path, labels: tuple[str, ...]) -> Path:
    """A model with a head for these labels."""
    write_model(folder)
    content = json.loads((model / "config.json").read_text())
    config = BertConfig.from_hf_dict(content).replace(num_labels=len(labels), label_names=labels)
    save_pretrained(BertForSequenceClassification(config), folder)
    return folder


def test_a_head_of_other_labels(model, train, tmp_path):
    two = finetuned(model, tmp_path / "two", ("good", "bad"))
    message = r"has a head of 2 labels \('good', 'bad'\), the data have 3 .*--finetuning.fresh_head"
    refused(two, train, tmp_path, message)
    other = finetuned(model, tmp_path / "other", ("good", "bad", "ugly"))
    refused(other, train, tmp_path, r"finetuned for the labels 'good', 'bad', 'ugly', the data hav")
    tags = write_jsonl(tmp_path / "t.jsonl", [{"tokens": ["a", "cat"], "tags": ["O", "B-A"]}] * 20)
    refused(two, tags, tmp_path, r"has a head for whole texts; set --finetuning.fresh_head")
    prepare(settings(two, train, tmp_path / "run", finetuning={"fresh_head": True}))


def test_a_head_that_goes_on_gives_the_order_of_labels(model, train, tmp_path):
    start = finetuned(model, tmp_path / "start", ("stone", "animal", "fruit"))
    prepared = prepare(settings(start, train, tmp_path / "run"))
    assert prepared.data.facts.label_names == ("stone", "animal", "fruit")


def test_a_folder_that_is_no_bert(model, train, tmp_path):
    write_model(tmp_path / "other")
    content = json.loads((model / "config.json").read_text()) | {"model_type": "roberta"}
    (tmp_path / "other" / "config.json").write_text(json.dumps(content))
    refused(tmp_path / "other", train, tmp_path, r"holds a model of type 'roberta'; only 'bert'")
    refused(tmp_path / "nothing", train, tmp_path, r"model.init_from .*nothing: does not exist")


def test_a_tokenizer_that_does_not_fit(model, train, tmp_path):
    start = write_model(tmp_path / "start")
    content = json.loads((start / "config.json").read_text()) | {"vocab_size": 20}
    (start / "config.json").write_text(json.dumps(content))
    refused(start, train, tmp_path, r"its tokenizer has 32 tokens, the model embeddings for 20")
    for name in ("tokenizer.json", "vocab.txt"):
        (start / name).unlink()
    refused(start, train, tmp_path, r"has neither tokenizer.json nor vocab.txt")


def test_more_workers_than_micro_shards(model, train, tmp_path):
    asked = settings(model, train, tmp_path / "run", finetuning={"micro_shards": 2})
    cluster = asked.cluster.model_copy(update={"num_workers": 3})
    with pytest.raises(UserError, match=r"cluster.num_workers 3 is more than the 2 micro-shards"):
        prepare(asked.model_copy(update={"cluster": cluster}))


def test_a_run_folder_of_other_things_or_of_several_seeds(model, train, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("")
    with pytest.raises(UserError, match=r"holds other things \(thesis.tex\)"):
        prepare(settings(model, train, tmp_path / "run"))
    several = tmp_path / "several"
    (several / "seed-42").mkdir(parents=True)
    (several / "launches.jsonl").write_text("")
    with pytest.raises(UserError, match=r"holds runs with several seeds"):
        prepare(settings(model, train, several))


def test_prepared_data_do_not_bar_the_first_launch(model, train, tmp_path):
    asked = settings(model, train, tmp_path / "run")
    prepare(asked)
    assert prepare(asked).steps == 11


def test_the_job_says_it_in_one_line_and_exits_with_2(model, train, tmp_path):
    done = subprocess.run(
        [
            *(sys.executable, str(JOB), "--model.init_from", str(model)),
            *("--data.train", str(train), "--data.label_column", "lable"),
            *("--run", str(tmp_path / "run"), "--data.max_length", "32"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert "did you mean label?" in line
