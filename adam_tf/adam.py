"""Algorithm 1 of the paper."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from adam_tf.arithmetic import decayed_average, maximum, moment_dtype, one_minus_power
from adam_tf.backend import backend
from adam_tf.base import MomentOptimizer
from adam_tf.typing import Scalar, Tensor, Variable
from adam_tf.validation import check_setting, check_together


class AdamCoefficients(NamedTuple):
    """The scalars of one step."""

    learning_rate: Any
    first_gain: Scalar  # 1 - beta_1,t
    first_correction: Scalar  # 1 - beta_1^t
    second_correction: Scalar  # 1 - beta_2^t
    epsilon: Scalar  # what is added to sqrt(v_hat)


class AdamKernelCoefficients(NamedTuple):
    """The scalars of one step, in the reordering that kernels implement."""

    alpha: Scalar  # alpha * sqrt(1 - beta_2^t) / (1 - beta_1^t)
    epsilon: Scalar  # what is added to sqrt(v)


class AdamDiagnostics(NamedTuple):
    """The state of one variable after the last step, as float64 arrays of its shape."""

    m: np.ndarray  # first moment
    v: np.ndarray  # second moment (AMSGrad: its maximum so far)
    m_hat: np.ndarray  # m, corrected for its bias
    v_hat: np.ndarray  # v, corrected for its bias
    step: np.ndarray  # what the last step subtracted from the variable
    snr: np.ndarray  # m_hat / sqrt(v_hat), the signal-to-noise ratio of Section 2.1


# Below it, epsilon is smaller than float32 gradients whose squares are 0.
SMALLEST_EPSILON = 1e-17


@keras.saving.register_keras_serializable(package="adam_tf")
class Adam(MomentOptimizer):
    r"""Adam, exactly as Algorithm 1 of the paper states it.

    With the gradient $g_t$ of step $t = 1, 2, \dots$ and $m_0 = v_0 = 0$, elementwise

    $$
    \begin{aligned}
    m_t &= \beta_{1,t}\, m_{t-1} + (1 - \beta_{1,t})\, g_t
        & \hat m_t &= m_t / (1 - \beta_1^t) \\
    v_t &= \beta_2\, v_{t-1} + (1 - \beta_2)\, g_t^2
        & \hat v_t &= v_t / (1 - \beta_2^t) \\
    \theta_t &= \theta_{t-1} - \alpha_t\, \hat m_t / (\sqrt{\hat v_t} + \epsilon)
    \end{aligned}
    $$

    where $\alpha_t$ is `learning_rate`, $\beta_1$ is `beta_1`, $\beta_2$ is `beta_2`,
    $\beta_{1,t} = \beta_1 \lambda^{t-1}$, $\lambda$ is `beta_1_decay` and $\epsilon$ is `epsilon`.

    Most libraries differ from this in $\epsilon$: TensorFlow and Keras add it before the bias
    correction (`epsilon_form="hat"`), with another default (1e-7).

    Args:
        learning_rate: $\alpha$, a number >= 0, a `LearningRateSchedule` or a callable.
        beta_1: decay rate of the first moment, in [0, 1).
        beta_2: decay rate of the second moment, in [0, 1).
        epsilon: a number >= 0, added outside the square root.
        epsilon_form: `"algorithm1"` adds `epsilon` to $\sqrt{\hat v_t}$. `"hat"` is the
            $\hat\epsilon$ of the reordering at the end of Section 2: `epsilon` is added to
            $\sqrt{v_t}$, which amounts to $\epsilon / \sqrt{1 - \beta_2^t}$ above.
        bias_correction: `False` takes $\hat m_t = m_t$, $\hat v_t = v_t$, as in Section 6.4.
        amsgrad: put $\max_{s \le t} v_s$ in place of $v_t$ in $\hat v_t$ (Reddi et al.;
            with `bias_correction=False` it is their algorithm to the letter).
        beta_1_decay: $\lambda$ of Theorem 4.1, in (0, 1]. The correction of the first moment
            stays $1 - \beta_1^t$, as in the proof.
        {shared arguments}

    Raises:
        TypeError: when an argument has the wrong type.
        ValueError: when an argument lies outside what is listed above, or two exclude each other.

    Example:
        >>> import keras
        >>> from adam_tf import Adam
        >>> theta = keras.Variable([1.0, 1.0])
        >>> optimizer = Adam(learning_rate=0.1)
        >>> optimizer.apply([keras.ops.array([1e-3, -1e3])], [theta])
        >>> print(theta.numpy().round(3))  # the first step is alpha, whatever the scale
        [0.9 1.1]

    References:
        Kingma and Ba, [Adam: A Method for Stochastic
        Optimization](https://arxiv.org/abs/1412.6980), ICLR 2015.

        Reddi, Kale and Kumar, On the Convergence of Adam and Beyond, ICLR 2018.

        {shared references}
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        epsilon_form: str = "algorithm1",
        bias_correction: bool = True,
        amsgrad: bool = False,
        beta_1_decay: float = 1.0,
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
        self.epsilon = check_setting("epsilon", epsilon)
        self.epsilon_form = check_setting("epsilon_form", epsilon_form)
        self.bias_correction = check_setting("bias_correction", bias_correction)
        self.amsgrad = check_setting("amsgrad", amsgrad)
        self.beta_1_decay = check_setting("beta_1_decay", beta_1_decay)
        check_together(self)

    def moment_names(self) -> tuple[str, ...]:
        """The moments kept for each variable."""
        return ("momentum", "velocity", "velocity_hat")[: 3 if self.amsgrad else 2]

    def coefficients(self, t: Scalar, learning_rate: Scalar) -> AdamCoefficients:
        """The scalars of step `t` that `rule` reads."""
        first = second = ops.ones_like(t)
        if self.bias_correction:
            first, second = one_minus_power(self.beta_1, t), one_minus_power(self.beta_2, t)
        return AdamCoefficients(
            learning_rate=learning_rate,
            first_gain=1 - self.beta_1 * ops.exp((t - 1) * math.log(self.beta_1_decay)),
            first_correction=first,
            second_correction=second,
            epsilon=self._epsilon(t),
        )

    def _epsilon(self, t: Scalar) -> Scalar:
        """What is added to the root of v_hat."""
        if self.epsilon_form == "hat" and self.bias_correction:
            return self.epsilon / ops.sqrt(one_minus_power(self.beta_2, t))
        return self.epsilon

    def rule(
        self, gradient: Tensor, moments: Sequence[Tensor], c: AdamCoefficients
    ) -> tuple[tuple[Tensor, ...], Tensor]:
        """Algorithm 1: the new moments and what to subtract from the variable.

        Args:
            gradient: of any shape, float32 or wider.
            moments: those that `moment_names` lists, each of the gradient's shape.
            c: the scalars of the step.
        """
        m = decayed_average(moments[0], c.first_gain, gradient)
        v = decayed_average(moments[1], 1 - self.beta_2, gradient * gradient)
        new: tuple[Tensor, ...] = (m, v)
        if self.amsgrad:
            v = maximum(moments[2], v)
            new = (*new, v)

        m_hat = m / c.first_correction
        v_hat = v / c.second_correction
        step = c.learning_rate * m_hat / (ops.sqrt(v_hat) + c.epsilon)
        if self.epsilon < SMALLEST_EPSILON:
            step = ops.where(v == 0, 0.0, step)  # neither 0/0 nor m/0 is a step
        # The square of a gradient beyond 1.8e19 is infinite in float32 and would stop its
        # coordinate for good; NaN makes that visible.
        return new, ops.where(v < math.inf, step, math.nan)

    def kernel_obstacle(self, variable: Variable) -> str | None:
        """Why `variable` cannot be updated by a kernel, or None."""
        if self.epsilon < SMALLEST_EPSILON:
            return f"epsilon is {self.epsilon!r} and the kernel has no other guard against 0/0"
        if self.beta_1_decay < 1:
            return "beta_1 decays, and a kernel loses digits with a small beta"
        if self.amsgrad and not self.fused:
            return "XLA has no kernel for AMSGrad"  # and whether XLA follows is not known yet
        return backend.obstacle(variable, (self.beta_1, self.beta_2))

    def kernel_coefficients(
        self, t: Scalar, learning_rate: Scalar, dtype: str
    ) -> AdamKernelCoefficients:
        """The scalars of step `t` that `kernel` reads.

        Args:
            t: the number of the step, from 1.
            learning_rate: alpha_t.
            dtype: the variable's, to which the kernel rounds the betas.
        """
        # The kernel's moments use rounded betas, so their corrections do, too.
        beta_1, beta_2 = backend.rounded(self.beta_1, dtype), backend.rounded(self.beta_2, dtype)
        if self.bias_correction:
            first, root = one_minus_power(beta_1, t), ops.sqrt(one_minus_power(beta_2, t))
        else:
            first = (1 - beta_1) / (1 - self.beta_1)
            root = math.sqrt((1 - beta_2) / (1 - self.beta_2))
        return AdamKernelCoefficients(
            alpha=learning_rate * root / first,
            epsilon=self._epsilon(t) * root,
        )

    def kernel(
        self,
        gradient: Tensor,
        variable: Variable,
        moments: Sequence[Variable],
        c: AdamKernelCoefficients,
    ) -> None:
        """The same as `rule` in one pass.

        Args:
            gradient: of the variable's shape.
            variable: changed in place.
            moments: those that `moment_names` lists, changed in place.
            c: the scalars of the step.
        """
        betas = (self.beta_1, self.beta_2)
        backend.apply_adam(variable, moments, gradient, c.alpha, betas, c.epsilon)

    def diagnostics(self, variable: Variable) -> AdamDiagnostics:
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
            >>> from adam_tf import Adam
            >>> theta = keras.Variable([1.0, 1.0])
            >>> optimizer = Adam(learning_rate=0.1)
            >>> for gradient in ([2.0, 2.0], [2.0, -2.0]):
            ...     optimizer.apply([keras.ops.array(gradient)], [theta])
            >>> optimizer.diagnostics(theta).snr.round(3).tolist()  # one direction, and none
            [1.0, -0.053]
        """
        t, rate, moments, kernel = self._last_step(variable)
        betas = (self.beta_1, self.beta_2)
        if kernel:
            betas = (
                backend.rounded(self.beta_1, moment_dtype(variable)),
                backend.rounded(self.beta_2, moment_dtype(variable)),
            )
        first, second = (1 - beta**t if self.bias_correction else 1.0 for beta in betas)
        m, v = moments[0], moments[-1]
        m_hat, v_hat = m / first, v / second
        root = np.sqrt(v_hat)
        epsilon = self.epsilon / (1 if self.epsilon_form == "algorithm1" else np.sqrt(second))
        moving = m != 0  # elsewhere 0/0 is no step
        if self.epsilon < SMALLEST_EPSILON:
            moving &= v != 0  # as in `rule`
        with np.errstate(divide="ignore", invalid="ignore"):
            step = np.divide(rate * m_hat, root + epsilon, out=np.zeros_like(m), where=moving)
            snr = np.divide(m_hat, root, out=np.zeros_like(m), where=moving)
        return AdamDiagnostics(m, v, m_hat, v_hat, step, snr)
