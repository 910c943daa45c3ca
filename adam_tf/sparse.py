"""Gradients that come as rows and indices (tf.IndexedSlices), on the TensorFlow backend."""

from typing import Any

import keras
import numpy as np
from keras import ops


def is_sparse(gradient: Any) -> bool:
    """Whether `gradient` holds only some rows of its variable's gradient."""
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    return isinstance(gradient, tf.IndexedSlices)


def to_dense(gradient: Any, variable: Any) -> Any:
    """The whole gradient: rows that occur twice are added, rows that do not occur are 0."""
    import tensorflow as tf

    return tf.math.unsorted_segment_sum(gradient.values, gradient.indices, variable.shape[0])


def without_duplicates(gradient: Any) -> Any:
    """The same gradient with each row named once."""
    import tensorflow as tf

    indices, position = tf.unique(gradient.indices)
    values = tf.math.unsorted_segment_sum(gradient.values, position, tf.shape(indices)[0])
    return tf.IndexedSlices(values, indices, gradient.dense_shape)


def read(variable: Any, indices: Any) -> Any:
    """The rows of `variable` at `indices`, or all of it for None, read once."""
    if indices is None:
        return ops.cast(variable, variable.dtype)
    import tensorflow as tf

    is_native = isinstance(variable, tf.Variable)
    return tf.gather(variable if is_native else variable.value, indices)


def at(values: Any, indices: Any) -> Any:
    """What assigns `values` to the rows at `indices` alone, or to everything for None."""
    if indices is None:
        return values
    import tensorflow as tf

    return tf.IndexedSlices(values, indices)


def known_shape(value: Any) -> tuple[int | None, ...] | None:
    """The shape as far as it is known, None for no dimension known."""
    shape = value.shape if hasattr(value, "shape") else np.shape(value)
    return None if getattr(shape, "rank", 0) is None else tuple(shape)


def of_shape(gradient: Any, shape: tuple[int, ...]) -> Any:
    """`gradient`, which fails when the graph runs if it, or each of its rows, is not of `shape`."""
    import tensorflow as tf

    if not is_sparse(gradient):
        return tf.ensure_shape(gradient, shape)
    values = tf.ensure_shape(gradient.values, (None, *shape))
    return tf.IndexedSlices(values, gradient.indices, gradient.dense_shape)
