"""What Adam and AdaMax share: exact scalars computed once per step, wide moments, two paths."""

import contextlib
import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from adam_tf import sparse as rows
from adam_tf.validation import check_choice, check_integer, check_number


def scalar_dtype() -> str:
    """Dtype of scalar work: float64 where the backend has it (JAX by default has not)."""
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        return "float64" if jax.config.jax_enable_x64 else "float32"  # type: ignore[attr-defined]
    if backend == "torch":
        import torch

        return "float32" if torch.backends.mps.is_available() else "float64"
    return "float64"


def moment_dtype(variable: Any) -> str:
    """Dtype of a variable's moments: float32 or wider, so that small gradients survive squaring."""
    dtype = keras.backend.standardize_dtype(variable.dtype)
    return dtype if dtype == "float64" else "float32"


def is_narrow(variable: Any) -> bool:
    """Whether a variable has fewer digits than its moments."""
    return keras.backend.standardize_dtype(variable.dtype) != moment_dtype(variable)


def one_minus_power(beta: float, t: Any) -> Any:
    r"""$1 - \beta^t$ without the cancellation of computing it so."""
    log_beta = math.log(beta) if beta > 0 else -math.inf
    return -ops.expm1(t * log_beta)


def decayed_average(average: Any, gain: Any, value: Any) -> Any:
    r"""$\beta x + (1 - \beta) y$ from `gain` = $1 - \beta$, which rounds better than $\beta$.

    In float32 1 - 0.999 is off by 1.3e-5 of itself when it is taken from the rounded 0.999.
    """
    return average - gain * average + gain * value


def maximum(a: Any, b: Any) -> Any:
    """The larger one, elementwise; `ops.maximum` takes float64 through float32 on PyTorch."""
    return ops.where(a > b, a, b)


