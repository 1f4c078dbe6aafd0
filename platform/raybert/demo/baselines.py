"""Simple classifiers on the same rows: what a finetuned model has to beat to be worth its while."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raybert.errors import UserError


@dataclass(frozen=True)
class Baseline:
    """A classifier's figures on the test rows.

    Attributes:
        accuracy: share of right answers.
        macro_f1: mean over the labels of F1.
        seconds: it took to fit and to score.
    """

    accuracy: float
    macro_f1: float
    seconds: float


def majority(train: Path, test: Path) -> Baseline:
    """Always the label that is most frequent in training.

    Raises:
        UserError: scikit-learn is not installed.
    """
    return _fit_and_score(train, test, lambda sklearn: sklearn.dummy.DummyClassifier())


def tfidf_logistic_regression(train: Path, test: Path) -> Baseline:
    """Words and pairs of words by TF-IDF, logistic regression on them; scikit-learn's defaults.

    Raises:
        UserError: scikit-learn is not installed.
    """
    return _fit_and_score(
        train,
        test,
        lambda sklearn: sklearn.pipeline.make_pipeline(
            sklearn.feature_extraction.text.TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True),
            sklearn.linear_model.LogisticRegression(max_iter=1000),
        ),
    )


def _fit_and_score(train: Path, test: Path, make: Callable[[Any], Any]) -> Baseline:
    try:
        import sklearn.dummy
        import sklearn.feature_extraction.text
        import sklearn.linear_model
        import sklearn.metrics
        import sklearn.pipeline
    except ModuleNotFoundError as error:
        raise UserError("the baselines need scikit-learn: make setup installs it") from error
    began = time.perf_counter()
    texts, labels = _read(train)
    classifier = make(sklearn).fit(texts, labels)
    test_texts, wanted = _read(test)
    given = classifier.predict(test_texts)
    # A label that was never given has no F1; it counts as 0, without scikit-learn's warning.
    macro_f1 = sklearn.metrics.f1_score(
        wanted,
        given,
        average="macro",
        zero_division=0,  # pyright: ignore[reportArgumentType]
    )
    return Baseline(
        accuracy=float(sklearn.metrics.accuracy_score(wanted, given)),
        macro_f1=float(macro_f1),
        seconds=time.perf_counter() - began,
    )


def _read(file: Path) -> tuple[list[str], list[str]]:
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return [row["text"] for row in rows], [row["package"] for row in rows]
