"""One kernel per variable on the TensorFlow backend: a step in a single pass over memory.

TensorFlow's kernels implement the reordering at the end of Section 2, where epsilon is added before
the bias correction. They accept a new epsilon at each step, so `epsilon * sqrt(1 - beta_2^t)` makes
them Algorithm 1. The corrections enter through the learning rate, computed in float64; the powers
of beta, which a kernel would subtract from 1 in float32, are given as 0.

One difference from the reference path remains. A kernel takes beta in the variable's dtype, and in
float32, 0.999 is 0.99900001287. The corrections use that number, so a kernel runs Algorithm 1 with
a beta rounded to float32; where rounding would matter, `obstacle` says so.
"""

import math
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from adam_tf.typing import Scalar, Tensor, Variable

# Largest relative change of 1 - beta when beta is rounded: 1.3e-5 for 0.999, 1.7e-4 for 0.9999.
ROUNDING = 2.0**-12

# A kernel computes m + (1 - beta) (g - m), which cancels for a small beta.
SMALLEST_BETA = 0.25


def rounded(beta: float, dtype: str) -> float:
    """`beta` as the kernel sees it."""
    return float(np.dtype(dtype).type(beta))


def obstacle(variable: Variable, betas: tuple[float, ...]) -> str | None:
    """Why `variable` cannot be updated by a kernel, or None."""
    dtype = tf.as_dtype(variable.dtype).name
    if dtype not in ("float32", "float64"):
        return f"its dtype is {dtype}, the kernels take float32 and float64"
    for beta in betas:
        if beta < SMALLEST_BETA:
            return f"a kernel loses digits with a beta below {SMALLEST_BETA}, got {beta!r}"
        if abs(rounded(beta, dtype) - beta) > ROUNDING * (1 - beta):
            return f"{beta!r} is too close to 1 to be rounded to {dtype}"
    strategy = tf.distribute.get_strategy()
    if tf.distribute.has_strategy() and not isinstance(
        strategy, (tf.distribute.MirroredStrategy, tf.distribute.OneDeviceStrategy)
    ):
        return f"{type(strategy).__name__} does not hold variables where a kernel can reach them"
    return None


def apply_adam(
    variable: tf.Variable,
    moments: Sequence[Variable],
    gradient: Tensor,
    alpha: Scalar,
    betas: tuple[float, float],
    epsilon: Scalar,
) -> None:
    """Update `variable` and its `moments` (m, v and, for AMSGrad, the maximum of v).

    A gradient beyond 1.8e19, whose square is infinite in float32, must not stop its coordinate for
    good. It does not: the next step makes v infinity minus infinity, a visible NaN. The maximum of
    AMSGrad would stay infinite, so there such a gradient is made NaN.

    Args:
        variable: of dtype float32 or float64.
        moments: of the variable's shape and dtype.
        gradient: of the variable's shape and dtype.
        alpha: the step size with the bias corrections in it.
        betas: beta_1 and beta_2.
        epsilon: what is added to sqrt(v).
    """
    dtype = variable.dtype
    if len(moments) == 3:
        gradient = tf.where(tf.math.is_finite(gradient * gradient), gradient, math.nan)
    arguments = {
        "var": variable.handle,
        "m": moments[0].value.handle,
        "v": moments[1].value.handle,
        "beta1_power": tf.zeros([], dtype),
        "beta2_power": tf.zeros([], dtype),
        "lr": alpha,
        "beta1": tf.constant(betas[0], dtype),
        "beta2": tf.constant(betas[1], dtype),
        "epsilon": epsilon,
        "grad": gradient,
    }
    if len(moments) == 3:
        tf.raw_ops.ResourceApplyAdamWithAmsgrad(vhat=moments[2].value.handle, **arguments)
    else:
        tf.raw_ops.ResourceApplyAdam(**arguments)


def apply_adamax(
    variable: tf.Variable,
    moments: Sequence[Variable],
    gradient: Tensor,
    alpha: Scalar,
    betas: tuple[float, float],
    guard: float,
) -> None:
    """Update `variable` and its `moments` (m, u).

    Args:
        variable: of dtype float32 or float64.
        moments: of the variable's shape and dtype.
        gradient: of the variable's shape and dtype.
        alpha: the step size with the bias correction in it.
        betas: beta_1 and beta_2.
        guard: what is added to u, against 0/0.
    """
    dtype = variable.dtype
    tf.raw_ops.ResourceApplyAdaMax(
        var=variable.handle,
        m=moments[0].value.handle,
        v=moments[1].value.handle,
        beta1_power=tf.zeros([], dtype),
        lr=alpha,
        beta1=tf.constant(betas[0], dtype),
        beta2=tf.constant(betas[1], dtype),
        epsilon=tf.constant(guard, dtype),
        grad=gradient,
    )
