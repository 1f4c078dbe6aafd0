"""The door of every job: parses, explains, and turns a person's mistake into one clear message.

pydantic-settings' own command line is not used: it takes a glob such as `[ab]*.txt` for JSON, knows
no line of a YAML file, and ignores a YAML file or a variable that it can't place.
"""

import argparse
import shutil
import sys
from collections.abc import Callable, Sequence
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from raybert.errors import UserError
from raybert.settings.fields import (
    allowed,
    choices,
    is_flag,
    is_list,
    is_mapping,
    leaf_fields,
    nearest,
)
from raybert.settings.layers import Given, Layer, merge, read_environment, read_yaml
from raybert.settings.loading import load
from raybert.settings.marks import IDENTITY, is_path, role_of
from raybert.settings.mistakes import mistake_behind
from raybert.settings.paths import resolve_paths
from raybert.settings.tree import Settings
from raybert.settings.yaml_text import to_yaml

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130
# Longer lists of choices stand in the help text instead.
_LONGEST_METAVAR = 60

_EPILOG = """\
Where a setting is given twice, the first of these wins: the command line, the environment
(RAYBERT__SECTION__SETTING=value), the file of --config. "none" unsets a setting.
Settings marked * are part of a run's identity: another value makes another run, and a folder made
with the old one is refused. The others are operational: free to change when a run is resumed."""


def run_job(
    main: Callable[[Settings], None],
    *,
    description: str,
    sections: Sequence[str],
    required: Sequence[str] = (),
    arguments: Sequence[str] | None = None,
) -> None:
    """Parses the command line, calls `main` with the settings and exits the process on a mistake.

    Args:
        description: what `--help` says first.
        sections: the sections and top fields of the tree that this job uses, shows and accepts.
        required: settings that have to be given, such as `output`.

    Exits with 2 after a person's mistake (message on standard error), with 130 after Ctrl-C.
    """
    try:
        settings = parse(
            sys.argv[1:] if arguments is None else arguments,
            description=description,
            sections=sections,
            required=required,
        )
        if settings is not None:
            main(settings)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    except Exception as error:
        message = mistake_behind(error)
        if message is None:
            raise
        print(f"error: {message}", file=sys.stderr)
        sys.exit(EXIT_USER_ERROR)


def parse(
    arguments: Sequence[str],
    *,
    description: str,
    sections: Sequence[str],
    required: Sequence[str] = (),
) -> Settings | None:
    """The settings, or None after `--print-config` has printed them.

    Raises:
        UserError: anything wrong with what was given.
    """
    fields = {
        name: field for name, field in leaf_fields(Settings) if name.split(".")[0] in sections
    }
    parser = _parser(description, fields, required)
    known, rest = parser.parse_known_args(arguments)
    _refuse_unknown(rest, list(fields), sections)
    layers = [read_environment(), _given_options(known, fields)]
    if known.config is not None:
        layers.insert(0, read_yaml(known.config))
    settings = resolve_paths(load(merge(layers), sections))
    if known.print_config:
        print(to_yaml(settings, sections), end="")
        return None
    for name in required:
        if _value(settings, name) in (None, ()):
            raise UserError(f"--{name} is needed: {fields[name].description}")
    return settings


def _value(settings: Settings, name: str) -> object:
    value: object = settings
    for part in name.split("."):
        value = getattr(value, part)
    return value


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        raise UserError(message.removeprefix("argument "))


class _Help(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        width = min(100, shutil.get_terminal_size().columns - 2)
        super().__init__(prog, max_help_position=30, width=width)


def _parser(
    description: str, fields: dict[str, FieldInfo], required: Sequence[str]
) -> argparse.ArgumentParser:
    parser = _Parser(
        description=description,
        usage="%(prog)s [--config FILE] [--section.setting VALUE …]",
        epilog=_EPILOG,
        formatter_class=_Help,
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    parser.add_argument("--config", metavar="FILE", default=None, help="settings in YAML")
    parser.add_argument(
        "--print-config",
        action="store_true",
        default=False,
        help="print the resolved settings as YAML for --config, and do nothing",
    )
    groups: dict[str, argparse._ArgumentGroup] = {}
    for name, field in fields.items():
        section = name.split(".")[0] if "." in name else ""
        if section not in groups:
            groups[section] = parser.add_argument_group(*_title(section))
        groups[section].add_argument(
            f"--{name}", dest=name, help=_help(field, name in required), **_shape(field)
        )
    return parser


def _title(section: str) -> tuple[str, str | None]:
    if not section:
        return "folders", None
    owner = Settings.model_fields[section].annotation
    assert isinstance(owner, type)
    assert issubclass(owner, BaseModel)
    return section, owner.__doc__


def _shape(field: FieldInfo) -> dict[str, Any]:
    metavar = "PATH" if is_path(field) else "TEXT"
    if is_list(field):
        return {"nargs": "+", "metavar": metavar, "action": "extend"}
    if is_mapping(field):
        return {"metavar": "(in the file of --config)"}
    if is_flag(field):
        return {"nargs": "?", "const": "true", "metavar": "true|false"}
    words = "|".join(choices(field))
    if "number" in allowed(field):
        metavar = f"{words}|N" if words else "N"
    elif words:
        metavar = words if len(words) <= _LONGEST_METAVAR else "WORD"
    return {"metavar": metavar}


def _help(field: FieldInfo, needed: bool) -> str:
    notes = []
    words = "|".join(choices(field))
    if len(words) > _LONGEST_METAVAR:
        notes.append(words.replace("|", ", "))
    if "number (" in (told := allowed(field)):
        notes.append(told[told.index("number (") + len("number (") :].partition(")")[0])
    if needed:
        notes.append("needed")
    else:
        default = "none" if field.default in (None, (), {}) else field.default
        notes.append(f"default: {str(default).lower() if is_flag(field) else default}")
    mark = "*" if role_of(field) == IDENTITY else " "
    return f"{mark} {field.description} ({'; '.join(notes)})".replace("%", "%%")


def _given_options(known: argparse.Namespace, fields: dict[str, FieldInfo]) -> Layer:
    return {
        name: Given(tuple(value) if isinstance(value, list) else value, f"--{name}")
        for name, value in vars(known).items()
        if name in fields
    }


def _refuse_unknown(rest: Sequence[str], known: list[str], sections: Sequence[str]) -> None:
    if not rest:
        return
    first = rest[0]
    name = first.removeprefix("--").split("=")[0]
    if not first.startswith("-"):
        raise UserError(
            f"{first!r} stands alone: every value follows the name of its setting, "
            "--section.setting VALUE"
        )
    if name in dict(leaf_fields(Settings)):
        raise UserError(
            f"--{name} is a setting of other jobs; this one has: {', '.join(sections)} (see --help)"
        )
    inside = [candidate for candidate in known if candidate.startswith(f"{name}.")]
    hint = (
        f"; did you mean one of {', '.join(f'--{i}' for i in inside)}?"
        if inside
        else nearest(name, known, "--")
    )
    raise UserError(f"{first} is not a setting of this job{hint} (see --help)")
