"""Algorithm 2 of the paper."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from adam_tf.arithmetic import decayed_average, maximum, moment_dtype, one_minus_power
from adam_tf.backend import backend
from adam_tf.base import MomentOptimizer
from adam_tf.typing import Scalar, Tensor, Variable
from adam_tf.validation import check_setting


class AdaMaxCoefficients(NamedTuple):
    """The scalars of one step."""

    alpha: Scalar  # alpha / (1 - beta_1^t)


class AdaMaxDiagnostics(NamedTuple):
    """The state of one variable after the last step, as float64 arrays of its shape."""

    m: np.ndarray  # first moment
    u: np.ndarray  # infinity norm
    m_hat: np.ndarray  # m, corrected for its bias
    step: np.ndarray  # what the last step subtracted from the variable
    snr: np.ndarray  # m_hat / u, the step in units of alpha


@keras.saving.register_keras_serializable(package="adam_tf")
class AdaMax(MomentOptimizer):
    r"""AdaMax, exactly as Algorithm 2 of the paper states it.

    With the gradient $g_t$ of step $t = 1, 2, \dots$ and $m_0 = u_0 = 0$, elementwise

    $$
    \begin{aligned}
    m_t &= \beta_1\, m_{t-1} + (1 - \beta_1)\, g_t \\
    u_t &= \max(\beta_2\, u_{t-1}, |g_t|) \\
    \theta_t &= \theta_{t-1} - \frac{\alpha_t}{1 - \beta_1^t}\, m_t / u_t
    \end{aligned}
    $$

    where $\alpha_t$ is `learning_rate`, $\beta_1$ is `beta_1` and $\beta_2$ is `beta_2`.

    There is no epsilon. A coordinate whose gradient has always been 0 does not move: the smallest
    normal number is added to $u_t$, which turns 0/0 into 0 and changes no $u_t$ above 2e-31.

    Args:
        learning_rate: $\alpha$, a number >= 0, a `LearningRateSchedule` or a callable.
        beta_1: decay rate of the first moment, in [0, 1).
        beta_2: decay rate of the infinity norm, in [0, 1).
        {shared arguments}

    Raises:
        TypeError: when an argument has the wrong type.
        ValueError: when an argument lies outside what is listed above, or two exclude each other.

    Example:
        >>> import keras
        >>> from adam_tf import AdaMax
        >>> theta = keras.Variable([1.0, 1.0])
        >>> optimizer = AdaMax(learning_rate=0.1)
        >>> optimizer.apply([keras.ops.array([0.0, -1e3])], [theta])
        >>> print(theta.numpy().round(3))
        [1.  1.1]

    References:
        Kingma and Ba, [Adam: A Method for Stochastic
        Optimization](https://arxiv.org/abs/1412.6980), ICLR 2015, Section 7.1.

        {shared references}
    """

    def __init__(
        self,
        learning_rate: Any = 0.002,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        sparse: str = "dense",
        fused: bool | None = None,
        moments: str | None = None,
        cautious: bool = False,
        divide_state: bool = False,
        **kwargs: Any,
    ) -> None:
        """See the class."""
        super().__init__(learning_rate, fused, sparse, moments, cautious, divide_state, **kwargs)
        self.beta_1 = check_setting("beta_1", beta_1)
        self.beta_2 = check_setting("beta_2", beta_2)

    def moment_names(self) -> tuple[str, ...]:
        """The moments kept for each variable."""
        return ("momentum", "norm")

    def coefficients(self, t: Scalar, learning_rate: Scalar) -> AdaMaxCoefficients:
        """The scalars of step `t` that `rule` reads."""
        return AdaMaxCoefficients(learning_rate / one_minus_power(self.beta_1, t))

    def rule(
        self, gradient: Tensor, moments: Sequence[Tensor], c: AdaMaxCoefficients
    ) -> tuple[tuple[Tensor, ...], Tensor]:
        """Algorithm 2: the new moments and what to subtract from the variable.

        Args:
            gradient: of any shape, float32 or wider.
            moments: m and u, each of the gradient's shape.
            c: the scalars of the step.
        """
        m = decayed_average(moments[0], 1 - self.beta_1, gradient)
        u = maximum(self.beta_2 * moments[1], ops.abs(gradient))
        return (m, u), c.alpha * (m / (u + tiny(u.dtype)))

    def kernel_obstacle(self, variable: Variable) -> str | None:
        """Why `variable` cannot be updated by a kernel, or None."""
        return backend.obstacle(variable, (self.beta_1, self.beta_2))

    def kernel_coefficients(
        self, t: Scalar, learning_rate: Scalar, dtype: str
    ) -> AdaMaxCoefficients:
        """The scalars of step `t` that `kernel` reads.

        Args:
            t: the number of the step, from 1.
            learning_rate: alpha_t.
            dtype: the variable's, to which the kernel rounds beta_1.
        """
        beta_1 = backend.rounded(self.beta_1, dtype)
        return AdaMaxCoefficients(learning_rate / one_minus_power(beta_1, t))

    def kernel(
        self,
        gradient: Tensor,
        variable: Variable,
        moments: Sequence[Variable],
        c: AdaMaxCoefficients,
    ) -> None:
        """The same as `rule` in one pass.

        Args:
            gradient: of the variable's shape.
            variable: changed in place.
            moments: m and u, changed in place.
            c: the scalars of the step.
        """
        betas = (self.beta_1, self.beta_2)
        backend.apply_adamax(variable, moments, gradient, c.alpha, betas, tiny(variable.dtype))

    def diagnostics(self, variable: Variable) -> AdaMaxDiagnostics:
        """Moments, step and signal-to-noise ratio of `variable` at the last step.

        `step` is what a gradient at the last step subtracted, at the present learning rate. A
        variable whose gradient was None did not move, nor did a row that was not named to
        `sparse="lazy"`: there it is what the row would have lost, had it been named.

        Args:
            variable: one of the variables that the optimizer was built with.

        Raises:
            ValueError: when the variable is unknown or no step has been taken yet.

        Example:
            >>> import keras
            >>> from adam_tf import AdaMax
            >>> theta = keras.Variable([1.0, 1.0])
            >>> optimizer = AdaMax(learning_rate=0.1)
            >>> optimizer.apply([keras.ops.array([0.0, -3.0])], [theta])
            >>> optimizer.diagnostics(theta).u.tolist()
            [0.0, 3.0]
        """
        t, rate, (m, u), kernel = self._last_step(variable)
        beta_1 = self.beta_1
        if kernel:
            beta_1 = backend.rounded(beta_1, moment_dtype(variable))
        m_hat = m / (1 - beta_1**t)
        with np.errstate(divide="ignore", invalid="ignore"):
            snr = np.divide(m_hat, u, out=np.zeros_like(m), where=m != 0)
        return AdaMaxDiagnostics(m, u, m_hat, rate * snr, snr)


def tiny(dtype: Any) -> float:
    """The smallest normal number of `dtype`."""
    return float(np.finfo(keras.backend.standardize_dtype(dtype)).tiny)
