"""What a trained model says about text, in plain Python."""

from raybert.inference.fill_mask import Guess, fill_mask

__all__ = ["Guess", "fill_mask"]
