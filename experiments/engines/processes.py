"""Several processes on this machine, each training one run at a time."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from experiments.engines import pool
from experiments.engines.runs import FEWER, Options, Result, Train, train_and_store
from experiments.engines.signals import ENDING
from experiments.records.store import sweep_after
from experiments.study import Run

ENDING_SECONDS = 5.0  # that a process which has hung up may take to end


class Worker:
    """A process that trains, and its present run."""

    ready = True  # what it is sent waits in its pipe while it starts

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        context = multiprocessing.get_context("spawn")
        with contextlib.ExitStack() as unless_started:
            try:
                self.connection, theirs = context.Pipe()
                unless_started.callback(self.connection.close)
                self.process = context.Process(target=_work, args=(theirs,), daemon=False)
                with theirs, without_interrupts():
                    self.process.start()
            except OSError as error:
                advice = "use fewer --workers, or raise the limit (ulimit -n, ulimit -u)"
                reason = f"cannot start a training process ({error.strerror}): {advice}"
                raise OSError(error.errno, reason) from error
            unless_started.pop_all()
        self.run: Run | None = None
        self.seconds = self.deadline = 0.0
        self.begun = 0
        self.hung_up = False
        self.first_mb: float | None = None

    def start(self, run: Run, keep: bool, seconds: float) -> None:
        """Give it a run; arguments as in `pool.Worker`."""
        self.run, self.seconds, self.begun = run, seconds, 0
        self.deadline = time.monotonic() + seconds + pool.START_SECONDS
        with contextlib.suppress(OSError):  # if it has died, reading its answer will show it
            self.connection.send((run, self.folder, keep))

    def answers(self) -> bool:
        """Whether `answer` would not wait."""
        return self.connection.poll()

    def answer(self) -> Any:
        """See `pool.Worker`."""
        try:
            answer, megabytes = self.connection.recv()
        except (EOFError, OSError):
            self.hung_up = True
            raise EOFError from None
        if isinstance(answer, int):
            self.begun = self.begun or answer
            self.deadline = self.deadline if answer else time.monotonic() + self.seconds
            return answer
        self.run = None
        self.first_mb = self.first_mb or megabytes
        if megabytes > self.first_mb + pool.GROWTH_MB:
            self.close()
        return answer

    @property
    def usable(self) -> bool:
        """Whether it takes another run."""
        return not self.connection.closed and self.process.is_alive()

    def close(self) -> None:
        """Let it end by itself."""
        self.connection.close()

    def kill(self) -> str:
        """End it now, wherever it is: records are written atomically. Returns how it ended."""
        how = end(self.process, ENDING_SECONDS if self.hung_up else 0.0)
        self.connection.close()
        self.run = None
        if self.process.pid:
            sweep_after(self.process.pid, self.folder)
        return how


def end(process: Any, seconds: float = 0.0) -> str:
    """End a process, unless it ends by itself within so many seconds; returns how it ended.

    Args:
        process: of `multiprocessing`.
        seconds: how long to wait, so that a process which is ending is not said to be killed.
    """
    process.join(seconds)
    by_itself = process.exitcode is not None
    process.kill()
    process.join()
    code = process.exitcode or 0
    if not by_itself:
        return "its process stopped answering"
    if code >= 0:
        return f"its process ended with exit code {code}"
    known = {entry.value: entry.name for entry in signal.Signals}
    hint = f", out of memory? {FEWER}" if code == -9 else ""
    return f"its process was killed ({known.get(-code, -code)}{hint})"


@contextlib.contextmanager
def processes(folder: Path, options: Options) -> Iterator[Train]:
    """Train in `options.workers` processes, which live as long as the context."""
    shared = pool.Pool(lambda: Worker(folder), _wait, lambda: options.workers, options)
    try:
        yield shared.train_all
    except BaseException:
        shared.kill()
        raise
    shared.close()
    for worker in shared.workers:
        assert isinstance(worker, Worker)
        worker.process.join()


def _wait(workers: Sequence[Worker], seconds: float) -> None:
    wait([worker.connection for worker in workers], seconds)


@contextlib.contextmanager
def without_interrupts() -> Iterator[None]:
    """Block the signals that end a command, so that processes starting now never see them."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    resource_tracker.ensure_running()  # its own start lets signals through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def start_worker() -> None:
    """Leave the signals that end a command to the parent, and end when it ends, however it does."""
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:

        def follow() -> None:
            parent.join()
            os._exit(1)

        threading.Thread(target=follow, daemon=True).start()


def _work(connection: Connection) -> None:
    """Train whatever comes, until the parent hangs up."""
    start_worker()
    from experiments.training.runtime import memory_mb

    with contextlib.suppress(EOFError, OSError):
        while True:
            run, folder, keep = connection.recv()
            connection.send((0, 0.0))
            answer: Result | BaseException | None
            try:
                answer = train_and_store(
                    run, folder, keep, lambda passes: connection.send((passes, 0.0))
                )
            except Exception as error:
                answer = error
            connection.send((answer, memory_mb()))
