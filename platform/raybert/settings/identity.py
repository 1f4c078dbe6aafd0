"""What a folder was made with, stored beside it and held against what is asked now."""

import functools

from pydantic import BaseModel

from raybert.errors import UserError
from raybert.settings.marks import IDENTITY, flatten


def identity_of(*sections: BaseModel) -> dict[str, object]:
    """Dotted name to value of every identity setting, ready for JSON or YAML."""
    values: dict[str, object] = {}
    for section in sections:
        dumped = section.model_dump(mode="json")
        for name, _, role in flatten(section):
            if role == IDENTITY:
                values[name] = functools.reduce(
                    lambda tree, part: tree[part], name.split("."), dumped
                )
    return values


def difference(stored: dict[str, object], asked: dict[str, object]) -> list[str]:
    """Lines `name: stored -> asked`, sorted by name; empty when they agree."""
    missing = "(none)"
    return [
        f"{name}: {stored.get(name, missing)} -> {asked.get(name, missing)}"
        for name in sorted(stored.keys() | asked.keys())
        if stored.get(name, missing) != asked.get(name, missing)
    ]


def refuse_other_identity(
    folder: object, stored: dict[str, object], asked: dict[str, object]
) -> None:
    """Raises:
    UserError: the folder was made with other settings, shown as a diff.
    """
    lines = difference(stored, asked)
    if lines:
        changes = "\n  ".join(lines)
        raise UserError(
            f"{folder} was made with other settings (there -> asked now):\n  {changes}\n"
            "take another folder, or the same settings"
        )
