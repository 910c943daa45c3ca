"""Train published runs again and compare each with its record."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.problems import registry as problems
from experiments.study import Records, Run
from experiments.verify import rounding
from experiments.verify.workers import Event, Task, Workers

TWINS = (1, 2)
GRACE_SECONDS = 45.0  # for the passes that are under way when the time is up
DOUBT_SECONDS = 240.0  # for the twins of a run that differs
UNDECIDED = (
    "it differs from its record, and the time was up before its twins told by rounding or not"
)
SURE = 20.0  # seconds of training after which this machine's speed is known


@dataclass(frozen=True)
class Item:
    """A published run to be trained again.

    Attributes:
        study: name of its study.
        role: what it is for: "matched", "tuned" and so on.
        arm: its arm.
        run: the published run.
        passes: how many of its passes to train.
        seconds: how long that may take on the record's machine.
        level: items of a lower level come first.
        large: whether it needs so much memory that it gets a process of its own.
    """

    study: str
    role: str
    arm: str
    run: Run
    passes: int
    seconds: float
    level: int = 0
    large: bool = False

    @property
    def words(self) -> str:
        """The run in a few words."""
        return f"{self.study} {self.arm} {self.role} seed {self.run.seed}"


@dataclass(frozen=True)
class Check:
    """A published run that was trained again: plain data, stored as JSON.

    Attributes:
        run: id of the published run.
        record: digest of the metrics it was compared with; a new record makes the check void.
        study: name of its study.
        role: what it is for.
        arm: its arm.
        seed: its seed.
        passes: passes compared.
        published: passes that the record has.
        equal: in how many of them every number equals the record's to the last bit.
        chaotic: in how many only the order of magnitude can be compared.
        largest: the largest relative difference of a cost.
        fault: what disagrees, or why it could not be trained; "" if it agrees.
        failed: whether it could not be trained.
        twins: whether twins were trained to tell rounding from a disagreement.
        seconds: seconds per pass here, the median.
        seconds_published: the same of the record.
    """

    run: str
    record: str
    study: str
    role: str
    arm: str
    seed: int
    passes: int
    published: int
    equal: int = 0
    chaotic: int = 0
    largest: float = 0.0
    fault: str = ""
    failed: bool = False
    twins: bool = False
    seconds: float = 0.0
    seconds_published: float = 0.0

    @property
    def named(self) -> str:
        """What is wrong, with the run's name."""
        return f"{self.study} {self.arm} {self.role} seed {self.seed} ({self.run}): {self.fault}"


