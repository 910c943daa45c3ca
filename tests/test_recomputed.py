"""Every published verdict once more, by a reader who has pandas and none of the analysis code.

What the ledger says in words is written here a second time, from the Parquet files, the ledger and
the digitised curves alone. Only the last lines ask the project for its own verdicts.
"""

from __future__ import annotations

import functools
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy import stats

ROOT = Path(__file__).resolve().parent.parent
LEDGER = yaml.safe_load((ROOT / "experiments/paper/claims.yaml").read_text(encoding="utf-8"))
PAPER = pd.read_csv(ROOT / "experiments/paper/curves.csv")
PANEL = {
    "fig1-mnist": "fig1L",
    "fig1-imdb": "fig1R",
    "fig2-dropout": "fig2a",
    "fig2-sfo": "fig2b_epochs",
    "fig3": "fig3R",
}
LINEAR = ("fig1-mnist", "fig1-imdb")  # axes of cost that are not logarithmic
PLOTTED = [3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2]  # Figure 4's step sizes
POSITIVE = (
    "cost_ratio", "final_ratio", "distance", "sparser", "recorded_ratio", "recorded_largest",
    "recorded_change", "recorded_off", "recorded_nearest", "time_ratio", "default_ratio",
)  # fmt: skip


@functools.cache
def table(study: str) -> pd.DataFrame:
    return pd.read_parquet(ROOT / "results" / f"{study}.parquet")


@functools.cache
def wide(study: str, role: str, arm: str, metric: str) -> pd.DataFrame:
    """Seeds by passes, of the longest run of each seed; infinite after divergence."""
    rows = table(study)
    rows = rows[(rows["arm"] == arm) & rows["role"].str.split("; ").map(lambda r: role in r)]
    if rows.empty:
        return pd.DataFrame()
    found = rows.pivot_table(
        index=["seed", "run"], columns="pass", values=metric, dropna=False, aggfunc="first"
    )
    gone = rows[rows["status"] == "diverged"].groupby(["seed", "run"])["diverged_at"].first()
    for key, when in gone.items():
        found.loc[key, [c for c in found.columns if c >= when]] = math.inf
    longest = found.notna().sum(axis=1).groupby("seed").idxmax()
    return found.loc[longest].droplevel("run")


def role_of(claim: dict, protocol: str) -> str:
    roles = table(claim["study"])
    mine = roles[roles["arm"] == claim["arms"][0]]["role"]
    if (mine == "grid").all():
        return "grid"
    return protocol


def window(claim: dict, protocol: str, names: list[str]) -> list[np.ndarray]:
    first, last = claim["passes"]
    found = []
    for arm in claim["arms"]:
        for name in names:
            role = role_of(claim, protocol)
            values = wide(claim["study"], role, arm, name)
            if values.empty and role == "tuned":  # a method with nothing to tune
                values = wide(claim["study"], "matched", arm, name)
            values = values[[c for c in values.columns if first <= c and (last < 0 or c <= last)]]
            if last >= 0 and values.shape[1] < last - first + 1:
                values = values.iloc[:0]
            found.append(values.dropna())
    seeds = sorted(set.intersection(*(set(values.index) for values in found)))
    return [values.loc[seeds].to_numpy(float) for values in found]


def log_ratio(over: np.ndarray, under: np.ndarray) -> np.ndarray:
    return np.exp(np.mean(np.log(over / under), axis=1))


def rate(values: np.ndarray, t: np.ndarray) -> np.ndarray:
    return np.array([np.polyfit(np.log(t), np.log(row), 1)[0] for row in values])


@functools.cache
def losses(study: str, last: int) -> pd.Series:
    """Figure 4: the loss after a pass, by seed, arm and step size."""
    rows = table(study)
    reached = rows[(rows["pass"] == last) & (rows["status"] == "finished")]
    own = reached.groupby(["seed", "arm", "settings.learning_rate"])["training_cost"].first()
    gone = rows[(rows["status"] == "diverged")]
    keys = ["seed", "arm", "settings.learning_rate"]
    for key, group in gone.groupby(keys):
        if (group["diverged_at"] <= last).any():
            own.loc[key] = math.inf
        elif key not in own.index:
            own.loc[key] = group.loc[group["pass"] == last, "training_cost"].iloc[0]
    return own


def twin(arm: str) -> str:
    stem, _, kind = arm.rpartition("/")
    return f"{stem}/{'nocorr' if kind == 'biascorr' else 'biascorr'}"


