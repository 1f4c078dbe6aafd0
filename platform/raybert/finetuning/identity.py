"""What makes a finetuning run this run; see `raybert.training.run_identity`."""

from __future__ import annotations

from collections.abc import Mapping

from raybert.finetuning.data import TokenizedData
from raybert.settings import Settings
from raybert.settings.identity import refuse_other_identity
from raybert.settings.yaml_text import to_yaml
from raybert.storage import Location
from raybert.training.run_identity import read_identity, sections_identity, write_identity

# The shape is that of model.init_from.
_MODEL = ("init_from", "hidden_dropout", "attention_dropout")
_STORED_SECTIONS = ("run", "model", "data", "finetuning", "cluster")
_SETTLED_ONCE = ("micro_shards", "micro_shard_threads", "precision")


def settle(settings: Settings, run: Location, data: TokenizedData) -> Settings:
    """Settings without `auto`, as far as a run knows its answers.

    The answers of the run's first launch stand. Before that the precision stays `auto`: the device
    that will train settles it.

    Raises:
        UserError: the run was made with other identity settings or other data; with a diff.
    """
    stored = read_identity(run)
    asked = settings.finetuning
    if stored is None:
        num_workers, num_cpus = settings.cluster.num_workers, settings.cluster.cpus_per_worker
        num_shards = asked.num_micro_shards(settings.data.max_length, num_workers)
        answers = {
            "micro_shards": num_shards,
            "micro_shard_threads": asked.fitting_threads(num_shards, num_workers, num_cpus),
        }
    else:
        answers = {name: stored.get(f"finetuning.{name}", "auto") for name in _SETTLED_ONCE}
    changes = {k: v for k, v in answers.items() if getattr(asked, k) == "auto"}
    settings = with_finetuning(settings, changes)
    if stored is not None:
        refuse_other_identity(run, stored, _identity(settings, data))
    return settings


def with_finetuning(settings: Settings, changes: Mapping[str, object]) -> Settings:
    """Settings with some of the finetuning section changed."""
    finetuning = settings.finetuning.model_copy(update=changes)
    return settings.model_copy(update={"finetuning": finetuning})


def record(settings: Settings, run: Location, data: TokenizedData) -> None:
    """Writes what `settle` reads, and the settings for people."""
    write_identity(run, _identity(settings, data), to_yaml(settings, _STORED_SECTIONS))


def _identity(settings: Settings, data: TokenizedData) -> dict[str, object]:
    values = sections_identity(settings, ("model", "finetuning"))
    kept = {
        name: value
        for name, value in values.items()
        if not name.startswith("model.") or name.removeprefix("model.") in _MODEL
    }
    # The fingerprint covers every setting of the data section, and the files' contents.
    return kept | {"data": data.fingerprint, "tokenizer": data.facts.tokenizer}
