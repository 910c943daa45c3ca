"""The TensorFlow backend: one kernel per variable, joined variables, gradients of rows."""

from adam_tf.tensorflow.joined import Joined, check_restored, join
from adam_tf.tensorflow.kernels import apply_adam, apply_adamax, obstacle, rounded
from adam_tf.tensorflow.rows import (
    at,
    cast,
    clip_rows,
    is_sparse,
    known_shape,
    of_shape,
    read,
    to_bfloat16,
    to_dense,
    without_duplicates,
)

__all__ = [
    "Joined",
    "apply_adam",
    "apply_adamax",
    "at",
    "cast",
    "check_restored",
    "clip_rows",
    "is_sparse",
    "join",
    "known_shape",
    "obstacle",
    "of_shape",
    "read",
    "rounded",
    "to_bfloat16",
    "to_dense",
    "without_duplicates",
]
