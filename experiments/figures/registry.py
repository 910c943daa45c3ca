"""Which figure is a study's own."""

from __future__ import annotations

from matplotlib.figure import Figure

from experiments.analysis.results import Results
from experiments.figures import theory
from experiments.figures.batches import by_batch_size
from experiments.figures.costs import clocked, curves
from experiments.figures.grids import grid
from experiments.figures.measured import iteration_cost
from experiments.options import known


def main(results: Results) -> Figure:
    """The paper's figure that a study reproduces, drawn anew."""
    study = results.study
    if study.measured:
        return theory.FIGURES[known("figure of the problem", study.problem, theory.FIGURES)](
            results
        )
    if any("minibatches" in arm.grid for arm in study.arms):
        return iteration_cost(results)
    if any(arm.grid for arm in study.arms):
        return grid(results)
    if any(arm.batch_size for arm in study.arms):
        return by_batch_size(results)
    if any(panel.clock for panel in study.panels):
        return clocked(results)
    return curves(results)
