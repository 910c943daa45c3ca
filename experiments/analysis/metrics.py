"""The metrics by which claims are judged, each in one place.

An entry of `METRICS` holds the metric in words, the function that computes it from the records, and
the one that reads it off the paper's own digitised curves, if they show it. To add a metric,
write its function and its entry, and explain it in `paper/claims.yaml`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.analysis.defaults import behind_tuned, claimed_regret, wider_valley
from experiments.analysis.results import Results, gaps, paper_curve
from experiments.paper import curves as digitised
from experiments.study import Panel

if TYPE_CHECKING:
    from experiments.analysis.ledger import Claim

RECORDED = "as recorded"  # the unit of what is only averaged or looked up
WORSE = 5.0  # nats; the margin of `grid_unstable`

Compute = Callable[["Claim", str, Results], np.ndarray]
OfPaper = Callable[["Claim", Panel], float]


@dataclass(frozen=True)
class Metric:
    """One metric.

    Attributes:
        words: what it is; `{}` are the claim's arms one by one, `{arms}` all of them, `{best}`
            and `{each}` the others; `{first}` and `{last}` its passes counted from 0,
            `{after}` the last counted from 1, `{run}` and `{end}` all of them and the last in
            words; `{recorded}` the names of what was recorded.
        compute: `(claim, protocol, results)` to one value for each seed whose runs are all there.
        of_paper: `(claim, panel)` to the same on the paper's curves; NaN where they do not show it.
        log: whether it is a positive quantity, averaged over seeds as logarithms.
        trained: whether it needs the passes of the claim; others read what tuning has tried.
        of_all: whether every arm's tuned runs decide it, whatever the protocol.
        unit: of its values; a distance on a logarithmic axis is in natural logarithms instead.
        infinite: what it means that a value is infinite.
    """

    words: str
    compute: Compute
    of_paper: OfPaper = lambda claim, panel: math.nan
    log: bool = False
    trained: bool = True
    of_all: bool = False
    unit: str = "ratio"
    infinite: str = "diverged"


def _windows(claim: Claim, protocol: str, results: Results, *names: str) -> list[np.ndarray]:
    """What each arm recorded under each name: a column per pass, a row per seed that has it all."""
    first, last = claim.passes
    role = "grid" if results.study.arm(claim.arms[0]).grid else protocol
    curves = [results.matrix(role, arm, name) for arm in claim.arms for name in names]
    windows = [curve.loc[:, first : last if last >= 0 else None].dropna() for curve in curves]
    seeds = sorted(set.intersection(*(set(window.index) for window in windows)))
    return [window.loc[seeds].to_numpy(float) for window in windows]


def _ratio(over: np.ndarray, under: np.ndarray) -> np.ndarray:
    """Geometric mean over the last axis of the ratio of two costs."""
    # Two diverged arms have no ratio; a cost may be exactly 0 in float32.
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.exp(np.mean(np.log(over) - np.log(under), axis=-1))


def cost_ratio(
    claim: Claim, protocol: str, results: Results, name: str = "training_cost"
) -> np.ndarray:
    """The cost of the first arm over that of the best other, as a geometric mean over the passes.

    Args:
        claim: names the arms and the passes.
        protocol: "matched" or "tuned".
        results: of the claim's study.
        name: the cost.
    """
    over, *others = _windows(claim, protocol, results, name)
    if not len(over):
        return np.array([])
    return np.max([_ratio(over, under) for under in others], axis=0)


def _cost_ratio_of_paper(claim: Claim, panel: Panel) -> float:
    first, last = claim.passes
    shown = [arm for arm in claim.arms if digitised.shows(panel.name, arm)]
    if len(shown) < 2 or shown[0] != claim.arms[0]:
        return math.nan
    ours, *others = (paper_curve(panel.name, arm).loc[first:last] for arm in shown)
    pairs = [ours.align(other, join="inner") for other in others]
    ratios = (float(_ratio(a.to_numpy(), b.to_numpy())) if len(a) else math.nan for a, b in pairs)
    return float(np.max(list(ratios)))  # NaN if one is


def _distance(claim: Claim, protocol: str, results: Results) -> np.ndarray:
    (arm,) = claim.arms
    first, last = claim.passes
    curves = results.matrix(protocol, arm)
    whole = curves[curves.loc[:, first:last].notna().all(axis=1)].to_numpy(float)
    if not len(whole):
        return np.array([])
    return gaps(results.study.panel, arm, whole, first, last).max(axis=1)


def _sparser(claim: Claim, protocol: str, results: Results) -> np.ndarray:
    first, last = claim.passes
    support = results.at_default(claim.arms[0], "gradient_support").loc[:, first:last].dropna()
    values = support.to_numpy(float)
    return values[:, -1] / values[:, 0] if values.size else np.array([])


def _recorded(
    reduce: Callable[[np.ndarray], np.ndarray], *names: str, of: Callable[..., Any] = np.max
) -> Compute:
    """A metric that reduces what was recorded to a value per seed; `of` those of several arms."""

    def compute(claim: Claim, protocol: str, results: Results) -> np.ndarray:
        windows = _windows(claim, protocol, results, *(names or claim.recorded))
        return of([reduce(each) for each in windows], axis=0) if windows[0].size else np.array([])

    return compute


def _mean_unless_diverged(values: np.ndarray) -> np.ndarray:
    """No value for a run that diverged: it meets no rule, neither from above nor from below."""
    mean: np.ndarray = values.mean(axis=1)
    return np.where(np.isinf(mean), np.nan, mean)


def _recorded_lead(claim: Claim, protocol: str, results: Results) -> np.ndarray:
    """The more the better: a run that diverged, whose values are infinite, leads nobody."""
    first, second = (
        np.where(np.isinf(values), -np.inf, values)
        for values in _windows(claim, protocol, results, *claim.recorded)
    )
    with np.errstate(invalid="ignore"):  # both diverged
        return (first - second).mean(axis=1) if first.size else np.array([])


def _recorded_ratio(claim: Claim, protocol: str, results: Results) -> np.ndarray:
    over, under = _windows(claim, protocol, results, *claim.recorded)
    return _ratio(over, under) if over.size else np.array([])


def slope(sizes: Sequence[float], values: Sequence[np.ndarray]) -> np.ndarray:
    """The slope of the logarithms of values against those of sizes, one for each seed."""
    with np.errstate(invalid="ignore", divide="ignore"):  # a regret may be negative
        x, y = np.log(sizes) - np.mean(np.log(sizes)), np.log(values)
    found: np.ndarray = x @ y / (x @ x)
    return found


def _recorded_rate(claim: Claim, protocol: str, results: Results) -> np.ndarray:
    (values,) = _windows(claim, protocol, results, *claim.recorded)
    if not len(values):
        return np.array([])
    role = "grid" if results.study.arm(claim.arms[0]).grid else protocol
    t = results.matrix(role, claim.arms[0], "t").to_numpy(float)[0]
    late = t >= t[-1] / 10
    return slope(t[late], list(values[:, late].T))


def _recorded_slope(claim: Claim, protocol: str, results: Results) -> np.ndarray:
    values = _windows(claim, protocol, results, *claim.recorded)
    sizes = [results.study.arm(arm).grid["minibatches"][0] for arm in claim.arms]
    return slope(sizes, [value[:, -1] for value in values]) if len(values[0]) else np.array([])


def _gap_slope(claim: Claim, protocol: str, results: Results) -> np.ndarray:
    """Slope of the log ratio of last costs, first half of the arms over second, by batch size."""
    costs = [window[:, -1:] for window in _windows(claim, protocol, results, "training_cost")]
    over, under = costs[: len(costs) // 2], costs[len(costs) // 2 :]
    sizes = [results.study.arm(arm).batch_size for arm in claim.arms[: len(over)]]
    return slope(sizes, list(map(_ratio, over, under))) if len(costs[0]) else np.array([])


def _time_ratio(claim: Claim, protocol: str, results: Results) -> np.ndarray:
    """By seed, when the first arm reaches another's last cost, over the time of that: the largest.

    Infinite if it never does.
    """
    tables = []
    for arm in claim.arms:
        cost = results.matrix(protocol, arm).dropna()
        seconds = results.matrix(protocol, arm, "seconds").loc[cost.index].cumsum(axis=1)
        tables.append((cost, seconds))
    values = []
    for seed in sorted(set.intersection(*(set(cost.index) for cost, _ in tables))):
        cost, seconds = (table.loc[seed].to_numpy(float) for table in tables[0])
        ends = [[float(table.loc[seed].iloc[-1]) for table in pair] for pair in tables[1:]]
        when = [(seconds[cost <= end], whole) for end, whole in ends]
        values.append(max(at[0] / whole if len(at) else np.inf for at, whole in when))
    return np.array(values)


def _default_ratio(claim: Claim, protocol: str, results: Results) -> np.ndarray:
    """The cost of an arm with the paper's default settings over that with tuned ones."""
    first, last = claim.passes
    default, tuned = (
        results.matrix(role, claim.arms[0]).loc[:, first:last].dropna()
        for role in ("matched", "tuned")
    )
    seeds = default.index.intersection(tuned.index)
    if not len(seeds):
        return np.array([])
    return _ratio(default.loc[seeds].to_numpy(float), tuned.loc[seeds].to_numpy(float))


