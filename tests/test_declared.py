"""Options and settings: one declaration, which is what is built, checked and shown."""

from __future__ import annotations

import dataclasses
import inspect
import math
import re
from collections.abc import Callable
from typing import Annotated, Any, Literal

import pytest

from experiments.data import cifar10
from experiments.methods import optimizers
from experiments.options import BelowOne, Count, Interval, Positive, check_value, declared
from experiments.problems import registry
from experiments.problems.options import Convolutional
from experiments.theory import adam, drift, failures
from experiments.theory.options import Counterexample, Drift

SIGNATURES: dict[str, Callable[..., Any]] = {
    **{name: entry.options for name, entry in registry.PROBLEMS.items()},
    **optimizers.OPTIMIZERS,
}


@dataclasses.dataclass(frozen=True)
class Example:
    padding: Literal["same", "valid"]
    share: BelowOne
    width: Count
    rate: Positive
    sign: bool
    shift: float
    turns: int
    gain: Annotated[float, Interval(0, 1, open="(")]


@pytest.mark.parametrize("name", SIGNATURES)
def test_every_default_is_allowed_and_every_annotation_understood(name):
    allowed = declared(SIGNATURES[name])
    parameters = inspect.signature(SIGNATURES[name]).parameters
    assert set(allowed) == set(parameters) - {"steps_per_epoch"}
    for key in allowed:
        default = parameters[key].default
        if default is not inspect.Parameter.empty:
            check_value(name, key, default, SIGNATURES[name])


def test_words_are_those_that_the_code_knows():
    assert declared(Drift)["motion"] == drift.MOTIONS
    assert declared(Convolutional)["whitening"] == cifar10.WHITENINGS
    assert declared(Counterexample)["kind"] == tuple(failures.KINDS)
    assert declared(optimizers.adam)["decay"] == adam.DECAYS


@pytest.mark.parametrize(
    ("name", "good", "bad", "words"),
    [
        ("padding", ["same"], ["Same", "", 0, None], "one of same, valid"),
        ("share", [0, 0.0, 0.999], [1, 1.0, -1e-9, "0.5"], "a number in [0, 1)"),
        ("width", [1, 10**9], [0, 1.0, -1, True], "a whole number, 1 or more"),
        ("rate", [5e-324, 1, 1e308], [0, -0.0, math.inf, math.nan], "a finite number > 0"),
        ("rate", [0.5], [10**400, "1", None], "a finite number > 0"),
        ("sign", [True, False], [1, 0, "true", None], "one of True, False"),
        ("shift", [-1.5, 0, 2], [math.inf, True, "2"], "a finite number"),
        ("turns", [-3, 0], [1.0, True], "a whole number"),
        ("gain", [1, 0.5], [0, 1.1], "a number in (0, 1]"),
    ],
)
def test_a_value_is_checked_by_its_annotation(name, good, bad, words):
    for value in good:
        check_value("example", name, value, Example)
    for value in bad:
        message = f"{name}={value!r} is not valid for example: use {words}"
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            check_value("example", name, value, Example)


def test_an_annotation_that_says_nothing_is_refused():
    def method(steps: int, *, name: str) -> None:
        """A method whose setting could be anything."""

    with pytest.raises(TypeError, match="name must be bool, int, float, a Literal or Annotated"):
        declared(method)


def test_a_problem_of_defaults_is_the_problem():
    """What is built without options is what is built with every default written out."""
    for entry in registry.PROBLEMS.values():
        assert entry.options(**dataclasses.asdict(entry.options())) == entry.options()
