"""What only the page `00_adam_explained` needs: its pictures, its check and its provenance."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.figures.axes import legend_below
from experiments.figures.landscape import (
    COLOURS,
    PLACES,
    SOFT,
    draw_map,
    draw_path,
    label_end,
    note,
)
from experiments.figures.style import new_figure, styled
from experiments.figures.walks import (
    SEED,
    Array,
    Surface,
    Walk,
    banana,
    bowl,
    ravine,
    signal,
    slope,
)
from experiments.training import runtime

# --- pictures -------------------------------------------------------------------------------------


def ways(walks: Mapping[str, Walk]) -> Figure:
    """The path of each rule over its surface, a panel for each."""
    with styled():
        figure, axes = new_figure(len(walks), 3.7)
        for axis, (name, walk) in zip(axes[0], walks.items(), strict=True):
            draw_map(axis, walk.surface)
            draw_path(axis, walk, COLOURS[name])
            axis.set_title(f"{name}, α = {walk.settings['alpha']:g}")
            note(axis, f"distance left after {len(walk.step)} steps: {walk.distance[-1]:.2f}")
        return figure


def averaging(walk: Walk) -> Figure:
    """A noisy gradient and its average; how much each past gradient counts in it."""
    beta_1, shown = walk.settings["beta_1"], 150
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


def own_rates(walks: Mapping[str, Walk]) -> Figure:
    """The progress of weights that are seen often and seldom, and the rate that each one gets.

    Args:
        walks: by name of the rule; that of "adaptive scaling" shows its rates.
    """
    warm = 4000  # steps to leave out: by then the memory of the rule is filled
    with styled():
        figure, axes = new_figure(3, 3.7)
        for axis, (name, walk) in zip(axes[0], walks.items(), strict=False):
            way = walk.theta[warm:] - walk.theta[warm]
            way = 100 * way / way[-1, 0]
            for i, (every, colour) in enumerate(zip(walk.surface.every, PLACES, strict=True)):
                axis.plot(way[:, i], color=colour, lw=2, label=_seen(every), ds="steps-post")
                label_end(axis, len(way) - 1, way[-1, i], f"{way[-1, i]:.0f}%", colour)
            axis.set_title(name, color=COLOURS[name])
            axis.set(ylabel="way covered (% of the frequent weight's)", ylim=(-2, 104))
        rate = 1 / np.sqrt(walks["adaptive scaling"].memory["v"][warm:])
        rate /= rate[:, :1]
        for i, colour in enumerate(PLACES):
            axes[0, 2].plot(rate[:, i], color=colour, lw=2)
            mean = rate[:, i].mean()
            label_end(axes[0, 2], len(rate) - 1, mean, f"{mean:.1f}", colour)
        axes[0, 2].set(title="the rate that each weight gets", ylim=(0, 13))
        axes[0, 2].set_ylabel("$1/\\sqrt{v_t}$, relative to the frequent weight's")
        for axis in axes[0]:
            axis.set(xlabel="step", xlim=(0, len(rate) - 1))
        legend_below(axes[0, 0])
        return figure


def _seen(every: int) -> str:
    return "seen at every step" if every == 1 else f"seen every {every} steps"


def together(walks: Mapping[str, Walk]) -> Figure:
    """Several rules on one surface: their paths and how fast they descend."""
    with styled():
        figure, axes = new_figure(2, 4.1)
        seen, heights = axes[0]
        draw_map(seen, next(iter(walks.values())).surface)
        for name, walk in walks.items():
            ls = "--" if name == "both" else "-"
            draw_path(seen, walk, COLOURS[name], ls=ls, size=2.4)
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
            label_end(strays, len(walk.step), stray[-1], f"{stray[-1]:.1f} α", COLOURS["Adam"])
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


def signal_to_noise(walks: Mapping[str, Walk], names: Sequence[str]) -> Figure:
    """How far each weight goes on slopes of different noise, and the ratio that decides it.

    Args:
        walks: by name of the rule; that of "Adam" shows its ratios.
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
                    label_end(axis, len(way) - 1, way[-1, i], f"{way[-1, i]:.0f}", colour)
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
                label_end(ratio, len(measured), mean, f"mean\n{mean:.2f}" if noisy else "1", colour)
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
        label_end(way, len(t), last, f"{last:.2f}", COLOURS["Adam"])
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
    """Adam's path along a ravine and along the same ravine turned; the steps that rules need.

    Args:
        walks: one for each ravine.
        needed: the steps by stretch of the ravine (index) and rule (columns).
    """
    with styled():
        figure, axes = new_figure(3, 3.9)
        for axis, walk in zip(axes[0], walks, strict=False):
            draw_map(axis, walk.surface)
            draw_path(axis, walk, COLOURS["Adam"])
            axis.set_title(f"Adam, {walk.surface.name}")
            note(axis, f"distance left after {len(walk.step)} steps: {walk.distance[-1]:.2f}")
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
    """Give an Adam and `adam_tf.Adam` the same gradients, in float64, and compare their paths.

    The gradients are those of the algorithm's own walk. (Two walks that choose their own path and
    never settle would drift apart by rounding alone.)

    Args:
        algorithm: gets the gradient (a function of the weights and the number of the step), the
            first weights, the number of steps and the settings; returns the weights, from the
            first on.
        steps: the number of steps.

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
    """The path of `adam_tf.Adam` in float64 when it is given these gradients.

    Args:
        gradients: (steps, weights).
        start: the first weights, (weights,).
        **settings: of `adam_tf.Adam`; its learning rate is `alpha`.

    Returns:
        The weights, from the start on, (steps + 1, weights).

    Raises:
        ValueError: the backend does not compute in float64.
    """
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
