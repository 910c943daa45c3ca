"""The search for settings by successive halving, judged at the full length of the figure.

Every arm enters the same number of candidates. All of them train to the first rung of passes, the
best third of each arm to the second, and so on; the last rung is the full length, and its best is
selected. A longer run continues where the shorter one of the same candidate ended.

Candidates are ranked twice over the same runs: by training cost (the `tuned` protocol), and by
distance to the paper's curve (which fits `matched` settings). Each ranking promotes its own third.

Whenever an arm's best, by either ranking and at any rung, has the lowest or highest learning rate
of its block, every arm gets one more candidate, so that all keep the same number: that arm at the
end where its best is, the others at whichever end of their best's block is nearer to that best.
Next to a best, a candidate trains to the rung at which that was at an end, whatever its rank
before. So the best ends up inside its block. At the last rung the cheapest candidate's neighbours
in its block train to the full length, too: a smaller step size often wins only late. What was
promoted once stays promoted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from experiments.paper import curves as digitised
from experiments.study import (
    FIRST_TUNING_SEED,
    Arm,
    Entry,
    Profile,
    Records,
    Run,
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
        later: promoted runs that are sure to follow, by their passes.
        selected: by arm, the candidate of lowest cost at the last rung; empty until it is complete.
        nearest: by arm, the one nearest to the paper's curve over the whole length.
        on_edge: arms whose selected candidate is at an end of its block, when no more are allowed.
    """

    entries: tuple[Entry, ...]
    later: Mapping[int, int] = field(default_factory=dict)
    selected: Mapping[str, Settings] = field(default_factory=dict)
    nearest: Mapping[str, Settings] = field(default_factory=dict)
    on_edge: tuple[str, ...] = ()


@dataclass
class _Block:
    """Candidates that differ only in the learning rate, whose values are neighbours."""

    rates: list[float]
    others: dict[str, Any]

    def settings(self) -> list[Settings]:
        return [{"learning_rate": rate, **self.others} for rate in self.rates]

    def holds(self, settings: Settings) -> bool:
        return self.others == {k: v for k, v in settings.items() if k != "learning_rate"}

    def neighbours(self, settings: Settings) -> list[Settings]:
        place = self.rates.index(settings["learning_rate"])
        return self.settings()[max(0, place - 1) : place + 2]

    def on_edge(self, settings: Settings) -> bool:
        return settings["learning_rate"] in (self.rates[0], self.rates[-1])

    def grow(self, settings: Settings) -> Settings:
        """Add a candidate, at the end nearer to `settings`, and return it."""
        place = self.rates.index(settings["learning_rate"])
        if place < len(self.rates) / 2:
            self.rates.insert(0, neighbour(self.rates[0], up=False))
            return self.settings()[0]
        self.rates.append(neighbour(self.rates[-1], up=True))
        return self.settings()[-1]


class _Field:
    """The candidates of an arm: their blocks, and which of them train to which rung."""

    def __init__(self, arm: Arm, rungs: int) -> None:
        self.blocks = blocks(arm)
        first = {describe(s): s for block in self.blocks for s in block.settings()}
        self.at: list[dict[str, Settings]] = [first, *({} for _ in range(rungs - 1))]

    def block(self, settings: Settings) -> _Block:
        return next(block for block in self.blocks if block.holds(settings))

    def neighbours(self, settings: Settings) -> list[Settings]:
        return self.block(settings).neighbours(settings)

    def grow(self, settings: Settings, rung: int) -> None:
        """Add a candidate next to `settings`, which trains to this rung."""
        self.enter(self.block(settings).grow(settings), rung)

    def enter(self, settings: Settings, rung: int) -> bool:
        """Have a candidate train to this rung; whether it was not to do so before."""
        new = describe(settings) not in self.at[rung]
        for candidates in self.at[: rung + 1]:
            candidates[describe(settings)] = settings
        return new


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


def check_numbers(arms: Iterable[Arm]) -> None:
    """Refuse arms that enter unequal numbers of candidates.

    Raises:
        ValueError: which names the numbers.
    """
    numbers = {arm.name: sum(len(block.rates) for block in blocks(arm)) for arm in arms}
    if len(set(numbers.values())) > 1:
        told = ", ".join(f"{name} {number}" for name, number in numbers.items())
        raise ValueError(f"the arms enter unequal numbers of candidates into the search: {told}")


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
    check_numbers(arms)
    fields = {arm.name: _Field(arm, len(profile.rungs)) for arm in arms}
    climb = _Climb(study, profile, data, records, fields)
    for allowed in range(profile.rounds, -1, -1):
        rung = climb.up(grows=allowed > 0)
        if rung is None:
            break
        for name, candidates in fields.items():
            if name in climb.edges:
                candidates.grow(climb.edges[name], rung)
            else:
                candidates.grow(climb.best[name]["cost"], 0)
    entries = tuple(climb.entries())
    if not climb.complete:
        return Found(entries, climb.later)
    selected = {name: ranked["cost"] for name, ranked in climb.best.items()}
    nearest = {name: each["distance"] for name, each in climb.best.items() if "distance" in each}
    on_edge = tuple(n for n, best in selected.items() if fields[n].block(best).on_edge(best))
    return Found(entries, {}, selected, nearest, on_edge)


