"""One style and one colour per method everywhere; the note below every figure.

Solid lines and bands are ours (mean over seeds and 95% interval), dashed lines are the paper's own
curves, read off its figures.
"""

from __future__ import annotations

import io
import textwrap
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from experiments.analysis.results import Results
from experiments.data import catalogue
from experiments.figures.drawn import table

# seaborn's colour-blind-safe palette, with colours near the paper's for the methods of Figure 1.
COLOURS = {
    "Adam": "#d55e00",
    "AdaGrad": "#0173b2",
    "SGDNesterov": "#029e73",
    "RMSProp": "#cc78bc",
    "AdaDelta": "#7b5530",
    "AdaMax": "#56b4e9",
    "SGD": "#777777",
    "SFO": "#949494",
    "SFO/50": "#5c5c5c",
    "SFO/100": "#1a1a1a",
}
# An added method gets one of these by its name, so that its colour is the same everywhere.
OTHERS = ("#0f8a8a", "#8a5bd1", "#a8327a", "#5f7a00", "#b8860b", "#3f51b5", "#c0392b", "#2f4f4f")
CORRECTED = {"biascorr": "#d55e00", "nocorr": "#029e73"}  # red and green in the paper
DPI = 160
SVG_DPI = 72  # of contours, which are its only pixels
DASHED = (0, (4, 2))
PASSES = "passes over the training set"


def colour_of(method: str) -> str:
    """The colour of a method, the same in every picture."""
    return COLOURS.get(method) or OTHERS[zlib.crc32(method.encode()) % len(OTHERS)]


def shades(colour: str, number: int) -> list[Any]:
    """So many shades of a colour, from dark to light; a single one is the colour itself."""
    if number < 2:
        return [colour] * number
    r, g, b = to_rgb(colour)
    dark, light = (0.4 * r, 0.4 * g, 0.4 * b), (0.5 * r + 0.5, 0.5 * g + 0.5, 0.5 * b + 0.5)
    return list(sns.blend_palette([dark, colour, light], number))


@contextmanager
def _defaults() -> Iterator[None]:
    """Matplotlib as it is shipped, whatever the user's matplotlibrc says."""
    with mpl.rc_context():
        mpl.rcdefaults()
        yield


@contextmanager
def styled() -> Iterator[None]:
    """Draw in the style of all figures."""
    settings: dict[Any, Any] = {
        "figure.dpi": 110,
        "savefig.dpi": DPI,
        "font.family": "DejaVu Sans",
        "axes.titlesize": 11,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "legend.frameon": False,
        "figure.constrained_layout.use": True,
    }
    with _defaults(), sns.axes_style("whitegrid", {"grid.color": "#e6e6e6"}):
        sns.set_context("notebook", font_scale=0.85)
        mpl.rcParams.update(settings)
        yield


def new_figure(columns: int, height: float = 4.2, rows: int = 1) -> tuple[Figure, np.ndarray]:
    """A figure of rows x columns axes.

    Args:
        columns: how many.
        height: of a row, in inches.
        rows: how many.

    Returns:
        The figure and its axes, (rows, columns).
    """
    width = {1: 6.0, 2: 5.4, 3: 4.9}.get(columns, 3.7)
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        sns.despine(ax=axis)
    return figure, axes


def footer(figure: Figure, results: Results, text: str) -> None:
    """State below a figure what was drawn; `watermark` if the data are stand-ins.

    Args:
        figure: the figure.
        results: what was drawn.
        text: goes before the results' label.
    """
    label = f"{results.label[0].upper()}{results.label[1:]}."
    lines = textwrap.fill(f"{text} {label}", int(14 * figure.get_figwidth()))
    figure.supxlabel(lines, fontsize=8, color="#555555", x=0.01, ha="left")
    if results.stand_in:
        watermark(figure, f"STAND-IN DATA\nnot {catalogue.title(results.study.data_set)}")


def watermark(figure: Figure, text: str) -> None:
    """Write a warning across every panel: it does not show what it seems to."""
    for axis in figure.axes:
        axis.text(
            0.5,
            0.5,
            text,
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


def note(axis: Axes, text: str) -> None:
    """Say in the middle of a panel why it is empty; the paper's curves may be behind."""
    box = {"color": "white", "alpha": 0.85}
    axis.text(0.5, 0.5, text, ha="center", va="center", transform=axis.transAxes, bbox=box)


def note_alone(results: Results, text: str) -> Figure:
    """A figure that says why there is nothing to draw."""
    with styled():
        figure, axes = new_figure(1, 1.1)
        axes[0][0].set_axis_off()
        note(axes[0][0], text)
        footer(figure, results, "")
        return figure


def source(path: Path) -> str | None:
    """The source that `png` stored in a picture; None if there is no source or no picture."""
    from PIL import Image

    try:
        with Image.open(path) as picture:
            return getattr(picture, "text", {}).get("Source")
    except (OSError, SyntaxError):
        return None


def plain_png(figure: Figure) -> bytes:
    """The figure as PNG and no more, for a picture that is drawn again and again."""
    written = io.BytesIO()
    with _defaults():
        figure.savefig(written, format="png", dpi=DPI)
    return written.getvalue()


def png(figure: Figure, source: str | None = None) -> bytes:
    """The figure as PNG, which holds its own numbers, if any, and drawing: texts `CSV` and `SVG`.

    The same figure gives the same bytes. A palette of 255 colours makes the file a third as large,
    with no visible difference.

    Args:
        figure: the figure.
        source: what it was made from, kept as the text `Source`.
    """
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    shown, lines, packed, info = io.BytesIO(), io.StringIO(), io.BytesIO(), PngInfo()
    with _defaults():  # some things are only settled now: ticks, and how the file is written
        figure.savefig(shown, format="png", dpi=DPI)
        arranged = figure.get_layout_engine()
        figure.set_layout_engine(None)  # everything has its place; saves a draw
        mpl.rcParams["svg.hashsalt"] = "adam"
        figure.savefig(lines, format="svg", dpi=SVG_DPI, metadata={"Date": None})
        figure.set_layout_engine(arranged)
    if source:
        info.add_text("Source", source)
    if len(numbers := table(figure)):  # some figures only say that there is nothing yet
        written = numbers.to_csv(index=False, float_format="%.6g", lineterminator="\n")
        info.add_itxt("CSV", written, zip=True)
    info.add_itxt("SVG", lines.getvalue(), zip=True)
    few = (
        Image.open(shown)
        .convert("RGB")
        .quantize(255, Image.Quantize.MAXCOVERAGE, kmeans=2, dither=Image.Dither.NONE)
    )
    few.save(packed, "png", optimize=True, dpi=(DPI, DPI), pnginfo=info)
    return packed.getvalue()
