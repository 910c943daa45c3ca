"""The figures, drawn from `analysis` alone: one style, one colour per method, everywhere.

Every function takes `Results` and returns a Matplotlib figure. Solid lines and bands are ours (mean
over seeds and 95% interval), dashed lines are the paper's own curves, read off its figures.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from experiments.analysis import Results, interval, paper_curve
from experiments.claims import Claim, of
from experiments.study import PROTOCOLS, describe

# The colour-blind-safe palette of seaborn; for the methods of Figure 1, near the paper's colours.
COLOURS = {
    "Adam": "#d55e00",
    "AdaGrad": "#0173b2",
    "SGDNesterov": "#029e73",
    "RMSProp": "#cc78bc",
    "AdaDelta": "#de8f05",
    "AdaMax": "#56b4e9",
    "SFO": "#949494",
}
DPI = 160
MARKERS = {"constant": "o", "sqrt_epoch": "s", "sqrt_step": "D"}
DECAYS = {"constant": "constant", "sqrt_epoch": "α/√pass", "sqrt_step": "α/√step"}
TITLES = {
    "matched": "matched: settings fitted to the paper's curves",
    "tuned": "tuned: equal trials for every method",
}


@contextmanager
def _style() -> Iterator[None]:
    settings: dict[Any, Any] = {
        "figure.dpi": 110,
        "savefig.dpi": DPI,
        "font.family": "DejaVu Sans",
        "axes.titlesize": 11,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "legend.frameon": False,
        "figure.constrained_layout.use": True,
        "svg.hashsalt": "adam",
    }
    with mpl.rc_context(), sns.axes_style("whitegrid", {"grid.color": "#e6e6e6"}):
        sns.set_context("notebook", font_scale=0.85)
        mpl.rcParams.update(settings)
        yield


def _figure(columns: int, height: float = 4.2) -> tuple[Figure, list[Axes]]:
    figure = Figure(
        figsize=(4.9 * columns if columns > 2 else 5.4 * columns, height), layout="constrained"
    )
    axes = figure.subplots(1, columns, squeeze=False)[0]
    for axis in axes:
        sns.despine(ax=axis)
    return figure, list(axes)


def _footer(figure: Figure, results: Results, text: str) -> None:
    """State what was drawn; shout if the data are stand-ins."""
    figure.supxlabel(
        f"{text} {results.label[0].upper()}{results.label[1:]}.",
        fontsize=8,
        color="#555555",
        x=0.01,
        ha="left",
    )
    if results.stand_in:
        for axis in figure.axes:
            axis.text(
                0.5,
                0.5,
                "STAND-IN DATA\nnot MNIST"
                if results.study.data_set == "mnist"
                else "STAND-IN DATA",
                transform=axis.transAxes,
                fontsize=24,
                color="#b00020",
                alpha=0.35,
                ha="center",
                va="center",
                rotation=20,
                weight="bold",
                zorder=10,
            )


def curves(results: Results) -> Figure:
    """Training cost by pass under both protocols, over the paper's own curves."""
    study = results.study
    with _style():
        figure, axes = _figure(3)
        for axis, protocol in zip(axes, (*PROTOCOLS, "tuned"), strict=True):
            _curves(axis, results, protocol)
            axis.set(title=TITLES[protocol], xlim=study.axes[0], ylim=study.axes[1])
            axis.set(xlabel="passes over the training set", ylabel="training cost (nats)")
        axes[2].set(title="tuned, enlarged", ylim=_enlarged(results.curves("tuned")))
        handles = [Line2D([], [], color=COLOURS[a.name], lw=2, label=a.name) for a in study.arms]
        handles.append(Line2D([], [], color="#555555", ls=(0, (4, 2)), label="the paper's curve"))
        axes[0].legend(handles=handles, loc="upper right")
        n = study.profile(results.profile).seeds
        _footer(figure, results, f"Mean of {n} seeds with 95% interval.")
        return figure


