"""The figures, drawn from `analysis` alone: one style, one colour per method, everywhere.

Every function takes `Results` and returns a Matplotlib figure. Solid lines and bands are ours (mean
over seeds and 95% interval), dashed lines are the paper's own curves, read off its figures.
"""

from __future__ import annotations

import io
import itertools
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, MaxNLocator

from experiments.analysis.ledger import of
from experiments.analysis.metrics import counterpart
from experiments.analysis.results import (
    AVERAGES,
    Results,
    of_equal_seeds,
    paper_curve,
)
from experiments.analysis.statistics import best_of, interval
from experiments.paper import curves as digitised
from experiments.study import PROTOCOLS, Arm, Panel, Study, describe

# The colour-blind-safe palette of seaborn; for the methods of Figure 1, near the paper's colours.
COLOURS = {
    "Adam": "#d55e00",
    "AdaGrad": "#0173b2",
    "SGDNesterov": "#029e73",
    "RMSProp": "#cc78bc",
    "AdaDelta": "#7b5530",
    "AdaMax": "#56b4e9",
    "SFO": "#949494",
}
CORRECTED = {"biascorr": "#d55e00", "nocorr": "#029e73"}  # red and green in the paper
DPI = 160
DASHED = (0, (4, 2))
MARKERS = {"constant": "o", "sqrt_epoch": "s", "sqrt_step": "D"}
DECAYS = {"constant": "constant", "sqrt_epoch": "α/√pass", "sqrt_step": "α/√step"}
TITLES = {
    "matched": "matched: settings fitted to the paper's curves",
    "tuned": "tuned: equal trials for every method",
}
DEFAULTS = "the paper's default settings"  # instead of matched ones, where it shows no curve
PASSES = "passes over the training set"


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


def _figure(columns: int, height: float = 4.2, rows: int = 1) -> tuple[Figure, np.ndarray]:
    """A figure of rows x columns axes."""
    width = {1: 6.0, 2: 5.4, 3: 4.9}.get(columns, 3.7)
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        sns.despine(ax=axis)
    return figure, axes


def _footer(figure: Figure, results: Results, text: str) -> None:
    """State what was drawn; shout if the data are stand-ins."""
    label = f"{results.label[0].upper()}{results.label[1:]}."
    lines = textwrap.fill(f"{text} {label}", int(14 * figure.get_figwidth()))
    figure.supxlabel(lines, fontsize=8, color="#555555", x=0.01, ha="left")
    if results.stand_in:
        for axis in figure.axes:
            axis.text(
                0.5,
                0.5,
                f"STAND-IN DATA\nnot {results.study.data_set.upper()}",
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


def _note(axis: Axes, text: str) -> None:
    """Say in the middle of a panel why it is empty; the paper's curves may be behind."""
    box = {"color": "white", "alpha": 0.85}
    axis.text(0.5, 0.5, text, ha="center", va="center", transform=axis.transAxes, bbox=box)


def _variants(study: Study) -> dict[str, list[Arm]]:
    """The arms of each variant of the problem; those that the paper plots come first."""
    variants: dict[str, list[Arm]] = {}
    for arm in sorted(study.arms, key=lambda arm: not arm.plotted):
        variants.setdefault(arm.variant, []).append(arm)
    return variants


def _named(study: Study, variant: str, title: str) -> str:
    """A panel's title, with the variant where there are several."""
    if len(_variants(study)) == 1:
        return title
    return f"{f'with {variant}' if variant else 'no dropout'}; {title.partition(':')[0]}"


def _protocols(results: Results) -> list[str]:
    """The protocols of which there are runs; both while there are none at all."""
    done = [
        protocol
        for protocol in PROTOCOLS
        if any(not results.matrix(protocol, arm.name).empty for arm in results.study.arms)
    ]
    return done or list(PROTOCOLS)


def _last_pass(results: Results, protocols: Iterable[str], arms: Iterable[Arm]) -> int:
    """How far the runs have come; -1 while there are none."""
    tables = [results.matrix(protocol, arm.name) for protocol in protocols for arm in arms]
    return max((int(table.notna().any().sum()) - 1 for table in tables), default=-1)


def _seeds(results: Results, *tables: pd.DataFrame) -> str:
    """How many seeds were averaged, and whether runs are still missing."""
    found = sorted({int(n) for table in tables if len(table) for n in table["n"]})
    if not found:
        return "No runs yet."
    n = f"{found[0]} to {found[-1]}" if len(found) > 1 else f"{found[0]}"
    text = f"Mean of {n} seed{'s' * (n != '1')}"
    return text + (" with 95% interval." if found[-1] > 1 else ".")


def _passes(results: Results, panel: Panel, arms: Sequence[Arm]) -> tuple[float, float]:
    """Limits of the axis of passes: the panel's, or fewer while no run has come near its end."""
    reached = _last_pass(results, PROTOCOLS, arms)
    first, last = panel.x
    return (first, reached if 0 < reached < 0.9 * last else last)


def _pass_axis(axis: Axes, results: Results, panel: Panel, arms: Sequence[Arm]) -> None:
    """Passes from left to right, whole ones."""
    axis.set(xlim=_passes(results, panel, arms), xlabel=PASSES)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))


