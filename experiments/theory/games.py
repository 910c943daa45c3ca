"""Online convex problems, and how Adam plays them (Section 4)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from experiments.randomness import stream
from experiments.theory.adam import Adam, Array, quotient, recorded_steps
from experiments.theory.regression import CLASSES, Digits, cross_entropy


class Online(Protocol):
    """Convex functions f_1, f_2, ..., f_steps of parameters theta, a vector."""

    @property
    def start(self) -> Array:
        """theta_1."""

    @property
    def steps(self) -> int:
        """How many functions there are."""

    def play(self, t: int, theta: Array) -> tuple[float, Array]:
        """f_t(theta) and its gradient."""

    def optimum(self) -> tuple[Array, float]:
        """The minimiser of f_1 + ... + f_steps, and how far its sum may exceed the minimum."""

    def costs(self, theta: Array) -> Array:
        """f_1(theta) to f_steps(theta)."""


@dataclass(frozen=True)
class Quadratics:
    """f_t(theta) = 1/2 sum_i s_t,i a_i (theta_i - c_t,i)^2 with s_t,i of 0 or 1, from 0.

    The optimum is the mean of the c_t,i that count, or 0 for a coordinate where none counts.

    Attributes:
        curvature: a, (coordinates,).
        targets: c, (steps, coordinates).
        counts: s, (steps, coordinates).
    """

    curvature: Array
    targets: Array
    counts: Array

    @property
    def start(self) -> Array:
        """Zero."""
        return np.zeros(len(self.curvature))

    @property
    def steps(self) -> int:
        """How many functions there are."""
        return len(self.targets)

    def play(self, t: int, theta: Array) -> tuple[float, Array]:
        """f_t(theta) and its gradient."""
        error = theta - self.targets[t - 1]
        gradient = self.counts[t - 1] * self.curvature * error
        return float(error @ gradient) / 2, gradient

    def optimum(self) -> tuple[Array, float]:
        """The minimiser of the functions' sum, in closed form."""
        counts = self.counts
        return quotient((counts * self.targets).sum(axis=0), counts.sum(axis=0)), 0.0

    def costs(self, theta: Array) -> Array:
        """f_1(theta) to f_steps(theta)."""
        return self.counts * (theta - self.targets) ** 2 @ self.curvature / 2


@dataclass(frozen=True)
class Absolute:
    """f_t(theta) = scale |theta|, in one dimension; the optimum is 0.

    The derivative at 0 is the one on its right: Adam's steps may hit 0 exactly.

    Attributes:
        scale: size of all gradients.
        start: theta_1.
        steps: how many functions there are.
    """

    scale: float
    start: Array
    steps: int

    def play(self, t: int, theta: Array) -> tuple[float, Array]:
        """f_t(theta) and its gradient."""
        return self.scale * abs(float(theta[0])), np.where(theta < 0, -self.scale, self.scale)

    def optimum(self) -> tuple[Array, float]:
        """Zero."""
        return np.zeros(1), 0.0

    def costs(self, theta: Array) -> Array:
        """f_1(theta) to f_steps(theta), all the same."""
        return np.full(self.steps, self.scale * abs(float(theta[0])))


OPTIMUM_TOLERANCE = 1e-8  # how far the average regret may be off
CHUNK = 4096  # examples that are unpacked to float64 at a time


