"""Algorithm 2 of the paper."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from adam_tf.base import MomentOptimizer, decayed_average, one_minus_power
from adam_tf.validation import check_number


class AdaMaxCoefficients(NamedTuple):
    """The scalars of one step."""

    learning_rate: Any  # alpha / (1 - beta_1^t)


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
        **kwargs: the keywords of every Keras optimizer (`weight_decay`, `clipnorm`, `use_ema`,
            `gradient_accumulation_steps`, `name`, ...).

    Raises:
        TypeError: when an argument has the wrong type.
        ValueError: when an argument lies outside what is listed above.

    Example:
        >>> import keras
        >>> from adam_tf import AdaMax
        >>> theta = keras.Variable([1.0, 1.0])
        >>> optimizer = AdaMax(learning_rate=0.1)
        >>> optimizer.apply([keras.ops.array([0.0, -1e3])], [theta])
        >>> theta.numpy().round(4).tolist()
        [1.0, 1.1]

    References:
        Kingma and Ba, [Adam: A Method for Stochastic
        Optimization](https://arxiv.org/abs/1412.6980), ICLR 2015, Section 7.1.
    """

    def __init__(
        self,
        learning_rate: Any = 0.002,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        **kwargs: Any,
    ) -> None:
        """See the class."""
        super().__init__(learning_rate, **kwargs)
        self.beta_1 = check_number("beta_1", beta_1, 0, 1, high_open=True)
        self.beta_2 = check_number("beta_2", beta_2, 0, 1, high_open=True)

    def build(self, variables: Sequence[Any]) -> None:
        """Create the moments of `variables`."""
        if self.built:
            return
        super().build(variables)
        self._m, self._u = self._add_moments(variables, "momentum", "norm")

    def coefficients(self, t: Any, learning_rate: Any) -> AdaMaxCoefficients:
        """The scalars of step `t`."""
        return AdaMaxCoefficients(learning_rate / one_minus_power(self.beta_1, t))

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Move `variable` one step against `gradient`."""
        c = self._coefficients_of(variable, learning_rate)
        i = self._get_variable_index(variable)
        g = ops.cast(gradient, self._m[i].dtype)

        m = decayed_average(self._m[i], 1 - self.beta_1, g)
        u = ops.maximum(self.beta_2 * self._u[i], ops.abs(g))
        self.assign(self._m[i], m)
        self.assign(self._u[i], u)

        self.assign_sub(variable, c.learning_rate * (m / (u + tiny(self._u[i].dtype))))

    def get_config(self) -> dict[str, Any]:
        """What rebuilds this optimizer through `from_config`."""
        return super().get_config() | {"beta_1": self.beta_1, "beta_2": self.beta_2}


def tiny(dtype: str) -> float:
    """The smallest normal number of `dtype`."""
    return float(np.finfo(dtype).tiny)
