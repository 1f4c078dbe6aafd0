"""Search spaces: `tuning.space` gathered from the layers and held against the settings tree.

In YAML a setting of the tree, nested or with dots, stands over a distribution:

    tuning:
      space:
        finetuning.learning_rate: {loguniform: [1.0e-5, 1.0e-3]}
        finetuning:
          batch_size: {choice: [16, 32]}
          epochs: {randint: [2, 5]}          # 2, 3, 4 or 5

Every value that could be drawn is checked here, before a trial starts.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import yaml
from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from raybert.errors import UserError
from raybert.settings.fields import allowed, allows_none, is_list, nearest
from raybert.settings.layers import Given, Layer
from raybert.settings.marks import is_path

SPACE = "tuning.space"
LISTS = ("choice", "grid")
RANGES = ("uniform", "loguniform", "randint")
KINDS = (*LISTS, *RANGES)

# Sections of what one trial does. The rest says where and how a sweep is carried out.
SEARCHABLE = ("model", "data", "finetuning")
# What all trials have to share, so that their figures can be compared.
_SHARED = ("finetuning.metric", "finetuning.seeds", "data.validation_share", "data.split_seed")

Space = dict[str, dict[str, tuple[Any, ...]]]


def gather_space(layer: Layer, fields: Mapping[str, FieldInfo]) -> Layer:
    """The layer with all `tuning.space.…` put together into one value of `tuning.space`.

    Raises:
        UserError: a setting that isn't in the tree or can't be searched, no distribution, bounds
            that can't be, a value that the setting doesn't take; a line for each.
    """
    inside = {name: given for name, given in layer.items() if name.startswith(f"{SPACE}.")}
    empty = layer.get(SPACE)
    if empty is not None and empty.value not in (None, {}, ""):
        where = empty.origin if SPACE in empty.origin else f"{empty.origin}: {SPACE}"
        raise UserError(
            f"{where} is {empty.value!r}; a mapping of settings to distributions "
            f"({', '.join(KINDS)}) is needed there, in the file of --config"
        )
    space: Space = {}
    origins: dict[str, str] = {}
    mistakes = []
    for name, given in inside.items():
        try:
            setting, kind, values = _dimension(name.removeprefix(f"{SPACE}."), given, fields)
            if setting in space:
                raise UserError(f"{setting} has a distribution already ({origins[setting]})")
            space[setting], origins[setting] = {kind: values}, given.origin
        except UserError as error:
            where = given.origin if SPACE in given.origin else f"{given.origin}: {SPACE}"
            mistakes.append(f"{where}: {error}")
    if mistakes:
        raise UserError("\n".join(mistakes))
    kept = {n: given for n, given in layer.items() if n not in inside and n != SPACE}
    if space:
        kept[SPACE] = Given(space, ", ".join(dict.fromkeys(origins.values())))
    return kept


def _dimension(
    name: str, given: Given, fields: Mapping[str, FieldInfo]
) -> tuple[str, str, tuple[Any, ...]]:
    setting, kind = _split(name, fields)
    field = fields[setting]
    values = yaml.safe_load(given.value) if isinstance(given.value, str) else given.value
    if not isinstance(values, Sequence) or isinstance(values, str):
        raise UserError(
            f"{setting}: {kind} is {values!r}; a list is needed, such as {kind}: [1, 2]"
        )
    taken = tuple(_taken(setting, kind, value, field) for value in values)
    if kind in LISTS:
        _check_list(setting, kind, taken)
    else:
        _check_range(setting, kind, taken)
    return setting, kind, taken


def _split(name: str, fields: Mapping[str, FieldInfo]) -> tuple[str, str]:
    """Setting and kind of `finetuning.learning_rate.loguniform`."""
    setting, _, kind = name.rpartition(".")
    if name in fields or kind not in KINDS:
        if name in fields:
            raise UserError(f"{name} needs a distribution, such as {name}: {{choice: [1, 2]}}")
        if setting in fields:
            raise UserError(
                f"{setting} has {kind!r}; allowed: {', '.join(KINDS)}{nearest(kind, KINDS)}"
            )
        raise UserError(f"{name} is not a setting{nearest(name, list(fields))}")
    if setting not in fields:
        raise UserError(f"{setting} is not a setting{nearest(setting, list(fields))}")
    field = fields[setting]
    if setting.split(".")[0] not in SEARCHABLE:
        raise UserError(
            f"{setting} is the sweep's, not a trial's; settings of {', '.join(SEARCHABLE)} can be "
            "searched"
        )
    if setting in _SHARED or is_path(field):
        raise UserError(f"{setting} has to be the same for all trials, or they can't be compared")
    return setting, kind


def _taken(setting: str, kind: str, value: object, field: FieldInfo) -> Any:
    """The value as the setting has it."""
    takes_text = is_list(field) or field.annotation is str
    if isinstance(value, str) and allows_none(field) and value.lower() in ("none", "null"):
        value = None
    if isinstance(value, bool) and field.annotation is not bool and not takes_text:
        value = str(value).lower()  # pydantic takes true for 1
    annotated: Any = Annotated[field.annotation, field]
    try:
        return TypeAdapter(annotated).validate_python(value)
    except ValidationError as error:
        raise UserError(f"{setting}: {kind} has {value}; allowed: {allowed(field)}") from error


def _check_list(setting: str, kind: str, values: tuple[Any, ...]) -> None:
    if not values:
        raise UserError(f"{setting}: {kind} is empty")
    twice = [value for place, value in enumerate(values) if value in values[:place]]
    if twice:
        raise UserError(f"{setting}: {kind} has {twice[0]} twice")


def _check_range(setting: str, kind: str, values: tuple[Any, ...]) -> None:
    if len(values) != 2:
        raise UserError(f"{setting}: {kind} has {len(values)} values; [lowest, highest] is needed")
    numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    if len(numbers) < 2:
        raise UserError(f"{setting}: {kind} is for numbers; take choice")
    low, high = numbers
    if kind == "randint" and (low != math.floor(low) or high != math.floor(high)):
        raise UserError(f"{setting}: randint [{low}, {high}] needs whole numbers; take uniform")
    if kind != "randint" and isinstance(low, int) and isinstance(high, int):
        raise UserError(f"{setting} takes whole numbers: randint or choice, not {kind}")
    if low >= high:
        raise UserError(f"{setting}: {kind} [{low}, {high}]: the lowest must be below the highest")
    if kind == "loguniform" and low <= 0:
        raise UserError(f"{setting}: loguniform [{low}, {high}]: the lowest must be above 0")
