"""What defaults cost on every problem, at a glance."""

from __future__ import annotations

import numpy as np
import seaborn as sns
from matplotlib.figure import Figure

from experiments.analysis.defaults import one_rate, regret_table
from experiments.analysis.results import Results
from experiments.figures.style import colour_of, new_figure, note, styled

SHOWN = 0.5  # of the way down; what is above has the darkest colour


def overview(*found: Results, protocol: str = "matched") -> Figure:
    """Problems by methods: the regret of each method's default, or of its best rate (`tuned`)."""
    arms = [arm.name for arm in found[0].study.arms]
    values = np.full((len(found), len(arms)), np.nan)
    labels = np.full(values.shape, "", object)
    for i, results in enumerate(found):
        table = regret_table(results)
        for _, row in table[table["protocol"] == protocol].iterrows():
            j = arms.index(row["arm"])
            values[i, j] = row["mean"]
            spread = "" if np.isnan(row["low"]) else f"\n[{row['low']:.0%}, {row['high']:.0%}]"
            labels[i, j] = f"{row['mean']:.0%}{spread}"
    with styled():
        figure, axes = new_figure(1, 0.9 + 0.7 * len(found))
        figure.set_figwidth(1.6 * len(arms) + 2.4)
        axis = axes[0, 0]
        sns.heatmap(
            np.clip(values, 0, SHOWN),
            vmin=0,
            vmax=SHOWN,
            cmap="rocket_r",
            annot=labels,
            fmt="",
            xticklabels=arms,
            yticklabels=[results.study.title.removeprefix("Defaults: ") for results in found],
            cbar_kws={"label": "regret, share of the way down"},
            linewidths=1,
            ax=axis,
        )
        settings = "its default" if protocol == "matched" else "its best rate"
        axis.set_title(f"How far each method ends from the best of all, at {settings}")
        if np.isnan(values).all():
            note(axis, "no runs yet")
        notes = "; ".join(f"{r.study.name}: {r.label}" for r in found)
        figure.supxlabel(notes, fontsize=6, color="#555555", x=0.01, ha="left", wrap=True)
        return figure


def rates(*found: Results) -> Figure:
    """The worst regret over all problems against the rate, a line for each method."""
    table = one_rate(found)
    with styled():
        figure, axes = new_figure(1)
        axis = axes[0, 0]
        for arm, line in table.groupby("arm"):
            finite = line[np.isfinite(line["worst"])]
            axis.plot(finite["rate"], finite["worst"], "o-", color=colour_of(str(arm)), label=arm)
        if len(table):
            axis.set(xscale="log", yscale="log")
            axis.legend(fontsize=8)
        else:
            note(axis, "no rate is on every grid yet")
        axis.set(xlabel="learning rate", ylabel="worst regret over all problems")
        return figure
