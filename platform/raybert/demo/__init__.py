"""What only `make demo` needs: labelled data from the default corpus, baselines to compare with."""

from raybert.demo.baselines import Baseline, majority, tfidf_logistic_regression
from raybert.demo.packages import PackageTask, write_package_task

__all__ = [
    "Baseline",
    "PackageTask",
    "majority",
    "tfidf_logistic_regression",
    "write_package_task",
]
