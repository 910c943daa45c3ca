"""What a default costs: regret, the width of the valley, and one rate for all problems.

The regret of a run is its excess of training cost over the best run, as a share of how far that
best run has come since its first pass: 0 is the best, 1 is where the best one was in that pass.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from experiments.analysis.results import Results
from experiments.analysis.statistics import interval
from experiments.study import PROTOCOLS

NEAR = (0.05, 0.2)  # how near to a method's best trial counts as in the valley
TEN = 10.0


def shares(cost: float | np.ndarray, best: Sequence[float]) -> np.ndarray:
    """Excess over the end of the best run, whose costs these are, as a share of its way down.

    NaN where that run went nowhere; infinite where the cost is.
    """
    way = best[0] - best[-1]
    excess = np.asarray(cost, float) - best[-1]
    return excess / way if way > 0 else np.full_like(excess, math.nan)


def regrets(results: Results) -> dict[tuple[str, str], dict[int, float]]:
    """By arm and protocol the regret of each seed that has every arm under both protocols.

    The best run is the best of all these at that seed.
    """
    curves = {
        (arm.name, protocol): results.matrix(protocol, arm.name)
        for arm in results.study.arms
        for protocol in PROTOCOLS
    }
    whole = {key: table[table.notna().all(axis=1)] for key, table in curves.items()}
    seeds = sorted(set.intersection(*(set(table.index) for table in whole.values())))
    found: dict[tuple[str, str], dict[int, float]] = {key: {} for key in whole}
    for seed in seeds:
        rows = {key: table.loc[seed].to_numpy(float) for key, table in whole.items()}
        best = min(rows.values(), key=lambda row: row[-1])
        for key, row in rows.items():
            found[key][seed] = float(shares(row[-1], best))
    return found


def regret_table(results: Results) -> pd.DataFrame:
    """Mean regret with its 95% interval over seeds, a row for each arm and protocol."""
    rows = []
    for (arm, protocol), by_seed in regrets(results).items():
        if not by_seed:
            continue
        mean, low, high = interval(np.array(list(by_seed.values()))[:, None])
        numbers = {"mean": float(mean[0]), "low": float(low[0]), "high": float(high[0])}
        rows.append({"arm": arm, "protocol": protocol, **numbers, "n": len(by_seed)})
    return pd.DataFrame(rows, columns=["arm", "protocol", "mean", "low", "high", "n"])


def trials(results: Results) -> dict[str, dict[float, list[float]]]:
    """By arm and rate the costs of each pass of the tuning runs, averaged over tuning seeds.

    One infinite cost stands for a trial that diverged; an arm with a run to come is left out.
    """
    found: dict[str, dict[float, list[list[float]]]] = {}
    waiting = set()
    for entry in results.plan.entries:
        if entry.role != "tuning":
            continue
        record = results.records.get(entry.run.id)
        if record is None:
            waiting.add(entry.arm)
            continue
        diverged = record["status"] == "diverged"
        costs = [math.inf] if diverged else list(record["metrics"]["training_cost"])
        rate = entry.run.settings["learning_rate"]
        found.setdefault(entry.arm, {}).setdefault(rate, []).append(costs)
    return {
        arm: {rate: _mean(runs) for rate, runs in sorted(rates.items())}
        for arm, rates in found.items()
        if arm not in waiting
    }


def _mean(runs: Sequence[Sequence[float]]) -> list[float]:
    if any(math.isinf(run[-1]) for run in runs):
        return [math.inf]
    return [float(value) for value in np.mean(runs, axis=0)]


def valley(results: Results) -> pd.DataFrame:
    """How wide each method's valley is, on its tuning grid.

    The shares of the rates whose last cost is within 5% and 20% of the best one's, and the cost at
    ten times the best rate over the best cost, where the grid reaches so far.
    """
    rows = []
    for arm, rates in trials(results).items():
        last = {rate: costs[-1] for rate, costs in rates.items()}
        best = min(last, key=lambda rate: last[rate])
        costs = np.array(list(last.values()))
        row: dict[str, object] = {"arm": arm, "rates": len(last), "best": best}
        for near in NEAR:
            row[f"within {near:.0%}"] = float(np.mean(costs <= (1 + near) * last[best]))
        beyond = [
            cost for rate, cost in last.items() if math.isclose(rate, TEN * best, rel_tol=0.02)
        ]
        row["ten times the best rate"] = beyond[0] / last[best] if beyond else math.nan
        rows.append(row)
    return pd.DataFrame(rows)


def one_rate(found: Iterable[Results]) -> pd.DataFrame:
    """For each method and rate the worst regret over all problems, of the tuning runs.

    A rate counts that the method's grid has on every problem. Columns: arm, rate, worst (the
    regret), problem (whose it is), smallest (whether no rate of the method has a smaller one).
    """
    by_problem = {results.study.name: trials(results) for results in found}
    regret: dict[tuple[str, float], dict[str, float]] = {}
    for problem, arms in by_problem.items():
        ends = [costs for rates in arms.values() for costs in rates.values()]
        if not ends:
            continue
        best = min(ends, key=lambda costs: costs[-1])
        for arm, rates in arms.items():
            for rate, costs in rates.items():
                regret.setdefault((arm, rate), {})[problem] = float(shares(costs[-1], best))
    rows = [
        {"arm": arm, "rate": rate, "worst": max(values.values()), "problem": _worst(values)}
        for (arm, rate), values in regret.items()
        if len(values) == len(by_problem)
    ]
    table = pd.DataFrame(rows, columns=["arm", "rate", "worst", "problem"])
    table["smallest"] = table["worst"] == table.groupby("arm")["worst"].transform("min")
    return table.sort_values(["arm", "rate"], ignore_index=True)


def _worst(values: Mapping[str, float]) -> str:
    return max(values, key=lambda problem: values[problem])
