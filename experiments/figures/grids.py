"""The grid of settings of Figure 4, with and without bias correction."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from experiments.analysis.metrics import counterpart
from experiments.analysis.results import Results, paper_curve
from experiments.figures.axes import legend_above
from experiments.figures.style import CORRECTED, DASHED, footer, new_figure, note_alone, styled
from experiments.paper import curves as digitised
from experiments.study import Panel


def grid(results: Results, passes: int | None = None, metric: str = "training_cost") -> Figure:
    """Loss against the step size with and without bias correction, for every pair of betas.

    Args:
        results: of a study whose figure is a grid.
        passes: after how many passes to read the loss; by default the most that every setting of a
            seed has reached, or else the fewest.
        metric: the loss: "training_cost", as in the paper, or "held_out_cost".
    """
    study = results.study
    passes = passes or complete_passes(results)
    table = results.grid(passes - 1, metric)
    held = "held-out " if metric == "held_out_cost" else ""
    finite = table[np.isfinite(table["loss"].astype(float))]
    trained = {arm.rpartition("/")[0] for arm in finite["arm"]}
    every = dict.fromkeys(arm.name.rpartition("/")[0] for arm in study.arms)
    pairs = [pair for pair in every if pair in trained]
    panel = study.panel
    with styled():
        if not pairs:
            return note_alone(results, f"no run of {passes} passes is finished yet")
        columns = min(3, len(pairs))
        figure, axes = new_figure(columns, 3.3, rows=-(-len(pairs) // columns))
        for axis in axes.flat[len(pairs) :]:
            axis.set_visible(False)
        for axis, pair in zip(axes.flat, pairs, strict=False):
            for kind, colour in CORRECTED.items():
                curve = f"{passes}ep/{pair}/{kind}"
                if digitised.shows(panel.name, curve) and not held and not results.stand_in:
                    paper = paper_curve(panel.name, curve)
                    axis.plot(paper.index, paper, color=colour, ls=DASHED, lw=1.3, alpha=0.75)
                _grid_line(axis, panel, table, f"{pair}/{kind}", colour)
            beta_1, beta_2 = (text.partition("=")[2] for text in pair.split("/"))
            axis.set(title=f"β₁ = {beta_1}, β₂ = {beta_2}", xlim=panel.x, ylim=panel.y)
            axis.set(
                xlabel="log₁₀ of the step size α", ylabel=f"{held}loss after {passes} passes (nats)"
            )
        losses = table.groupby(["arm", "learning_rate"])["loss"].agg(["min", "max"]).astype(float)
        kinds = {"biascorr": "with bias correction", "nocorr": "without"}
        handles = [
            Line2D([], [], color=CORRECTED[kind], lw=2, marker="o", ms=4, label=text)
            for kind, text in kinds.items()
        ]
        if not held and not results.stand_in:
            handles.append(Line2D([], [], color="#555555", ls=DASHED, label="the paper's curve"))
        handles.append(Line2D([], [], color="#555555", ls="", marker="^", label="above the axis"))
        if (np.isfinite(losses["min"]) & ~np.isfinite(losses["max"])).any():
            handles.append(
                Line2D([], [], color="#555555", ls="", marker="+", label="some seeds diverged")
            )
        handles.append(Line2D([], [], color="#555555", ls="", marker="x", label="diverged"))
        legend_above(figure, handles)
        n = sorted(set(table.groupby(["arm", "learning_rate"])["seed"].count())) or [0]
        seeds = f"{n[0]} to {n[-1]}" if len(n) > 1 else f"{n[0]}"
        settings = len(table.groupby(["arm", "learning_rate"]))
        text = f"{settings} settings, mean of {seeds} seed{'s' * (seeds != '1')}, bars: range."
        if len(pairs) < len(every):
            text += f" Not trained yet: {len(every) - len(pairs)} pairs of betas."
        footer(figure, results, text)
        return figure


def complete_passes(results: Results) -> int:
    """The most passes for which the grid has every setting at least once; else the fewest."""
    size = results.study.profile(results.profile)
    lengths = sorted({*size.stages, size.epochs})
    settings = {(entry.arm, entry.trial) for entry in results.plan.entries if entry.role == "grid"}
    done = [
        length
        for length in lengths
        if len(results.grid(length - 1).drop_duplicates(["arm", "learning_rate"])) == len(settings)
    ]
    return done[-1] if done else lengths[0]


def _grid_line(axis: Axes, panel: Panel, table: pd.DataFrame, arm: str, colour: str) -> None:
    ours = table[table["arm"] == arm].groupby("learning_rate")["loss"].agg(["mean", "min", "max"])
    if not len(ours):
        return
    x, top = np.log10(ours.index.to_numpy(float)), panel.y[1]
    mean = ours["mean"].to_numpy()
    inside = mean <= top
    line = np.where(np.isfinite(mean), mean, np.nan)
    axis.plot(x, line, color=colour, lw=1.8)
    spread = np.abs(ours[["min", "max"]].to_numpy()[inside].T - mean[inside])
    axis.errorbar(x[inside], mean[inside], spread, color=colour, fmt="o", ms=4, elinewidth=1.2)
    edge = top - 0.025 * (top - panel.y[0]) * (1 if arm.endswith("biascorr") else 2.4)
    some = ~np.isfinite(mean) & np.isfinite(ours["min"].to_numpy())
    for marker, chosen in (
        ("^", np.isfinite(mean) & ~inside),
        ("+", some),
        ("x", ~np.isfinite(mean) & ~some),
    ):
        axis.plot(x[chosen], np.full(chosen.sum(), edge), marker, color=colour, ms=5)


def grid_difference(results: Results) -> Figure:
    """Loss with bias correction minus loss without, for every setting of the grid."""
    study = results.study
    passes = complete_passes(results)
    table = results.grid(passes - 1)
    losses = table.groupby(["arm", "learning_rate"])["loss"].mean()
    mean, loss = losses.unstack(), {key: float(value) for key, value in losses.items()}
    arms = [arm.name for arm in study.arms if arm.name.endswith("/biascorr")]
    arms = [arm for arm in arms if arm in mean.index and counterpart(arm) in mean.index]
    rows = {arm: mean.loc[arm] - mean.loc[counterpart(arm)] for arm in arms}
    with styled():
        figure, axes = new_figure(1, 3.6)
        figure.set_figwidth(9.5)
        axis = axes[0][0]
        if rows:
            values = pd.DataFrame(rows).T
            image = axis.imshow(
                values.clip(-20, 20), cmap="coolwarm", vmin=-20, vmax=20, aspect="auto"
            )
            figure.colorbar(image, ax=axis, label="nats")
            for (i, arm), (j, rate) in itertools.product(enumerate(rows), enumerate(values)):
                pair = (arm, rate), (counterpart(arm), rate)
                if all(each in loss for each in pair):
                    text = _difference(*(loss[each] for each in pair))
                    dark = abs(float(values.to_numpy()[i, j])) > 13
                    colour = "white" if dark else "black"
                    axis.text(j, i, text, ha="center", va="center", fontsize=7.5, color=colour)
            labels = [a.removesuffix("/biascorr").replace("/", ", ") for a in rows]
            axis.set_yticks(
                range(len(rows)), [text.replace("b1", "β₁").replace("b2", "β₂") for text in labels]
            )
            axis.set_xticks(range(values.shape[1]), [f"{rate:g}" for rate in values])
        axis.grid(visible=False)
        axis.set(title=f"Loss with minus without bias correction after {passes} passes")
        axis.set(xlabel="step size α", ylabel="")
        footer(figure, results, "Blue: better with the correction.")
        return figure


def _difference(corrected: float, other: float) -> str:
    """The difference of two losses, in as few words as possible."""
    if np.isfinite(corrected) and np.isfinite(other):
        return f"{corrected - other:+.1f}".replace("-0.0", "0.0").replace("+0.0", "0.0")
    if np.isfinite(other):
        return "with it\ndiverged"
    return "without\ndiverged" if np.isfinite(corrected) else "both\ndiverged"
