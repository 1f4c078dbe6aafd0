"""Which settings make a run what it is, and which only say how it is carried out.

An identity setting changes the arithmetic: a run folder of other identity settings is refused. An
operational one (workers, paths, logging, retention, total steps, time limit) is free on resume.
"""

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo

IDENTITY = "identity"
OPERATIONAL = "operational"


class Section(BaseModel):
    """A frozen part of the settings tree that refuses keys it does not know."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False
    )


def identity(default: Any, description: str, *, path: bool = False, **constraints: Any) -> Any:
    """A field whose change makes another run; `path` marks files and folders (see paths.py)."""
    return _marked(IDENTITY, default, description, path, constraints)


def operational(default: Any, description: str, *, path: bool = False, **constraints: Any) -> Any:
    """A field that may change whenever a run is started again; `path` as in `identity`."""
    return _marked(OPERATIONAL, default, description, path, constraints)


def _marked(
    role: str, default: Any, description: str, path: bool, constraints: dict[str, Any]
) -> Any:
    extra: dict[str, Any] = {"role": role, "path": path}
    return Field(default, description=description, json_schema_extra=extra, **constraints)


def role_of(field: FieldInfo) -> str:
    """`identity` or `operational`; a field without a mark is operational."""
    return str(_extra(field).get("role", OPERATIONAL))


def is_path(field: FieldInfo) -> bool:
    """Whether the field names files or folders."""
    return bool(_extra(field).get("path", False))


def _extra(field: FieldInfo) -> dict[str, Any]:
    extra = field.json_schema_extra
    return dict(extra) if isinstance(extra, dict) else {}


def flatten(section: BaseModel, prefix: str = "") -> Iterator[tuple[str, object, str]]:
    """Yields (dotted name, value, role) of every leaf."""
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value, role_of(field)
