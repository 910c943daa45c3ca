"""Gradients that come as rows and indices (tf.IndexedSlices), and shapes and bits of tensors."""

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf
from keras import ops

from adam_tf.typing import Tensor, Variable


def is_sparse(gradient: Tensor) -> bool:
    """Whether `gradient` holds only some rows of its variable's gradient."""
    return isinstance(gradient, tf.IndexedSlices)


def cast(gradient: Tensor, dtype: str) -> Tensor:
    """`gradient`, or its rows, in another dtype."""
    return tf.cast(gradient, dtype)


def to_dense(gradient: tf.IndexedSlices, variable: Variable) -> Tensor:
    """The whole gradient: rows that occur twice are added, rows that do not occur are 0."""
    return tf.math.unsorted_segment_sum(gradient.values, gradient.indices, variable.shape[0])


def without_duplicates(gradient: tf.IndexedSlices) -> tf.IndexedSlices:
    """The same gradient with each row listed once."""
    indices, position = tf.unique(gradient.indices)
    values = tf.math.unsorted_segment_sum(gradient.values, position, tf.shape(indices)[0])
    return tf.IndexedSlices(values, indices, gradient.dense_shape)


def clip_rows(
    gradients: Sequence[Tensor], clip: Callable[[Sequence[Tensor]], Sequence[Tensor]]
) -> list[Tensor]:
    """The clipped gradients, rows as rows: Keras would make them dense by their global norm.

    Args:
        gradients: dense or rows; rows that occur twice are added up first.
        clip: clips dense gradients.
    """
    gradients = [without_duplicates(g) if is_sparse(g) else g for g in gradients]
    # Each row is listed once, so that the numbers have the norm of the whole gradient.
    clipped = clip([g.values if is_sparse(g) else g for g in gradients])
    return [
        tf.IndexedSlices(numbers, g.indices, g.dense_shape) if is_sparse(g) else numbers
        for g, numbers in zip(gradients, clipped, strict=True)
    ]


def read(variable: Variable, indices: Tensor | None) -> Tensor:
    """The rows of `variable` at `indices`, or all of it for None, read once."""
    if indices is None:
        return ops.cast(variable, variable.dtype)
    is_native = isinstance(variable, tf.Variable)
    return tf.gather(variable if is_native else variable.value, indices)


def at(values: Tensor, indices: Tensor | None) -> Tensor:
    """`values`, ready to be assigned to the rows at `indices` alone, or to everything for None."""
    return values if indices is None else tf.IndexedSlices(values, indices)


def known_shape(value: Tensor) -> tuple[int | None, ...] | None:
    """The shape as far as it is known; None if not even the number of dimensions is."""
    shape = value.shape if hasattr(value, "shape") else np.shape(value)
    return None if getattr(shape, "rank", 0) is None else tuple(shape)


def of_shape(gradient: Tensor, shape: tuple[int, ...]) -> Tensor:
    """`gradient`, checked when the graph runs: it, or each of its rows, must be of `shape`."""
    if not is_sparse(gradient):
        return tf.ensure_shape(gradient, shape)
    values = tf.ensure_shape(gradient.values, (None, *shape))
    return tf.IndexedSlices(values, gradient.indices, gradient.dense_shape)


def to_bfloat16(x: Tensor, noise: Tensor) -> Tensor:
    """Round float32 to bfloat16 at random: up with the probability of the part that is cut off.

    Args:
        x: float32.
        noise: int32 from 0 to 65535, drawn for each number of `x`.
    """
    bits = tf.bitwise.bitwise_and(tf.bitcast(x, tf.int32) + noise, ~0xFFFF)
    return tf.cast(tf.where(tf.math.is_finite(x), tf.bitcast(bits, tf.float32), x), tf.bfloat16)
