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


def name_of(variable: Any) -> str:
    """What a message calls a variable."""
    return getattr(variable, "path", None) or getattr(variable, "name", None) or repr(variable)


def layout_of(variable: Any) -> Any:
    """How `keras.distribution` spreads a variable over devices, or None."""
    return getattr(variable, "_layout", None)


def state_name(variable: Any, name: str) -> str:
    """What Keras calls the state `name` of a variable."""
    path = getattr(variable, "path", None) or variable.name
    return f"{path.replace('/', '_').replace(':', '_')}_{name}"


class Slot:
    """What the optimizer keeps for one variable. Keras does not look into it for variables."""

    def __init__(
        self, moments: list[Any], remainder: Any | None, on_kernel: bool, joined: Any | None
    ) -> None:
        """See `MomentOptimizer.build`."""
        self.moments = moments
        self.remainder = remainder  # of a narrow variable
        self.on_kernel = on_kernel
        self.joined = joined  # the joined.Joined it belongs to


def check_variable(variable: Any) -> None:
    """Refuse what has no real gradient, or no shape to give its moments.

    Raises:
        ValueError: when the dtype is not a real floating one, or a dimension is unknown.
    """
    dtype = keras.backend.standardize_dtype(variable.dtype)
    if not keras.backend.is_float_dtype(dtype):
        hint = "; train its two parts as real variables" if dtype.startswith("complex") else ""
        raise ValueError(
            f"variable {name_of(variable)!r} must have a real floating dtype, got {dtype}{hint}"
        )
    shape = rows.known_shape(variable)
    if shape is None or None in shape:
        raise ValueError(
            f"variable {name_of(variable)!r} must have a shape without None, got {shape}"
        )


