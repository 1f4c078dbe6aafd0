"""Finetuning a BERT on labelled texts, in plain Python or on a cluster."""
