"""What the optimizers keep, against the sizes that their algorithms give."""

from __future__ import annotations

import pytest

from experiments.theory.memory import optimizer_state
from experiments.theory.options import OptimizerState


def test_bytes_for_each_parameter():
    rows = list(
        optimizer_state("none", 0, {"learning_rate": 0.001}, 1, 1, OptimizerState(largest=4))
    )
    assert [row["t"] for row in rows] == [10, 100, 1_000, 10_000]
    kept = {"sgd": 0, "sgd_nesterov": 1, "adagrad": 1, "rmsprop": 1, "adadelta": 2}
    for name, arrays in {**kept, "adam": 2, "adamax": 2}.items():
        for row in rows:  # beside the arrays, a step number and a learning rate
            assert 4 * arrays <= row[name] <= 4 * arrays + 16 / row["t"]
    assert rows[-1]["adam_over_sgd"] == pytest.approx(8, abs=1e-3)
    assert rows[-1]["adamax_over_sgd"] == pytest.approx(8, abs=1e-3)
