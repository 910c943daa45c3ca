"""Costs by pass: the figures of the paper, by wall time, held out, and of averages."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from experiments.analysis.results import AVERAGES, Results
from experiments.figures.axes import (
    TITLES,
    around,
    cost_limits,
    counted,
    defaults_of,
    draw_curve,
    draw_mean,
    enlarged,
    last_pass,
    left_out_of,
    legend_above,
    legend_of,
    log_axis,
    panel_title,
    pass_axis,
    protocols_of,
    seeds_drawn,
    seeds_of,
    title_of,
    variants_of,
)
from experiments.figures.style import PASSES, colour_of, footer, new_figure, note, styled
from experiments.study import PROTOCOLS, Study

GEOMETRIC = "Geometric mean"


def clocked(results: Results, protocol: str = "matched") -> Figure:
    """Training cost by pass and by wall time, over the paper's curves; then with noise, by pass.

    Time is in passes of the first arm, whose own curve is therefore the same in both panels.
    """
    study = results.study
    clean = [arm for arm in study.arms if not arm.variant]
    others = [arm for arm in study.arms if arm.variant]
    table, seconds = results.curves(protocol), results.curves(protocol, "seconds")
    with styled():
        figure, axes = new_figure(len(study.panels) + bool(others))
        for axis, panel in zip(axes[0], reversed(study.panels), strict=False):
            for arm in clean:
                shown = table
                if panel.clock and len(table):
                    shown = table.assign(**{"pass": _clock(study, table, seconds)})
                draw_curve(axis, results, panel, arm, shown)
            title = TITLES[protocol] if protocol != "matched" else "matched"
            axis.set(title=f"{title.partition(':')[0]}: {panel.title}", yscale="log")
            axis.set(xlim=panel.x, ylim=panel.y, ylabel="training cost (nats)")
            axis.set(xlabel=f"wall time, in passes of {clean[0].method}" if panel.clock else PASSES)
        for arm in others:
            draw_curve(axes[0][-1], results, study.panel, arm, table)
        if others:
            axis = axes[0][-1]
            axis.set(title="with dropout, by passes", xlim=study.panel.x, xlabel=PASSES)
            axis.set(ylabel="training cost (nats)")
            names = [arm.name for arm in others]
            ours = table[table["arm"].isin(names)]
            if len(ours):
                axis.set(ylim=around(ours["mean"]))
                log_axis(axis)
        legend_above(figure, legend_of(clean, results, table))
        footer(figure, results, seeds_drawn(table, mean=GEOMETRIC))
        return figure


def _clock(study: Study, table: pd.DataFrame, seconds: pd.DataFrame) -> pd.Series:
    """When each pass ended, in passes of the first arm; the first compiles, and counts as 0."""
    keyed = seconds.set_index(["arm", "pass"])["mean"].where(seconds["pass"].to_numpy() > 0)
    unit = keyed.loc[study.arms[0].name].mean()
    ends = keyed.fillna(0).groupby("arm").cumsum() / unit
    places = pd.MultiIndex.from_frame(table[["arm", "pass"]])
    return pd.Series(ends.reindex(places).to_numpy(), index=table.index)


def curves(results: Results, protocols: Sequence[str] = ()) -> Figure:
    """Training cost by pass over the paper's own curves, a row for each variant of the problem.

    Args:
        results: of a study with arms under the two protocols.
        protocols: which of them. By default, where the paper's figure has one panel, both, and the
            tuned one enlarged; where it has several, `matched`.
    """
    study = results.study
    variants = variants_of(study)
    single = len(study.panels) == 1
    done = protocols_of(results)
    in_paper = any(arm.plotted for arm in study.arms)
    asked = protocols or (PROTOCOLS if single else ("matched",))
    shown = [protocol for protocol in asked if protocol in done] or list(asked)
    reached = last_pass(results, shown, study.arms)
    places = [
        (panel, protocol, False)
        for protocol in shown
        for panel in study.panels
        # Two panels differ in how far they go: while no run goes beyond the first, it is enough.
        if single or panel == study.panels[0] or not 0 <= reached <= study.panels[0].x[1]
    ]
    if single and not protocols and not study.panel.log and "tuned" in shown:
        places.append((study.panel, "tuned", True))
    with styled():
        figure, axes = new_figure(len(places), rows=len(variants))
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
                    draw_curve(axis, results, panel, arm, table)
                title = panel.title or title_of(study, protocol)
                title = f"{protocol}, {title}" if panel.title else title
                pass_axis(axis, results, panel, arms, [protocol])
                axis.set(title=panel_title(study, variant, title), ylim=cost_limits(panel, axis))
                axis.set(ylabel="training cost (nats)")
                decades = axis.get_ylim()[1] > 100 * axis.get_ylim()[0]
                if panel.log and in_paper and decades:  # with powers of ten, as the paper's axis
                    axis.set_yscale("log")
                elif panel.log:
                    log_axis(axis)
                names = [arm.name for arm in arms]
                ours = table[table["arm"].isin(names)]
                if enlarge:
                    axis.set(
                        title=panel_title(study, variant, "tuned, enlarged"), ylim=enlarged(ours)
                    )
                elif left_out and len(ours):
                    axis.set(ylim=around(ours["mean"]))
                    log_axis(axis)
                if not len(ours) and done != list(PROTOCOLS):
                    note(axis, "no runs yet")
                elif not len(ours):
                    axis.set_visible(False)
        handles = legend_of(next(iter(variants.values())), results, *tables.values())
        legend_above(figure, handles)
        drawn = seeds_drawn(*tables.values(), mean=GEOMETRIC)
        footer(figure, results, drawn + left_out_of(results))
        return figure


def averages(results: Results, protocol: str = "matched") -> Figure:
    """Costs of the last parameters and of their two averages, by pass (Section 7.2)."""
    study = results.study
    styles = {"last": ("-", 1.2), "exponential": ("-", 2.6), "mean": (":", 2.0)}
    titles = {"training_cost": "training examples", "held_out_cost": "held-out examples"}
    with styled():
        figure, axes = new_figure(2)
        tables = []
        for axis, (metric, title) in zip(axes[0], titles.items(), strict=True):
            shown = []
            for which, (style, width) in styles.items():
                table = results.curves(protocol, f"{which} {metric}")
                table = table.replace([np.inf, -np.inf], np.nan)
                tables.append(table)
                for arm in study.arms:
                    ours = table[table["arm"] == arm.name]
                    if not len(ours):
                        continue
                    colour = colour_of(arm.method)
                    faint = 0.55 if which == "last" else 1.0
                    axis.plot(
                        ours["pass"], ours["mean"], style, color=colour, lw=width, alpha=faint
                    )
                    axis.fill_between(
                        ours["pass"], ours["low"], ours["high"], color=colour, alpha=0.15, lw=0
                    )
                    shown.append(ours[["pass", "mean"]])
            if shown:
                low, high = enlarged(pd.concat(shown))
                axis.set(ylim=(low, high))
            name = defaults_of(study) if protocol == "matched" and not study.fitted else protocol
            axis.set(title=f"{title}; {name}", xlabel=PASSES, ylabel="cost without noise (nats)")
        seeds = seeds_of((arm.method for arm in study.arms), *tables)
        handles = [
            Line2D([], [], color=colour_of(name), lw=2, label=counted(name, n))
            for name, n in seeds.items()
        ]
        words = {"last": "last step", **{k: v.partition(",")[0] for k, v in AVERAGES.items()}}
        handles += [
            Line2D([], [], color="#555555", ls=style, lw=width, label=words[which])
            for which, (style, width) in styles.items()
        ]
        legend_above(figure, handles)
        footer(figure, results, seeds_drawn(*tables, mean=GEOMETRIC))
        return figure


def held_out(results: Results) -> Figure:
    """Held-out cost and error by pass: an addition to the paper.

    It shows the settings whose runs have come further, over all methods; the tuned ones if both
    have come equally far.
    """
    study = results.study

    def passes(protocol: str) -> int:
        return sum(last_pass(results, [protocol], [arm]) for arm in study.arms)

    protocol = max(reversed(protocols_of(results)), key=passes)
    variants = variants_of(study)
    metrics = (
        ("held_out_cost", "held-out cost (nats)", "cost on held-out examples"),
        ("held_out_accuracy", "held-out error (%)", "error on held-out examples"),
    )
    recorded = {metric: results.curves(protocol, metric) for metric, _, _ in metrics}
    shown = [each for each in metrics if len(recorded[each[0]])] or metrics  # not all have errors
    with styled():
        figure, axes = new_figure(len(shown), rows=len(variants))
        tables = []
        for column, (metric, label, title) in enumerate(shown):
            table = recorded[metric].replace([np.inf, -np.inf], np.nan)
            tables.append(table)
            for row, (variant, arms) in zip(axes, variants.items(), strict=True):
                axis = row[column]
                for arm in arms:
                    ours = table[table["arm"] == arm.name]
                    if not len(ours):
                        continue
                    mean, low, high = (ours[name].to_numpy() for name in ("mean", "low", "high"))
                    if metric == "held_out_accuracy":
                        mean, low, high = (100 * (1 - x) for x in (mean, high, low))
                    line = ours.assign(mean=mean, low=low, high=high)
                    draw_mean(axis, line, colour_of(arm.method))
                pass_axis(axis, results, study.panel, arms, [protocol])
                axis.set(ylabel=label)
                what = title.partition(" ")[0]
                named = panel_title(study, variant, f"{protocol}: {title}")
                axis.set(title=f"{named}, {what}" if len(variants) > 1 else named)
                if axis.lines:
                    values = [np.asarray(line.get_ydata(), float) for line in axis.lines]
                    late = np.concatenate([y[1:] if len(y) > 1 else y for y in values])
                    low, high = np.nanmin(late), np.nanpercentile(late, 98)
                    if high > low:
                        axis.set(ylim=(low - 0.1 * (high - low), high + 0.3 * (high - low)))
                    if 0 < 10 * low < high:
                        axis.set(ylim=(0.8 * low, 3 * high))
                        log_axis(axis)
        handles = legend_of(next(iter(variants.values())), results, *tables)
        legend_above(figure, [h for h in handles if h.get_label() != "the paper's curve"])
        kind = "Mean (of costs, the geometric one)" if len(shown) > 1 else GEOMETRIC
        footer(figure, results, f"Not in the paper. {seeds_drawn(*tables, mean=kind)}")
        return figure
