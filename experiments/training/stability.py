"""Whether a method steps less where the gradient is noisy, and what twice the noise does to it.

Everything is measured from the state after a pass, which is put back: training goes on as if
nothing had been measured. The batches are those that the next pass begins with.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from experiments.training.loops import Loops

GRADIENTS = 64  # batches from which the signal and the noise of a gradient are estimated
STEPS = 8  # further batches, each of which makes one step from the same state
NOISY = 20  # steps with and without more noise
FEWER = 4  # batches of a quarter of the examples have gradients of twice the noise


def measure(
    compiled: Loops, variables: list[Any], restore: Callable[[], None], order: np.ndarray
) -> dict[str, float]:
    """The numbers that are recorded after a pass.

    - `step_signal`: the rank correlation (Spearman's) over coordinates of the mean size of a step
      and the signal-to-noise ratio of the gradient, |mean| / standard deviation over batches.
      Coordinates whose gradient is the same in every other batch are left out. 0 if all steps are
      alike.
    - `signal_agreement`: that of the ratio from every other batch and the ratio from the rest. It
      tells how well the ratio is known: 1 is perfectly, 0 not at all.
    - `step_low_over_high`: the mean step of the tenth of these coordinates with the lowest ratio
      over that of the tenth with the highest.
    - `calm_cost`, `noisy_cost`: the held-out cost after `NOISY` steps, and after as many steps on
      a quarter of each batch, whose gradients have twice the noise. `noise_rise` is the second over
      the first.

    Args:
        compiled: the run's compiled functions.
        variables: the trainable ones.
        restore: puts the state after the pass back.
        order: indices of the next pass's batches, (steps, batch size).

    Raises:
        ValueError: the pass has too few batches, or these too few examples; or the noisy steps
            diverge and the calm ones do not, which no record can hold.
    """
    if len(order) < STEPS + 4 or order.shape[1] < FEWER:
        raise ValueError(
            f"stability=1.0 is not valid with {len(order)} batches of {order.shape[1]}: it needs "
            f"{STEPS + 4} batches a pass or more, of {FEWER} examples or more"
        )
    several = order[: min(GRADIENTS, len(order) - STEPS)]
    halves = [_Moments(), _Moments()]
    for i, batch in enumerate(several):
        _, _, gradients = compiled.differentiate(batch)
        halves[i % 2].add(np.concatenate([np.ravel(g) for g in gradients]).astype(np.float64))
    restore()  # noise has been drawn
    whole = halves[0] + halves[1]
    moves = (halves[0].squares > 0) & (halves[1].squares > 0)
    ratio, *apart = (moments.ratio(moves) for moments in (whole, *halves))
    before, steps = _flat(variables), np.zeros(len(moves))
    for batch in order[-STEPS:]:
        compiled.train_epoch(batch[None])
        steps += np.abs(_flat(variables) - before) / STEPS
        restore()
    found = _compared(steps[moves], ratio)
    found["signal_agreement"] = _rank_correlation(*apart)
    first = order[:NOISY]
    for name, batches in (("calm", first), ("noisy", first[:, : order.shape[1] // FEWER])):
        compiled.train_epoch(batches)
        found[f"{name}_cost"] = compiled.evaluate()[0]
        restore()
    if math.isfinite(found["calm_cost"]) and not math.isfinite(found["noisy_cost"]):
        raise ValueError(
            f"stability=1.0 is not valid here: {NOISY} steps with twice the noise diverge, though "
            "the run does not; use a smaller step size"
        )
    return found | {"noise_rise": found["noisy_cost"] / found["calm_cost"]}


class _Moments:
    """The mean, and the sum of squared deviations from it, of each coordinate's gradient."""

    def __init__(self, n: int = 0, mean: Any = 0.0, squares: Any = 0.0) -> None:
        self.n, self.mean, self.squares = n, mean, squares

    def add(self, gradient: np.ndarray) -> None:
        """One more gradient (Welford's update)."""
        self.n += 1
        off = gradient - self.mean
        self.mean = self.mean + off / self.n
        self.squares = self.squares + off * (gradient - self.mean)

    def __add__(self, other: _Moments) -> _Moments:
        n, off = self.n + other.n, other.mean - self.mean
        mean = self.mean + off * other.n / n
        return _Moments(n, mean, self.squares + other.squares + off**2 * self.n * other.n / n)

    def ratio(self, where: np.ndarray) -> np.ndarray:
        """Signal to noise: |mean| / standard deviation."""
        noise: np.ndarray = np.sqrt(self.squares[where] / (self.n - 1))
        return np.abs(self.mean[where]) / noise


def _rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's; 0 where there is nothing to rank."""
    from scipy.stats import spearmanr  # which takes long to import, and few runs ask for it

    constant = np.ptp(a) == 0 or np.ptp(b) == 0
    return 0.0 if constant else float(spearmanr(a, b).statistic)


def _flat(variables: list[Any]) -> np.ndarray:
    return np.concatenate([np.ravel(np.asarray(v)) for v in variables]).astype(np.float64)


def _compared(steps: np.ndarray, ratio: np.ndarray) -> dict[str, float]:
    """How steps go with the signal-to-noise ratio."""
    ranked = np.argsort(ratio, kind="stable")
    tenth = max(1, len(ranked) // 10)
    low, high = (float(steps[part].mean()) for part in (ranked[:tenth], ranked[-tenth:]))
    return {"step_signal": _rank_correlation(steps, ratio), "step_low_over_high": low / high}
