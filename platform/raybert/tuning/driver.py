"""A sweep, as the process sees it that a person started.

It refuses mistakes before anything starts, holds the sweep's lease, has Ray Tune run the trials
that the ledger lacks, and ends with a leaderboard and the best model.
"""

from __future__ import annotations

import shlex
import sys
import time
from dataclasses import dataclass, replace

from rich.console import Console

from raybert.cluster import RunningCluster, WorkerRequest, start
from raybert.cluster.leftovers import remove_leftovers
from raybert.cluster.resources import of_cluster
from raybert.errors import UserError
from raybert.finetuning.data import TokenizedData, prepare_data
from raybert.finetuning.driver import refuse_idle_workers
from raybert.finetuning.metrics import choose_metric, is_better
from raybert.finetuning.start import head_overrides, look_at_start, model_class
from raybert.settings import Settings
from raybert.settings.tuning import TuningSettings
from raybert.storage import Location
from raybert.tracking import RunFolder
from raybert.tracking.environment import describe_launch, new_launch
from raybert.tracking.process_log import process_log
from raybert.training.lease import Lease, Permit
from raybert.training.stopping import StopRequest, stopping_on_signals
from raybert.tuning import sweep_folder, winner
from raybert.tuning.disk import (
    Retention,
    needed_bytes,
    refuse_without_space,
    remove_versions,
)
from raybert.tuning.finetuning_trial import train_trial
from raybert.tuning.leaderboard import Leaderboard, write_hparams
from raybert.tuning.ledger import Entry, Ledger, Part
from raybert.tuning.placement import Placement, place
from raybert.tuning.progress import SweepDisplay, describe_values, ranked
from raybert.tuning.proposals import Fixed, Proposer, num_trials, proposer_of
from raybert.tuning.space import num_combinations, with_values
from raybert.tuning.trial import Sweep, Train, part_folder
from raybert.tuning.trials import Plan, remove_notes, run_trials

RETRAINED = "retrained"
_CLOCK_S = 10.0
_LOG_WIDTH = 160


@dataclass(frozen=True)
class Prepared:
    """A sweep that passed the door.

    Attributes:
        settings: the tree.
        sweep: its folder.
        data: tokenized, without the test rows.
        test: the same with them; None where there are none.
        metric: that trials are compared by, and whether higher is better.
        num_trials: in all.
        num_weights: of the model.
        proposer: of values.
        identity: what launches agree in.
    """

    settings: Settings
    sweep: Location
    data: TokenizedData
    test: TokenizedData | None
    metric: str
    higher: bool
    num_trials: int
    num_weights: int
    proposer: Proposer
    identity: dict[str, object]


def prepare(settings: Settings) -> Prepared:
    """Looks for mistakes in everything that can be known before a cluster starts.

    Raises:
        UserError: one of them.
    """
    if settings.run is None:
        raise UserError("--run is missing: the folder for trials, leaderboard and the best model")
    if not settings.tuning.space:
        raise UserError(
            "tuning.space is empty: give the settings to search in the file of --config, such as "
            "jobs/configs/search.yaml"
        )
    sweep = Location.parse(settings.run)
    sweep_folder.refuse_other_content(sweep)
    _refuse_retraining_of_schedules(settings.tuning)
    if settings.finetuning.seeds > 1:
        raise UserError(
            f"finetuning.seeds {settings.finetuning.seeds}: a trial trains with one seed; "
            "tuning.retrain_seeds trains the best settings anew with several"
        )
    refuse_idle_workers(settings)
    folder = Location.parse(settings.data.cache or f"{sweep.address}/{sweep_folder.DATA}")
    searched = _with_test(settings, None)
    data = prepare_data(searched, folder)
    test = None if settings.data.test is None else prepare_data(settings, folder)
    metric = choose_metric(data.facts.task, settings.finetuning.metric, data.facts.label_names)
    higher = is_better(metric, 1.0, 0.0)
    identity = sweep_folder.identity(settings, data.fingerprint)
    sweep_folder.refuse_other_sweep(sweep, identity)
    return Prepared(
        settings=settings,
        sweep=sweep,
        data=data,
        test=test,
        metric=metric,
        higher=higher,
        num_trials=num_trials(settings.tuning),
        num_weights=_num_weights(searched, data),
        proposer=proposer_of(searched, metric, higher=higher),
        identity=identity,
    )


