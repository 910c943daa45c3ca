"""What Adam and AdaMax share: exact scalars computed once per step, moments of sufficient width."""

import contextlib
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
from keras import ops

from adam_tf.validation import check_integer, check_number


def scalar_dtype() -> str:
    """Dtype of scalar work: float64 where the backend has it (JAX by default has not)."""
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        return "float64" if jax.config.jax_enable_x64 else "float32"
    if backend == "torch":
        import torch

        return "float32" if torch.backends.mps.is_available() else "float64"
    return "float64"


def moment_dtype(variable: Any) -> str:
    """Dtype of a variable's moments: float32 or wider, so that small gradients survive squaring."""
    return keras.backend.result_type(variable.dtype, "float32")


def one_minus_power(beta: float, t: Any) -> Any:
    r"""$1 - \beta^t$ without the cancellation of computing it so."""
    log_beta = math.log(beta) if beta > 0 else -math.inf
    return -ops.expm1(t * log_beta)


def decayed_average(average: Any, gain: Any, value: Any) -> Any:
    r"""$\beta x + (1 - \beta) y$ from `gain` = $1 - \beta$, which rounds better than $\beta$.

    In float32 1 - 0.999 is off by 1.3e-5 of itself when it is taken from the rounded 0.999.
    """
    average = ops.convert_to_tensor(average)
    return average - gain * average + gain * value


class MomentOptimizer(keras.optimizers.Optimizer):
    """An optimizer that keeps moments of each variable's gradient.

    A subclass names its per-step scalars in `coefficients`, its state in `build`
    and its rule in `update_step`.
    """

    _learning_rate: Any

    def __init__(self, learning_rate: Any, **kwargs: Any) -> None:
        """Validate what Keras does not, and keep the learning rate unrounded."""
        if isinstance(learning_rate, str) or not callable(learning_rate):
            learning_rate = check_number("learning_rate", learning_rate, 0)
        for name in ("weight_decay", "clipnorm", "clipvalue", "global_clipnorm"):
            if kwargs.get(name) is not None:
                # Keras reads a clip of 0 as "no clip"; nothing else could be meant by None.
                check_number(name, kwargs[name], 0, low_open=name != "weight_decay")
        if kwargs.get("loss_scale_factor") is not None:
            check_number("loss_scale_factor", kwargs["loss_scale_factor"], 0, low_open=True)
        if kwargs.get("gradient_accumulation_steps") is not None:
            check_integer("gradient_accumulation_steps", kwargs["gradient_accumulation_steps"], 2)
        super().__init__(learning_rate=learning_rate, **kwargs)
        if isinstance(learning_rate, float) and scalar_dtype() != keras.config.floatx():
            # Keras holds the learning rate in floatx, where 0.001 is 0.0010000000475.
            self._untrack_variable(self._learning_rate)
            with keras.name_scope(self.name, caller=self):
                unrounded = keras.Variable(
                    learning_rate,
                    dtype=scalar_dtype(),
                    trainable=False,
                    aggregation="only_first_replica",
                    name="learning_rate",
                )
            self._track_variable(unrounded)
            self._learning_rate = unrounded

    def coefficients(self, t: Any, learning_rate: Any) -> NamedTuple:
        """The scalars of step `t`, computed in `scalar_dtype()`."""
        raise NotImplementedError

    def _add_moments(self, variables: Sequence[Any], *names: str) -> tuple[list[Any], ...]:
        """One zero per parameter and name, in the order keras.optimizers.Adam keeps them."""
        moments: tuple[list[Any], ...] = tuple([] for _ in names)
        for variable in variables:
            for name, column in zip(names, moments, strict=True):
                # Variables that Keras overwrites with their gradient (float8 scales) have none.
                overwritten = self._overwrite_variable_with_gradient(variable)
                column.append(None if overwritten else self._add_moment(variable, name))
        return moments

    def _add_moment(self, variable: Any, name: str) -> Any:
        # As Keras' add_variable_from_reference, but for the dtype.
        path = getattr(variable, "path", None) or variable.name
        with self._colocated_with(variable):
            return self.add_variable(
                shape=variable.shape,
                dtype=moment_dtype(variable),
                layout=getattr(variable, "_layout", None),
                name=f"{path.replace('/', '_').replace(':', '_')}_{name}",
            )

    def _colocated_with(self, variable: Any) -> contextlib.AbstractContextManager[Any]:
        strategy = getattr(self, "_distribution_strategy", None)  # TensorFlow backend only
        if strategy is None:
            return contextlib.nullcontext()
        native = variable.value if isinstance(variable, keras.Variable) else variable
        return strategy.extended.colocate_vars_with(native)

    def _backend_update_step(
        self, grads: Sequence[Any], trainable_variables: Sequence[Any], learning_rate: Any
    ) -> None:
        # The scalars are worked out here, once, and travel in the place of the learning rate.
        dtypes = sorted({moment_dtype(v) for v in trainable_variables})
        super()._backend_update_step(
            grads, trainable_variables, self._coefficients_by_dtype(dtypes, learning_rate)
        )

    def _coefficients_by_dtype(
        self, dtypes: Sequence[str], learning_rate: Any
    ) -> dict[str, NamedTuple]:
        t = ops.cast(self.iterations + 1, scalar_dtype())
        rate = ops.convert_to_tensor(learning_rate, dtype=scalar_dtype())
        exact = self.coefficients(t, rate)
        return {d: type(exact)(*(ops.cast(scalar, d) for scalar in exact)) for d in dtypes}

    def _coefficients_of(self, variable: Any, learning_rate: Any) -> Any:
        """The step's scalars in the dtype of the variable's moments."""
        dtype = moment_dtype(variable)
        if not isinstance(learning_rate, dict):  # update_step called by hand
            learning_rate = self._coefficients_by_dtype([dtype], learning_rate)
        return learning_rate[dtype]
