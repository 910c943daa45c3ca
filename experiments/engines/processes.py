"""Several processes on this machine, each training one run at a time.

A process that is killed or crashes is replaced, and its run is tried once more. One that takes too
long over a run is ended. One that has grown large is replaced between two runs, since TensorFlow
keeps a few megabytes of every graph that it has compiled.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from experiments.engines.runs import Options, Result, Train, name, train_and_store, unheard
from experiments.records.store import sweep_after
from experiments.study import Run

GROWTH_MB = 512.0  # since its first run, after which a process is replaced
START_SECONDS = 300.0  # that a process may take to start
BEGUN = "begun"
POLL_SECONDS = 0.5  # between looks at a run that another command is at
HOPELESS = 6  # more processes than there are workers may end before one of them finishes a run


class Worker:
    """A process that trains, and the run it is at."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs,), daemon=False)
        with without_interrupts():
            self.process.start()
        theirs.close()
        self.run: Run | None = None
        self.seconds = self.deadline = 0.0
        self.first_mb: float | None = None

    def start(self, run: Run, folder: Path, keep: bool, seconds: float) -> None:
        """Give it a run that may take so many seconds from when it begins."""
        self.run, self.seconds = run, seconds
        self.deadline = time.monotonic() + seconds + START_SECONDS
        with contextlib.suppress(OSError):  # it has died, which is noticed when its answer is read
            self.connection.send((run, folder, keep))

    def answer(self) -> Any:
        """What became of its run: a Result, None (another process is at it) or an exception.

        Or BEGUN, when it has only begun; or a number, that of its passes so far.

        Raises:
            EOFError: the process has ended.
        """
        try:
            answer, megabytes = self.connection.recv()
        except OSError:
            raise EOFError from None
        if answer == BEGUN:
            self.deadline = time.monotonic() + self.seconds
            return BEGUN
        if isinstance(answer, int):
            return answer
        self.run = None
        self.first_mb = self.first_mb or megabytes
        if megabytes > self.first_mb + GROWTH_MB:
            self.close()
        return answer

    @property
    def usable(self) -> bool:
        """Whether it takes another run."""
        return not self.connection.closed and self.process.is_alive()

    def close(self) -> None:
        """Let it end by itself."""
        self.connection.close()

    def kill(self, folder: Path) -> str:
        """End it now, wherever it is: records are written atomically. Says how it ended."""
        self.process.join(0.2)
        self.process.kill()
        self.process.join()
        self.connection.close()
        self.run = None
        if self.process.pid:
            sweep_after(self.process.pid, folder)
        code = self.process.exitcode or 0
        if code >= 0:
            return f"its process ended with exit code {code}"
        number = -code
        known = {entry.value: entry.name for entry in signal.Signals}
        hint = ", out of memory? --workers 1 needs the least" if number == 9 else ""
        return f"its process was killed ({known.get(number, number)}{hint})"


@contextlib.contextmanager
def processes(folder: Path, options: Options) -> Iterator[Train]:
    """Train in `options.workers` processes, which live as long as the context."""
    workers: list[Worker] = []
    try:
        yield lambda runs, keep=(), on_pass=unheard: _train_all(
            workers, runs, keep, on_pass, folder, options
        )
    except BaseException:
        for worker in workers:
            worker.kill(folder)
        raise
    for worker in workers:
        worker.close()
    for worker in workers:
        worker.process.join()


def _train_all(
    workers: list[Worker],
    runs: Sequence[Run],
    keep: Collection[str],
    on_pass: Callable[[Run, int], None],
    folder: Path,
    options: Options,
) -> Iterator[Result]:
    queue, busy = deque(runs), deque[tuple[float, Run]]()  # busy elsewhere, and when to look again
    notes: dict[str, tuple[str, ...]] = {}
    ended = 0
    while True:
        now = time.monotonic()
        while busy and busy[0][0] <= now:
            queue.append(busy.popleft()[1])
        workers[:] = [worker for worker in workers if worker.run or worker.usable]
        idle = [worker for worker in workers if worker.run is None]
        while queue and (idle or len(workers) < options.workers):
            if not idle:
                idle.append(Worker())
                workers.append(idle[0])
            task = queue.popleft()
            idle.pop().start(task, folder, task.id in keep, options.timeout)
        at_work = [worker for worker in workers if worker.run]
        if not at_work and not busy:
            return
        wake = min([w.deadline for w in at_work] + [when for when, _ in busy])
        wait([w.connection for w in at_work], max(0.0, min(wake - time.monotonic(), POLL_SECONDS)))
        for worker in at_work:
            run = worker.run
            assert run is not None
            if not worker.connection.poll():
                if time.monotonic() > worker.deadline:
                    worker.kill(folder)
                    end = f"it took longer than {options.timeout:g} s, the --timeout of a run"
                    yield Result(run, f"{end}; its last checkpoint is kept", failed=True)
                continue
            try:
                answer = worker.answer()
            except EOFError:
                how = worker.kill(folder)
                ended += 1
                if ended >= HOPELESS + options.workers:
                    raise ChildProcessError(
                        f"{ended} training processes ended in a row; of the last one {how}; "
                        "finished runs are kept, the same command goes on"
                    ) from None
                if run.id in notes:
                    yield Result(run, f"{how}, twice", failed=True)
                else:
                    notes[run.id] = (f"{name(run)}: {how}; it was tried once more",)
                    queue.append(run)
                continue
            if answer == BEGUN:
                continue
            if isinstance(answer, int):
                on_pass(run, answer)
                continue
            if isinstance(answer, BaseException):
                raise answer
            if answer is None:
                busy.append((time.monotonic() + POLL_SECONDS, run))
                continue
            ended = 0
            yield replace(answer, notes=(*notes.get(run.id, ()), *answer.notes))


@contextlib.contextmanager
def without_interrupts() -> Iterator[None]:
    """Hold back what ends a command: processes that start in this moment never see it."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    resource_tracker.ensure_running()  # its own start lets signals through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


ENDING = {
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT")
    if hasattr(signal, name)
}


def start_worker() -> None:
    """Leave what ends a command to the parent, and end when the parent ends, however it ends."""
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:

        def follow() -> None:
            parent.join()
            os._exit(1)

        threading.Thread(target=follow, daemon=True).start()


def _work(connection: Connection) -> None:
    """Train what comes, until the parent hangs up."""
    start_worker()
    from experiments.training.runtime import memory_mb

    with contextlib.suppress(EOFError, OSError):
        while True:
            run, folder, keep = connection.recv()
            connection.send((BEGUN, 0.0))
            answer: Result | BaseException | None
            try:
                answer = train_and_store(
                    run, folder, keep, lambda passes: connection.send((passes, 0.0))
                )
            except Exception as error:
                answer = error
            connection.send((answer, memory_mb()))
