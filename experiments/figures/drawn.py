"""What a figure shows, as numbers read off the drawing itself; so no figure needs extra code."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.collections import (
    Collection,
    LineCollection,
    PathCollection,
    PolyCollection,
    QuadMesh,
)
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedFormatter, FixedLocator, FuncFormatter

# What each row is, and its numbers: a point of a line at (x, y); the edges `low` and `high` of a
# band or of an error bar at x; a bar's length; a cell's value and the words written in it.
COLUMNS = ("panel", "kind", "series", "x", "y", "low", "high", "value", "words")

BENEATH = " (wide, beneath)"  # added to the name of a line that another one covers


def table(figure: Figure) -> pd.DataFrame:
    """The numbers that a figure shows, a row each, panel by panel.

    These are lines, points, bands, error bars, bars and cells, but not the background (contours,
    shaded spans). A series has its line's name in the legend; if the legend omits it, its colour.

    Returns:
        A table with `COLUMNS`: `panel` is the panel's title, or its number and what it shows where
        it has none; `x` and `y` are what the axes say (a category's name where it has one).
    """
    rows: list[dict[str, Any]] = []
    panels = [
        axis for axis in figure.axes if axis.get_visible() and axis.get_label() != "<colorbar>"
    ]
    for number, axis in enumerate(panels, 1):
        title = axis.get_title("left") or axis.get_title()
        panel = " ".join(title.split()) or f"{number}: {axis.get_ylabel()}".removesuffix(": ")
        rows += [{"panel": panel, **row} for row in _rows(axis, _names(figure, axis))]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _rows(axis: Axes, names: dict[tuple[str, str], str]) -> Iterator[dict[str, Any]]:
    """The rows in drawing order, in which a band or an error bar follows its line."""
    names = dict(names)
    for artist in axis.get_children():
        if isinstance(artist, Line2D):
            if axis.get_lines().count(artist) and (rows := list(_line(axis, artist, names))):
                look = _look(artist)
                names[look[0], "edges"] = rows[0]["series"]
                names.setdefault(look, rows[0]["series"])
                yield from rows
        elif isinstance(artist, Collection):
            yield from _collection(axis, artist, names)
        elif isinstance(artist, AxesImage):
            yield from _image(axis, artist)
        elif isinstance(artist, Rectangle) and artist.get_data_transform() is axis.transData:
            yield _bar(axis, artist, names)


def _names(figure: Figure, axis: Axes) -> dict[tuple[str, str], str]:
    """What legends call a line of a colour and style: the panel's own first, then the others."""
    legends = [axis.get_legend(), *figure.legends, *(other.get_legend() for other in figure.axes)]
    handles: list[Artist | None] = [
        handle for legend in legends if legend for handle in legend.legend_handles
    ]
    names: dict[tuple[str, str], str] = {}
    for handle in handles:
        if isinstance(handle, Line2D):
            names.setdefault(_look(handle), str(handle.get_label()))
    return names


def _look(line: Line2D) -> tuple[str, str]:
    colour: Any = line.get_color()
    return to_hex(colour), "dashed" if line.is_dashed() else "solid"


def _series(artist: Artist, look: tuple[str, str], names: dict[tuple[str, str], str]) -> str:
    """A name that every reader knows; a dashed line of a method's colour is the paper's curve."""
    own = str(artist.get_label())
    if own and not own.startswith("_"):
        return own.removesuffix(BENEATH)
    if look in names:
        return names[look]
    colour, style = look
    solid = names.get((colour, "solid"))
    grey = next((name for (_, kind), name in names.items() if kind == style == "dashed"), None)
    if solid and grey:
        return f"{solid.partition(' (')[0]}, {grey}"
    return solid or colour


def _line(axis: Axes, line: Line2D, names: dict[tuple[str, str], str]) -> Iterator[dict[str, Any]]:
    x, y = (np.asarray(values) for values in (line.get_xdata(orig=False), line.get_ydata(False)))
    transform = line.get_transform()
    series = _series(line, _look(line), names)
    across = transform == axis.get_yaxis_transform(which="grid")
    upright = transform == axis.get_xaxis_transform(which="grid")
    if across or upright:  # a level, or a place, over the whole panel
        yield {"kind": "line", "series": series, **({"y": y[0]} if across else {"x": x[0]})}
        return
    if not transform.contains_branch(axis.transData):
        return  # the stem of an error bar's cap, or a mark at the panel's edge
    for left, up in zip(x, y, strict=True):
        yield {"kind": "line", "series": series, **_at(axis, left, up)}


def _collection(
    axis: Axes, collection: Collection, names: dict[tuple[str, str], str]
) -> Iterator[dict[str, Any]]:
    if isinstance(collection, QuadMesh):
        yield from _cells(axis, collection)
        return
    colours: Any = collection.get_edgecolor() if isinstance(collection, LineCollection) else ()
    colours = colours if len(colours) else collection.get_facecolor()
    look = (to_hex(colours[0]) if len(colours) else "", "edges")
    series = _series(collection, look, names)
    if isinstance(collection, PathCollection):
        for x, y in np.ma.filled(collection.get_offsets(), np.nan):
            yield {"kind": "point", "series": series, **_at(axis, x, y)}
    elif isinstance(collection, LineCollection | PolyCollection):
        kind = "error bar" if isinstance(collection, LineCollection) else "band"
        for path in collection.get_paths():
            yield from _edges(axis, np.asarray(path.vertices, float), kind, series)


def _edges(axis: Axes, vertices: np.ndarray, kind: str, series: str) -> Iterator[dict[str, Any]]:
    """The lower and the upper edge at every place."""
    vertices = vertices[np.isfinite(vertices).all(axis=1)]
    for x in np.unique(vertices[:, 0]):
        y = vertices[vertices[:, 0] == x, 1]
        place = _at(axis, x, math.nan)["x"]
        yield {"kind": kind, "series": series, "x": place, "low": y.min(), "high": y.max()}


def _cells(axis: Axes, mesh: QuadMesh) -> Iterator[dict[str, Any]]:
    corners = np.asarray(mesh.get_coordinates(), float)
    centres = (corners[:-1, :-1] + corners[1:, 1:]) / 2
    values: np.ndarray = np.ma.filled(np.ma.asarray(mesh.get_array(), float), np.nan)
    for (x, y), value in zip(centres.reshape(-1, 2), values.ravel(), strict=True):
        yield {"kind": "cell", **_at(axis, x, y), "value": value, "words": _words(axis, x, y)}


def _image(axis: Axes, image: AxesImage) -> Iterator[dict[str, Any]]:
    values: np.ndarray = np.ma.filled(np.ma.asarray(image.get_array(), float), np.nan)
    if values.ndim != 2:
        return  # a photograph
    left, right, bottom, top = image.get_extent()
    rows, columns = values.shape
    for i, j in np.ndindex(values.shape):
        x = left + (j + 0.5) * (right - left) / columns
        y = top + (i + 0.5) * (bottom - top) / rows
        words = _words(axis, x, y)
        yield {"kind": "cell", **_at(axis, x, y), "value": values[i, j], "words": words}


def _words(axis: Axes, x: float, y: float) -> str:
    """The text in a cell: its value, where the colour scale is cut off, or its interval."""
    written = [text.get_text() for text in axis.texts if np.allclose(text.get_position(), (x, y))]
    return " ".join(" ".join(written).split())


def _bar(axis: Axes, bar: Rectangle, names: dict[tuple[str, str], str]) -> dict[str, Any]:
    """A bar's place on the axis of categories and its length."""
    (x, y), width, height = bar.get_xy(), bar.get_width(), bar.get_height()
    place = _at(axis, x + width / 2, y + height / 2)
    lying = isinstance(place["y"], str)
    series = _series(bar, (to_hex(bar.get_facecolor()), "solid"), names)
    where = {"y": place["y"]} if lying else {"x": place["x"]}
    return {"kind": "bar", "series": series, **where, "value": width if lying else height}


def _at(axis: Axes, x: float, y: float) -> dict[str, Any]:
    """A place, by the names of categories where the axes have such."""
    return {"x": _category(axis.xaxis, x), "y": _category(axis.yaxis, y)}


def _category(axis: Axis, place: float) -> Any:
    """The name of a place, where the ticks are named; else the place."""
    ticks, words = axis.get_major_locator(), axis.get_major_formatter()
    if isinstance(ticks, FixedLocator) and isinstance(words, FixedFormatter | FuncFormatter):
        places = np.asarray(ticks(), float)
        near = np.flatnonzero(np.isclose(places, place))
        if len(near):
            return " ".join(words.format_ticks(list(places))[near[0]].split())
    return place
