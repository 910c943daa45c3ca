"""Walks over small surfaces: the surfaces, the loop that walks, and how far a walk gets.

The rules themselves (momentum, scaling, Adam) are on the page `00_adam_explained`. A rule gets the
gradient, its memory and the number of the step, and returns what to subtract from the weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd

Array = np.ndarray
Rule = Callable[..., Any]

SEED = 3


# --- surfaces -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Surface:
    """A function of a few weights, and how its gradient is seen.

    Attributes:
        name: what it is called in pictures.
        value: the function, of points in the last axis.
        slope: its exact gradient.
        start: where walks begin.
        lowest: where the function is least, if anywhere.
        window: left, right, bottom and top of its picture.
        noise: standard deviation of what is added to each coordinate of the gradient.
        every: by coordinate, n: the gradient is seen only at every n-th step and is 0 otherwise.
        growth: the gradient grows by this factor from step to step, and has its own size at this
            step.
    """

    name: str
    value: Callable[[Array], Array]
    slope: Callable[[Array], Array]
    start: Any
    lowest: tuple[float, ...] | None = None
    window: tuple[float, float, float, float] = (-5.0, 5.0, -5.0, 5.0)
    noise: tuple[float, ...] = ()
    every: tuple[int, ...] = ()
    growth: tuple[float, int] = (1.0, 0)

    def gradient(self, theta: Array, t: int) -> Array:
        """The gradient that step `t` sees; the same noise at the same step for everyone."""
        g = self.slope(theta)
        if self.noise:
            g = g + self.noise * np.random.default_rng([SEED, t]).standard_normal(len(self.noise))
        if self.every:
            g = g * (t % np.array(self.every) == 0)
        factor, at = self.growth
        return g * factor ** (t - at)


def ravine(stretch: float = 100.0, degrees: float = 0.0, unit: float = 1.0) -> Surface:
    r"""$\frac12 (x^2 + s\,y^2)$: `stretch` times as steep across as along.

    Args:
        stretch: $s$.
        degrees: how far the ravine is turned.
        unit: that of the second weight; 10 makes its numbers 10 times smaller.
    """
    turn = np.radians(degrees)
    axes = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    units = np.array([1.0, unit])
    form = units[:, None] * (axes @ np.diag([1.0, stretch]) @ axes.T) * units
    left, right, bottom, top = (-5.5, 2.0, -4.2, 1.4) if degrees else (-5.0, 3.0, -3.0, 3.0)
    return Surface(
        name="turned ravine" if degrees else "ravine",
        value=lambda theta: 0.5 * np.einsum("...i,ij,...j->...", theta, form, theta),
        slope=lambda theta: theta @ form,
        start=tuple(axes @ [-4.0, 2.0] / units),
        lowest=(0.0, 0.0),
        window=(left, right, bottom / unit, top / unit),
    )


def slope(
    *steepness: float,
    noise: Sequence[float] = (),
    every: Sequence[int] = (),
    growth: tuple[float, int] = (1.0, 0),
) -> Surface:
    """A plane that falls forever.

    Args:
        *steepness: along each coordinate.
        noise: see `Surface`.
        every: see `Surface`.
        growth: see `Surface`.
    """
    fall = np.array(steepness)
    return Surface(
        name="slope",
        value=lambda theta: -theta @ fall,
        slope=lambda theta: np.broadcast_to(-fall, np.shape(theta)),
        start=(0.0,) * len(steepness),
        noise=tuple(noise),
        every=tuple(every),
        growth=growth,
    )


def bowl(noise: float = 0.0, start: Sequence[float] = (-4.0, 2.0)) -> Surface:
    """A round bowl, noisy if asked for."""
    return Surface(
        name="noisy bowl" if noise else "bowl",
        value=lambda theta: 0.5 * np.sum(theta**2, axis=-1),
        slope=lambda theta: theta,
        start=tuple(start),
        lowest=(0.0,) * len(start),
        window=(-5.0, 3.0, -3.0, 3.0),
        noise=(noise,) * len(start) if noise else (),
    )


def banana() -> Surface:
    """Rosenbrock's valley, mildly steep: it bends, so no turn of the axes straightens it."""

    def gradient(theta: Array) -> Array:
        x, y = theta[..., 0], theta[..., 1]
        return np.stack([2 * (x - 1) - 40 * x * (y - x**2), 20 * (y - x**2)], axis=-1)

    return Surface(
        name="banana valley",
        value=lambda p: (1 - p[..., 0]) ** 2 + 10 * (p[..., 1] - p[..., 0] ** 2) ** 2,
        slope=gradient,
        start=(-1.5, 2.0),
        lowest=(1.0, 1.0),
        window=(-2.4, 2.4, -1.0, 2.6),
    )


