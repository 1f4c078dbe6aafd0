"""The prose of Python sources' documentation strings. Read from the text, nothing is imported.

`python -m raybert.corpus.docstrings` takes a JSON list of [package, file] on standard input and
prints JSON lines (text, package, object), a zero byte after each file's.
"""

import ast
import inspect
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

_MIN_WORDS = 12
_MIN_LETTERS = 0.6
_DIRECTIVE = re.compile(r"^\s*(>>>|\.\.\. |\.\. |:\w+.*:|[-=~^*#|+]{3,}|@|\{|\})")
_SECTION = re.compile(r"^\s*(Parameters|Returns|Args|Arguments|Raises|Examples?|Yields)\s*:?\s*$")
_WORD = re.compile(r"[A-Za-z]{2,}")


def _docstrings(file: Path) -> Iterator[tuple[str, str]]:
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError, OSError, RecursionError):
        return  # not Python of this version, or gone: another package's file, not ours to mend
    stack: list[tuple[str, ast.AST]] = [("", tree)]
    while stack:
        name, node = stack.pop()
        if isinstance(
            node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
        ) and (docstring := ast.get_docstring(node, clean=False)):
            yield name, inspect.cleandoc(docstring)
        stack.extend(
            (f"{name}.{child.name}".lstrip("."), child)
            for child in reversed(list(ast.iter_child_nodes(node)))
            if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        )


def prose(docstring: str) -> str:
    """The English sentences of a docstring: no code, tables or field lists; '' if too few."""
    paragraphs = []
    for block in re.split(r"\n\s*\n", docstring):
        lines = [line for line in block.split("\n") if not _DIRECTIVE.match(line)]
        lines = [line for line in lines if not _SECTION.match(line)]
        text = " ".join(" ".join(lines).split()).replace("``", "").replace("`", "")
        if _is_prose(text):
            paragraphs.append(text)
    joined = "\n".join(paragraphs)
    return joined if len(_WORD.findall(joined)) >= _MIN_WORDS else ""


def _is_prose(text: str) -> bool:
    letters = sum(map(str.isalpha, text)) / max(1, len(text))
    return len(_WORD.findall(text)) >= 4 and letters > _MIN_LETTERS and text[-1:] in '.!?:)"'


def main() -> None:
    out = sys.stdout.buffer
    for package, file in json.load(sys.stdin):
        for name, docstring in _docstrings(Path(file)):
            # A lone surrogate in a literal is legal Python and no text.
            text = prose(docstring).encode("utf-8", "ignore").decode()
            if text:
                row = {"text": text, "package": package, "object": f"{Path(file).stem}.{name}"}
                out.write(json.dumps(row).encode() + b"\n")
        out.write(b"\0")


if __name__ == "__main__":
    main()
