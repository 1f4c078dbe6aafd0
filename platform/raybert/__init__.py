"""raybert: your own BERT from plain text, as Ray jobs."""
