"""Figures of what the analysis found. Pages draw with these; modules import each other by file."""

from experiments.figures.batches import by_batch_size
from experiments.figures.costs import averages, clocked, curves, held_out
from experiments.figures.defaults import overview, rates
from experiments.figures.grids import grid, grid_difference
from experiments.figures.measured import (
    gradient_sparsity,
    iteration_cost,
    second_moments,
    steps_and_noise,
)
from experiments.figures.pairs import ratios
from experiments.figures.registry import main
from experiments.figures.samples import images_drawn
from experiments.figures.style import png
from experiments.figures.tuning import best_of_settings, best_of_trials, search, sensitivity

__all__ = [
    "averages",
    "best_of_settings",
    "best_of_trials",
    "by_batch_size",
    "clocked",
    "curves",
    "gradient_sparsity",
    "grid",
    "grid_difference",
    "held_out",
    "images_drawn",
    "iteration_cost",
    "main",
    "overview",
    "png",
    "rates",
    "ratios",
    "search",
    "second_moments",
    "sensitivity",
    "steps_and_noise",
]
