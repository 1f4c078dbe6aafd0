"""What makes a run this run, settled at its first launch and held against every later one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from raybert.settings import Settings
from raybert.settings.identity import identity_of
from raybert.storage import Location
from raybert.tokens import Manifest

_SECTIONS = ("model", "samples", "pretraining")
# What `auto` came to at the first launch depends on the steps or the machine of that launch.
_SETTLED_ONCE = ("micro_shards", "warmup_steps", "precision")


def settle(settings: Settings, stored: Mapping[str, Any] | None) -> Settings:
    """Settings without `auto`, but for the precision, which the device of the workers settles.

    Args:
        settings: as asked for.
        stored: identity of an earlier launch of this run, whose answers stand.
    """
    asked = settings.pretraining
    if stored is not None:
        known = {name: stored.get(f"pretraining.{name}", "auto") for name in _SETTLED_ONCE}
        update = {name: known[name] for name in _SETTLED_ONCE if getattr(asked, name) == "auto"}
    else:
        fresh = {
            "micro_shards": asked.num_micro_shards(settings.samples.max_length),
            "warmup_steps": asked.num_warmup_steps(),
        }
        update = {name: value for name, value in fresh.items() if getattr(asked, name) == "auto"}
    return settings.model_copy(update={"pretraining": asked.model_copy(update=update)})


def identity(settings: Settings, manifest: Manifest) -> dict[str, object]:
    """Every identity setting of pretraining, and fingerprints of tokenizer and tokens."""
    values = {
        f"{section}.{name}": value
        for section in _SECTIONS
        for name, value in identity_of(getattr(settings, section)).items()
    }
    if settings.model.init_from is not None:
        # The same folder, from wherever the job is started.
        values["model.init_from"] = Location.parse(settings.model.init_from).address
    return values | {"tokens": manifest.fingerprint, "tokenizer": manifest.tokenizer}
