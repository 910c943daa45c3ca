"""The paper's own curves, read off its vector figures: `curves.csv`."""

from __future__ import annotations

import csv
import functools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from experiments.study import Panel

CURVES = Path(__file__).parent / "curves.csv"


@functools.cache
def _curves() -> dict[tuple[str, str], dict[float, float]]:
    curves: dict[tuple[str, str], dict[float, float]] = {}
    with open(CURVES, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            points = curves.setdefault((row["panel"], row["curve"]), {})
            points[float(row["x"])] = float(row["y"])
    return curves


def shows(panel: str, curve: str) -> bool:
    """Whether the paper's panel has that curve; for some settings it shows none."""
    return (panel, curve) in _curves()


def names(panel: str) -> list[str]:
    """The curves of a panel."""
    return [curve for name, curve in _curves() if name == panel]


def points(panel: str, curve: str) -> dict[float, float]:
    """A curve as y by x: training cost by pass, or loss by log10 of the step size.

    Raises:
        ValueError: the paper has no such curve.
    """
    if not shows(panel, curve):
        raise ValueError(f"the paper has no curve {curve!r} in panel {panel!r}")
    return _curves()[panel, curve]


def distance(panel: Panel, curve: str, costs: Sequence[float]) -> float:
    """Root mean square distance of a curve of costs by pass to the paper's, from `panel.first`.

    In nats; of natural logarithms where the paper's axis is logarithmic. Infinite without a pass
    in common.

    Args:
        panel: the paper's.
        curve: one of its curves.
        costs: by pass, from pass 0.
    """
    gaps = []
    for x, y in points(panel.name, curve).items():
        if panel.first <= x < len(costs) and x == int(x):
            ours = costs[int(x)]
            if panel.log:
                gaps.append(math.log(max(ours, 1e-300)) - math.log(y))
            else:
                gaps.append(ours - y)
    return math.sqrt(sum(gap**2 for gap in gaps) / len(gaps)) if gaps else math.inf
