"""Temporal averages of the parameters, kept along a run and measured after each pass (Section 7.2).

Training is not affected: the averages only watch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from adam_tf.averaging import average_weight

# The two averages of Section 7.2: the mean of all steps, and the bias-corrected exponential one
# with the decay of Adam's second moment, as the paper has it.
DECAYS: dict[str, float | None] = {"mean": None, "exponential": 0.999}

Measure = Callable[[], dict[str, float]]


class Averages:
    """Both averages of a model's parameters.

    Attributes:
        variables: the averages, one after the other, in the order of the parameters.
    """

    def __init__(self, parameters: Sequence[Any]) -> None:
        self.parameters = list(parameters)
        self.variables = [
            keras.Variable(ops.zeros(v.shape, v.dtype), trainable=False, name=f"{kind}_{i}")
            for kind in DECAYS
            for i, v in enumerate(self.parameters)
        ]

    def advance(self, averages: Sequence[Any], parameters: Sequence[Any], step: Any) -> list[Any]:
        """The averages after step `step` (from 1), which led to `parameters`.

        Args:
            averages: their values, in the order of `variables`.
            parameters: the values after the step, in their order.
            step: its number, from 1: a scalar tensor.
        """
        step, moved = ops.cast(step, "float32"), []
        for i, decay in enumerate(DECAYS.values()):
            weight = average_weight(step, decay)
            mine = averages[i * len(parameters) : (i + 1) * len(parameters)]
            moved += [a + weight * (p - a) for a, p in zip(mine, parameters, strict=True)]
        return moved

    def measure(self, costs: Measure) -> dict[str, float]:
        """`costs` with the last parameters and with each average in their place."""
        last = [ops.convert_to_numpy(ops.copy(v.value)) for v in self.parameters]
        numbers = {f"last {name}": value for name, value in costs().items()}
        for i, kind in enumerate(DECAYS):
            mine = self.variables[i * len(last) : (i + 1) * len(last)]
            for variable, average in zip(self.parameters, mine, strict=True):
                variable.assign(average)
            numbers |= {f"{kind} {name}": value for name, value in costs().items()}
        for variable, value in zip(self.parameters, last, strict=True):
            variable.assign(value)
        return numbers
