"""What the page `00_adam_explained` needs: small surfaces, a loop, pictures, sliders, the check.

The rules themselves (momentum, scaling, Adam) stand on the page. A rule gets the gradient, its
memory and the number of the step, and returns what to subtract from the weights.
"""

from __future__ import annotations

import importlib.util
import inspect
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.figures.axes import legend_below
from experiments.figures.display import show
from experiments.figures.style import COLOURS as METHODS
from experiments.figures.style import new_figure, png, styled
from experiments.training import runtime

Array = np.ndarray
Rule = Callable[..., Any]

SEED = 3

# Adam is drawn as on every page, and dashed as long as its correction is missing.
COLOURS = {
    "gradient descent": "#444444",
    "momentum": METHODS["SGDNesterov"],
    "adaptive scaling": METHODS["RMSProp"],
    "both": METHODS["Adam"],
    "Adam": METHODS["Adam"],
}
PLACES = ("#0173b2", "#56b4e9", "#ca9161")  # of weights, which are no methods
SOFT = "#555555"


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
        every: by coordinate, the gradient is seen at every n-th step only and is 0 otherwise.
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
        unit: that of the second weight: 10 makes its numbers 10 times as small.
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
    """A plane that falls by `steepness` in each direction, for ever."""
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
    """Round, and noisy if asked for."""
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
    """Walk: see the gradient, ask the rule for a step, subtract it, and write everything down."""
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
    """The walks with all of `ALPHAS` at once, one in each row."""
    crowd = replace(surface, start=np.tile(surface.start, (len(ALPHAS), 1)))
    return run(rule, crowd, steps, alpha=ALPHAS[:, None])


def best(rule: Rule, surface: Surface, steps: int) -> Walk:
    """The walk with the best of `ALPHAS`: the one that is lowest on average, in logarithms."""
    with np.errstate(all="ignore"):  # too large an alpha ends in infinity
        scores = np.log(_crowd(rule, surface, steps).value).mean(axis=0)
    alpha = ALPHAS[np.argmin(np.nan_to_num(scores, nan=np.inf))]
    return run(rule, surface, steps, alpha=float(alpha))


def steps_needed(rule: Rule, surface: Surface, steps: int, goal: float = 0.01) -> float:
    """How many steps bring the walk within `goal` of its first distance for good.

    Returns:
        The least number over `ALPHAS`, or NaN when `steps` are not enough for any of them.
    """
    with np.errstate(all="ignore"):
        distance = _crowd(rule, surface, steps).distance
        near = distance <= goal * distance[0]
    needed = len(near) - near[::-1].argmin(axis=0)
    return float(np.min(needed[near[-1]])) if near[-1].any() else np.nan


def stretches(rules: Mapping[str, tuple[Rule, float]], steps: int = 3000) -> pd.DataFrame:
    """Steps needed by rule (and the degrees by which its ravine is turned) and stretch."""
    values = 10.0 ** np.arange(0, 4.5, 0.5)
    found = {
        name: [steps_needed(rule, ravine(stretch, degrees), steps) for stretch in values]
        for name, (rule, degrees) in rules.items()
    }
    return pd.DataFrame(found, index=values)


# --- pictures -------------------------------------------------------------------------------------


def ways(walks: Mapping[str, Walk]) -> Figure:
    """The way of each rule over its surface, a panel for each."""
    with styled():
        figure, axes = new_figure(len(walks), 3.7)
        for axis, (name, walk) in zip(axes[0], walks.items(), strict=True):
            _map(axis, walk.surface)
            _path(axis, walk, COLOURS[name])
            axis.set_title(f"{name}, α = {walk.settings['alpha']:g}")
            _note(axis, f"distance left after {len(walk.step)} steps: {walk.distance[-1]:.2f}")
        return figure


