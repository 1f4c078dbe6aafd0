"""BERT in small parts: plain torch, exact semantics, Hugging Face's names on disk."""

from bert.onednn import bound_caches

bound_caches()
