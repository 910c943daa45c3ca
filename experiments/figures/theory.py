"""The figures of the theory page: what was measured, row by row, in the style of `figures`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from experiments.analysis.results import Results
from experiments.analysis.statistics import interval
from experiments.figures.axes import legend_below, log_axis, show_hidden
from experiments.figures.style import COLOURS, footer, new_figure, styled
from experiments.theory.identities import NORMS

PAIRS = {
    "b1=0.9/b2=0.999": "#d55e00",
    "b1=0.9/b2=0.95": "#0173b2",
    "b1=0/b2=0.999": "#029e73",
}
GREY = "#555555"
# Of values in order: p, beta_2, a speed, a signal.
SHADES = ("#0173b2", "#029e73", "#de8f05", "#d55e00", "#cc78bc")


def _values(results: Results, arm: str, name: str) -> np.ndarray:
    """What the seeds of an arm recorded, (seeds, rows); empty before the first run."""
    return results.matrix("grid", arm, name).to_numpy(float)


def _line(
    axis: Axes,
    results: Results,
    arm: str,
    name: str,
    colour: str,
    label: str,
    style: str = "-",
    change: Callable[[np.ndarray], np.ndarray] = lambda y: y,
    x: str | None = "t",
    band: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray]] = interval,
) -> None:
    """Mean over seeds with a band, against the number of steps, or else against the row."""
    values = _values(results, arm, name)
    if not values.size:
        return
    places = _values(results, arm, x)[0] if x else np.arange(values.shape[1])
    mean, low, high = band(change(values))
    axis.plot(places, mean, style, color=colour, lw=2, label=label)
    if len(values) > 1:
        axis.fill_between(places, low, high, color=colour, alpha=0.2, lw=0)


def _range(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean over seeds and their range, where an interval would reach what no seed can have."""
    return values.mean(axis=0), values.min(axis=0), values.max(axis=0)


