"""Algorithms 1 and 2 in NumPy, line by line from the paper.

In float64 `1 - 0.999**1` has lost three digits; extended precision, where the machine has it,
keeps the oracle's own rounding out of the comparison.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np

EXTENDED = np.longdouble


def adam(
    theta: Any,
    gradients: Iterable[Any],
    alpha: float = 0.001,
    beta_1: float = 0.9,
    beta_2: float = 0.999,
    epsilon: float = 1e-8,
    epsilon_form: str = "algorithm1",
    bias_correction: bool = True,
    amsgrad: bool = False,
    beta_1_decay: float = 1.0,
) -> np.ndarray:
    """All iterates theta_1, theta_2, ... of Algorithm 1; `alpha` may be a function of t."""
    beta_1, beta_2 = EXTENDED(beta_1), EXTENDED(beta_2)
    theta = np.array(theta, EXTENDED)
    m = np.zeros_like(theta)
    v = np.zeros_like(theta)
    v_max = np.zeros_like(theta)
    iterates = []
    for t, g in enumerate(gradients, start=1):
        g = np.asarray(g, EXTENDED)
        alpha_t = alpha(t) if callable(alpha) else alpha
        beta_1_t = beta_1 * beta_1_decay ** (t - 1)
        m = beta_1_t * m + (1 - beta_1_t) * g
        v = beta_2 * v + (1 - beta_2) * g**2
        v_max = np.maximum(v_max, v)
        first = 1 - beta_1**t if bias_correction else 1.0
        second = 1 - beta_2**t if bias_correction else 1.0
        chosen = v_max if amsgrad else v
        if epsilon_form == "algorithm1":
            m_hat = m / first
            v_hat = chosen / second
            theta = theta - alpha_t * m_hat / (np.sqrt(v_hat) + epsilon)
        else:  # the reordering at the end of Section 2
            alpha_t = alpha_t * np.sqrt(second) / first
            theta = theta - alpha_t * m / (np.sqrt(chosen) + epsilon)
        iterates.append(theta)
    return np.array(iterates, "float64")


def adamax(
    theta: Any,
    gradients: Iterable[Any],
    alpha: float = 0.002,
    beta_1: float = 0.9,
    beta_2: float = 0.999,
) -> np.ndarray:
    """All iterates of Algorithm 2; a coordinate with no gradient yet stays."""
    beta_1, beta_2 = EXTENDED(beta_1), EXTENDED(beta_2)
    theta = np.array(theta, EXTENDED)
    m = np.zeros_like(theta)
    u = np.zeros_like(theta)
    iterates = []
    for t, g in enumerate(gradients, start=1):
        g = np.asarray(g, EXTENDED)
        alpha_t = alpha(t) if callable(alpha) else alpha
        m = beta_1 * m + (1 - beta_1) * g
        u = np.maximum(beta_2 * u, np.abs(g))
        step = np.divide(m, u, out=np.zeros_like(m), where=u > 0)
        theta = theta - (alpha_t / (1 - beta_1**t)) * step
        iterates.append(theta)
    return np.array(iterates, "float64")


def mixed_gradients(steps: int = 60, seed: int = 0) -> np.ndarray:
    """Ten coordinates of scales 1e-7 to 1e2; some steps are zero, tiny or a spike."""
    rng = np.random.default_rng(seed)
    scales = 10.0 ** np.arange(-7, 3)
    gradients = rng.standard_normal((steps, scales.size)) * scales
    gradients[7] = 0.0
    gradients[13] *= 1e-9
    gradients[29] *= 1e3
    gradients[:, 0] = 0.0  # never a gradient
    gradients[: steps // 2, 1] = 0.0  # the first gradient comes late
    return gradients
