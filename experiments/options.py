"""Options and settings: declared once, by a signature, and checked by it.

A parameter's annotation says what it may be: `Literal["same", "valid"]`, `bool`, or a number,
usually in an `Interval`. The signature is that of a method's function or a problem's dataclass.
"""

from __future__ import annotations

import functools
import inspect
import math
import typing
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

SHOWN = 200  # characters of a name that are shown: enough for a whole path


@dataclass(frozen=True)
class Interval:
    """Finite numbers from `low` to `high`; an end that is `open` is left out.

    Attributes:
        low: the least number.
        high: the largest.
        open: which ends are left out: "", "(" or ")".
        whole: whether only whole numbers are meant.
    """

    low: float
    high: float = math.inf
    open: str = ""
    whole: bool = False

    def __contains__(self, value: object) -> bool:
        """Whether a value is such a number; True and False are not."""
        if isinstance(value, bool) or not isinstance(value, int if self.whole else int | float):
            return False
        try:
            if not math.isfinite(value):
                return False
        except OverflowError:  # a whole number with too many digits for a float
            return False
        above = self.low < value if self.open == "(" else self.low <= value
        return above and (value < self.high if self.open == ")" else value <= self.high)

    def __str__(self) -> str:
        """The interval in words, as an error message states it."""
        if math.isinf(self.low):
            return "a whole number" if self.whole else "a finite number"
        if self.whole:
            return f"a whole number, {self.low:g} or more"
        if math.isinf(self.high):
            return f"a finite number {'>' if self.open == '(' else '>='} {self.low:g}"
        left, right = "(" if self.open == "(" else "[", ")" if self.open == ")" else "]"
        return f"a number in {left}{self.low:g}, {self.high:g}{right}"


Count = Annotated[int, Interval(1, whole=True)]
AtLeastZero = Annotated[float, Interval(0)]
Positive = Annotated[float, Interval(0, open="(")]
Share = Annotated[float, Interval(0, 1)]
BelowOne = Annotated[float, Interval(0, 1, open=")")]  # a share, or the memory of an average


def known(kind: str, name: str, allowed: Collection[str]) -> str:
    """Return `name` if it is allowed.

    Args:
        kind: what the name stands for, for the message: "study", "option of imbalance".
        name: what was given.
        allowed: the names there are.

    Raises:
        ValueError: it is not allowed; the message suggests the nearest names.
    """
    if name in allowed:
        return name
    from difflib import get_close_matches

    allowed = list(allowed)
    lower = {option.lower(): option for option in allowed}
    text = str(name).lower()
    longer = [option for option in lower if text and option.startswith(text)]
    near = [lower[match] for match in longer or get_close_matches(text, lower, n=2, cutoff=0.5)]
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    shown = repr(name) if len(str(name)) <= SHOWN else f"{str(name)[:SHOWN]!r}..."
    raise ValueError(f"unknown {kind} {shown}: {hint}allowed: {', '.join(allowed)}")


@functools.cache
def declared(signature: Callable[..., Any]) -> Mapping[str, Any]:
    """The keyword parameters of a function, or the fields of a dataclass, with their annotations.

    Raises:
        TypeError: when an annotation does not say what is allowed.
    """
    at = signature if inspect.isclass(signature) else inspect.unwrap(signature)
    hints = typing.get_type_hints(at, include_extras=True)
    keywords = [
        name
        for name, parameter in inspect.signature(signature).parameters.items()
        if inspect.isclass(signature) or parameter.kind is parameter.KEYWORD_ONLY
    ]
    return {name: _allowed(name, hints[name]) for name in keywords}


def _allowed(name: str, hint: Any) -> Interval | tuple[Any, ...]:
    """The numbers or the values that an annotation admits."""
    plain: dict[Any, Interval | tuple[Any, ...]] = {
        bool: (True, False),
        float: Interval(-math.inf),
        int: Interval(-math.inf, whole=True),
    }
    if hint in plain:
        return plain[hint]
    if typing.get_origin(hint) is typing.Literal:
        return typing.get_args(hint)
    for extra in getattr(hint, "__metadata__", ()):
        if isinstance(extra, Interval):
            return extra
    raise TypeError(
        f"{name} must be bool, int, float, a Literal or Annotated with an Interval, got {hint}"
    )


def check_value(of: str, name: str, value: Any, signature: Callable[..., Any]) -> None:
    """Raise a ValueError of one line unless the parameter `name` of a signature admits `value`.

    Args:
        of: what the parameter belongs to, for the message.
        name: a key of `declared(signature)`.
        value: the value to check.
        signature: a function or a dataclass.
    """
    allowed = declared(signature)[name]
    if isinstance(allowed, Interval):
        good, words = value in allowed, str(allowed)
    else:
        good = any(type(value) is type(each) and value == each for each in allowed)
        words = f"one of {', '.join(map(str, allowed))}"
    if not good:
        raise ValueError(f"{name}={value!r} is not valid for {of}: use {words}")
