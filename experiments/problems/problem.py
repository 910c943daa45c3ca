"""What there is to minimise: a model, its examples and its cost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Problem:
    """A stochastic objective: a model, its examples and its cost.

    Attributes:
        model: a built Keras model holding the initial parameters.
        train: arrays of equal length, one row per training example: inputs, then targets.
        held_out: the same for examples that training never sees.
        evaluate: `(model, *batch, training)` to the cost (nats) and the correctness (0 or 1; None
            where nothing is classified) of each example.
        penalty: `(model)` to the scalar that the objective adds to the mean cost, for example
            the L2 term.
        diagnostics: what else is recorded after each pass: keys of
            `experiments.training.diagnostics.DIAGNOSTICS`.
        averages: whether the averages of Section 7.2 are kept and measured after each pass.
    """

    model: Any
    train: tuple[Any, ...]
    held_out: tuple[Any, ...]
    evaluate: Callable[..., tuple[Any, Any]]
    penalty: Callable[[Any], Any]
    diagnostics: tuple[str, ...] = ()
    averages: bool = False
