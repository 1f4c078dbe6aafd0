"""Tensors on disk: the safetensors format, streamed, so that nothing is held twice in memory.

The format (https://huggingface.co/docs/safetensors): the length of a JSON header in 8 bytes, little
endian; the header, name to dtype, shape and byte range; the tensors, end to end.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import load, load_file
from torch import Tensor

from raybert.errors import InvalidContent
from raybert.storage import Location

_ALIGNMENT = 8


class _Stream(Protocol):
    def write(self, data: memoryview | bytes, /) -> object: ...


def write_tensors(stream: _Stream, tensors: Mapping[str, Tensor]) -> None:
    """Writes float32 tensors of the host's memory, sorted by name, to a binary stream.

    Raises:
        ValueError: a tensor of another dtype.
        OSError: as the stream raises it.
    """
    # transformers refuses a file that does not say which framework wrote it.
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    begin = 0
    for name in sorted(tensors):
        tensor = tensors[name]
        if tensor.dtype != torch.float32:
            raise ValueError(f"{name} is {tensor.dtype}; only float32 is written")
        end = begin + tensor.numel() * tensor.element_size()
        header[name] = {
            "dtype": "F32",
            "shape": list(tensor.shape),
            "data_offsets": [begin, end],
        }
        begin = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    stream.write(struct.pack("<Q", len(text)) + text)
    for name in sorted(tensors):
        stream.write(tensors[name].contiguous().view(-1).numpy().data.cast("B"))


def read_tensors(location: Location) -> dict[str, Tensor]:
    """Reads a safetensors file; a local one is memory-mapped.

    Raises:
        InvalidContent: it is no whole safetensors file.
    """
    try:
        if location.is_local:
            return load_file(location.local_path)
        return load(location.read_bytes())
    except SafetensorError as error:
        raise InvalidContent(f"{location} can't be read as safetensors: {error}") from error
