"""Algorithm 1 in NumPy and float64, with all that its analysis needs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.options import known

Array = NDArray[np.float64]
Settings = Mapping[str, Any]
Row = dict[str, float]
DECAYS = ("constant", "sqrt_epoch", "sqrt_step")


@dataclass
class Adam:
    """Algorithm 1 on an array or on a float, with the variants of Sections 4 and 6.4.

        m_t = beta_1,t m_(t-1) + (1 - beta_1,t) g_t       m_hat = m_t / (1 - beta_1^t)
        v_t = beta_2 v_(t-1) + (1 - beta_2) g_t^2         v_hat = v_t / (1 - beta_2^t)
        theta_t = theta_(t-1) - alpha_t m_hat / (sqrt(v_hat) + epsilon)

    A coordinate whose squared gradients were all 0 stays where it is, even with epsilon = 0.

    Attributes:
        learning_rate: alpha.
        decay: alpha_t is alpha ("constant"), or alpha / sqrt(t) with t in steps ("sqrt_step") or in
            passes ("sqrt_epoch").
        beta_1: decay rate of the first moment.
        beta_2: decay rate of the second moment.
        epsilon: what is added outside the square root.
        bias_correction: False takes m_hat = m_t and v_hat = v_t.
        beta_1_decay: lambda of Theorem 4.1: beta_1,t = beta_1 lambda^(t-1).
        amsgrad: put the largest v_s of all s <= t in place of v_t in v_hat (Reddi et al., who
            correct no bias).
        steps_per_epoch: how many steps a pass has.
        t: steps taken so far.
        m: first moment.
        v: second moment.
        v_max: the largest second moment so far; 0 without `amsgrad`.
    """

    learning_rate: float
    decay: str = "constant"
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8
    bias_correction: bool = True
    beta_1_decay: float = 1.0
    amsgrad: bool = False
    steps_per_epoch: int = 1
    t: int = 0
    m: Any = 0.0
    v: Any = 0.0
    v_max: Any = 0.0

    def __post_init__(self) -> None:
        """Refuse an unknown decay."""
        known("decay", self.decay, DECAYS)

    def observe(self, gradient: Any) -> None:
        """Update the moments with the gradient of the next step."""
        self.t += 1
        beta_1 = self.beta_1 * self.beta_1_decay ** (self.t - 1)
        self.m = beta_1 * self.m + (1 - beta_1) * gradient
        self.v = self.beta_2 * self.v + (1 - self.beta_2) * gradient * gradient
        if self.amsgrad:
            self.v_max = larger(self.v_max, self.v)

    def step(self, gradient: Any) -> Any:
        """What to subtract from the parameters that have this gradient."""
        self.observe(gradient)
        return self.rate * quotient(self.m_hat, root_of(self.v_hat) + self.epsilon)

    @property
    def rate(self) -> float:
        """alpha_t."""
        if self.decay == "constant":
            return self.learning_rate
        passed = self.t if self.decay == "sqrt_step" else -(-self.t // self.steps_per_epoch)
        return self.learning_rate / math.sqrt(passed)

    @property
    def m_hat(self) -> Any:
        """The first moment, corrected."""
        return self.m / (1 - self.beta_1**self.t) if self.bias_correction else self.m

    @property
    def v_hat(self) -> Any:
        """The second moment, corrected; with `amsgrad` its maximum."""
        v = self.v_max if self.amsgrad else self.v
        return v / (1 - self.beta_2**self.t) if self.bias_correction else v


# The same arithmetic for arrays and for floats: a million steps of one float take seconds.


def root_of(value: Any) -> Any:
    """The square root of a float or an array."""
    return math.sqrt(value) if isinstance(value, float) else np.sqrt(value)


def larger(a: Any, b: Any) -> Any:
    """The larger of two floats, or of two arrays coordinate by coordinate."""
    return max(a, b) if isinstance(b, float) else np.maximum(a, b)


def quotient(a: Any, b: Any) -> Any:
    """a / b, and 0 where b is 0."""
    if isinstance(b, float):
        return a / b if b > 0 else 0.0
    return np.divide(a, b, out=np.zeros_like(b), where=b > 0)


def recorded_steps(last: int) -> list[int]:
    """Step numbers from 1 to `last`: ten per decade where it has that many integers, and `last`."""
    spaced = {round(10 ** (k / 10)) for k in range(int(10 * math.log10(last)) + 1)}
    return sorted(spaced | {last})
