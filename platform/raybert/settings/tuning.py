"""The search: over which settings, how values are proposed, which trials go on, for how long."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from raybert.settings.marks import Section, identity, operational

# What may change in the middle of a run: neither shapes nor the order of the data depend on it.
CHANGEABLE = (
    "finetuning.learning_rate",
    "finetuning.weight_decay",
    "finetuning.max_grad_norm",
    "finetuning.layer_decay",
    "finetuning.head_dropout",
    "finetuning.class_weights",
    "model.hidden_dropout",
    "model.attention_dropout",
)


class TuningSettings(Section):
    """A sweep of finetuning runs."""

    space: dict[str, dict[str, tuple[Any, ...]]] = identity(
        {},
        "setting to choice, grid, uniform, loguniform or randint with its values; in the file of "
        "--config",
    )
    algorithm: Literal["random", "grid", "optuna"] = identity(
        "optuna",
        "how values are proposed: drawn; every combination of grid and choice; Optuna's TPE, "
        "which learns from the trials before",
    )
    scheduler: Literal["none", "asha", "median", "pbt"] = identity(
        "asha",
        "which trials go on: all; asha and median stop bad ones early; pbt moves the weights of "
        "good trials to bad ones and perturbs their settings",
    )
    seed: int = identity(42, "proposals and perturbations follow from it", ge=0, lt=1 << 63)
    num_trials: Literal["auto"] | Annotated[int, Field(ge=1)] = operational(
        "auto", "trials in all; auto: 16, or every combination of a grid"
    )
    max_hours: float | None = operational(
        None, "hours of the sweep in all, over all its launches; none: no limit", gt=0
    )
    concurrent_trials: Literal["auto"] | Annotated[int, Field(ge=1)] = operational(
        "auto", "trials that run at the same time; auto: as many as the cluster holds"
    )
    startup_trials: int = identity(
        5, "optuna: trials with drawn values before the model of good settings is used", ge=1
    )
    grace_epochs: float = identity(
        1.0, "asha, median: no trial is stopped before so many passes over the training rows", gt=0
    )
    reduction_factor: float = identity(3.0, "asha: one trial of so many goes on at a rung", gt=1)
    perturb_epochs: float = identity(
        1.0, "pbt: passes over the training rows between two exchanges of weights", gt=0
    )
    exchange_share: float = identity(
        0.25, "pbt: share of the trials that take over the weights of as many best", gt=0, le=0.5
    )
    keep_trials: int = operational(1, "best trials whose best version is kept", ge=1)
    retry_failed: bool = operational(False, "take up trials again that failed in earlier launches")
    retrain_seeds: int = operational(
        0,
        "train the best settings anew with so many seeds; 0: the best trial's version is taken",
        ge=0,
    )

    @model_validator(mode="after")
    def _scheduler_takes_algorithm(self) -> "TuningSettings":
        if self.scheduler == "pbt" and self.algorithm == "optuna":
            raise ValueError(
                "tuning.scheduler pbt changes settings itself and can't follow tuning.algorithm "
                "optuna: take random, or the scheduler asha"
            )
        if self.scheduler == "pbt" and self.num_trials == 1:
            raise ValueError("tuning.scheduler pbt needs tuning.num_trials of at least 2")
        if self.scheduler == "pbt" and self.concurrent_trials != "auto":
            raise ValueError(
                "tuning.scheduler pbt takes turns with all its trials: leave "
                "tuning.concurrent_trials auto"
            )
        fixed = [name for name in self.space if name not in CHANGEABLE]
        if self.scheduler == "pbt" and fixed:
            raise ValueError(
                f"tuning.scheduler pbt changes settings while a trial runs, and {fixed[0]} can't "
                f"change then; it can search: {', '.join(CHANGEABLE)}"
            )
        return self
