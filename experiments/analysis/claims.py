"""The ledger: what the paper says, judged from records by rules written before the runs.

`paper/claims.yaml` holds the claims and explains their fields.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from experiments.analysis.results import Results, gaps, interval, paper_curve
from experiments.options import known
from experiments.study import PROTOCOLS, Panel, Study

LEDGER = Path(__file__).parents[1] / "paper" / "claims.yaml"
REPRODUCED, NOT_REPRODUCED = "reproduced", "not reproduced"
INCONCLUSIVE, NOT_TESTED = "inconclusive", "not tested"
FEWEST_SEEDS = 3
RULES = ("below", "above", "within", "between")
WORSE = 5.0  # nats; the margin of `grid_worse`

# Each metric in words; `after` counts passes from 1.
_RATIO = "training cost {} / {}, geometric mean over passes {first}-{last}"
_COUNTERPART = "loss after {after} passes with bias correction minus without, largest over all {}"
WORDS = {
    "cost_ratio": _RATIO,
    "final_ratio": _RATIO,
    "distance": "largest distance of {} to the paper's curve over passes {first}-{last}",
    "below_epsilon": "share of coordinates of {} with sqrt(v_hat) < epsilon, passes {first}-{last}",
    "sparser": "share of coordinates that carry 90% of a gradient, pass {last} over pass {first}",
    "recorded_ratio": "{recorded} of {}, geometric mean over passes {first}-{last}",
    "recorded_largest": "largest {recorded} of {} over passes {first}-{last}",
    "recorded_last": "{recorded} of {} at pass {last}",
    "recorded_change": "{recorded} of {}, {last} over {first}",
    "recorded_off": "largest distance of {recorded} from 1, {}",
    "recorded_rate": "slope of log({recorded}) against log(t) over the last tenfold of t, {}",
    "recorded_slope": "slope of log({recorded}) against log(minibatches)",
    "time_ratio": "time that {0} takes to the cost at which {1} ends, over the time of {1}",
    "grid_worse": "share of step sizes at least 5 nats worse without correction, {after} passes",
    "grid_best": "lowest loss of these settings minus lowest of the others, {after} passes, nats",
    "grid_regret": _COUNTERPART.replace("{}", "settings, nats"),
    "grid_best_regret": _COUNTERPART.replace("{}", "betas at their best step sizes, nats"),
}


@dataclass(frozen=True)
class Claim:
    """One entry of the ledger; the fields are explained there."""

    id: str
    study: str
    section: str
    quote: str
    reading: str
    metric: str
    arms: tuple[str, ...]
    passes: tuple[int, int]
    rule: str
    limit: Any
    why: str
    protocols: tuple[str, ...]
    source: str = "text"
    recorded: tuple[str, ...] = ()

    @property
    def limits(self) -> tuple[float, float]:
        """The ends of the interval in which the metric must lie, of the rules that have one."""
        low, high = (1 / self.limit, self.limit) if self.rule == "within" else self.limit
        return low, high

    @property
    def criterion(self) -> str:
        """The decision rule in words."""
        if self.rule in ("within", "between"):
            side = "within [{:.3g}, {:g}]".format(*self.limits)
        else:
            side = f"{known('rule', self.rule, RULES)} {self.limit:g}"
        first, last = self.passes
        words = WORDS[self.metric]
        ends = {"first": first, "last": last} if last >= 0 else {"first": "first", "last": "last"}
        passes = {**ends, "after": last + 1}
        what = words.format(*self.arms, recorded=" / ".join(self.recorded), **passes)
        return f"{what}: {side}"


@dataclass(frozen=True)
class Verdict:
    """A claim judged under one protocol.

    Attributes:
        claim: the claim.
        protocol: "matched" or "tuned".
        verdict: "reproduced", "not reproduced", "inconclusive", "not tested", or "" where the
            claim does not concern this protocol.
        value: the metric, mean over seeds; NaN if there is none.
        low: lower end of its 95% interval.
        high: upper end.
        n: number of seeds.
        reason: why it was not tested.
    """

    claim: Claim
    protocol: str
    verdict: str
    value: float = np.nan
    low: float = np.nan
    high: float = np.nan
    n: int = 0
    reason: str = ""

    @property
    def numbers(self) -> str:
        """The metric with its interval (not of one seed) and n, or the reason there is none."""
        if not self.verdict:
            return ""
        if not np.isfinite(self.value):
            return self.reason or "diverged"
        value, low, high = (_number(x) for x in (self.value, self.low, self.high))
        interval = f" [{low}, {high}]" if self.n > 1 else ""
        text = f"{value}{interval}, n = {self.n}"
        return f"{text}; {self.reason}" if self.reason else text


def _number(value: float) -> str:
    """Four decimals, or two digits of what these would hide."""
    return f"{value:.1e}" if 0 < abs(value) < 1e-3 else f"{value:.4f}"


@functools.cache
def ledger() -> tuple[Claim, ...]:
    """Every claim, in the paper's order.

    Raises:
        ValueError: an entry of the ledger is malformed.
    """
    import yaml

    claims = []
    for entry in yaml.safe_load(LEDGER.read_text()):
        lists = {
            key: tuple(entry[key])
            for key in ("arms", "passes", "protocols", "recorded")
            if key in entry
        }
        try:
            claim = Claim(**{**entry, **lists})
            claim.criterion  # noqa: B018 - raises for an unknown metric or rule
        except (TypeError, ValueError, KeyError, IndexError) as error:
            raise ValueError(f"claim {entry.get('id')!r} of {LEDGER.name}: {error}") from None
        claims.append(claim)
    return tuple(claims)


def of(study: Study) -> tuple[Claim, ...]:
    """The claims that a study judges."""
    return tuple(claim for claim in ledger() if claim.study == study.name)


def judge(results: Results) -> list[Verdict]:
    """The verdict on each of a study's claims under each protocol."""
    return [
        _judge(claim, protocol, results) for claim in of(results.study) for protocol in PROTOCOLS
    ]