def _largest(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The largest seed and the range, for a statement that one seed can break."""
    return values.max(axis=0), values.min(axis=0), values.max(axis=0)


def _finish(axis: Axes, title: str, x: str, y: str, *, hidden: bool = True) -> None:
    axis.set(title=title, xlabel=x, ylabel=y)
    if x == "pass":
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    if hidden:
        show_hidden(axis)
    legend_below(axis)


def _name(pair: str) -> str:
    return pair.replace("b1=", "β₁ = ").replace("/b2=", ", β₂ = ")


def step_sizes(results: Results) -> Figure:
    """The longest step of each pass of real training over the paper's bound, and what shrinks."""
    with styled():
        figure, axes = new_figure(3, 3.9)
        longest, annealing, invariance = axes[0]
        for pair, colour in PAIRS.items():
            name, label = "largest_over_paper", _name(pair)
            _line(longest, results, pair, name, colour, label, x=None, band=_largest)
        longest.axhline(1, color=GREY, ls="--", lw=1, label="the paper's bound")
        longest.set(ylim=(0, None))
        _finish(longest, "longest step / the paper's bound", "pass", "ratio")
        pair, colour = next(iter(PAIRS.items()))
        for name, label, style in (
            ("mean_snr", "mean of |m̂| / √v̂", "-"),
            ("overall_snr", "root of Σ m̂² / Σ v̂", "--"),
            ("mean_step", "mean step / α", ":"),
        ):
            _line(annealing, results, pair, name, colour, label, style, x=None)
        annealing.set(ylim=(0, None))
        _finish(annealing, "signal to noise, default betas", "pass", "ratio")
        for name, label, colour, style in (
            ("difference_scaled_no_epsilon", "times 0.001, ε = 0", COLOURS["AdaGrad"], "-"),
            (
                "difference_rescaled_no_epsilon",
                "times random factors, ε = 0",
                COLOURS["AdaGrad"],
                ":",
            ),
            ("difference_scaled", "times 0.001, ε = 1e-8", COLOURS["Adam"], "-"),
            ("difference_rescaled", "times random factors, ε = 1e-8", COLOURS["Adam"], ":"),
        ):
            _line(invariance, results, pair, name, colour, label, style, x=None, band=_range)
        invariance.set(yscale="log")
        _finish(invariance, "rescaled gradients: change of θ", "pass", "relative difference")
        text = (
            "Logistic regression on MNIST. Longest step: the largest seed, by which it is judged. "
            "Bands left and right: the range of the seeds."
        )
        footer(figure, results, text)
        return figure


def signal_steps(results: Results) -> Figure:
    """The mean step along gradients of a known signal."""
    with styled():
        figure, axes = new_figure(1, 3.9)
        axis = axes[0][0]
        arms = [arm.name for arm in results.study.arms]
        for arm, colour in zip(arms, SHADES, strict=False):
            label = f"E[g] / √E[g²] = {arm.partition(' ')[2]}"
            _line(axis, results, arm, "mean_step", colour, label)
        axis.axhline(1, color=GREY, ls="--", lw=1, label="α")
        axis.set(xscale="log", ylim=(0, None))
        _finish(axis, "mean step, by the signal in the gradients", "step t", "|step| / α")
        footer(figure, results, "Independent Gaussian gradients.")
        return figure


def constructed_steps(results: Results) -> Figure:
    """The last step along the two constructed sequences of gradients."""
    with styled():
        figure, axes = new_figure(len(PAIRS), 3.7)
        for axis, (pair, colour) in zip(axes[0], PAIRS.items(), strict=True):
            _line(axis, results, pair, "growing_step", colour, "growing gradients")
            _line(axis, results, pair, "sparse_step", colour, "nothing but the last", ":")
            _line(axis, results, pair, "paper_bound", GREY, "the paper's bound", "--")
            axis.set(xscale="log", ylim=(0, None))
            _finish(axis, _name(pair), "steps t", "|last step| / α")
        footer(figure, results, "Each point is a sequence of its own; nothing is random.")
        return figure


def identities(results: Results) -> Figure:
    """How far apart the forms of a step that the paper calls equal are, and two limits."""
    arm = results.study.arms[0].name
    with styled():
        figure, axes = new_figure(2, 3.9)
        apart, limits = axes[0]
        for name, label, colour, style in (
            ("reordered", "reordered, ε̂ = ε √(1 - β₂ᵗ)", COLOURS["Adam"], "-"),
            ("reordered_constant", "reordered, ε̂ = ε", COLOURS["Adam"], ":"),
            ("adagrad", "AdaGrad, β₂ → 1", COLOURS["AdaGrad"], "-"),
        ):
            _line(apart, results, arm, name, colour, label, style, _positive)
        apart.set(xscale="log", yscale="log")
        _finish(apart, "steps that should be equal", "step t", "largest relative difference")
        for name, label, colour, style in (
            ("uncorrected", "without / with correction", COLOURS["Adam"], "-"),
            ("adamax_step", "AdaMax, longest |step| / α", COLOURS["AdaMax"], "-"),
            ("adamax_longest", "AdaMax, gradients made for it", COLOURS["AdaMax"], ":"),
        ):
            _line(limits, results, arm, name, colour, label, style)
        limits.set(xscale="log", yscale="log")
        _finish(limits, "steps without correction, and AdaMax's", "step t", "ratio")
        footer(figure, results, "Gaussian gradients of 100 coordinates.")
        return figure


def norms(results: Results) -> Figure:
    """How far the steps with an L^p norm are from AdaMax's."""
    arm = results.study.arms[0].name
    with styled():
        figure, axes = new_figure(1, 3.9)
        axis = axes[0][0]
        for p, colour in zip(NORMS, SHADES, strict=False):
            _line(axis, results, arm, f"p_{p}", colour, f"p = {p}")
        axis.set(xscale="log", yscale="log")
        _finish(
            axis, "Adam with an Lᵖ norm against AdaMax", "step t", "largest relative difference"
        )
        footer(figure, results, "Gaussian gradients of 100 coordinates.")
        return figure


def moment_bias(results: Results) -> Figure:
    """The second moment over its expectation, with and without correction."""
    paths = [arm.name for arm in results.study.arms if arm.name.startswith("path/")]
    with styled():
        figure, axes = new_figure(3, 3.9)
        titles = {"fixed": "parameters at rest", "moving": "parameters in training"}
        for arm, colour in zip(paths, SHADES, strict=False):
            label = f"β₂ = {arm.partition('=')[2]}"
            _line(axes[0][2], results, arm, "second_corrected", colour, label)
        axes[0][2].axhline(1, color="#999999", lw=0.8)
        axes[0][2].set(xscale="log")
        title = "in training, expected v, corrected"
        _finish(axes[0][2], title, "step t", "moment / expectation", hidden=False)
        for axis, (arm, title) in zip(axes[0], titles.items(), strict=False):
            for moment, colour, sign in (
                ("second", COLOURS["Adam"], "v"),
                ("first", COLOURS["AdaGrad"], "m"),
            ):
                _line(axis, results, arm, f"{moment}_corrected", colour, f"{sign}, corrected")
                _line(axis, results, arm, moment, colour, f"{sign}, as it is", ":")
                if arm == "fixed":
                    label = "1 - βᵗ" if moment == "second" else ""
                    _line(axis, results, arm, f"{moment}_expected", "black", label, ".")
            axis.axhline(1, color="#999999", lw=0.8)
            axis.set(xscale="log")
            _finish(axis, title, "step t", "moment / expectation", hidden=False)
        footer(figure, results, "Gradients of MNIST minibatches.")
        return figure


def regret(results: Results) -> Figure:
    """The average regret against the rate of the corollary, and the regret over the bound."""
    colours = dict(
        zip(
            [arm.name for arm in results.study.arms],
            ("#d55e00", "#0173b2", "#029e73", "#cc78bc"),
            strict=False,
        )
    )
    with styled():
        figure, axes = new_figure(2, 4.0)
        rate, bound = axes[0]
        ends = []
        for arm, colour in colours.items():
            # An interval may reach below 0, where there is no logarithm.
            for axis, name in ((rate, "average_regret"), (bound, "regret_over_bound")):
                _line(axis, results, arm, name, colour, arm, change=_positive, band=_range)
            values = _values(results, arm, "average_regret")
            if values.size:
                t = _values(results, arm, "t")[0]
                ends.append((t, float(np.nanmean(values[:, -1])), colour))
        for t, end, colour in ends:
            shown = t[t >= t[-1] / 100]
            rate.plot(shown, end * np.sqrt(t[-1] / shown), ":", color=colour, lw=1.2)
        if ends:
            rate.plot([], [], ":", color=GREY, label="slope of 1/√T")
            rate.set(xscale="log", yscale="log")
        _finish(rate, "average regret R(T) / T", "steps T", "in the units of the losses")
        bound.axhline(1, color=GREY, ls="--", lw=1, label="the bound")
        bound.set(xscale="log", yscale="log")
        _finish(bound, "regret / bound of Theorem 4.1", "steps T", "ratio")
        text = "θ* is the best point for all functions played. Bands: the range of the seeds."
        footer(figure, results, text)
        return figure


def _positive(values: np.ndarray) -> np.ndarray:
    """What a logarithmic axis can show."""
    return np.where(values > 0, values, np.nan)


def _seeds(
    axis: Axes, results: Results, arm: str, name: str, colour: str, label: str, style: str
) -> None:
    """A line for each seed, thin if they differ."""
    values = _values(results, arm, name)
    different = np.unique(values, axis=0)
    for i, row in enumerate(different):
        t = _values(results, arm, "t")[0]
        width = 1 if len(different) > 1 else 2
        axis.plot(t, row, style, color=colour, lw=width, label="" if i else label)


def counterexample(results: Results) -> Figure:
    """Where Adam and AMSGrad go on the functions of Reddi, Kale and Kumar, and their regret."""
    kinds = list(dict.fromkeys(arm.name.partition("/")[0] for arm in results.study.arms))
    methods = {"Adam": COLOURS["Adam"], "AMSGrad": "#0173b2", "Adam, corrected": "black"}
    there = [arm.name for arm in results.study.arms]
    with styled():
        figure, axes = new_figure(len(kinds), 3.4, rows=2)
        for (place, paid), kind in zip(axes.T, kinds, strict=True):
            for method, colour in methods.items():
                arm, style = f"{kind}/{method}", ":" if method == "Adam, corrected" else "-"
                if arm not in there:
                    continue
                _seeds(place, results, arm, "x", colour, method, style)
                # Where functions are drawn at random, regrets are judged without that noise.
                name = "expected_regret" if kind == "stochastic" else "average_regret"
                _seeds(paid, results, arm, name, colour, method, style)
            place.axhline(-1, color=GREY, ls="--", lw=1, label="the optimum")
            place.set(xscale="log", ylim=(-1.15, 1.15))
            paid.set(xscale="log", yscale="log")
            _finish(place, kind, "step t", "x")
            _finish(paid, "", "step t", "average regret")
            log_axis(paid)
        text = "Where seeds differ, each has a line. The regret takes random functions' mean slope."
        footer(figure, results, text)
        return figure


def bound_broken(results: Results, arm: str) -> Figure:
    """The regret on the counterexample and the bound that Theorem 4.1 gives for it."""
    with styled():
        figure, axes = new_figure(1, 3.8)
        axis = axes[0][0]
        t = _values(results, arm, "t")
        if t.size:
            regret = (_values(results, arm, "average_regret") * t).mean(axis=0)
            axis.plot(t[0], _positive(regret), color=COLOURS["Adam"], lw=2, label="regret R(T)")
            _line(axis, results, arm, "bound", GREY, "the bound of Theorem 4.1", "--")
        axis.set(xscale="log", yscale="log")
        _finish(axis, "the theorem's inequality", "steps T", "sum of losses")
        footer(figure, results, "f_t = 3x, -x, -x and again, with a wall in the place of clipping.")
        return figure


def optimizer_state(results: Results) -> Figure:
    """What each method keeps for a parameter of a large variable."""
    names = {
        "sgd": "SGD",
        "sgd_nesterov": "SGD with momentum",
        "adagrad": "AdaGrad",
        "rmsprop": "RMSProp",
        "adadelta": "AdaDelta",
        "adam": "Adam",
        "adamax": "AdaMax",
    }
    with styled():
        figure, axes = new_figure(1, 3.2)
        axis = axes[0][0]
        for place, (name, label) in enumerate(names.items()):
            values = _values(results, "methods", name)
            if values.size:
                colour = COLOURS.get(label, GREY)
                axis.barh(place, values[0, -1], color=colour, height=0.6)
                axis.text(
                    values[0, -1] + 0.1, place, f"{round(values[0, -1], 2):g}", va="center", size=9
                )
        axis.set_yticks(range(len(names)), list(names.values()))
        axis.invert_yaxis()
        axis.set(xlim=(0, 9.5))
        _finish(axis, "state of the optimizer", "bytes for each parameter", "")
        footer(figure, results, "A float32 variable; the parameter itself has 4 bytes.")
        return figure


def drift(results: Results) -> Figure:
    """The mean excess cost of each method where the optimum rests, walks and jumps."""
    titles = {"rest": "at rest", "walk": "walking", "jumps": "jumping"}
    shown = (
        ("sgd", "SGD", GREY, "-"),
        ("adagrad", "AdaGrad", COLOURS["AdaGrad"], "-"),
        ("rmsprop", "RMSProp", COLOURS["RMSProp"], "-"),
        ("adam", "Adam", COLOURS["Adam"], "-"),
        ("adam_sqrt", "Adam, α/√t", COLOURS["Adam"], ":"),
    )
    with styled():
        figure, axes = new_figure(2, 3.9, rows=2)
        for axis, (arm, title) in zip(axes.flat, titles.items(), strict=False):
            for name, label, colour, style in shown:
                _line(axis, results, arm, name, colour, label, style)
            axis.set(xscale="log", yscale="log")
            _finish(axis, f"optimum {title}, from zero", "steps T", "mean excess cost")
        _by_speed(axes[1][1], results)
        footer(figure, results, "Each method at its own best step size; constant but for α/√t.")
        return figure


def _by_speed(axis: Axes, results: Results) -> None:
    """Adam's cost over AdaGrad's after all steps, against the speed of the walk."""
    walks = [arm.name for arm in results.study.arms if arm.name.startswith("walk/")]
    shown = (
        (walks, COLOURS["Adam"], "o-", "walking, from the optimum"),
        (["walk"], GREY, "s", "walking, from zero"),
    )
    for arms, colour, style, label in shown:
        speeds = {arm: float(arm.partition("/x")[2] or 1) for arm in arms}
        values = {arm: _values(results, arm, "adam_over_adagrad") for arm in arms}
        ends = {speeds[arm]: interval(found[:, -1]) for arm, found in values.items() if found.size}
        if ends:
            mean, low, high = np.array(list(ends.values())).T
            axis.plot(list(ends), mean, style, color=colour, lw=2, label=label)
            axis.vlines(list(ends), low, high, color=colour, lw=1)
    jumps = _values(results, "jumps/settled", "adam_over_adagrad")
    if jumps.size:
        axis.axhline(jumps[:, -1].mean(), color=GREY, ls=":", label="jumping, from the optimum")
    axis.axhline(1, color="#999999", lw=0.8)
    axis.set(xscale="log", ylim=(0, None))
    axis.set_xticks([0.5, 1, 2, 4], ["0.5", "1", "2", "4"])
    axis.minorticks_off()
    title = "Adam / AdaGrad, after all steps"
    _finish(axis, title, "speed of the walk, times the first", "ratio of mean excess costs")


# The figure of each measurement.
FIGURES: dict[str, Callable[[Results], Figure]] = {
    "optimizer_state": optimizer_state,
    "drift": drift,
    "step_sizes": step_sizes,
    "signal_steps": signal_steps,
    "constructed_steps": constructed_steps,
    "identities": identities,
    "norms": norms,
    "moment_bias": moment_bias,
    "regret": regret,
    "counterexample": counterexample,
}