def digest(record: dict[str, Any]) -> str:
    """A short name of a record's numbers."""
    text = json.dumps([record["metrics"], record["diverged_at"]], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def passes_of(record: Mapping[str, Any]) -> int:
    """How many passes a record has, one that diverged included; of a measurement, the rows."""
    return len(next(iter(record["metrics"].values()), ())) + (record["diverged_at"] is not None)


def train_again(
    items: Iterable[Item],
    records: Records,
    folder: Path,
    *,
    workers: int,
    seconds: float = float("inf"),
    told: Callable[[list[tuple[Item, int]], tuple[float, float]], None] = lambda *_: None,
    trained: Callable[[Item, dict[str, Any]], None] = lambda *_: None,
    failed: Callable[[Item, str], None] = lambda *_: None,
) -> Iterator[Check]:
    """Train items again, in order, and yield a check of each as it ends.

    An item starts only if it is expected to end in time, given the record's time and this machine's
    relative speed as measured so far. When the time is up, running items end after their pass; only
    twins, which tell rounding from a disagreement, train to their end.

    Args:
        items: what to train.
        records: the published records.
        folder: for checkpoints.
        workers: processes to use.
        seconds: the time available.
        told: called at short intervals with the items under way, each with its passes done, and the
            largest memory of a process in MB, with how much of it is shared.
        trained: called with each item that was trained and its new record.
        failed: called with each item without a record that could not be trained, and why.

    Yields:
        Checks.
    """
    return _Session(records, folder, workers, seconds, told, trained, failed).go(list(items))


class _Session:
    def __init__(
        self,
        records: Records,
        folder: Path,
        workers: int,
        seconds: float,
        told: Callable[[list[tuple[Item, int]], tuple[float, float]], None],
        trained: Callable[[Item, dict[str, Any]], None],
        failed: Callable[[Item, str], None],
    ) -> None:
        self.records, self.folder, self.count = records, folder, workers
        self.end = time.monotonic() + seconds
        self.told, self.trained, self.failed = told, trained, failed
        self.expected = self.taken = 0.0  # seconds, by the records and here
        self.items: dict[int, Item] = {}  # under way, by number
        self.found: dict[int, dict[int, dict[str, Any]]] = {}  # what was trained, by twin
        self.twins: list[tuple[int, int, int]] = []  # still to be trained, with their passes
        self.passes: dict[tuple[int, int], int] = {}
        self.begun: dict[tuple[int, int], float] = {}
        self.started = 0
        self.peak = (0.0, 0.0)

    def go(self, items: list[Item]) -> Iterator[Check]:
        with Workers(self.count) as workers:
            while True:
                self._fill(workers, items)
                if not workers.busy:
                    return
                late = time.monotonic() - self.end
                if late > 0:
                    items = []
                    for number, twin in self.passes:
                        if not twin:  # a twin that stopped early would look like one that diverged
                            workers.stop((number, twin))
                doubtful = [number for number, trained in self.found.items() if 0 in trained]
                if late > (DOUBT_SECONDS if doubtful else GRACE_SECONDS):
                    yield from map(self._undecided, doubtful)
                    return
                for event in workers.events(min(0.5, max(0.05, -late))):
                    self.passes[event.task.key] = event.passes
                    self.peak = max(self.peak, (event.megabytes, event.shared))
                    if event.last:
                        del self.passes[event.task.key]
                        number, twin = event.task.key
                        yield from self._ended(number, twin, event)
                for key in self._hopeless():
                    workers.give_up(key)
                    del self.passes[key], self.found[key[0]]
                shown = [(self.items[n], done) for (n, _), done in self.passes.items()]
                self.told(shown, self.peak)

    def _undecided(self, number: int) -> Check:
        item = self.items[number]
        record = self.records.get(item.run.id)
        assert record
        return _check(item, record, fault=UNDECIDED, failed=True)

    def _fill(self, workers: Workers, items: list[Item]) -> None:
        """Give free workers what should end in time; twins come first, since they end a check."""
        while workers.free and (self.twins or items):
            if self.twins:
                number, twin, passes = self.twins.pop(0)
            else:
                speed = self.taken / self.expected if self.expected else 1.0
                left = self.end - time.monotonic()
                fits = (i for i, item in enumerate(items) if item.seconds * speed <= left)
                i = next(fits, None)
                if i is None:
                    items.clear()
                    return
                self.started += 1
                number, twin, passes = self.started, 0, items[i].passes
                self.items[number], self.found[number] = items.pop(i), {}
            run = dataclasses.replace(self.items[number].run, epochs=passes)
            self.passes[number, twin] = 0
            self.begun[number, twin] = time.monotonic()
            large = self.items[number].large
            workers.start(Task((number, twin), run, twin, self.folder, large))

    def _hopeless(self) -> list[tuple[int, int]]:
        """The tasks whose first pass can't end in time at this machine's speed; others could."""
        if self.expected < SURE:
            return []
        speed = self.taken / self.expected

        def end(key: tuple[int, int]) -> float:
            item = self.items[key[0]]
            return self.begun[key] + item.seconds / item.passes * speed

        return [
            key
            for key, done in self.passes.items()
            if not done and not key[1] and end(key) > self.end + GRACE_SECONDS
        ]

    def _timed(self, item: Item, record: dict[str, Any]) -> None:
        share = 1.0
        if not problems.PROBLEMS[item.run.problem].measured:
            share = max(1, len(record["metrics"]["training_cost"])) / item.passes
        self.taken += record["manifest"]["wall_seconds"]
        self.expected += max(item.seconds * min(1.0, share), 0.05)

    def _ended(self, number: int, twin: int, event: Event) -> Iterator[Check]:
        item = self.items[number]
        record = self.records.get(item.run.id)
        if record is None:  # a new seed, or a run without a record: trained, not compared
            if event.record is not None:
                self._timed(item, event.record)
                self.trained(item, event.record)
            else:
                self.failed(item, event.error)
            return
        if event.record is None:
            if self.found.pop(number, None) is not None:  # not the second twin of a pair
                self.twins = [each for each in self.twins if each[0] != number]
                yield _check(item, record, fault=event.error, failed=True)
            return
        if number not in self.found:
            return
        mine = self.found[number]
        mine[twin] = event.record
        if twin == 0:
            self._timed(item, event.record)
            self.trained(item, event.record)
        elif any(each not in mine for each in TWINS):
            return
        again = mine[0]
        twins = [mine[each] for each in TWINS if each in mine]
        same = again["manifest"]["backend"] == record["manifest"]["backend"]
        compared = rounding.compare(item.run, record, again, twins, same_backend=same)
        if compared.doubtful:
            diverged = again["diverged_at"] is not None
            passes = len(again["metrics"]["training_cost"]) + diverged
            self.twins += [(number, each, passes) for each in TWINS]
            return
        del self.found[number]
        if compared.passes or compared.fault:
            yield _check(
                item,
                record,
                passes=compared.passes,
                equal=compared.equal,
                chaotic=compared.chaotic,
                largest=compared.largest,
                fault=compared.fault,
                twins=bool(twins),
                seconds=_pace(again),
            )


def _check(item: Item, record: dict[str, Any], **found: Any) -> Check:
    return Check(
        run=item.run.id,
        record=digest(record),
        study=item.study,
        role=item.role,
        arm=item.arm,
        seed=item.run.seed,
        **{"passes": 0, **found},
        published=passes_of(record),
        seconds_published=_pace(record),
    )


def _pace(record: dict[str, Any]) -> float:
    """Median seconds of a pass, without the first, which compiles; for a measurement, of it all."""
    passes = record["metrics"].get("seconds", [])
    passes = sorted(passes[1:] or passes)
    if not passes:
        return float(record["manifest"]["wall_seconds"])
    return float(passes[len(passes) // 2])
