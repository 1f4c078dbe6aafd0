"""The door of every job: parses, explains, and turns a person's mistake into one clear message."""

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any

import yaml
from pydantic.fields import FieldInfo

from raybert.errors import UserError
from raybert.settings.layers import Given, Layer, merge, read_environment, read_yaml
from raybert.settings.loading import is_flag, is_list, leaf_fields, load, nearest
from raybert.settings.marks import role_of
from raybert.settings.paths import resolve_paths
from raybert.settings.tree import Settings

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130


def run_job(
    main: Callable[[Settings], None],
    *,
    description: str,
    sections: Sequence[str],
    arguments: Sequence[str] | None = None,
) -> None:
    """Parses the command line, calls `main` with the settings and exits the process.

    Args:
        description: what `--help` says first.
        sections: the sections and top fields of the tree that this job uses, shows and accepts.

    Exits with 2 after a person's mistake (message on standard error), with 130 after Ctrl-C.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    try:
        settings = parse(arguments, description=description, sections=sections)
        if settings is not None:
            main(settings)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(EXIT_USER_ERROR)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)


def parse(
    arguments: Sequence[str], *, description: str, sections: Sequence[str]
) -> Settings | None:
    """The settings, or None after `--print-config` has printed them.

    Raises:
        UserError: anything wrong with what was given.
    """
    fields = {
        name: field for name, field in leaf_fields(Settings) if name.split(".")[0] in sections
    }
    parser = _parser(description, fields)
    known, rest = parser.parse_known_args(arguments)
    _refuse_unknown(rest, list(fields))
    layers = [read_environment(), _given_options(known, fields)]
    if known.config is not None:
        layers.insert(0, read_yaml(known.config))
    settings = resolve_paths(load(merge(layers)))
    if known.print_config:
        print(to_yaml(settings, sections), end="")
        return None
    return settings


def to_yaml(settings: Settings, sections: Sequence[str] | None = None) -> str:
    """The resolved tree, loadable again with `--config`."""
    include = None if sections is None else set(sections)
    dumped = settings.model_dump(mode="json", include=include)
    return yaml.safe_dump(dumped, sort_keys=False, allow_unicode=True)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        raise UserError(message)


def _parser(description: str, fields: dict[str, FieldInfo]) -> argparse.ArgumentParser:
    parser = _Parser(
        description=description,
        usage="%(prog)s [--config FILE] [--section.setting VALUE …]",
        epilog="Precedence: command line > environment (RAYBERT__SECTION__SETTING) > --config. "
        "A setting marked * is part of a run's identity: changing it makes another run.",
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    parser.add_argument("--config", metavar="FILE", default=None, help="settings in YAML")
    parser.add_argument(
        "--print-config", action="store_true", default=False, help="print the resolved settings"
    )
    groups: dict[str, argparse._ArgumentGroup] = {}
    for name, field in fields.items():
        section = name.split(".")[0] if "." in name else "folders"
        group = groups.setdefault(section, parser.add_argument_group(section))
        group.add_argument(f"--{name}", dest=name, help=_help(field), **_shape(field))
    return parser


def _shape(field: FieldInfo) -> dict[str, Any]:
    if is_list(field):
        return {"nargs": "+", "metavar": "VALUE"}
    if is_flag(field):
        return {"nargs": "?", "const": "true", "metavar": "true|false"}
    return {"metavar": "VALUE"}


def _help(field: FieldInfo) -> str:
    mark = "*" if role_of(field) == "identity" else ""
    default = "none" if field.default is None or field.default == () else field.default
    allowed = _choices(field)
    text = f"{mark}{field.description}{f' [{allowed}]' if allowed else ''} (default: {default})"
    return text.replace("%", "%%")


def _choices(field: FieldInfo) -> str:
    values = getattr(field.annotation, "__args__", ())
    return "|".join(values) if values and all(isinstance(v, str) for v in values) else ""


def _given_options(known: argparse.Namespace, fields: dict[str, FieldInfo]) -> Layer:
    return {
        name: Given(tuple(value) if isinstance(value, list) else value, f"--{name}")
        for name, value in vars(known).items()
        if name in fields
    }


def _refuse_unknown(rest: Sequence[str], known: list[str]) -> None:
    if not rest:
        return
    first = rest[0]
    if not first.startswith("--"):
        raise UserError(f"{first!r} stands alone: every value follows its --section.setting")
    name = first.removeprefix("--").split("=")[0]
    raise UserError(f"{first} is not a setting of this job{nearest(name, known)} (see --help)")
