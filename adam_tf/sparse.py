"""Gradients that come as rows and indices (tf.IndexedSlices), on the TensorFlow backend."""

from typing import Any

import keras


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


def rows_of(variable: Any, indices: Any) -> Any:
    """The rows of `variable` at `indices`."""
    import tensorflow as tf

    return tf.gather(variable.value, indices)


def as_rows(values: Any, indices: Any) -> Any:
    """What assigns `values` to the rows at `indices` alone."""
    import tensorflow as tf

    return tf.IndexedSlices(values, indices)
