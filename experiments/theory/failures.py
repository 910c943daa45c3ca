"""Convex problems on which Adam fails, and Theorem 4.1 with it (Reddi, Kale and Kumar).

Arguments of the measurement: see `registry.Entry.measured`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator

import numpy as np

from experiments.randomness import stream
from experiments.theory.adam import Adam, Row, Settings, recorded_steps
from experiments.theory.options import Counterexample
from experiments.theory.theorem import against_theorem, check_theorem, theorem_terms

# The mean slope of each kind, which is positive: -1 is the best point of [-1, 1].
KINDS: dict[str, Callable[[float], float]] = {
    "three": lambda c: (c - 2) / 3,
    "online": lambda c: 10 / 101,
    "stochastic": lambda c: 0.2,
}


def slopes(kind: str, seed: int, c: float) -> Iterator[float]:
    """The slopes of the linear functions, without end.

    "three": c, -1, -1, repeated; "online": 1010, then -10 a hundred times, repeated; "stochastic":
    1010 with probability 0.01, otherwise -10.

    Args:
        kind: a key of `KINDS`.
        seed: of the "stochastic" ones.
        c: the largest slope of "three".
    """
    if kind == "three":
        yield from itertools.cycle([float(c), -1.0, -1.0])
    if kind == "online":
        yield from itertools.cycle([1010.0] + [-10.0] * 100)
    draws = stream(seed, "functions")
    while True:
        yield from np.where(draws.random(10_000) < 0.01, 1010.0, -10.0).tolist()


def counterexample(
    data: str, seed: int, settings: Settings, batch_size: int, epochs: int, options: Counterexample
) -> Iterator[Row]:
    """Linear functions on [-1, 1] on which Adam goes to 1 although the optimum is -1.

    f_t(x) = s_t x with the `slopes` of a kind. In Reddi et al. "three" has c > 2, beta_1 = 0,
    beta_2 = 1 / (1 + c^2), alpha_t = alpha / sqrt(t) and alpha < sqrt(1 - beta_2) (0.948 for
    c = 3, beta_2 = 0.1); "online" and "stochastic" have beta_1 = 0.9 and beta_2 = 0.99. Their
    Adam has no bias correction and no epsilon.

    bounds="clip" moves x back into [-1, 1] after each step. bounds="wall" leaves x alone, as
    Theorem 4.1 does, and adds the convex w max(0, |x| - 1) to every function, w twice the steepest
    falling slope: Adam then comes back by itself, and -1 stays the best point.

    A row is a step t (`recorded_steps` up to `steps`):

    - t; x: where Adam is after step t;
    - average_regret: R(t) / t, R(t) = sum over s <= t of f_s(x_s) - f_s(-1). For "stochastic", the
      drawn slopes make it a random number, with a spread of about 100 (1 + x) / sqrt(t);
    - expected_regret: the same with the mean slope in place of each s_t;
    - distance_term, gradient_term, momentum_term, bound, regret_over_bound (and with beta_1 > 0 the
      appendix's): Theorem 4.1 for G_inf, D and D_inf as met so far, where D covers the iterates
      and -1. They are given if the settings are the theorem's (`check_theorem`). The theorem does
      not provide for clipping ("wall" meets its conditions to the letter), but clipping only brings
      x nearer to -1 than the proof needs.
    """
    mean_slope = KINDS[options.kind](options.c)
    adam = Adam(**settings)
    try:
        check_theorem(adam)
        judged = True
    except ValueError:
        judged = False
    clipped = options.bounds == "clip"
    wall = 0.0 if clipped else 2.0 if options.kind == "three" else 20.0
    recorded = iter(recorded_steps(options.steps))
    due = next(recorded)
    x = low = high = float(options.x_1)
    paid = expected = squares = g_inf = 0.0
    for slope in itertools.islice(slopes(options.kind, seed, options.c), options.steps):
        low, high = min(low, x), max(high, x)
        gradient, outside = slope, abs(x) - 1
        if outside > 0:
            gradient += math.copysign(wall, x)
            paid += wall * outside
            expected += wall * outside
        paid += slope * (x + 1)
        expected += mean_slope * (x + 1)
        squares += gradient * gradient
        g_inf = max(g_inf, abs(gradient))
        x -= adam.step(gradient)
        if clipped:
            x = min(1.0, max(-1.0, x))
        if adam.t != due:
            continue
        row = {"t": due, "x": x, "average_regret": paid / due, "expected_regret": expected / due}
        if judged:
            width = max(high, -1.0) - min(low, -1.0)
            terms = theorem_terms(
                adam,
                coordinates=1,
                root_sum=math.sqrt(due * adam.v_hat),
                norm_sum=math.sqrt(squares),
                g_inf=g_inf,
                d_norm=width,
                d_inf=width,
            )
            row |= against_theorem(adam, paid, terms)
        yield {name: float(value) for name, value in row.items()}
        due = next(recorded, 0)
