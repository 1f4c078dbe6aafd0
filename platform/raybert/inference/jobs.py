"""What the job predict does, with what a person sees of it."""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from dataclasses import replace

from raybert.cluster import RunningCluster, WorkerRequest, start
from raybert.cluster.resources import of_cluster
from raybert.errors import UserError
from raybert.inference.bulk import BulkPrediction, prepare
from raybert.inference.parts import Entry
from raybert.settings import ClusterSettings, Settings
from raybert.tracking.work import PREDICTING, WorkProgress

AUTO = "auto"


def predict_job(settings: Settings) -> None:
    """Predicts for every row of the input on a cluster and commits the folder part by part.

    Raises:
        UserError: see `prepare`; workers that can't be scheduled; broken files.
    """
    request = _request(settings)
    work = prepare(settings)
    folder = work.maker.folder
    if work.is_finished:
        print(f"{folder} is there already: {_summary(work.num_rows, work.done)}")
        return
    _say(work)
    began = time.monotonic()
    num_rows = sum(task.part.num_rows for task in work.missing)
    with start(settings.cluster, request, outputs=[folder]) as cluster:
        workers = _fitting(cluster, request, settings, len(work.missing))
        _say_workers(cluster, workers)
        with WorkProgress(PREDICTING, num_rows, folder.name) as progress:
            from raybert.inference.ray_actors import predict_parts

            carry_out = functools.partial(
                predict_parts, workers=workers, expectation=cluster.expectation
            )
            entries = work.run(carry_out, lambda entry: progress.advance(entry.rows))
    seconds = time.monotonic() - began
    rate = num_rows / seconds
    print(
        f"{folder}: {_summary(work.num_rows, entries)}, {seconds:.1f} s ({rate:,.0f} rows/s "
        "with the start of the cluster)"
    )


def _request(settings: Settings) -> WorkerRequest:
    if settings.cluster.num_workers != ClusterSettings().num_workers:
        raise UserError("cluster.num_workers is for training; here set prediction.workers")
    asked = settings.prediction.workers
    return WorkerRequest(
        num_workers=1 if asked == AUTO else asked,
        num_cpus=settings.cluster.cpus_per_worker,
        num_gpus=settings.cluster.gpus_per_worker,
        count_setting="prediction.workers",
    )


def _fitting(
    cluster: RunningCluster, request: WorkerRequest, settings: Settings, num_parts: int
) -> WorkerRequest:
    """No more workers than there are parts; with `auto` as many as the nodes have room for."""
    settled = cluster.request or request
    wanted = settled.num_workers
    if settings.prediction.workers == AUTO:
        nodes = of_cluster() if cluster.nodes is None else cluster.nodes
        wanted = max(1, sum(node.num_workers(settled) for node in nodes))
    return replace(settled, num_workers=max(1, min(wanted, num_parts)))


def _say(work: BulkPrediction) -> None:
    what = "file" if len(work.tables) == 1 else "files"
    print(f"{work.num_rows:,} rows in {len(work.tables):,} {what}", end="")
    if work.done:
        rows = sum(entry.rows for entry in work.done)
        print(f", {rows:,} of them done before", end="")
    print(f"; {work.maker.prediction.kind} by {work.maker.model}", flush=True)


def _say_workers(cluster: RunningCluster, workers: WorkerRequest) -> None:
    print(str(workers), end="")
    print(f"; dashboard {cluster.dashboard_hint}" if cluster.dashboard_hint else "", flush=True)


def _summary(num_rows: int, entries: Sequence[Entry]) -> str:
    skipped = sum(entry.rows_skipped for entry in entries)
    cut = sum(entry.texts_cut for entry in entries)
    parts = [f"{num_rows:,} rows in {len(entries):,} parts"]
    if skipped:
        parts.append(f"{skipped:,} rows without text have no prediction")
    if cut:
        parts.append(f"{cut:,} texts were cut to what the model takes")
    return ", ".join(parts)
