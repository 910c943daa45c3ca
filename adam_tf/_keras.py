"""Every private member of Keras that the optimizers rely on, each under a name of ours.

Keras offers no public access to these. When a new Keras breaks something, look here first.
"""

import contextlib
import re
from collections.abc import Sequence
from typing import Any, Self

import keras
import numpy as np
from keras import ops

from adam_tf.typing import Tensor, Variable
from adam_tf.validation import check_exclusion, check_whole, warn_unmatched

EXCLUDED = "exclude_from_weight_decay"  # in a configuration


def layout_of(variable: Variable) -> object:
    """How `keras.distribution` spreads a variable over devices, or None."""
    return getattr(variable, "_layout", None)


def path_of(variable: Variable) -> str:
    """The path of a variable of Keras, the name of a native one."""
    return getattr(variable, "path", None) or variable.name


def native(variable: Variable) -> Any:
    """The backend's variable inside a variable of Keras; a native one itself."""
    return variable.value if isinstance(variable, keras.Variable) else variable


def number_of(scalar: Any) -> Any:
    """A variable or tensor without a shape as Python and NumPy take it.

    Under a strategy a variable has a copy on each replica, all the same; it gives the first.
    """
    return np.asarray(scalar) if isinstance(scalar, keras.Variable) else scalar


def is_emptied(variable: Variable) -> bool:
    """Whether an interrupted `fit` or `evaluate` left a variable without its value (JAX)."""
    return getattr(variable, "_value", variable) is None


