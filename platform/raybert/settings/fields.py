"""The settings by name, and what they allow in words, for messages and `--help`."""

import difflib
import types
import typing
from collections.abc import Iterable, Iterator, Sequence

import annotated_types
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from raybert.settings.marks import is_path


def leaf_fields(tree: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """(dotted name, field) of every setting of a tree of sections."""
    for name, field in tree.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from leaf_fields(field.annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field


def is_list(field: FieldInfo) -> bool:
    return typing.get_origin(field.annotation) is tuple


def is_mapping(field: FieldInfo) -> bool:
    """Whether the value is a mapping of a person's own keys, which only a YAML file can give."""
    return typing.get_origin(field.annotation) is dict


def is_flag(field: FieldInfo) -> bool:
    return field.annotation is bool


def allows_none(field: FieldInfo) -> bool:
    return type(None) in _members(field.annotation)


def allows_text(field: FieldInfo) -> bool:
    """Whether the value is text, so that `2024` in a YAML file means those four characters."""
    kinds = set(_members(field.annotation)) - {type(None)}
    return is_list(field) or all(
        kind is str or typing.get_origin(kind) is typing.Literal for kind in kinds
    )


def _members(annotation: typing.Any) -> tuple[typing.Any, ...]:
    if typing.get_origin(annotation) in (types.UnionType, typing.Union):
        return typing.get_args(annotation)
    return (annotation,)


def choices(field: FieldInfo) -> tuple[str, ...]:
    """The words that the field knows, such as fail, skip, replace."""
    return tuple(
        str(word)
        for member in _members(field.annotation)
        if typing.get_origin(member) is typing.Literal
        for word in typing.get_args(member)
    )


def allowed(field: FieldInfo) -> str:
    """What may stand there: `auto or a whole number of at least 1`."""
    parts = list(choices(field))
    for member in _members(field.annotation):
        bounds: Sequence[object] = field.metadata
        if typing.get_origin(member) is typing.Annotated:
            member, *own = typing.get_args(member)
            bounds = [bound for item in own for bound in getattr(item, "metadata", [item])]
        if is_list(field):
            parts.append("a list of paths" if is_path(field) else "a list of texts")
        elif is_mapping(field):
            parts.append("a mapping, in the file of --config")
        elif member is str:
            parts.append("a path" if is_path(field) else "text")
        elif member is bool:
            parts += ["true", "false"]
        elif member in (int, float):
            number = "a whole number" if member is int else "a number"
            parts.append(f"{number}{_range(bounds)}")
    if allows_none(field):
        parts.append("none")
    return ", ".join(parts[:-1]) + " or " + parts[-1] if len(parts) > 1 else parts[0]


def _range(bounds: Iterable[object]) -> str:
    low = high = ""
    for bound in bounds:
        match bound:
            case annotated_types.Ge(ge):
                low = f"at least {_number(ge)}"
            case annotated_types.Gt(gt):
                low = f"above {_number(gt)}"
            case annotated_types.Le(le):
                high = f"at most {_number(le)}"
            case annotated_types.Lt(lt):
                high = f"below {_number(lt)}"
            case _:
                pass
    limits = " and ".join(limit for limit in (low, high) if limit)
    return f" ({limits})" if limits else ""


def _number(limit: object) -> str:
    if isinstance(limit, int) and limit > 1 << 20 and limit.bit_count() == 1:
        return f"2^{limit.bit_length() - 1}"
    return str(limit)


def nearest(name: str, known: Sequence[str], prefix: str = "") -> str:
    """`; did you mean X?` for the known name most like this one, or nothing."""
    found = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if not found:
        by_leaf = {candidate.rsplit(".", 1)[-1]: candidate for candidate in reversed(known)}
        leaf = name.rsplit(".", 1)[-1].replace("-", "_")
        found = [by_leaf[m] for m in difflib.get_close_matches(leaf, list(by_leaf), n=1)]
    return f"; did you mean {prefix}{found[0]}?" if found else ""