def _with_test(settings: Settings, test: str | None) -> Settings:
    return settings.model_copy(update={"data": settings.data.model_copy(update={"test": test})})


def _refuse_retraining_of_schedules(tuning: TuningSettings) -> None:
    if tuning.scheduler == "pbt" and tuning.retrain_seeds:
        raise UserError(
            f"tuning.retrain_seeds {tuning.retrain_seeds}: pbt finds a schedule of settings and "
            "no single ones to train with anew; leave it 0"
        )


def _num_weights(settings: Settings, data: TokenizedData) -> int:
    import torch

    config = look_at_start(settings).config.replace(**head_overrides(settings, data.facts))
    with torch.device("meta"):
        model = model_class(data.facts)(config, seed=None)
    return sum(parameter.numel() for parameter in model.parameters())


def tune(settings: Settings, train: Train = train_trial) -> None:
    """Searches as the settings say, from where the sweep stands.

    Args:
        settings: the tree.
        train: trains a trial.

    Raises:
        UserError: a person's mistake, at the door or found on the way.
        SystemExit: stopped by a signal; what was done stands in the ledger.
    """
    prepared = prepare(settings)
    cluster = settings.cluster
    request = WorkerRequest(cluster.num_workers, cluster.cpus_per_worker, cluster.gpus_per_worker)
    outputs = [prepared.sweep, prepared.data.location.parent]
    launch = new_launch()
    folder = RunFolder(prepared.sweep)
    with (
        Lease(prepared.sweep) as lease,
        process_log(folder.logs(launch) / "driver.log"),
        start(cluster, request, outputs=outputs) as running,
        stopping_on_signals() as stop,
    ):
        folder.record_launch(describe_launch(launch) | {"cluster": running.address})
        sweep_folder.record(prepared.sweep, settings, prepared.identity)
        remove_leftovers()
        assert running.request is not None  # start has checked it
        placement = place(
            settings.tuning,
            running.request,
            of_cluster() if running.nodes is None else running.nodes,
            prepared.num_trials,
            may_grow=running.nodes is None,
        )
        needed = needed_bytes(settings, prepared.num_weights, placement, prepared.num_trials)
        refuse_without_space(prepared.sweep, needed)
        if settings.plan:
            _print_plan(prepared, placement, needed)
            return
        sweep = _Sweep(prepared, placement, running, launch, lease.permit(), train, stop)
        sweep.introduce()
        try:
            undone = sweep.search()
            if undone is None or stop.reason is None:
                sweep.show_leaderboard()
                if (found := sweep.find_best(undone)) is not None:
                    sweep.tell(found)
        finally:
            folder.close()
    if stop.reason is not None:
        _end_as_signalled(stop)
    if undone is not None:
        print(f"{undone} ended the search; more --tuning.max_hours goes on with it", flush=True)