class _Climb:
    """The way up the rungs, given the records that exist.

    Attributes:
        top: the first rung that is incomplete, or the last one.
        complete: whether every rung is.
        later: runs that are sure to follow the incomplete one, by their passes.
        best: by arm and ranking, the best candidate of the highest complete rung.
        edges: by arm, a best that is at an end of its block.
    """

    def __init__(
        self,
        study: Study,
        profile: Profile,
        data: str,
        records: Records,
        fields: Mapping[str, _Field],
    ) -> None:
        self.study, self.profile, self.data = study, profile, data
        self.records, self.fields = records, fields
        self.top, self.complete = 0, False
        self.later: dict[int, int] = {}
        self.best: dict[str, dict[str, Settings]] = {}
        self.edges: dict[str, Settings] = {}

    def runs(self, arm: str, settings: Settings, rung: int) -> list[Run]:
        """The runs of a candidate at a rung, one for each tuning seed."""
        return [
            self.study.run(
                self.study.arm(arm),
                settings,
                profile=self.profile,
                data=self.data,
                seed=seed,
                epochs=self.profile.rungs[rung],
            )
            for seed in range(FIRST_TUNING_SEED, FIRST_TUNING_SEED + self.profile.tuning_seeds)
        ]

    def up(self, *, grows: bool) -> int | None:
        """Climb to the first rung that is incomplete.

        Args:
            grows: whether to stop where a best is at an edge, since a candidate may be added.

        Returns:
            The rung at which a best is at an edge; None if there is none, or it stops nothing.
        """
        number = max(len(each.at[0]) for each in self.fields.values())
        for rung in range(len(self.profile.rungs)):
            self.top, self.edges = rung, {}
            scores = {name: self._scores(name) for name in self.fields}
            known = {name: found for name, found in scores.items() if found is not None}
            if len(known) < len(scores):
                self.later = self._later(number)
                return None
            ranked = {name: self._ranked(name, found) for name, found in known.items()}
            if self.edges and grows:
                return rung
            if rung + 1 < len(self.profile.rungs):
                kept = math.ceil(number / KEPT ** (rung + 1))
                for name, orders in ranked.items():
                    for settings in (each for order in orders for each in order[:kept]):
                        self.fields[name].enter(settings, rung + 1)
        entered = [
            own.enter(settings, self.top)
            for name, own in self.fields.items()
            for settings in own.neighbours(self.best[name]["cost"])
        ]
        if any(entered):
            return self.up(grows=grows)
        self.complete = True
        return None

    def _scores(self, name: str) -> dict[str, dict[str, float]] | None:
        """By ranking, the score of an arm's candidates of the rung at the top.

        None if one has no record.
        """
        rankings = _rankings(self.study, self.study.arm(name))
        scores: dict[str, dict[str, float]] = {ranking: {} for ranking in rankings}
        for trial, settings in self.fields[name].at[self.top].items():
            found = [self.records.get(run.id) for run in self.runs(name, settings, self.top)]
            known = [record for record in found if record is not None]
            if len(known) < len(found):
                return None
            for ranking, score in rankings.items():
                scores[ranking][trial] = _mean(score, known)
        return scores

    def _ranked(self, name: str, scores: dict[str, dict[str, float]]) -> list[list[Settings]]:
        """An arm's candidates of the rung at the top, best first, by each ranking."""
        own, orders = self.fields[name], []
        for ranking, by_trial in scores.items():
            order = [
                own.at[self.top][trial] for trial in sorted(by_trial, key=by_trial.__getitem__)
            ]
            self.best.setdefault(name, {})[ranking] = order[0]
            if own.block(order[0]).on_edge(order[0]):
                self.edges.setdefault(name, order[0])
            orders.append(order)
        return orders

    def _later(self, number: int) -> dict[int, int]:
        """What is sure to follow the top: a third of each arm, less what was promoted before."""
        counts = {}
        for above in range(self.top + 1, len(self.profile.rungs)):
            kept = math.ceil(number / KEPT**above)
            more = sum(max(0, kept - len(own.at[above])) for own in self.fields.values())
            counts[self.profile.rungs[above]] = more * self.profile.tuning_seeds
        return counts

    def entries(self) -> Iterator[Entry]:
        """The runs, rung by rung; above the first incomplete rung, only those with a record."""
        for rung in range(len(self.profile.rungs)):
            for name, own in self.fields.items():
                for trial, settings in own.at[rung].items():
                    for run in self.runs(name, settings, rung):
                        if rung <= self.top or self.records.get(run.id) is not None:
                            yield Entry("search", name, trial, run)


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


def _mean(score: Score, records: Sequence[Mapping[str, Any]]) -> float:
    """The mean over the tuning seeds; infinite if one diverged."""
    values = [
        score(record["metrics"]["training_cost"]) if record["status"] == "finished" else math.inf
        for record in records
    ]
    return sum(values) / len(values)
