"""Metrics by hand-made predictions, against scikit-learn and seqeval."""

import math

import numpy as np
import pytest
import torch
from seqeval.metrics import f1_score as entity_f1
from sklearn.metrics import f1_score, matthews_corrcoef, roc_auc_score

from raybert.errors import UserError
from raybert.finetuning.history import History
from raybert.finetuning.labels import balanced_weights
from raybert.finetuning.metrics import METRICS, Outputs, choose_metric, measure
from raybert.finetuning.statistics import bootstrap, mean_and_std


def outputs(values, targets, names=(), units=None) -> Outputs:
    values, targets = torch.as_tensor(values), torch.as_tensor(targets)
    units = np.arange(len(values) + 1) if units is None else np.asarray(units)
    return Outputs(values, targets, names, units)


def random_classes(number: int = 200, classes: int = 3) -> Outputs:
    dice = torch.Generator().manual_seed(number)
    labels = torch.randint(classes, (number,), generator=dice)
    logits = torch.randn(number, classes, generator=dice)
    logits[torch.arange(number), labels] += 1
    return outputs(logits, labels)


def test_classification_agrees_with_scikit_learn():
    given = random_classes()
    found = measure("classification", given)
    labels, guesses = given.targets.numpy(), given.values_UC.argmax(dim=1).numpy()
    chances = given.values_UC.softmax(dim=1).numpy()
    assert found["accuracy"] == pytest.approx((labels == guesses).mean())
    assert found["macro_f1"] == pytest.approx(f1_score(labels, guesses, average="macro"), abs=1e-6)
    assert found["micro_f1"] == pytest.approx(f1_score(labels, guesses, average="micro"), abs=1e-6)
    assert found["matthews"] == pytest.approx(matthews_corrcoef(labels, guesses), abs=1e-6)
    area = roc_auc_score(labels, chances, multi_class="ovr")
    assert found["auroc"] == pytest.approx(area, abs=1e-6)
    assert found["loss"] == pytest.approx(
        torch.nn.functional.cross_entropy(given.values_UC, given.targets).item()
    )


def test_multi_label_agrees_with_scikit_learn():
    dice = torch.Generator().manual_seed(1)
    targets = torch.randint(2, (100, 4), generator=dice).float()
    logits = torch.randn(100, 4, generator=dice) + targets
    found = measure("multi_label", outputs(logits, targets))
    guesses = (logits > 0).numpy()
    for kind in ("macro", "micro"):
        theirs = f1_score(targets.numpy(), guesses, average=kind)
        assert found[f"{kind}_f1"] == pytest.approx(theirs, abs=1e-6)
    assert found["exact_match"] == pytest.approx((guesses == targets.numpy()).all(axis=1).mean())


def test_regression():
    targets = torch.tensor([0.0, 1.0, 2.0, 4.0])
    found = measure("regression", outputs(targets[:, None] * 2 + 1, targets))
    assert found["pearson"] == pytest.approx(1)
    assert found["spearman"] == pytest.approx(1)
    assert found["mean_squared_error"] == pytest.approx(((targets + 1) ** 2).mean().item())
    constant = measure("regression", outputs(torch.ones(4, 1), targets))
    assert math.isnan(constant["pearson"])


def test_entities_are_counted_whole():
    names = ("B-X", "I-X", "O")
    right = [["B-X", "I-X", "O"], ["B-X"]]
    guessed = [["B-X", "O", "O"], ["B-X"]]
    ids = torch.tensor([names.index(tag) for row in guessed for tag in row])
    values = torch.nn.functional.one_hot(ids, 3).float()
    targets = [names.index(tag) for row in right for tag in row]
    found = measure("tokens", outputs(values, targets, names, [0, 3, 4]))
    assert found["entity_f1"] == pytest.approx(entity_f1(right, guessed)) == pytest.approx(0.5)
    assert found["token_accuracy"] == pytest.approx(0.75)


def test_a_metric_that_the_task_does_not_have_is_refused():
    with pytest.raises(UserError, match=r"pearson is none of the task classification; it has: los"):
        choose_metric("classification", "pearson")
    assert choose_metric("tokens", "auto", ("NOUN", "VERB")) == "macro_f1"
    for task, metrics in METRICS.items():
        assert choose_metric(task, "auto") in metrics


def test_balanced_weights_are_scikit_learns():
    weights = balanced_weights([30, 10])
    assert weights.tolist() == pytest.approx([40 / 60, 40 / 20])
    assert (weights * [30, 10]).sum() / 40 == pytest.approx(1)


def test_the_first_best_version_stays_and_patience_ends():
    history = History("accuracy", patience=2)
    for step, value in enumerate([0.5, 0.7, 0.7, math.nan]):
        assert history.ended_early is None
        history.add(step, {"accuracy": value})
    assert history.best is not None
    assert history.best.step == 1
    assert history.ended_early is not None
    assert "in 2 evaluations" in history.ended_early
    restored = History.from_dict("accuracy", 2, history.to_dict())
    assert restored.best == history.best
    assert restored.ended_early == history.ended_early
    restored.forget_all_but([0, 2])
    assert restored.best is not None
    assert restored.best.step == 2


def test_a_loss_is_better_when_lower():
    history = History("loss", patience=None)
    for step, value in enumerate([0.5, 0.3, 0.4]):
        history.add(step, {"loss": value})
    assert history.best is not None
    assert history.best.step == 1


def test_mean_and_standard_deviation_of_a_sample():
    mean, std = mean_and_std([1.0, 2.0, 3.0])
    assert (mean, std) == pytest.approx((2, 1))
    assert math.isnan(mean_and_std([1.0])[1])


def test_the_bootstrap_interval_is_that_of_a_share():
    """Of 200 rows with 160 right: the binomial's 95 % interval is 0.745 to 0.855 or so."""
    labels = torch.zeros(200, dtype=torch.int64)
    logits = torch.zeros(200, 2)
    logits[:160, 0] = logits[160:, 1] = 1
    given = outputs(logits, labels)
    interval = bootstrap("classification", "accuracy", [given])
    assert interval.low == pytest.approx(0.745, abs=0.015)
    assert interval.high == pytest.approx(0.855, abs=0.015)
    assert bootstrap("classification", "accuracy", [given]) == interval
    # A run without a mistake beside it: its chance to be drawn widens the interval.
    perfect = outputs(torch.tensor([[1.0, 0.0]] * 200), labels)
    both = bootstrap("classification", "accuracy", [given, perfect])
    assert both.low < 0.81
    assert both.high == 1
