"""What Adam and AdaMax share: exact scalars once per step, wide moments, and two code paths."""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from adam_tf._keras import Optimizer, layout_of, native, number_of
from adam_tf.arithmetic import Seed, agreeing, is_narrow, moment_dtype, scalar_dtype, with_remainder
from adam_tf.backend import backend
from adam_tf.inputs import check_variable, check_weights, checked_gradient, listed, name_of
from adam_tf.shared import SHARED, SHARED_REFERENCES
from adam_tf.slots import Scalars, Slot, Way, divided_layout, state_name
from adam_tf.typing import Scalar, Tensor, Variable
from adam_tf.validation import (
    check_built,
    check_clips,
    check_held_rate,
    check_keras_arguments,
    check_names,
    check_rate,
    check_replicas,
    check_setting,
    check_settings,
    check_together,
    checked_config,
    checked_settings,
    chosen_clips,
)


class MomentOptimizer(Optimizer):
    """An optimizer that keeps moments of each variable's gradient.

    A subclass says which moments it keeps, its scalars of one step and its update rule: in plain
    operations (`coefficients`, `rule`) and for a kernel (`kernel_coefficients`, `kernel`).
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Put the text of the shared arguments into the docstring."""
        super().__init_subclass__(**kwargs)
        if cls.__doc__:
            text = cls.__doc__.replace("{shared arguments}", SHARED)
            cls.__doc__ = text.replace("{shared references}", SHARED_REFERENCES)

    def __init__(
        self,
        learning_rate: Any,
        fused: bool | None,
        sparse: str,
        moments: str | None,
        cautious: bool,
        divide_state: bool,
        **kwargs: Any,
    ) -> None:
        """Validate what Keras does not; keep the learning rate exact. Arguments as in `Adam`."""
        check_names(type(self), kwargs)
        learning_rate = check_rate(learning_rate)
        check_keras_arguments(kwargs)
        # Keras would hold the learning rate in floatx, where 0.001 is 0.0010000000475. Until we set
        # ours it has a callable: dropping a variable would spoil the list for tf.train.Checkpoint.
        wide = isinstance(learning_rate, float) and scalar_dtype() != keras.config.floatx()
        super().__init__((lambda: learning_rate) if wide else learning_rate, **kwargs)
        self._slots: list[Slot] = []
        self.fused = check_setting("fused", fused)
        self.sparse = check_setting("sparse", sparse)
        self.moments = check_setting("moments", moments)
        self.cautious = check_setting("cautious", cautious)
        self.divide_state = check_setting("divide_state", divide_state)
        check_together(self)
        if wide:
            self.hold_learning_rate(learning_rate, scalar_dtype())

    def moment_names(self) -> tuple[str, ...]:
        """The moments kept for each variable."""
        raise NotImplementedError

    def coefficients(self, t: Scalar, learning_rate: Scalar) -> NamedTuple:
        """The scalars of step `t` that `rule` reads, computed in `scalar_dtype()`."""
        raise NotImplementedError

    def rule(
        self, gradient: Tensor, moments: Sequence[Tensor], c: Any
    ) -> tuple[tuple[Tensor, ...], Tensor]:
        """The new moments and what to subtract from the variable, all of its shape.

        Args:
            gradient: of any shape, float32 or wider.
            moments: those that `moment_names` lists, each of the gradient's shape.
            c: what `coefficients` gives.
        """
        raise NotImplementedError

    def kernel_obstacle(self, variable: Variable) -> str | None:
        """Why `variable` cannot be updated by a kernel, or None."""
        raise NotImplementedError

    def kernel_coefficients(self, t: Scalar, learning_rate: Scalar, dtype: str) -> NamedTuple:
        """The scalars of step `t` that `kernel` reads; arguments as in `Adam`."""
        raise NotImplementedError

    def kernel(
        self, gradient: Tensor, variable: Variable, moments: Sequence[Variable], c: Any
    ) -> None:
        """Update `variable` and its `moments` in one pass; arguments as in `Adam`."""
        raise NotImplementedError

    def build(self, variables: Sequence[Variable]) -> None:
        """Create the moments of `variables` and choose the path of each."""
        if self.built:
            return
        variables = listed("variables", variables)
        for variable in variables:
            check_variable(variable)
        check_settings(self)
        check_replicas(self, self.replicas)
        # Whatever refuses a variable comes before Keras builds: there is no way back.
        ways = [Way(moment_dtype(variable), self._takes_kernel(variable)) for variable in variables]
        for variable in variables if self.divide_state else ():
            divided_layout(variable)
        super().build(variables)
        names = self.moment_names()
        # A variable that is listed twice has the state of its last place, as in Keras.
        joinable = [
            i
            for i, variable in enumerate(variables)
            if ways[i].kernel and self.index_of(variable) == i
        ]
        joined = backend.join(variables, joinable, self._joined)
        parts = [group.parts[i] if group else [] for i, group in enumerate(joined)]
        # The same order as in keras.optimizers.Adam, so that its saved state can be loaded.
        first = [
            part[:2] or self._new_state(variable, names[:2], self.moments)
            for part, variable in zip(parts, variables, strict=True)
        ]
        rest = [
            part[2:] if part else self._new_state(variable, names[2:], self.moments)
            for part, variable in zip(parts, variables, strict=True)
        ]
        # The bfloat16 number nearest to 1 is 0.004 away: the part of a step of 0.001 that rounding
        # drops is kept and added to the next step. Averages of such variables work the same way.
        kept = ["remainder", "average_remainder"][: 2 if self.use_ema else 1]
        remainders = [
            self._new_state(variable, kept if is_narrow(variable) else []) for variable in variables
        ]
        self._slots = [
            Slot([*a, *b], remainder, way, group)
            for a, b, remainder, way, group in zip(
                first, rest, remainders, ways, joined, strict=True
            )
        ]
        if self.was_restored:
            backend.check_restored(self.iterations, [m for s in self._slots for m in s.moments])

    def _joined(self, members: dict[int, Variable], size: int) -> Any:
        """The group of `members`, given by index, which hold `size` numbers in all."""
        names = self.moment_names()
        anyone = next(iter(members.values()))
        with self.beside(anyone):
            flat = [
                self.add_variable(shape=(size,), dtype=moment_dtype(anyone), name=f"joined_{name}")
                for name in names
            ]
            with keras.name_scope(self.name, caller=self):
                paths = {i: [state_name(v, name) for name in names] for i, v in members.items()}
                return backend.Joined(members, flat, paths)

    @property
    def variables(self) -> list[keras.Variable]:
        """The state in Keras' order; moments of joined variables appear as `joined.Part`."""
        groups = [slot.joined for slot in self._slots if slot.joined]
        if not groups:
            return super().variables
        flat = [moment for group in groups for moment in group.moments]
        state = [
            *itertools.chain.from_iterable(slot.moments[:2] for slot in self._slots),
            *itertools.chain.from_iterable(slot.moments[2:] for slot in self._slots),
            *itertools.chain.from_iterable(slot.remainders for slot in self._slots),
        ]
        moved = {id(variable) for variable in flat + state}
        return [v for v in self.own_variables if id(v) not in moved] + state

    def set_weights(self, weights: Sequence[Tensor]) -> None:
        """Set the state, in the order of `variables`.

        Raises:
            ValueError: when there are more or fewer weights than variables, or one has another
                shape, or the optimizer is not built.
        """
        check_built(self)
        variables = self.variables
        check_weights(weights, variables)
        for variable, weight in zip(variables, weights, strict=True):
            variable.assign(weight)

    def add_variable_from_reference(
        self, reference_variable: Variable, name: str | None = None, initializer: str = "zeros"
    ) -> keras.Variable:
        """A variable of the optimizer for one of the model, as Keras makes it.

        Gradients of narrow variables are accumulated in float32.

        Args:
            reference_variable: the model's.
            name: of the state, for example "gradient_accumulator".
            initializer: of its values.
        """
        narrow = is_narrow(reference_variable) and not self.is_overwritten(reference_variable)
        if name == "gradient_accumulator" and narrow:
            return self._new_state(reference_variable, [name])[0]
        return super().add_variable_from_reference(reference_variable, name, initializer)

    def _new_state(
        self, variable: Variable, names: Sequence[str], dtype: str | None = None
    ) -> list[keras.Variable]:
        if self.is_overwritten(variable):  # float8 scales have no moments
            return []
        layout = divided_layout(variable) if self.divide_state else layout_of(variable)
        # As Keras' add_variable_from_reference, but for the dtype.
        with self.beside(variable):
            return [
                self.add_variable(
                    shape=variable.shape,
                    dtype=dtype or moment_dtype(variable),
                    layout=layout,
                    name=state_name(variable, name),
                )
                for name in names
            ]

    def _takes_kernel(self, variable: Variable) -> bool:
        if self.fused is False or self.moments or self.cautious:
            return False
        obstacle = self.kernel_obstacle(variable)
        if obstacle and self.fused:
            raise ValueError(f"fused=True is impossible for {name_of(variable)!r}: {obstacle}")
        return obstacle is None

    def apply(
        self, grads: Sequence[Tensor], trainable_variables: Sequence[Variable] | None = None
    ) -> None:
        """Update the variables by their gradients, as `keras.optimizers.Optimizer.apply` does.

        Raises:
            TypeError: when one is not a list, or something is not a variable.
            ValueError: when a gradient does not have the shape of its variable, or is complex, or
                there are more or fewer gradients than variables.
        """
        grads = listed("grads", grads)
        if trainable_variables is not None:
            trainable_variables = listed("trainable_variables", trainable_variables)
        targets = self.trained if trainable_variables is None else trainable_variables
        if grads and (self.built or trainable_variables is not None):
            grads = self._checked(grads, targets)
        super().apply(grads, trainable_variables)

    def _checked(self, grads: list[Tensor], variables: Sequence[Variable]) -> list[Tensor]:
        """The gradients, checked against the variables; rows made dense unless `sparse="lazy"`."""
        if len(grads) != len(variables):
            raise ValueError(
                f"there must be as many gradients as variables, {len(variables)}, got {len(grads)}"
            )
        if not self.built:
            for variable in variables:
                check_variable(variable)
        grads = [
            g if g is None else self._wide(checked_gradient(g, v), v)
            for g, v in zip(grads, variables, strict=True)
        ]
        if self.sparse == "lazy":
            return grads
        # Before anything reads them: clipping must see the sum of rows that occur twice.
        return [
            backend.to_dense(g, v) if backend.is_sparse(g) else g
            for g, v in zip(grads, variables, strict=True)
        ]

    def _wide(self, gradient: Tensor, variable: Variable) -> Tensor:
        """`gradient` as a tensor in the dtype of the moments, that of NumPy's float64 arrays too.

        The square of 300 is infinite in float16, and in bfloat16 a sum of 200 gradients stops
        growing.
        """
        if self.is_overwritten(variable):
            return gradient
        if backend.is_sparse(gradient):
            return backend.cast(gradient, "float32") if is_narrow(variable) else gradient
        return ops.cast(ops.convert_to_tensor(gradient), moment_dtype(variable))

    def clip(self, gradients: Sequence[Tensor]) -> Sequence[Tensor]:
        """The clipped gradients; rows that occur twice are added up first."""
        if chosen_clips(self) and any(map(backend.is_sparse, gradients)):
            return backend.clip_rows(gradients, super().clip)
        return super().clip(gradients)

    def decay(self, variables: Sequence[Variable]) -> None:
        """Apply weight decay to all but narrow variables, which `update_step` decays."""
        wide = [v for v in variables if self.decays(v) and not is_narrow(v)]
        if wide:
            super().decay(wide)

    def average(self) -> None:
        """Bring the averages up to date: in float32, and once for each step."""
        steps = self.gradient_accumulation_steps
        if not steps and not any(slot.remainders for slot in self._slots):
            super().average()
            return
        whole, part, none = (
            ops.convert_to_tensor(w, dtype=scalar_dtype()) for w in (1, 1 - self.ema_momentum, 0)
        )
        weight = ops.where(self.iterations == 0, whole, part)
        if steps:  # until the first step ends, the average is the variable itself
            within = ops.logical_and(self.iterations > 0, (self.batches + 1) % steps != 0)
            weight = ops.where(within, none, weight)
        for variable, average, slot in zip(self.trained, self.averages, self._slots, strict=True):
            if average is None:
                continue
            kept = slot.remainders[1] if slot.remainders else None
            dtype = moment_dtype(variable)
            old = ops.cast(average, dtype) if kept is None else with_remainder(average, kept)
            new = old + ops.cast(weight, dtype) * (ops.cast(variable, dtype) - old)
            rounded = ops.cast(new, average.dtype)
            average.assign(self._laid_out(rounded, average))
            if kept is not None:
                kept.assign(self._laid_out(new - ops.cast(rounded, dtype), kept))

    def update(
        self, gradients: Sequence[Tensor], variables: Sequence[Variable], learning_rate: Scalar
    ) -> None:
        """Compute scalars once and update joined variables together; arguments as in Keras."""
        pairs = list(zip(gradients, variables, strict=True))
        scalars = self._scalars({self._way(g, v) for g, v in pairs}, learning_rate)
        if self.weight_decay and any(map(is_narrow, variables)):
            rate = ops.convert_to_tensor(learning_rate, dtype=scalar_dtype())
            decay = ops.convert_to_tensor(rate * self.weight_decay, dtype="float32")
            scalars = scalars._replace(decay=decay)
        separate = []
        # By group, the gradients by variable; a variable that is listed twice adds an update.
        together: dict[Any, list[dict[int, Tensor]]] = {}
        for gradient, variable in pairs:
            i = self.index_of(variable)
            group = self._slots[i].joined
            if group is None or backend.is_sparse(gradient):
                separate.append((gradient, variable))
                continue
            updates = together.setdefault(group, [])
            if not any(i not in update for update in updates):
                updates.append({})
            next(update for update in updates if i not in update)[i] = gradient
        for group, updates in together.items():
            for update in updates:
                group.update(update, self.kernel, scalars.of(Way(group.dtype, kernel=True)))
        if separate:
            alone, targets = zip(*separate, strict=True)
            super().update(alone, targets, scalars)

    def _way(self, gradient: Tensor, variable: Variable) -> Way:
        """How this gradient updates the variable; a kernel never takes rows."""
        way = self._slots[self.index_of(variable)].way
        return way._replace(kernel=way.kernel and not backend.is_sparse(gradient))

    def _scalars(self, ways: set[Way], learning_rate: Scalar) -> Scalars:
        t = ops.cast(ops.convert_to_tensor(self.steps_done()), scalar_dtype()) + 1
        rate = ops.convert_to_tensor(learning_rate, dtype=scalar_dtype())
        found: dict[str, NamedTuple] = {}
        for way in sorted(ways):
            exact: Any = (
                self.kernel_coefficients(t, rate, way.dtype)
                if way.kernel
                else self.coefficients(t, rate)
            )
            # ops.cast would take a Python float through float32.
            tensors = (ops.convert_to_tensor(s, dtype=way.dtype) for s in exact)
            found[Scalars.name(way)] = type(exact)(*tensors)
        return Scalars(ops.cast(self.iterations, "int32"), **found)

    def update_step(
        self, gradient: Tensor, variable: Variable, learning_rate: Scalar | Scalars
    ) -> None:
        """Move `variable` one step against `gradient`, a tensor of its shape or rows of it.

        Args:
            gradient: a tensor of the shape of `variable`, or `tf.IndexedSlices`.
            variable: changed in place.
            learning_rate: of this step, alone or within the step's scalars.
        """
        gradient = checked_gradient(gradient, variable)
        way = self._way(gradient, variable)
        # A bare learning rate comes from whoever calls update_step directly.
        scalars = learning_rate
        if not isinstance(scalars, Scalars):
            scalars = self._scalars({way}, learning_rate)
        c = scalars.of(way)
        i = self.index_of(variable)
        slot = self._slots[i]
        if backend.is_sparse(gradient):
            gradient = backend.without_duplicates(gradient)  # replicas may hold the same row
            value, where = gradient.values, gradient.indices
        else:
            value, where = gradient, None
        value = ops.cast(value, way.dtype)
        if way.kernel:
            if slot.joined:
                slot.joined.update({i: value}, self.kernel, c)
            else:
                self.kernel(value, native(variable), slot.moments, c)
            return
        before = [ops.cast(backend.read(moment, where), way.dtype) for moment in slot.moments]
        after, step = self.rule(value, before, c)
        if self.cautious:
            step = agreeing(step, value)
        for j, (moment, new) in enumerate(zip(slot.moments, after, strict=True)):
            if self.moments:
                new = self._rounded(new, Seed(scalars.step, 4 * i + j))
            self.assign(moment, backend.at(self._laid_out(new, moment), where))
        step = self._laid_out(step, variable)
        if not slot.remainders:
            self.assign_sub(variable, backend.at(step, where))
            return
        if scalars.decay is not None and self.decays(variable):  # all rows of it
            wide = self._with_remainder(variable, slot, None)
            self._assign_wide(variable, slot, wide - scalars.decay * wide, None)
        self._assign_wide(variable, slot, self._with_remainder(variable, slot, where) - step, where)

    def _with_remainder(self, variable: Variable, slot: Slot, where: Tensor | None) -> Tensor:
        """A narrow variable, or its rows, in float32."""
        kept = backend.read(slot.remainders[0], where)
        return with_remainder(backend.read(variable, where), kept)

    def _assign_wide(
        self, variable: Variable, slot: Slot, wide: Tensor, where: Tensor | None
    ) -> None:
        """Assign float32 to a narrow variable, or to its rows, and keep what rounding drops."""
        rounded = ops.cast(wide, variable.dtype)
        self.assign(variable, backend.at(rounded, where))
        kept = slot.remainders[0]
        lost = self._laid_out(wide - ops.cast(rounded, wide.dtype), kept)
        self.assign(kept, backend.at(lost, where))

    def _rounded(self, moment: Tensor, seed: Seed) -> Tensor:
        noise = keras.random.randint(ops.shape(moment), 0, 1 << 16, dtype="int32", seed=seed)
        return backend.to_bfloat16(ops.cast(moment, "float32"), noise)

    def _laid_out(self, value: Tensor, variable: Variable) -> Tensor:
        """`value` on the devices of `variable`, in case the state lies on others."""
        if not self.divide_state or layout_of(variable) is None:
            return value
        return keras.distribution.distribute_tensor(value, layout_of(variable))

    def assign(self, variable: Variable, value: Tensor) -> None:
        """Assign to a variable, or its rows, as Keras does; a part of a variable assigns itself."""
        if getattr(variable, "is_part", False):
            variable.assign_rows(value) if backend.is_sparse(value) else variable.assign(value)
        else:
            super().assign(variable, value)

    def _last_step(self, variable: Variable) -> tuple[int, float, list[np.ndarray], bool]:
        """The last step's number, learning rate and resulting moments; whether a kernel made it."""
        if not self.knows(variable):
            raise ValueError(
                f"variable must be one that the optimizer was built with, got {name_of(variable)!r}"
            )
        if self.cautious:
            raise ValueError(
                "diagnostics derive the last step from the moments; with cautious=True it "
                "depends on the gradient too"
            )
        t = int(number_of(self.steps_done()))
        if t == 0:
            raise ValueError("diagnostics describe the last step, and there has been none yet")
        rate: Any = self.given_learning_rate
        if isinstance(rate, keras.optimizers.schedules.LearningRateSchedule):
            rate = rate(t - 1)
        elif not isinstance(rate, keras.Variable) and callable(rate):
            rate = rate()
        slot = self._slots[self.index_of(variable)]
        moments = [
            # NumPy has no bfloat16 of its own.
            ops.convert_to_numpy(ops.cast(m.value, slot.way.dtype)) if self.moments else m.numpy()
            for m in slot.moments
        ]
        moments = [moment.astype("float64") for moment in moments]
        return t, float(number_of(rate)), moments, slot.way.kernel

    def get_config(self) -> dict[str, Any]:
        """The configuration from which `from_config` rebuilds this optimizer."""
        # Whatever was set since is checked here: the constructor would refuse it in a file.
        check_held_rate(self.given_learning_rate)
        config = checked_config(super().get_config()) | checked_settings(self)
        check_clips(self)
        check_together(self)
        return config