def _judge(claim: Claim, protocol: str, results: Results) -> Verdict:
    if protocol not in claim.protocols:
        return Verdict(claim, protocol, "")
    profile = results.study.profile(results.profile)
    last = claim.passes[1]
    if not results.study.measured and profile.epochs <= last:
        reason = f"needs {last + 1} passes, profile {results.profile} has {profile.epochs}"
        return Verdict(claim, protocol, NOT_TESTED, reason=reason)
    values = metric(claim, protocol, results)
    if not len(values):
        return Verdict(claim, protocol, NOT_TESTED, reason="its runs are not finished")
    mean, low, high = (float(number) for number in interval(values))
    verdict, reason = decide(claim, low, high), ""
    if results.stand_in:
        verdict, reason = NOT_TESTED, "stand-in data"
    elif len(values) < FEWEST_SEEDS:
        verdict, reason = NOT_TESTED, f"fewer than {FEWEST_SEEDS} seeds"
    elif protocol == "tuned" and set(claim.arms) & set(results.plan.on_edge):
        verdict, reason = NOT_TESTED, "the best learning rate is an end of its grid"
    elif not np.isfinite(mean):
        verdict, reason = NOT_REPRODUCED, "diverged"
    elif len(values) < profile.seeds:
        reason = f"of {profile.seeds} seeds"
    return Verdict(claim, protocol, verdict, mean, low, high, len(values), reason)


