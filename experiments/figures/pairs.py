"""Costs of one method over those of another at equal seeds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator

from experiments.analysis.ledger import of
from experiments.analysis.results import Results, of_equal_seeds, paper_curve
from experiments.analysis.statistics import interval
from experiments.figures.axes import (
    draw_mean,
    left_out_of,
    panel_title,
    pass_axis,
    protocols_of,
    title_of,
    variants_of,
)
from experiments.figures.style import DASHED, colour_of, footer, new_figure, note, styled
from experiments.study import Study

NARROW = 1.4  # an axis of ratios whose ends are less than this factor apart has finer marks


def ratios(results: Results) -> Figure:
    """Training cost of one method over another, pass by pass: what the verdicts are about.

    Raises:
        ValueError: no claim of the study compares two methods.
    """
    study = results.study
    compared = _pairs(study)
    if not compared:
        raise ValueError(f"no claim on {study.name} compares the costs of two methods")
    pairs = [pair for here in compared.values() for pair in here]
    variants = {name: arms for name, arms in variants_of(study).items() if name in compared}
    shown = protocols_of(results)
    with styled():
        figure, axes = new_figure(len(shown), rows=len(variants))
        counts: set[int] = set()
        for row, (variant, arms) in zip(axes, variants.items(), strict=True):
            here = compared[variant]
            for axis, protocol in zip(row, shown, strict=True):
                pass_axis(axis, results, study.panel, arms, [protocol])
                axis.axhspan(1 / 1.05, 1.05, color="#eeeeee", zorder=0)
                axis.axhline(1, color="#999999", lw=0.8, zorder=1)
                drawn = [
                    values
                    for pair in here
                    for values in _ratio(axis, results, protocol, pair, _pair_colour(pair, pairs))
                ]
                axis.set(title=panel_title(study, variant, title_of(study, protocol)), yscale="log")
                axis.set(ylabel="ratio of training costs", ylim=_ratio_limits(drawn))
                if all(results.matrix(protocol, arm).empty for pair in here for arm in pair):
                    note(axis, "no runs yet")
                counts |= {n for pair in here for n in _common_seeds(results, protocol, pair)}
                axis.yaxis.set_major_formatter("{x:g}")
                low, high = axis.get_ylim()
                between = (1.2, 1.5, *range(2, 10)) if high > NARROW * low else (1.05, 1.1, 9, 9.5)
                axis.yaxis.set_minor_locator(LogLocator(subs=between))
                axis.yaxis.set_minor_formatter("{x:g}")
                if low < 0.1:
                    axis.yaxis.set_minor_formatter("")
            handles: list[Any] = [
                Line2D(
                    [], [], color=_pair_colour(pair, pairs), lw=2, label=_named_ratio(study, pair)
                )
                for pair in here
            ]
            if not results.stand_in and any(study.arm(a).plotted for pair in here for a in pair):
                handles.append(Line2D([], [], color="#555555", ls=DASHED, label="the paper's"))
            handles.append(Patch(color="#e6e6e6", label="similar: within 5%"))
            # Lines may be anywhere between the limits, so the legend goes beside them.
            row[-1].legend(handles=handles, loc="upper left", bbox_to_anchor=(1, 1), fontsize=8)
        n = " to ".join(str(each) for each in sorted({min(counts), max(counts)})) if counts else "0"
        text = f"Below 1, the first method is ahead. Ratio at equal seed, 95% band, n = {n}."
        text += " Thin with dots: one seed." if 1 in counts else ""
        footer(figure, results, text + left_out_of(results))
        return figure


def _pairs(study: Study) -> dict[str, list[tuple[str, str]]]:
    """The arms whose ratio is shown, by variant; each pair once, in the order of the claims.

    A pair that claims compare in one variant is shown in every variant in which they compare any.
    """
    claimed = [
        (claim.arms[0], other)
        for claim in of(study)
        if claim.metric in ("cost_ratio", "final_ratio")
        for other in claim.arms[1:]
    ]
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
        return colour_of(next(method for method in methods if method != "Adam"))
    every = [tuple(arm.partition("+")[0] for arm in each) for each in pairs]
    neutral = list(dict.fromkeys(each for each in every if "Adam" not in each))
    return ("#444444", "#8c613c")[neutral.index(methods) % 2]


def _ratio(
    axis: Axes, results: Results, protocol: str, pair: tuple[str, ...], colour: str
) -> Iterator[np.ndarray]:
    """Draw our ratio and the paper's; yields the values that the axis of passes shows."""
    if not results.stand_in and all(results.study.arm(arm).plotted for arm in pair):
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
            found = np.transpose(interval(ratio.to_numpy(), log=True))
            part = pd.DataFrame(found, ratio.columns, ["mean", "low", "high"])
            parts.append(part.assign(n=len(ratio)))
    if not parts:
        return
    line = pd.concat(parts).sort_index()
    draw_mean(axis, line.rename_axis("pass").reset_index(), colour)
    yield line["mean"].to_numpy()


def _common_seeds(results: Results, protocol: str, pair: tuple[str, ...]) -> set[int]:
    """The numbers of seeds that both arms have, over the passes."""
    over, under = (results.matrix(protocol, arm) for arm in pair)
    seeds = over.index.intersection(under.index)
    both = (over.loc[seeds].notna() & under.loc[seeds].notna()).sum()
    return {int(n) for n in both if n}