def _costs(panel: Panel, axis: Axes) -> tuple[float, float]:
    """Limits of the axis of costs: the panel's, or closer around the lines of few passes."""
    low, high = panel.y
    last = axis.get_xlim()[1]
    if panel.log and last < panel.x[1]:
        lines = [np.asarray(line.get_xydata(), float) for line in axis.lines]
        shown = [cost for line in lines for x, cost in line if x <= last and cost > 0]
        if shown:
            low, high = 0.8 * min(shown), min(high, 1.25 * max(shown))
    return low, high


def _rest(results: Results) -> str:
    """What of the paper's figure the axes leave out."""
    panel, variants = results.study.panel, _variants(results.study)
    short = [
        variant
        for variant, arms in variants.items()
        if any(arm.plotted for arm in arms) and _passes(results, panel, arms)[1] < panel.x[1]
    ]
    if not short:
        return ""
    names = " and ".join(f"with {variant}" if variant else "without dropout" for variant in short)
    where = f" {names}" if len(short) < len(variants) else ""
    return f" The paper's goes on to pass {panel.x[1]:g}{where}."


def main(results: Results) -> Figure:
    """The study's figure of the paper, made anew."""
    study = results.study
    if study.measured:
        from experiments.figures import theory as theory_figures

        return theory_figures.FIGURES[study.problem](results)
    if any("minibatches" in arm.grid for arm in study.arms):
        return iteration_cost(results)
    if any(arm.grid for arm in study.arms):
        return grid(results)
    if any(panel.clock for panel in study.panels):
        return clocked(results)
    return curves(results)


def clocked(results: Results, protocol: str = "matched") -> Figure:
    """Training cost by pass and by wall time, over the paper's curves; then with noise, by pass.

    Time is in passes of the first arm, whose own curve is therefore the same in both panels.
    """
    study = results.study
    plotted = [arm for arm in study.arms if arm.plotted]
    others = [arm for arm in study.arms if not arm.plotted]
    table, seconds = results.curves(protocol), results.curves(protocol, "seconds")
    with _style():
        figure, axes = _figure(len(study.panels) + bool(others))
        for axis, panel in zip(axes[0], reversed(study.panels), strict=False):
            for arm in plotted:
                shown = table
                if panel.clock and len(table):
                    shown = table.assign(**{"pass": _clock(study, table, seconds)})
                _curve(axis, panel, arm, shown)
            title = TITLES[protocol] if protocol != "matched" else "matched"
            axis.set(title=f"{title.partition(':')[0]}: {panel.title}", yscale="log")
            axis.set(xlim=panel.x, ylim=panel.y, ylabel="training cost (nats)")
            axis.set(
                xlabel=f"wall time, in passes of {plotted[0].method}" if panel.clock else PASSES
            )
        axes[0][0].legend(handles=_legend(plotted), loc="lower left")
        for arm in others:
            _curve(axes[0][-1], study.panel, arm, table)
        if others:
            axis = axes[0][-1]
            axis.set(title="with dropout, by passes", xlim=study.panel.x, xlabel=PASSES)
            axis.set(ylabel="training cost (nats)")
            names = [arm.name for arm in others]
            ours = table[table["arm"].isin(names)] if len(table) else table
            if len(ours):
                axis.set(ylim=_around(ours["mean"]))
                _log_axis(axis)
            axis.legend(handles=_legend(others), loc="center right")
        _footer(figure, results, _seeds(results, table))
        return figure


def _clock(study: Study, table: pd.DataFrame, seconds: pd.DataFrame) -> pd.Series:
    """When each pass ended, in passes of the first arm; the first pass compiles and counts as 0."""
    keyed = seconds.set_index(["arm", "pass"])["mean"].where(seconds["pass"].to_numpy() > 0)
    unit = keyed.loc[study.arms[0].name].mean()
    ends = keyed.fillna(0).groupby("arm").cumsum() / unit
    places = pd.MultiIndex.from_frame(table[["arm", "pass"]])
    return pd.Series(ends.reindex(places).to_numpy(), index=table.index)


