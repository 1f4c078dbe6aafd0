"""Tensors on disk, in the safetensors format: https://huggingface.co/docs/safetensors."""

from __future__ import annotations

from collections.abc import Mapping

from safetensors import SafetensorError
from safetensors.torch import load, load_file, save_file
from torch import Tensor

from raybert.errors import InvalidContent
from raybert.storage import Location


def write_tensors(location: Location, tensors: Mapping[str, Tensor]) -> None:
    """Writes contiguous tensors of the host's memory into a (local) staging folder."""
    # transformers refuses a file that does not say which framework wrote it.
    save_file(dict(tensors), location.local_path, metadata={"format": "pt"})


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