class MomentOptimizer(keras.optimizers.Optimizer):
    """An optimizer that keeps moments of each variable's gradient.

    A subclass says which moments it keeps, its scalars of one step and its update rule: in plain
    operations (`coefficients`, `rule`) and for a kernel (`kernel_coefficients`, `kernel`).
    """

    _learning_rate: Any

    def __init__(self, learning_rate: Any, fused: bool | None, sparse: str, **kwargs: Any) -> None:
        """Validate what Keras does not, and keep the learning rate unrounded."""
        if isinstance(learning_rate, str) or not callable(learning_rate):
            learning_rate = check_number("learning_rate", learning_rate, 0)
        for name in ("weight_decay", "clipnorm", "clipvalue", "global_clipnorm"):
            if kwargs.get(name) is not None:
                # Keras reads a clip of 0 as "no clip", which None says better.
                check_number(name, kwargs[name], 0, low_open=name != "weight_decay")
        if kwargs.get("loss_scale_factor") is not None:
            check_number("loss_scale_factor", kwargs["loss_scale_factor"], 0, low_open=True)
        if kwargs.get("gradient_accumulation_steps") is not None:
            check_integer("gradient_accumulation_steps", kwargs["gradient_accumulation_steps"], 2)
        # Keras would hold the learning rate in floatx, where 0.001 is 0.0010000000475. It is given
        # a callable until then: to drop a variable again spoils the list for tf.train.Checkpoint.
        wide = isinstance(learning_rate, float) and scalar_dtype() != keras.config.floatx()
        super().__init__((lambda: learning_rate) if wide else learning_rate, **kwargs)
        self._joined: list[Any] = []  # by variable: the joined.Joined it belongs to, or None
        self.fused = check_choice("fused", fused, (None, True, False))
        self.sparse = check_choice("sparse", sparse, ("dense", "lazy"))
        if fused and keras.backend.backend() != "tensorflow":
            raise ValueError(
                f"fused=True needs the tensorflow backend, got {keras.backend.backend()!r}"
            )
        if sparse == "lazy" and self.gradient_accumulation_steps:
            raise ValueError(
                "sparse='lazy' must go without gradient_accumulation_steps, which adds gradients "
                f"up densely, got {self.gradient_accumulation_steps}"
            )
        if wide:
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

    def moment_names(self) -> tuple[str, ...]:
        """The moments kept for each variable."""
        raise NotImplementedError

    def coefficients(self, t: Any, learning_rate: Any) -> NamedTuple:
        """The scalars of step `t` that `rule` reads, computed in `scalar_dtype()`."""
        raise NotImplementedError

    def rule(self, gradient: Any, moments: Sequence[Any], c: Any) -> tuple[tuple[Any, ...], Any]:
        """The new moments and what to subtract from the variable."""
        raise NotImplementedError

    def kernel_obstacle(self, variable: Any) -> str | None:
        """Why `variable` cannot be updated by a kernel, or None."""
        raise NotImplementedError

    def kernel_coefficients(self, t: Any, learning_rate: Any, dtype: str) -> NamedTuple:
        """The scalars of step `t` that `kernel` reads."""
        raise NotImplementedError

    def kernel(self, gradient: Any, variable: Any, moments: Sequence[Any], c: Any) -> None:
        """Update `variable` and its `moments` in one pass."""
        raise NotImplementedError

    def build(self, variables: Sequence[Any]) -> None:
        """Create the moments of `variables` and choose the path of each."""
        if self.built:
            return
        super().build(variables)
        names = self.moment_names()
        self._on_kernel = [self._takes_kernel(variable) for variable in variables]
        self._joined = self._join(variables, names)
        parts = [group.parts[i] if group else [] for i, group in enumerate(self._joined)]
        # The same order as in keras.optimizers.Adam, so that its saved state can be loaded.
        first = [
            part[:2] or self._new_state(variable, names[:2])
            for part, variable in zip(parts, variables, strict=True)
        ]
        rest = [
            part[2:] if part else self._new_state(variable, names[2:])
            for part, variable in zip(parts, variables, strict=True)
        ]
        self._moments = [a + b for a, b in zip(first, rest, strict=True)]
        # Next to 1, bfloat16 has nothing closer than 0.004: what rounding takes from a step of
        # 0.001 is kept and added to the next.
        self._remainders = [
            self._new_state(variable, ["remainder"] if is_narrow(variable) else [])
            for variable in variables
        ]
        self._moment_state = list(itertools.chain(*first, *rest, *self._remainders))

    def _join(self, variables: Sequence[Any], names: Sequence[str]) -> list[Any]:
        """What each variable is joined with: a `joined.Joined` of small variables, or None."""
        groups: list[Any] = [None] * len(variables)
        if not any(self._on_kernel):
            return groups
        from adam_tf import joined

        for indices in joined.small_ones(variables, self._on_kernel):
            members = {i: variables[i] for i in indices}
            shape, dtype = (joined.size(members.values()),), moment_dtype(variables[indices[0]])
            with self._colocated_with(variables[indices[0]]):
                flat = [
                    self.add_variable(shape=shape, dtype=dtype, name=f"joined_{name}")
                    for name in names
                ]
                group = joined.Joined(members, flat)
            for i in indices:
                groups[i] = group
        return groups

    @property
    def variables(self) -> list[Any]:
        """The state in Keras' order; moments of joined variables are given as `joined.Part`."""
        if not any(self._joined):
            return super().variables
        flat = [moment for group in self._joined if group for moment in group.moments]
        state = list(self._moment_state)
        moved = {id(variable) for variable in flat + state}
        return [v for v in super().variables if id(v) not in moved] + state

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Set the state, in the order of `variables`."""
        if not any(self._joined):
            super().set_weights(weights)
            return
        for variable, weight in zip(self.variables, weights, strict=True):
            variable.assign(weight)

    def _new_state(self, variable: Any, names: Sequence[str]) -> list[Any]:
        if self._overwrite_variable_with_gradient(variable):  # float8 scales have no moments
            return []
        # As Keras' add_variable_from_reference, but for the dtype.
        path = getattr(variable, "path", None) or variable.name
        with self._colocated_with(variable):
            return [
                self.add_variable(
                    shape=variable.shape,
                    dtype=moment_dtype(variable),
                    layout=getattr(variable, "_layout", None),
                    name=f"{path.replace('/', '_').replace(':', '_')}_{name}",
                )
                for name in names
            ]

    def _colocated_with(self, variable: Any) -> contextlib.AbstractContextManager[Any]:
        strategy = getattr(self, "_distribution_strategy", None)  # TensorFlow backend only
        if strategy is None:
            return contextlib.nullcontext()
        native = variable.value if isinstance(variable, keras.Variable) else variable
        return strategy.extended.colocate_vars_with(native)

    def _takes_kernel(self, variable: Any) -> bool:
        if self.fused is False or keras.backend.backend() != "tensorflow":
            return False
        obstacle = self.kernel_obstacle(variable)
        if obstacle and self.fused:
            name = getattr(variable, "path", variable.name)
            raise ValueError(f"fused=True is impossible for {name!r}: {obstacle}")
        return obstacle is None

    def apply(self, grads: Sequence[Any], trainable_variables: Sequence[Any] | None = None) -> None:
        """Update the variables by their gradients, as `keras.optimizers.Optimizer.apply` does."""
        grads = list(grads)
        if trainable_variables is not None:
            trainable_variables = list(trainable_variables)
        if self.sparse == "dense":
            # Before anything looks at them: clipping must see rows that occur twice added up.
            targets = trainable_variables or self._trainable_variables
            grads = [
                rows.to_dense(g, v) if rows.is_sparse(g) else g
                for g, v in zip(grads, targets, strict=False)
            ] + grads[len(targets) :]
        super().apply(grads, trainable_variables)

    def _clip_gradients(self, grads: Sequence[Any]) -> Sequence[Any]:
        if self.clipnorm or self.clipvalue or self.global_clipnorm:
            grads = [rows.without_duplicates(g) if rows.is_sparse(g) else g for g in grads]
        return super()._clip_gradients(grads)

    def _backend_update_step(
        self, grads: Sequence[Any], trainable_variables: Sequence[Any], learning_rate: Any
    ) -> None:
        # The scalars are worked out here, once, and travel in the place of the learning rate.
        keys = {self._path_of(g, v) for g, v in zip(grads, trainable_variables, strict=True)}
        scalars = self._scalars(sorted(keys), learning_rate)
        separate = []
        together: dict[Any, dict[int, Any]] = {}
        for gradient, variable in zip(grads, trainable_variables, strict=True):
            i = self._get_variable_index(variable)
            if self._joined[i] is None or rows.is_sparse(gradient):
                separate.append((gradient, variable))
            else:
                together.setdefault(self._joined[i], {})[i] = gradient
        for group, gradients in together.items():
            group.update(gradients, self.kernel, scalars[group.path])
        if separate:
            super()._backend_update_step(*zip(*separate, strict=True), scalars)

    def _path_of(self, gradient: Any, variable: Any) -> str:
        """The dtype of the variable's arithmetic, marked when a kernel does it."""
        fused = self._on_kernel[self._get_variable_index(variable)] and not rows.is_sparse(gradient)
        return moment_dtype(variable) + (" kernel" if fused else "")

    def _scalars(self, paths: Sequence[str], learning_rate: Any) -> dict[str, NamedTuple]:
        t = ops.cast(self.iterations + 1, scalar_dtype())
        rate = ops.convert_to_tensor(learning_rate, dtype=scalar_dtype())
        scalars = {}
        for path in paths:
            dtype, _, kernel = path.partition(" ")
            exact: Any = (
                self.kernel_coefficients(t, rate, dtype) if kernel else self.coefficients(t, rate)
            )
            # ops.cast would take a Python float through float32.
            scalars[path] = type(exact)(*(ops.convert_to_tensor(s, dtype=dtype) for s in exact))
        return scalars

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Move `variable` one step against `gradient`."""
        path = self._path_of(gradient, variable)
        # A bare learning rate comes from who calls update_step by hand.
        scalars = learning_rate if isinstance(learning_rate, dict) else None
        c = (scalars or self._scalars([path], learning_rate))[path]
        i = self._get_variable_index(variable)
        if rows.is_sparse(gradient):
            gradient = rows.without_duplicates(gradient)  # replicas may hold the same row
            value, where = gradient.values, gradient.indices
        else:
            value, where = gradient, None
        value = ops.cast(value, moment_dtype(variable))
        if path.endswith("kernel"):
            native = variable.value if isinstance(variable, keras.Variable) else variable
            if self._joined[i]:
                self._joined[i].update({i: value}, self.kernel, c)
            else:
                self.kernel(value, native, self._moments[i], c)
            return
        before = [rows.read(moment, where) for moment in self._moments[i]]
        after, step = self.rule(value, before, c)
        for moment, new in zip(self._moments[i], after, strict=True):
            self.assign(moment, rows.at(new, where))
        if not self._remainders[i]:
            self.assign_sub(variable, rows.at(step, where))
            return
        (remainder,) = self._remainders[i]
        wide = ops.cast(rows.read(variable, where), step.dtype) + rows.read(remainder, where) - step
        rounded = ops.cast(wide, variable.dtype)
        self.assign(variable, rows.at(rounded, where))
        self.assign(remainder, rows.at(wide - ops.cast(rounded, wide.dtype), where))

    def _last_step(self, variable: Any) -> tuple[int, float, list[np.ndarray], bool]:
        """Number and learning rate of the last step, the moments after it, whether by a kernel."""
        if not self.built or self._var_key(variable) not in self._trainable_variables_indices:
            name = getattr(variable, "path", getattr(variable, "name", variable))
            raise ValueError(
                f"variable must be one that the optimizer was built with, got {name!r}"
            )
        t = int(self.iterations)
        if t == 0:
            raise ValueError("diagnostics are of the last step, and there was none yet")
        rate = self._learning_rate
        if isinstance(rate, keras.optimizers.schedules.LearningRateSchedule):
            rate = rate(t * (self.gradient_accumulation_steps or 1) - 1)
        elif not isinstance(rate, keras.Variable) and callable(rate):
            rate = rate()
        i = self._get_variable_index(variable)
        moments = [moment.numpy().astype("float64") for moment in self._moments[i]]
        return t, float(rate), moments, self._on_kernel[i]

    def get_config(self) -> dict[str, Any]:
        """What rebuilds this optimizer through `from_config`."""
        return super().get_config() | {"fused": self.fused, "sparse": self.sparse}
