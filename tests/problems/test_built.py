"""What the author of a problem may get wrong is named when the problem is built or evaluated."""

from __future__ import annotations

import numpy as np
import pytest

from experiments.problems import registry
from experiments.problems.options import Imbalance
from experiments.problems.problem import Problem
from experiments.problems.registry import Entry

COSTS, RIGHT = np.zeros(4, "float32"), np.ones(4, "float32")
ROWS = (np.zeros((8, 2)), np.zeros(8))


def evaluate(found):
    return lambda model, *batch, training: found


@pytest.mark.parametrize(
    ("problem", "message"),
    [
        (None, "mine() returned NoneType: return a Problem"),
        (Problem(None, ROWS[0], ROWS, evaluate(None)), "train of mine() is no tuple: give (inputs"),
        (Problem(None, ROWS, (), evaluate(None)), "held_out of mine() is no tuple: give (inputs"),
        (
            Problem(None, (ROWS[0], ROWS[1][:7]), ROWS, evaluate(None)),
            "train of mine() has arrays of [7, 8] examples: give every example a row in each",
        ),
        (
            Problem(None, ROWS, ROWS, evaluate(COSTS)),
            "`evaluate` of mine() returned no pair: return the costs and the correctness",
        ),
        (
            Problem(None, ROWS, ROWS, evaluate((COSTS[:, None], None))),
            "`evaluate` of mine() returned costs of shape (4, 1): return one number per example",
        ),
        (
            Problem(None, ROWS, ROWS, evaluate((COSTS, RIGHT.sum()))),
            "`evaluate` of mine() returned correctness of shape (): return one number per example",
        ),
    ],
)
def test_what_does_not_fit_is_named(problem, message, monkeypatch):
    class Module:
        @staticmethod
        def mine(data, seed, options):
            return problem

    monkeypatch.setitem(registry.PROBLEMS, "mine", Entry("problems.mine", "mine", Imbalance))
    monkeypatch.setattr(registry.importlib, "import_module", lambda name: Module)
    with pytest.raises(ValueError, match=r"mine\(\)") as caught:
        registry.build("mine", "none", {}, 0).evaluate(None, training=True)
    assert message in str(caught.value)


def test_what_fits_is_handed_on(monkeypatch):
    made = Problem(None, ROWS, ROWS, evaluate((COSTS, RIGHT)))
    assert registry._checked("mine", made.evaluate)(None, training=False) == (COSTS, RIGHT)