class _Sweep:
    """One launch of a sweep on a cluster."""

    def __init__(
        self,
        prepared: Prepared,
        placement: Placement,
        cluster: RunningCluster,
        launch: str,
        permit: Permit,
        train: Train,
        stop: StopRequest,
    ) -> None:
        self._prepared = prepared
        self._placement = placement
        self._cluster = cluster
        self._launch = launch
        self._permit = permit
        self._train = train
        self._stop = stop
        self._ledger = Ledger(prepared.sweep)
        self._retention = Retention(
            prepared.sweep, prepared.metric, prepared.higher, prepared.settings.tuning.keep_trials
        )
        self._display = SweepDisplay()
        self._began = time.monotonic()
        self._used_before = sweep_folder.seconds_used(prepared.sweep)
        self._clock_at = float("-inf")

    def introduce(self) -> None:
        cluster = self._cluster
        prepared, tuning = self._prepared, self._prepared.settings.tuning
        where = "started here" if cluster.started_here else cluster.address
        lines = [
            f"sweep       {prepared.sweep}",
            f"search      {tuning.algorithm}, scheduler {tuning.scheduler}, {prepared.num_trials} "
            f"trials of {len(tuning.space)} settings, compared by {prepared.metric}",
            f"cluster     {where}; {self._placement.concurrent} trials at the same time",
            *(prepared.test or prepared.data).facts.lines(),
            f"tensorboard --logdir {prepared.sweep}",
        ]
        if cluster.dashboard_url:
            lines.insert(3, f"dashboard   {cluster.dashboard_hint}")
        entries = self._ledger.entries()
        if entries:
            done = sum(entry.state != "open" for entry in entries)
            lines.append(f"going on    {done} trials are done, {len(entries) - done} half done")
        for line in lines:
            self._display.note(line)

    def search(self) -> str | None:
        """Runs the trials that are missing; why some are left undone, if some are."""
        prepared, tuning = self._prepared, self._prepared.settings.tuning
        self._retention.prune(self._ledger.entries())
        left = None
        if tuning.max_hours is not None:
            left = max(0.0, 3600 * tuning.max_hours - self._used_before)
        undone = self._run(tuning, self._ledger, prepared.sweep, prepared.proposer, left)
        self._retention.prune(self._ledger.entries())
        self._keep_clock()
        return undone

    def _run(
        self,
        tuning: TuningSettings,
        ledger: Ledger,
        folder: Location,
        proposer: Proposer,
        seconds_left: float | None,
    ) -> str | None:
        prepared = self._prepared
        settings = _with_test(prepared.settings, None)
        shared = not any(name.startswith("data.") for name in prepared.settings.tuning.space)
        sweep = Sweep(
            folder=folder,
            settings=settings,
            data=prepared.data if shared else None,
            data_folder=prepared.data.location.parent,
            permit=self._permit,
            train=self._train,
            exchanges=tuning.scheduler == "pbt",
            expectation=self._cluster.expectation,
        )
        entries = ledger.entries()
        wanted = prepared.num_trials if ledger is self._ledger else tuning.retrain_seeds
        if len(entries) >= wanted and not _has_work(entries, tuning):
            return None
        plan = Plan(
            tuning=tuning,
            ledger=ledger,
            proposer=proposer,
            num_trials=wanted,
            placement=self._placement,
            sweep=sweep,
            metric=prepared.metric,
            higher=prepared.higher,
            most_epochs=_most_epochs(prepared.settings),
            max_failures=settings.cluster.max_failures,
            move=self._move,
            closed=lambda entry: self._closed(ledger),
            seconds_left=seconds_left,
        )
        try:
            return run_trials(plan, self._launch, self._display, self._stop, self._tick)
        finally:
            remove_notes(folder)

    def _move(self, entry: Entry, part: Part) -> None:
        assert part.donor is not None  # it was moved
        self._retention.move(entry, part, self._ledger[part.donor[0]])

    def _closed(self, ledger: Ledger) -> None:
        if ledger is self._ledger:
            prepared, entries = self._prepared, ledger.entries()
            self._retention.prune(entries)
            write_hparams(prepared.sweep, entries, prepared.metric, higher=prepared.higher)

    def _tick(self) -> None:
        if time.monotonic() - self._clock_at > _CLOCK_S:
            self._keep_clock()

    def _keep_clock(self) -> None:
        self._clock_at = time.monotonic()
        used = self._used_before + self._clock_at - self._began
        sweep_folder.set_seconds_used(self._prepared.sweep, used)

    def show_leaderboard(self) -> None:
        """Commits the leaderboard and prints its head."""
        prepared, entries = self._prepared, self._ledger.entries()
        write_hparams(prepared.sweep, entries, prepared.metric, higher=prepared.higher)
        space = prepared.settings.tuning.space
        board = Leaderboard(entries, space, prepared.metric, higher=prepared.higher)
        board.write(prepared.sweep)
        console = Console()
        if not console.is_terminal:
            console.width = _LOG_WIDTH
        console.print(board.table())

    def find_best(self, undone: str | None) -> winner.Best | None:
        """Scores and exports the best trial, trained anew if that is wanted.

        Args:
            undone: why trials are left undone, if some are.

        Returns:
            None: no trial came so far, or none of those that were trained anew.

        Raises:
            UserError: all trials failed.
        """
        prepared, tuning = self._prepared, self._prepared.settings.tuning
        order = ranked(self._ledger.entries(), prepared.metric, higher=prepared.higher)
        if not order:
            if undone is not None:
                return None
            raise UserError(
                f"no trial of {prepared.sweep} has a figure; see the reasons in leaderboard.md"
            )
        entry = order[0]
        test_data = None if prepared.test is None else prepared.test.fingerprint
        known = winner.read_best(prepared.sweep)
        if winner.reusable(known, entry, tuning.retrain_seeds, test_data):
            return known
        runs = self._retrain(entry) if tuning.retrain_seeds else [self._run_of(entry)]
        if not runs:
            return None
        figures = winner.finish_on_cluster(self._placement.workers.bundle)(runs)
        best = winner.Best(
            trial=(entry.number, entry.key),
            values=entry.values,
            metric=prepared.metric,
            models=tuple(figures),
            exported=winner.best_of(figures, prepared.metric, higher=prepared.higher),
            test_data=test_data,
        )
        winner.write_best(prepared.sweep, best)
        for run in runs if tuning.retrain_seeds else []:
            remove_versions(run.run)
        return best

    def _run_of(self, entry: Entry) -> winner.Finish:
        place = self._retention.place_of_best(entry)
        assert place is not None  # it is ranked
        return self._finish(entry, part_folder(self._prepared.sweep, entry, place[0]), place[0])

    def _finish(self, entry: Entry, run: Location, part: int) -> winner.Finish:
        prepared = self._prepared
        settings = with_values(_with_test(prepared.settings, None), entry.parts[part].values)
        folder = prepared.data.location.parent
        test = None
        if prepared.test is not None:
            test = prepare_data(_with_test(settings, prepared.settings.data.test), folder)
        return winner.Finish(settings, run, prepare_data(settings, folder), test, self._permit)

    def _retrain(self, entry: Entry) -> list[winner.Finish]:
        prepared, tuning = self._prepared, self._prepared.settings.tuning
        folder = prepared.sweep / RETRAINED / entry.name
        ledger = Ledger(folder)
        first = prepared.settings.finetuning.seed + 1
        values = [
            entry.values | {"finetuning.seed": first + n} for n in range(tuning.retrain_seeds)
        ]
        self._display.note(
            f"training {describe_values(entry.values)} anew with {len(values)} seeds"
        )
        plain = tuning.model_copy(update={"scheduler": "none"})
        undone = self._run(plain, ledger, folder, Fixed(values), None)
        if undone is not None:
            return []
        done = [e for e in ledger.entries()[: len(values)] if e.state == "finished"]
        return [self._finish(e, part_folder(folder, e, 0), 0) for e in done]

    def tell(self, best: winner.Best) -> None:
        prepared = self._prepared
        facts = None if prepared.test is None else prepared.test.facts.splits["test"]
        lines = winner.describe(best, facts.num_rows if facts else 0)
        lines.insert(1, f"settings    {describe_values(best.values)}")
        lines.append(f"the model is in {prepared.sweep / 'export'}")
        lines.append(f"all trials are in {prepared.sweep / 'leaderboard.md'} and .csv")
        print("\n".join(lines), flush=True)


def _has_work(entries: list[Entry], tuning: TuningSettings) -> bool:
    again = ("open", "failed") if tuning.retry_failed else ("open",)
    return any(entry.state in again for entry in entries)


def _most_epochs(settings: Settings) -> float:
    searched = settings.tuning.space.get("finetuning.epochs")
    if searched is None:
        return settings.finetuning.epochs
    ((_, values),) = searched.items()
    return float(max(values))


def _print_plan(prepared: Prepared, placement: Placement, needed: int) -> None:
    tuning = prepared.settings.tuning
    possible = num_combinations(tuning.space)
    print(f"trials      {prepared.num_trials} of {possible:,.0f} possible")
    print(f"at once     {placement.concurrent}, each {replace(placement.workers, num_workers=1)}")
    print(f"disk        up to {needed / 2**30:.2f} GiB for versions")
    for line in prepared.data.facts.lines():
        print(line)


def _end_as_signalled(stop: StopRequest) -> None:
    """Ends the process as one that the signal ended, which is what shells and schedulers expect."""
    print(
        f"stopped by {stop.reason}; what is done stands. To go on:\n"
        f"  {shlex.join(['python', *sys.argv])}",
        flush=True,
    )
    if stop.signal is not None:
        sys.exit(128 + stop.signal)
