"""Twins of a run: the same training, with each step's result off by one unit in the last place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

ULP = 2.0**-24 * 1.01  # adding this share of a float32 to it gives one of its two neighbours


class Shaken:
    """An optimizer whose every step ends at a neighbour of each weight, up or down at random.

    Everything else is the optimizer's own.
    """

    def __init__(self, optimizer: Any, number: int) -> None:
        self.optimizer, self.number = optimizer, number
        self.signs: list[np.ndarray] = []

    def __getattr__(self, name: str) -> Any:
        """Everything else, from the optimizer itself."""
        return getattr(self.optimizer, name)

    def build(self, variables: Sequence[Any]) -> None:
        """Build the optimizer, and draw the directions."""
        self.optimizer.build(variables)
        random = np.random.default_rng([self.number, len(variables)])
        for variable in variables:
            signs = random.integers(2, size=int(np.prod(variable.shape))) * 2 - 1
            self.signs.append(signs.astype(np.float32))

    def apply(self, gradients: Sequence[Any], variables: Sequence[Any]) -> None:
        """The optimizer's step, then the neighbour."""
        self.optimizer.apply(gradients, variables)
        for variable, signs in zip(variables, self.signs, strict=True):
            variable.assign(_neighbour(variable, signs, self.optimizer.iterations))

    def stateless_apply(
        self, state: Sequence[Any], gradients: Sequence[Any], values: Sequence[Any]
    ) -> tuple[list[Any], list[Any]]:
        """The same with the state passed in and out.

        Args:
            state: values of the optimizer's variables.
            gradients: one for each of `values`.
            values: of the parameters.

        Returns:
            The new values and the new state.
        """
        values, state = self.optimizer.stateless_apply(state, gradients, values)
        pairs = zip(self.optimizer.variables, state, strict=True)
        (step,) = (value for variable, value in pairs if variable is self.optimizer.iterations)
        shaken = zip(values, self.signs, strict=True)
        return [_neighbour(value, signs, step) for value, signs in shaken], list(state)


def _neighbour(value: Any, signs: np.ndarray, step: Any) -> Any:
    """`value` moved by one unit in the last place; the directions shift with the step."""
    from keras import ops

    value = ops.convert_to_tensor(value)
    turned = ops.roll(signs, ops.cast(step, "int32"))
    return value + value * (ULP * ops.reshape(turned, value.shape))


def shake(variables: Sequence[Any], number: int) -> None:
    """Move weights by one unit in the last place, once."""
    random = np.random.default_rng([number, len(variables)])
    for variable in variables:
        value = np.asarray(variable)
        signs = random.integers(2, size=value.shape) * 2 - 1
        variable.assign((value + value * (ULP * signs)).astype(value.dtype))