def iteration_cost(results: Results) -> Figure:
    """Time of an iteration of SFO over that of its gradient, and its memory, by minibatches."""
    study = results.study
    rows = []
    for arm in study.arms:
        found = [
            results.matrix("grid", arm.name, name).iloc[:, 1:].dropna()
            for name in ("seconds", "gradient_seconds", "optimizer_mb")
        ]
        for n in arm.grid["minibatches"]:
            if len(found[0]):
                whole, gradient, memory = (table.to_numpy(float).mean() for table in found)
                rows.append((n, whole / n, gradient / n, memory))
    with _style():
        figure, axes = _figure(3, 3.8)
        if rows:
            n, whole, gradient, memory = np.array(sorted(rows)).T
            axes[0][0].plot(
                n, 1000 * whole, "o-", color=COLOURS["SFO"], lw=2, label="iteration of SFO"
            )
            axes[0][0].plot(
                n, 1000 * gradient, "s--", color=COLOURS["Adam"], lw=2, label="its gradient alone"
            )
            axes[0][0].legend(fontsize=8)
            axes[0][1].plot(n, whole / gradient, "o-", color=COLOURS["SFO"], lw=2)
            axes[0][2].plot(n, memory / 1024, "o-", color=COLOURS["SFO"], lw=2, label="measured")
            line = memory[0] / 1024 * n / n[0]
            axes[0][2].plot(n, line, ":", color="#555555", label="in proportion")
            axes[0][2].legend(fontsize=8)
        axes[0][1].axhspan(5, 10, color="#e6e6e6", zorder=0)
        axes[0][1].text(
            0.98,
            7.1,
            "the paper: 5 to 10",
            ha="right",
            va="center",
            fontsize=8,
            transform=axes[0][1].get_yaxis_transform(),
            color="#555555",
        )
        labels = ("time (ms)", "iteration / its gradient", "memory of the state (GiB)")
        titles = ("time of an iteration", "how much slower", "memory")
        for axis, label, title in zip(axes[0], labels, titles, strict=True):
            axis.set(xlabel="minibatches", ylabel=label, title=title)
            if rows:
                axis.set_xticks(n, [f"{int(each)}" for each in n])
                axis.minorticks_off()
            axis.set(ylim=(0, None))
        _footer(figure, results, "Passes after the first.")
        return figure


def curves(results: Results, protocols: Sequence[str] = ()) -> Figure:
    """Training cost by pass over the paper's own curves, a row for each variant of the problem.

    Args:
        results: of a study with arms under the two protocols.
        protocols: which of them; by default both, and the tuned one enlarged, where the paper's
            figure has one panel, and `matched` where it has several.
    """
    study = results.study
    variants = _variants(study)
    single = len(study.panels) == 1
    in_paper = any(arm.plotted for arm in study.arms)
    shown = protocols or (PROTOCOLS if single else ("matched",))
    places = [(panel, protocol, False) for protocol in shown for panel in study.panels]
    if single and not protocols and not study.panel.log:
        places.append((study.panel, "tuned", True))
    with _style():
        figure, axes = _figure(len(places), rows=len(variants))
        tables = {protocol: results.curves(protocol) for protocol in shown}
        for row, (variant, arms) in zip(axes, variants.items(), strict=True):
            for axis, (panel, protocol, enlarge) in zip(row, places, strict=True):
                table = tables[protocol]
                # A variant that the paper's figure leaves out has an axis of its own already.
                left_out = in_paper and not any(arm.plotted for arm in arms)
                if enlarge and left_out:
                    axis.set_visible(False)
                    continue
                for arm in arms:
                    _curve(axis, panel, arm, table)
                title = panel.title or TITLES[protocol]
                if protocol == "matched" and not study.fitted:
                    title = DEFAULTS
                title = f"{protocol}, {title}" if panel.title else title
                _pass_axis(axis, results, panel, arms)
                axis.set(title=_named(study, variant, title), ylim=_costs(panel, axis))
                axis.set(ylabel="training cost (nats)")
                decades = axis.get_ylim()[1] > 20 * axis.get_ylim()[0]
                if panel.log and in_paper and decades:  # with powers of ten, as the paper's axis
                    axis.set_yscale("log")
                elif panel.log:
                    _log_axis(axis)
                names = [arm.name for arm in arms]
                ours = table[table["arm"].isin(names)] if len(table) else table
                if enlarge:
                    axis.set(title=_named(study, variant, "tuned, enlarged"), ylim=_enlarged(ours))
                elif left_out and len(ours):
                    axis.set(ylim=_around(ours["mean"]))
                    _log_axis(axis)
                if not len(ours):
                    _note(axis, "no runs yet")
        _legend_above(figure, _legend(next(iter(variants.values()))))
        _footer(figure, results, _seeds(results, *tables.values()) + _rest(results))
        return figure


def _legend(arms: Sequence[Arm]) -> list[Line2D]:
    handles = [Line2D([], [], color=COLOURS[a.method], lw=2, label=a.method) for a in arms]
    if any(arm.plotted for arm in arms):
        handles.append(Line2D([], [], color="#555555", ls=DASHED, label="the paper's curve"))
    return handles


def _legend_above(figure: Figure, handles: Sequence[Artist]) -> None:
    """One legend for all panels, where it hides no line."""
    columns = int(figure.get_figwidth() / 1.8)  # no entry is as wide as 1.8 inches
    figure.legend(handles=handles, loc="outside upper center", ncols=columns)


def _enlarged(curves: pd.DataFrame) -> tuple[float, float]:
    """Limits that show where the curves end, from their lowest point to those after a tenth."""
    if not len(curves):
        return (0.0, 1.0)
    late = curves[curves["pass"] >= 0.1 * curves["pass"].max()]["mean"]
    low, high = late.min(), late[np.isfinite(late)].max()
    return low - 0.05 * (high - low), high + 0.05 * (high - low)


def _around(values: pd.Series) -> tuple[float, float]:
    """Limits of a logarithmic axis around the finite positive values."""
    kept = values[np.isfinite(values) & (values > 0)]
    return (0.8 * kept.min(), 1.25 * kept.max()) if len(kept) else (0.1, 1.0)


