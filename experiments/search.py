"""The search for settings by successive halving, judged at the full length of the figure.

Every arm enters the same number of candidates. All of them train to the first rung of passes, the
best third of each arm to the second, and so on; the last rung is the full length, and its best is
selected. A longer run continues where the shorter one of the same candidate ended.

Candidates are ranked twice over the same runs: by training cost (the `tuned` protocol), and by
distance to the paper's curve (which fits `matched` settings). Each ranking promotes its own third.

Whenever an arm's best, by either ranking and at any rung, has the lowest or highest learning rate
of its block, every arm gets one more candidate: that arm at the end where its best is, the others
at whichever end of their best's block is nearer to that best. So the best ends up inside its block,
and all arms keep the same number of candidates.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from experiments.paper import curves as digitised
from experiments.study import (
    FIRST_TUNING_SEED,
    Arm,
    Entry,
    Profile,
    Records,
    Settings,
    Study,
    combinations,
    describe,
)

KEPT = 3  # one candidate in KEPT is promoted
JUDGED = 20  # a rung's cost is the geometric mean over the last 1/JUDGED of its passes


@dataclass(frozen=True)
class Found:
    """What a search has found, given the records that exist.

    Attributes:
        entries: its runs, rung by rung.
        later: promoted runs that are sure to follow.
        selected: by arm, the candidate of lowest cost at the last rung; empty until it is complete.
        nearest: by arm, the one nearest to the paper's curve over the whole length.
        on_edge: arms whose best is at an end of its block when no more candidates are allowed.
    """

    entries: tuple[Entry, ...]
    later: int
    selected: Mapping[str, Settings] = field(default_factory=dict)
    nearest: Mapping[str, Settings] = field(default_factory=dict)
    on_edge: tuple[str, ...] = ()


@dataclass
class _Block:
    """Candidates that differ only in the learning rate, whose values are neighbours."""

    rates: list[float]
    others: dict[str, Any]

    def settings(self) -> Iterator[dict[str, Any]]:
        for rate in self.rates:
            yield {"learning_rate": rate, **self.others}

    def holds(self, settings: Settings) -> bool:
        return self.others == {k: v for k, v in settings.items() if k != "learning_rate"}

    def on_edge(self, settings: Settings) -> bool:
        return settings["learning_rate"] in (self.rates[0], self.rates[-1])

    def grow(self, settings: Settings) -> None:
        """Add one learning rate, at the end nearer to that of `settings`."""
        place = self.rates.index(settings["learning_rate"])
        if place < len(self.rates) / 2:
            self.rates.insert(0, neighbour(self.rates[0], up=False))
        else:
            self.rates.append(neighbour(self.rates[-1], up=True))


def neighbour(rate: float, *, up: bool) -> float:
    """The next learning rate on the ladder ..., 0.1, 0.3, 1, 3, 10, ...

    Raises:
        ValueError: the rate is not on the ladder.
    """
    digits, exponent = f"{rate:e}".split("e")
    digit = float(digits)
    if digit not in (1.0, 3.0):
        raise ValueError(f"learning_rate={rate:g} is not on the ladder 1, 3, 10 of a search")
    if up:
        return float(f"3e{exponent}" if digit == 1 else f"1e{int(exponent) + 1}")
    return float(f"3e{int(exponent) - 1}" if digit == 1 else f"1e{exponent}")


def blocks(arm: Arm) -> list[_Block]:
    """The declared candidates of an arm: one block per combination of all but the learning rate."""
    found = []
    for declared in arm.search:
        others = {name: values for name, values in declared.items() if name != "learning_rate"}
        found += [_Block(list(declared["learning_rate"]), each) for each in combinations(others)]
    return found


def halving(study: Study, profile: Profile, data: str, records: Records) -> Found:
    """The runs of the search that are known to be needed, and what it has found so far.

    Args:
        study: the declaration.
        profile: one that has `rungs`.
        data: the data set, or its stand-in.
        records: those that exist.

    Raises:
        ValueError: the arms do not enter the same number of candidates.
    """
    arms = [arm for arm in study.arms if arm.search]
    tried = {arm.name: blocks(arm) for arm in arms}
    numbers = {sum(len(block.rates) for block in own) for own in tried.values()}
    if len(numbers) != 1:
        raise ValueError(
            f"the arms of {study.name} enter unequal numbers of candidates: {sorted(numbers)}"
        )
    on_edge: tuple[str, ...] = ()
    for allowed in range(profile.rounds, -1, -1):
        found, edges = _climb(study, profile, data, records, arms, tried, grows=allowed > 0)
        on_edge = tuple(edges)
        if not edges or not allowed:
            break
        for name, settings in _leaders(edges, found).items():
            next(block for block in tried[name] if block.holds(settings)).grow(settings)
    entries, later, best = found
    complete = later == 0 and all(records.get(entry.run.id) is not None for entry in entries)
    if not complete:
        return Found(tuple(entries), later)
    selected = {name: ranked["cost"] for name, ranked in best.items()}
    nearest = {name: each["distance"] for name, each in best.items() if "distance" in each}
    return Found(tuple(entries), 0, selected, nearest, on_edge)


_Best = dict[str, dict[str, Settings]]  # by arm, by ranking
_Climbed = tuple[list[Entry], int, _Best]


def _leaders(edges: Mapping[str, Settings], found: _Climbed) -> dict[str, Settings]:
    """By arm, the candidate next to which a new one is added."""
    return {name: edges.get(name, ranked["cost"]) for name, ranked in found[2].items()}


def _climb(
    study: Study,
    profile: Profile,
    data: str,
    records: Records,
    arms: Sequence[Arm],
    tried: Mapping[str, list[_Block]],
    *,
    grows: bool,
) -> tuple[_Climbed, dict[str, Settings]]:
    """The entries up to the first rung that is incomplete or has a best at an edge.

    Once no more candidates are allowed (not `grows`), edges stop nothing; those of the last rung
    are reported.
    """
    entries: list[Entry] = []
    best: _Best = {}
    edges: dict[str, Settings] = {}
    number = sum(len(block.rates) for block in tried[arms[0].name])
    standing = {
        arm.name: {
            ranking: [settings for block in tried[arm.name] for settings in block.settings()]
            for ranking in _rankings(study, arm)
        }
        for arm in arms
    }
    for rung, passes in enumerate(profile.rungs):
        known: dict[tuple[str, str], list[dict[str, Any] | None]] = {}
        for arm in arms:
            either = {
                describe(settings): settings
                for group in standing[arm.name].values()
                for settings in group
            }
            for trial, settings in either.items():
                for seed in range(FIRST_TUNING_SEED, FIRST_TUNING_SEED + profile.tuning_seeds):
                    run = study.run(
                        arm, settings, profile=profile, data=data, seed=seed, epochs=passes
                    )
                    entries.append(Entry("search", arm.name, trial, run))
                    known.setdefault((arm.name, trial), []).append(records.get(run.id))
        if any(record is None for group in known.values() for record in group):
            later = sum(
                math.ceil(number / KEPT**above) for above in range(rung + 1, len(profile.rungs))
            )
            return (entries, later * len(arms) * profile.tuning_seeds, best), {}
        edges = {}
        for arm in arms:
            for ranking, score in _rankings(study, arm).items():
                ranked = sorted(
                    (
                        (_mean(score, known[arm.name, describe(settings)]), place, settings)
                        for place, settings in enumerate(standing[arm.name][ranking])
                    ),
                    key=operator.itemgetter(0, 1),
                )
                ordered = [settings for _, _, settings in ranked]
                best.setdefault(arm.name, {})[ranking] = ordered[0]
                standing[arm.name][ranking] = ordered[: math.ceil(number / KEPT ** (rung + 1))]
                block = next(block for block in tried[arm.name] if block.holds(ordered[0]))
                if block.on_edge(ordered[0]):
                    edges.setdefault(arm.name, ordered[0])
        if edges and grows:
            return (entries, 0, best), edges
    return (entries, 0, best), edges


Score = Callable[[Sequence[float]], float]


def _rankings(study: Study, arm: Arm) -> dict[str, Score]:
    """How each ranking scores a candidate's costs by pass; lower is better."""
    rankings: dict[str, Score] = {"cost": final_cost}
    if arm.plotted:
        panel = study.panel

        def distance(costs: Sequence[float]) -> float:
            return digitised.distance(panel, arm.name, costs)

        rankings["distance"] = distance
    return rankings


def final_cost(costs: Sequence[float]) -> float:
    """The cost that ranks a candidate at a rung: the geometric mean over its last passes."""
    last = costs[-max(1, len(costs) // JUDGED) :]
    return math.exp(sum(math.log(max(cost, 1e-300)) for cost in last) / len(last))


def _mean(score: Score, records: Sequence[Mapping[str, Any] | None]) -> float:
    """The mean over the tuning seeds; infinite if one diverged."""
    values = [
        score(record["metrics"]["training_cost"])
        if record and record["status"] == "finished"
        else math.inf
        for record in records
    ]
    return sum(values) / len(values)
