"""What tuning tried: the sensitivity to the step size, the best of k trials, a search by rungs."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from experiments.analysis import searched
from experiments.analysis.results import Results, paper_curve
from experiments.analysis.statistics import best_of
from experiments.figures.axes import (
    MARKERS,
    cost_range,
    legend_above,
    legend_below,
    log_axis,
    panel_title,
    rate_axis,
    variants_of,
)
from experiments.figures.grids import complete_passes
from experiments.figures.style import (
    CORRECTED,
    DASHED,
    PASSES,
    colour_of,
    footer,
    new_figure,
    note,
    note_alone,
    shades,
    styled,
)
from experiments.study import Arm, describe
from experiments.words import DECAYS, counted

ABREAST = 4  # panels at most: more would be too small to read
FEWEST_FOR_QUARTILES = 8  # trials; quartiles of fewer would mean nothing


def sensitivity(results: Results) -> Figure:
    """Training cost of the last pass against the learning rate, for every trial of the grid."""
    study, trials = results.study, results.trials("tuning")
    off_axis = False
    variants = {
        name: tuned
        for name, arms in variants_of(study).items()
        if (tuned := [a for a in arms if a.tune])
    }
    most = max(map(len, variants.values()))
    columns = most if most <= ABREAST else math.ceil(most / math.ceil(most / (ABREAST - 1)))
    parts = [
        (variant, arms, arms[start : start + columns])
        for variant, arms in variants.items()
        for start in range(0, len(arms), columns)
    ]
    with styled():
        figure, axes = new_figure(columns, 3.6 if len(parts) > 1 else 3.8, len(parts))
        for number, (row, (variant, arms, part)) in enumerate(zip(axes, parts, strict=True)):
            names = [arm.name for arm in arms]
            below = len(parts[number + 1][2]) if number + 1 < len(parts) else 0
            for axis in row[len(part) :]:
                axis.remove()
            here = trials[trials["arm"].isin(names)]
            low, top, log = cost_range(here)
            off_axis |= not here["final_cost"].between(low, top).all()
            for place, (axis, arm) in enumerate(zip(row, part, strict=False)):
                rows = here[here["arm"] == arm.name]
                _sensitivity(axis, results, arm, rows, (low, top))
                rate_axis(axis)
                axis.set(title=panel_title(study, variant, arm.method))
                axis.set(xlabel="" if place < below else "step size α")
                if len(variants) > 1:
                    kind = f"with {variant}" if variant else "no dropout"
                    axis.set(title=f"{arm.method}, {kind}")
                axis.set(ylim=(low, top * 1.01))
                if log:
                    log_axis(axis)
                if not len(rows):
                    note(axis, "no runs yet")
            row[0].set(ylabel="training cost, last pass (nats)")
        handles = {
            str(handle.get_label()): handle
            for axis in axes.flat
            for handle in axis.get_legend_handles_labels()[0]
        }
        size = study.profile(results.profile)
        seeds, passes = size.tuning_seeds, size.tuning_epochs or size.epochs
        after = counted(passes, "pass", "passes")
        text = f"Mean of {counted(seeds, 'tuning seed')} after {after}"
        text += "; costs off the axis are at its edge." if off_axis else "."
        if not results.plan.selected:
            runs = len(results.plan.runs("tuning"))
            done = runs - len(results.plan.missing(results.records, "tuning"))
            text += f" Tuning is not finished: {done} of {runs} runs."
        legend_above(figure, [_neutral(handle) for handle in handles.values()])
        footer(figure, results, text)
        return figure


def _neutral(handle: Line2D) -> Line2D:
    """A grey line in the legend that stands for lines of all colours."""
    copy = Line2D([], [], color="#555555", label=str(handle.get_label()))
    copy.update_from(handle)
    if handle.get_color() not in ("black", "#777777"):
        copy.set_color("#555555")
    return copy


def _sensitivity(
    axis: Axes, results: Results, arm: Arm, rows: pd.DataFrame, shown: tuple[float, float]
) -> None:
    if "decay" not in rows:
        rows = rows.assign(decay="constant")
    for decay, line in rows.groupby(rows["decay"].fillna("constant")):
        decay = str(decay)
        line = line.sort_values("learning_rate")
        axis.plot(
            line["learning_rate"],
            line["final_cost"].clip(*shown),
            color=colour_of(arm.method),
            marker=MARKERS[decay],
            ls="-" if decay == "constant" else (0, (4, 1.5)),
            lw=1.5,
            ms=5,
            label=DECAYS[decay],
        )
    chosen = results.plan.selected.get(arm.name)
    same = rows["trial"] == (describe(chosen) if chosen else "")
    if chosen and same.any():  # a search by rungs may select what is on no plain grid
        axis.plot(
            chosen["learning_rate"],
            rows[same]["final_cost"].clip(*shown).iloc[0],
            "*",
            color="black",
            ms=13,
            label="selected",
            zorder=5,
        )
    if arm.matched:
        label = "matched" if results.study.fitted else "default"
        axis.axvline(arm.matched["learning_rate"], color="#777777", ls=":", lw=1.5, label=label)


def best_of_trials(results: Results) -> Figure:
    """How good the best of k trials drawn at random from the grid is: what a little tuning buys."""
    study, table = results.study, results.best_of()
    variants, off_axis = variants_of(study), False
    with styled():
        figure, axes = new_figure(len(variants), 3.8)
        for axis, (variant, arms) in zip(axes[0], variants.items(), strict=True):
            names = [arm.name for arm in arms]
            here = table[table["arm"].isin(names)]
            lines = {arm.method: here[here["arm"] == arm.name] for arm in arms if len(here)}
            off_axis |= _best_of(axis, lines, {name: colour_of(name) for name in lines})
            if not lines:
                note(axis, "tuning is not finished")
                axis.set(xticks=[], yticks=[])
            axis.set(title=panel_title(study, variant, "the best of k trials"))
            axis.set(
                xlabel="trials k, drawn from the grid", ylabel="training cost, last pass (nats)"
            )
        few = len(table) and table.groupby("arm")["k"].max().min() < FEWEST_FOR_QUARTILES
        text = "Median of the best of k trials" + ("" if few else "; band: its quartiles")
        text += "; costs off the axis are at its edge." if off_axis else "."
        footer(figure, results, text)
        return figure


def best_of_settings(results: Results) -> Figure:
    """The same for a study that is a grid: settings drawn from all of one kind."""
    passes = complete_passes(results)
    table = results.grid(passes - 1)
    mean = table.groupby(["arm", "learning_rate"])["loss"].mean().reset_index()
    with styled():
        figure, axes = new_figure(2, 3.8)
        for axis, beta_1 in zip(axes[0], ("0", "0.9"), strict=True):
            lines = {}
            for kind, name in (("biascorr", "with bias correction"), ("nocorr", "without")):
                of_kind = mean["arm"].str.startswith(f"b1={beta_1}/")
                of_kind &= mean["arm"].str.endswith(kind)
                if of_kind.any():
                    lines[name] = best_of(mean["loss"][of_kind])
            colours = dict(
                zip(("with bias correction", "without"), CORRECTED.values(), strict=True)
            )
            _best_of(axis, lines, colours)
            axis.set(title=f"β₁ = {beta_1}: the best of k settings", xlabel="settings k")
            axis.set(ylabel=f"loss after {passes} passes (nats)")
        text = "Settings drawn from all β₂ and α. Median of the best; band: its quartiles."
        footer(figure, results, text)
        return figure


def _best_of(axis: Axes, lines: Mapping[str, pd.DataFrame], colours: Mapping[str, str]) -> bool:
    """Draw each method's line; whether a cost lies off the axis, and is drawn at its edge."""
    every = [line["high"] for line in lines.values() if len(line)]
    costs = pd.DataFrame({"final_cost": pd.concat(every) if every else []})
    low, top, log = cost_range(costs)
    ends = [float(line["median"].iloc[-1]) for line in lines.values() if len(line)]
    top = max([top, *(1.1 * end for end in ends if math.isfinite(end))])
    for name, line in lines.items():
        axis.plot(line["k"], line["median"].clip(low, top), color=colours[name], lw=2, label=name)
        low_edge, high_edge = line["low"].clip(low, top), line["high"].clip(low, top)
        if len(line) >= FEWEST_FOR_QUARTILES:
            axis.fill_between(line["k"], low_edge, high_edge, color=colours[name], alpha=0.18, lw=0)
    axis.set(ylim=(low, top))
    if log:
        log_axis(axis)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend_below(axis, columns=3)
    return any(not line["median"].between(low, top).all() for line in lines.values())


