"""What Sections 2, 3, 5 and 7.1 derive by algebra, checked in float64 on random gradients.

`identities` and `norms` are measurements like the others in this folder. Their arguments: see
`registry.Entry.measured`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from experiments.randomness import stream
from experiments.theory.adam import Adam, Array, Row, Settings, recorded_steps
from experiments.theory.options import Identities, Norms


def gradients(seed: int, steps: int, dimensions: int) -> Array:
    """Gaussian gradients, (steps, dimensions), whose scale falls from 1 to 1e-9.

    Args:
        seed: of the gradients.
        steps: how many.
        dimensions: coordinates of each, along which the scale falls.
    """
    scales = np.logspace(0, -9, dimensions)
    return stream(seed, "gradients").standard_normal((steps, dimensions)) * scales


def reordered(adam: Adam, epsilon_hat: float) -> Array:
    """The step of the efficient form at the end of Section 2, from the moments of `adam`.

    alpha_t = alpha sqrt(1 - beta_2^t) / (1 - beta_1^t)
    step = alpha_t m_t / (sqrt(v_t) + epsilon_hat)
    """
    alpha = adam.rate * math.sqrt(1 - adam.beta_2**adam.t) / (1 - adam.beta_1**adam.t)
    step: Array = alpha * adam.m / (np.sqrt(adam.v) + epsilon_hat)
    return step


def adamax_longest(t: int, beta_1: float, beta_2: float) -> float:
    """|Delta_t| / alpha of AdaMax (Algorithm 2) along gradients made to lengthen its last step.

    The gradients fall by beta_2 per step, as fast as u forgets, so that u_t = |g_t| = 1 while all
    earlier gradients are larger.

    Args:
        t: the last step.
        beta_1: decay rate of the first moment.
        beta_2: decay rate of the infinity norm.
    """
    m = u = 0.0
    for k in range(1, t + 1):
        gradient = beta_2 ** (k - t)
        m = beta_1 * m + (1 - beta_1) * gradient
        u = max(beta_2 * u, gradient)
    return m / (1 - beta_1**t) / u


def identities(
    data: str, seed: int, settings: Settings, batch_size: int, epochs: int, options: Identities
) -> Iterator[Row]:
    """Steps of Adam in the forms that the paper calls equal, or limits of each other.

    A row is a number of steps t (`recorded_steps`) along `gradients`. The differences are the
    largest over all coordinates, relative to the step of Algorithm 1.

    - `reordered`: the efficient form with epsilon_hat = epsilon sqrt(1 - beta_2^t);
      `reordered_constant`: with epsilon_hat = epsilon (Section 2).
    - `uncorrected`: the step without bias correction over that with it, for the first coordinate,
      whose gradients are far above epsilon (Section 3).
    - `adagrad`: Adam with beta_1 = 0, beta_2 = 1 - `forgetting`, alpha / sqrt(t) and epsilon = 0,
      against AdaGrad; `adagrad_uncorrected`: its step without correction over AdaGrad's, the
      smallest of all coordinates (Section 5).
    - `adamax_step`: |Delta_t| / alpha of AdaMax along these gradients, the largest of all steps so
      far; `adamax_longest`: along gradients made for it (Section 7.1).
    """
    adam = Adam(**settings)
    plain = Adam(**{**settings, "bias_correction": False})
    limit: dict[str, Any] = {
        "learning_rate": adam.learning_rate,
        "decay": "sqrt_step",
        "beta_1": 0.0,
        "beta_2": 1 - options.forgetting,
        "epsilon": 0.0,
    }
    near, bare = Adam(**limit), Adam(**limit, bias_correction=False)
    squares, m, u = np.zeros((3, options.dimensions))
    recorded, longest = set(recorded_steps(options.steps)), 0.0
    for t, gradient in enumerate(gradients(seed, options.steps, options.dimensions), start=1):
        step, without = adam.step(gradient), plain.step(gradient)
        limited, uncorrected = near.step(gradient), bare.step(gradient)
        squares += gradient**2
        adagrad = adam.learning_rate * gradient / np.sqrt(squares)
        m = adam.beta_1 * m + (1 - adam.beta_1) * gradient
        u = np.maximum(adam.beta_2 * u, np.abs(gradient))
        longest = max(longest, float(np.abs(m / (1 - adam.beta_1**t) / u).max()))
        if t not in recorded:
            continue
        moving = adam.epsilon * math.sqrt(1 - adam.beta_2**t)
        yield {
            "t": float(t),
            "reordered": _apart(reordered(adam, moving), step),
            "reordered_constant": _apart(reordered(adam, adam.epsilon), step),
            "uncorrected": float(without[0] / step[0]),
            "adagrad": _apart(limited, adagrad),
            "adagrad_uncorrected": float(np.min(uncorrected / adagrad)),
            "adamax_step": longest,
            "adamax_longest": adamax_longest(t, adam.beta_1, adam.beta_2),
        }


NORMS = (2, 8, 32, 128)


def norms(
    data: str, seed: int, settings: Settings, batch_size: int, epochs: int, options: Norms
) -> Iterator[Row]:
    """The steps of Adam with an L^p norm in place of the L^2 norm, against AdaMax's (Section 7.1).

        v_t = beta_2^p v_(t-1) + (1 - beta_2^p) |g_t|^p
        step = alpha m_hat_t / v_t^(1/p)

    which the paper lets p → infinity to derive AdaMax. As there, v is not corrected. The root is
    updated in place of v, divided by the larger of its two parts, since |g|^p underflows.

    A row is a number of steps t (`recorded_steps`) along `gradients`: `p_2`, `p_8`, `p_32` and
    `p_128` are the largest relative difference between a coordinate's step and AdaMax's.
    """
    adam = Adam(**settings)
    roots = {p: np.zeros(options.dimensions) for p in NORMS}
    u = np.zeros(options.dimensions)
    recorded = set(recorded_steps(options.steps))
    for t, gradient in enumerate(gradients(seed, options.steps, options.dimensions), start=1):
        size = np.abs(gradient)
        u = np.maximum(adam.beta_2 * u, size)
        for p, root in roots.items():
            forget, part = adam.beta_2**p, np.maximum(root, size)
            mean = forget * (root / part) ** p + (1 - forget) * (size / part) ** p
            roots[p] = part * mean ** (1 / p)
        if t in recorded:
            # The first moment and its correction are the same in both steps, and cancel.
            yield {"t": float(t)} | {f"p_{p}": _apart(u, root) for p, root in roots.items()}


def _apart(ours: Array, reference: Array) -> float:
    """The largest relative difference of any coordinate."""
    return float(np.max(np.abs(ours / reference - 1)))
