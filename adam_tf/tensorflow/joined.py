"""Many small variables on the TensorFlow backend, updated by one kernel.

A kernel that shares a few thousand numbers among threads takes longer to start than to run. So the
moments of small variables are parts of flat variables, and a step joins the gradients, runs one
kernel over everything and hands each variable its change. The numbers are the same: a kernel works
elementwise.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf

from adam_tf._keras import native
from adam_tf.typing import Tensor, Variable

# Measured: from about 30000 numbers on, a separate kernel is faster, and with fewer than 8
# variables there is little to gain.
LARGEST = 16384
FEWEST = 8


def size(variables: Iterable[Variable]) -> int:
    """How many numbers `variables` hold."""
    return sum(math.prod(variable.shape) for variable in variables)


def small_ones(variables: Sequence[Variable], indices: Iterable[int]) -> list[list[int]]:
    """Which of the variables at `indices` to update together, grouped by dtype and device."""
    if tf.distribute.has_strategy():
        return []
    groups: dict[object, list[int]] = {}
    for i in indices:
        v = native(variables[i])
        apart = getattr(variables[i], "overwrite_with_gradient", False) or isinstance(
            v, tf.distribute.DistributedValues
        )
        if not apart and 0 < size([v]) <= LARGEST:
            groups.setdefault((v.dtype, v.device), []).append(i)
    return [group for group in groups.values() if len(group) >= FEWEST]


def join(
    variables: Sequence[Variable],
    indices: Iterable[int],
    make: Callable[[Mapping[int, Variable], int], "Joined"],
) -> "list[Joined | None]":
    """The group that each variable is joined in, or None.

    Args:
        variables: those that are trained.
        indices: which of them a kernel may update.
        make: makes a group of variables, given by index, and of how many numbers they hold.
    """
    groups: list[Joined | None] = [None] * len(variables)
    for chosen in small_ones(variables, indices):
        members = {i: variables[i] for i in chosen}
        group = make(members, size(members.values()))
        for i in chosen:
            groups[i] = group
    return groups


def check_restored(steps: Tensor, moments: Iterable[keras.Variable]) -> None:
    """Refuse what a checkpoint restored before the build when it had no moments that fit.

    TensorFlow leaves such moments at 0 and says nothing.

    Args:
        steps: how many there were.
        moments: after the build.

    Raises:
        ValueError: when there were steps, and all moments are 0.
    """
    if not tf.executing_eagerly() or int(tf.convert_to_tensor(steps)) == 0:
        return
    if not any(bool(tf.reduce_any(tf.not_equal(moment.value, 0))) for moment in moments):
        raise ValueError(
            "the checkpoint holds moments of variables that were joined otherwise: restore it with "
            "the same variables, fused= and strategy"
        )


class Part(keras.Variable):
    """A moment of one variable, stored in the flat variable that holds those of many.

    It acts as a Keras variable but holds nothing itself: what is assigned goes into `flat`.
    """

    is_part = True

    def __init__(self, flat: keras.Variable, start: int, variable: Variable, name: str) -> None:
        """The numbers of `flat` from `start` on, in the shape of `variable`.

        Args:
            flat: one-dimensional.
            start: index of the first number.
            variable: whose moment this is.
            name: of the moment.
        """
        self.flat = flat
        self.range = slice(start, start + size([variable]))
        shape = tuple(variable.shape)
        super().__init__("zeros", shape=shape, dtype=flat.dtype, trainable=False, name=name)

    def _initialize_with_initializer(self, initializer: object) -> None:
        """`flat` has its numbers already."""

    @property
    def _value(self) -> Tensor:
        return tf.reshape(self.flat.value[self.range], self._shape)

    @_value.setter
    def _value(self, value: Tensor | None) -> None:
        if value is not None:  # Keras uses None for a variable without a value yet
            self._direct_assign(value)

    def _direct_assign(self, value: Tensor) -> None:
        self.flat.value[self.range].assign(tf.reshape(tf.cast(value, self.flat.dtype), [-1]))

    def numpy(self) -> np.ndarray:
        """What it holds, as an array."""
        return np.asarray(self.value)

    def assign_rows(self, rows: tf.IndexedSlices) -> None:
        """Replace some of its rows."""
        self.assign(tf.tensor_scatter_nd_update(self.value, rows.indices[:, None], rows.values))


class Joined:
    """Small variables whose moments share flat variables, so that one kernel updates them all."""

    def __init__(
        self,
        variables: Mapping[int, Variable],
        moments: Sequence[keras.Variable],
        names: Mapping[int, Sequence[str]],
    ) -> None:
        """Join variables.

        Args:
            variables: by index.
            moments: flat variables, each as long as all of `variables` together.
            names: of each variable's moments, by the same index.
        """
        self.variables, self.moments = variables, moments
        self.dtype = str(moments[0].dtype)
        self.sizes = [size([variable]) for variable in variables.values()]
        starts = itertools.accumulate(self.sizes, initial=0)
        self.parts = {
            i: [Part(m, start, variable, name) for m, name in zip(moments, names[i], strict=True)]
            for (i, variable), start in zip(variables.items(), starts, strict=False)
        }
        # A kernel subtracts from a variable: from this one, which is 0 before each step.
        self.change = keras.Variable(
            shape=moments[0].shape, initializer="zeros", dtype=moments[0].dtype, trainable=False
        )

    def update(
        self, gradients: Mapping[int, Tensor], kernel: Callable[..., None], scalars: tuple
    ) -> None:
        """Update the variables that have a gradient, and only their moments.

        Args:
            gradients: by index, each of its variable's shape.
            kernel: takes the gradient, the change, the moments and `scalars`.
            scalars: of the step.
        """
        dtype = self.dtype
        everything = [
            tf.reshape(tf.cast(gradients[i], dtype), [-1]) if i in gradients else tf.zeros(n, dtype)
            for i, n in zip(self.variables, self.sizes, strict=True)
        ]
        whole = len(gradients) == len(self.variables)
        before = [] if whole else [tf.split(moment.value, self.sizes) for moment in self.moments]
        self.change.assign(tf.zeros(self.change.shape, dtype))
        kernel(tf.concat(everything, 0), self.change.value, self.moments, scalars)
        for moment, old in zip(self.moments, before, strict=not whole):
            new = tf.split(moment.value, self.sizes)
            chosen = zip(self.variables, new, old, strict=True)
            moment.assign(tf.concat([n if i in gradients else o for i, n, o in chosen], 0))
        changes = tf.split(self.change.value, self.sizes)
        for (i, variable), change in zip(self.variables.items(), changes, strict=True):
            if i in gradients:
                native(variable).assign_add(tf.reshape(change, variable.shape))
