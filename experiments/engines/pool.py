"""What engines with workers share: who trains which run, for how long, and how often it is tried.

A worker that is lost is replaced, and its run is tried again; a try in which it got further, to a
newer checkpoint, does not count. One that takes too long over a run is killed. One that has grown
large is replaced between two runs, since TensorFlow keeps a few megabytes of every graph that it
has compiled.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from experiments.engines.runs import Options, Result, ignore, name
from experiments.study import Run
from experiments.words import counted

GROWTH_MB = 512.0  # growth since its first run after which a worker is replaced
START_SECONDS = 300.0  # the time a worker may take to start
POLL_SECONDS = 0.5  # between checks of a run that another command is training
HOPELESS = 6  # give up once so many more workers than ran at once are lost without finishing a run


class Worker(Protocol):
    """A process that trains, here or elsewhere.

    Attributes:
        run: the run that it is training.
        deadline: when it has taken too long over that run.
        begun: how many passes that run had when this worker told of the first one; 0 before that.
    """

    run: Run | None
    deadline: float
    begun: int

    @property
    def ready(self) -> bool:
        """Whether it can take a run now."""

    @property
    def usable(self) -> bool:
        """Whether it can take another run, now or later."""

    def start(self, run: Run, keep: bool, seconds: float) -> None:
        """Give it a run.

        Args:
            run: the run.
            keep: whether its last state is kept for a longer run to continue.
            seconds: how long it may take from when it begins.
        """

    def answers(self) -> bool:
        """Whether `answer` would not wait."""

    def answer(self) -> Any:
        """What became of its run: a Result, an exception, or None if it is to be tried again later.

        None means that another process trains it, or that this worker can't. While it trains, the
        answer is the number of its passes so far; 0 when it has just begun.

        Raises:
            EOFError: the worker is lost.
        """

    def close(self) -> None:
        """Let it end by itself."""

    def kill(self) -> str:
        """End it now, wherever it is; returns how it ended."""


@dataclass
class _Lost:
    """A run whose workers were lost.

    Attributes:
        notes: how, one line each.
        begun: the most passes with which a try began.
        in_a_row: how often it was lost without getting further: a try that began with more passes
            than those before had a newer checkpoint.
    """

    notes: tuple[str, ...] = ()
    begun: int = 1
    in_a_row: int = 0

    def again(self, begun: int) -> bool:
        """Count a loss of a try that began with so many passes; whether it had got further."""
        further = begun > self.begun
        self.in_a_row = 1 if further else self.in_a_row + 1
        self.begun = max(begun, self.begun)
        return further


@dataclass
class Pool:
    """Workers, which live until they are closed, and what they train.

    Attributes:
        new: starts a worker.
        wait: waits for an answer, or until a worker is ready, at most so many seconds.
        limit: how many workers there may be now.
        options: how the engine works.
        tries: how often a run is tried if its workers are lost and it gets no further.
        workers: those that live.
        most: how many there were at once so far.
        told: whether it was said that there are fewer than there should be.
    """

    new: Callable[[], Worker]
    wait: Callable[[Sequence[Any], float], None]
    limit: Callable[[], int]
    options: Options
    tries: int = 2
    workers: list[Worker] = field(default_factory=list, init=False)
    most: int = field(default=0, init=False)
    told: bool = field(default=False, init=False)

    def train_all(
        self,
        runs: Sequence[Run],
        keep: Collection[str] = (),
        on_pass: Callable[[Run, int], None] = ignore,
    ) -> Iterator[Result]:
        """See `runs.Train`, whose arguments these are."""
        queue, busy = deque(runs), deque[tuple[float, Run]]()  # trained elsewhere, and till when
        losses: dict[str, _Lost] = {}
        lost = 0
        while True:
            while busy and busy[0][0] <= time.monotonic():
                queue.append(busy.popleft()[1])
            self._assign(queue, keep)
            at_work = [worker for worker in self.workers if worker.run]
            if not (at_work or busy or queue):
                return
            wake = min([w.deadline for w in at_work] + [when for when, _ in busy], default=0.0)
            seconds = min(max(0.0, wake - time.monotonic()), POLL_SECONDS) if wake else POLL_SECONDS
            self.wait([w for w in self.workers if w.run or not w.ready], seconds)
            for worker in at_work:
                run = worker.run
                assert run is not None
                if not worker.answers():
                    if time.monotonic() > worker.deadline:
                        worker.kill()
                        end = f"it took longer than {self.options.timeout:g} s, the --timeout of a"
                        yield Result(run, f"{end} run; its last checkpoint is kept", failed=True)
                    continue
                try:
                    answer = worker.answer()
                except EOFError:
                    begun, how = worker.begun, worker.kill()
                    past = losses.setdefault(run.id, _Lost())
                    lost = 1 if past.again(begun) else lost + 1
                    if lost >= HOPELESS + self.most:
                        raise ChildProcessError(
                            f"{lost} training processes ended in a row; the last time, {how}; "
                            "finished runs are kept; give the same command to continue"
                        ) from None
                    if past.in_a_row == self.tries:
                        times = "twice" if self.tries == 2 else f"{self.tries} times"
                        if len(past.notes) + 1 > self.tries:
                            times += " since it last got further"
                        yield Result(run, f"{how}, {times}", failed=True)
                    else:
                        line = f"{name(run)}: {how}; it was tried once more"
                        past.notes = (*past.notes, line)
                        queue.append(run)
                    continue
                if isinstance(answer, int):
                    on_pass(run, answer)
                    continue
                if isinstance(answer, BaseException):
                    raise answer
                if answer is None:
                    busy.append((time.monotonic() + POLL_SECONDS, run))
                    continue
                lost = 0
                before = losses[run.id].notes if run.id in losses else ()
                yield replace(answer, notes=(*before, *answer.notes))

    def _assign(self, queue: deque[Run], keep: Collection[str]) -> None:
        """Give runs to workers that are ready, and start workers for the runs that are left."""
        self.workers = [worker for worker in self.workers if worker.run or worker.usable]
        idle = [worker for worker in self.workers if worker.run is None]
        if len(queue) > len(idle):
            for _ in range(min(len(queue) - len(idle), self.limit() - len(self.workers))):
                try:
                    idle.append(self.new())
                except OSError as error:
                    if not self.workers:
                        raise
                    self.go_on(error)
                    break
                self.workers.append(idle[-1])
            self.most = max(self.most, len(self.workers))
        for worker in idle:
            if queue and worker.ready:
                run = queue.popleft()
                worker.start(run, run.id in keep, self.options.timeout)

    def go_on(self, error: OSError) -> None:
        """Print, once, that there are fewer workers than there should be."""
        if not self.told:
            number = len(self.workers)
            many = counted(number, "process", "processes")
            print(
                f"adam-study: {error.strerror or error}; training goes on in {many}",
                file=sys.stderr,
            )
            self.told = True

    def close(self) -> None:
        """Let all workers end by themselves."""
        for worker in self.workers:
            worker.close()

    def kill(self) -> None:
        """End all workers now."""
        for worker in self.workers:
            worker.kill()
