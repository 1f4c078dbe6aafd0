"""Shared by the tests of finetuning: one thread, and a tiny model to start from."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from finetuning.cases import write_model


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"))
