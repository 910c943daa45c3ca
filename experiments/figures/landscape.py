"""Parts of the pictures of walks: the rules' colours, the surface from above, the path over it."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes

from experiments.figures.style import COLOURS as METHODS
from experiments.figures.walks import Surface, Walk

# Adam is drawn as on every page, and dashed as long as its correction is missing.
COLOURS = {
    "gradient descent": "#444444",
    "momentum": METHODS["SGDNesterov"],
    "adaptive scaling": METHODS["RMSProp"],
    "both": METHODS["Adam"],
    "Adam": METHODS["Adam"],
}
PLACES = ("#0173b2", "#56b4e9", "#ca9161")  # of weights, which are not methods
SOFT = "#555555"
HEIGHTS = mpl.colors.LinearSegmentedColormap.from_list("heights", ["#fdfdfe", "#b3c1d1"])


def draw_map(axis: Axes, surface: Surface, points: int = 161) -> None:
    """The surface from above: the stronger the tint, the higher; each line doubles the height.

    Args:
        axis: to draw on.
        surface: of two weights.
        points: along each side of the grid on which the height is computed.
    """
    left, right, bottom, top = surface.window
    x, y = np.meshgrid(np.linspace(left, right, points), np.linspace(bottom, top, points))
    heights = surface.value(np.stack([x, y], axis=-1))
    levels = heights.max() / 2.0 ** np.arange(12, 0, -1)
    shades = HEIGHTS(np.linspace(0, 1, len(levels) + 1))
    axis.contourf(x, y, heights, levels, colors=shades, extend="both", antialiased=False, zorder=-2)
    axis.contour(x, y, heights, levels, colors="white", linewidths=0.7, zorder=-1)
    # As one picture, also in the figure's SVG, which would be millions of characters of outlines.
    axis.set_rasterization_zorder(0)
    if surface.lowest:
        axis.plot(*surface.lowest, "*", color="#ffd400", mec="#222222", mew=0.8, ms=12, zorder=5)
    axis.set(xlim=(left, right), ylim=(bottom, top), box_aspect=0.75)
    axis.set(xlabel="$\\theta_1$", ylabel="$\\theta_2$")
    axis.grid(visible=False)


def draw_path(axis: Axes, walk: Walk, colour: str, ls: Any = "-", size: float = 3.2) -> None:
    """The path of a walk, a dot for each step, the first one hollow.

    Args:
        axis: to draw on.
        walk: of two weights.
        colour: of the line.
        ls: Matplotlib's line style.
        size: of the dots, in points.
    """
    axis.plot(*walk.theta.T, color=colour, lw=1.5, ls=ls, marker="o", ms=size, mew=0, zorder=4)
    axis.plot(*walk.theta[0], "o", mfc="white", mec="#222222", mew=1.4, ms=7, zorder=5)


def note(axis: Axes, text: str, size: float = 9) -> None:
    """A few words in the bottom right corner.

    Args:
        axis: to write on.
        text: the words.
        size: of the letters, in points.
    """
    box = {"facecolor": "white", "alpha": 0.85, "edgecolor": "none", "boxstyle": "round,pad=0.3"}
    axis.text(0.98, 0.04, text, transform=axis.transAxes, ha="right", fontsize=size, bbox=box)


def label_end(axis: Axes, x: float, y: float, text: str, colour: str) -> None:
    """A label at the right end of a line, in its colour.

    Args:
        axis: to write on.
        x: where the line ends.
        y: where the line ends.
        text: the label.
        colour: the line's.
    """
    axis.annotate(
        text,
        (x, y),
        (5, 0),
        textcoords="offset points",
        color=colour,
        va="center",
        fontsize=9,
        weight="bold",
        annotation_clip=False,
    )