def _enlarged(curves: pd.DataFrame) -> tuple[float, float]:
    """Limits that show where the curves end, from their lowest point to those after a tenth."""
    if not len(curves):
        return (0.0, 1.0)
    late = curves[curves["pass"] >= 0.1 * curves["pass"].max()]["mean"]
    low, high = late.min(), late[np.isfinite(late)].max()
    return low - 0.05 * (high - low), high + 0.05 * (high - low)


def _curves(axis: Axes, results: Results, protocol: str) -> None:
    table = results.curves(protocol)
    for arm in results.study.arms:
        colour = COLOURS[arm.name]
        paper = paper_curve(results.study.panel, arm.name)
        axis.plot(paper.index, paper, color=colour, ls=(0, (4, 2)), lw=1.3, alpha=0.75)
        ours = table[table["arm"] == arm.name] if len(table) else table
        if not len(ours):
            continue
        ours = ours.replace([np.inf, -np.inf], np.nan)
        sns.lineplot(ours, x="pass", y="mean", color=colour, lw=2, errorbar=None, ax=axis)
        axis.fill_between(ours["pass"], ours["low"], ours["high"], color=colour, alpha=0.25, lw=0)


def ratios(results: Results) -> Figure:
    """Training cost of one method over another, pass by pass: what the verdicts are about."""
    study = results.study
    claims = [claim for claim in of(study) if claim.metric == "cost_ratio"]
    with _style():
        figure, axes = _figure(2)
        for axis, protocol in zip(axes, PROTOCOLS, strict=True):
            axis.axhspan(1 / 1.05, 1.05, color="#eeeeee", zorder=0)
            axis.axhline(1, color="#999999", lw=0.8, zorder=1)
            for claim in claims:
                _ratio(axis, results, protocol, claim)
            axis.set(title=TITLES[protocol], xlim=study.axes[0], yscale="log", ylim=(0.42, 1.3))
            axis.set_yticks([0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.1, 1.2], minor=False)
            axis.set_yticks([], minor=True)
            axis.yaxis.set_major_formatter("{x:g}")
            axis.set(xlabel="passes over the training set", ylabel="ratio of training costs")
        handles: list[Any] = [
            Line2D([], [], color=_pair_colour(claim), lw=2, label=" / ".join(claim.arms))
            for claim in claims
        ]
        handles.append(Line2D([], [], color="#555555", ls=(0, (4, 2)), label="the paper's curves"))
        handles.append(Patch(color="#e6e6e6", label="similar: within 5%"))
        axes[1].legend(handles=handles, loc="center right", bbox_to_anchor=(1, 0.55))
        _footer(
            figure, results, "Below 1, the first method is ahead. Ratio at equal seed, 95% band."
        )
        return figure


def _pair_colour(claim: Claim) -> str:
    """Adam's comparisons take the other method's colour; the third is neutral."""
    others = [arm for arm in claim.arms if arm != "Adam"]
    return COLOURS[others[0]] if len(others) == 1 else "#444444"


def _ratio(axis: Axes, results: Results, protocol: str, claim: Claim) -> None:
    colour = _pair_colour(claim)
    a, b = (paper_curve(results.study.panel, arm) for arm in claim.arms)
    paper = (a / b).dropna()
    axis.plot(paper.index, paper, color=colour, ls=(0, (4, 2)), lw=1.2, alpha=0.75)
    over, under = (results.matrix(protocol, arm) for arm in claim.arms)
    if over.empty or under.empty:
        return
    with np.errstate(invalid="ignore"):
        values = np.log(over.to_numpy()) - np.log(under.to_numpy())
    mean, low, high = (np.exp(x) for x in interval(values))
    axis.plot(over.columns, mean, color=colour, lw=2)
    axis.fill_between(over.columns, low, high, color=colour, alpha=0.25, lw=0)