def metric(claim: Claim, protocol: str, results: Results) -> np.ndarray:
    """A claim's metric, one value for each seed whose runs are all there."""
    first, last = claim.passes
    if claim.metric.startswith("grid_"):
        return _grid_metric(claim, results)
    names = {"below_epsilon": "below_epsilon all", "sparser": "gradient_support"}
    recorded = claim.recorded or (names.get(claim.metric, "training_cost"),)
    role = "grid" if results.study.arm(claim.arms[0]).grid else protocol
    if claim.metric == "time_ratio":
        return _time_ratio(*(_clocked(results, role, arm) for arm in claim.arms))
    if claim.metric == "sparser":
        curves = [results.at_default(claim.arms[0], recorded[0])]
    else:
        curves = [results.matrix(role, arm, name) for arm in claim.arms for name in recorded]
    windows = [curve.loc[:, first : last if last >= 0 else None].dropna() for curve in curves]
    seeds = sorted(set.intersection(*(set(window.index) for window in windows)))
    if not seeds:
        return np.array([])
    costs = [window.loc[seeds].to_numpy(float) for window in windows]
    if claim.metric == "distance":
        whole = curves[0].loc[seeds].to_numpy(float)
        return gaps(results.study.panel, claim.arms[0], whole, first, last).max(axis=1)
    if claim.metric == "below_epsilon":
        return costs[0].mean(axis=1)
    if claim.metric == "sparser":
        return costs[0][:, -1] / costs[0][:, 0]
    if claim.metric == "recorded_largest":
        return costs[0].max(axis=1)
    if claim.metric == "recorded_last":
        return costs[0][:, -1]
    if claim.metric == "recorded_change":
        return costs[0][:, -1] / costs[0][:, 0]
    if claim.metric == "recorded_off":
        return np.abs(costs[0] - 1).max(axis=1)
    if claim.metric == "recorded_rate":
        t = results.matrix(role, claim.arms[0], "t").to_numpy(float)[0]
        late = t >= t[-1] / 10
        return slope(t[late], list(costs[0][:, late].T))
    if claim.metric == "recorded_slope":
        sizes = [results.study.arm(arm).grid["minibatches"][0] for arm in claim.arms]
        return slope(sizes, [cost[:, -1] for cost in costs])
    return _ratio(costs[0], costs[1])


def _ratio(over: np.ndarray, under: np.ndarray) -> np.ndarray:
    """Geometric mean over the last axis of the ratio of two costs."""
    # Two diverged arms have no ratio; a cost may be exactly 0 in float32.
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.exp(np.mean(np.log(over) - np.log(under), axis=-1))


def slope(sizes: Sequence[float], values: Sequence[np.ndarray]) -> np.ndarray:
    """The slope of the logarithms of values against those of sizes, one for each seed."""
    with np.errstate(invalid="ignore", divide="ignore"):  # a regret may be negative
        x, y = np.log(sizes) - np.mean(np.log(sizes)), np.log(values)
    found: np.ndarray = x @ y / (x @ x)
    return found


