"""Which published runs are trained again, and in which order.

The published runs of a study are put into strata, one for each arm and each purpose of a run
(matched settings, tuned ones, trials of a search). Within a stratum they are drawn without
replacement with a fixed seed; a run that costs half as much or less comes first. Then, level by
level and within a level cheapest first:

0. one run of every study, one that several studies share counting for each of them;
1. one of every optimizer, with the settings that are matched to the paper or make up its grid;
2. one of every arm, the same;
3. one tuned run of every arm;
4. one of every further stratum: trials, fits, measured alternatives;
5. from here on, the second, third, ... run of every stratum.

Runs that studies share come first, and are trained once. Except at level 0, a run that takes more
than `DEAR` seconds for its first passes waits two levels. At level 0 there are a few such runs, the
dearest of the convolutional network. If two or more processes are at work, each starts before all
others, unless it would take a third of the time, and has a process to itself: in its turn, it would
end too late.

Only the first passes of a long run are trained: as many as take `SHORT` seconds, and two if these
take less than `PAIR`, since what differs from pass to pass may go wrong from the second on. Once
every run has been sampled in this way, they are trained whole, in the same order.

The state of the Sum-of-Functions Optimizer grows with every step. Of its runs, only as many passes
are trained as keep a process below `MOST_MB`; runs for which that is none come last of all.
"""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Collection, Iterable
from typing import Any

from experiments.analysis.results import Results
from experiments.plan import START_SECONDS
from experiments.study import Run
from experiments.verify import rounding
from experiments.verify.again import Item

SHORT = 10.0
PAIR = 20.0
DEAR = 40.0
FIRST = ("matched", "grid")
SEED = 1
MOST_MB = 1_500.0
PROCESS_MB = 950.0  # of a process without the optimizer's state
GROWTH = 0.5  # of the state's final size, in a pass
LAST = 1_000_000  # a level after all others


def items(
    results: Iterable[Results],
    checked: Collection[tuple[str, int]] = (),
    backend: str = "tensorflow",
) -> list[Item]:
    """The published runs of these studies, in the order in which to train them again.

    Args:
        results: the published results.
        checked: runs that were checked before, as (id, passes). If these are not all its passes, a
            run is checked again once all runs have had their first passes.
        backend: the one that trains here.
    """
    strata: dict[tuple[str, str, str], list[Item]] = {}
    growing: set[str] = set()
    large: set[str] = set()
    owners: dict[str, set[str]] = {}  # the studies that have a run
    for found in results:
        for entry in found.plan.entries:
            record, name = found.records.get(entry.run.id), found.study.name
            if record is None or not comparable(entry.run, record, backend):
                continue
            had = entry.run.id in owners
            owners.setdefault(entry.run.id, set()).add(name)
            if had:
                continue
            first, whole = lengths(entry.run, record)
            if "optimizer_mb" in record["metrics"]:
                growing.add(entry.run.id)
                if memory(record, 1) > MOST_MB:
                    large.add(entry.run.id)
            seconds = cost(record, first)
            alone = seconds > DEAR or entry.run.id in growing
            item = Item(name, entry.role, entry.arm, entry.run, first, seconds, large=alone)
            strata.setdefault((name, entry.role, entry.arm), []).append(item)
            if whole > first:
                late = dataclasses.replace(item, passes=whole, seconds=cost(record, whole))
                strata.setdefault((name, entry.role + " whole", entry.arm), []).append(late)
    ordered = []
    studies: set[str] = set()
    methods: set[tuple[str, str]] = set()
    firsts = [key for key in strata if not key[1].endswith(" whole")]
    drawn_of = {
        key: sorted(draw(strata[key], key), key=lambda item: -len(owners[item.run.id]))
        for key in firsts
    }

    def rank(key: tuple[str, str, str]) -> tuple[bool, int, float]:
        shared = len(owners[drawn_of[key][0].run.id])
        return key[1] not in FIRST, -shared, min(item.seconds for item in strata[key])

    for key in sorted(firsts, key=rank):
        study, role, _ = key
        drawn = drawn_of[key]
        method = (study, drawn[0].run.optimizer)
        if study not in studies:
            level = 0
        elif role in FIRST and method not in methods:
            level = 1
        else:
            level = 2 if role in FIRST else 3 if role == "tuned" else 4
        studies |= owners[drawn[0].run.id] if level == 0 else {study}
        methods.add(method)
        for i, item in enumerate(drawn):
            mine = 4 + i if i else level
            mine += 2 * (mine > 0 and item.seconds > DEAR)
            mine = LAST if item.run.id in large else mine
            ordered.append(dataclasses.replace(item, level=mine))
    later = max((item.level for item in ordered if item.level < LAST), default=0) + 1
    for key in strata:
        if key not in firsts:
            drawn = draw(strata[key], key)
            for i, item in enumerate(drawn):
                level = LAST + 1 if item.run.id in growing else later + i
                ordered.append(dataclasses.replace(item, level=level))
    passes = dict(sorted(checked))  # by run, the most
    return in_order(item for item in ordered if item.passes > passes.get(item.run.id, 0))