def sensitivity(results: Results) -> Figure:
    """Training cost of the last pass against the learning rate, for every trial of the grid."""
    study, trials = results.study, results.trials("tuning")
    with _style():
        figure, axes = _figure(len(study.arms), 3.8)
        finite = trials["final_cost"][np.isfinite(trials["final_cost"])] if len(trials) else None
        floor = float(finite.min()) if finite is not None and len(finite) else 0.2
        top = floor * 1.6
        for axis, arm in zip(axes, study.arms, strict=True):
            rows = trials[trials["arm"] == arm.name] if len(trials) else trials
            for decay, line in rows.groupby("decay") if len(rows) else ():
                decay = str(decay)
                line = line.sort_values("learning_rate")
                shown = line["final_cost"].clip(upper=top)
                axis.plot(
                    line["learning_rate"],
                    shown,
                    color=COLOURS[arm.name],
                    marker=MARKERS[decay],
                    ls="-" if decay == "constant" else (0, (4, 1.5)),
                    lw=1.5,
                    ms=5,
                    label=DECAYS[decay],
                )
            chosen = results.plan.selected.get(arm.name)
            if chosen:
                same = rows["trial"] == describe(chosen)
                axis.plot(
                    chosen["learning_rate"],
                    rows[same]["final_cost"].iloc[0],
                    "*",
                    color="black",
                    ms=13,
                    label="selected",
                    zorder=5,
                )
            axis.axvline(
                arm.matched["learning_rate"], color="#777777", ls=":", lw=1.5, label="matched"
            )
            axis.set(xscale="log", title=arm.name, ylim=(floor * 0.985, top * 1.01))
            axis.set(xlabel="learning rate α", ylabel="")
        axes[0].legend(loc="upper right", fontsize=8)
        axes[0].set(ylabel="training cost, last pass (nats)")
        seeds = study.profile(results.profile).tuning_seeds
        text = (
            f"Mean of {seeds} tuning seed{'s' * (seeds > 1)}; costs above the axis are at its top."
        )
        _footer(figure, results, text)
        return figure


def held_out(results: Results) -> Figure:
    """Held-out cost and error by pass under the tuned protocol: an addition to the paper."""
    study = results.study
    with _style():
        figure, axes = _figure(2)
        for axis, metric, label in (
            (axes[0], "held_out_cost", "held-out cost (nats)"),
            (axes[1], "held_out_accuracy", "held-out error (%)"),
        ):
            table = results.curves("tuned", metric).replace([np.inf, -np.inf], np.nan)
            for arm in study.arms:
                ours = table[table["arm"] == arm.name] if len(table) else table
                if not len(ours):
                    continue
                mean, low, high = (ours[name].to_numpy() for name in ("mean", "low", "high"))
                if metric == "held_out_accuracy":
                    mean, low, high = (100 * (1 - x) for x in (mean, high, low))
                axis.plot(ours["pass"], mean, color=COLOURS[arm.name], lw=2, label=arm.name)
                axis.fill_between(
                    ours["pass"], low, high, color=COLOURS[arm.name], alpha=0.25, lw=0
                )
            axis.set(xlabel="passes over the training set", ylabel=label, xlim=study.axes[0])
            if axis.lines:
                late = [np.asarray(line.get_ydata(), float)[1:] for line in axis.lines]
                low, high = np.nanmin(late), np.nanmax(late)
                axis.set(ylim=(low - 0.1 * (high - low), high + 0.3 * (high - low)))
        axes[0].set(title="tuned: cost on held-out examples")
        axes[1].set(title="tuned: error on held-out examples")
        axes[0].legend(loc="upper right")
        n = study.profile(results.profile).seeds
        _footer(figure, results, f"Not in the paper. Mean of {n} seeds, 95% band.")
        return figure


def png(figure: Figure, source: str | None = None) -> bytes:
    """The figure as PNG: the same figure gives the same bytes. `source` is kept as metadata."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None, "Source": source})
    return buffer.getvalue()
