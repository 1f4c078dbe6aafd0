"""The folder of a sweep, and what makes a sweep this sweep.

settings.yaml          the settings of the last launch, loadable with --config
identity.yaml          what every launch has to agree with
ledger/                a file per trial: the truth about what is done
trials/<trial>/part-*/ run folders of finetuning
data/                  tokenized once, mapped by all trials
leaderboard.csv, .md   the trials side by side
tensorboard/           hparams and held-out curves, a folder per trial
clock.json             seconds that the launches took
best/                  the best model and its report
"""

from __future__ import annotations

import json

import yaml

from raybert.errors import UserError
from raybert.settings import Settings
from raybert.settings.identity import identity_of, refuse_other_identity
from raybert.settings.yaml_text import to_yaml
from raybert.storage import Location, write_file
from raybert.tracking.run_folder import LAUNCHES, LOGS, RAY

SETTINGS = "settings.yaml"
IDENTITY = "identity.yaml"
DATA = "data"
BEST = "best"
_CLOCK = "clock.json"

SECTIONS = ("run", "model", "data", "finetuning", "tuning", "cluster")


def refuse_other_content(sweep: Location) -> None:
    """Raises:
    UserError: the folder holds something that is no sweep.
    """
    if sweep.is_file():
        raise UserError(f"--run {sweep} is a file; it must be a folder, or nothing yet")
    if (sweep / IDENTITY).is_file() and (sweep / "ledger").is_dir():
        return
    # What a launch leaves that ends before its first trial.
    ours = {DATA, LOGS, LAUNCHES, SETTINGS, IDENTITY, _CLOCK, RAY, "lease.json", ".lease.lock"}
    found = [name for name in [*sweep.list_files(), *sweep.list_dirs()] if name not in ours]
    if found:
        raise UserError(
            f"--run {sweep} holds other things ({', '.join(found[:3])}) and no sweep: take a new "
            "folder, or the folder of a sweep to go on with it"
        )


def identity(settings: Settings, data: str) -> dict[str, object]:
    """What launches of a sweep have to agree in.

    Args:
        settings: the sweep's.
        data: fingerprint of the labelled data.
    """
    values: dict[str, object] = {"data": data}
    for section in ("model", "data", "finetuning", "tuning"):
        part = getattr(settings, section)
        values |= {f"{section}.{name}": value for name, value in identity_of(part).items()}
    # Operational in one run, where more of them go on; in a sweep they set trials apart.
    values["finetuning.epochs"] = settings.finetuning.epochs
    if settings.model.init_from is not None:
        values["model.init_from"] = Location.parse(settings.model.init_from).address
    del values["tuning.space"]
    for setting, distribution in settings.tuning.space.items():
        # A value that is searched has no effect where it stands.
        values.pop(setting, None)
        ((kind, listed),) = distribution.items()
        values[f"tuning.space.{setting}"] = f"{kind} {list(listed)}"
    return values


def refuse_other_sweep(sweep: Location, asked: dict[str, object]) -> None:
    """Raises:
    UserError: the folder is of a sweep with other settings; with a diff.
    """
    file = sweep / IDENTITY
    if file.is_file():
        refuse_other_identity(sweep, yaml.safe_load(file.read_bytes()), asked)


def record(sweep: Location, settings: Settings, asked: dict[str, object]) -> None:
    """Writes the two files."""
    if not (sweep / IDENTITY).is_file():
        write_file(sweep / IDENTITY, yaml.safe_dump(asked).encode())
    write_file(sweep / SETTINGS, to_yaml(settings, SECTIONS).encode())


def seconds_used(sweep: Location) -> float:
    """Of all launches so far."""
    file = sweep / _CLOCK
    return float(json.loads(file.read_bytes())["seconds"]) if file.is_file() else 0.0


def set_seconds_used(sweep: Location, seconds: float) -> None:
    write_file(sweep / _CLOCK, json.dumps({"seconds": round(seconds, 1)}).encode())
