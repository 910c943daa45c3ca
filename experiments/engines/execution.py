"""Train runs: one after the other, or in several processes. The records are the same.

An engine is a context manager that gives a function from runs to an iterator of `Result`s, in the
order they finish. Its processes live as long as the context, so that TensorFlow starts once.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from experiments import plan as planning
from experiments import study as studies
from experiments.options import known
from experiments.records.store import Store
from experiments.study import Plan, Records, Run, Study


@dataclass(frozen=True)
class Result:
    """A finished run.

    Attributes:
        run: the run.
        end: how it ended, in words.
        seconds: how long it took here; 0 if another process trained it.
        damaged: what was wrong with files of the run that were ignored, one line each.
    """

    run: Run
    end: str
    seconds: float
    damaged: tuple[str, ...]


class Train(Protocol):
    """Trains runs; of those whose ids are in `keep`, the last state stays for longer runs."""

    def __call__(self, runs: Sequence[Run], keep: Collection[str] = ()) -> Iterator[Result]:
        """The results, in the order in which the runs finish."""


Engine = Callable[[Path, int], AbstractContextManager[Train]]


def train_and_store(run: Run, folder: Path, wait: bool, keep: bool = False) -> Result | None:
    """Train a run unless it has a record; None if another process is at it, or at another run of
    its lineage, and `wait` is false. With `keep` its last state stays for a longer run."""
    store = Store(folder)
    with store.claim(run.lineage, wait) as claimed:
        if not claimed:
            return None
        record = store.get(run.id)
        seconds = 0.0
        if record is None:
            from experiments.training.train import train

            record = train(run, store, keep=keep)
            store.put(record)
            if not keep:
                store.drop_checkpoint(run)
            seconds = record["manifest"]["wall_seconds"]
    return Result(run, _end(record), seconds, tuple(store.damaged))


def _end(record: Mapping[str, Any]) -> str:
    if record["status"] == "diverged":
        return f"diverged in pass {record['diverged_at']}"
    metrics = record["metrics"]
    if "training_cost" not in metrics:
        return f"{len(next(iter(metrics.values())))} rows"
    return f"cost {metrics['training_cost'][-1]:.4f}"


@contextlib.contextmanager
def serial(folder: Path, workers: int) -> Iterator[Train]:
    """Every run in this process, in order."""

    def train_all(runs: Sequence[Run], keep: Collection[str] = ()) -> Iterator[Result]:
        for wait in (False, True):  # first what nobody else is at, then wait for the others
            busy = []
            for run in runs:
                result = train_and_store(run, folder, wait, run.id in keep)
                if result is None:
                    busy.append(run)
                else:
                    yield result
            runs = busy

    yield train_all


@contextlib.contextmanager
def processes(folder: Path, workers: int) -> Iterator[Train]:
    """`workers` processes, each training one run at a time."""
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker)

    def train_all(runs: Sequence[Run], keep: Collection[str] = ()) -> Iterator[Result]:
        for wait in (False, True):
            with _without_interrupts():
                futures = {
                    pool.submit(train_and_store, run, folder, wait, run.id in keep): run
                    for run in runs
                }
            busy = []
            for future in as_completed(futures):
                result = future.result()
                if result is None:
                    busy.append(futures[future])
                else:
                    yield result
            runs = busy

    try:
        yield train_all
    except BaseException as error:
        # Records are written atomically, so a worker may be stopped anywhere.
        for process in list((pool._processes or {}).values()):
            process.kill()
        pool.shutdown(wait=False, cancel_futures=True)
        if isinstance(error, BrokenProcessPool):
            raise ChildProcessError(
                "a training process was killed (out of memory?); finished runs are kept, "
                "the same command goes on, --workers 1 needs the least memory"
            ) from None
        raise
    pool.shutdown()


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
    """Hold Ctrl-C and SIGTERM back for a moment: processes that start in it never see them."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start_worker() -> None:
    """Leave Ctrl-C and SIGTERM to the parent, and end when the parent ends, however it ends."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:

        def follow() -> None:
            parent.join()
            os._exit(1)

        threading.Thread(target=follow, daemon=True).start()


ENGINES: dict[str, Engine] = {"serial": serial, "processes": processes}


def default_workers() -> int:
    """One process per core this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def complete(
    study: Study,
    profile: str,
    data: str,
    store: Store,
    *,
    protocols: Iterable[str] = studies.PROTOCOLS,
    engine: str = "processes",
    workers: int | None = None,
    progress: bool = True,
    records: Records | None = None,
    train_all: Train | None = None,
) -> Plan:
    """Train whatever a study lacks at a profile, and return its plan, complete.

    Runs that have a record in `records`, by default in the store, count as done. An open engine,
    `train_all`, takes the place of one opened for this study: its processes start TensorFlow once
    for several studies.

    Raises:
        ValueError: an unknown engine, profile or protocol, or fewer than one worker.
        OSError: a record can't be written; nothing was trained in vain before that was known.
        ChildProcessError: a training process was killed.
    """
    known("engine", engine, ENGINES)
    workers = default_workers() if workers is None else workers
    if workers < 1:
        raise ValueError(f"workers={workers} is not valid: use 1 or more")
    protocols = tuple(protocols)
    for protocol in protocols:
        known("protocol", protocol, studies.PROTOCOLS)

    records = records or store

    def current() -> Plan:
        return planning.plan(study, profile, data, records, protocols)

    plan = current()
    if not plan.missing(records):
        return plan
    store.check_writable()
    opened = (
        contextlib.nullcontext(train_all) if train_all else ENGINES[engine](store.path, workers)
    )
    with opened as train_all:
        bar = Progress(study.name, plan, records, show=progress)
        with contextlib.closing(bar):
            while missing := plan.missing(records):
                for result in train_all(missing, plan.shortened):
                    bar.finished(result)
                    store.damaged += result.damaged
                plan = current()
                bar.extend(plan)
    for run in plan.runs():  # nothing goes on from these any more
        if run.id in plan.shortened:
            store.drop_checkpoint(run)
    return plan


class Progress:
    """A live bar with the remaining time on a terminal; elsewhere one line per finished run."""

    def __init__(self, name: str, plan: Plan, records: Records, show: bool = True) -> None:
        from tqdm import tqdm

        self.show = show
        self.live = show and sys.stderr.isatty()
        self.name = name
        self.done = len(plan.runs()) - len(plan.missing(records))
        self.bar = tqdm(
            total=len(plan.runs()) + plan.later,
            initial=self.done,
            desc=name,
            unit="run",
            disable=not self.live,
            smoothing=0.1,
            bar_format="{desc} {bar:20} {n_fmt}/{total_fmt} runs, {elapsed} elapsed, "
            "{remaining} left{postfix}",
        )
        self.total = len(plan.runs()) + plan.later

    def finished(self, result: Result) -> None:
        """Count a finished run."""
        self.done += 1
        run = result.run
        text = f"{run.optimizer} {studies.describe(run.settings)} seed {run.seed}: {result.end}"
        if self.live:
            self.bar.set_postfix_str(f"last: {text}", refresh=False)
            self.bar.update()
        elif self.show:
            took = f"{result.seconds:.1f} s" if result.seconds else "by another process"
            print(
                f"{self.name} {self.done}/{self.total} {text}, {took}", file=sys.stderr, flush=True
            )

    def extend(self, plan: Plan) -> None:
        """Take over a plan that has grown."""
        self.total = len(plan.runs()) + plan.later
        self.bar.total = self.total
        self.bar.refresh()

    def close(self) -> None:
        """Leave the bar as it stands."""
        self.bar.close()