def averaging(walk: Walk, shown: int = 150) -> Figure:
    """A noisy gradient and its average; how much each past gradient counts in it."""
    beta_1 = walk.settings["beta_1"]
    with styled():
        figure, axes = new_figure(2, 3.7)
        noisy, weights = axes[0]
        t = np.arange(1, shown + 1)
        g, m = -walk.gradient[:shown, 0], -walk.memory["m"][:shown, 0]
        noisy.plot(t, g, ".", color="#999999", ms=5, label="gradient $g_t$")
        noisy.plot(t, m, color=COLOURS["momentum"], lw=2.2, label="momentum $m_t$")
        noisy.axhline(1, color="#222222", lw=1.2, ls=(0, (4, 2)), label="true slope")
        noisy.set(title="momentum averages the noise out", xlabel="step", ylabel="slope downhill")
        noisy.set(xlim=(0, shown), ylim=(-9, 12.5))
        legend_below(noisy, columns=3)
        age, effective = np.arange(40), round(1 / (1 - beta_1))
        share = 100 * (1 - beta_1) * beta_1**age
        recent = share[:effective].sum()
        colours = [COLOURS["momentum"] if k < effective else "#a9d8c8" for k in age]
        weights.bar(age, share, color=colours, width=0.85)
        weights.text(5, 8.4, f"the last {effective} steps: {recent:.0f}%", color="#01694c")
        weights.text(14, 3.0, f"everything older: {100 - recent:.0f}%", color=SOFT)
        weights.set(title="what momentum remembers", xlabel="age of a gradient (steps)")
        weights.set(ylabel="weight in $m_t$ (%)", xlim=(-0.8, 39.8), ylim=(0, 10.8))
        weights.grid(axis="x", visible=False)
        return figure


def own_rates(walks: Mapping[str, Walk], warm: int = 4000) -> Figure:
    """The progress of weights that are seen often and seldom, and the rate each one gets.

    Args:
        walks: by name of the rule; the one of "adaptive scaling" shows its rates.
        warm: steps that are left out, until the memory of the rule is filled.
    """
    with styled():
        figure, axes = new_figure(3, 3.7)
        for axis, (name, walk) in zip(axes[0], walks.items(), strict=False):
            way = walk.theta[warm:] - walk.theta[warm]
            way = 100 * way / way[-1, 0]
            for i, (every, colour) in enumerate(zip(walk.surface.every, PLACES, strict=True)):
                axis.plot(way[:, i], color=colour, lw=2, label=_seen(every), ds="steps-post")
                _end(axis, len(way) - 1, way[-1, i], f"{way[-1, i]:.0f}%", colour)
            axis.set_title(name, color=COLOURS[name])
            axis.set(ylabel="way covered (% of the frequent weight's)", ylim=(-2, 104))
        rate = 1 / np.sqrt(walks["adaptive scaling"].memory["v"][warm:])
        rate /= rate[:, :1]
        for i, colour in enumerate(PLACES):
            axes[0, 2].plot(rate[:, i], color=colour, lw=2)
            mean = rate[:, i].mean()
            _end(axes[0, 2], len(rate) - 1, mean, f"{mean:.1f}", colour)
        axes[0, 2].set(title="the rate that each weight gets", ylim=(0, 13))
        axes[0, 2].set_ylabel("$1/\\sqrt{v_t}$, relative to the frequent weight's")
        for axis in axes[0]:
            axis.set(xlabel="step", xlim=(0, len(rate) - 1))
        legend_below(axes[0, 0])
        return figure


def _seen(every: int) -> str:
    return "seen at every step" if every == 1 else f"seen every {every} steps"


def together(walks: Mapping[str, Walk]) -> Figure:
    """Several rules on one surface: their ways and how fast they come down."""
    with styled():
        figure, axes = new_figure(2, 4.1)
        seen, heights = axes[0]
        _map(seen, next(iter(walks.values())).surface)
        for name, walk in walks.items():
            ls = "--" if name == "both" else "-"
            _path(seen, walk, COLOURS[name], ls=ls, size=2.4)
            label = f"{name}, α = {walk.settings['alpha']:.2g}"
            heights.plot(walk.value, color=COLOURS[name], lw=2, ls=ls, label=label)
        seen.set_title("a turned ravine in mixed units")
        heights.set(title="how fast they come down", yscale="log", xlabel="step")
        heights.set(ylabel="height above the lowest point", xlim=(0, len(walk.step)))
        legend_below(heights)
        return figure