def comparable(run: Run, record: dict[str, Any], backend: str) -> bool:
    """Whether a run is the same on this backend as on its record's, except for rounding.

    Args:
        run: the run.
        record: its record.
        backend: the one that trains here.
    """
    return record["manifest"].get("backend", backend) == backend or not rounding.draws(run)


def in_order(items: Iterable[Item], workers: int = 1, seconds: float = math.inf) -> list[Item]:
    """Items in the order in which this number of processes trains them in so much time.

    Where there are several, a study's first run that is dear comes first, the dearest of them
    before the others, so that none is still under way when all else is done; but not one that would
    take a third of the time, which would leave too little of it for all else.

    Args:
        items: in any order.
        workers: how many processes train them.
        seconds: how much time there is.
    """

    def place(item: Item) -> tuple[bool, int, float, str]:
        early = workers > 1 and item.level == 0 and DEAR < item.seconds <= seconds / 3
        return not early, item.level, -item.seconds if early else item.seconds, item.run.id

    return sorted(items, key=place)


def draw(stratum: list[Item], key: tuple[str, ...]) -> list[Item]:
    """A stratum in a random order that is always the same, cheaper runs first."""
    drawn = sorted(stratum, key=lambda item: item.run.id)
    random.Random(f"{SEED} {key}").shuffle(drawn)
    return sorted(drawn, key=lambda item: round(math.log2(max(item.seconds, 0.1))))


def lengths(run: Run, record: dict[str, Any]) -> tuple[int, int]:
    """How many passes of a run to train again at first, and in the end."""
    diverged = record["diverged_at"] is not None
    passes = len(record["metrics"].get("training_cost", ())) + diverged
    if "seconds" not in record["metrics"] and not diverged:  # a measurement is whole or nothing
        return run.epochs, run.epochs
    each = cost(record, 1) - START_SECONDS
    affordable = max(int(SHORT / max(each, 1e-3)), 2 if 2 * each <= PAIR else 1)
    while affordable > 1 and memory(record, affordable) > MOST_MB:
        affordable -= 1
    return min(affordable, passes), passes


def memory(record: dict[str, Any], passes: int) -> float:
    """MB that a process holds after these passes of a run."""
    state = max(record["metrics"].get("optimizer_mb", ()), default=0.0)
    return PROCESS_MB + state * min(1.0, GROWTH * passes)


def cost(record: dict[str, Any], passes: int) -> float:
    """Seconds that these passes of a run took on the record's machine."""
    seconds = sorted(record["metrics"].get("seconds", ()))
    wall = float(record["manifest"]["wall_seconds"])
    if not seconds:
        return wall
    # What is measured after a pass comes on top of its training: usually little, sometimes more
    # than the training. A run that was resumed has only a part of its time.
    training = float(seconds[len(seconds) // 2])
    return START_SECONDS + passes * max(1.25 * training, (wall - START_SECONDS) / len(seconds))
