"""The state of an interrupted optimizer: everything that its iterations change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from experiments.methods.sfo.optimizer import SFO

# What a state holds of an optimizer.
ARRAYS = {
    name.strip("_"): name
    for name in (
        "theta",
        "active",
        "counts",
        "last_values",
        "_position",
        "_positions",
        "_gradients",
        "_moves",
        "_changes",
        "_pairs",
        "_axes",
        "_weights",
        "_isotropic",
        "_last_turn",
    )
}
LISTS = ("evaluated", "values", "reals", "integers", "generator")
REALS = ("step_scale", "_improvement", "_path")
INTEGERS = ("_steps", "_since_growth", "_latest")  # beside the size of the subspace


def take(sfo: SFO) -> dict[str, np.ndarray]:
    """See `SFO.state`."""
    state = {name: getattr(sfo, attribute).copy() for name, attribute in ARRAYS.items()}
    state["evaluated"] = np.array(sfo.evaluated, np.int64)
    state["values"] = np.array(sfo.values, np.float64)
    state["reals"] = np.array([getattr(sfo, name) for name in REALS], np.float64)
    integers = [sfo.space.size, *(getattr(sfo, name) for name in INTEGERS)]
    state["integers"] = np.array(integers, np.int64)
    state["generator"] = pack(sfo.rng)
    if sfo.space.basis is not None:
        state["basis"] = sfo.space.basis[: sfo.space.size].copy()
    return state


def put(sfo: SFO, state: Mapping[str, np.ndarray]) -> None:
    """See `SFO.restore`."""
    for name, attribute in ARRAYS.items():
        setattr(sfo, attribute, np.array(state[name]))
    sfo.evaluated = state["evaluated"].tolist()
    sfo.values = state["values"].tolist()
    for name, real in zip(REALS, state["reals"].tolist(), strict=True):
        setattr(sfo, name, real)
    sfo.space.size, *integers = state["integers"].tolist()
    for name, integer in zip(INTEGERS, integers, strict=True):
        setattr(sfo, name, integer)
    unpack(sfo.rng, state["generator"])
    if sfo.space.basis is not None:
        sfo.space.basis[: sfo.space.size] = state["basis"]


def check(sfo: SFO, state: Mapping[str, np.ndarray]) -> None:
    """See `SFO.check`.

    Raises:
        ValueError: the state lacks something, or is of an optimizer that was built otherwise.
    """
    names = {*ARRAYS, *LISTS} if sfo.space.basis is None else {*ARRAYS, *LISTS, "basis"}
    if missing := sorted(names - set(state)):
        raise ValueError(f"this is not the state of such an optimizer: it lacks {missing[0]}")
    for name, attribute in ARRAYS.items():
        ours, theirs = getattr(sfo, attribute).shape, state[name].shape
        if ours != theirs:
            raise ValueError(
                f"the state's {name} has shape {theirs}, {ours} is needed: "
                "build the optimizer as the one that was interrupted"
            )


def pack(generator: np.random.Generator) -> np.ndarray:
    """The state of a random generator (PCG64: two 128-bit numbers and half a draw)."""
    state: Any = generator.bit_generator.state
    words = [number >> shift for number in state["state"].values() for shift in (64, 0)]
    words += [state["has_uint32"], state["uinteger"]]
    return np.array([word & (2**64 - 1) for word in words], np.uint64)


def unpack(generator: np.random.Generator, words: np.ndarray) -> None:
    """Set a generator to a state from `pack`."""
    high, low, increment_high, increment_low, has_uint32, uinteger = words.tolist()
    generator.bit_generator.state = {
        "bit_generator": "PCG64",
        "state": {"state": high << 64 | low, "inc": increment_high << 64 | increment_low},
        "has_uint32": has_uint32,
        "uinteger": uinteger,
    }
