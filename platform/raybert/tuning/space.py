"""Search spaces as Ray Tune and Optuna know them, and values drawn from them.

A space is `tuning.space` of the settings: setting to {kind: values}, checked when it was read. Both
ends of `randint` are drawn.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import ValidationError

from raybert.errors import UserError
from raybert.settings import Settings
from raybert.settings.agreement import check_agreement
from raybert.settings.space import LISTS, Space

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

Values = dict[str, Any]

TRIAL_SECTIONS = ("model", "data", "finetuning")


def ray_space(space: Space) -> dict[str, Any]:
    """Setting to a domain of `ray.tune`; `grid` becomes `choice`."""
    from ray import tune

    return {
        setting: tune.choice(list(values))
        if kind in LISTS
        else tune.randint(int(values[0]), int(values[1]) + 1)
        if kind == "randint"
        else getattr(tune, kind)(*values)
        for setting, kind, values in _dimensions(space)
    }


def optuna_space(space: Space) -> dict[str, BaseDistribution]:
    """Setting to a distribution of Optuna; a list becomes the places in it.

    Optuna's categories have to be of a few plain types and are compared by value: places are not
    misread, whatever a setting's values are.
    """
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    return {
        setting: CategoricalDistribution(tuple(range(len(values))))
        if kind in LISTS
        else IntDistribution(int(values[0]), int(values[1]))
        if kind == "randint"
        else FloatDistribution(values[0], values[1], log=kind == "loguniform")
        for setting, kind, values in _dimensions(space)
    }


def from_optuna(space: Space, parameters: Mapping[str, Any]) -> Values:
    """The values that Optuna's parameters stand for."""
    return {
        setting: values[parameters[setting]] if kind in LISTS else parameters[setting]
        for setting, kind, values in _dimensions(space)
    }


def to_optuna(space: Space, values: Mapping[str, Any]) -> dict[str, Any]:
    """Optuna's parameters for values drawn from this space."""
    return {
        setting: listed.index(values[setting]) if kind in LISTS else values[setting]
        for setting, kind, listed in _dimensions(space)
    }


def draw(space: Space, seed: int, *place: int) -> Values:
    """Values as a function of seed and place: the same after any number of restarts."""
    random = np.random.default_rng([seed, *place])
    domains = ray_space(space)
    return {
        # Of a list numpy would take an array, and its types.
        setting: values[random.integers(len(values))]
        if kind in LISTS
        else type(values[0])(domains[setting].sample(random_state=random))
        for setting, kind, values in _dimensions(space)
    }


def combinations(space: Space) -> Iterator[Values]:
    """Every combination of the lists, the last setting changing fastest.

    Raises:
        UserError: a setting has a range, which has no end of values.
    """
    for setting, kind, _ in _dimensions(space):
        if kind not in LISTS:
            raise UserError(
                f"tuning.algorithm grid: {setting} has {kind}; every setting needs grid or choice"
            )
    for values in itertools.product(*(values for _, _, values in _dimensions(space))):
        yield dict(zip(space, values, strict=True))


def num_combinations(space: Space) -> float:
    """How many different trials there are; infinite with a range of numbers."""
    counts = [
        len(values)
        if kind in LISTS
        else values[1] - values[0] + 1
        if kind == "randint"
        else math.inf
        for _, kind, values in _dimensions(space)
    ]
    return math.prod(counts)


def _dimensions(space: Space) -> Iterator[tuple[str, str, tuple[Any, ...]]]:
    for setting, distribution in space.items():
        ((kind, values),) = distribution.items()
        yield setting, kind, tuple(values)


def key_of(values: Values) -> str:
    """The name of a trial: a hash of what sets it apart in its sweep."""
    text = json.dumps(values, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def with_values(settings: Settings, values: Mapping[str, Any]) -> Settings:
    """The settings of a trial.

    Raises:
        UserError: values that contradict each other or the other settings.
    """
    tree = settings.model_dump()
    for setting, value in values.items():
        *sections, leaf = setting.split(".")
        branch = tree
        for section in sections:
            branch = branch[section]
        branch[leaf] = value
    try:
        changed = Settings.model_validate(tree)
    except ValidationError as error:
        messages = (str(e["msg"]).removeprefix("Value error, ") for e in error.errors())
        raise UserError("; ".join(messages)) from error
    mistakes = check_agreement(changed, TRIAL_SECTIONS)
    if mistakes:
        raise UserError("; ".join(mistakes))
    return changed


def clipped(space: Space, values: Values) -> Values:
    """Values moved to the nearest that the space allows, of the type that the setting has."""
    result = dict(values)
    for setting, kind, bounds in _dimensions(space):
        if kind not in LISTS:
            value = min(max(values[setting], bounds[0]), bounds[1])
            result[setting] = type(bounds[0])(round(value) if kind == "randint" else value)
    return result


def mutations(space: Space) -> dict[str, Any]:
    """The space as PBT perturbs it: lists are stepped through, ranges are scaled or redrawn."""
    domains = ray_space(space)
    return {
        setting: list(values) if kind in LISTS else domains[setting]
        for setting, kind, values in _dimensions(space)
    }
