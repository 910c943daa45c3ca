"""What the methods keep for each parameter (abstract and Section 1).

`optimizer_state` is a measurement like the others in this folder. Its arguments: see
`registry.Entry.measured`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from experiments.methods import optimizers
from experiments.theory.adam import Row, Settings
from experiments.theory.options import OptimizerState

METHODS = ("adam", "adamax", "sgd_nesterov", "adagrad", "rmsprop", "adadelta")  # of the paper


def optimizer_state(
    data: str, seed: int, settings: Settings, batch_size: int, epochs: int, options: OptimizerState
) -> Iterator[Row]:
    """The size of each method's state for a float32 variable of 10, 100, ..., 10^`largest` numbers.

    A row is a size of the variable:

    - t: its numbers;
    - NAME: bytes of everything that the method of that name keeps between steps, over t; SFO, whose
      state grows with its minibatches, is measured by `fig2-sfo-cost`;
    - adam_over_sgd, adamax_over_sgd: how many bytes more than SGD without momentum, over t.
    """
    import keras

    for exponent in range(1, options.largest + 1):
        size = 10**exponent
        row = {"t": float(size)}
        row |= {name: _bytes(optimizers.build(name, settings, 1), size) for name in METHODS}
        row["sgd"] = _bytes(keras.optimizers.SGD(**settings), size)
        for name in ("adam", "adamax"):
            row[f"{name}_over_sgd"] = row[name] - row["sgd"]
        yield row


def _bytes(optimizer: Any, size: int) -> float:
    """Bytes for each number of a variable of this size."""
    import keras

    variable = keras.Variable(np.zeros(size, "float32"))
    optimizer.build([variable])
    return float(sum(np.asarray(v).nbytes for v in optimizer.variables)) / size
