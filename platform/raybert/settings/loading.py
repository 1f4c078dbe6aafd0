"""From layers to one validated tree, with one clear message per mistake."""

import difflib
import types
import typing
from collections.abc import Iterator

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from raybert.errors import UserError
from raybert.settings.layers import Given, Layer, nest
from raybert.settings.tree import Settings


def leaf_fields(tree: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """(dotted name, field) of every setting of a tree of sections."""
    for name, field in tree.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from leaf_fields(field.annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field


def is_list(field: FieldInfo) -> bool:
    return typing.get_origin(field.annotation) in (tuple, list)


def is_flag(field: FieldInfo) -> bool:
    return field.annotation is bool


def _allows_none(field: FieldInfo) -> bool:
    return isinstance(field.annotation, types.UnionType) and type(None) in typing.get_args(
        field.annotation
    )


def nearest(name: str, known: list[str]) -> str:
    """`; did you mean X?` for the known name most like this one, or nothing."""
    leaf = name.rsplit(".", 1)[-1]
    matches = difflib.get_close_matches(name, known, n=1, cutoff=0.6) or [
        candidate
        for match in difflib.get_close_matches(leaf, [k.rsplit(".", 1)[-1] for k in known], n=1)
        for candidate in known
        if candidate.rsplit(".", 1)[-1] == match
    ]
    return f"; did you mean {matches[0]}?" if matches else ""


def load(layer: Layer) -> Settings:
    """Validates a merged layer.

    Raises:
        UserError: unknown names, wrong values, settings that contradict each other; one line each.
    """
    fields = dict(leaf_fields(Settings))
    unknown = [
        f"{given.origin}: {name} is not a setting{nearest(name, list(fields))}"
        for name, given in layer.items()
        if name not in fields and name not in Settings.model_fields
    ]
    if unknown:
        raise UserError("\n".join(unknown))
    decoded = {name: _decoded(given, fields.get(name)) for name, given in layer.items()}
    try:
        return Settings.model_validate(nest(decoded))
    except ValidationError as error:
        raise UserError("\n".join(_message(e, layer, fields) for e in error.errors())) from error


def _decoded(given: Given, field: FieldInfo | None) -> Given:
    value = given.value
    if field is None:
        return given
    if isinstance(value, str):
        if value.lower() in ("none", "null") and _allows_none(field):
            return Given(None, given.origin)
        if is_list(field):
            # A glob such as [ab]*.txt is text: lists are never guessed from brackets.
            return Given((value,), given.origin)
    return given


def _message(error: ErrorDetails, layer: Layer, fields: dict[str, FieldInfo]) -> str:
    parts = [str(part) for part in error["loc"]]
    # Behind the field's name pydantic adds the member of a union that it tried.
    depth = max((n for n in range(len(parts) + 1) if ".".join(parts[:n]) in fields), default=None)
    name = ".".join(parts if depth is None else parts[:depth])
    reason = error["msg"].removeprefix("Value error, ")
    reason = reason[:1].lower() + reason[1:]
    given = layer.get(name)
    if given is None:
        inside = f"{name}: " if name else ""
        return f"{inside}{reason}"
    return f"{given.origin}: {name} is {given.value!r}: {reason}"
