"""What defaults cost on each problem, at a glance."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from experiments.analysis.defaults import Case, at_defaults, tuned_on_most
from experiments.figures.axes import legend_above
from experiments.figures.style import DASHED, new_figure, note, styled, watermark
from experiments.studies.defaults import RATES

SHOWN = 0.5  # of the way down; higher regrets have the darkest colour
MARKERS = "osD^vP*X<>dphH"  # one for each problem; those of the paper are grey


def overview(cases: Sequence[Case]) -> Figure:
    """Problems by methods: each method's regret at its default rate and at its best one."""
    with styled():
        figure, axes = new_figure(2, 1.6 + 0.52 * len(cases))
        figure.set_figwidth(14.5)
        for axis, (protocol, title) in zip(
            axes[0],
            (
                ("matched", "Every method at its default"),
                ("tuned", "Every method at its best rate"),
            ),
            strict=True,
        ):
            tables = [at_defaults(case, protocol).set_index("method") for case in cases]
            means = pd.DataFrame([table["mean"] for table in tables]).reindex(columns=list(RATES))
            means.index = pd.Index([case.title for case in cases])
            labels = [[_cell(table, method) for method in RATES] for table in tables]
            sns.heatmap(
                means.clip(0, SHOWN),
                vmin=0,
                vmax=SHOWN,
                cmap="rocket_r",
                annot=np.array(labels, object),
                fmt="",
                annot_kws={"fontsize": 9},
                linewidths=1,
                cbar=False,
                mask=means.isna(),
                ax=axis,
            )
            axis.set(title=title, xlabel="", ylabel="")
            axis.set_facecolor("#f1f1f1")
            axis.grid(False)
            for k, (above, below) in enumerate(itertools.pairwise(cases), start=1):
                if above.compared != below.compared:
                    axis.axhline(k, color="black", lw=1.2)
            axis.tick_params(length=0, rotation=0)
        axes[0, 1].set_yticks([])
        _watermark(figure, cases)
        bar = figure.colorbar(axes[0, 0].collections[0], ax=axes[0], aspect=30, pad=0.01)
        bar.set_ticks(
            [0, 0.1, 0.2, 0.3, 0.4, 0.5], labels=["0%", "10%", "20%", "30%", "40%", "50% or more"]
        )
        bar.set_label("regret, share of the way down")
        bar.outline.set_visible(False)
        figure.supxlabel(_footer(cases), fontsize=8, color="#555555", x=0.01, ha="left")
        return figure


def _cell(table: pd.DataFrame, method: str) -> str:
    if method not in table.index:
        return ""
    mean, low, high = table.loc[[method], ["mean", "low", "high"]].to_numpy(float)[0]
    if not np.isfinite(mean):
        return "diverged"
    half = f"{(high - low) / 2:.0%}"
    return f"{mean:.0%}" + ("" if half in ("0%", "nan%") else f"\n± {half}")


def _footer(cases: Sequence[Case]) -> str:
    new = [case for case in cases if case.compared]
    seeds = sorted({n for case in new for n in at_defaults(case)["n"]})
    text = "Above the line the tuning trials of the paper's problems, of one seed or three. Below "
    text += f"it means over {' or '.join(map(str, seeds))} fresh seeds, with the 95% interval "
    text += "where it is wider than the rounding. Grey: not tried."
    waiting = [case.title for case in new if case.results.missing]
    text += f" Not finished: {', '.join(waiting)}." if waiting else ""
    return text


def _watermark(figure: Figure, cases: Sequence[Case]) -> None:
    if any(case.results.stand_in for case in cases):
        watermark(figure, "STAND-IN DATA")


def rates(cases: Sequence[Case]) -> Figure:
    """Regret against the step size, a line per problem, for the methods tuned on most of them."""
    most = tuned_on_most(cases)
    methods = [name for name in RATES if name in most]
    new = itertools.cycle(sns.color_palette("dark"))
    colours = [next(new) if case.compared else "#999999" for case in cases]
    with styled():
        panels = max(len(methods), 1)
        columns = min(panels, 3)
        figure, axes = new_figure(columns, 3.6, rows=-(-panels // columns))
        for axis in axes.flat[panels:]:
            axis.remove()
        for axis, method in zip(axes.flat, methods, strict=False):
            for case, colour, marker in zip(cases, colours, MARKERS[: len(cases)], strict=True):
                tried = case.regrets.get(method, {})
                axis.plot(
                    list(tried),
                    [100 * min(value, 1.0) for value in tried.values()],
                    marker=marker,
                    color=colour,
                    ms=5,
                    label=case.title,
                )
            axis.axvline(RATES[method], color="black", ls=DASHED, lw=1, label="default")
            axis.set(title=method, xscale="log", ylim=(-3, 103), xlabel="step size α")
            axis.yaxis.set_major_formatter("{x:g}%")
        for row in axes:
            row[0].set_ylabel("regret (100% or more at the top)")
        if not methods:
            note(axes[0, 0], "no method is tuned on most problems yet")
        else:
            legend_above(figure, axes[0, 0].get_legend_handles_labels()[0])
        _watermark(figure, cases)
        return figure