SURFACES = {
    surface.name: surface for surface in (ravine(), ravine(degrees=45), banana(), bowl(noise=4.0))
}


# --- walks ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Walk:
    """What a rule did on a surface.

    Attributes:
        surface: where it walked.
        settings: the settings of the rule.
        theta: the weights, from the start on.
        gradient: the gradient that each step saw.
        memory: by name, what the rule remembered after each step.
    """

    surface: Surface
    settings: Mapping[str, Any]
    theta: Array
    gradient: Array
    memory: Mapping[str, Array] = field(repr=False)

    @property
    def step(self) -> Array:
        """What each step added to the weights."""
        return np.diff(self.theta, axis=0)

    @property
    def value(self) -> Array:
        """The value of the surface, from the start on."""
        return self.surface.value(self.theta)

    @property
    def distance(self) -> Array:
        """The distance from the lowest point, from the start on."""
        return np.linalg.norm(self.theta - np.array(self.surface.lowest), axis=-1)


def run(rule: Rule, surface: Surface, steps: int, **settings: Any) -> Walk:
    """Walk: see the gradient, ask the rule for a step, subtract it, and record everything.

    Args:
        rule: gives the steps.
        surface: where to walk.
        steps: how many.
        **settings: the rule's.
    """
    theta = np.array(surface.start)
    memory = SimpleNamespace(m=np.zeros_like(theta), v=np.zeros_like(theta))
    places, gradients, memories = [theta], [], []
    for t in range(1, steps + 1):
        g = surface.gradient(theta, t)
        theta = theta - rule(g, memory, t, **settings)
        places.append(theta)
        gradients.append(g)
        memories.append(dict(vars(memory)))
    return Walk(
        surface,
        settings,
        np.array(places),
        np.array(gradients),
        {name: np.array([each[name] for each in memories]) for name in memories[-1]},
    )


ALPHAS = np.geomspace(1e-6, 10, 71)


def _crowd(rule: Rule, surface: Surface, steps: int) -> Walk:
    """The walks with all of `ALPHAS` at once, one per row."""
    crowd = replace(surface, start=np.tile(surface.start, (len(ALPHAS), 1)))
    return run(rule, crowd, steps, alpha=ALPHAS[:, None])


def best(rule: Rule, surface: Surface, steps: int) -> Walk:
    """The walk with the best of `ALPHAS`: the one that is lowest on average, in logarithms.

    Args:
        rule: gives the steps.
        surface: where to walk.
        steps: how many.
    """
    with np.errstate(all="ignore"):  # too large an alpha ends in infinity
        scores = np.log(_crowd(rule, surface, steps).value).mean(axis=0)
    alpha = ALPHAS[np.argmin(np.nan_to_num(scores, nan=np.inf))]
    return run(rule, surface, steps, alpha=float(alpha))


def steps_needed(rule: Rule, surface: Surface, steps: int) -> float:
    """How many steps bring the walk to within 1% of its first distance for good.

    Args:
        rule: gives the steps.
        surface: where to walk.
        steps: how many at most.

    Returns:
        The least number over `ALPHAS`, or NaN when `steps` are not enough for any of them.
    """
    with np.errstate(all="ignore"):
        distance = _crowd(rule, surface, steps).distance
        near = distance <= 0.01 * distance[0]
    needed = len(near) - near[::-1].argmin(axis=0)
    return float(np.min(needed[near[-1]])) if near[-1].any() else np.nan


def stretches(rules: Mapping[str, tuple[Rule, float]]) -> pd.DataFrame:
    """Steps needed of 3,000, by rule (with the degrees its ravine is turned) and by stretch."""
    values = 10.0 ** np.arange(0, 4.5, 0.5)
    found = {
        name: [steps_needed(rule, ravine(stretch, degrees), 3000) for stretch in values]
        for name, (rule, degrees) in rules.items()
    }
    return pd.DataFrame(found, index=values)


def signal(walk: Walk) -> Array:
    """The signal-to-noise ratio of Section 2.1 at every step, by coordinate."""
    return walk.memory["m_hat"] / np.sqrt(walk.memory["v_hat"])
