"""Reads the layers of the settings: a YAML file, the environment, the command line.

Every layer is a flat mapping from dotted name to value, with the place each came from, so that a
message can point at it. Later layers win: YAML < environment < command line.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from raybert.errors import UserError

ENVIRONMENT_PREFIX = "RAYBERT__"


@dataclass(frozen=True)
class Given:
    """A value somebody gave, and where: `small.yaml line 7`, `RAYBERT__…`, `--corpus.paths`."""

    value: object
    origin: str


Layer = dict[str, Given]


def read_yaml(path: str) -> Layer:
    """The leaves of a YAML mapping of mappings.

    Raises:
        UserError: no such file, a folder, not YAML (with its line), not a mapping.
    """
    file = Path(path)
    if not file.is_file():
        what = "is a folder" if file.is_dir() else "does not exist"
        raise UserError(f"--config {path}: {what}; a YAML file is needed")
    try:
        node = yaml.compose(file.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f" line {mark.line + 1}" if mark else ""
        raise UserError(f"{path}{where}: not YAML: {error.problem}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 at byte {error.start}") from error
    if node is None:
        return {}
    if not isinstance(node, yaml.MappingNode):
        raise UserError(f"{path} line {node.start_mark.line + 1}: a mapping of settings is needed")
    return dict(_leaves(node, path, ""))


def _leaves(node: yaml.MappingNode, path: str, prefix: str) -> Iterable[tuple[str, Given]]:
    construct = yaml.SafeLoader("").construct_object
    for key_node, value_node in node.value:
        name = f"{prefix}{key_node.value}"
        if isinstance(value_node, yaml.MappingNode) and value_node.value:
            yield from _leaves(value_node, path, f"{name}.")
        else:
            origin = f"{path} line {key_node.start_mark.line + 1}"
            yield name, Given(construct(value_node, deep=True), origin)


def read_environment(environment: Mapping[str, str] = os.environ) -> Layer:
    """`RAYBERT__PRETRAINING__STEPS=200` is `pretraining.steps`."""
    return {
        key.removeprefix(ENVIRONMENT_PREFIX).lower().replace("__", "."): Given(value, key)
        for key, value in environment.items()
        if key.startswith(ENVIRONMENT_PREFIX)
    }


def merge(layers: Iterable[Layer]) -> Layer:
    """One layer; the later one wins, leaf by leaf."""
    return {name: given for layer in layers for name, given in layer.items()}


def nest(layer: Layer) -> dict[str, object]:
    """Dotted names to nested dictionaries.

    Raises:
        UserError: a name is used as a value and as a section.
    """
    tree: dict[str, object] = {}
    for name, given in layer.items():
        *sections, leaf = name.split(".")
        branch = tree
        for section in sections:
            inner = branch.setdefault(section, {})
            if not isinstance(inner, dict):
                raise UserError(f"{given.origin}: {section} is a value, not a section")
            branch = inner
        if isinstance(branch.get(leaf), dict):
            raise UserError(f"{given.origin}: {name} is a section, not a value")
        branch[leaf] = given.value
    return tree