def cold_start(steady: Mapping[str, Walk], noisy: Mapping[str, Walk]) -> Figure:
    """The length of the first steps with and without correction, and where they lead."""
    styles = {name: {"color": COLOURS["Adam"], "lw": 2, "label": name} for name in steady}
    styles["without correction"]["ls"] = "--"
    with styled():
        figure, axes = new_figure(2, 4.0)
        lengths, strays = axes[0]
        for name, walk in steady.items():
            length = np.abs(walk.step[:, 0]) / walk.settings["alpha"]
            lengths.plot(np.arange(1, len(length) + 1), length, **styles[name])
            if name == "with correction":
                _mark(lengths, 1, length, (10, -15))
            else:
                _mark(lengths, 1, length, (10, -4))
                _mark(lengths, int(length.argmax()) + 1, length, (0, 8), "center")
                _mark(lengths, len(length), length, (0, -17), "right")
        lengths.set(title="a steady slope", xlabel="step", ylabel="length of the step / α")
        lengths.set(xlim=(0, len(length) + 1), ylim=(0, 7.9))
        for name, walk in noisy.items():
            stray = walk.distance / np.sqrt(walk.theta.shape[1]) / walk.settings["alpha"]
            strays.plot(stray, **styles[name])
            _end(strays, len(walk.step), stray[-1], f"{stray[-1]:.1f} α", COLOURS["Adam"])
        strays.set(title="nothing but noise, started at the lowest point", xlabel="step")
        strays.set(ylabel="distance from it / α (root mean square)", ylim=(0, None))
        strays.set(xlim=(0, len(walk.step)))
        legend_below(strays)
        return figure


def _mark(axis: Axes, t: int, length: Array, offset: tuple[int, int], align: str = "left") -> None:
    """A dot and its length at step `t`."""
    axis.plot(t, length[t - 1], "o", color=COLOURS["Adam"], ms=5, zorder=5)
    axis.annotate(
        f"step {t}: {length[t - 1]:.2f} α",
        (t, length[t - 1]),
        offset,
        textcoords="offset points",
        ha=align,
    )


def signal(walk: Walk) -> Array:
    """The signal-to-noise ratio of Section 2.1 at every step, by coordinate."""
    return walk.memory["m_hat"] / np.sqrt(walk.memory["v_hat"])


def signal_to_noise(walks: Mapping[str, Walk], names: Sequence[str]) -> Figure:
    """How far each weight goes on slopes of different noise, and the ratio that decides it.

    Args:
        walks: by name of the rule; the one of "Adam" shows its ratios.
        names: what the coordinates are called.
    """
    dashes = ("-", (0, (5, 5)), "-")  # where lines coincide, both are seen
    with styled():
        figure, axes = new_figure(3, 3.9)
        for axis, (name, walk) in zip(axes[0], walks.items(), strict=False):
            way = walk.theta / walk.settings["alpha"]
            for i, (label, colour) in enumerate(zip(names, PLACES, strict=True)):
                over = 4 if i == 1 else 3
                axis.plot(way[:, i], color=colour, lw=2, ls=dashes[i], label=label, zorder=over)
                if i != 1 or abs(way[-1, 1] - way[-1, 0]) > 1:
                    _end(axis, len(way) - 1, way[-1, i], f"{way[-1, i]:.0f}", colour)
            axis.set_title(name, color=COLOURS[name])
            axis.set(ylabel="way covered / α", ylim=(-40, 1.15 * len(way)))
        ratio = axes[0, 2]
        measured = -signal(walks["Adam"])
        for i, colour in enumerate(PLACES):
            noisy = bool(walks["Adam"].surface.noise[i])
            ratio.plot(measured[:, i], color=colour, lw=1 if noisy else 2, ls=dashes[i])
            mean = measured[:, i].mean()
            if noisy:
                ratio.axhline(mean, color="#222222", lw=1.3, ls=(0, (3, 2)), zorder=4)
            if i != 1:
                _end(ratio, len(measured), mean, f"mean\n{mean:.2f}" if noisy else "1", colour)
        ratio.set(title="signal to noise, downhill", ylim=(-0.45, 1.2))
        ratio.set_ylabel("$-\\hat m_t / \\sqrt{\\hat v_t}$")
        for axis in axes[0]:
            axis.set(xlabel="step", xlim=(0, len(measured)))
        legend_below(axes[0, 0])
        return figure


