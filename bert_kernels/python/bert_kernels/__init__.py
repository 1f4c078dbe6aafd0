"""CPU kernels for training BERT.

`bert.kernels` is the one caller and says what tensors they take.
"""

from bert_kernels import _native as native
from bert_kernels._native import __version__

__all__ = ["__version__", "native"]
