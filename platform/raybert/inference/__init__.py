"""What a trained model says about text.

`load` is the door for notebooks, without Ray; `bulk` predicts for files of any size on a cluster.
"""

from raybert.inference.fill_mask import Guess, fill_mask
from raybert.inference.text_model import TextModel, load

__all__ = ["Guess", "TextModel", "fill_mask", "load"]