def speed(walk: Walk, stories: Mapping[str, Walk]) -> Figure:
    """The length of the steps on the way to the lowest point, and how long one can get."""
    with styled():
        figure, axes = new_figure(2, 3.9)
        way, caps = axes[0]
        length = np.sqrt((walk.step**2).mean(axis=1)) / walk.settings["alpha"]
        t = np.arange(1, len(length) + 1)
        way.plot(t, walk.distance[1:] / walk.distance[0], color=SOFT, lw=2, ls=(0, (4, 2)))
        way.plot(t, length, color=COLOURS["Adam"], lw=2)
        way.text(1.3, 0.2, "distance left /\ndistance at the start", color=SOFT)
        way.text(160, 0.5, "length of the step / α", color=COLOURS["Adam"])
        last = length[-500:].mean()
        _end(way, len(t), last, f"{last:.2f}", COLOURS["Adam"])
        way.set(title="on the way into a noisy bowl", xlabel="step", ylim=(0, 1.08), xscale="log")
        way.set(xlim=(1, len(t)), ylabel="root mean square of 100 weights")
        way.xaxis.set_major_formatter("{x:g}")
        longest = [np.abs(w.step).max() / w.settings["alpha"] for w in stories.values()]
        places = np.arange(len(stories))[::-1]
        caps.barh(places, longest, color=COLOURS["Adam"], height=0.55)
        for place, length, name in zip(places, longest, stories, strict=True):
            caps.text(0.05, place + 0.34, name, fontsize=9)
            caps.text(length + 0.1, place, f"{length:.2f} α", va="center", weight="bold")
        caps.set(title="the longest step", xlabel="length of the step / α")
        caps.set(yticks=[], xlim=(0, 8.4), ylim=(-0.5, len(stories) - 0.3))
        return figure


def turned(walks: Sequence[Walk], needed: pd.DataFrame) -> Figure:
    """Adam's way along a ravine and along the same ravine turned; the steps that rules need.

    Args:
        walks: one for each ravine.
        needed: the steps by stretch of the ravine (index) and rule (columns).
    """
    with styled():
        figure, axes = new_figure(3, 3.9)
        for axis, walk in zip(axes[0], walks, strict=False):
            _map(axis, walk.surface)
            _path(axis, walk, COLOURS["Adam"])
            axis.set_title(f"Adam, {walk.surface.name}")
            _note(axis, f"distance left after {len(walk.step)} steps: {walk.distance[-1]:.2f}")
        steps = axes[0, 2]
        for name, column in needed.items():
            colour = COLOURS[str(name).partition(",")[0]]
            ls = (0, (1, 1)) if "turned" in str(name) else "-"
            steps.plot(column, color=colour, lw=2, ls=ls, marker="o", ms=4, label=name)
        steps.set(title="steps needed, each with its best α", xscale="log", yscale="log")
        steps.set(xlabel="steepness across / along the ravine", ylabel="steps")
        steps.xaxis.set_major_formatter("{x:,.0f}")
        steps.yaxis.set_major_formatter("{x:,.0f}")
        legend_below(steps)
        return figure


# --- parts of pictures ----------------------------------------------------------------------------

HEIGHTS = mpl.colors.LinearSegmentedColormap.from_list("heights", ["#fdfdfe", "#b3c1d1"])


