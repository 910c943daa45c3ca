"""Checks of arguments: one line, with the offending value and what is allowed."""

import inspect
import math
from collections.abc import Iterable
from numbers import Integral, Real
from typing import Any

# What other libraries and the paper call some arguments.
OTHER_NAMES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("lr", "alpha", "step_size", "stepsize", "rate"), ("learning_rate",)),
    **dict.fromkeys(("eps", "epsilon", "epsilon_hat"), ("epsilon",)),
    **dict.fromkeys(("beta1", "b1", "beta_one"), ("beta_1",)),
    **dict.fromkeys(("beta2", "b2", "beta_two"), ("beta_2",)),
    "betas": ("beta_1", "beta_2"),
    "lambda": ("beta_1_decay",),
    "lambda_": ("beta_1_decay",),
}


def check_number(
    name: str,
    value: Any,
    low: float = -math.inf,
    high: float = math.inf,
    low_open: bool = False,
    high_open: bool = False,
) -> float:
    """Return `value` as a Python float when it is a finite number in the interval.

    Args:
        name: the argument's name, for the message.
        value: what the caller passed.
        low: lower end of the interval.
        high: upper end of the interval.
        low_open: whether `low` itself is excluded.
        high_open: whether `high` itself is excluded.

    Raises:
        TypeError: when `value` is not a real number (a bool is not one).
        ValueError: when it is NaN, infinite or outside the interval.

    Example:
        >>> check_number("beta_1", 0.9, 0, 1, high_open=True)
        0.9
        >>> check_number("beta_1", 1.5, 0, 1, high_open=True)
        Traceback (most recent call last):
        ...
        ValueError: beta_1 must be a finite number in [0, 1), got 1.5
    """
    allowed = "a finite number"
    if math.isfinite(low) or math.isfinite(high):
        left = "(" if low_open or math.isinf(low) else "["
        right = ")" if high_open or math.isinf(high) else "]"
        allowed += f" in {left}{low}, {high}{right}"
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be {allowed}, got {value!r} ({type(value).__name__})")
    number = float(value)
    below = number <= low if low_open else number < low
    above = number >= high if high_open else number > high
    if not math.isfinite(number) or below or above:
        raise ValueError(f"{name} must be {allowed}, got {value!r}")
    return number


def check_integer(name: str, value: Any, low: int) -> int:
    """Return `value` as a Python int when it is a whole number of at least `low`.

    Raises:
        TypeError: when `value` is not an integer (a bool is not one).
        ValueError: when it is below `low`.

    Example:
        >>> check_integer("steps_per_epoch", 0, 1)
        Traceback (most recent call last):
        ...
        ValueError: steps_per_epoch must be an integer of at least 1, got 0
    """
    allowed = f"an integer of at least {low}"
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name} must be {allowed}, got {value!r} ({type(value).__name__})")
    if value < low:
        raise ValueError(f"{name} must be {allowed}, got {value!r}")
    return int(value)


def check_choice(name: str, value: Any, choices: tuple[Any, ...]) -> Any:
    """Return `value` when it is one of `choices`.

    Raises:
        ValueError: when it is none of them.

    Example:
        >>> check_choice("epsilon_form", "inside", ("algorithm1", "hat"))
        Traceback (most recent call last):
        ...
        ValueError: epsilon_form must be 'algorithm1' or 'hat', got 'inside'
    """
    # `is` on booleans and None: 1 == True, yet 1 is not what was asked for.
    if not any(value is c or (isinstance(c, str) and value == c) for c in choices):
        raise ValueError(f"{name} must be {' or '.join(map(repr, choices))}, got {value!r}")
    return value


def check_names(cls: type, names: Iterable[str]) -> None:
    """Refuse arguments that are known under another name; say under which.

    Args:
        cls: the class that was given them.
        names: the names that are not in its signature.

    Raises:
        ValueError: when one of them is such a name.

    Example:
        >>> from adam_tf import Adam
        >>> Adam(lr=0.1)
        Traceback (most recent call last):
        ...
        ValueError: Adam has no argument 'lr': use learning_rate
    """
    allowed = inspect.signature(cls).parameters
    for name in names:
        meant = OTHER_NAMES.get(name.lower(), ())
        if name in allowed or not meant:
            continue
        if set(meant) <= set(allowed):
            raise ValueError(f"{cls.__name__} has no argument {name!r}: use {' and '.join(meant)}")
        if meant == ("epsilon",):
            raise ValueError(f"{cls.__name__} has no argument {name!r}: its rule has no epsilon")
