"""What a default costs: regret, the width of the valley, and one rate for all problems.

The regret of a run is how far its training cost ends above the lowest of all methods and rates, as
a share of the way down: from the lowest cost that any of them had in the first pass (the mean over
that pass) to the lowest in the last. At 0% no run ended lower; at 100% a run ended at the fastest
one's mean over its first pass.
"""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from experiments.analysis.results import Results
from experiments.analysis.statistics import interval
from experiments.studies import defaults as declared
from experiments.study import PROTOCOLS

if TYPE_CHECKING:
    from experiments.analysis.ledger import Claim

NEAR = (0.05, 0.2)  # a method is in its valley up to this far above its best regret
NEAR_COST = 1.05  # a trial is in the valley of `wider_valley` up to this many times the best cost
SAME = 0.02  # rates of a grid are rounded

Trials = dict[str, dict[float, list[float]]]  # the costs of each pass, by method and rate


@dataclass(frozen=True)
class Case:
    """A problem on which defaults are judged.

    Attributes:
        title: what is trained on what.
        results: the study that holds its runs.
        variant: which of its arms count, for example "dropout".
    """

    title: str
    results: Results
    variant: str = ""

    @property
    def compared(self) -> bool:
        """Whether every method was trained at its default, with reported seeds, for this question.

        Otherwise the tuning trials answer it, which have one seed or three.
        """
        return self.results.study in declared.STUDIES

    @functools.cached_property
    def trials(self) -> Trials:
        """The costs of the tuning runs, averaged over tuning seeds.

        Only constant step sizes count, since a default is used as it is. A single infinite cost
        stands for a trial that diverged; a method with a run still to come is left out. Nothing
        counts while the study's grids may still grow.
        """
        if not self.results.plan.selected:
            return {}
        found: dict[str, dict[float, list[list[float]]]] = {}
        waiting = set()
        for entry in self.results.plan.entries:
            arm = self.results.study.arm(entry.arm)
            constant = entry.run.settings.get("decay", "constant") == "constant"
            if entry.role != "tuning" or arm.variant != self.variant or not constant:
                continue
            record = self.results.records.get(entry.run.id)
            if record is None:
                waiting.add(arm.method)
                continue
            diverged = record["status"] == "diverged"
            costs = [math.inf] if diverged else list(record["metrics"]["training_cost"])
            rate = entry.run.settings["learning_rate"]
            found.setdefault(arm.method, {}).setdefault(rate, []).append(costs)
        return {
            method: {rate: _mean(runs) for rate, runs in sorted(rates.items())}
            for method, rates in found.items()
            if method not in waiting
        }

    @functools.cached_property
    def regrets(self) -> dict[str, dict[float, float]]:
        """The regret of each of these trials, by method and rate."""
        curves = [costs for rates in self.trials.values() for costs in rates.values()]
        return {
            method: {rate: regret(costs[-1], curves) for rate, costs in rates.items()}
            for method, rates in self.trials.items()
        }


def regret(cost: float, curves: Iterable[Sequence[float]], first: int = 0) -> float:
    """The regret of a run that ended at `cost`, given the costs of all runs, pass by pass.

    Infinite where the cost is; NaN where no run got below the lowest first pass.

    Args:
        cost: of its last pass.
        curves: the costs of all runs; a single infinite cost stands for one that diverged.
        first: the pass from which the way down is measured.
    """
    curves = [curve for curve in curves if len(curve) > first]
    start, best = (min(curve[k] for curve in curves) for k in (first, -1))
    return (cost - best) / (start - best) if start > best else math.nan


def _by_seed(results: Results) -> dict[int, dict[tuple[str, str], list[float]]]:
    """The costs by arm and protocol, of each seed for which every arm has run under both."""
    curves = {
        (arm.name, protocol): results.matrix(protocol, arm.name)
        for arm in results.study.arms
        for protocol in PROTOCOLS
    }
    whole = {key: table[table.notna().all(axis=1)] for key, table in curves.items()}
    seeds = sorted(set.intersection(*(set(table.index) for table in whole.values())))
    return {
        seed: {key: table.loc[seed].to_numpy(float).tolist() for key, table in whole.items()}
        for seed in seeds
    }


