"""The training engine, checkpoints and loops. Importing this imports no Ray."""
