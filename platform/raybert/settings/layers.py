"""Reads the layers of the settings: a YAML file, the environment, the command line.

Every layer is a flat mapping from dotted name to value, with the place each came from, so that a
message can point at it. Later layers win: YAML < environment < command line.
"""

import os
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from raybert.errors import UserError

ENVIRONMENT_PREFIX = "RAYBERT__"


@dataclass(frozen=True)
class Given:
    """A value somebody gave.

    Attributes:
        value: text from the environment and the command line, anything from YAML.
        origin: where: `small.yaml line 7`, `RAYBERT__…`, `--corpus.paths`.
        text: how a single value is written in YAML.
    """

    value: object
    origin: str
    text: str | None = None


Layer = dict[str, Given]


def read_yaml(path: str) -> Layer:
    """The settings of a YAML file: a mapping of mappings.

    Raises:
        UserError: no such file, a folder, not YAML (with its line), not a mapping.
    """
    file = Path(path)
    if file.is_dir():
        raise UserError(f"--config {path} is a folder; a YAML file is needed")
    try:
        return parse_yaml(file.read_bytes(), path)
    except OSError as error:
        raise UserError(f"--config {path} can't be read: {error.strerror}") from error


def parse_yaml(content: bytes | str, name: str) -> Layer:
    """The settings of YAML text; `name` is what messages call it.

    Raises:
        UserError: not YAML (with its line), not a mapping, a setting given twice.
    """
    try:
        loader = yaml.SafeLoader(content)
        node = loader.get_single_node()
        if node is None:
            return {}
        if not isinstance(node, yaml.MappingNode):
            raise UserError(f"{name} line {node.start_mark.line + 1}: not a mapping of settings")
        layer: Layer = {}
        _collect(loader, node, name, "", layer)
        return layer
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f" line {mark.line + 1}" if mark else ""
        raise UserError(f"{name}{where}: not YAML: {error.problem}") from error
    except yaml.YAMLError as error:  # bytes that are no text
        raise UserError(f"{name}: not YAML: {' '.join(str(error).split())}") from error


def _collect(
    loader: yaml.SafeLoader, node: yaml.MappingNode, name: str, prefix: str, layer: Layer
) -> None:
    loader.flatten_mapping(node)
    seen: dict[Hashable, int] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        setting = f"{prefix}{key_node.value}"
        if setting in seen:
            raise UserError(f"{name} line {line}: {setting} stands in line {seen[setting]} already")
        seen[setting] = line
        if isinstance(value_node, yaml.MappingNode):
            _collect(loader, value_node, name, f"{setting}.", layer)
        else:
            value = loader.construct_object(value_node, deep=True)
            text = value_node.value if isinstance(value_node, yaml.ScalarNode) else None
            layer[setting] = Given(value, f"{name} line {line}", text)


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
