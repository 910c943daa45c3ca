"""Data sets and models: what there is to minimise.

Each entry of `PROBLEMS` is a function from a data set and keyword options to a `Problem`. To add
one, write the function and its entry. Models import Keras only when they are built.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from experiments.check import known


@dataclass(frozen=True)
class Problem:
    """A stochastic objective: a model, its examples and its cost.

    Attributes:
        model: a built Keras model holding the initial parameters.
        train: arrays of equal length, one row per training example: inputs, then targets.
        held_out: the same for examples that training never sees.
        evaluate: `(model, *batch, training)` to the cost (nats) and the correctness (0 or 1) of
            each example.
        penalty: `(model)` to the scalar that the objective adds to the mean cost, for example
            the L2 term.
    """

    model: Any
    train: tuple[Any, ...]
    held_out: tuple[Any, ...]
    evaluate: Callable[..., tuple[Any, Any]]
    penalty: Callable[[Any], Any]


def mnist_logistic_regression(
    data: str,
    seed: int,
    *,
    l2: float = 0.0,
    train_examples: int = 60_000,
    initial_stddev: float = 0.0,
) -> Problem:
    """L2-regularised multinomial logistic regression on the 784 pixels (Section 6.1)."""
    from experiments.problems.logistic_regression import mnist

    return mnist(data, seed, l2=l2, train_examples=train_examples, initial_stddev=initial_stddev)


PROBLEMS: dict[str, Callable[..., Problem]] = {
    "mnist_logistic_regression": mnist_logistic_regression,
}


def build(name: str, data: str, options: Mapping[str, Any], seed: int) -> Problem:
    """The problem `name` on a data set, with initial parameters decided by `seed`."""
    return PROBLEMS[name](data, seed, **options)


def check_options(name: str, options: Mapping[str, Any]) -> None:
    """Raise a ValueError of one line if an option is unknown, negative or not finite."""
    known("problem", name, PROBLEMS)
    parameters = list(inspect.signature(PROBLEMS[name]).parameters)[2:]
    for key, value in options.items():
        known(f"option of {name}", key, parameters)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not math.isfinite(value) or value < 0:
            raise ValueError(f"{key}={value!r} is not valid for {name}: use a number >= 0")