def _clocked(results: Results, role: str, arm: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """An arm's training cost and the seconds since its start, by seed and pass."""
    cost = results.matrix(role, arm).dropna()
    return cost, results.matrix(role, arm, "seconds").loc[cost.index].cumsum(axis=1)


def _time_ratio(
    first: tuple[pd.DataFrame, pd.DataFrame], second: tuple[pd.DataFrame, pd.DataFrame]
) -> np.ndarray:
    """For each seed: when the first reaches the cost at which the second ends, over its time.

    Infinite if it never does.
    """
    values = []
    for seed in sorted(set(first[0].index) & set(second[0].index)):
        cost, seconds = (table.loc[seed].to_numpy(float) for table in first)
        end, whole = (float(table.loc[seed].iloc[-1]) for table in second)
        reached = np.flatnonzero(cost <= end)
        values.append(seconds[reached[0]] / whole if len(reached) else np.inf)
    return np.array(values)


def counterpart(arm: str) -> str:
    """The arm of a grid that differs in bias correction alone."""
    pair = {"biascorr": "nocorr", "nocorr": "biascorr"}
    name, _, kind = arm.rpartition("/")
    return f"{name}/{pair[kind]}"


def _grid_metric(claim: Claim, results: Results) -> np.ndarray:
    """A metric over the grid, one value for each seed that has every setting it reads."""
    table = results.grid(claim.passes[1])
    arms = [arm.name for arm in results.study.arms]
    others = arms if claim.metric == "grid_best" else [counterpart(arm) for arm in claim.arms]
    needed = {
        (arm, rate)
        for arm in {*claim.arms, *others}
        for rate in {
            entry.run.settings["learning_rate"]
            for entry in results.plan.entries
            if (entry.role, entry.arm) == ("grid", arm)
        }
    }
    values = []
    for _, group in table.groupby("seed"):
        keys = zip(group["arm"], group["learning_rate"], strict=True)
        loss = dict(zip(keys, group["loss"], strict=True))
        if needed <= set(loss):
            kept = {key: loss[key] for key in sorted(needed)}
            values.append(of_grid(claim, kept, results.study.panel.points))
    return np.array(values)


def of_grid(
    claim: Claim, loss: Mapping[tuple[str, float], float], points: Collection[float]
) -> float:
    """A grid's metric from the loss of each arm and step size; `points` are the paper's."""
    best: dict[str, float] = {}
    for (arm, _), value in loss.items():
        best[arm] = min(value, best.get(arm, np.inf))
    if claim.metric == "grid_best":
        return min(best[arm] for arm in claim.arms) - min(
            value for arm, value in best.items() if arm not in claim.arms
        )
    if claim.metric == "grid_best_regret":
        return max(_excess(best[arm], best[counterpart(arm)]) for arm in claim.arms)
    excess = [
        _excess(value, loss[counterpart(arm), rate])
        for (arm, rate), value in loss.items()
        if arm in claim.arms and rate in points and (counterpart(arm), rate) in loss
    ]
    if claim.metric == "grid_worse":
        return float(np.mean(np.array(excess) >= WORSE))
    return max(excess)


def _excess(loss: float, other: float) -> float:
    """Difference of two losses; two that diverged do not differ."""
    return 0.0 if loss == other else loss - other


def of_paper(claim: Claim, panel: Panel) -> float:
    """The same metric on the paper's own digitised curves; NaN where they do not show it."""
    first, last = claim.passes
    if claim.metric not in ("cost_ratio", "final_ratio"):
        return np.nan
    try:
        a, b = (paper_curve(panel.name, arm).loc[first:last] for arm in claim.arms)
    except ValueError:  # not plotted
        return np.nan
    a, b = a.align(b, join="inner")
    return float(_ratio(a.to_numpy(), b.to_numpy()))


def decide(claim: Claim, low: float, high: float) -> str:
    """The verdict from the interval of the metric."""
    if claim.rule == "below":
        inside, outside = high < claim.limit, low >= claim.limit
    elif claim.rule == "above":
        inside, outside = low > claim.limit, high <= claim.limit
    else:
        smallest, largest = claim.limits
        inside = smallest <= low and high <= largest
        outside = high < smallest or low > largest
    return REPRODUCED if inside else NOT_REPRODUCED if outside else INCONCLUSIVE


def rows(results: Iterable[Results]) -> list[dict[str, str]]:
    """The verdict table, one row per claim, as plain text cells."""
    table = []
    for result in results:
        verdicts = {(v.claim.id, v.protocol): v for v in judge(result)}
        for claim in of(result.study):
            paper = of_paper(claim, result.study.panel)
            row = {
                "id": claim.id,
                "section": claim.section,
                "quote": claim.quote,
                "source": claim.source,
                "reading": claim.reading,
                "criterion": claim.criterion,
                "why": claim.why,
                "paper": "" if np.isnan(paper) else f"{paper:.3g}",
            }
            for protocol in PROTOCOLS:
                verdict = verdicts[claim.id, protocol]
                row[protocol] = verdict.verdict
                row[f"{protocol}_numbers"] = verdict.numbers
            table.append(row)
    return table
