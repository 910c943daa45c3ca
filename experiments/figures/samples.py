"""What the diffusion models of a study draw."""

from __future__ import annotations

from typing import Any

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from experiments.analysis.results import Results
from experiments.analysis.statistics import interval
from experiments.figures.style import (
    DASHED,
    colour_of,
    footer,
    new_figure,
    note,
    note_alone,
    styled,
)
from experiments.problems.samples import pixels
from experiments.study import PROTOCOLS

READ = "read_as_digits"
STYLES: dict[str, Any] = {"matched": DASHED, "tuned": "-"}
SETTINGS = {"matched": "at its default", "tuned": "tuned"}


def images_drawn(results: Results) -> Figure:
    """Images that each method's model draws, and the share that is read as digits, by pass.

    The images are those of the first seed after the last pass, all from the same noise; the shares
    are means over seeds, after the last pass with their 95% interval.
    """
    arms = results.study.arms
    found = [record["metrics"].get(f"real_{READ}", []) for _, record in results.recorded()]
    real = [shares[-1] for shares in found if shares]  # none of runs that diverged at once
    options = {**results.study.options, **results.study.profile(results.profile).options}
    count = options["drawn"]
    if not count and not real:
        text = f"profile {results.profile} draws no images: reading them takes too long"
        return note_alone(results, text)
    with styled():
        figure, axes = new_figure(3, 1.05, len(arms))
        figure.set_figwidth(15.0)
        for row, arm in zip(axes, arms, strict=True):
            for axis, protocol in zip(row, PROTOCOLS, strict=False):
                axis.set_axis_off()
                axis.set_title(f"{arm.method}, {SETTINGS[protocol]}", fontsize=10)
                last = results.matrix(protocol, arm.name, READ).iloc[:, -1].dropna().to_numpy()
                axis.set_title(_share(last), loc="right", fontsize=9, fontweight="normal")
                strip = _strip(results, protocol, arm.name)
                if strip is None:
                    note(axis, "no images yet")
                else:
                    axis.imshow(strip, interpolation="nearest")
        grid = axes[0, 2].get_gridspec()
        for axis in axes[:, 2]:
            axis.remove()
        _by_pass(figure.add_subplot(grid[:, 2]), results)
        known = f" Of real digits {np.mean(real):.0%} are read as such." if len(real) else ""
        footer(
            figure,
            results,
            f"Images of the first seed, and the share of {count} that is read as digits.{known}",
        )
        return figure


def _by_pass(axis: Axes, results: Results) -> None:
    """The share that is read, a line for each method and protocol."""
    sns.despine(ax=axis)
    arms = results.study.arms
    for protocol, dashes in STYLES.items():
        curves = results.curves(protocol, READ)
        for arm in arms:
            own = curves[curves["arm"] == arm.name]
            if len(own):
                colour = colour_of(arm.method)
                axis.plot(own["pass"], 100 * own["mean"], ls=dashes, color=colour)
    axis.set(title="read as digits, by pass", xlabel="pass", ylim=(0, None))
    axis.yaxis.set_major_formatter("{x:g}%")
    if axis.lines:
        handles = [Line2D([], [], color=colour_of(a.method), label=a.method) for a in arms]
        for protocol, dashes in STYLES.items():
            handles.append(Line2D([], [], color="#555555", ls=dashes, label=SETTINGS[protocol]))
        axis.legend(handles=handles, fontsize=8)
    else:
        note(axis, "no runs yet")


def _share(last: np.ndarray) -> str:
    last = last[np.isfinite(last)]
    if not len(last):
        return ""
    mean, low, high = (float(part[0]) for part in interval(last[:, None]))
    spread = f" [{max(low, 0.0):.0%}, {min(high, 1.0):.0%}]" if len(last) > 1 else ""
    return f"{mean:.0%}{spread} read, n = {len(last)}"


def _strip(results: Results, protocol: str, arm: str) -> np.ndarray | None:
    """The images of the first seed that has any, side by side, as a photograph."""
    drawn = {
        entry.run.seed: record["manifest"]["drawn"]
        for entry, record in results.recorded(protocol, arm=arm)
        if record["manifest"].get("drawn")
    }
    if not drawn:
        return None
    images = np.pad(pixels(drawn[min(drawn)]), ((0, 0), (1, 1), (1, 1)), constant_values=255)
    return np.repeat(np.concatenate(images, axis=1)[..., None], 3, axis=2)
