"""What makes a run this run: settled at its first launch, held against every later one.

`identity.yaml` in the run folder has every identity setting with what `auto` came to, and the
fingerprints of tokenizer and tokens; `settings.yaml` beside it the settings of the last launch,
loadable with --config.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml

from raybert.settings import Settings
from raybert.settings.identity import identity_of, refuse_other_identity
from raybert.settings.yaml_text import to_yaml
from raybert.storage import Location, write_file
from raybert.tokens import Manifest

SETTINGS = "settings.yaml"
IDENTITY = "identity.yaml"

_SECTIONS = ("model", "samples", "pretraining")
_STORED_SECTIONS = ("tokens", "run", *_SECTIONS, "cluster")
# What `auto` came to at the first launch depends on the steps or the machine of that launch.
_SETTLED_ONCE = ("micro_shards", "micro_shard_threads", "warmup_steps", "precision")


def settle(settings: Settings, run: Location, manifest: Manifest) -> Settings:
    """Settings without `auto`, as far as a run knows its answers.

    The answers of the run's first launch stand. Before that only the precision stays `auto`: the
    device that will train settles it.

    Raises:
        UserError: the run was made with other identity settings or other tokens; with a diff.
    """
    stored = read_identity(run)
    asked, cluster = settings.pretraining, settings.cluster
    if stored is None:
        num_shards = asked.num_micro_shards(settings.samples.max_length)
        answers = {
            "micro_shards": num_shards,
            "micro_shard_threads": asked.fitting_threads(
                num_shards, cluster.num_workers, cluster.cpus_per_worker
            ),
            "warmup_steps": asked.num_warmup_steps(),
        }
    else:
        answers = {name: stored.get(f"pretraining.{name}", "auto") for name in _SETTLED_ONCE}
    settings = with_pretraining(
        settings, {k: v for k, v in answers.items() if getattr(asked, k) == "auto"}
    )
    if stored is not None:
        refuse_other_identity(run, stored, _identity(settings, manifest))
    return settings


def with_pretraining(settings: Settings, changes: dict[str, Any]) -> Settings:
    """Settings with some of the pretraining section changed."""
    pretraining = settings.pretraining.model_copy(update=changes)
    return settings.model_copy(update={"pretraining": pretraining})


def record(settings: Settings, run: Location, manifest: Manifest) -> None:
    """Writes what `settle` reads, and the settings for people."""
    write_identity(run, _identity(settings, manifest), to_yaml(settings, _STORED_SECTIONS))


def write_identity(run: Location, identity: dict[str, object], settings: str) -> None:
    """The identity at a run's first launch; the settings for people at every one."""
    if not (run / IDENTITY).is_file():
        write_file(run / IDENTITY, yaml.safe_dump(identity).encode())
    write_file(run / SETTINGS, settings.encode())


def read_identity(run: Location) -> dict[str, Any] | None:
    """What the run's first launch settled; None before it."""
    file = run / IDENTITY
    return yaml.safe_load(file.read_bytes()) if file.is_file() else None


def _identity(settings: Settings, manifest: Manifest) -> dict[str, object]:
    values = sections_identity(settings, _SECTIONS)
    return values | {"tokens": manifest.fingerprint, "tokenizer": manifest.tokenizer}


def sections_identity(settings: Settings, sections: Sequence[str]) -> dict[str, object]:
    """Every identity setting of some sections, by dotted name."""
    values = {
        f"{section}.{name}": value
        for section in sections
        for name, value in identity_of(getattr(settings, section)).items()
    }
    if settings.model.init_from is not None:
        # The same folder, from wherever the job is started.
        values["model.init_from"] = Location.parse(settings.model.init_from).address
    return values
