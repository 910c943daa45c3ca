"""What defaults cost on every problem, at a glance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from experiments.analysis.defaults import Case, at_defaults, one_rate
from experiments.figures.style import colour_of, new_figure, note, styled
from experiments.studies.defaults import RATES

SHOWN = 0.5  # of the way down; what is above has the darkest colour
DEFAULT = {method: settings["learning_rate"] for method, (_, settings) in RATES.items()}


def overview(cases: Sequence[Case]) -> Figure:
    """Problems by methods: the regret of each method at its default rate and at its best one."""
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
            tables = [at_defaults(case, DEFAULT, protocol).set_index("method") for case in cases]
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
            axis.tick_params(length=0)
            axis.tick_params(axis="x", rotation=0)
        axes[0, 1].set_yticks([])
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
    return f"{mean:.0%}" + ("" if np.isnan(low) else f"\n{low:.0%} to {high:.0%}")


def _footer(cases: Sequence[Case]) -> str:
    text = (
        "With an interval: mean over fresh seeds and its 95% interval. Without: the tuning trials "
        "of the paper's own problems, of one seed or three. Blank: not tried."
    )
    waiting = [case.title for case in cases if case.results.missing and case.compared]
    text += f" Not finished: {', '.join(waiting)}." if waiting else ""
    if any(case.results.stand_in for case in cases):
        text = f"STAND-IN DATA. {text}"
    return text


def rates(cases: Sequence[Case]) -> Figure:
    """The worst regret over all problems against the rate, a line for each method."""
    table = one_rate(cases)
    with styled():
        figure, axes = new_figure(1)
        axis = axes[0, 0]
        for method, line in table.groupby("method"):
            finite = line[np.isfinite(line["worst"]) & (line["worst"] > 0)]
            axis.plot(
                finite["rate"], finite["worst"], "o-", color=colour_of(str(method)), label=method
            )
        if len(table):
            axis.set(xscale="log", yscale="log")
            axis.legend(fontsize=8)
        else:
            note(axis, "no rate is on every grid yet")
        axis.set(xlabel="step size α", ylabel="worst regret over all problems")
        return figure