def search(results: Results) -> Figure:
    """The curves of a search's candidates over the paper's, one panel for each method.

    Those that trained to the last rung are in colour; those that were dropped before it are grey.
    """
    study, panel = results.study, results.study.panel
    if not (rungs := study.profile(results.profile).rungs):
        return note_alone(results, "The search is not part of this profile.")
    table, last = searched.candidates(results), max(rungs)
    arms = [arm for arm in study.arms if arm.search]
    columns = min(len(arms), ABREAST - 1)
    with styled():
        figure, axes = new_figure(columns, 4.6, math.ceil(len(arms) / columns))
        for axis in axes.flat[len(arms) :]:
            axis.remove()
        for axis, arm in zip(axes.flat, arms, strict=False):
            mine = table[(table["arm"] == arm.name) & (table["training_cost"] > 0)]
            for _, line in mine[mine["epochs"] < last].groupby(["trial", "seed"]):
                axis.plot(line["pass"], line["training_cost"], color="#b8b8b8", lw=0.8, label="_")
            whole = mine[mine["epochs"] == last]
            trials = whole["trial"].unique()
            for trial, shade in zip(
                trials, shades(colour_of(arm.method), len(trials)), strict=True
            ):
                lines = whole[whole["trial"] == trial]
                label = lines["settings"].iloc[0]
                for _, line in lines.groupby("seed"):
                    marker, every = MARKERS[line["decay"].iloc[0]], max(1, len(line) // 9)
                    style = {"marker": marker, "markevery": every, "ms": 4, "lw": 1.2}
                    axis.plot(line["pass"], line["training_cost"], c=shade, label=label, **style)
                    label = "_"
            if arm.plotted and not results.stand_in:
                paper = paper_curve(panel.name, arm.name)
                axis.plot(
                    paper.index, paper, c="black", ls=DASHED, lw=1.5, label="the paper's curve"
                )
            axis.set(title=arm.method, xlabel=PASSES, xlim=panel.x, ylim=panel.y)
            if panel.log:
                log_axis(axis)
            if not len(mine):
                note(axis, "no runs yet")
            legend_below(axis, columns=1)
        for row in axes:
            row[0].set(ylabel="training cost (nats)")
        tried = {(entry.arm, entry.trial) for entry, _ in results.recorded("search")}
        dropped = len(tried) - table[table["epochs"] == last].groupby(["arm", "trial"]).ngroups
        seeds = counted(study.profile(results.profile).tuning_seeds, "tuning seed")
        text = f"Of {seeds}; grey: {counted(dropped, 'candidate')} that ended earlier."
        footer(figure, results, text)
        return figure
