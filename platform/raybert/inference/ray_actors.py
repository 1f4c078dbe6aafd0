"""The parts on a cluster: actors with a model each; the only module here that knows Ray.

The driver sends names and bounds of parts and gets numbers back; texts and predictions stay where
they are made. There is nothing but the actors in the pipeline, no task that reads for them: so they
may take every CPU of the cluster, where a reading stage would wait for one for ever. A killed actor
is started again and its part given out again; what it had committed is written with the same bytes.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import ray
import ray.data

from raybert.cluster import WorkerRequest
from raybert.cluster.nodes import Expectation
from raybert.cluster.outcomes import as_user_error, outcome_batch, outcomes_of
from raybert.errors import UserError
from raybert.inference.parts import Entry, PartMaker, Task

# The next part is at the actor already when it has finished one.
_TASKS_IN_FLIGHT = 2


def predict_parts(
    maker: PartMaker, tasks: Sequence[Task], *, workers: WorkerRequest, expectation: Expectation
) -> Iterator[Entry]:
    """Gives each part's entry when it is committed, in any order.

    Args:
        workers: that fit the cluster.
        expectation: of the nodes.

    Raises:
        UserError: of the first part that failed; parts that are committed stay.
    """
    rows = [{"task": pickle.dumps(task)} for task in tasks]
    actor: Any = _PredictionWorker
    dataset = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
        actor,
        fn_constructor_args=(maker, workers.num_cpus, workers.gpus, expectation),
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(
            size=workers.num_workers, max_tasks_in_flight_per_actor=_TASKS_IN_FLIGHT
        ),
        num_cpus=workers.num_cpus,
        num_gpus=workers.gpus or None,
    )
    yield from outcomes_of(dataset)


class _PredictionWorker:
    """A model, loaded once, and the parts that it is given.

    A person's mistake comes back as a value: an exception would be retried, and its message buried
    in Ray's own.
    """

    def __init__(
        self, maker: PartMaker, num_cpus: int, num_gpus: int, expectation: Expectation
    ) -> None:
        # rayon reads this when it is first used in a process.
        os.environ["RAYON_NUM_THREADS"] = str(num_cpus)
        self._maker = maker
        self._predictor: Any = None
        self._mistake: UserError | None = None
        try:
            expectation.check()
            self._predictor = _load(maker, num_cpus, num_gpus)
        except (UserError, OSError) as error:
            self._mistake = as_user_error(error)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, list[bytes]]:
        (task,) = map(pickle.loads, batch["task"])
        return outcome_batch(self._outcome(task))

    def _outcome(self, task: Task) -> Entry | UserError:
        if self._mistake is not None:
            return self._mistake
        try:
            return self._maker.make(task, self._predictor)
        except (UserError, OSError) as error:
            return as_user_error(error)


def _load(maker: PartMaker, num_cpus: int, num_gpus: int) -> Any:
    import torch

    from bert.memory import tune_allocator
    from raybert.inference.model_folder import load_model
    from raybert.inference.predictor import Predictor
    from raybert.training.device import choose_device

    torch.set_num_threads(num_cpus)
    tune_allocator()
    device = choose_device(1 if num_gpus else 0)
    loaded = load_model(maker.model, maker.prediction.kind, "model.path")
    if loaded.fingerprint != maker.fingerprint:
        raise UserError(f"{maker.model} is not on this node what it is for the driver")
    return Predictor(loaded, maker.prediction, device)
