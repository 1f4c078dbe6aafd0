"""The laws of the house: which part may import which, and which names are taken."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RAYBERT = ROOT / "platform" / "raybert"
BERT = ROOT / "models" / "bert"

# What each package of raybert may import of the others: arrows point one way, downwards.
ALLOWED = {
    "errors": set(),
    "storage": {"errors"},
    "settings": {"errors", "storage"},
    "tables": {"errors", "storage", "settings"},
    "tokens": {"errors", "storage", "settings"},
    "tracking": {"errors", "storage", "settings"},
    "cluster": {"errors", "storage", "settings"},
    "corpus": {"errors", "storage", "settings", "tokens", "cluster", "tracking"},
    "samples": {"errors", "storage", "settings", "tokens"},
    "training": {"errors", "storage", "settings", "tokens", "samples", "tracking", "cluster"},
    "finetuning": {
        "errors",
        "storage",
        "settings",
        "tables",
        "tokens",
        "samples",
        "tracking",
        "cluster",
        "training",
    },
    "tuning": {
        "errors",
        "storage",
        "settings",
        "training",
        "finetuning",
        "tracking",
        "cluster",
        "inference",
    },
    "inference": {
        "errors",
        "storage",
        "settings",
        "tables",
        "tokens",
        "corpus",
        "tracking",
        "cluster",
        "training",
    },
    "demo": {"errors", "storage", "settings", "finetuning", "tuning", "inference"},
}


def imports_of(file: Path, *, top_level_only: bool = False) -> Iterator[str]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for node in tree.body if top_level_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def modules(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.py"))


def test_packages_of_raybert_import_downwards():
    broken = []
    for file in modules(RAYBERT):
        relative = file.relative_to(RAYBERT)
        part = relative.parts[0].removesuffix(".py")
        if part == "__init__":
            continue
        assert part in ALLOWED, f"{part} has no place in the picture"
        for name in imports_of(file):
            words = name.split(".")
            if words[0] == "raybert" and len(words) > 1 and words[1] in ALLOWED:
                other = words[1]
                if other != part and other not in ALLOWED[part]:
                    broken.append(f"{relative} imports {name}")
    assert broken == []


def test_engine_is_handed_its_tracker():
    files = [f for f in modules(RAYBERT / "training") if f.stem == "engine"]
    assert files
    for file in files:
        assert not [name for name in imports_of(file) if name.startswith("raybert.tracking")]


def test_bert_knows_neither_raybert_nor_ray():
    for file in modules(BERT):
        roots = {name.split(".")[0] for name in imports_of(file)}
        assert not roots & {"raybert", "ray", "rust_tok", "transformers"}, file


def test_no_modules_of_bert_import_each_other_in_a_circle():
    """Imports for typing alone count too."""
    imported = {f"bert.{file.stem}": set(imports_of(file)) for file in modules(BERT)}
    graph = {name: names & imported.keys() for name, names in imported.items()}
    TopologicalSorter(graph).prepare()  # raises CycleError, naming the circle


@pytest.mark.parametrize("package", ["rust_tok", "bert_kernels"])
def test_rust_packages_know_neither_torch_nor_ray(package: str):
    files = modules(ROOT / package / "python")
    assert files
    for file in files:
        roots = {name.split(".")[0] for name in imports_of(file)}
        assert not roots & {"raybert", "ray", "torch", "bert", "tokenizers"}, file


@pytest.mark.parametrize(
    ("package", "absent"),
    [
        ("raybert.settings", {"ray", "torch"}),
        ("raybert.storage", {"ray", "torch"}),
        ("raybert.tables", {"ray", "torch"}),
        ("raybert.tokens", {"ray", "torch"}),
        ("raybert.samples", {"ray"}),
        ("raybert.training", {"ray"}),
        ("raybert.training.engine", {"ray"}),
        ("bert.bert", {"ray", "raybert"}),
        ("rust_tok", {"ray", "torch", "pyarrow", "numpy"}),
        ("bert_kernels", {"ray", "torch", "numpy"}),
    ],
)
def test_importing_a_part_does_not_load_what_it_must_not_need(package: str, absent: set[str]):
    code = f"import sys, {package}; print(*sorted({absent!r} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == ""


def test_no_module_shadows_the_standard_library():
    roots = [ROOT, ROOT / "platform", ROOT / "models", ROOT / "jobs", ROOT / "tests"]
    taken = [
        f"{root.name}/{entry.name}"
        for root in roots
        for entry in root.iterdir()
        if entry.stem in sys.stdlib_module_names
        and (entry.suffix == ".py" or (entry.is_dir() and (entry / "__init__.py").exists()))
    ]
    assert taken == []
    assert not (ROOT / "platform" / "__init__.py").exists()


def test_two_modules_call_the_compiled_kernels():
    callers = [
        file.relative_to(ROOT).as_posix()
        for folder in (RAYBERT, BERT, ROOT / "jobs")
        for file in modules(folder)
        if any(name.split(".")[0] == "bert_kernels" for name in imports_of(file))
    ]
    assert callers == ["platform/raybert/samples/compiled.py", "models/bert/kernels.py"]


def test_tests_are_no_packages():
    assert list((ROOT / "tests").rglob("__init__.py")) == []


def test_no_file_grows_past_five_hundred_lines():
    folders = (RAYBERT, BERT, ROOT / "jobs", ROOT / "rust_tok" / "python")
    long = [
        f"{file.relative_to(ROOT)}: {lines}"
        for folder in folders
        for file in modules(folder)
        if (lines := len(file.read_text(encoding="utf-8").splitlines())) > 500
    ]
    assert long == []
