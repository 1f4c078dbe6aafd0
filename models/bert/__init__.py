"""BERT in small parts: plain torch, exact semantics, Hugging Face's names on disk."""