def _map(axis: Axes, surface: Surface, points: int = 161) -> None:
    """The surface from above: the darker, the higher; from line to line the height doubles."""
    left, right, bottom, top = surface.window
    x, y = np.meshgrid(np.linspace(left, right, points), np.linspace(bottom, top, points))
    heights = surface.value(np.stack([x, y], axis=-1))
    levels = heights.max() / 2.0 ** np.arange(12, 0, -1)
    shades = HEIGHTS(np.linspace(0, 1, len(levels) + 1))
    axis.contourf(x, y, heights, levels, colors=shades, extend="both", antialiased=False)
    axis.contour(x, y, heights, levels, colors="white", linewidths=0.7)
    if surface.lowest:
        axis.plot(*surface.lowest, "*", color="#ffd400", mec="#222222", mew=0.8, ms=12, zorder=5)
    axis.set(xlim=(left, right), ylim=(bottom, top), box_aspect=0.75)
    axis.set(xlabel="$\\theta_1$", ylabel="$\\theta_2$")
    axis.grid(visible=False)


def _path(axis: Axes, walk: Walk, colour: str, ls: Any = "-", size: float = 3.2) -> None:
    axis.plot(*walk.theta.T, color=colour, lw=1.5, ls=ls, marker="o", ms=size, mew=0, zorder=4)
    axis.plot(*walk.theta[0], "o", mfc="white", mec="#222222", mew=1.4, ms=7, zorder=5)


def _note(axis: Axes, text: str, size: float = 9) -> None:
    box = {"facecolor": "white", "alpha": 0.85, "edgecolor": "none", "boxstyle": "round,pad=0.3"}
    axis.text(0.98, 0.04, text, transform=axis.transAxes, ha="right", fontsize=size, bbox=box)


def _end(axis: Axes, x: float, y: float, text: str, colour: str) -> None:
    """A label at the right end of a line, in its colour."""
    axis.annotate(
        text,
        (x, y),
        (5, 0),
        textcoords="offset points",
        color=colour,
        va="center",
        fontsize=9,
        weight="bold",
        annotation_clip=False,
    )


# --- sliders --------------------------------------------------------------------------------------

BASE = {"alpha": 0.1, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-8}
STEPS = 60
KNOBS: dict[str, tuple[str, tuple[Any, ...]]] = {
    "alpha": ("step size α", (0.02, 0.1, 0.5, 2.0)),
    "beta_1": ("memory β₁", (0.0, 0.5, 0.9, 0.99)),
    "beta_2": ("memory of squares β₂", (0.0, 0.5, 0.9, 0.999)),
    "epsilon": ("floor ε", (1e-8, 1.0, 10.0, 100.0)),
    "surface": ("surface", tuple(SURFACES)),
}


def explore(rule: Rule, interactive: bool = False, others: Mapping[str, Rule] | None = None) -> Any:
    """Sliders over a rule's settings; without a reader who can move them, a set of pictures.

    Args:
        rule: takes `alpha`, `beta_1`, `beta_2` and `epsilon`.
        interactive: whether to make the sliders, which need a running notebook and ipywidgets.
        others: see `sliders`.
    """
    if interactive and importlib.util.find_spec("ipywidgets"):
        return sliders(rule, others)
    return show(knobs(rule), KNOBS_ALT)


KNOBS_ALT = (
    "Adam's way for four values of each of its settings and on four surfaces: "
    "a small step size does not arrive and a large one overshoots; a long memory overshoots; "
    "a short memory of squares never settles; a large epsilon undoes the scaling"
)


def knobs(rule: Rule) -> Figure:
    """The way of a rule for several values of each setting, a row for each; the base is framed."""
    with styled():
        figure = Figure(figsize=(11.5, 11.5), layout="constrained")
        axes = figure.subplots(len(KNOBS), 4)
        for row, (knob, (name, values)) in zip(axes, KNOBS.items(), strict=True):
            for axis, value in zip(row, values, strict=True):
                settings = BASE if knob == "surface" else {**BASE, knob: value}
                surface = SURFACES[value if knob == "surface" else "ravine"]
                walk = run(rule, surface, STEPS, **settings)
                _map(axis, surface, points=81)
                _path(axis, walk, COLOURS["Adam"], size=2.4)
                _note(axis, f"distance left: {walk.distance[-1]:.2f}", size=8)
                base = settings == BASE and surface.name == "ravine"
                title = value if knob == "surface" else f"{name.split()[-1]} = {_plain(value)}"
                axis.set_title(title + base * "  (the base)", fontsize=10)
                axis.set(xlabel="", ylabel="", xticks=[], yticks=[])
                for spine in axis.spines.values():
                    spine.set(visible=base, color="#222222", linewidth=2)
            row[0].set_ylabel(name, fontsize=11, weight="bold")
        return figure


