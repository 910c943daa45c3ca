"""Whether a method steps less where the gradient is noisy, and what twice the noise does to it.

Everything is measured from the state after a pass, which is put back: training goes on as if
nothing had been measured. The batches are those that the next pass begins with.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

if TYPE_CHECKING:
    from experiments.training.loops import Loops

GRADIENTS = 32  # batches from which the signal and the noise of a gradient are estimated
STEPS = 8  # further batches, each of which makes one step from the same state
NOISY = 20  # steps with and without more noise
FEWER = 4  # batches of a quarter of the examples have gradients of twice the noise


def measure(
    compiled: Loops, variables: list[Any], restore: Callable[[], None], order: np.ndarray
) -> dict[str, float]:
    """The numbers that are recorded after a pass.

    - `step_signal`: the rank correlation (Spearman's) over coordinates of the mean size of a step
      and the signal-to-noise ratio of the gradient, |mean| / standard deviation over batches.
      Coordinates whose gradient is the same in all batches are left out. 0 if all steps are alike.
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
        ValueError: the pass has too few batches, or these too few examples.
    """
    if len(order) <= STEPS + 1 or order.shape[1] < FEWER:
        raise ValueError(
            f"stability=1.0 is not valid with {len(order)} batches of {order.shape[1]}: it needs "
            f"more than {STEPS + 1} batches a pass, of {FEWER} examples or more"
        )
    signal, noise = _gradients(compiled, order[: min(GRADIENTS, len(order) - STEPS)])
    restore()  # drawing batches moves the seeds of noise
    before, steps = _flat(variables), np.zeros_like(signal)
    for batch in order[-STEPS:]:
        compiled.train_epoch(batch[None])
        steps += np.abs(_flat(variables) - before) / STEPS
        restore()
    ratio = np.divide(signal, noise, out=np.zeros_like(signal), where=noise > 0)
    found = _compared(steps[noise > 0], ratio[noise > 0])
    first = order[:NOISY]
    for name, batches in (("calm", first), ("noisy", first[:, : order.shape[1] // FEWER])):
        compiled.train_epoch(batches)
        found[f"{name}_cost"] = compiled.evaluate()[0]
        restore()
    return found | {"noise_rise": found["noisy_cost"] / found["calm_cost"]}


def _gradients(compiled: Loops, order: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The size of the mean, and the standard deviation, of each coordinate's gradient."""
    mean: np.ndarray | float = 0.0
    squares: np.ndarray | float = 0.0
    for n, batch in enumerate(order, start=1):  # Welford's updates
        _, _, gradients = compiled.differentiate(batch)
        gradient = np.concatenate([np.ravel(g) for g in gradients]).astype(np.float64)
        off = gradient - mean
        mean = mean + off / n
        squares = squares + off * (gradient - mean)
    return np.abs(mean), np.sqrt(np.asarray(squares) / (len(order) - 1))


def _flat(variables: list[Any]) -> np.ndarray:
    return np.concatenate([np.ravel(np.asarray(v)) for v in variables]).astype(np.float64)


def _compared(steps: np.ndarray, ratio: np.ndarray) -> dict[str, float]:
    """How steps go with the signal-to-noise ratio."""
    ranked = np.argsort(ratio, kind="stable")
    tenth = max(1, len(ranked) // 10)
    low, high = (float(steps[part].mean()) for part in (ranked[:tenth], ranked[-tenth:]))
    constant = np.ptp(steps) == 0 or np.ptp(ratio) == 0  # nothing to rank
    return {
        "step_signal": 0.0 if constant else float(stats.spearmanr(steps, ratio).statistic),
        "step_low_over_high": low / high,
    }