# --- grids (Figure 4) -----------------------------------------------------------------------------

Losses = Mapping[tuple[str, float], float]


def counterpart(arm: str) -> str:
    """The arm of a grid that differs in bias correction alone."""
    pair = {"biascorr": "nocorr", "nocorr": "biascorr"}
    name, _, kind = arm.rpartition("/")
    return f"{name}/{pair[kind]}"


def _compared(claim: Claim, results: Results) -> list[str]:
    """The arms of a grid that a metric reads."""
    others = (
        [arm.name for arm in results.study.arms]
        if claim.metric == "grid_best"
        else [counterpart(arm) for arm in claim.arms]
    )
    return list(dict.fromkeys((*claim.arms, *others)))


def _per_seed(claim: Claim, results: Results, last: int) -> dict[int, Losses]:
    """The losses of pass `last` for the settings that a metric reads, by seed.

    A seed counts once it has every setting at the paper's step sizes; other step sizes are read
    where they exist.
    """
    arms = set(_compared(claim, results))
    planned = {
        (entry.arm, entry.run.settings["learning_rate"])
        for entry in results.plan.entries
        if entry.role == "grid" and entry.arm in arms
    }
    needed = {key for key in planned if key[1] in results.study.panel.points}
    found: dict[int, Losses] = {}
    for seed, group in results.grid(last).groupby("seed"):
        settings = zip(group["arm"], group["learning_rate"], strict=True)
        loss = dict(zip(settings, group["loss"], strict=True))
        if needed and needed <= set(loss):
            found[int(str(seed))] = {key: loss[key] for key in sorted(planned & set(loss))}
    return found