def _plain(number: float) -> str:
    return f"{number:g}".replace("e-0", "e-")


def explored(walk: Walk, second: Walk | None = None, name: str = "") -> Figure:
    """One walk: its way, the height, and the length of its steps; beside it that of another."""
    with styled():
        figure, axes = new_figure(3, 3.8)
        way, heights, lengths = axes[0]
        _map(way, walk.surface)
        way.set_title(walk.surface.name)
        lowest = walk.surface.value(np.array(walk.surface.lowest))
        others = [] if second is None else [(second, COLOURS.get(name, SOFT), name)]
        for each, colour, label in [*others, (walk, COLOURS["Adam"], "Adam")]:
            _path(way, each, colour)
            heights.plot(np.maximum(each.value - lowest, 1e-12), color=colour, lw=2, label=label)
        heights.set(title="height above the lowest point", yscale="log", xlabel="step")
        legend_below(heights)
        length = np.abs(walk.step) / walk.settings["alpha"]
        for i, colour in enumerate(PLACES[:2]):
            label = f"$\\theta_{i + 1}$"
            lengths.plot(np.arange(1, len(length) + 1), length[:, i], color=colour, label=label)
        lengths.set(title="length of each of Adam's steps / α", xlabel="step")
        legend_below(lengths)
        return figure


def sliders(rule: Rule, others: Mapping[str, Rule] | None = None) -> Any:
    """Sliders for every setting and the surface, beside the picture that follows them.

    Args:
        rule: Adam.
        others: rules that can be drawn beside it, by name; of the settings each takes those that
            it knows.
    """
    import ipywidgets

    others = dict(others or {})
    controls = {
        "surface": ipywidgets.Dropdown(options=list(SURFACES), value="ravine"),
        "beside": ipywidgets.Dropdown(options=["nothing", *others], value="nothing"),
        "alpha": ipywidgets.FloatLogSlider(BASE["alpha"], min=-3, max=1, step=0.1),
        "beta_1": ipywidgets.FloatSlider(BASE["beta_1"], min=0, max=0.99, step=0.01),
        "beta_2": ipywidgets.SelectionSlider(
            options=(0.0, 0.5, 0.9, 0.95, 0.99, 0.995, 0.999, 0.9999), value=BASE["beta_2"]
        ),
        "epsilon": ipywidgets.FloatLogSlider(BASE["epsilon"], min=-10, max=3, step=0.5),
        "steps": ipywidgets.IntSlider(STEPS, min=10, max=500, step=10),
    }
    first = {name: control.value for name, control in controls.items()}
    again = ipywidgets.Button(description="reset")
    picture = ipywidgets.Image(format="png", layout={"width": "100%"})
    drawn: dict[str, Any] = {}

    def draw(_: object = None) -> None:
        values = {name: control.value for name, control in controls.items()}
        if values == drawn:
            return
        drawn.update(values)
        surface, steps = SURFACES[values.pop("surface")], values.pop("steps")
        name = values.pop("beside")
        with np.errstate(all="ignore"):  # a walk may fly away
            second = None
            if name in others:
                takes = inspect.signature(others[name]).parameters
                known = {key: value for key, value in values.items() if key in takes}
                second = run(others[name], surface, steps, **known)
            picture.value = png(explored(run(rule, surface, steps, **values), second, name))

    def reset(_: object) -> None:
        for name, control in controls.items():
            control.unobserve(draw, names="value")
            control.value = first[name]
            control.observe(draw, names="value")
        draw()

    for name, control in controls.items():
        control.description = KNOBS.get(name, (name,))[0].split()[-1]
        control.continuous_update = False
        control.observe(draw, names="value")
    again.on_click(reset)
    draw()
    left = ipywidgets.VBox([*controls.values(), again], layout={"flex": "0 0 320px"})
    return ipywidgets.HBox([left, ipywidgets.Box([picture], layout={"flex": "1 1 480px"})])


