"""The regret of Adam against the bound of Theorem 4.1 (Section 4).

Arguments of the measurement: see `registry.Entry.measured`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np

from experiments.randomness import batch_order
from experiments.theory.adam import Adam, Array, Row, Settings
from experiments.theory.games import (
    Absolute,
    LogisticRegressions,
    Online,
    Snapshot,
    play,
    quadratics,
)
from experiments.theory.options import Regret
from experiments.theory.regression import load_digits


def check_theorem(adam: Adam) -> None:
    """Raise a ValueError if the settings are not those of Theorem 4.1."""
    if adam.decay != "sqrt_step":
        raise ValueError(f"decay={adam.decay!r} is not valid for Theorem 4.1: use sqrt_step")
    if adam.beta_1**2 >= math.sqrt(adam.beta_2):
        raise ValueError("Theorem 4.1 needs beta_1^2 < sqrt(beta_2)")
    if adam.beta_1 > 0 and adam.beta_1_decay == 1:
        raise ValueError("Theorem 4.1 needs beta_1_decay < 1, for example 0.99")


def theorem_terms(
    adam: Adam,
    *,
    coordinates: int,
    root_sum: float,
    norm_sum: float,
    g_inf: float,
    d_norm: float,
    d_inf: float,
) -> tuple[float, float, float]:
    """The three terms of Theorem 4.1 as printed; their sum should bound the regret R(T).

        D^2 / (2 alpha (1 - beta_1)) sum_i sqrt(T v_hat_T,i)
        alpha (1 + beta_1) G_inf / ((1 - beta_1) sqrt(1 - beta_2) (1 - gamma)^2) sum_i |g_1:T,i|
        sum_i D_inf^2 G_inf sqrt(1 - beta_2) / (2 alpha (1 - beta_1) (1 - lambda)^2)

    with gamma = beta_1^2 / sqrt(beta_2). If beta_1 = 0, lambda does not matter to Adam and is taken
    as 0 here, where the bound is smallest. With the paper's lambda = 1 - 1e-8 the third term is of
    order 1e16: the theorem then says nothing until T is that large.

    Args:
        adam: the settings.
        coordinates: how many there are.
        root_sum: sum_i sqrt(T v_hat_T,i).
        norm_sum: sum_i |g_1:T,i|, with the Euclidean norm over the steps.
        g_inf: largest |g_t,i|.
        d_norm: largest distance of two iterates, or of one and the optimum.
        d_inf: the same in the maximum norm.
    """
    momentum = 1 - adam.beta_1
    gamma = adam.beta_1**2 / math.sqrt(adam.beta_2)
    root = math.sqrt(1 - adam.beta_2)
    decay = adam.beta_1_decay if adam.beta_1 > 0 else 0.0
    alpha = adam.learning_rate
    return (
        d_norm**2 / (2 * alpha * momentum) * root_sum,
        alpha * (1 + adam.beta_1) * g_inf / (momentum * root * (1 - gamma) ** 2) * norm_sum,
        coordinates * d_inf**2 * g_inf * root / (2 * alpha * momentum * (1 - decay) ** 2),
    )


def against_theorem(adam: Adam, regret: float, terms: tuple[float, float, float]) -> Row:
    """The terms, the bound and the regret's share of it, as printed and as the appendix ends.

    The appendix ends with beta_1 where the theorem has 1 - beta_1 in the third denominator; at
    beta_1 = 0 that bound is infinite and left out.

    Args:
        adam: the settings.
        regret: R(T).
        terms: those of `theorem_terms`.
    """
    row = dict(zip(("distance_term", "gradient_term", "momentum_term"), terms, strict=True))
    row |= {"bound": sum(terms), "regret_over_bound": regret / sum(terms)}
    if adam.beta_1 > 0:
        appendix = terms[0] + terms[1] + terms[2] * (1 - adam.beta_1) / adam.beta_1
        row |= {"appendix_bound": appendix, "regret_over_appendix_bound": regret / appendix}
    return row


def regret(
    data: str, seed: int, settings: Settings, batch_size: int, epochs: int, options: Regret
) -> Iterator[Row]:
    """The regret of Adam on convex problems, against the bound of Theorem 4.1 (Section 4).

        R(T) = sum over t <= T of f_t(theta_t) - f_t(theta*)

    Problems, with the options that they read:

    - "logistic": `LogisticRegressions` on the batches of `epochs` passes (train_examples, l2);
    - "quadratic" and "sparse": random `Quadratics` (steps, dimensions);
    - "absolute": `Absolute`, f_t = scale |theta|, from theta_1 = alpha / 2 (steps, scale). The
      first and the third term of the bound are proportional to the gradients' scale, as is the
      regret (epsilon = 0), but the second to its square. So for a small scale the bound is too low:
      at beta_1 = 0 the regret exceeds it as printed, although Adam converges.

    `theta*` is the best fixed point in hindsight for all functions played, which all rows share:
    the regrets of one sequence are sums of the same terms, and the last row's is the theorem's.
    Earlier ones are less than the theorem's by what the best point of fewer functions would save,
    and may be negative.

    A row is a number of steps T (`recorded_steps`):

    - t: T; regret: R(T); average_regret: R(T) / T; regret_over_sqrt: R(T) / sqrt(T);
    - optimum_error: by how much the regret may be too small, since theta* is found numerically;
    - g_norm, g_inf: largest Euclidean and maximum norm of the gradients met (G and G_inf);
    - d_norm, d_inf: the same norms of the diagonal of the box that holds the iterates and theta*
      (D and D_inf). The proof needs distances to theta* as well as the theorem's among iterates.
      The diagonal is at least the largest distance, and equal to it in one dimension;
    - sparsity: sum_i |g_1:T,i| over d G_inf sqrt(T), at most 1 and small for sparse data;
    - distance_term, gradient_term, momentum_term, bound, regret_over_bound: `theorem_terms`, their
      sum, and the regret relative to it;
    - appendix_bound, regret_over_appendix_bound: with beta_1 in place of 1 - beta_1 in the
      third denominator, as at the end of the appendix; left out if beta_1 = 0, where that is 0.

    Raises:
        ValueError: the settings are not the theorem's (`check_theorem`).
    """
    adam = Adam(**settings)
    check_theorem(adam)
    makers: dict[str, Callable[[], Online]] = {
        "logistic": lambda: _logistic(
            data, seed, batch_size, epochs, options.train_examples, options.l2
        ),
        "quadratic": lambda: quadratics(seed, options.steps, options.dimensions, sparse=False),
        "sparse": lambda: quadratics(seed, options.steps, options.dimensions, sparse=True),
        "absolute": lambda: Absolute(
            options.scale, np.full(1, adam.learning_rate / 2), options.steps
        ),
    }
    online = makers[options.problem]()
    paid, snapshots = play(online, adam)
    optimum, error = online.optimum()
    best = online.costs(optimum)
    for seen in snapshots:
        total = float(np.sum(paid[: seen.steps] - best[: seen.steps]))
        yield _regret_row(adam, seen, optimum, total, error)


def _logistic(
    data: str, seed: int, batch_size: int, epochs: int, examples: int, l2: float
) -> LogisticRegressions:
    digits = load_digits(data, examples)
    passes = [batch_order(seed, epoch, len(digits.labels), batch_size) for epoch in range(epochs)]
    return LogisticRegressions(digits, np.concatenate(passes), l2)


def _regret_row(adam: Adam, seen: Snapshot, optimum: Array, total: float, error: float) -> Row:
    box = np.maximum(seen.high, optimum) - np.minimum(seen.low, optimum)
    d_norm, d_inf = float(np.linalg.norm(box)), float(box.max())
    terms = theorem_terms(
        adam,
        coordinates=len(optimum),
        root_sum=seen.root_sum,
        norm_sum=seen.norm_sum,
        g_inf=seen.g_inf,
        d_norm=d_norm,
        d_inf=d_inf,
    )
    return {
        "t": float(seen.steps),
        "regret": total,
        "average_regret": total / seen.steps,
        "regret_over_sqrt": total / math.sqrt(seen.steps),
        "optimum_error": error,
        "g_norm": seen.g_norm,
        "g_inf": seen.g_inf,
        "d_norm": d_norm,
        "d_inf": d_inf,
        "sparsity": seen.norm_sum / (len(optimum) * seen.g_inf * math.sqrt(seen.steps)),
        **against_theorem(adam, total, terms),
    }