def regrets(results: Results) -> dict[tuple[str, str], dict[int, float]]:
    """By arm and protocol, the regret of each seed for which every arm has run under both."""
    seeds = _by_seed(results)
    return {
        (arm.name, protocol): {
            seed: regret(costs[arm.name, protocol][-1], costs.values())
            for seed, costs in seeds.items()
        }
        for arm in results.study.arms
        for protocol in PROTOCOLS
    }


def starts(results: Results) -> dict[str, tuple[float, float, float]]:
    """How far Adam's default ends above the best, by where the way down starts: mean, low, high.

    Under "cost" the cost is a multiple of the lowest one, which needs no start; then regrets whose
    way down starts at the first pass, as everywhere, and at the second. Empty before the first
    seed is complete.
    """
    pairs = [(costs["Adam", "matched"][-1], costs.values()) for costs in _by_seed(results).values()]
    if not pairs:
        return {}
    ratios = np.array([cost / min(curve[-1] for curve in curves) for cost, curves in pairs])
    found = {"cost": interval(ratios, log=True)}
    for first, name in enumerate(("first pass", "second pass")):
        found[name] = interval(np.array([regret(cost, curves, first) for cost, curves in pairs]))
    return {name: (float(at), float(low), float(high)) for name, (at, low, high) in found.items()}


def regret_table(results: Results) -> pd.DataFrame:
    """Mean regret with its 95% interval over seeds, a row for each arm and protocol."""
    rows = []
    for (arm, protocol), by_seed in regrets(results).items():
        if not by_seed:
            continue
        mean, low, high = interval(np.array(list(by_seed.values())))
        numbers = {"mean": float(mean), "low": float(low), "high": float(high)}
        rows.append({"arm": arm, "protocol": protocol, **numbers, "n": len(by_seed)})
    return pd.DataFrame(rows, columns=["arm", "protocol", "mean", "low", "high", "n"])


def _mean(runs: Sequence[Sequence[float]]) -> list[float]:
    if any(math.isinf(run[-1]) for run in runs):
        return [math.inf]
    return [float(value) for value in np.mean(runs, axis=0)]


def at_defaults(case: Case, protocol: str = "matched") -> pd.DataFrame:
    """The regret of each method at its default rate (`matched`) or at its best one (`tuned`).

    Columns: method, mean, low, high (95% interval over seeds; NaN where tuning trials answer) and
    n. A method whose grid lacks its default rate has no row.
    """
    if case.compared:
        table = regret_table(case.results)
        table = table[table["protocol"] == protocol].rename(columns={"arm": "method"})
        return table[["method", "mean", "low", "high", "n"]].reset_index(drop=True)
    seeds = case.results.study.profile(case.results.profile).tuning_seeds
    rows = []
    for method, tried in case.regrets.items():
        if protocol == "tuned":
            values = [min(tried.values())]
        else:
            default = declared.RATES.get(method, math.nan)
            values = [value for rate, value in tried.items() if _same(rate, default)]
        rows += [(method, value, math.nan, math.nan, seeds) for value in values]
    return pd.DataFrame(rows, columns=["method", "mean", "low", "high", "n"])


def _same(rate: float, wanted: float) -> bool:
    return math.isclose(rate, wanted, rel_tol=SAME)


def valley(case: Case) -> pd.DataFrame:
    """How wide each method's valley is, on its tuning grid.

    Columns: method, rates (their number), best (the best rate), the shares of the rates whose
    regret is at most 5% and 20% above the best one's, and how far above it the regret of ten times
    the best rate is (NaN where the grid does not reach so far).
    """
    rows = []
    for method, last in case.regrets.items():
        best = min(last, key=last.__getitem__)
        above = {rate: value - last[best] for rate, value in last.items()}
        row: dict[str, object] = {"method": method, "rates": len(last), "best": best}
        for near in NEAR:
            row[f"within {near:.0%}"] = sum(v <= near + 1e-9 for v in above.values()) / len(above)
        beyond = [value for rate, value in above.items() if _same(rate, 10 * best)]
        row["ten times the best rate"] = beyond[0] if beyond else math.nan
        rows.append(row)
    return pd.DataFrame(rows)


