"""From layers to one validated tree, with one clear message per mistake."""

import re
from collections.abc import Sequence

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from raybert.errors import UserError
from raybert.settings.agreement import check_agreement
from raybert.settings.fields import (
    allowed,
    allows_none,
    allows_text,
    is_list,
    leaf_fields,
    nearest,
)
from raybert.settings.layers import Given, Layer, read_environment
from raybert.settings.space import gather_space
from raybert.settings.tree import Settings


def load(layer: Layer, sections: Sequence[str] | None = None) -> Settings:
    """Validates a merged layer.

    Args:
        layer: what was given, over the defaults.
        sections: those that will be used, and so have to agree with each other; None: all.

    Raises:
        UserError: unknown names, wrong values, settings that contradict each other, a search space
            that can't be; a line each.
    """
    fields = dict(leaf_fields(Settings))
    layer = {name: given for name, given in layer.items() if not _is_empty_section(name, given)}
    layer = gather_space(layer, fields)
    mistakes = [m for name, given in layer.items() if (m := _misplaced(name, given, fields))]
    if mistakes:
        raise UserError("\n".join(mistakes))
    try:
        settings = Settings.model_validate(_nest(layer, fields))
    except ValidationError as error:
        messages = dict.fromkeys(_message(e, layer, fields) for e in error.errors())
        raise UserError("\n".join(messages)) from error
    mistakes = check_agreement(settings, sections)
    if mistakes:
        raise UserError("\n".join(_with_origins(m, layer) for m in mistakes))
    return settings


def load_settings() -> Settings:
    """The defaults and what the environment says: for notebooks and scripts.

    Raises:
        UserError: see `load`.
    """
    return load(read_environment())


def _is_section(name: str) -> bool:
    field = Settings.model_fields.get(name)
    return (
        field is not None
        and isinstance(field.annotation, type)
        and issubclass(field.annotation, BaseModel)
    )


def _is_empty_section(name: str, given: Given) -> bool:
    return given.value is None and _is_section(name)


def _misplaced(name: str, given: Given, fields: dict[str, FieldInfo]) -> str | None:
    if name in fields:
        return None
    if _is_section(name):
        return f"{given.origin}: {name} is {given.value!r}; a group of settings is needed there"
    above = name.rsplit(".", 1)[0]
    if above in fields:
        return f"{given.origin}: {above} is one setting, not a group; allowed: " + allowed(
            fields[above]
        )
    return f"{given.origin}: {name} is not a setting{nearest(name, list(fields))}"


def _nest(layer: Layer, fields: dict[str, FieldInfo]) -> dict[str, object]:
    tree: dict[str, object] = {}
    for name, given in layer.items():
        *sections, leaf = name.split(".")
        branch = tree
        for section in sections:
            inner = branch.setdefault(section, {})
            assert isinstance(inner, dict)
            branch = inner
        branch[leaf] = _decoded(given, fields[name])
    return tree


def _decoded(given: Given, field: FieldInfo) -> object:
    """The value as pydantic takes it. Lists are ours: a glob such as [ab]*.txt is one text."""
    value = given.value
    if isinstance(value, str) and allows_none(field) and value.lower() in ("none", "null", ""):
        return None
    if given.text is not None and value is not None and allows_text(field):
        value = given.text
    elif isinstance(value, bool) and field.annotation is not bool:
        value = str(value).lower()  # pydantic takes true for 1
    if is_list(field) and isinstance(value, str):
        return (value,)
    if is_list(field) and value is None:
        return ()
    return value


def _message(error: ErrorDetails, layer: Layer, fields: dict[str, FieldInfo]) -> str:
    parts = [str(part) for part in error["loc"]]
    # Behind the field's name pydantic adds the member of a union, or the place in a list.
    names = [".".join(parts[:n]) for n in range(len(parts), 0, -1)]
    name = next((name for name in names if name in fields), None)
    if name is None:  # of a validator of a section or of the whole: it names its settings itself
        return _with_origins(error["msg"].removeprefix("Value error, "), layer)
    given = layer[name]
    subject = given.origin if name in given.origin else f"{given.origin}: {name}"
    return f"{subject} is {_shown(given)}; allowed: {allowed(fields[name])}"


def _shown(given: Given) -> str:
    value = given.value if given.text is None else given.text
    return repr(value) if isinstance(value, str) and given.text is None else str(value)


def _with_origins(message: str, layer: Layer) -> str:
    """Adds where the settings that a message names were given."""
    named = re.findall(r"\b[a-z_]+\.[a-z_0-9]+\b", message)
    origins = dict.fromkeys(
        layer[name].origin for name in named if name in layer and name not in layer[name].origin
    )
    return f"{message} ({', '.join(origins)})" if origins else message
