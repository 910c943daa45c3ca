"""The arithmetic of an update: its dtypes, and what rounding would spoil."""

import math

import keras
from keras import ops

from adam_tf.typing import Scalar, Tensor, Variable


def scalar_dtype() -> str:
    """Dtype of scalar work: float64 where the backend has it (JAX by default does not)."""
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        return "float64" if jax.config.jax_enable_x64 else "float32"  # type: ignore[attr-defined]
    if backend == "torch":
        import torch

        return "float32" if torch.backends.mps.is_available() else "float64"
    return "float64"


def moment_dtype(variable: Variable) -> str:
    """Dtype of the arithmetic: float32 or wider, so that small gradients survive squaring."""
    dtype = keras.backend.standardize_dtype(variable.dtype)
    return dtype if dtype == "float64" else "float32"


def is_narrow(variable: Variable) -> bool:
    """Whether a variable has fewer digits than its moments."""
    return keras.backend.standardize_dtype(variable.dtype) != moment_dtype(variable)


# Half a unit in the last place, as a part of the number, and the smallest number.
HALF_UNITS = {"bfloat16": (2.0**-8, 2.0**-133), "float16": (2.0**-11, 2.0**-24)}


def with_remainder(value: Tensor, remainder: Tensor) -> Tensor:
    """A narrow `value` in float32, with what rounding took from it.

    A remainder larger than rounding leaves belongs to a value that has been replaced since, by
    `load_weights` or a constraint, say, and does not count.

    Args:
        value: in bfloat16 or float16.
        remainder: in float32, of the same shape.
    """
    wide = ops.cast(value, "float32")
    part, least = HALF_UNITS[keras.backend.standardize_dtype(value.dtype)]
    # Not by rounding the sum and comparing: XLA may leave such casts out.
    own = ops.abs(remainder) <= ops.abs(wide) * part + least
    return wide + ops.where(own, remainder, 0.0)


def one_minus_power(beta: float, t: Scalar) -> Scalar:
    r"""$1 - \beta^t$, computed without cancellation."""
    log_beta = math.log(beta) if beta > 0 else -math.inf
    return -ops.expm1(t * log_beta)


def decayed_average(average: Tensor, gain: Scalar, value: Tensor) -> Tensor:
    r"""$\beta x + (1 - \beta) y$ from `gain` = $1 - \beta$, which rounds better than $\beta$.

    In float32, 1 - 0.999 has a relative error of 1.3e-5 when computed from the rounded 0.999.

    Args:
        average: $x$, the average so far.
        gain: $1 - \beta$.
        value: $y$, of the same shape as `average`.
    """
    return average - gain * average + gain * value


def maximum(a: Tensor, b: Tensor) -> Tensor:
    """The larger one, elementwise; `ops.maximum` takes float64 through float32 on PyTorch."""
    return ops.where(a > b, a, b)


def agreeing(step: Tensor, gradient: Tensor) -> Tensor:
    r"""The step of a cautious optimizer: $u\,\phi\,d / (1 + \sum\phi)$, $\phi = [u g > 0]$.

    Args:
        step: $u$, what would be subtracted from the variable, $d$ numbers.
        gradient: $g$, of the same shape.
    """
    # Signs are compared, since a product of small numbers would underflow.
    agree = ops.cast(ops.sign(step) * ops.sign(gradient) > 0, step.dtype)
    whole = ops.cast(ops.size(step), step.dtype)
    return step * agree * (whole / (1 + ops.sum(agree)))


class Seed(keras.random.SeedGenerator):
    """The seed of one rounding: a function of the step and of the moment's index, without state."""

    def __init__(self, step: Tensor, index: int) -> None:
        """For state number `index` at step `step`."""
        self.pair = step, index

    def next(self, ordered: bool = True) -> Tensor:
        """The seed, always the same."""
        step, index = self.pair
        # An odd factor, because PyTorch adds the two.
        words = ops.stack([step * 65537, ops.full_like(step, index)])
        return ops.cast(words, "uint32")
