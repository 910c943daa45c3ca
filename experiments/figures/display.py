"""Figures and tables as a notebook shows them."""

from __future__ import annotations

from typing import Any

import pandas as pd
from IPython.display import HTML, Image
from matplotlib.figure import Figure

from experiments.figures.style import png


def show(what: Figure | pd.DataFrame, alt: str = "") -> Any:
    """A figure or a table, ready for a notebook cell to end with.

    Args:
        what: a Matplotlib figure or a table.
        alt: what a figure shows, in words for readers who cannot see it.
    """
    if isinstance(what, pd.DataFrame):
        if what.empty:
            return HTML("<p>Not part of this profile.</p>")
        with pd.option_context("display.max_colwidth", None):
            return HTML(what.to_html(index=False, float_format="{:.4g}".format, border=0))
    width = round(96 * what.get_figwidth())
    return Image(png(what), format="png", width=width, alt=alt)
