"""The report of a run in Markdown: data, settings, curve, classes, confusion, worst mistakes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import torch

from raybert.finetuning.evaluation import Predictions
from raybert.finetuning.facts import Facts
from raybert.finetuning.history import History
from raybert.finetuning.metrics import are_chunks, tag_rows
from raybert.finetuning.pictures import confusion
from raybert.finetuning.statistics import Interval
from raybert.settings import Settings
from raybert.settings.identity import identity_of

_MISTAKES = 20
_MOST_CLASSES = 30
_MOST_LABELS_SHOWN = 50
_LONGEST_TEXT = 240


def run_report(
    name: str,
    settings: Settings,
    facts: Facts,
    history: History,
    validation: Predictions,
    test: Predictions | None,
    interval: Interval,
) -> str:
    """The whole report.

    Args:
        validation, test: of the best version.
        interval: of the chosen metric on the validation rows.
    """
    assert history.best is not None  # the best version was predicted with
    best, metric = history.best, history.metric
    value = validation.metrics[metric]
    parts = [
        f"# {name}",
        f"{_sentence(facts)} The best version is that of step {best.step:,}, chosen by {metric} on "
        f"the validation rows: **{value:.4f}** (95 % of resampled rows give {interval}).",
        "## Results",
        _metrics(validation, test),
        "The validation rows chose the version, so its figure there is a little too good; rows "
        "that chose nothing (`data.test`) give a fair one.",
        "## Data",
        _data(facts),
        "## Settings",
        table(("setting", "value"), _settings(settings)),
        "## Curve",
        _curve(history),
    ]
    if history.ended_early:
        parts.append(f"Ended early: {history.ended_early}.")
    parts += _by_task(validation)
    return "\n\n".join(parts) + "\n"


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(_cell(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return "not defined" if math.isnan(value) else f"{value:.4f}"
    text = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
    return " ".join(text.split()).replace("|", "\\|")


def _sentence(facts: Facts) -> str:
    what = {
        "classification": f"One of {len(facts.label_names)} labels for each text.",
        "multi_label": f"Any of {len(facts.label_names)} labels for each text.",
        "regression": "A number for each text.",
        "tokens": f"One of {len(facts.label_names)} tags for each word.",
    }[facts.task]
    return what.replace("text.", "pair of texts.") if "pair" in facts.columns else what


def _metrics(validation: Predictions, test: Predictions | None) -> str:
    if test is None:
        return table(("metric", "validation"), validation.metrics.items())
    rows = [(name, v, test.metrics[name]) for name, v in validation.metrics.items()]
    return table(("metric", "validation", "test"), rows)


def _data(facts: Facts) -> str:
    rows = [
        (
            name, split.source, split.num_rows, split.num_tokens, split.num_cut,
            split.num_left_out, split.num_seen,
        )
        for name, split in facts.splits.items()
    ]  # fmt: skip
    head = (
        "part", "from", "rows", "tokens", f"cut to {facts.max_length}", "left out",
        "texts of training rows",
    )  # fmt: skip
    parts = [table(head, rows)]
    if facts.label_names:
        shown = facts.label_names[:_MOST_LABELS_SHOWN]
        labels = [
            (label, *(split.label_counts.get(label, 0) for split in facts.splits.values()))
            for label in shown
        ]
        parts.append(table(("label", *facts.splits), labels))
        if len(shown) < len(facts.label_names):
            parts.append(f"… and {len(facts.label_names) - len(shown)} more labels.")
    parts += [f"- {note}" for note in facts.notes]
    return "\n\n".join(parts)


def _settings(settings: Settings) -> list[tuple[str, object]]:
    model = settings.model
    rows: list[tuple[str, object]] = [
        ("model.init_from", model.init_from),
        ("model.hidden_dropout", model.hidden_dropout),
        ("model.attention_dropout", model.attention_dropout),
        ("finetuning.epochs", f"{settings.finetuning.epochs:g}"),
    ]
    identity = identity_of(settings.finetuning)
    rows += [(f"finetuning.{name}", str(value)) for name, value in identity.items()]
    return rows


def _curve(history: History) -> str:
    if not history.evaluations:
        return "No evaluation."
    names = list(history.evaluations[0].metrics)
    best = history.best.step if history.best else -1
    rows = [
        (f"{e.step:,}{' (best)' if e.step == best else ''}", *(e.metrics[name] for name in names))
        for e in history.evaluations
    ]
    return table(("step", *names), rows)


def _by_task(predictions: Predictions) -> list[str]:
    task = predictions.facts.task
    parts: list[str] = []
    if task in ("classification", "multi_label"):
        parts += ["## Labels", table(("label", *_SCORES), _label_scores(predictions))]
    if task == "classification":
        parts += ["## Confusion matrix", _confusion(predictions)]
    if task == "tokens":
        parts += ["## Tags", _tag_scores(predictions)]
    heading = "Twenty worst mistakes" if task != "regression" else "Twenty largest errors"
    return [*parts, f"## {heading}", _mistakes(predictions)]


_SCORES = ("precision", "recall", "F1", "rows")


def scores(right: float, guessed: float, there: float) -> tuple[float, float, float, int]:
    """Precision, recall, F1 and rows of a label, 0 where there is nothing to divide by."""
    precision = right / guessed if guessed else 0.0
    recall = right / there if there else 0.0
    both = precision + recall
    return precision, recall, 2 * precision * recall / both if both else 0.0, int(there)


def _label_scores(predictions: Predictions) -> list[tuple[object, ...]]:
    if predictions.facts.task == "multi_label":
        targets, guesses = predictions.targets, predictions.predicted
        right = (targets * guesses).sum(dim=0).tolist()
        guessed, there = guesses.sum(dim=0).tolist(), targets.sum(dim=0).tolist()
    else:
        counts = confusion(predictions)
        right, guessed = counts.diagonal().tolist(), counts.sum(dim=0).tolist()
        there = counts.sum(dim=1).tolist()
    names = predictions.facts.label_names
    return [(n, *scores(r, g, t)) for n, r, g, t in zip(names, right, guessed, there, strict=True)]


def _confusion(predictions: Predictions) -> str:
    names = predictions.facts.label_names
    counts = confusion(predictions)
    if len(names) > _MOST_CLASSES:
        wrong = counts.clone().fill_diagonal_(0).flatten()
        most = wrong.topk(min(_MISTAKES, int((wrong > 0).sum())))
        rows = [
            (names[place // len(names)], names[place % len(names)], int(count))
            for count, place in zip(most.values.tolist(), most.indices.tolist(), strict=True)
        ]
        return table(("label", "taken for", "rows"), rows)
    rows = [(name, *map(int, row)) for name, row in zip(names, counts.tolist(), strict=True)]
    return table((r"label \ predicted", *names), rows)


def _tag_scores(predictions: Predictions) -> str:
    names = predictions.facts.label_names
    if not are_chunks(names):
        return table(("tag", *_SCORES[:3], "words"), _label_scores(predictions))
    from seqeval.metrics import classification_report

    right, guessed = tag_rows(predictions.outputs)
    found = classification_report(right, guessed, output_dict=True, zero_division=0)  # pyright: ignore[reportArgumentType]
    assert isinstance(found, dict)  # as output_dict asks
    rows = [
        (name, *(float(s[key]) for key in ("precision", "recall", "f1-score")), int(s["support"]))
        for name, s in found.items()
    ]
    return table(("entity", *_SCORES[:3], "entities"), rows)


def _mistakes(predictions: Predictions) -> str:
    task = predictions.facts.task
    losses_U = predictions.losses_U
    if task != "regression":
        wrong_U = predictions.predicted != predictions.targets
        wrong_U = wrong_U.any(dim=1) if wrong_U.ndim == 2 else wrong_U
        losses_U = torch.where(wrong_U, losses_U, -1.0)
    count = min(_MISTAKES, int((losses_U >= 0).sum()))
    if count == 0:
        return "None: every prediction on the validation rows is right."
    units = losses_U.topk(count).indices.tolist()
    head = ("row", "right", "predicted", "text")
    return table(head, [_mistake(predictions, unit) for unit in units])


def _mistake(predictions: Predictions, unit: int) -> tuple[object, ...]:
    """Row number in its file, the right answer, what was predicted and how surely, the text."""
    rows, facts = predictions.rows, predictions.facts
    names = facts.label_names
    outputs_C, target = predictions.outputs_UC[unit], predictions.targets[unit]
    place = unit
    if facts.task == "tokens":
        units_N1 = torch.from_numpy(rows.units_N1())
        place = int(torch.searchsorted(units_N1, unit, right=True)) - 1
        word = rows.column("word")[place].as_py()[unit - int(units_N1[place])]
        words = rows.column("text")[place].as_py()
        words[word] = f"**{words[word]}**"
        text = " ".join(words[max(0, word - 15) : word + 16])
    else:
        text = rows.column("text")[place].as_py()
        if rows.has("pair"):
            text = f"{_short(text)} ⟂ {rows.column('pair')[place].as_py()}"
    if facts.task == "regression":
        right, guess = f"{target:.4g}", f"{float(outputs_C):.4g}"
    elif facts.task == "multi_label":
        right = _several(names, target.tolist())
        guess = _several(names, (outputs_C > 0).tolist())
    else:
        chances = outputs_C.softmax(dim=0)
        right = names[int(target)]
        guess = f"{names[int(chances.argmax())]} ({float(chances.max()):.0%})"
    return rows.column("row")[place].as_py() + 1, right, guess, _short(text)


def _several(names: Sequence[str], chosen: Sequence[float]) -> str:
    return ", ".join(n for n, on in zip(names, chosen, strict=True) if on) or "none"


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST_TEXT else text[: _LONGEST_TEXT - 1] + "…"


def seeds_report(
    name: str,
    metric: str,
    figures: Mapping[str, Mapping[int, Mapping[str, float]]],
    intervals: Mapping[str, Interval],
    spread: Mapping[str, Mapping[str, tuple[float, float]]],
    best_seed: int,
) -> str:
    """The report over several seeds.

    Args:
        figures: part to seed to metrics of its best version.
        intervals: part to the interval of the metric's mean.
        spread: part to metric to (mean, standard deviation).
        best_seed: whose model was exported.
    """
    parts = [f"# {name}: {len(next(iter(figures.values())))} seeds"]
    for split, by_seed in figures.items():
        names = list(next(iter(by_seed.values())))
        rows = [(str(seed), *(metrics[n] for n in names)) for seed, metrics in by_seed.items()]
        rows.append(("mean", *(spread[split][n][0] for n in names)))
        rows.append(("standard deviation", *(spread[split][n][1] for n in names)))
        mean, std = spread[split][metric]
        parts += [
            f"## {split.capitalize()} rows",
            f"{metric} **{mean:.4f} ± {std:.4f}**; 95 % interval of the mean over resampled rows "
            f"and seeds: {intervals[split]}.",
            table(("seed", *names), rows),
        ]
    parts.append(
        f"The exported model is that of seed {best_seed}, the best on the validation rows: its "
        "figure there is the luckiest of several, so judge by the mean."
    )
    return "\n\n".join(parts) + "\n"
