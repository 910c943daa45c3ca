"""Every private member of Keras that the optimizers rely on, each under a name of ours.

Keras offers no public access to these. When a new Keras breaks something, look here first.
"""

import contextlib
from collections.abc import Sequence

import keras

from adam_tf.typing import Tensor, Variable


def layout_of(variable: Variable) -> object:
    """How `keras.distribution` spreads a variable over devices, or None."""
    return getattr(variable, "_layout", None)


class Optimizer(keras.optimizers.Optimizer):
    """Keras' optimizer with its hooks under public names."""

    @property
    def trained(self) -> list[Variable]:
        """The variables that the optimizer was built with."""
        return self._trainable_variables

    def index_of(self, variable: Variable) -> int:
        """The place of a variable among `trained`; the last one if it is listed twice."""
        return self._get_variable_index(variable)

    def knows(self, variable: Variable) -> bool:
        """Whether the optimizer was built with a variable."""
        return self.built and self._var_key(variable) in self._trainable_variables_indices

    def is_overwritten(self, variable: Variable) -> bool:
        """Whether a "gradient" replaces the variable: a scale of float8, say."""
        return self._overwrite_variable_with_gradient(variable)

    @property
    def own_variables(self) -> list[keras.Variable]:
        """What the optimizer itself holds, in the order in which it was made."""
        return self._variables[:]

    @property
    def given_learning_rate(self) -> object:
        """The variable, schedule or callable behind `learning_rate`."""
        return self._learning_rate

    def hold_learning_rate(self, value: float, dtype: str) -> None:
        """Keep a number as the learning rate, in a variable of `dtype`."""
        with keras.name_scope(self.name, caller=self):
            variable = keras.Variable(
                value,
                dtype=dtype,
                trainable=False,
                aggregation="only_first_replica",
                name="learning_rate",
            )
        self._track_variable(variable)
        self._learning_rate: object = variable

    def _get_current_learning_rate(self) -> Tensor:
        """A schedule counts steps; Keras would have it count the batches that make up a step."""
        rate = self._learning_rate
        if isinstance(rate, keras.optimizers.schedules.LearningRateSchedule):
            return rate(self.iterations)
        return super()._get_current_learning_rate()

    def beside(self, variable: Variable) -> contextlib.AbstractContextManager:
        """A scope that creates variables on the device of `variable` (`tf.distribute`)."""
        strategy = getattr(self, "_distribution_strategy", None)  # TensorFlow backend only
        if strategy is None:
            return contextlib.nullcontext()
        native = variable.value if isinstance(variable, keras.Variable) else variable
        return strategy.extended.colocate_vars_with(native)

    def clip(self, gradients: Sequence[Tensor]) -> Sequence[Tensor]:
        """The clipped gradients. A subclass may prepare them."""
        return super()._clip_gradients(gradients)

    def _clip_gradients(self, grads: Sequence[Tensor]) -> Sequence[Tensor]:
        return self.clip(grads)

    def decays(self, variable: Variable) -> bool:
        """Whether weight decay is meant for a variable."""
        return self.weight_decay is not None and self._use_weight_decay(variable)

    def decay(self, variables: Sequence[Variable]) -> None:
        """Apply weight decay. A subclass may leave some out, and decay them itself."""
        super()._apply_weight_decay(variables)

    def _apply_weight_decay(self, variables: Sequence[Variable]) -> None:
        self.decay(variables)

    @property
    def averages(self) -> list[keras.Variable | None]:
        """The moving average of each variable, or None where it has none."""
        return self._model_variables_moving_average if self.use_ema else [None] * len(self.trained)

    def average(self) -> None:
        """Bring the averages up to date. A subclass may do it in another precision."""
        super()._update_model_variables_moving_average(self.trained)

    def _update_model_variables_moving_average(self, variables: Sequence[Variable]) -> None:
        self.average()

    @property
    def batches(self) -> keras.Variable:
        """How many times `apply` was called; this may exceed `iterations`."""
        return self._iterations

    def update(
        self, gradients: Sequence[Tensor], variables: Sequence[Variable], learning_rate: Tensor
    ) -> None:
        """Call `update_step` for each variable, on every replica. A subclass may do it at once.

        Args:
            gradients: one for each variable.
            variables: those to update.
            learning_rate: of this step.
        """
        super()._backend_update_step(gradients, variables, learning_rate)

    def _backend_update_step(
        self,
        grads: Sequence[Tensor],
        trainable_variables: Sequence[Variable],
        learning_rate: Tensor,
    ) -> None:
        self.update(grads, trainable_variables, learning_rate)