def grid(claim: dict) -> list[float]:
    first, last = claim["passes"]
    arms, kind = claim["arms"], claim["metric"]
    all_arms = sorted(set(table(claim["study"])["arm"]))
    values = []
    for seed in sorted(set(table(claim["study"])["seed"])):
        found = losses(claim["study"], last)
        if seed not in found.index.get_level_values(0):
            continue
        loss = found.loc[seed]
        used = all_arms if kind == "grid_best" else [*arms, *map(twin, arms)]
        if not all((arm, alpha) in loss.index for arm in used for alpha in PLOTTED):
            continue
        best = loss.groupby("arm").min()
        if kind == "grid_best":
            others = [arm for arm in all_arms if arm not in arms]
            values.append(best[arms].min() - best[others].min())
        elif kind == "grid_best_regret":
            values.append(max(best[arm] - best[twin(arm)] for arm in arms))
        elif kind == "grid_regret":
            pairs = [(loss[arm, a], loss[twin(arm), a]) for arm in arms for a in PLOTTED]
            values.append(max(0.0 if x == y else x - y for x, y in pairs))
        else:
            per_pass = [losses(claim["study"], when).loc[seed] for when in range(first, last + 1)]
            worse = []
            for arm in arms:
                for alpha in PLOTTED:
                    ours = [each[arm, alpha] for each in per_pass]
                    theirs = [each[twin(arm), alpha] for each in per_pass]
                    for k in range(len(ours)):
                        if math.isinf(ours[k]) and math.isinf(theirs[k]):
                            begun = [[*map(math.isinf, x)].index(True) for x in (ours, theirs)]
                            worse.append(begun[0] < begun[1])
                        elif math.isinf(ours[k]) or math.isinf(theirs[k]):
                            worse.append(math.isinf(ours[k]))
                        else:
                            worse.append(ours[k] - theirs[k] >= 5)
            values.append(np.mean(worse))
    return values


def valley(claim: dict) -> list[float]:
    rows = table(claim["study"])
    rows = rows[rows["role"].str.split("; ").map(lambda roles: "tuning" in roles)]
    last = rows.sort_values("pass").groupby(["arm", "seed", "run"]).last()
    cost = last["training_cost"].where(last["status"] == "finished", math.inf)
    share = cost.groupby(["arm", "seed"]).agg(lambda c: float((c <= 1.05 * c.min()).mean()))
    own, *others = (share.loc[arm] for arm in claim["arms"])
    return list(own - pd.concat(others, axis=1).max(axis=1))


def above(claim: dict) -> list[float]:
    """Cost above the lowest, or above that of another method, by seed, over the way down."""
    study, arms = claim["study"], sorted(set(table(claim["study"])["arm"]))
    costs = {
        (arm, role): wide(study, role, arm, "training_cost").dropna()
        for arm in arms
        for role in ("matched", "tuned")
    }
    values = []
    for seed in sorted(set.intersection(*(set(cost.index) for cost in costs.values()))):
        first = min(cost.loc[seed].iloc[0] for cost in costs.values())
        last = {key: cost.loc[seed].iloc[-1] for key, cost in costs.items()}
        lowest = min(last.values())
        low = lowest if claim["metric"] == "regret" else last[claim["arms"][-1], "tuned"]
        values.append((last[claim["arms"][0], "matched"] - low) / (first - lowest))
    return values


