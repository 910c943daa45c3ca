"""Checks of an optimizer's inputs: variables, their gradients, weights to load."""

from collections.abc import Sequence

import keras
import numpy as np

from adam_tf.backend import backend
from adam_tf.typing import Tensor, Variable


def name_of(variable: Variable) -> str:
    """What a message calls a variable."""
    return getattr(variable, "path", None) or getattr(variable, "name", None) or repr(variable)


def check_variable(variable: Variable) -> None:
    """Refuse a variable that has no real gradient, or no shape to give its moments.

    Raises:
        ValueError: when the dtype is not a real floating one, or a dimension is unknown.
    """
    dtype = keras.backend.standardize_dtype(variable.dtype)
    if not keras.backend.is_float_dtype(dtype):
        hint = "; train its two parts as real variables" if dtype.startswith("complex") else ""
        raise ValueError(
            f"variable {name_of(variable)!r} must have a real floating dtype, got {dtype}{hint}"
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