def _curve(axis: Axes, panel: Panel, arm: Arm, table: pd.DataFrame) -> None:
    colour = COLOURS[arm.method]
    if arm.plotted:
        paper = paper_curve(panel.name, arm.name)
        axis.plot(paper.index, paper, color=colour, ls=DASHED, lw=1.3, alpha=0.75)
    ours = table[table["arm"] == arm.name] if len(table) else table
    if not len(ours):
        return
    ours = ours.replace([np.inf, -np.inf], np.nan)
    axis.plot(ours["pass"], ours["mean"], color=colour, lw=2)
    axis.fill_between(ours["pass"], ours["low"], ours["high"], color=colour, alpha=0.25, lw=0)


def averages(results: Results, protocol: str = "matched") -> Figure:
    """Costs of the last parameters and of their two averages, by pass (Section 7.2)."""
    study = results.study
    styles = {"last": ("-", 1.2), "exponential": ("-", 2.6), "mean": (":", 2.0)}
    titles = {"training_cost": "training examples", "held_out_cost": "held-out examples"}
    with _style():
        figure, axes = _figure(2)
        tables = []
        for axis, (metric, title) in zip(axes[0], titles.items(), strict=True):
            shown = []
            for which, (style, width) in styles.items():
                table = results.curves(protocol, f"{which} {metric}")
                table = table.replace([np.inf, -np.inf], np.nan)
                tables.append(table)
                for arm in study.arms:
                    ours = table[table["arm"] == arm.name] if len(table) else table
                    if not len(ours):
                        continue
                    colour = COLOURS[arm.method]
                    faint = 0.55 if which == "last" else 1.0
                    axis.plot(
                        ours["pass"], ours["mean"], style, color=colour, lw=width, alpha=faint
                    )
                    axis.fill_between(
                        ours["pass"], ours["low"], ours["high"], color=colour, alpha=0.15, lw=0
                    )
                    shown.append(ours[["pass", "mean"]])
            if shown:
                low, high = _enlarged(pd.concat(shown))
                axis.set(ylim=(low, high))
            name = DEFAULTS if protocol == "matched" and not study.fitted else protocol
            axis.set(title=f"{title}; {name}", xlabel=PASSES, ylabel="cost without noise (nats)")
        handles = [
            Line2D([], [], color=COLOURS[a.method], lw=2, label=a.method) for a in study.arms
        ]
        words = {"last": "last step", **{k: v.partition(",")[0] for k, v in AVERAGES.items()}}
        handles += [
            Line2D([], [], color="#555555", ls=style, lw=width, label=words[which])
            for which, (style, width) in styles.items()
        ]
        axes[0][0].legend(handles=handles, loc="upper right", fontsize=8)
        _footer(figure, results, _seeds(results, *tables))
        return figure


def ratios(results: Results) -> Figure:
    """Training cost of one method over another, pass by pass: what the verdicts are about."""
    study = results.study
    compared = _pairs(study)
    pairs = [pair for here in compared.values() for pair in here]
    variants = {name: arms for name, arms in _variants(study).items() if name in compared}
    shown = _protocols(results)
    with _style():
        figure, axes = _figure(len(shown), rows=len(variants))
        for row, (variant, arms) in zip(axes, variants.items(), strict=True):
            here = compared[variant]
            for axis, protocol in zip(row, shown, strict=True):
                _pass_axis(axis, results, study.panel, arms)
                axis.axhspan(1 / 1.05, 1.05, color="#eeeeee", zorder=0)
                axis.axhline(1, color="#999999", lw=0.8, zorder=1)
                drawn = [
                    values
                    for pair in here
                    for values in _ratio(axis, results, protocol, pair, _pair_colour(pair, pairs))
                ]
                axis.set(title=_named(study, variant, TITLES[protocol]), yscale="log")
                axis.set(ylabel="ratio of training costs", ylim=_ratio_limits(drawn))
                if all(results.matrix(protocol, arm).empty for pair in here for arm in pair):
                    _note(axis, "no runs yet")
                axis.yaxis.set_major_formatter("{x:g}")
                axis.yaxis.set_minor_locator(LogLocator(subs=(1.2, 1.5, *range(2, 10))))
                axis.yaxis.set_minor_formatter("{x:g}")
                if axis.get_ylim()[0] < 0.1:
                    axis.yaxis.set_minor_formatter("")
            handles: list[Any] = [
                Line2D(
                    [], [], color=_pair_colour(pair, pairs), lw=2, label=_named_ratio(study, pair)
                )
                for pair in here
            ]
            if any(study.arm(arm).plotted for pair in here for arm in pair):
                handles.append(Line2D([], [], color="#555555", ls=DASHED, label="the paper's"))
            handles.append(Patch(color="#e6e6e6", label="similar: within 5%"))
            # Lines may be anywhere between the limits, so the legend stands beside them.
            row[-1].legend(handles=handles, loc="upper left", bbox_to_anchor=(1, 1), fontsize=8)
        text = "Below 1, the first method is ahead. Ratio at equal seed, 95% band."
        _footer(figure, results, text + _rest(results))
        return figure