def values_of(claim: dict, protocol: str) -> np.ndarray:
    kind, names = claim["metric"], claim.get("recorded", [])
    study, (first, last) = claim["study"], claim["passes"]
    if kind.startswith("grid_"):
        return np.array(grid(claim))
    if kind == "valley":
        return np.array(valley(claim))
    if kind in ("regret", "behind_tuned"):
        return np.array(above(claim))
    if kind in ("cost_ratio", "final_ratio"):
        first, *others = window(claim, protocol, ["training_cost"])
        return np.max([log_ratio(first, other) for other in others], axis=0)
    if kind == "default_ratio":
        pair = [
            wide(study, role, claim["arms"][0], "training_cost").loc[:, first:last]
            for role in ("matched", "tuned")
        ]
        return log_ratio(*(values.to_numpy(float) for values in pair))
    if kind == "distance":
        paper = PAPER[(PAPER["panel"] == PANEL[study]) & (PAPER["curve"] == claim["arms"][0])]
        (ours,) = window(claim, protocol, ["training_cost"])
        paper = paper[(paper["x"] >= first) & (paper["x"] <= last)]
        ours = ours[:, (paper["x"] - first).astype(int)]
        theirs = paper["y"].to_numpy()
        gap = ours - theirs if study in LINEAR else np.log(ours / theirs)
        return np.abs(gap).max(axis=1)
    if kind == "below_epsilon":
        return window(claim, protocol, ["below_epsilon all"])[0].mean(axis=1)
    if kind == "sparser":
        rows = table(study)
        rows = rows[(rows["arm"] == claim["arms"][0]) & (rows["settings.learning_rate"] == 1e-3)]
        support = rows.pivot_table(index="seed", columns="pass", values="gradient_support")
        return (support[float(last)] / support[float(first)]).to_numpy()
    if kind == "gap_slope":
        costs = [values[:, -1:] for values in window(claim, protocol, ["training_cost"])]
        half = len(costs) // 2
        sizes = [int(arm.rpartition(" ")[2]) for arm in claim["arms"][:half]]
        gaps = [log_ratio(a, b) for a, b in zip(costs[:half], costs[half:], strict=True)]
        return rate(np.array(gaps).T, np.array(sizes))
    if kind == "time_ratio":
        (cost, seconds), *others = (
            [
                window({**claim, "arms": [arm]}, protocol, [name])[0]
                for name in ("training_cost", "seconds")
            ]
            for arm in claim["arms"]
        )
        found = []
        for end, whole in others:
            found.append([])
            for c, s, e, w in zip(cost, seconds, end, whole, strict=True):
                reached = np.cumsum(s)[c <= e[-1]]
                found[-1].append(reached[0] / w.sum() if len(reached) else math.inf)
        return np.max(found, axis=0)
    recorded = window(claim, protocol, names)
    if kind == "recorded_ratio":
        return log_ratio(*recorded)
    if kind == "recorded_lead":
        return np.subtract(*recorded).mean(axis=1)
    if kind == "recorded_slope":
        sizes = [int(arm.partition("/")[2]) for arm in claim["arms"]]
        return rate(np.array([r[:, -1] for r in recorded]).T, np.array(sizes))
    if kind == "recorded_highest":
        return np.max([values[:, -1] for values in recorded], axis=0)
    if kind == "recorded_nearest":
        return np.min([np.abs(values - 1).max(axis=1) for values in recorded], axis=0)
    (one,) = recorded
    if kind == "recorded_rate":
        t = window(claim, protocol, ["t"])[0][0]
        late = t >= t[-1] / 10
        return rate(one[:, late], t[late])
    return {
        "recorded_mean": lambda: one.mean(axis=1),
        "recorded_largest": lambda: one.max(axis=1),
        "recorded_last": lambda: one[:, -1],
        "recorded_change": lambda: one[:, -1] / one[:, 0],
        "recorded_off": lambda: np.abs(one - 1).max(axis=1),
    }[kind]()


def interval_of(values: np.ndarray, positive: bool) -> tuple[float, float, float]:
    if positive and (values > 0).all():
        return tuple(np.exp(interval_of(np.log(values), False)))
    mean = values.mean()
    if len(values) < 2 or np.ptp(values) <= 1e-12 * np.abs(values).max():
        return mean, mean, mean
    return mean, *stats.t.interval(0.95, len(values) - 1, mean, stats.sem(values))


def decided(claim: dict, low: float, high: float) -> str:
    rule, limit = claim["rule"], claim["limit"]
    if rule == "below":
        right, wrong = high < limit, low >= limit
    elif rule == "above":
        right, wrong = low > limit, high <= limit
    else:
        least, most = (1 / limit, limit) if rule == "within" else limit
        right, wrong = least <= low and high <= most, high < least or low > most
    return "reproduced" if right else "not reproduced" if wrong else "inconclusive"


@functools.cache
def ours() -> dict:
    from experiments import pages
    from experiments.analysis import claims

    return {
        (verdict.claim.id, verdict.protocol): verdict
        for study in pages.published_studies()
        for verdict in claims.judge(pages.published(study))
    }


@pytest.mark.parametrize(
    ("claim", "protocol"),
    [
        pytest.param(claim, protocol, id=f"{claim['id']}-{protocol}")
        for claim in LEDGER
        for protocol in claim["protocols"]
    ],
)
def test_a_published_verdict_follows_from_the_tables(claim, protocol):
    verdict = ours()[claim["id"], protocol]
    if verdict.verdict == "not tested":
        if verdict.n:
            assert verdict.n < 3 or "end of its grid" in verdict.reason
        else:
            assert claim.get("untested", "not finished") in verdict.reason
        return
    values = values_of(claim, protocol)
    assert len(values) == verdict.n >= 3
    if not np.isfinite(values).all():  # every seed by itself, and all must agree
        kinds = {decided(claim, value, value) for value in values}
        assert verdict.verdict == (kinds.pop() if len(kinds) == 1 else "inconclusive")
        return
    if claim.get("universal"):  # the worst seed alone
        mean = low = high = max(values) if claim["rule"] == "below" else min(values)
    else:
        mean, low, high = interval_of(values, claim["metric"] in POSITIVE)
    assert verdict.value == pytest.approx(mean, rel=1e-9, abs=1e-12)
    assert verdict.low == pytest.approx(low, rel=1e-9, abs=1e-12)
    assert verdict.high == pytest.approx(high, rel=1e-9, abs=1e-12)
    assert verdict.verdict == decided(claim, low, high)
