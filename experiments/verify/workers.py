"""Processes that each train one run at a time again, and report after every pass how far they are.

Unlike the engines of `experiments.engines`, they store no records, can be told to stop after a
pass, can train twins, and are replaced once they hold more than `LARGEST_MB`.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from experiments.engines.processes import (
    ENDING_SECONDS,
    end,
    start_worker,
    without_interrupts,
)
from experiments.study import Run

# Resident memory. TensorFlow and MNIST take 900 MB, half of it shared with other processes, and the
# reviews 170 more. A run briefly needs up to 350; a large one has a process to itself.
LARGEST_MB = 1_150


@dataclass(frozen=True)
class Task:
    """What a worker is given.

    Attributes:
        key: names the task.
        run: what to train; its `epochs` are the passes wanted.
        twin: the number of the twin to train instead, or 0.
        folder: for checkpoints.
        large: whether it needs so much memory that it takes a process of its own.
    """

    key: Any
    run: Run
    twin: int
    folder: Path
    large: bool = False


@dataclass(frozen=True)
class Event:
    """What a worker says.

    Attributes:
        task: the task that it is about.
        passes: passes done so far; the last event of a task has a record or an error.
        record: the result of the training.
        error: what went wrong, in one line.
        megabytes: the worker's largest memory so far.
        shared: how much of its memory is files that processes share.
    """

    task: Task
    passes: int = 0
    record: dict[str, Any] | None = None
    error: str = ""
    megabytes: float = 0.0
    shared: float = 0.0

    @property
    def last(self) -> bool:
        """Whether the task has ended."""
        return self.record is not None or bool(self.error)


@dataclass
class _Worker:
    process: Any
    pipe: Connection
    task: Task | None = None
    used: bool = False
    stopped: bool = False


class Workers:
    """A number of such processes, started when they are needed."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._context = multiprocessing.get_context("spawn")
        self._workers: list[_Worker] = []

    def __enter__(self) -> Workers:
        """Nothing is started yet."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the processes, whatever they are doing."""
        for worker in self._workers:
            worker.process.kill()
            worker.process.join()
        self._workers.clear()

    @property
    def busy(self) -> list[Task]:
        """What is being trained."""
        return [worker.task for worker in self._workers if worker.task]

    @property
    def free(self) -> int:
        """How many more tasks can start now."""
        return self.count - len(self.busy)

    def start(self, task: Task) -> None:
        """Give a task to a worker that is free."""
        idle = [worker for worker in self._workers if not worker.task]
        if task.large and idle and idle[0].used:
            self._drop(idle.pop(0))
        if not idle:
            idle = [self._start()]
        idle[0].task, idle[0].used, idle[0].stopped = task, True, False
        idle[0].pipe.send(task)

    def stop(self, key: Any) -> None:
        """Ask a task to stop after its pass; it ends with what was trained.

        It is asked once: it does not read before its pass ends, and a full pipe would block.
        """
        for worker in self._workers:
            if worker.task and worker.task.key == key and not worker.stopped:
                worker.stopped = True
                worker.pipe.send(None)

    def give_up(self, key: Any) -> None:
        """End a task at once, together with its process."""
        for worker in [each for each in self._workers if each.task and each.task.key == key]:
            self._drop(worker)

    def events(self, seconds: float) -> Iterator[Event]:
        """What the workers have reported, after waiting up to `seconds` for a first event."""
        pipes = {worker.pipe: worker for worker in self._workers if worker.task}
        if not pipes:
            time.sleep(seconds)
        for pipe in wait(list(pipes), seconds):
            worker = pipes[pipe]  # type: ignore[index]
            task = worker.task
            assert task
            try:
                event, resident = worker.pipe.recv()
            except (EOFError, OSError):
                how = end(worker.process, ENDING_SECONDS)
                self._drop(worker)
                yield Event(task, error=how)
                continue
            if event.last:
                worker.task = None
                if task.large or resident > LARGEST_MB:
                    self._drop(worker)
            yield event

    def _start(self) -> _Worker:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_work, args=(theirs,), daemon=True)
        with without_interrupts():
            process.start()
        theirs.close()
        worker = _Worker(process, ours)
        self._workers.append(worker)
        return worker

    def _drop(self, worker: _Worker) -> None:
        self._workers.remove(worker)
        worker.process.kill()
        worker.process.join()
        worker.pipe.close()


def _work(pipe: Connection) -> None:
    start_worker()
    from experiments.records.store import Store
    from experiments.training import runtime
    from experiments.training.train import train

    stopped = False

    def go_on() -> bool:
        nonlocal stopped
        while pipe.poll():
            stopped |= pipe.recv() is None
        return not stopped

    def memory() -> tuple[float, float]:
        return runtime.peak_memory_mb(), runtime.shared_mb()

    while True:
        try:
            task = pipe.recv()
        except EOFError:
            return
        if task is None:  # asked to stop when it had just ended
            continue
        stopped = False

        def told(passes: int, task: Task = task) -> None:
            pipe.send((Event(task, passes, None, "", *memory()), 0.0))

        store = Store(task.folder / str(task.twin))
        try:
            record = train(task.run, store, told, go_on=go_on, twin=task.twin)
            store.drop_checkpoint(task.run)
            event = Event(task, 0, record, "", *memory())
        except Exception as error:  # whatever it is, the others are still trained
            event = Event(task, error=f"{type(error).__name__}: {' '.join(str(error).split())}")
        pipe.send((event, runtime.memory_mb()))
