"""What only `make demo` needs: a labelled task of the default corpus, and comparisons."""

from raybert.demo.baselines import Baseline, majority, tfidf_logistic_regression
from raybert.demo.comparison import compare, comparison_table
from raybert.demo.neighbours import nearest
from raybert.demo.packages import PackageTask, write_package_task

__all__ = [
    "Baseline",
    "PackageTask",
    "compare",
    "comparison_table",
    "majority",
    "nearest",
    "tfidf_logistic_regression",
    "write_package_task",
]