def checked_gradient(gradient: Any, variable: Any) -> Any:
    """`gradient` when it is a real one of the shape of `variable`.

    A dimension that TensorFlow does not know yet is checked when the graph runs.

    Args:
        gradient: a tensor, an array or `tf.IndexedSlices`.
        variable: what it is the gradient of.

    Raises:
        ValueError: when it has another shape, or is complex.
    """
    values = gradient.values if rows.is_sparse(gradient) else gradient
    if "complex" in str(getattr(values, "dtype", "")):
        dtype = keras.backend.standardize_dtype(values.dtype)
        raise ValueError(f"the gradient of {name_of(variable)!r} must be real, got {dtype}")
    wanted, given = tuple(variable.shape), rows.known_shape(values)
    if rows.is_sparse(gradient):  # any number of rows, each as those of the variable
        wanted, given = wanted[1:], given and given[1:]
    if given == wanted:
        return gradient
    if given is not None and (
        len(given) != len(wanted)
        or any(n is not None and n != m for n, m in zip(given, wanted, strict=True))
    ):
        kind = "rows of the gradient" if rows.is_sparse(gradient) else "gradient"
        raise ValueError(
            f"the {kind} of {name_of(variable)!r} must have its shape {wanted}, got {given}"
        )
    return rows.of_shape(gradient, wanted)


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
        self._slots: list[Slot] = []
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
        for variable in variables:
            check_variable(variable)
        super().build(variables)
        names = self.moment_names()
        on_kernel = [self._takes_kernel(variable) for variable in variables]
        joined = self._join(variables, on_kernel, names)
        parts = [group.parts[i] if group else [] for i, group in enumerate(joined)]
        # The same order as in keras.optimizers.Adam, so that its saved state can be loaded.
        first = [
            part[:2] or self._new_state(variable, names[:2])
            for part, variable in zip(parts, variables, strict=True)
        ]
        rest = [
            part[2:] if part else self._new_state(variable, names[2:])
            for part, variable in zip(parts, variables, strict=True)
        ]
        # Next to 1, bfloat16 has nothing closer than 0.004: what rounding takes from a step of
        # 0.001 is kept and added to the next.
        remainders = [
            self._new_state(variable, ["remainder"] if is_narrow(variable) else [])
            for variable in variables
        ]
        self._slots = [
            Slot([*a, *b], remainder[0] if remainder else None, on_kernel, group)
            for a, b, remainder, on_kernel, group in zip(
                first, rest, remainders, on_kernel, joined, strict=True
            )
        ]

    def _join(
        self, variables: Sequence[Any], on_kernel: Sequence[bool], names: Sequence[str]
    ) -> list[Any]:
        """What each variable is joined with: a `joined.Joined` of small variables, or None."""
        groups: list[Any] = [None] * len(variables)
        if not any(on_kernel):
            return groups
        from adam_tf import joined

        # A variable that is named twice has the state of its last place, as in Keras.
        fit = [
            on_kernel[i] and self._get_variable_index(variable) == i
            for i, variable in enumerate(variables)
        ]
        for indices in joined.small_ones(variables, fit):
            members = {i: variables[i] for i in indices}
            shape, dtype = (joined.size(members.values()),), moment_dtype(variables[indices[0]])
            with self._colocated_with(variables[indices[0]]):
                flat = [
                    self.add_variable(shape=shape, dtype=dtype, name=f"joined_{name}")
                    for name in names
                ]
                with keras.name_scope(self.name, caller=self):
                    group = joined.Joined(
                        members,
                        flat,
                        {i: [state_name(v, name) for name in names] for i, v in members.items()},
                    )
            for i in indices:
                groups[i] = group
        return groups

    @property
    def variables(self) -> list[Any]:
        """The state in Keras' order; moments of joined variables are given as `joined.Part`."""
        groups = [slot.joined for slot in self._slots if slot.joined]
        if not groups:
            return super().variables
        flat = [moment for group in groups for moment in group.moments]
        state = [
            *itertools.chain.from_iterable(slot.moments[:2] for slot in self._slots),
            *itertools.chain.from_iterable(slot.moments[2:] for slot in self._slots),
            *(slot.remainder for slot in self._slots if slot.remainder is not None),
        ]
        moved = {id(variable) for variable in flat + state}
        return [v for v in super().variables if id(v) not in moved] + state

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Set the state, in the order of `variables`."""
        if not any(slot.joined for slot in self._slots):
            super().set_weights(weights)
            return
        for variable, weight in zip(self.variables, weights, strict=True):
            variable.assign(weight)

    def _new_state(self, variable: Any, names: Sequence[str]) -> list[Any]:
        if self._overwrite_variable_with_gradient(variable):  # float8 scales have no moments
            return []
        # As Keras' add_variable_from_reference, but for the dtype.
        with self._colocated_with(variable):
            return [
                self.add_variable(
                    shape=variable.shape,
                    dtype=moment_dtype(variable),
                    layout=layout_of(variable),
                    name=state_name(variable, name),
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
            raise ValueError(f"fused=True is impossible for {name_of(variable)!r}: {obstacle}")
        return obstacle is None

    def apply(self, grads: Sequence[Any], trainable_variables: Sequence[Any] | None = None) -> None:
        """Update the variables by their gradients, as `keras.optimizers.Optimizer.apply` does."""
        grads = list(grads)
        if trainable_variables is not None:
            trainable_variables = list(trainable_variables)
        targets = trainable_variables or self._trainable_variables
        if grads and targets:
            grads = self._checked(grads, targets)
        super().apply(grads, trainable_variables)

    def _checked(self, grads: list[Any], variables: list[Any]) -> list[Any]:
        """The gradients when they fit the variables; rows as wholes, unless `sparse="lazy"`."""
        if len(grads) != len(variables):
            raise ValueError(
                f"there must be as many gradients as variables, {len(variables)}, got {len(grads)}"
            )
        if not self.built:
            for variable in variables:
                check_variable(variable)
        grads = [
            g if g is None else checked_gradient(g, v)
            for g, v in zip(grads, variables, strict=True)
        ]
        if self.sparse == "lazy":
            return grads
        # Before anything looks at them: clipping must see rows that occur twice added up.
        return [
            rows.to_dense(g, v) if rows.is_sparse(g) else g
            for g, v in zip(grads, variables, strict=True)
        ]

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
        # By group: the gradients by variable, and for one that is named again another update.
        together: dict[Any, list[dict[int, Any]]] = {}
        for gradient, variable in zip(grads, trainable_variables, strict=True):
            i = self._get_variable_index(variable)
            group = self._slots[i].joined
            if group is None or rows.is_sparse(gradient):
                separate.append((gradient, variable))
                continue
            updates = together.setdefault(group, [])
            if not any(i not in update for update in updates):
                updates.append({})
            next(update for update in updates if i not in update)[i] = gradient
        for group, updates in together.items():
            for gradients in updates:
                group.update(gradients, self.kernel, scalars[group.path])
        if separate:
            super()._backend_update_step(*zip(*separate, strict=True), scalars)

    def _path_of(self, gradient: Any, variable: Any) -> str:
        """The dtype of the variable's arithmetic, marked when a kernel does it."""
        slot = self._slots[self._get_variable_index(variable)]
        fused = slot.on_kernel and not rows.is_sparse(gradient)
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
        gradient = checked_gradient(gradient, variable)
        path = self._path_of(gradient, variable)
        # A bare learning rate comes from who calls update_step by hand.
        scalars = learning_rate if isinstance(learning_rate, dict) else None
        c = (scalars or self._scalars([path], learning_rate))[path]
        i = self._get_variable_index(variable)
        slot = self._slots[i]
        if rows.is_sparse(gradient):
            gradient = rows.without_duplicates(gradient)  # replicas may hold the same row
            value, where = gradient.values, gradient.indices
        else:
            value, where = gradient, None
        value = ops.cast(value, moment_dtype(variable))
        if path.endswith("kernel"):
            native = variable.value if isinstance(variable, keras.Variable) else variable
            if slot.joined:
                slot.joined.update({i: value}, self.kernel, c)
            else:
                self.kernel(value, native, slot.moments, c)
            return
        before = [rows.read(moment, where) for moment in slot.moments]
        after, step = self.rule(value, before, c)
        for moment, new in zip(slot.moments, after, strict=True):
            self.assign(moment, rows.at(new, where))
        if slot.remainder is None:
            self.assign_sub(variable, rows.at(step, where))
            return
        kept = slot.remainder
        wide = ops.cast(rows.read(variable, where), step.dtype) + rows.read(kept, where) - step
        rounded = ops.cast(wide, variable.dtype)
        self.assign(variable, rows.at(rounded, where))
        self.assign(kept, rows.at(wide - ops.cast(rounded, wide.dtype), where))

    def assign(self, variable: Any, value: Any) -> None:
        """Assign to a variable, or its rows, as Keras does; a part of a variable assigns itself."""
        if getattr(variable, "is_part", False):
            variable.assign_rows(value) if rows.is_sparse(value) else variable.assign(value)
        else:
            super().assign(variable, value)

    def _last_step(self, variable: Any) -> tuple[int, float, list[np.ndarray], bool]:
        """Number and learning rate of the last step, the moments after it, whether by a kernel."""
        if not self.built or self._var_key(variable) not in self._trainable_variables_indices:
            raise ValueError(
                f"variable must be one that the optimizer was built with, got {name_of(variable)!r}"
            )
        t = int(self.iterations)
        if t == 0:
            raise ValueError("diagnostics are of the last step, and there was none yet")
        rate = self._learning_rate
        if isinstance(rate, keras.optimizers.schedules.LearningRateSchedule):
            rate = rate(t * (self.gradient_accumulation_steps or 1) - 1)
        elif not isinstance(rate, keras.Variable) and callable(rate):
            rate = rate()
        slot = self._slots[self._get_variable_index(variable)]
        moments = [moment.numpy().astype("float64") for moment in slot.moments]
        return t, float(rate), moments, slot.on_kernel

    def get_config(self) -> dict[str, Any]:
        """What rebuilds this optimizer through `from_config`."""
        return super().get_config() | {"fused": self.fused, "sparse": self.sparse}