def left_out(claim: Claim, results: Results) -> list[float]:
    """The step sizes that a claim on a grid could read but that one of its seeds lacks."""
    losses = _per_seed(claim, results, claim.passes[1]).values()
    rates = {
        entry.run.settings["learning_rate"]
        for entry in results.plan.entries
        if entry.role == "grid" and entry.arm in claim.arms
    }
    return sorted(
        rate
        for rate in rates
        if any((arm, rate) not in loss for loss in losses for arm in claim.arms)
    )


def _of_grid(
    reduce: Callable[[Claim, Losses, Collection[float]], float],
) -> tuple[Compute, OfPaper]:
    """A metric over the losses of one pass, from the records and from the paper's figure."""

    def compute(claim: Claim, protocol: str, results: Results) -> np.ndarray:
        points = results.study.panel.points
        losses = _per_seed(claim, results, claim.passes[1])
        return np.array([reduce(claim, loss, points) for loss in losses.values()])

    def of_paper(claim: Claim, panel: Panel) -> float:
        loss = paper_losses(panel, claim.passes[1] + 1)
        return reduce(claim, loss, panel.points) if loss else math.nan

    return compute, of_paper


def paper_losses(panel: Panel, passes: int) -> dict[tuple[str, float], float]:
    """The paper's losses after that many passes; infinite where its line leaves the figure."""
    loss = {}
    for curve in digitised.names(panel.name):
        when, _, arm = curve.partition("/")
        if when != f"{passes}ep":
            continue
        points = digitised.points(panel.name, curve)
        for rate in panel.points:
            near = [y for x, y in points.items() if abs(x - math.log10(rate)) < 0.05]
            loss[arm, rate] = near[0] if near else math.inf
    # A setting of which the paper shows nothing lies outside its figure at every step size.
    for arm in {arm for arm, _ in loss}:
        if (counterpart(arm), panel.points[0]) not in loss:
            loss |= {(counterpart(arm), rate): math.inf for rate in panel.points}
    return loss


