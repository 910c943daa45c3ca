"""A problem to minimise: a model, its examples and its cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
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
        penalty: `()` to the scalar that the objective adds to the mean cost, for example the L2
            term of the model's parameters as they are.
        diagnostics: what else is recorded after each pass: keys of
            `experiments.training.diagnostics.DIAGNOSTICS`.
        groups: rows of the training examples whose own cost is measured after each pass, by name.
        pass_examples: how many of the training examples a pass draws; None: all.
        averages: whether the averages of Section 7.2 are kept and measured after each pass.
        stability: whether steps are compared with the noise of the gradient after each pass.
        draws: `()` to numbers about the images that the model draws, recorded after each pass, and
            a picture of some of them, of which the manifest keeps the last: a PNG in base64.
    """

    model: Any
    train: tuple[Any, ...]
    held_out: tuple[Any, ...]
    evaluate: Callable[..., tuple[Any, Any]]
    penalty: Callable[[], Any] = lambda: 0.0
    diagnostics: tuple[str, ...] = ()
    groups: Mapping[str, Any] = field(default_factory=dict)
    pass_examples: int | None = None
    averages: bool = False
    stability: bool = False
    draws: Callable[[], tuple[dict[str, float], str]] | None = None

    @property
    def examples(self) -> int:
        """How many training examples a pass sees."""
        return self.pass_examples or len(self.train[0])
