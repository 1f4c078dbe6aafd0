"""CPU kernels for training BERT, and its samples made in bulk.

`bert.kernels` calls the kernels and says what tensors they take, `raybert.samples.compiled` what
makes samples.
"""

from bert_kernels import _native as native
from bert_kernels._native import __version__

__all__ = ["__version__", "native"]