def _excess(loss: float, other: float) -> float:
    """Difference of two losses; two that diverged do not differ."""
    return 0.0 if loss == other else loss - other


def _best(loss: Losses) -> dict[str, float]:
    best: dict[str, float] = {}
    for (arm, _), value in loss.items():
        best[arm] = min(value, best.get(arm, math.inf))
    return best


def _grid_best(claim: Claim, loss: Losses, points: Collection[float]) -> float:
    best = _best(loss)
    others = [value for arm, value in best.items() if arm not in claim.arms]
    return min(best[arm] for arm in claim.arms) - min(others)


def _grid_best_regret(claim: Claim, loss: Losses, points: Collection[float]) -> float:
    best = _best(loss)
    return max(_excess(best[arm], best[counterpart(arm)]) for arm in claim.arms)


def _grid_regret(claim: Claim, loss: Losses, points: Collection[float]) -> float:
    return max(
        _excess(value, loss[counterpart(arm), rate])
        for (arm, rate), value in loss.items()
        if arm in claim.arms and rate in points and (counterpart(arm), rate) in loss
    )


def _grid_unstable(claim: Claim, protocol: str, results: Results) -> np.ndarray:
    """Share of pairs of settings and passes at which the arm is worse than its counterpart.

    An arm is worse if its loss is at least `WORSE` nats higher, or if it has diverged and the
    counterpart has not, or did so in a later pass.
    """
    first, last = claim.passes
    by_pass = [_per_seed(claim, results, when) for when in range(first, last + 1)]
    values = []
    for seed in sorted(set.intersection(*map(set, by_pass))):
        losses = [found[seed] for found in by_pass]
        worse = []
        for arm, rate in losses[0]:
            if arm not in claim.arms or rate not in results.study.panel.points:
                continue
            ours = [loss[arm, rate] for loss in losses]
            theirs = [loss[counterpart(arm), rate] for loss in losses]
            for when in range(len(losses)):
                ours_gone = sum(map(math.isinf, ours[: when + 1]))
                theirs_gone = sum(map(math.isinf, theirs[: when + 1]))
                if ours_gone or theirs_gone:  # the earlier it diverged, the longer it is gone
                    worse.append(ours_gone > theirs_gone)
                else:
                    worse.append(ours[when] - theirs[when] >= WORSE)
        values.append(float(np.mean(worse)))
    return np.array(values)


_RATIO = "training cost {} / {best}, geometric mean over passes {first}-{last}"
_COUNTERPART = "loss after {after} passes with bias correction minus without, largest over all {}"

