r"""New seeds: would the published numbers have predicted them?

The published seeds of a claim's metric give values $x_1 \dots x_n$, as logarithms if the metric is
averaged that way. One more value of the same distribution lies with 95% probability in

$$\bar x \pm t_{n-1,\,0.975}\; s \sqrt{1 + 1/n}.$$

So one new value in twenty falls outside by chance; this is counted and shown, but is not a fault.
A value outside the 99.99% interval disagrees. Where seeds train and yet all give the same value, as
at a bound that they touch, they predict nothing, and the metric is left out.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from experiments.analysis import claims
from experiments.analysis.metrics import METRICS
from experiments.analysis.results import Results
from experiments.analysis.statistics import deterministic, quantile_of_t
from experiments.study import PROTOCOLS, Entry
from experiments.verify.again import Item
from experiments.verify.sample import cost

FIRST_SEED = 100  # published ones count from 0, those of tuning from 1000
FEWEST = 3
CHEAP = 60.0  # a study's new seed comes early if its runs take at most so many seconds
EARLY, LATE = 2, 6  # levels: see `experiments.verify.sample`
INSIDE, FAR = 0.95, 0.9999


@dataclass(frozen=True)
class Seed:
    """A claim's metric from a new seed, next to those of the published ones.

    Attributes:
        study: name of the study.
        claim: id of the claim.
        protocol: "matched" or "tuned".
        seed: the new seed.
        value: its metric.
        low: lower end of the 95% prediction interval.
        high: upper end.
        published: the number of seeds that the interval comes from.
        inside: whether the value lies in it.
        far: whether it lies outside the 99.99% interval.
    """

    study: str
    claim: str
    protocol: str
    seed: int
    value: float
    low: float
    high: float
    published: int
    inside: bool
    far: bool

    @property
    def name(self) -> str:
        """Names its file."""
        return f"{self.study}--{self.claim}--{self.protocol}--{self.seed}"

    def __str__(self) -> str:
        """In one line."""
        where = "inside" if self.inside else "outside"
        return (
            f"{self.study} {self.claim} {self.protocol} new seed {self.seed}: {self.value:.4g}, "
            f"{where} [{self.low:.4g}, {self.high:.4g}] of {self.published} published seeds"
        )


def predicted(values: np.ndarray, probability: float, log: bool) -> tuple[float, float]:
    """The interval in which one more value lies with this probability.

    Args:
        values: one per seed.
        probability: of the interval.
        log: whether to work with logarithms.
    """
    x = np.log(values) if log else values
    n = len(x)
    half = quantile_of_t(n - 1, probability) * np.std(x, ddof=1) * np.sqrt(1 + 1 / n)
    half += 1e-6 * max(1e-3, float(np.max(np.abs(x))))  # deterministic ones differ by rounding
    ends = np.array([np.mean(x) - half, np.mean(x) + half])
    low, high = np.exp(ends) if log else ends
    return float(low), float(high)


def entries(found: Results, seed: int) -> list[tuple[Entry, float]]:
    """The reported runs of a study with a new seed, each with its expected time in seconds."""
    model: dict[tuple[str, str, str], Entry] = {}
    for entry in found.plan.entries:
        if entry.role in ("matched", "tuned", "grid") and found.records.get(entry.run.id):
            key = (entry.role, entry.arm, entry.trial)
            if key not in model or entry.run.epochs > model[key].run.epochs:
                model[key] = entry
    new = []
    for entry in model.values():
        record = found.records.get(entry.run.id)
        assert record is not None
        run = dataclasses.replace(entry.run, seed=seed)
        new.append((dataclasses.replace(entry, run=run), cost(record, entry.run.epochs)))
    return new


def items(found: Results, fresh: Any) -> list[Item]:
    """The runs of the next new seed of a study that are still to be trained.

    Args:
        found: the published results.
        fresh: the records of new seeds that were trained here.
    """
    if not claims.of(found.study):
        return []
    seed = FIRST_SEED
    while True:
        wanted = entries(found, seed)
        missing = {e.run.id: (e, s) for e, s in wanted if fresh.get(e.run.id) is None}
        if missing or not wanted:
            break
        seed += 1
    level = EARLY if sum(seconds for _, seconds in wanted) <= CHEAP else LATE
    return [
        Item(found.study.name, f"{e.role}, new", e.arm, e.run, e.run.epochs, seconds, level)
        for e, seconds in missing.values()
    ]


def judge(found: Results, fresh: Any) -> list[Seed]:
    """Every claim's metric of every new seed whose runs are all there."""
    seeds: list[Seed] = []
    seed = FIRST_SEED
    while True:
        wanted = [entry for entry, _ in entries(found, seed)]
        if not any(fresh.get(entry.run.id) for entry in wanted):
            return seeds
        # All of them, so that a metric of a whole grid sees what is still missing.
        one = dataclasses.replace(
            found, records=fresh, plan=dataclasses.replace(found.plan, entries=tuple(wanted))
        )
        for claim in claims.of(found.study):
            measure = METRICS[claim.metric]
            for protocol in (p for p in PROTOCOLS if p in claim.protocols):
                values = _finite(measure.compute(claim, protocol, found))
                value = _finite(_tried(measure.compute, claim, protocol, one))
                if not measure.trained or len(values) < FEWEST or len(value) != 1:
                    continue
                if not found.study.measured and deterministic(values):
                    continue  # a bound that all seeds happen to touch predicts nothing
                log = measure.log and bool((values > 0).all()) and bool((value > 0).all())
                low, high = predicted(values, INSIDE, log)
                far_low, far_high = predicted(values, FAR, log)
                x = float(value[0])
                seeds.append(
                    Seed(
                        study=found.study.name,
                        claim=claim.id,
                        protocol=protocol,
                        seed=seed,
                        value=x,
                        low=low,
                        high=high,
                        published=len(values),
                        inside=low <= x <= high,
                        far=not far_low <= x <= far_high,
                    )
                )
        seed += 1


def _tried(compute: Any, claim: Any, protocol: str, one: Results) -> np.ndarray:
    """The metric, or none where not all of its runs are there yet."""
    try:
        return np.asarray(compute(claim, protocol, one), float)
    except (KeyError, IndexError, ValueError):
        return np.array([])


def _finite(values: Sequence[float] | np.ndarray) -> np.ndarray:
    x = np.asarray(values, float)
    return x[np.isfinite(x)] if np.isfinite(x).all() else np.array([])
