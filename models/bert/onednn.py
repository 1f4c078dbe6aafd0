"""How much oneDNN and torch's layer over it keep of the code that they compile.

They compile each product anew for every number of rows and keep 1024 of them, in two caches one
above the other. Packed batches hardly ever have the same number of tokens, so that nothing is found
again from one batch to the next, and a process grows by gigabytes: 3.5 GB with the tiny model.
Within a batch all layers ask for the same few shapes, some twenty in a training step.
"""

import os

_KEPT = "32"
_VARIABLES = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")


def bound_caches() -> None:
    """Both read their variable when the first product is made; a person's own choice stays."""
    for name in _VARIABLES:
        os.environ.setdefault(name, _KEPT)
