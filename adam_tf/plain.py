"""A backend without kernels and without gradients of rows; `adam_tf.tensorflow` has both."""

from collections.abc import Callable, Sequence

import keras
import numpy as np
from keras import ops

from adam_tf.typing import Tensor, Variable


def is_sparse(gradient: Tensor) -> bool:
    """False: gradients never come as rows here."""
    return False


def known_shape(value: Tensor) -> tuple[int | None, ...] | None:
    """The shape as far as it is known; None if not even the number of dimensions is."""
    return tuple(value.shape if hasattr(value, "shape") else np.shape(value))


def of_shape(gradient: Tensor, shape: tuple[int, ...]) -> Tensor:
    """`gradient`: every shape is known here."""
    return gradient


def read(variable: Variable, indices: None) -> Tensor:
    """All of `variable`, read once."""
    return ops.cast(variable, variable.dtype)


def at(values: Tensor, indices: None) -> Tensor:
    """`values`, ready to be assigned."""
    return values


def obstacle(variable: Variable, betas: tuple[float, ...]) -> str | None:
    """Why `variable` cannot be updated by a kernel."""
    return f"the {keras.backend.backend()} backend has no kernel"


def join(
    variables: Sequence[Variable], indices: Sequence[int], make: Callable[..., object]
) -> list[object | None]:
    """What each variable is joined with: nothing.

    Args:
        variables: those that are trained.
        indices: which of them a kernel may update.
        make: what would join them.
    """
    return [None] * len(variables)


def to_bfloat16(x: Tensor, noise: Tensor) -> Tensor:
    """Round float32 to bfloat16 at random: up with the probability of the part that is cut off.

    Args:
        x: float32.
        noise: int32 from 0 to 65535, drawn for each number of `x`.
    """
    if keras.backend.backend() == "jax":
        import jax

        bits = jax.lax.bitcast_convert_type(x, "int32")
        cut = jax.lax.bitcast_convert_type((bits + noise) & ~0xFFFF, "float32")
    else:
        import torch

        cut = ((x.contiguous().view(torch.int32) + noise) & ~0xFFFF).view(torch.float32)
    return ops.cast(ops.where(ops.isfinite(x), cut, x), "bfloat16")
