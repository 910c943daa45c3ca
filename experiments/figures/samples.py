"""What the diffusion models of a study draw."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from experiments.analysis.results import SETTINGS, Results
from experiments.analysis.statistics import interval
from experiments.figures.style import footer, new_figure, note, styled
from experiments.problems.samples import pixels
from experiments.study import PROTOCOLS

READ = "read_as_digits"


def images_drawn(results: Results) -> Figure:
    """Images that each method's model draws after the last pass, at its default and tuned.

    The images are those of the first seed, all from the same noise; the share that is read as
    digits is the mean over seeds with its 95% interval.
    """
    arms = results.study.arms
    real = np.ravel([record["metrics"][f"real_{READ}"][-1:] for _, record in results.recorded()])
    with styled():
        figure, axes = new_figure(2, 1.05, len(arms))
        figure.set_figwidth(12.0)
        for row, arm in zip(axes, arms, strict=True):
            for axis, protocol in zip(row, PROTOCOLS, strict=True):
                axis.set_axis_off()
                found = results.matrix(protocol, arm.name, READ)
                last = found.iloc[:, -1].dropna().to_numpy()
                settings = {"matched": "at its default", "tuned": SETTINGS["tuned"]}[protocol]
                axis.set_title(f"{arm.method}, {settings}{_share(last)}", fontsize=10)
                strip = _strip(results, protocol, arm.name)
                if strip is None:
                    note(axis, "no images yet")
                else:
                    axis.imshow(strip, interpolation="nearest")
        known = f" Of real digits {np.mean(real):.0%} are read as such." if len(real) else ""
        footer(
            figure,
            results,
            f"Images of the first seed, and the share of 100 that is read as digits.{known}",
        )
        return figure


def _share(last: np.ndarray) -> str:
    last = last[np.isfinite(last)]
    if not len(last):
        return ""
    mean, low, high = (float(part[0]) for part in interval(last[:, None]))
    spread = f" [{max(low, 0.0):.0%}, {min(high, 1.0):.0%}]" if len(last) > 1 else ""
    return f": {mean:.0%}{spread} read as digits, n = {len(last)}"


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
