"""The oracle: files with the sections of published tokenizers, and strings to try them on."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

TOOLS = Path(__file__).parents[2] / "rust_tok/tools"


def load_tool(name: str) -> ModuleType:
    specification = importlib.util.spec_from_file_location(name, TOOLS / f"{name}.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def parity() -> ModuleType:
    return load_tool("parity")


@pytest.fixture(scope="session")
def unicode_tables() -> ModuleType:
    return load_tool("unicode_tables")


@pytest.fixture(scope="session")
def oracle_files(parity: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Paths of tokenizer.json files by name; vocabularies trained by `tokenizers`."""
    folder = tmp_path_factory.mktemp("oracles")
    files = {}
    texts = parity.documentation()[:8000] + list(parity.blocks())[:8000]
    for name, content in parity.published(texts).items():
        files[name] = folder / f"{name}.json"
        files[name].write_text(json.dumps(content))
    return files


@pytest.fixture(scope="session")
def strings(parity: ModuleType) -> list[str]:
    """200,000 strings: hostile ones, code points, real text, mixtures."""
    return list(parity.strings(200_000))
