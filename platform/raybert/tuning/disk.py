"""What a sweep keeps on disk, and whether there is room for it.

A trial that runs needs its best and its newest versions and the one that is being written. Of the
trials that are done only the best k keep their best version.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from raybert.errors import UserError
from raybert.settings import Settings
from raybert.storage import Location, committed_folder, remove_folder
from raybert.training.checkpoints import CheckpointStore
from raybert.tuning.finetuning_trial import START
from raybert.tuning.ledger import Entry, Part
from raybert.tuning.placement import Placement
from raybert.tuning.progress import ranked
from raybert.tuning.trial import part_folder

_BYTES_PER_WEIGHT = 4
# Weights and both of AdamW's averages.
_CHECKPOINT_COPIES = 3
_GIB = 1 << 30


def needed_bytes(
    settings: Settings, num_weights: int, placement: Placement, num_trials: int
) -> int:
    """The most that a sweep's versions take at any time.

    Args:
        settings: the sweep's.
        num_weights: of the model.
        placement: how many trials run at the same time.
        num_trials: in all.
    """
    weights = num_weights * _BYTES_PER_WEIGHT
    checkpoint = _CHECKPOINT_COPIES * weights
    versions = 2 + settings.finetuning.keep_last  # the best, and the one being written
    if settings.tuning.scheduler == "pbt":
        # All trials are open all the time; one may hold a copy of another's.
        open_trials, versions = num_trials, versions + 1
    else:
        open_trials = placement.concurrent
    retrained = settings.tuning.retrain_seeds
    return (open_trials * versions + settings.tuning.keep_trials + retrained) * checkpoint + weights


def refuse_without_space(sweep: Location, needed: int) -> None:
    """Raises:
    UserError: the disk can't hold that much. Of an object store nothing is known.
    """
    if not sweep.is_local:
        return
    folder = sweep.local_path
    while not folder.exists():
        folder = folder.parent
    used = sum(file.stat().st_size for file in _versions(sweep.local_path))
    free = shutil.disk_usage(folder).free + used
    if needed > free:
        raise UserError(
            f"--run {sweep}: the versions of the sweep take up to {needed / _GIB:.1f} GiB, and "
            f"{free / _GIB:.1f} GiB are free: lower tuning.concurrent_trials, tuning.keep_trials "
            "or finetuning.keep_last, or take a folder on a larger disk"
        )


def _versions(sweep: Path) -> list[Path]:
    return [file for file in sweep.glob("trials/*/part-*/**/*.safetensors") if file.is_file()]


@dataclass(frozen=True)
class Retention:
    """Removes the versions that nobody needs any more.

    Attributes:
        sweep: its folder.
        metric: that trials are compared by, and whether higher is better.
        keep: best trials whose best version stays.
    """

    sweep: Location
    metric: str
    higher: bool
    keep: int

    def prune(self, entries: Sequence[Entry]) -> None:
        """Looks at all trials; one that is open keeps what it has."""
        kept = {e.key for e in ranked(entries, self.metric, higher=self.higher)[: self.keep]}
        for entry in entries:
            if entry.state == "open":
                continue
            best = self.place_of_best(entry) if entry.key in kept else None
            self._remove_versions(entry, best)

    def _remove_versions(self, entry: Entry, best: tuple[int, int] | None) -> None:
        for number in range(len(entry.parts)):
            kept = best[1] if best is not None and best[0] == number else None
            remove_versions(part_folder(self.sweep, entry, number), kept)

    def place_of_best(self, entry: Entry) -> tuple[int, int] | None:
        """Part and step of a trial's best version."""
        best = entry.best(self.metric, higher=self.higher)
        if best is None:
            return None
        begun = [n for n, part in enumerate(entry.parts) if part.first_step < best.step]
        return begun[-1], best.step

    def move(self, entry: Entry, part: Part, donor: Entry) -> None:
        """Copies the weights that a new part of a trial begins with to its folder.

        Parts that are over give up their versions but for the trial's best.
        """
        assert part.donor is not None
        store = CheckpointStore(part_folder(self.sweep, donor, part.donor[1]))
        source = store.location_of(part.first_step)
        if not source.is_dir():
            # The donor is at the beginning of a part itself.
            source = part_folder(self.sweep, donor, part.donor[1]) / START / source.name
        folder = part_folder(self.sweep, entry, len(entry.parts))
        _remove_start(folder)
        with committed_folder(folder / START / source.name) as staging:
            for name in source.list_files():
                if name != "manifest.json":
                    with (
                        source.filesystem.open_input_stream((source / name).path) as read,
                        (staging / name).open_output_stream() as written,
                    ):
                        shutil.copyfileobj(read, written)
        self._remove_versions(entry, self.place_of_best(entry))


def remove_versions(run: Location, kept: int | None = None) -> None:
    """Removes the committed versions of a run that is over, but for the one of a step."""
    store = CheckpointStore(run)
    for step in store.steps():
        if step != kept:
            remove_folder(store.location_of(step))
    _remove_start(run)


def _remove_start(folder: Location) -> None:
    for name in (folder / START).list_dirs():
        remove_folder(folder / START / name)
