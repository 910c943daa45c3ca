"""Checks of an optimizer's inputs: variables, their gradients, weights to load."""

from collections.abc import Iterable, Sequence
from typing import Any

import keras
import numpy as np

from adam_tf.backend import backend
from adam_tf.typing import Tensor, Variable


def name_of(variable: Variable) -> str:
    """What a message calls a variable."""
    return getattr(variable, "path", None) or getattr(variable, "name", None) or repr(variable)


DTYPES = ("float16", "bfloat16", "float32", "float64")


def listed(name: str, values: Iterable[Any]) -> list[Any]:
    """`values` as a list; a tensor or variable would be a list of its rows.

    Args:
        name: of the argument, for the message.
        values: what the caller passed.

    Raises:
        TypeError: when it is a single tensor or variable.
    """
    if hasattr(values, "dtype"):
        raise TypeError(f"{name} must be a list, got one {type(values).__name__}: put it in [...]")
    return list(values)


def check_variable(variable: Variable) -> None:
    """Refuse what is no variable, or one without a real gradient or a shape for its moments.

    Raises:
        TypeError: when it is not a variable.
        ValueError: when the dtype is not a real floating one, or a dimension is unknown.
    """
    if not (hasattr(variable, "assign") and hasattr(variable, "dtype")):
        raise TypeError(
            f"variables must be those of Keras or TensorFlow, got one {type(variable).__name__}: "
            "gradients come first, variables second"
        )
    dtype = keras.backend.standardize_dtype(variable.dtype)
    if not keras.backend.is_float_dtype(dtype):
        hint = "; train its two parts as real variables" if dtype.startswith("complex") else ""
        raise ValueError(
            f"variable {name_of(variable)!r} must have a real floating dtype, got {dtype}{hint}"
        )
    # A float8 scale, which its "gradient" overwrites, has no moments.
    if dtype not in DTYPES and not getattr(variable, "overwrite_with_gradient", False):
        raise ValueError(
            f"variable {name_of(variable)!r} must have one of the dtypes {', '.join(DTYPES)}, "
            f"got {dtype}: make it wider"
        )
    shape = backend.known_shape(variable)
    if shape is None or None in shape:
        raise ValueError(
            f"variable {name_of(variable)!r} must have a shape without None, got {shape}"
        )


def checked_gradient(gradient: Tensor, variable: Variable) -> Tensor:
    """`gradient`, if it is real and has the shape of `variable`.

    A dimension that TensorFlow does not know yet is checked when the graph runs.

    Args:
        gradient: a tensor, an array or `tf.IndexedSlices`.
        variable: what it is the gradient of.

    Raises:
        ValueError: when it has another shape, or is complex.
    """
    values = gradient.values if backend.is_sparse(gradient) else gradient
    if "complex" in str(getattr(values, "dtype", "")):
        dtype = keras.backend.standardize_dtype(values.dtype)
        raise ValueError(f"the gradient of {name_of(variable)!r} must be real, got {dtype}")
    wanted, given = tuple(variable.shape), backend.known_shape(values)
    if backend.is_sparse(gradient):  # any number of rows, each of the shape of the variable's
        wanted, given = wanted[1:], given and given[1:]
    if given == wanted:
        return gradient
    if given is not None and (
        len(given) != len(wanted)
        or any(n is not None and n != m for n, m in zip(given, wanted, strict=True))
    ):
        kind = "rows of the gradient" if backend.is_sparse(gradient) else "gradient"
        raise ValueError(
            f"the {kind} of {name_of(variable)!r} must have its shape {wanted}, got {given}"
        )
    return backend.of_shape(gradient, wanted)


def check_weights(weights: Sequence[Tensor], variables: Sequence[Variable]) -> None:
    """Refuse weights unless there is one for each variable, of its shape.

    Raises:
        ValueError: when there is not.
    """
    if len(weights) != len(variables):
        raise ValueError(
            f"weights must be {len(variables)} arrays, one for each variable, got {len(weights)}"
        )
    for variable, weight in zip(variables, weights, strict=True):
        if tuple(variable.shape) != tuple(np.shape(weight)):
            raise ValueError(
                f"the weight of {name_of(variable)!r} must have its shape "
                f"{tuple(variable.shape)}, got {tuple(np.shape(weight))}"
            )