def _pairs(study: Study) -> dict[str, list[tuple[str, str]]]:
    """The arms whose ratio is shown, by variant; each pair once, in the order of the claims.

    What claims compare in one variant is shown in every variant in which they compare something.
    """
    claimed = [claim.arms for claim in of(study) if claim.metric in ("cost_ratio", "final_ratio")]
    methods = {pair: tuple(study.arm(arm).method for arm in pair) for pair in claimed}
    order = dict.fromkeys(map(frozenset, methods.values()))
    found: dict[str, list[tuple[str, str]]] = {}
    for variant in dict.fromkeys(study.arm(pair[0]).variant for pair in claimed):
        arms = {arm.method: arm.name for arm in study.arms if arm.variant == variant}
        pairs: dict[frozenset[str], tuple[str, str]] = {}
        # Which of the two is divided by the other is as in the variant's own claims.
        for pair in sorted(claimed, key=lambda pair: study.arm(pair[0]).variant != variant):
            over, under = methods[pair]
            if over in arms and under in arms:
                pairs.setdefault(frozenset((over, under)), (arms[over], arms[under]))
        found[variant] = [pairs[key] for key in order if key in pairs]
    return found


def _named_ratio(study: Study, pair: tuple[str, str]) -> str:
    """A ratio's name; the panel's title has the variant."""
    return " / ".join(study.arm(arm).method for arm in pair)