def tuned_on_most(cases: Sequence[Case]) -> list[str]:
    """The methods that were tuned on more than half of the problems."""
    tuned = Counter(method for case in cases for method in case.trials)
    return [method for method, number in tuned.items() if number > len(cases) / 2]


def one_rate(cases: Iterable[Case]) -> pd.DataFrame:
    """For each method and rate, the worst regret of the tuning runs over all problems.

    A problem counts for the methods that were tuned on it; a rate counts if it is on all of a
    method's grids. Columns: method, rate, worst (the regret), problem (where it occurs), problems
    (out of how many), smallest (whether no rate of the method has a smaller one).
    """
    found: dict[tuple[str, float], dict[str, float]] = {}
    tuned: dict[str, set[str]] = {}
    for case in cases:
        for method, rates in case.regrets.items():
            tuned.setdefault(method, set()).add(case.title)
            for rate, value in rates.items():
                found.setdefault((method, float(f"{rate:.3g}")), {})[case.title] = value
    rows = [
        (method, rate, max(values.values()), max(values, key=values.__getitem__), len(values))
        for (method, rate), values in found.items()
        if set(values) == tuned[method]
    ]
    table = pd.DataFrame(rows, columns=["method", "rate", "worst", "problem", "problems"])
    table["smallest"] = table["worst"] == table.groupby("method")["worst"].transform("min")
    return table.sort_values(["method", "rate"], ignore_index=True)


# --- as metrics of claims -------------------------------------------------------------------------


def claimed_regret(claim: Claim, protocol: str, results: Results) -> np.ndarray:
    """The regret of a claim's first arm, by seed; the arguments are those of any metric."""
    found = regrets(results)[claim.arms[0], protocol]
    return np.array([found[seed] for seed in sorted(found)])


def behind_tuned(claim: Claim, protocol: str, results: Results) -> np.ndarray:
    """The regret of the first arm at its default minus that of the last, tuned, by seed.

    Args:
        claim: names the arms.
        protocol: not read: both are compared.
        results: of the claim's study.
    """
    found = regrets(results)
    default, tuned = found[claim.arms[0], "matched"], found[claim.arms[-1], "tuned"]
    with np.errstate(invalid="ignore"):  # both diverged
        return np.array([default[seed] - tuned[seed] for seed in sorted(default)])


def wider_valley(claim: Claim, protocol: str, results: Results) -> np.ndarray:
    """Share of the first arm's tuning trials near its best, minus the largest of the others'.

    Args:
        claim: names the arms.
        protocol: not read: the trials of the tuning grid are compared.
        results: of the claim's study.

    Returns:
        A value per tuning seed; none until all trials are there.
    """
    shares: dict[str, dict[int, float]] = {}
    for arm in claim.arms:
        costs: dict[int, list[float]] = {}
        planned = sum((entry.role, entry.arm) == ("tuning", arm) for entry in results.plan.entries)
        recorded = list(results.recorded("tuning", arm=arm))
        if len(recorded) < planned:
            return np.array([])
        for entry, record in recorded:
            finished = record["status"] == "finished"
            cost = record["metrics"]["training_cost"][-1] if finished else math.inf
            costs.setdefault(entry.run.seed, []).append(cost)
        shares[arm] = {
            seed: float(
                np.mean(np.array(own) <= NEAR_COST * min(own)) if min(own) < math.inf else 0
            )
            for seed, own in costs.items()
        }
    own, *others = shares.values()
    return np.array([own[seed] - max(other[seed] for other in others) for seed in sorted(own)])
