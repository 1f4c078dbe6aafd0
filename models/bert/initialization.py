"""Fresh weights as a function of a seed and a parameter's name.

Every parameter has its own generator: which other parameters exist, and in what order they were
made, cannot matter. A head that a checkpoint lacks is made fresh the same way.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode


class UndefinedParameters(TorchFunctionMode):
    """Modules made inside this context leave their parameters as the allocator gave them.

    Drawing defaults only to overwrite them would double the time to build a model. (Building
    on the meta device avoids that too, but its first random call imports the compiler: seconds.)
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func in (nn.init.kaiming_uniform_, nn.init.uniform_, nn.init.normal_):
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


@torch.no_grad()
def initialize(
    model: nn.Module,
    seed: int,
    std: float = 0.02,
    pad_token_id: int | None = 0,
    names: Iterable[str] | None = None,
) -> None:
    """Fill parameters as BERT does: normal(0, std) matrices, zero biases, unit LayerNorm weights.

    As Hugging Face's model, unlike the original's truncated normal; the padding row is zero.

    Args:
        names: which parameters; all of them by default.
    """
    parameters = dict(model.named_parameters())
    for name in parameters if names is None else names:
        # The backbone starts alike alone and inside a whole model.
        initialize_parameter(name.removeprefix("backbone."), parameters[name], seed, std)
        if name.endswith("word.weight") and pad_token_id is not None:
            parameters[name][pad_token_id].zero_()


@torch.no_grad()
def initialize_parameter(name: str, parameter: Tensor, seed: int, std: float) -> None:
    """Fill one parameter; its kind follows from its shape and name."""
    if parameter.ndim >= 2:
        parameter.copy_(_normal(name, parameter.shape, seed, std))
    else:
        parameter.fill_(1.0 if name.endswith("weight") else 0.0)


def _normal(name: str, shape: torch.Size, seed: int, std: float) -> Tensor:
    digest = hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=8).digest()
    # numpy's generator gives every CPU the same bits; torch's has a code path per instruction set.
    generator = np.random.Generator(np.random.SFC64(int.from_bytes(digest, "little")))
    return torch.from_numpy(generator.standard_normal(shape, dtype=np.float32)).mul_(std)