@dataclass(frozen=True)
class LogisticRegressions:
    """f_t(theta) = mean cross-entropy of batch t + l2/2 |theta|^2 on MNIST, from 0.

    Attributes:
        digits: the examples.
        batches: the examples of each step, (steps, batch_size).
        l2: positive, so that there is one optimum (else the scores of all classes may be shifted).
    """

    digits: Digits
    batches: NDArray[np.int64]
    l2: float

    @property
    def start(self) -> Array:
        """Zero."""
        return np.zeros((self.digits.images.shape[1] + 1) * CLASSES)

    @property
    def steps(self) -> int:
        """How many functions there are."""
        return len(self.batches)

    def play(self, t: int, theta: Array) -> tuple[float, Array]:
        """f_t(theta) and its gradient."""
        x, y = self.digits.batch(self.batches[t - 1])
        costs, derivatives = cross_entropy(theta.reshape(-1, CLASSES), x, y)
        gradient = (x.T @ derivatives / len(y)).ravel() + self.l2 * theta
        return float(costs.mean()) + self._penalty(theta), gradient

    def _penalty(self, theta: Array) -> float:
        return self.l2 / 2 * float(theta @ theta)

    def mean(self, theta: Array) -> tuple[float, Array]:
        """(f_1(theta) + ... + f_steps(theta)) / steps and its gradient."""
        drawn = self.batches
        weights = np.bincount(drawn.ravel(), minlength=len(self.digits.labels)) / drawn.size
        value, gradient = self._penalty(theta), self.l2 * theta
        for first in range(0, len(weights), CHUNK):
            part = slice(first, first + CHUNK)
            x, y = self.digits.batch(part)
            costs, derivatives = cross_entropy(theta.reshape(-1, CLASSES), x, y)
            value += float(weights[part] @ costs)
            gradient += (x.T @ (weights[part, None] * derivatives)).ravel()
        return value, gradient

    def optimum(self) -> tuple[Array, float]:
        """The minimiser of the functions' sum F, by L-BFGS from 0.

        F is steps * l2 - strongly convex, so F - min F <= |grad F|^2 / (2 steps l2): with the mean
        f = F / steps the sum is off by at most steps |grad f|^2 / (2 l2).

        Raises:
            ValueError: the average is not known to `OPTIMUM_TOLERANCE`.
        """
        from scipy.optimize import minimize

        smallest = math.sqrt(2 * self.l2 * OPTIMUM_TOLERANCE / self.start.size)
        options = {"maxiter": 20_000, "maxfun": 40_000, "maxcor": 20, "gtol": smallest, "ftol": 0}
        found = minimize(self.mean, self.start, jac=True, method="L-BFGS-B", options=options)
        error = float(found.jac @ found.jac) / (2 * self.l2)
        if not error <= OPTIMUM_TOLERANCE:
            raise ValueError(f"the optimum in hindsight is off by {error:.1e}: use a larger l2")
        return found.x, self.steps * error

    def costs(self, theta: Array) -> Array:
        """f_1(theta) to f_steps(theta)."""
        parts = []
        for first in range(0, len(self.digits.labels), CHUNK):
            x, y = self.digits.batch(slice(first, first + CHUNK))
            parts.append(cross_entropy(theta.reshape(-1, CLASSES), x, y)[0])
        return np.concatenate(parts)[self.batches].mean(axis=1) + self._penalty(theta)


def quadratics(seed: int, steps: int, dimensions: int, sparse: bool) -> Quadratics:
    """Random quadratics: a_i from 0.1 to 10, c_t,i uniform within 1 of a centre in [-1, 1].

    Args:
        seed: of the sequence.
        steps: how many functions.
        dimensions: how many coordinates.
        sparse: whether coordinate i counts with probability 1 / i, as words do by their rank.
    """
    draws = stream(seed, "functions")
    centre = draws.uniform(-1, 1, dimensions)
    targets = centre + draws.uniform(-1, 1, (steps, dimensions))
    chance = 1 / np.arange(1, dimensions + 1) if sparse else np.ones(dimensions)
    counts = (draws.random((steps, dimensions)) < chance).astype(float)
    curvature = draws.permutation(np.geomspace(0.1, 10, dimensions))
    return Quadratics(curvature, targets, counts)


@dataclass(frozen=True)
class Snapshot:
    """What Theorem 4.1 needs from the steps up to T, except for the optimum."""

    steps: int
    root_sum: float
    norm_sum: float
    g_norm: float
    g_inf: float
    low: Array
    high: Array


def play(problem: Online, adam: Adam) -> tuple[Array, list[Snapshot]]:
    """The costs f_t(theta_t) that Adam pays, and what it has seen at `recorded_steps`."""
    theta = problem.start
    squares, low, high = np.zeros_like(theta), theta.copy(), theta.copy()
    g_norm = g_inf = 0.0
    paid, snapshots = np.empty(problem.steps), []
    recorded = set(recorded_steps(problem.steps))
    for t in range(1, problem.steps + 1):
        low, high = np.minimum(low, theta), np.maximum(high, theta)
        paid[t - 1], gradient = problem.play(t, theta)
        squares += gradient**2
        g_norm = max(g_norm, float(np.linalg.norm(gradient)))
        g_inf = max(g_inf, float(np.abs(gradient).max()))
        theta = theta - adam.step(gradient)
        if t in recorded:
            roots = float(np.sqrt(t * adam.v_hat).sum())
            norms = float(np.sqrt(squares).sum())
            snapshots.append(Snapshot(t, roots, norms, g_norm, g_inf, low, high))
    return paid, snapshots
