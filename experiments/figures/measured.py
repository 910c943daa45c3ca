"""What is measured besides costs: SFO's time, second moments, sparsity, steps against noise."""

from __future__ import annotations

import itertools

import numpy as np
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from experiments.analysis.results import Results
from experiments.figures.axes import (
    draw_mean,
    legend_above,
    legend_below,
    legend_of,
    pass_axis,
    seeds_drawn,
    show_hidden,
)
from experiments.figures.style import (
    COLOURS,
    DASHED,
    PASSES,
    colour_of,
    footer,
    new_figure,
    note,
    styled,
)

LAYERS = {"full": "1000 units", "logits": "ten scores"}


def iteration_cost(results: Results) -> Figure:
    """The time of an SFO iteration over that of its gradient, and SFO's memory, by minibatches."""
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
    with styled():
        figure, axes = new_figure(3, 3.8)
        if rows:
            n, whole, gradient, memory = np.array(sorted(rows)).T
            axes[0][0].plot(
                n, 1000 * whole, "o-", color=COLOURS["SFO"], lw=2, label="iteration of SFO"
            )
            axes[0][0].plot(
                n, 1000 * gradient, "s--", color="black", lw=2, label="its gradient alone"
            )
            legend_below(axes[0][0])
            axes[0][1].plot(n, whole / gradient, "o-", color=COLOURS["SFO"], lw=2)
            axes[0][2].plot(n, memory / 1024, "o-", color=COLOURS["SFO"], lw=2, label="measured")
            line = memory[0] / 1024 * n / n[0]
            axes[0][2].plot(n, line, ":", color="#555555", label="in proportion")
            legend_below(axes[0][2])
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
        footer(figure, results, "Passes after the first.")
        return figure


def second_moments(results: Results) -> Figure:
    """The share of coordinates whose second moment epsilon outweighs, by layer and pass."""
    study = results.study
    arms = [arm for arm in study.arms if arm.method == "Adam"]
    kinds = {"below_epsilon": "√v̂ < ε", "near_epsilon": "√v̂ < 10 ε"}
    with styled():
        figure, axes = new_figure(len(arms))
        tables = []
        for axis, arm in zip(axes[0], arms, strict=True):
            names = results.diagnostic("matched", arm.name)
            layers = sorted({name.partition(" ")[2] for name in names} - {"all", ""})
            palette = sns.color_palette("viridis", len(layers))
            colours = dict(zip([*layers, "all"], [*palette, (0.0, 0.0, 0.0)], strict=True))
            for layer, (kind, style) in itertools.product(
                colours, zip(kinds, ("-", ":"), strict=True)
            ):
                table = results.curves("matched", f"{kind} {layer}")
                ours = table[table["arm"] == arm.name]
                if len(ours):
                    tables.append(ours)
                    label = LAYERS.get(layer, layer) if kind == "below_epsilon" else None
                    width = 2.6 if layer == "all" else 1.6
                    axis.plot(
                        ours["pass"],
                        ours["mean"],
                        style,
                        color=colours[layer],
                        lw=width,
                        label=label,
                    )
            axis.axhline(0.5, color="#555555", ls=DASHED, lw=1, label="half: the claim")
            pass_axis(axis, results, study.panel, [arm])
            axis.set(title=arm.name.replace("+", " with "), ylim=(-0.02, 1.02))
            axis.set(ylabel="share of coordinates")
            if len(axis.lines) > 1:
                handles, _ = axis.get_legend_handles_labels()
                handles += [
                    Line2D([], [], color="#555555", ls=style, label=text)
                    for style, text in zip(("-", ":"), kinds.values(), strict=True)
                ]
                legend_below(axis, handles, 3)
        footer(figure, results, seeds_drawn(*tables, band=False))
        return figure


def gradient_sparsity(results: Results) -> Figure:
    """How few coordinates carry a batch's gradient, by pass, at the paper's default step size."""
    with styled():
        figure, axes = new_figure(2)
        colours = ("#0173b2", "#8a4fbf", "#555555")  # no method's, nor those of the correction
        for axis, beta_1 in zip(axes[0], ("0", "0.9"), strict=True):
            for arm in results.study.arms:
                first, beta_2, kind = (part.rpartition("=")[2] for part in arm.name.split("/"))
                support = results.at_default(arm.name, "gradient_support").dropna(axis="columns")
                if first != beta_1 or support.empty:
                    continue
                colour = colours[("0.99", "0.999", "0.9999").index(beta_2)]
                style = "-" if kind == "biascorr" else ":"
                label = f"β₂ = {beta_2}, {'with' if kind == 'biascorr' else 'without'} correction"
                passes = np.arange(support.shape[1])
                axis.plot(passes, 100 * support.mean(), style, color=colour, lw=2, label=label)
            axis.set(title=f"β₁ = {beta_1}, α = 0.001", xlabel=PASSES, ylim=(0, None))
            axis.set(ylabel="coordinates with 90% of the\nsquared gradient (%)")
            show_hidden(axis)
            legend_below(axis)
        footer(figure, results, "Fewer coordinates: a sparser gradient.")
        return figure


def steps_and_noise(results: Results) -> Figure:
    """How steps go with the signal-to-noise ratio, and what twice the noise does, by pass."""
    study = results.study
    panels = (
        ("step_signal", "steps against signal-to-noise", "rank correlation"),
        ("noise_rise", "after 20 steps with twice the noise", "held-out cost over that without"),
    )
    with styled():
        figure, axes = new_figure(2)
        tables = []
        agreement = results.curves("matched", "signal_agreement")
        for axis, (name, title, label) in zip(axes[0], panels, strict=True):
            table = results.curves("matched", name)
            tables.append(table)
            for arm in study.arms:
                colour = colour_of(arm.method)
                if len(ours := table[table["arm"] == arm.name]):
                    draw_mean(axis, ours, colour)
                own = agreement[agreement["arm"] == arm.name]
                if name == "step_signal" and len(own):
                    axis.plot(own["pass"], own["mean"], color=colour, ls=DASHED, lw=1.4)
            pass_axis(axis, results, study.panel, study.arms, ["matched"])
            axis.axhline(0.0 if name == "step_signal" else 1.0, color="#999999", lw=0.8, zorder=1)
            axis.set(title=title, ylabel=label)
            if table.empty:
                note(axis, "no runs yet")
        axes[0][0].set(ylim=(-0.25, 1))
        halves = Line2D(
            [], [], color="#555555", ls=DASHED, lw=1.4, label="two halves of the gradients"
        )
        legend_above(figure, [*legend_of(study.arms, results, *tables), halves])
        footer(
            figure,
            results,
            f"{seeds_drawn(*tables)} Dashed: the ratio from one half of the gradients "
            "against that from the other, which tells how well it is known.",
        )
        return figure
