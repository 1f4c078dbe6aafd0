"""The settings as YAML text, and back."""

from collections.abc import Sequence

import yaml

from raybert.settings.layers import parse_yaml
from raybert.settings.loading import load
from raybert.settings.tree import Settings

_LINE_BREAKS = "\x85\u2028\u2029"


class _Dumper(yaml.SafeDumper):
    """Escapes Unicode's line breaks, which PyYAML writes and then reads as spaces."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = '"' if any(mark in text for mark in _LINE_BREAKS) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)


def to_yaml(settings: Settings, sections: Sequence[str] | None = None) -> str:
    """The resolved tree, loadable again with `--config` or `from_yaml`."""
    include = None if sections is None else set(sections)
    dumped = settings.model_dump(mode="json", include=include)
    return yaml.dump(dumped, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def from_yaml(content: bytes | str, name: str, sections: Sequence[str] | None = None) -> Settings:
    """The settings that `to_yaml` wrote; `name` is what messages call the text.

    Raises:
        UserError: not YAML, or not settings of this version.
    """
    return load(parse_yaml(content, name), sections)
