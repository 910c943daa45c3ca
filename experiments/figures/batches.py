"""Methods by the size of the batches."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from experiments.analysis.results import Results
from experiments.analysis.statistics import interval
from experiments.figures.axes import SEVERAL, counted, legend_above
from experiments.figures.style import colour_of, footer, new_figure, note, styled
from experiments.study import Arm


def by_batch_size(results: Results) -> Figure:
    """Tuned methods against the size of the batches: last cost, cost over Adam's, best step size.

    The study must have an arm for each method at each size. Ratios are of equal seeds.
    """
    methods: dict[str, list[Arm]] = {}
    for arm in sorted(results.study.arms, key=lambda arm: arm.batch_size):
        methods.setdefault(arm.method, []).append(arm)
    first = next(iter(methods))
    last = {
        arm.name: results.matrix("tuned", arm.name).iloc[:, -1].dropna()
        for arm in results.study.arms
    }
    seeds: dict[str, list[int]] = {}
    with styled():
        figure, axes = new_figure(3, 3.8)
        costs, ratios, rates = axes[0]
        ratios.axhspan(1 / 1.05, 1.05, color="#eeeeee", zorder=0)
        for method, arms in methods.items():
            sizes = [arm.batch_size for arm in arms]
            own = [last[arm.name] for arm in arms]
            seeds[method] = sorted({len(values) for values in own if len(values)})
            _line(costs, sizes, own, method)
            if method != first:
                over = [last[arm.name] for arm in methods[first]]
                _line(ratios, sizes, [a / b for a, b in zip(own, over, strict=True)], method)
            best = [results.plan.selected.get(arm.name, {}) for arm in arms]
            found = [each.get("learning_rate", np.nan) for each in best]
            rates.plot(sizes, found, marker="o", color=colour_of(method), **SEVERAL)
        costs.set(title="last cost", ylabel="training cost, last pass (nats)")
        ratios.set(title=f"over {first}'s", ylabel="ratio of training costs")
        rates.set(title="best step size", ylabel="step size α", yscale="log")
        ticks = sorted({arm.batch_size for arm in results.study.arms})
        for axis in axes[0]:
            axis.set(xlabel="examples in a batch", xscale="log")
            axis.set_xticks(ticks, [f"{size}" for size in ticks])
            axis.minorticks_off()
            if not any(map(len, last.values())):
                note(axis, "no runs yet")
        handles = [
            Line2D([], [], color=colour_of(name), label=counted(name, seeds[name]), **SEVERAL)
            for name in methods
        ]
        legend_above(figure, handles)
        footer(figure, results, "Every method tuned at every size; means with 95% interval.")
        return figure


def _line(axis: Axes, sizes: list[int], values: list, method: str) -> None:
    """Geometric means with their intervals, where there are seeds."""
    shown = [(size, each) for size, each in zip(sizes, values, strict=True) if len(each.dropna())]
    if not shown:
        return
    limits = [interval(each.dropna().to_numpy()[:, None], log=True) for _, each in shown]
    mean, low, high = (np.array([limit[part][0] for limit in limits]) for part in range(3))
    at = [size for size, _ in shown]
    axis.plot(at, mean, marker="o", color=colour_of(method), **SEVERAL)
    axis.fill_between(at, low, high, color=colour_of(method), alpha=0.25, lw=0)