# --- the check ------------------------------------------------------------------------------------

CASES: tuple[tuple[str, Surface, dict[str, float]], ...] = (
    ("ravine", ravine(), {"alpha": 0.1}),
    ("ravine, 10,000 times as steep across", ravine(1e4), {"alpha": 0.3, "beta_2": 0.9999}),
    ("turned ravine", ravine(degrees=45), {"alpha": 0.1, "beta_1": 0.5, "beta_2": 0.9}),
    ("banana valley", banana(), {"alpha": 0.02, "beta_1": 0.0}),
    ("noisy bowl", bowl(noise=4.0), {"alpha": 0.01, "epsilon": 1e-3}),
    ("slope, seldom seen, noisy", slope(1, 1, 1, noise=(0, 1, 9), every=(1, 10, 100)), {}),
)


def compare(algorithm: Callable[..., Array], steps: int = 1000) -> pd.DataFrame:
    """Give an Adam and `adam_tf.Adam` the same gradients, in float64, and compare their ways.

    The gradients are those of the algorithm's own walk. (Two walks that choose their own way and
    never settle would drift apart by rounding alone.)

    Args:
        algorithm: gets the gradient (a function of the weights and the number of the step), the
            first weights, the number of steps and the settings; returns the weights, from the
            first on.
        steps: how many.

    Returns:
        A row for each of `CASES`, with the largest difference in any weight at any step, relative
        to the largest weight.
    """
    rows = []
    for name, surface, settings in CASES:
        seen: list[Array] = []

        def gradient(theta: Array, t: int, at: Surface = surface, to: list[Array] = seen) -> Array:
            to.append(at.gradient(theta, t))
            return to[-1]

        ours = algorithm(gradient, np.array(surface.start), steps, **settings)
        theirs = reference(np.array(seen), np.array(surface.start), **settings)
        rows.append(
            {
                "surface": name,
                "settings": ", ".join(f"{k} = {v:g}" for k, v in settings.items()) or "defaults",
                "steps": steps,
                "largest difference": np.abs(ours - theirs).max() / np.abs(theirs).max(),
            }
        )
    return pd.DataFrame(rows)


def reference(gradients: Array, start: Array, **settings: float) -> Array:
    """The way of `adam_tf.Adam` in float64, from its start on, when it is given these gradients."""
    runtime.configure()
    import keras

    from adam_tf import Adam

    alpha = settings.pop("alpha", 0.001)
    optimizer = Adam(alpha, **settings)  # type: ignore[arg-type]
    theta = keras.Variable(start, dtype="float64")
    if keras.backend.standardize_dtype(theta.value.dtype) != "float64":  # JAX, unless told so
        raise ValueError("the check needs float64; with JAX set JAX_ENABLE_X64=1")
    optimizer.build([theta])

    def step(gradient: Any) -> Any:
        optimizer.apply([gradient], [theta])
        return keras.ops.copy(theta.value)

    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        step = tf.function(step)
    given = (keras.ops.convert_to_tensor(gradient, "float64") for gradient in gradients)
    return np.array([start, *(keras.ops.convert_to_numpy(step(gradient)) for gradient in given)])


def provenance() -> pd.DataFrame:
    """What made the page."""
    runtime.configure()
    manifest = runtime.manifest()
    rows: dict[str, str] = {
        "runs": "no data, no records: every walk is made when the page is run",
        "noise": f"of step t from numpy.random.default_rng([{SEED}, t])",
        "checked against": f"adam_tf.Adam in float64, on the {manifest['backend']} backend",
        "Python": platform.python_version(),
        "NumPy": np.__version__,
        "Matplotlib": mpl.__version__,
        "Keras": manifest["keras"],
        **{n: manifest[n.lower()] for n in ("TensorFlow", "JAX") if n.lower() in manifest},
    }
    return pd.DataFrame(rows.items(), columns=["what", "value"])
