"""Real English for the benchmarks: documentation strings of the installed packages."""

import ast
import sysconfig
from pathlib import Path


def documents(num_bytes: int, document_bytes: int = 2048) -> list[str]:
    """About `num_bytes` of UTF-8 in documents of about `document_bytes`, the same on every call."""
    roots = (sysconfig.get_path("stdlib"), sysconfig.get_path("purelib"))
    pieces: list[str] = []
    total = 0
    for root in roots:
        for file in sorted(Path(root).rglob("*.py")):
            for text in _docstrings(file):
                pieces.append(text)
                total += len(text) + 1
            if total >= num_bytes:
                return _joined(pieces, document_bytes)
    whole = _joined(pieces, document_bytes)
    return (whole * (num_bytes // max(total, 1) + 1))[: num_bytes // document_bytes]


def _docstrings(file: Path) -> list[str]:
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except (SyntaxError, UnicodeDecodeError, ValueError):
        return []
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    found = (ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, kinds))
    return [text for text in found if text and len(text) > 80]


def _joined(pieces: list[str], document_bytes: int) -> list[str]:
    joined = "\n".join(pieces)
    return [joined[i : i + document_bytes] for i in range(0, len(joined), document_bytes)]
