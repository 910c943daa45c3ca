"""The bias of the moments, with and without correction (Section 3).

Arguments of the measurement: see `registry.Entry.measured`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from experiments.randomness import batch_order, stream
from experiments.theory.adam import Adam, Array, Row, Settings, recorded_steps
from experiments.theory.options import MomentBias
from experiments.theory.regression import CLASSES, batch_gradients, load_digits


def moment_bias(
    data: str, seed: int, settings: Settings, batch_size: int, epochs: int, options: MomentBias
) -> Iterator[Row]:
    """What the bias correction corrects (Section 3): E[v_t] = E[g_t^2] (1 - beta_2^t) + zeta.

    The examples are divided into batches once, and each step draws one of these batches with
    replacement. So the expectations over the gradient g_t of a step, at that step's parameters, are
    exact means over all batches. The cost is that of a logistic regression on MNIST, from zero.
    There are `epochs` times as many steps as batches; a row is a step t (`recorded_steps`).

    - parameters="fixed": the gradients are those at zero throughout, which makes them stationary:
      zeta = 0. The numbers are means over `replicates` independent sequences; first_error and
      second_error are standard errors of `first` and `second`.
    - parameters="moving": one sequence along training, where zeta is not 0.
    - parameters="path": the same, but of v what is expected given the path of the parameters, so
      that the noise of single draws does not count as zeta.

    Moments are compared with expectations over all coordinates together, so that no divisor is
    small: `first` = <m_t, E[g_t]> / <E[g_t], E[g_t]>, `second` = sum v_t / sum E[g_t^2].

    Names: t; first, first_expected, first_corrected, first_zeta and the same for `second`.
    "expected" is the sum of the weights of all gradients in the moment: 1 - beta_2^t, and for the
    first moment 1 - prod_s beta_1,s, which is the paper's 1 - beta_1^t if lambda is 1; "corrected"
    is divided by 1 - beta^t; "zeta" is the difference from the expected value. With "path" they
    are t and second_corrected, with E[g_s^2] in place of g_s^2 at every step s.
    """
    digits = load_digits(data, options.train_examples)
    batches = batch_order(seed, 0, len(digits.labels), batch_size)
    adam = Adam(**settings, steps_per_epoch=len(batches))
    theta = np.zeros((digits.images.shape[1] + 1, CLASSES))
    draws = stream(seed, "draws")
    steps = epochs * len(batches)
    recorded = set(recorded_steps(steps))
    pool = batch_gradients(digits, batches, theta)
    path, average = options.parameters == "path", 0.0
    for t in range(1, steps + 1):
        if options.parameters == "fixed":
            adam.observe(pool[draws.integers(len(batches), size=options.replicates)])
        else:
            drawn = draws.integers(len(batches), size=1)
            if t in recorded or path:
                pool = batch_gradients(digits, batches, theta)
            theta -= adam.step(batch_gradients(digits, batches[drawn], theta)).reshape(theta.shape)
        if path:
            square = float(np.mean(pool**2, axis=0).sum())
            average = adam.beta_2 * average + (1 - adam.beta_2) * square
            if t in recorded:
                corrected = average / (1 - adam.beta_2**t)
                yield {"t": float(t), "second_corrected": corrected / square}
        elif t in recorded:
            yield _bias(adam, pool.mean(axis=0), np.mean(pool**2, axis=0))


def _bias(adam: Adam, mean: Array, square: Array) -> Row:
    """A row of `moment_bias` from E[g] and E[g^2]; the moments have a row per replicate."""
    t = adam.t
    row = {"t": float(t)}
    momentum = adam.beta_1**t
    for name, values, expected, correction in (
        (
            "first",
            adam.m @ mean / (mean @ mean),
            1 - momentum * adam.beta_1_decay ** (t * (t - 1) / 2),
            1 - momentum,
        ),
        ("second", adam.v.sum(axis=1) / square.sum(), 1 - adam.beta_2**t, 1 - adam.beta_2**t),
    ):
        value = float(values.mean())
        row[name] = value
        row[f"{name}_expected"] = expected
        row[f"{name}_corrected"] = value / correction
        row[f"{name}_zeta"] = value - expected
        if len(values) > 1:
            row[f"{name}_error"] = float(values.std(ddof=1) / math.sqrt(len(values)))
    return row
