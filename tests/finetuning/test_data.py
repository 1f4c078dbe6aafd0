"""What is read, guessed, counted, split and cached."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from finetuning.cases import ANIMALS, sentences, settings, write_csv, write_jsonl

from raybert.errors import UserError
from raybert.finetuning import data as data_module
from raybert.finetuning.data import TokenizedData, prepare_data
from raybert.finetuning.rows import TrainingOrder


def test_columns_and_task_are_guessed_and_said(model, tmp_path):
    rows = [{"id": str(i), **row} for i, row in enumerate(sentences(60))]
    data = prepare_data(settings(model, write_csv(tmp_path / "t.csv", rows), tmp_path / "run"))
    facts = data.facts
    assert (facts.task, facts.label_names) == ("classification", ("animal", "fruit", "stone"))
    assert facts.columns == {"text": "text", "label": "label"}
    said = "\n".join(facts.lines())
    assert "classification (guessed)" in said
    assert "label 'label' (guessed)" in said
    assert facts.splits["train"].label_counts == {"animal": 18, "fruit": 18, "stone": 18}
    assert facts.splits["validation"].label_counts == {"animal": 2, "fruit": 2, "stone": 2}


def test_the_same_data_are_tokenized_once(model, tmp_path, monkeypatch):
    train = write_csv(tmp_path / "t.csv", sentences(30))
    asked = settings(model, train, tmp_path / "run", data={"cache": str(tmp_path / "cache")})
    first = prepare_data(asked)
    monkeypatch.setattr(data_module, "_write", lambda *_: pytest.fail("tokenized again"))
    again = prepare_data(asked.model_copy(update={"run": str(tmp_path / "other")}))
    assert again == first == TokenizedData.open(str(tmp_path / "cache" / first.fingerprint))
    monkeypatch.undo()
    write_csv(train, sentences(31))
    assert prepare_data(asked).fingerprint != first.fingerprint


def test_damaged_data_are_tokenized_again(model, tmp_path):
    asked = settings(model, write_csv(tmp_path / "t.csv", sentences(30)), tmp_path / "run")
    first = prepare_data(asked)
    file = first.location.local_path / "train.arrow"
    file.write_bytes(file.read_bytes()[:-8])
    assert len(prepare_data(asked).rows("train")) == 27


def test_formats_agree(model, tmp_path):
    rows = sentences(24)
    files = [write_csv(tmp_path / "t.csv", rows), write_jsonl(tmp_path / "t.jsonl", rows)]
    files.append(tmp_path / "t.parquet")
    pq.write_table(pa.Table.from_pylist(rows), files[-1])
    found = [prepare_data(settings(model, file, tmp_path / "run")).rows("train") for file in files]
    for other in found[1:]:
        assert other.column("ids").equals(found[0].column("ids"))
        assert np.array_equal(other.targets(), found[0].targets())


def test_labels_as_numbers_are_the_labels_as_text(model, tmp_path):
    rows = [{"text": row["text"], "label": i % 3 + 8} for i, row in enumerate(sentences(30))]
    csv = prepare_data(settings(model, write_csv(tmp_path / "t.csv", rows), tmp_path / "run"))
    jsonl = prepare_data(settings(model, write_jsonl(tmp_path / "t.jsonl", rows), tmp_path / "run"))
    assert csv.facts.label_names == jsonl.facts.label_names == ("8", "9", "10")


def test_a_pair_gets_two_segments(model, tmp_path):
    rows = [
        {"premise": "the cat", "hypothesis": "a dog", "label": "yes"},
        {"premise": "the plum", "hypothesis": "a dog", "label": "no"},
    ] * 10
    data = prepare_data(settings(model, write_csv(tmp_path / "t.csv", rows), tmp_path / "run"))
    assert data.facts.columns == {"text": "premise", "pair": "hypothesis", "label": "label"}
    batch = data.rows("train").batch(np.array([0]))
    assert batch.token_type_ids.tolist() == [0, 0, 0, 0, 1, 1, 1]


def test_a_split_is_a_function_of_its_seed(model, tmp_path):
    train = write_csv(tmp_path / "t.csv", sentences(90))

    def held_out(seed: int) -> list[int]:
        asked = settings(model, train, tmp_path / "run", data={"split_seed": seed})
        return prepare_data(asked).rows("validation").column("row").to_pylist()

    assert held_out(1) == held_out(1) != held_out(2)
    assert len(held_out(1)) == 9


def test_rows_are_limited_and_incomplete_ones_left_out(model, tmp_path):
    rows = [*sentences(30), {"text": " ", "label": "fruit"}, {"text": "a fig", "label": ""}]
    train = write_csv(tmp_path / "t.csv", rows)
    data = {"empty_texts": "skip", "max_rows": 20}
    found = prepare_data(settings(model, train, tmp_path / "run", data=data)).facts.splits
    assert found["train"].num_rows + found["validation"].num_rows == 20
    assert found["train"].num_left_out == 2


def test_several_labels_in_one_text_in_lists_and_in_columns_of_0_and_1(model, tmp_path):
    names = [["a"], ["a", "b"], [], ["b"]] * 10
    texts = [row["text"] for row in sentences(40)]
    listed = [{"text": t, "label": n} for t, n in zip(texts, names, strict=True)]
    joined = [{"text": t, "label": ";".join(n) or ";"} for t, n in zip(texts, names, strict=True)]
    flags = [
        {"text": t, "a": int("a" in n), "b": int("b" in n)}
        for t, n in zip(texts, names, strict=True)
    ]
    found = [
        prepare_data(settings(model, file, tmp_path / "run", data=data))
        for file, data in (
            (write_jsonl(tmp_path / "l.jsonl", listed), {}),
            (write_csv(tmp_path / "j.csv", joined), {"task": "multi_label"}),
            (write_csv(tmp_path / "f.csv", flags), {"label_columns": ("a", "b")}),
        )
    ]
    for data in found:
        assert (data.facts.task, data.facts.label_names) == ("multi_label", ("a", "b"))
        assert np.array_equal(data.rows("train").targets(), found[0].rows("train").targets())


def test_what_is_unusual_is_noted(model, tmp_path):
    rows = [*sentences(60, ("animal",)), *sentences(3, ("fruit",))]
    asked = settings(model, write_csv(tmp_path / "t.csv", rows), tmp_path / "run")
    (note,) = prepare_data(asked).facts.notes
    assert "'animal' is 27 times as frequent as 'fruit'" in note
    targets = [{"text": f"the {ANIMALS[i % 5]}", "label": f"{i * 7.5}"} for i in range(40)]
    asked = settings(model, write_csv(tmp_path / "r.csv", targets), tmp_path / "run")
    facts = prepare_data(asked).facts
    assert facts.task == "regression"
    assert "targets have mean" in facts.notes[0]


def test_texts_of_training_rows_are_counted_in_the_other_parts(model, tmp_path):
    train = write_csv(tmp_path / "t.csv", sentences(30))
    test = write_csv(
        tmp_path / "x.csv", [*sentences(30)[:4], {"text": "cat cat", "label": "animal"}]
    )
    validation = write_csv(tmp_path / "v.csv", [{"text": "a fig fig fig", "label": "fruit"}] * 2)
    data = {"test": str(test), "validation": str(validation)}
    found = prepare_data(settings(model, train, tmp_path / "run", data=data)).facts.splits
    assert [found[split].num_seen for split in ("train", "validation", "test")] == [0, 0, 4]


def test_conll(model, tmp_path):
    text = "-DOCSTART- -X- O O\n\nthe DT B-NP O\ncat NN I-NP B-A\n\n\nfig NN B-NP B-F\n" * 10
    (tmp_path / "t.conll").write_text(text)
    data = prepare_data(settings(model, tmp_path / "t.conll", tmp_path / "run"))
    assert (data.facts.task, data.facts.label_names) == ("tokens", ("B-A", "B-F", "O"))
    assert data.facts.splits["train"].num_rows == 18
    (tmp_path / "b.conll").write_text("the O\ncat\n")
    with pytest.raises(UserError, match=r"b\.conll line 2: 'cat' has a word and no tag"):
        prepare_data(settings(model, tmp_path / "b.conll", tmp_path / "run"))


def test_every_epoch_takes_every_row_once_in_its_own_order(model, tmp_path):
    data = prepare_data(
        settings(model, write_csv(tmp_path / "t.csv", sentences(30)), tmp_path / "run")
    )
    order = TrainingOrder(data.rows("train"), seed=5)
    epochs = [order.places(27 * epoch, 27).tolist() for epoch in range(2)]
    assert [sorted(epoch) for epoch in epochs] == [list(range(27))] * 2
    assert epochs[0] != epochs[1]
    assert order.places(20, 14).tolist() == [*epochs[0][20:], *epochs[1][:7]]
    shards = order.micro_shards(20, 14, 4, range(4))
    assert sum(batch.num_sequences for batch in shards) == 14
    assert order.micro_shards(20, 14, 4, range(2, 3))[0].input_ids.equal(shards[2].input_ids)
