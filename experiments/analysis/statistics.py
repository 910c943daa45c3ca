"""Means over seeds and their intervals; tests against a margin; the best of k trials.

The interval is Student's t: a nominal 95% bootstrap interval (BCa) covers 72% with three values,
83% with five and 90% with ten. Positive quantities (costs, ratios, times) are averaged as
logarithms: their mean is the geometric one, and a ratio and its inverse have the same interval.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

CONFIDENCE = 0.95


def interval(values: np.ndarray, *, log: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean over the first axis (seeds) and its 95% interval by Student's t.

    With fewer than two seeds, or values that do not differ or are not finite, the interval is the
    mean itself.

    Args:
        values: a row per seed; any shape after the first axis.
        log: whether to average logarithms; columns with a value that is not positive stay plain.

    Returns:
        Mean, low and high, of the shape of one row.
    """
    values = np.asarray(values, float)
    shape = values.shape[1:]
    flat = values.reshape(len(values), -1)
    with np.errstate(invalid="ignore"):
        positive = (flat > 0).all(axis=0) & np.isfinite(flat).all(axis=0) & log
    work = np.where(positive, np.log(np.where(positive, flat, 1.0)), flat)
    with np.errstate(invalid="ignore"):
        mean = work.mean(axis=0)
    low, high = mean.copy(), mean.copy()
    spread = _spread(flat)
    if len(values) >= 2 and spread.any():
        low[spread], high[spread] = _student(work[:, spread])
    results = (np.where(positive, np.exp(np.where(positive, x, 0.0)), x) for x in (mean, low, high))
    centre, below, above = (x.reshape(shape) for x in results)
    return centre, below, above


def deterministic(values: np.ndarray) -> bool:
    """Whether several seeds all gave the same value, which is then not a sample."""
    values = np.asarray(values, float)
    return len(values) > 1 and bool(np.isfinite(values).all()) and not _spread(values[:, None])[0]


def _spread(flat: np.ndarray) -> np.ndarray:
    """Which columns have finite values that differ by more than rounding."""
    finite = np.isfinite(flat).all(axis=0)
    spread = np.zeros(len(finite), bool)
    spread[finite] = np.ptp(flat[:, finite], axis=0) > 1e-12 * np.abs(flat[:, finite]).max(axis=0)
    return spread


def quantile_of_t(degrees: int, probability: float = CONFIDENCE) -> float:
    """How many standard errors a central interval of Student's t extends to each side.

    Args:
        degrees: of freedom, one less than the seeds.
        probability: of the interval.
    """
    from scipy.special import stdtrit  # importing scipy.stats takes longer than all verdicts

    return float(stdtrit(degrees, (1 + probability) / 2))


def _student(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    n = len(values)
    half = quantile_of_t(n - 1) * values.std(axis=0, ddof=1) / math.sqrt(n)
    return values.mean(axis=0) - half, values.mean(axis=0) + half


def p_value(values: np.ndarray, limit: float, *, log: bool = False) -> float:
    """Two-sided p of Student's t test that the mean over seeds is `limit`; NaN if there is none.

    Args:
        values: one per seed.
        limit: the margin.
        log: whether to compare logarithms, where all values and the limit are positive.
    """
    from scipy.special import stdtr

    values = np.asarray(values, float)
    if len(values) < 2 or not np.isfinite(values).all() or not _spread(values[:, None])[0]:
        return math.nan
    if log and (values > 0).all() and limit > 0:
        values, limit = np.log(values), math.log(limit)
    errors = (values.mean() - limit) / (values.std(ddof=1) / math.sqrt(len(values)))
    return float(2 * stdtr(len(values) - 1, -abs(errors)))


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Holm's adjusted p-values of a family of tests, by name; NaNs are not part of the family.

    Source: Holm, "A simple sequentially rejective multiple test procedure", 1979.
    """
    tested = sorted((p, name) for name, p in p_values.items() if not math.isnan(p))
    adjusted, largest = dict.fromkeys(p_values, math.nan), 0.0
    for place, (p, name) in enumerate(tested):
        largest = max(largest, min(1.0, p * (len(tested) - place)))
        adjusted[name] = largest
    return adjusted


def best_of(costs: Iterable[float]) -> pd.DataFrame:
    """Quartiles of the lowest of k costs drawn without replacement, for every k: exact.

    Of n costs in ascending order, the i-th is the lowest of k drawn with probability
    C(n - i, k - 1) / C(n, k).
    """
    ordered = sorted(costs)
    n = len(ordered)
    rows = []
    for k in range(1, n + 1):
        chance = [math.comb(n - i, k - 1) / math.comb(n, k) for i in range(1, n + 1)]
        reached = np.cumsum(chance)
        places = (int(np.searchsorted(reached, q - 1e-12)) for q in (0.25, 0.5, 0.75))
        low, median, high = (ordered[min(place, n - 1)] for place in places)
        rows.append({"k": k, "median": median, "low": low, "high": high})
    return pd.DataFrame(rows)