class Optimizer(keras.optimizers.Optimizer):
    """Keras' optimizer with its hooks under public names."""

    # What was excluded from weight decay: by key, by path (in a copy) and by pattern.
    _excluded_keys: frozenset = frozenset()
    _excluded_paths: tuple[str, ...] = ()
    _excluded_names: tuple[str, ...] = ()

    @property
    def weight_decay(self) -> Any:
        """The factor as NumPy's number: TensorFlow takes one of Python's through float32."""
        return self._weight_decay

    @weight_decay.setter
    def weight_decay(self, value: float | None) -> None:
        self._weight_decay = None if value is None else np.float64(value)

    def build(self, variables: Sequence[Variable]) -> None:
        """Build on `variables`, and find those that do not decay."""
        present, excluded = {path_of(variable) for variable in variables}, set()
        if not self._excluded_keys:  # in a copy
            for path in self._excluded_paths:
                # A model that Keras loads may lack its own name at the head of its paths.
                known = path if path in present else path.partition("/")[2]
                excluded.add(known)
                if known not in present:
                    warn_unmatched("var_list", path)
        for name in dict.fromkeys(self._excluded_names):
            if not any(re.search(name, path) for path in present):
                warn_unmatched("var_names", name)
        keys = [
            self._var_key(variable)
            for variable in variables
            if path_of(variable) in excluded
            or any(re.search(name, path_of(variable)) for name in self._excluded_names)
        ]
        self._excluded_keys = self._excluded_keys.union(keys)
        super().build(variables)

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
    def was_restored(self) -> bool:
        """Whether a `tf.train.Checkpoint` was restored into this optimizer."""
        return getattr(self, "_update_uid", -1) >= 0  # TensorFlow backend only

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
            return rate(self.steps_done())
        rate = super()._get_current_learning_rate()
        return np.float64(rate) if isinstance(rate, float) else rate  # as of `weight_decay`

    def steps_done(self) -> Any:
        """`iterations`; the largest 32-bit number for good once a counter has overflowed."""
        count = self.iterations
        if keras.backend.standardize_dtype(count.dtype) != "int32":
            return count
        count = ops.convert_to_tensor(count)
        return ops.where(count < 0, 2**31 - 1, count)

    def beside(self, variable: Variable) -> contextlib.AbstractContextManager:
        """A scope that creates variables on the device of `variable` (`tf.distribute`)."""
        strategy = getattr(self, "_distribution_strategy", None)  # TensorFlow backend only
        if strategy is None:
            return contextlib.nullcontext()
        return strategy.extended.colocate_vars_with(native(variable))

    def _filter_empty_gradients(
        self, grads: Sequence[Tensor], variables: Sequence[Variable]
    ) -> tuple[Sequence[Tensor], Sequence[Variable]]:
        """The gradients that there are; with accumulation, 0 for those that a batch lacks.

        Keras would drop what a variable has accumulated if the last batch of a step lacks it.
        """
        found = super()._filter_empty_gradients(grads, variables)  # warns
        if not self.gradient_accumulation_steps:
            return found
        meant = {self._var_key(v) for v in self.trained if not self.is_overwritten(v)}
        check_whole(len(meant - set(map(self._var_key, variables))), len(meant))
        pairs = [
            (self._accumulator_zeros(v) if g is None else g, v)
            for g, v in zip(grads, variables, strict=True)
            if g is not None or not self.is_overwritten(v)
        ]
        return [g for g, _ in pairs], [v for _, v in pairs]

    def _accumulator_zeros(self, variable: Variable) -> Tensor:
        accumulator = self._accumulated_gradients[self.index_of(variable)]
        return ops.zeros(accumulator.shape, dtype=accumulator.dtype)

    @property
    def replicas(self) -> int:
        """How many copies of the variables the strategy keeps (`tf.distribute`)."""
        return getattr(getattr(self, "_distribution_strategy", None), "num_replicas_in_sync", 1)

    def clip(self, gradients: Sequence[Tensor]) -> Sequence[Tensor]:
        """The clipped gradients. A subclass may prepare them."""
        return super()._clip_gradients(gradients)

    def _clip_gradients(self, grads: Sequence[Tensor]) -> Sequence[Tensor]:
        return self.clip(grads)

    def exclude_from_weight_decay(
        self,
        var_list: Sequence[Variable] | None = None,
        var_names: Sequence[str] | None = None,
    ) -> None:
        """Exclude variables from weight decay, in this optimizer and in its copies and files.

        A second call replaces what the first one excluded.

        Args:
            var_list: the variables; a copy knows them by their paths.
            var_names: regular expressions; a variable is excluded when its path holds a match.
                The build warns of one that no path matches.

        Raises:
            TypeError: when one is not a list of variables or strings.
            ValueError: when the optimizer is built already, or a pattern is not one.
        """
        variables, self._excluded_names = check_exclusion(self, var_list, var_names)
        self._excluded_keys = frozenset(map(self._var_key, variables))
        self._excluded_paths = tuple(map(path_of, variables))

    def _use_weight_decay(self, variable: Variable) -> bool:
        return self._var_key(variable) not in self._excluded_keys

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

    def _overwrite_model_variables_with_average_value(
        self, trainable_variables: Sequence[Variable]
    ) -> None:
        """Give variables their averages; Keras pairs by position, though some may be frozen now."""
        strategy = getattr(self, "_distribution_strategy", None)  # TensorFlow backend only
        for variable in trainable_variables:
            average = self.averages[self.index_of(variable)] if self.knows(variable) else None
            # Emptied: JAX's fit comes here after an error, too, which must not be hidden.
            if average is None or is_emptied(average):
                continue
            if strategy is None:
                variable.assign(ops.copy(average.value))  # JAX would share its memory
                continue
            strategy.extended.update(
                native(variable), lambda v, a: v.assign(a), args=(average.value,)
            )

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

    def get_config(self) -> dict[str, Any]:
        """The configuration from which `from_config` rebuilds this optimizer."""
        config = super().get_config()
        if self.weight_decay is not None:
            config["weight_decay"] = float(self.weight_decay)
        if self._excluded_paths or self._excluded_names:
            config[EXCLUDED] = {
                "var_list": list(self._excluded_paths),
                "var_names": list(self._excluded_names),
            }
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Self:
        """The optimizer of a configuration.

        Args:
            config: what `get_config` gave.
            custom_objects: classes of the user's own that Keras should know.
        """
        config = dict(config)
        excluded = config.pop(EXCLUDED, None) or {}
        optimizer = super().from_config(config, custom_objects=custom_objects)
        optimizer._excluded_paths = tuple(excluded.get("var_list", ()))
        optimizer._excluded_names = tuple(excluded.get("var_names", ()))
        return optimizer
