"""A machine that needs no training: it makes what `adam-study verify` compares from the records.

As a script it is `adam-study verify` on such a machine.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from experiments import pages, studies
from experiments.study import Run
from experiments.verify import again
from experiments.verify.workers import Event, Task

NAMES = ("fig1-mnist", "sec2-worst")
Spoil = Callable[[Task, dict[str, Any]], dict[str, Any]]


def published() -> dict[str, Any]:
    """The published results of two studies: one trains, one measures."""
    return {name: pages.published(studies.get(name)) for name in NAMES}


def like(run: Run, seed: bool = True) -> str:
    """The same for runs that differ in their passes alone; or in their seed, too."""
    config = {**run.config(), "epochs": 0, **({} if seed else {"seed": "any"})}
    return json.dumps(config, sort_keys=True)


class Machine:
    """Stands for `workers.Workers`, with one process.

    Attributes:
        tasks: what it was given, in order.
        stopped: the tasks that were asked to stop, which they do after their first pass.
        off: how far it rounds from the records, relative.
        spoil: what it does to each record that it makes.
        seconds: how long it takes over each.
    """

    def __init__(self, off: float = 0.0, spoil: Spoil | None = None, seconds: float = 0.0) -> None:
        self.off, self.spoil, self.seconds = off, spoil, seconds
        self.tasks: list[Task] = []
        self.waiting: list[Task] = []
        self.stopped: set[Any] = set()
        self.random = np.random.default_rng(3)
        self.records: dict[str, dict[str, Any]] = {}
        for found in published().values():
            for run in sorted(found.plan.runs(), key=lambda run: run.epochs):
                if record := found.records.get(run.id):
                    self.records |= {like(run): record, like(run, False): record}

    def __call__(self, count: int) -> Machine:
        return self

    def __enter__(self) -> Machine:
        return self

    def __exit__(self, *_: object) -> None:
        self.waiting.clear()

    @property
    def busy(self) -> list[Task]:
        return list(self.waiting)

    @property
    def free(self) -> int:
        return 1 - len(self.waiting)

    def start(self, task: Task) -> None:
        self.tasks.append(task)
        self.waiting.append(task)

    def stop(self, key: Any) -> None:
        self.stopped.add(key)

    def events(self, seconds: float) -> list[Event]:
        time.sleep(self.seconds)
        task = self.waiting.pop()
        try:
            return [Event(task, task.run.epochs, record=self.train(task), megabytes=900.0)]
        except ValueError as error:
            return [Event(task, error=f"ValueError: {error}")]

    def train(self, task: Task) -> dict[str, Any]:
        run = task.run
        record = copy.deepcopy(self.records.get(like(run)) or self.records[like(run, False)])
        record["config"] = run.config()
        metrics = record["metrics"]
        if "seconds" in metrics:
            metrics |= {name: values[: run.epochs] for name, values in metrics.items()}
            off = self.off or (1e-8 if task.twin else 0.0)
            for name in ("training_cost", "objective", "held_out_cost"):
                signs = self.random.choice([-1, 1], len(metrics[name]))
                metrics[name] = (np.array(metrics[name]) * (1 + off * signs)).tolist()
            if task.key in self.stopped:
                metrics |= {name: values[:1] for name, values in metrics.items()}
        return self.spoil(task, record) if self.spoil else record


class Changed:
    """Published records of which one number was changed by one part in ten thousand."""

    def __init__(self, records: Any, run_id: str, metric: str, i: int) -> None:
        self.records, self.place = records, (run_id, metric, i)

    def get(self, run_id: str) -> dict[str, Any] | None:
        record = self.records.get(run_id)
        changed, metric, i = self.place
        if run_id == changed:
            record = copy.deepcopy(record)
            record["metrics"][metric][i] *= 1.0001
        return record


class Part:
    """Published records of which some are not there."""

    def __init__(self, records: Any, there: Callable[[str], bool]) -> None:
        self.records, self.there = records, there

    def get(self, run_id: str) -> dict[str, Any] | None:
        return self.records.get(run_id) if self.there(run_id) else None


def with_records(found: Any, records: Any) -> Any:
    """The same results from other records."""
    return dataclasses.replace(found, records=records)


if __name__ == "__main__":
    from experiments.cli.main import main

    again.Workers = Machine(seconds=float(os.environ["SECONDS"]))  # type: ignore[misc, assignment]
    sys.exit(main())
