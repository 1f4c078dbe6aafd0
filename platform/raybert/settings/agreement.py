"""Checks between settings of different sections, for those sections that a job uses."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from raybert.settings.tree import Settings

Check = Callable[["Settings"], str | None]


def _length_fits_positions(settings: "Settings") -> str | None:
    length, positions = settings.samples.max_length, settings.model.max_position_embeddings
    # A model that is read from disk has the positions it has.
    if settings.model.init_from is not None or length <= positions:
        return None
    return (
        f"samples.max_length {length} is more than model.max_position_embeddings {positions}: "
        "the model has no position for the rest"
    )


def _micro_shards_fit_device(settings: "Settings") -> str | None:
    try:
        settings.pretraining.num_micro_shards(settings.samples.max_length)
    except ValueError as error:
        return str(error)
    return None


def _workers_have_micro_shards(settings: "Settings") -> str | None:
    num_workers = settings.cluster.num_workers
    try:
        num_shards = settings.pretraining.num_micro_shards(settings.samples.max_length)
    except ValueError:
        return None  # told by its own check
    if num_workers <= num_shards:
        return None
    return (
        f"cluster.num_workers {num_workers} is more than the {num_shards} micro-shards of a step, "
        f"and each worker needs one: set pretraining.micro_shards to {num_workers} or more (at "
        f"most pretraining.batch_size {settings.pretraining.batch_size}), or take fewer workers"
    )


def _finetuning_fits_device(settings: "Settings") -> str | None:
    try:
        settings.finetuning.num_micro_shards(settings.data.max_length)
    except ValueError as error:
        return str(error)
    return None


def _exchange_in_one_process(settings: "Settings") -> str | None:
    num_workers = settings.cluster.num_workers
    if settings.tuning.scheduler != "pbt" or num_workers == 1:
        return None
    return (
        "tuning.scheduler pbt pauses and moves trials at every exchange, which would start "
        f"cluster.num_workers {num_workers} anew each time: take 1, or the scheduler asha"
    )


_CHECKS: tuple[tuple[frozenset[str], Check], ...] = (
    (frozenset({"samples", "model"}), _length_fits_positions),
    (frozenset({"samples", "pretraining"}), _micro_shards_fit_device),
    (frozenset({"samples", "pretraining", "cluster"}), _workers_have_micro_shards),
    (frozenset({"data", "finetuning"}), _finetuning_fits_device),
    (frozenset({"tuning", "cluster"}), _exchange_in_one_process),
)


def check_agreement(settings: "Settings", sections: Sequence[str] | None = None) -> list[str]:
    """A message for each contradiction among `sections` (None: all)."""
    found = (
        check(settings) for used, check in _CHECKS if sections is None or used <= set(sections)
    )
    return [message for message in found if message is not None]
