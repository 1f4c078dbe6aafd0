"""Bulk prediction in one process: rows in their order, parts that stay, mistakes at the door."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from folders import content
from tiny_models import WORDS

from raybert import inference
from raybert.errors import UserError
from raybert.inference.bulk import BulkPrediction, in_process, prepare
from raybert.inference.jobs import predict_job
from raybert.inference.parts import Entry, PartMaker, Task
from raybert.settings.command_line import parse, run_job

SECTIONS = ("output", "model", "input", "prediction", "cluster")
REQUIRED = ("model.path", "input.paths", "output")


def prepared(*arguments: object) -> BulkPrediction:
    given = [str(argument) for argument in arguments]
    settings = parse(given, description="", sections=SECTIONS, required=REQUIRED)
    assert settings is not None
    return prepare(settings)


def replaced(line: list[object], paths: Path | str) -> list[object]:
    """The line with other input paths, which would add up."""
    at = line.index("--input.paths")
    return [*line[: at + 1], paths, *line[at + 2 :]]


@pytest.fixture
def line(tmp_path: Path, classifier: Path, texts: list[str]) -> list[object]:
    """Two files of rows with other columns: 60 rows in parts of at most 7."""
    table = pa.table({"id": [f"{i:03d}" for i in range(60)], "text": texts, "n": range(60)})
    pq.write_table(table.slice(0, 45), tmp_path / "a.parquet")
    lines = (json.dumps(row) + "\n" for row in table.slice(45).to_pylist())
    (tmp_path / "b.jsonl").write_text("".join(lines))
    return [
        *("--model.path", classifier, "--input.paths", tmp_path / "[ab].*"),
        *("--output", tmp_path / "out", "--input.rows_per_part", 7),
    ]


def test_rows_keep_their_order_and_columns(
    tmp_path: Path, line: list[object], classifier: Path, texts: list[str]
):
    entries = prepared(*line).run(in_process)
    found = pq.read_table(tmp_path / "out")
    assert found.column_names == ["id", "text", "n", "prediction", "probability", "probabilities"]
    assert found["id"].to_pylist() == [f"{i:03d}" for i in range(60)]
    assert found["n"].to_pylist() == list(range(60))
    rows = inference.load(classifier, "cpu").predict(texts)
    assert found["prediction"].to_pylist() == [row["prediction"] for row in rows]
    np.testing.assert_allclose(found["probability"], [row["probability"] for row in rows], 1e-4)
    assert [entry.name for entry in entries][6:8] == ["part-00000-00006", "part-00001-00000"]
    assert sum(entry.texts_cut for entry in entries) == sum(len(t.split()) > 30 for t in texts)
    manifest = json.loads((tmp_path / "out/_raybert/manifest.json").read_text())
    assert (manifest["rows"], len(manifest["parts"])) == (60, len(entries))


def test_what_is_finished_stays_and_the_bytes_are_the_same(tmp_path: Path, line: list[object]):
    prepared(*line).run(in_process)
    whole = content(tmp_path / "out")
    assert prepared(*line).is_finished

    def killed(maker: PartMaker, tasks: Sequence[Task]) -> Iterator[Entry]:
        yield from in_process(maker, tasks[:3])
        raise KeyboardInterrupt

    again = [*line, "--output", tmp_path / "again"]
    with pytest.raises(KeyboardInterrupt):
        prepared(*again).run(killed)
    assert not (tmp_path / "again/_raybert/manifest.json").exists()
    (tmp_path / "again/part-00000-00001.parquet").write_bytes(b"cut off")
    work = prepared(*again)
    assert [entry.name[-1] for entry in work.done] == ["0", "2"]
    work.run(in_process)
    assert content(tmp_path / "again") == whole


@pytest.mark.parametrize("options", [("--prediction.float16", "true"), ()])
def test_embeddings(
    tmp_path: Path,
    line: list[object],
    model_folder: Callable[..., Path],
    texts: list[str],
    options: tuple[str, ...],
):
    folder = model_folder("BertModel")
    kind = ("--prediction.kind", "embeddings", "--prediction.normalize", "true", *options)
    line = [*line, "--model.path", folder, *kind, "--input.keep_columns", "n", "id"]
    prepared(*line).run(in_process)
    found = pq.read_table(tmp_path / "out")
    assert found.column_names == ["n", "id", "embedding"]
    kind = pa.float16() if options else pa.float32()
    assert found.schema.field("embedding").type == pa.list_(kind, 32)
    vectors = np.array(found["embedding"].to_pylist(), dtype=np.float32)
    expected = inference.load(folder, "cpu").embed(texts, normalize=True)
    np.testing.assert_allclose(vectors, expected, atol=1e-3 if options else 1e-5)


def test_rows_without_text_are_counted_or_skipped(
    tmp_path: Path, line: list[object], model_folder: Callable[..., Path]
):
    rows = f"text,more\n{WORDS[0]},1\n,2\n  ,3\n{WORDS[1]} [MASK],4\n"
    (tmp_path / "holes.csv").write_text(rows)
    line = replaced(line, tmp_path / "holes.csv")
    message = "2 of 4 rows are without text: .*holes.csv, row 2; .*row 3. input.on_empty skip"
    with pytest.raises(UserError, match=message):
        prepared(*line)
    assert not (tmp_path / "out").exists()
    prepared(*line, "--input.on_empty", "skip").run(in_process)
    found = pq.read_table(tmp_path / "out").to_pylist()
    assert [row["more"] for row in found] == ["1", "2", "3", "4"]
    assert [row["prediction"] is None for row in found] == [False, True, True, False]

    mask = ["--model.path", model_folder("BertForPreTraining"), "--prediction.kind", "fill_mask"]
    line = [*line, *mask, "--output", tmp_path / "words"]
    with pytest.raises(UserError, match=r"3 of 4 rows are without exactly one \[MASK\]"):
        prepared(*line)
    prepared(*line, "--input.on_empty", "skip").run(in_process)
    words = pq.read_table(tmp_path / "words")["prediction"].to_pylist()
    assert words[:3] == [None] * 3
    assert len(words[3]) == 5


def test_mistakes_are_told_before_a_cluster_starts(
    tmp_path: Path,
    line: list[object],
    classifier: Path,
    model_folder: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    def no_cluster(*_: object, **__: object) -> None:
        raise AssertionError("a cluster was started")

    monkeypatch.setattr("raybert.inference.jobs.start", no_cluster)
    (tmp_path / "empty.csv").write_text("text\n")
    (tmp_path / "labelled.csv").write_text("text,prediction\nx,y\n")
    (tmp_path / "other").mkdir()
    (tmp_path / "other/config.json").write_text('{"model_type": "distilbert"}')
    (tmp_path / "full").mkdir()
    (tmp_path / "full/diary.txt").write_text("x")
    cases: list[tuple[list[object], str]] = [
        (["--input.text_column", "txt"], "no column 'txt' (input.text_column)"),
        (["--input.text_column", "n"], "column 'n' is int64, not text"),
        (["--input.pair_column", "tex"], "did you mean text?"),
        (["--input.keep_columns", "idd"], "(input.keep_columns)"),
        (["--input.paths", tmp_path / "no*.csv"], "no*.csv matches no file"),
        (["--input.paths", tmp_path / "no.csv"], "no.csv does not exist"),
        (["--input.paths", tmp_path / "empty.csv"], "empty.csv hold no row"),
        (["--input.paths", tmp_path / "labelled.csv"], "a column 'prediction' already"),
        (["--model.path", tmp_path / "gone"], "gone: does not exist"),
        (["--model.path", tmp_path / "full"], "neither config.json nor export/"),
        (["--model.path", tmp_path / "other"], "a model of type 'distilbert'"),
        (["--model.path", model_folder("BertModel")], "needs a classification head"),
        (["--prediction.kind", "fill_mask"], "the masked-language head"),
        (["--prediction.kind", "topics"], "allowed: labels, embeddings or fill_mask"),
        (["--prediction.max_length", 64], "more than the 32 positions"),
        (["--model.size", "base"], "model.path alone"),
        (["--cluster.num_workers", 2], "set prediction.workers"),
        (["--output", tmp_path / "full"], "holds something else"),
        (["--output", tmp_path / "full/diary.txt"], "is a file; a folder is needed"),
    ]
    for arguments, message in cases:
        if arguments[0] == "--input.paths":
            given = replaced(line, str(arguments[1]))
        else:
            given = [*line, *arguments]
        assert message in mistake(capsys, *given), arguments
    assert not (tmp_path / "out").exists()

    prepared(*line).run(in_process)
    found = mistake(capsys, *line, "--prediction.threshold", 0.6)
    assert "prediction.threshold: 0.5 -> 0.6" in found
    with (tmp_path / "b.jsonl").open("a") as file:
        file.write('{"text": "j9"}\n')
    assert "b.jsonl: has changed" in mistake(capsys, *line)


def mistake(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit) as exit_info:
        run_job(
            predict_job,
            description="",
            sections=SECTIONS,
            required=REQUIRED,
            arguments=[str(argument) for argument in arguments],
        )
    assert exit_info.value.code == 2
    return capsys.readouterr().err
