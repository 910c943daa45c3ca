"""Checks of an optimizer's arguments, with errors of one line."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any

import numpy as np


def vector(theta: Any) -> np.ndarray:
    """`theta` as a new float64 vector.

    Raises:
        ValueError: it is not a vector, is empty or is not finite.
    """
    vector = np.array(theta, np.float64)
    if vector.ndim != 1 or not vector.size:
        raise ValueError(f"theta must be a vector, got the shape {vector.shape}: flatten it")
    wrong = np.flatnonzero(~np.isfinite(vector))
    if wrong.size:
        raise ValueError(f"theta must be finite, theta[{wrong[0]}] is {vector[wrong[0]]}")
    return vector


def number(name: str, value: Any, low: float, open_end: bool = False) -> float:
    """`value` as a float, if it is a finite number of at least `low`.

    Args:
        name: the argument's name, for the message.
        value: what the caller passed.
        low: the lower end.
        open_end: whether `low` itself is excluded.

    Raises:
        ValueError: it is not.
    """
    sign = ">" if open_end else ">="
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    if not is_number or not low <= value < math.inf or (open_end and value == low):
        raise ValueError(f"{name} must be a finite number {sign} {low}, got {value!r}")
    return float(value)


def whole(name: str, value: Any, low: int) -> int:
    """`value` as an int, if it is a whole number of at least `low`.

    Args:
        name: the argument's name, for the message.
        value: what the caller passed.
        low: the least allowed value.

    Raises:
        ValueError: it is not.
    """
    if not isinstance(value, Integral) or isinstance(value, bool) or value < low:
        raise ValueError(f"{name} must be a whole number >= {low}, got {value!r}")
    return int(value)
