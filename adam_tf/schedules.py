"""The step sizes of the paper's analysis and of its convex experiments."""

from typing import Any

import keras
from keras import ops

from adam_tf.arithmetic import scalar_dtype
from adam_tf.typing import Scalar
from adam_tf.validation import check_integer, check_number


@keras.saving.register_keras_serializable(package="adam_tf")
class InverseSqrtDecay(keras.optimizers.schedules.LearningRateSchedule):
    r"""A step size that falls with the square root of time.

    $$\alpha_t = \alpha / \sqrt{t}$$

    where $\alpha$ is `initial_learning_rate` and $t$ counts from 1: steps by default (Theorem 4.1,
    Section 6.1), epochs when `steps_per_epoch` is given (the first epoch has $\alpha$). It works on
    every backend of Keras, in float64 on TensorFlow and PyTorch (float32 where it uses Apple's GPU)
    and in float32 on JAX, unless its 64 bits are enabled.

    Args:
        initial_learning_rate: $\alpha$, a number >= 0.
        steps_per_epoch: `None` to decay at each step, or the number of steps of an epoch.

    Raises:
        TypeError: when an argument has the wrong type.
        ValueError: when `initial_learning_rate` is negative or not finite, or `steps_per_epoch`
            is below 1.

    Example:
        >>> from adam_tf import InverseSqrtDecay
        >>> [float(InverseSqrtDecay(0.1)(step)) for step in (0, 3, 99)]
        [0.1, 0.05, 0.01]
        >>> per_epoch = InverseSqrtDecay(0.1, steps_per_epoch=390)
        >>> [float(per_epoch(step)) for step in (0, 389, 3 * 390)]
        [0.1, 0.1, 0.05]

    References:
        Kingma and Ba, [Adam: A Method for Stochastic
        Optimization](https://arxiv.org/abs/1412.6980), ICLR 2015, Sections 4 and 6.1.
    """

    def __init__(self, initial_learning_rate: float, steps_per_epoch: int | None = None) -> None:
        """See the class."""
        super().__init__()
        self.initial_learning_rate = check_number("initial_learning_rate", initial_learning_rate, 0)
        if steps_per_epoch is not None:
            steps_per_epoch = check_integer("steps_per_epoch", steps_per_epoch, 1)
        self.steps_per_epoch = steps_per_epoch

    def __call__(self, step: Scalar) -> Scalar:
        """The step size after `step` completed steps, as a scalar tensor."""
        # Divide the integer before it becomes a float: float32 counts exactly only up to 2^24.
        completed = ops.convert_to_tensor(step)
        if self.steps_per_epoch is not None:
            completed = completed // self.steps_per_epoch
        t = ops.cast(completed, scalar_dtype()) + 1
        return self.initial_learning_rate / ops.sqrt(t)

    def get_config(self) -> dict[str, Any]:
        """The configuration from which `from_config` rebuilds this schedule."""
        return {
            "initial_learning_rate": self.initial_learning_rate,
            "steps_per_epoch": self.steps_per_epoch,
        }