METRICS: dict[str, Metric] = {
    "regret": Metric(
        "last cost of {} above the lowest of all methods, as a share of the way down",
        claimed_regret,
        of_all=True,
        unit="share of the way down",
    ),
    "behind_tuned": Metric(
        "last cost of {} at its default above that of {} at its best rate, as a share of the way "
        "down",
        behind_tuned,
        of_all=True,
        unit="share of the way down",
    ),
    "cost_ratio": Metric(_RATIO, cost_ratio, _cost_ratio_of_paper, log=True),
    "final_ratio": Metric(_RATIO, cost_ratio, _cost_ratio_of_paper, log=True),
    "distance": Metric(
        "largest distance of {} to the paper's curve over passes {first}-{last}",
        _distance,
        log=True,
        unit="nats",
    ),
    "below_epsilon": Metric(
        "share of coordinates of {} with sqrt(v_hat) < epsilon, passes {first}-{last}",
        _recorded(_mean_unless_diverged, "below_epsilon all"),
        unit="share",
    ),
    "sparser": Metric(
        "share of coordinates that carry 90% of a gradient, pass {last} over pass {first}",
        _sparser,
        log=True,
    ),
    "recorded_ratio": Metric(
        "{recorded} of {arms}, geometric mean over passes {first}-{last}", _recorded_ratio, log=True
    ),
    "recorded_largest": Metric(
        "largest {recorded} of {} over {run}",
        _recorded(lambda values: values.max(axis=1)),
        log=True,
        unit=RECORDED,
    ),
    "recorded_mean": Metric(
        "mean {recorded} of {}, passes {first}-{last}",
        _recorded(_mean_unless_diverged),
        unit=RECORDED,
    ),
    "recorded_lead": Metric(
        "mean {recorded} of {0} minus that of {1}, passes {first}-{last}",
        _recorded_lead,
        unit=RECORDED,
    ),
    "recorded_last": Metric(
        "{recorded} of {} at {end}", _recorded(lambda values: values[:, -1]), unit=RECORDED
    ),
    "recorded_highest": Metric(
        "{recorded} of each of {arms} (the largest) at {end}", _recorded(lambda v: v[:, -1])
    ),
    "recorded_change": Metric(
        "{recorded} of {}, {last} over {first}",
        _recorded(lambda values: values[:, -1] / values[:, 0]),
        log=True,
    ),
    "recorded_off": Metric(
        "largest distance of {recorded} from 1, {}",
        _recorded(lambda values: np.abs(values - 1).max(axis=1)),
        log=True,
    ),
    "recorded_nearest": Metric(
        "largest distance of {recorded} from 1, the least of {arms}",
        _recorded(lambda values: np.abs(values - 1).max(axis=1), of=np.min),
        log=True,
    ),
    "recorded_rate": Metric(
        "slope of log({recorded}) against log(t) over the last tenfold of t, {}",
        _recorded_rate,
        unit="slope",
    ),
    "recorded_slope": Metric(
        "slope of log({recorded}) against log(minibatches)", _recorded_slope, unit="slope"
    ),
    "gap_slope": Metric(
        "slope of log(ratio of last costs) against log(batch size)", _gap_slope, unit="slope"
    ),
    "time_ratio": Metric(
        "time that {} takes to the last cost of {each}, over the time of that",
        _time_ratio,
        log=True,
        infinite="never reached",
    ),
    "default_ratio": Metric(
        "training cost of {} at its default over that of its tuned settings, geometric mean over "
        "passes {first}-{last}",
        _default_ratio,
        log=True,
    ),
    "valley": Metric(
        "share of the tuning grid of {} within 5% of its best, minus the largest of the others'",
        wider_valley,
        trained=False,
        unit="share",
    ),
    "grid_unstable": Metric(
        "share of step sizes and passes {first}-{last} at which it is worse without correction",
        _grid_unstable,
        unit="share",
    ),
    "grid_best": Metric(
        "lowest loss of these settings minus lowest of the others, {after} passes, nats",
        *_of_grid(_grid_best),
        unit="nats",
    ),
    "grid_regret": Metric(
        _COUNTERPART.replace("{}", "settings, nats"), *_of_grid(_grid_regret), unit="nats"
    ),
    "grid_best_regret": Metric(
        _COUNTERPART.replace("{}", "betas at their best step sizes, nats"),
        *_of_grid(_grid_best_regret),
        unit="nats",
    ),
}


def objective_ratio(claim: Claim, protocol: str, results: Results) -> np.ndarray:
    """`cost_ratio` of the objective that is minimised, cost plus L2 term; the same arguments."""
    return cost_ratio(claim, protocol, results, "objective")
