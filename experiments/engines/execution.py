"""Train whatever a study lacks, on one of the engines. The records are the same on all of them.

An engine is a context manager that gives a function from runs to an iterator of `Result`s, in the
order in which they finish. Its processes live as long as the context, so TensorFlow starts once.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable

from experiments import plan as planning
from experiments import study as studies
from experiments.engines.cluster import ray
from experiments.engines.processes import processes
from experiments.engines.progress import Progress
from experiments.engines.runs import Engine, Options, Result, RunsFailed, Train, name
from experiments.engines.serial import serial
from experiments.options import known
from experiments.records.store import Store
from experiments.study import Plan, Records, Run, Study
from experiments.words import counted

ENGINES: dict[str, Engine] = {"serial": serial, "processes": processes, "ray": ray}


def failure(result: Result) -> str:
    """A failed run in one line."""
    return f"{name(result.run)} failed: {result.end}"


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
    records: Records | None = None,
    train_all: Train | None = None,
) -> Plan:
    """Train whatever a study lacks at a profile, and return its completed plan.

    Args:
        study: the declaration.
        profile: one of its profiles.
        data: the data set, or its stand-in.
        store: where the records go.
        protocols: which of `PROTOCOLS` to train for.
        records: runs that have a record here count as done; None: the store.
        train_all: an open engine, so that processes start TensorFlow once for several studies;
            None opens one with a process per core.

    Raises:
        ValueError: an unknown profile or protocol.
        OSError: a record can't be written; this is checked before anything is trained.
        RunsFailed: some runs could not be trained; all others were.
    """
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
        contextlib.nullcontext(train_all)
        if train_all
        else processes(store.path, Options(default_workers()))
    )
    failed: dict[str, str] = {}
    removed, given_up = set[str](), set[str]()  # records that vanish as soon as they are written

    def waiting(plan: Plan, *roles: str) -> list[Run]:
        """What of a plan is still to be trained."""
        past = failed.keys() | given_up
        return [run for run in plan.missing(records, *roles) if run.id not in past]

    with opened as train_all:
        bar = Progress(study.name, plan, records)
        with contextlib.closing(bar):
            # What a search asks for next depends on its runs, so the long ones wait for them.
            while missing := waiting(plan, "search") or waiting(plan):
                trained = []
                for result in train_all(missing, plan.shortened, bar.passed):
                    bar.finished(result)
                    trained.append(result.run)
                    store.damaged += result.notes
                    if result.failed:
                        failed[result.run.id] = f"{study.name}: {failure(result)}"
                plan = current()
                bar.extend(plan)
                again = {run.id for run in trained if records.get(run.id) is None} - failed.keys()
                given_up |= again & removed
                removed |= again
    lines = list(failed.values())
    if number := store.forget_removed() + len(given_up):
        what = counted(number, "record was", "records were")
        line = f"{what} removed from {store.path} meanwhile"
        lines.append(f"{study.name}: {line}; the same command trains what is missing")
    if lines:
        raise RunsFailed(lines)
    for run in plan.runs():  # nothing continues these any more
        if run.id in plan.shortened:
            store.drop_checkpoint(run)
    return plan