def _ratio_limits(drawn: Sequence[np.ndarray]) -> tuple[float, float]:
    """Limits around the lines after their first tenth, and around the band of 5%."""
    late = [values[len(values) // 10 :] for values in drawn]
    kept = np.concatenate(late) if late else np.array([])
    kept = kept[np.isfinite(kept) & (kept > 0)]
    low, high = (kept.min(), kept.max()) if len(kept) else (0.9, 1.1)
    return min(low, 0.93) * 0.96, max(high, 1.07) * 1.04


def _pair_colour(pair: tuple[str, ...], pairs: Sequence[tuple[str, ...]]) -> str:
    """Adam's comparisons take the other method's colour; the others are neutral."""
    methods = tuple(arm.partition("+")[0] for arm in pair)
    if "Adam" in methods:
        return COLOURS[next(method for method in methods if method != "Adam")]
    every = [tuple(arm.partition("+")[0] for arm in each) for each in pairs]
    neutral = list(dict.fromkeys(each for each in every if "Adam" not in each))
    return ("#444444", "#8c613c")[neutral.index(methods) % 2]


def _ratio(
    axis: Axes, results: Results, protocol: str, pair: tuple[str, ...], colour: str
) -> Iterator[np.ndarray]:
    """Draw our ratio and the paper's; yields the values that the axis of passes shows."""
    if all(results.study.arm(arm).plotted for arm in pair):
        a, b = (paper_curve(results.study.panel.name, arm) for arm in pair)
        paper = (a / b).dropna()
        axis.plot(paper.index, paper, color=colour, ls=DASHED, lw=1.2, alpha=0.75)
        yield paper[paper.index <= axis.get_xlim()[1]].to_numpy()
    over, under = (results.matrix(protocol, arm) for arm in pair)
    seeds = over.index.intersection(under.index)
    parts = []
    for block in of_equal_seeds(over.loc[seeds].where(under.loc[seeds].notna())):
        ratio = block / under.loc[block.index, block.columns]
        # Diverged, or exactly 0 in float32.
        ratio = ratio.where((ratio > 0) & (ratio < np.inf)).dropna(axis="columns")
        if not ratio.empty:
            logs = interval(np.log(ratio.to_numpy()))
            parts.append(pd.DataFrame(np.exp(logs).T, ratio.columns, ["mean", "low", "high"]))
    if not parts:
        return
    line = pd.concat(parts).sort_index()
    axis.plot(line.index, line["mean"], color=colour, lw=2)
    axis.fill_between(line.index, line["low"], line["high"], color=colour, alpha=0.25, lw=0)
    yield line["mean"].to_numpy()


def sensitivity(results: Results) -> Figure:
    """Training cost of the last pass against the learning rate, for every trial of the grid."""
    study, trials = results.study, results.trials("tuning")
    off_axis = False
    variants = {
        name: tuned
        for name, arms in _variants(study).items()
        if (tuned := [a for a in arms if a.tune])
    }
    with _style():
        figure, axes = _figure(
            max(map(len, variants.values())), 3.6 if len(variants) > 1 else 3.8, len(variants)
        )
        for row, (variant, arms) in zip(axes, variants.items(), strict=True):
            names = [arm.name for arm in arms]
            here = trials[trials["arm"].isin(names)] if len(trials) else trials
            low, top, log = _cost_range(here)
            if len(here):
                off_axis |= not here["final_cost"].between(low, top).all()
            for axis, arm in zip(row, arms, strict=True):
                rows = here[here["arm"] == arm.name] if len(here) else here
                _sensitivity(axis, results, arm, rows, (low, top))
                _rate_axis(axis)
                axis.set(title=_named(study, variant, arm.method), xlabel="")
                if len(variants) > 1:
                    axis.set(title=f"{arm.method}, {'with' if variant else 'no'} dropout")
                axis.set(ylim=(low, top * 1.01))
                if log:
                    _log_axis(axis)
                if not len(rows):
                    _note(axis, "no runs yet")
            row[0].legend(loc="best", fontsize=8)
            row[0].set(ylabel="training cost, last pass (nats)")
        for axis in axes[-1]:
            axis.set(xlabel="learning rate α")
        size = study.profile(results.profile)
        seeds, passes = size.tuning_seeds, size.tuning_epochs or size.epochs
        text = f"Mean of {seeds} tuning seed{'s' * (seeds > 1)} after {passes} passes"
        text += "; costs off the axis are at its edge." if off_axis else "."
        if not results.plan.selected:
            runs = len(results.plan.runs("tuning"))
            done = runs - len(results.plan.missing(results.records, "tuning"))
            text += f" Tuning is not finished: {done} of {runs} runs."
        _footer(figure, results, text)
        return figure


def _cost_range(trials: pd.DataFrame) -> tuple[float, float, bool]:
    """Limits for final costs, and whether they span so much that the axis is logarithmic."""
    kept = trials["final_cost"] if len(trials) else pd.Series(dtype=float)
    kept = kept[np.isfinite(kept)]
    if not len(kept):
        return 0.0, 1.0, False
    low, high = float(kept.min()), float(kept.max())
    if high < 5 * low:
        margin = 0.05 * (high - low) + 0.001 * low
        return low - margin, high + margin, False
    if kept.median() < 1.6 * low:
        return low * 0.985, low * 1.6, False
    top = min(high, 3 * float(kept.median())) * 1.1
    return max(low * 0.85, top * 1e-5), top, True


def _log_axis(axis: Axes) -> None:
    """A logarithmic cost axis with plain numbers, few enough to read."""
    low, high = axis.get_ylim()
    axis.set_yscale("log")
    axis.yaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_minor_formatter("{x:g}" if high < 20 * low else "")


def _rate_axis(axis: Axes) -> None:
    """A logarithmic axis of learning rates; of two decades or less with plain numbers."""
    axis.set(xscale="log")
    axis.xaxis.set_minor_formatter("")
    low, high = axis.get_xlim()
    if high < 200 * low:
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
        axis.xaxis.set_major_formatter("{x:g}")


def _sensitivity(
    axis: Axes, results: Results, arm: Arm, rows: pd.DataFrame, shown: tuple[float, float]
) -> None:
    if len(rows) and "decay" not in rows:
        rows = rows.assign(decay="constant")
    for decay, line in rows.groupby(rows["decay"].fillna("constant")) if len(rows) else ():
        decay = str(decay)
        line = line.sort_values("learning_rate")
        axis.plot(
            line["learning_rate"],
            line["final_cost"].clip(*shown),
            color=COLOURS[arm.method],
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
            rows[same]["final_cost"].clip(*shown).iloc[0],
            "*",
            color="black",
            ms=13,
            label="selected",
            zorder=5,
        )
    axis.axvline(arm.matched["learning_rate"], color="#777777", ls=":", lw=1.5, label="matched")


def best_of_trials(results: Results) -> Figure:
    """How good the best of k trials drawn at random from the grid is: what a little tuning buys."""
    study, table = results.study, results.best_of()
    variants = _variants(study)
    with _style():
        figure, axes = _figure(len(variants), 3.8)
        for axis, (variant, arms) in zip(axes[0], variants.items(), strict=True):
            names = [arm.name for arm in arms]
            here = table[table["arm"].isin(names)] if len(table) else table
            lines = {arm.method: here[here["arm"] == arm.name] for arm in arms if len(here)}
            _best_of(axis, lines, COLOURS)
            if not lines:
                _note(axis, "tuning is not finished")
                axis.set(xticks=[], yticks=[])
            axis.set(title=_named(study, variant, "the best of k trials"))
            axis.set(
                xlabel="trials k, drawn from the grid", ylabel="training cost, last pass (nats)"
            )
        _footer(figure, results, "Median of the best of k trials; band: its quartiles.")
        return figure


def best_of_settings(results: Results, passes: int | None = None) -> Figure:
    """The same for a study that is a grid: settings drawn from all of one kind."""
    passes = passes or _complete_passes(results)
    table = results.grid(passes - 1)
    mean = table.groupby(["arm", "learning_rate"])["loss"].mean().reset_index()
    with _style():
        figure, axes = _figure(2, 3.8)
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
        _footer(figure, results, text)
        return figure


def _best_of(axis: Axes, lines: Mapping[str, pd.DataFrame], colours: Mapping[str, str]) -> None:
    every = [line["high"] for line in lines.values() if len(line)]
    costs = pd.DataFrame({"final_cost": pd.concat(every) if every else []})
    low, top, log = _cost_range(costs)
    for name, line in lines.items():
        axis.plot(line["k"], line["median"].clip(low, top), color=colours[name], lw=2, label=name)
        low_edge, high_edge = line["low"].clip(low, top), line["high"].clip(low, top)
        axis.fill_between(line["k"], low_edge, high_edge, color=colours[name], alpha=0.18, lw=0)
    axis.set(ylim=(low, top))
    if log:
        _log_axis(axis)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    if lines:
        axis.legend(loc="upper right", fontsize=8)


def held_out(results: Results) -> Figure:
    """Held-out cost and error by pass: an addition to the paper.

    With the settings whose runs have come further, over all methods; with tuned ones if both have
    come as far.
    """
    study = results.study

    def passes(protocol: str) -> int:
        return sum(_last_pass(results, [protocol], [arm]) for arm in study.arms)

    protocol = max(reversed(_protocols(results)), key=passes)
    variants = _variants(study)
    metrics = (
        ("held_out_cost", "held-out cost (nats)", "cost on held-out examples"),
        ("held_out_accuracy", "held-out error (%)", "error on held-out examples"),
    )
    with _style():
        figure, axes = _figure(2, rows=len(variants))
        tables = []
        for column, (metric, label, title) in enumerate(metrics):
            table = results.curves(protocol, metric).replace([np.inf, -np.inf], np.nan)
            tables.append(table)
            for row, (variant, arms) in zip(axes, variants.items(), strict=True):
                axis = row[column]
                for arm in arms:
                    ours = table[table["arm"] == arm.name] if len(table) else table
                    if not len(ours):
                        continue
                    mean, low, high = (ours[name].to_numpy() for name in ("mean", "low", "high"))
                    if metric == "held_out_accuracy":
                        mean, low, high = (100 * (1 - x) for x in (mean, high, low))
                    colour = COLOURS[arm.method]
                    axis.plot(ours["pass"], mean, color=colour, lw=2, label=arm.method)
                    axis.fill_between(ours["pass"], low, high, color=colour, alpha=0.25, lw=0)
                _pass_axis(axis, results, study.panel, arms)
                axis.set(ylabel=label)
                what = title.partition(" ")[0]
                named = _named(study, variant, f"{protocol}: {title}")
                axis.set(title=f"{named}, {what}" if len(variants) > 1 else named)
                if axis.lines:
                    values = [np.asarray(line.get_ydata(), float) for line in axis.lines]
                    late = np.concatenate([y[1:] if len(y) > 1 else y for y in values])
                    low, high = np.nanmin(late), np.nanpercentile(late, 98)
                    axis.set(ylim=(low - 0.1 * (high - low), high + 0.3 * (high - low)))
                    if 0 < 10 * low < high:
                        axis.set(ylim=(0.8 * low, 3 * high))
                        _log_axis(axis)
        _legend_above(figure, axes[0][0].get_legend_handles_labels()[0])
        _footer(figure, results, f"Not in the paper. {_seeds(results, *tables)}")
        return figure


def second_moments(results: Results, role: str = "matched") -> Figure:
    """The share of coordinates whose second moment epsilon outweighs, by layer and pass."""
    study = results.study
    arms = [arm for arm in study.arms if arm.method == "Adam"]
    kinds = {"below_epsilon": "√v̂ < ε", "near_epsilon": "√v̂ < 10 ε"}
    with _style():
        figure, axes = _figure(len(arms))
        tables = []
        for axis, arm in zip(axes[0], arms, strict=True):
            names = results.diagnostic(role, arm.name)
            layers = sorted({name.partition(" ")[2] for name in names} - {"all", ""})
            colours = dict(zip([*layers, "all"], sns.color_palette("colorblind"), strict=False))
            colours["all"] = (0.0, 0.0, 0.0)
            for layer, (kind, style) in itertools.product(
                colours, zip(kinds, ("-", ":"), strict=True)
            ):
                table = results.curves(role, f"{kind} {layer}")
                ours = table[table["arm"] == arm.name] if len(table) else table
                if len(ours):
                    tables.append(ours)
                    label = layer if kind == "below_epsilon" else None
                    width = 2.6 if layer == "all" else 1.6
                    axis.plot(
                        ours["pass"],
                        ours["mean"],
                        style,
                        color=colours[layer],
                        lw=width,
                        label=label,
                    )
            _pass_axis(axis, results, study.panel, [arm])
            axis.set(title=arm.name.replace("+", " with "), ylim=(-0.02, 1.02))
            axis.set(ylabel="share of coordinates")
            if axis.lines:
                handles, _ = axis.get_legend_handles_labels()
                handles += [
                    Line2D([], [], color="#555555", ls=style, label=text)
                    for style, text in zip(("-", ":"), kinds.values(), strict=True)
                ]
                axis.legend(handles=handles, loc="best", fontsize=8)
        _footer(figure, results, _seeds(results, *tables))
        return figure


def grid(results: Results, passes: int | None = None, metric: str = "training_cost") -> Figure:
    """Loss against the step size with and without bias correction, for every pair of betas.

    Args:
        results: of a study whose figure is a grid.
        passes: after how many passes the loss is read; by default the most that every setting of
            a seed has reached, or else the fewest.
        metric: the loss: "training_cost", as in the paper, or "held_out_cost".
    """
    study = results.study
    passes = passes or _complete_passes(results)
    table = results.grid(passes - 1, metric)
    held = "held-out " if metric == "held_out_cost" else ""
    pairs = list(dict.fromkeys(arm.name.rpartition("/")[0] for arm in study.arms))
    panel = study.panel
    with _style():
        figure, axes = _figure(3, 3.3, rows=len(pairs) // 3)
        for axis, pair in zip(axes.flat, pairs, strict=True):
            for kind, colour in CORRECTED.items():
                curve = f"{passes}ep/{pair}/{kind}"
                if digitised.shows(panel.name, curve) and not held:
                    paper = paper_curve(panel.name, curve)
                    axis.plot(paper.index, paper, color=colour, ls=DASHED, lw=1.3, alpha=0.75)
                _grid_line(axis, panel, table, f"{pair}/{kind}", colour)
            beta_1, beta_2 = (text.partition("=")[2] for text in pair.split("/"))
            axis.set(title=f"β₁ = {beta_1}, β₂ = {beta_2}", xlim=panel.x, ylim=panel.y)
            axis.set(xlabel="log₁₀ α", ylabel=f"{held}loss after {passes} passes (nats)")
        kinds = {"biascorr": "with bias correction", "nocorr": "without"}
        handles = [
            Line2D([], [], color=CORRECTED[kind], lw=2, marker="o", ms=4, label=text)
            for kind, text in kinds.items()
        ]
        if not held:
            handles.append(Line2D([], [], color="#555555", ls=DASHED, label="the paper's curve"))
        handles.append(Line2D([], [], color="#555555", ls="", marker="^", label="above the axis"))
        handles.append(Line2D([], [], color="#555555", ls="", marker="x", label="diverged"))
        _legend_above(figure, handles)
        n = sorted(set(table.groupby(["arm", "learning_rate"])["seed"].count())) or [0]
        seeds = f"{n[0]} to {n[-1]}" if len(n) > 1 else f"{n[0]}"
        settings = len(table.groupby(["arm", "learning_rate"])) if len(table) else 0
        text = f"{settings} settings, mean of {seeds} seed{'s' * (seeds != '1')}, bars: range."
        _footer(figure, results, text)
        return figure


def _complete_passes(results: Results) -> int:
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
    for marker, chosen in (("^", np.isfinite(mean) & ~inside), ("x", ~np.isfinite(mean))):
        axis.plot(x[chosen], np.full(chosen.sum(), edge), marker, color=colour, ms=5)


def grid_difference(results: Results, passes: int | None = None) -> Figure:
    """Loss with bias correction minus loss without, for every setting of the grid."""
    study = results.study
    passes = passes or _complete_passes(results)
    table = results.grid(passes - 1)
    losses = table.groupby(["arm", "learning_rate"])["loss"].mean()
    mean, loss = losses.unstack(), {key: float(value) for key, value in losses.items()}
    arms = [arm.name for arm in study.arms if arm.name.endswith("/biascorr")]
    arms = [arm for arm in arms if arm in mean.index and counterpart(arm) in mean.index]
    rows = {arm: mean.loc[arm] - mean.loc[counterpart(arm)] for arm in arms}
    with _style():
        figure, axes = _figure(1, 3.6)
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
        _footer(figure, results, "Blue: better with the correction.")
        return figure


def _difference(corrected: float, other: float) -> str:
    """The difference of two losses in words as short as can be."""
    if np.isfinite(corrected) and np.isfinite(other):
        return f"{corrected - other:+.1f}".replace("-0.0", "0.0").replace("+0.0", "0.0")
    if np.isfinite(other):
        return "with it\ndiverged"
    return "without\ndiverged" if np.isfinite(corrected) else "both\ndiverged"


def gradient_sparsity(results: Results) -> Figure:
    """How few coordinates carry a batch's gradient, by pass, at the paper's default step size."""
    with _style():
        figure, axes = _figure(2)
        colours = sns.color_palette("colorblind")
        for axis, beta_1 in zip(axes[0], ("0", "0.9"), strict=True):
            for arm in results.study.arms:
                first, beta_2, kind = (part.rpartition("=")[2] for part in arm.name.split("/"))
                support = results.at_default(arm.name, "gradient_support").dropna(axis="columns")
                if first != beta_1 or support.empty:
                    continue
                colour = colours[("0.99", "0.999", "0.9999").index(beta_2)]
                style = "-" if kind == "biascorr" else ":"
                label = f"β₂ = {beta_2}, {'with' if kind == 'biascorr' else 'without'} correction"
                passes = np.arange(1, support.shape[1] + 1)
                axis.plot(passes, 100 * support.mean(), style, color=colour, lw=2, label=label)
            axis.set(title=f"β₁ = {beta_1}, α = 0.001", xlabel=PASSES, ylim=(0, None))
            axis.set(ylabel="coordinates with 90% of the\nsquared gradient (%)")
            if axis.lines:
                axis.legend(fontsize=8)
        _footer(figure, results, "Fewer coordinates: a sparser gradient.")
        return figure


def png(figure: Figure, source: str | None = None) -> bytes:
    """The figure as PNG: the same figure gives the same bytes. `source` is kept as metadata.

    A palette of 255 colours makes it a third as large, and no eye sees it.
    """
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    drawn, packed, info = io.BytesIO(), io.BytesIO(), PngInfo()
    figure.savefig(drawn, format="png", dpi=DPI)
    if source:
        info.add_text("Source", source)
    few = (
        Image.open(drawn)
        .convert("RGB")
        .quantize(255, Image.Quantize.MAXCOVERAGE, kmeans=2, dither=Image.Dither.NONE)
    )
    few.save(packed, "png", optimize=True, dpi=(DPI, DPI), pnginfo=info)
    return packed.getvalue()
