"""Real English text that is on every machine: the docstrings of installed packages."""

import ast
import importlib.util
from collections.abc import Iterator
from functools import cache
from pathlib import Path


@cache
def docstrings(package: str, num_files: int) -> tuple[str, ...]:
    """Docstrings of the first modules of a package, in the order of their paths."""
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.submodule_search_locations is not None
    root = Path(next(iter(spec.submodule_search_locations)))
    paths = sorted(root.rglob("*.py"))[:num_files]
    return tuple(text for path in paths for text in _of_module(path))


def _of_module(path: Path) -> Iterator[str]:
    owners = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, owners) and (text := ast.get_docstring(node)):
            yield text
