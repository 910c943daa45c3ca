"""What Adam and AdaMax share: exact scalars computed once per step, wide moments, two paths."""

import importlib
import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from adam_tf._keras import Optimizer, layout_of
from adam_tf.typing import Scalar, Tensor, Variable
from adam_tf.validation import check_choice, check_integer, check_names, check_number

# Keras' backend is chosen when Keras is imported, once and for all.
backend = importlib.import_module(
    "adam_tf.tensorflow" if keras.backend.backend() == "tensorflow" else "adam_tf.plain"
)

# What the docstrings of all optimizers say of the arguments that they share.
SHARED = """sparse: what a gradient of rows (`tf.IndexedSlices`) means. `"dense"`: the rows that are
            not named have gradient 0, as in the paper. `"lazy"`: they are left alone, moments
            included, until they occur again; faster, and another algorithm.
        fused: `None` updates a variable (many small ones together) by one TensorFlow kernel where
            that is possible and by `keras.ops` elsewhere; `True` insists on the kernel, `False` on
            `keras.ops`.
        moments: `None` keeps the moments in float32, or float64 for a float64 variable.
            `"bfloat16"` takes half of that memory; they are rounded up or down at random, so that
            they are right on average (Gupta et al.), at the cost of noise: 0.4% in each rounding.
        cautious: `True` is another algorithm (Liang et al.): where step and gradient point in
            opposite directions the step is 0, and the others of the variable are made larger in
            turn, by its size over 1 + the number of those that are left.
        divide_state: `True` divides the moments among the devices that share a batch under
            `keras.distribution` (stage 1 of ZeRO, Rajbhandari et al.; JAX only). `False` lays
            them out as their variable is.
        **kwargs: the keywords of every Keras optimizer (`weight_decay`, `clipnorm`, `use_ema`,
            `gradient_accumulation_steps`, `name`, ...)."""
SHARED_REFERENCES = """Gupta et al., Deep Learning with Limited Numerical Precision, ICML 2015.

        Liang et al., [Cautious Optimizers](https://arxiv.org/abs/2411.16085), 2024.

        Rajbhandari et al., ZeRO: Memory Optimizations Toward Training Trillion Parameter Models,
        SC 2020."""


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


def moment_dtype(variable: Variable) -> str:
    """Dtype of the arithmetic: float32 or wider, so that small gradients survive squaring."""
    dtype = keras.backend.standardize_dtype(variable.dtype)
    return dtype if dtype == "float64" else "float32"


def is_narrow(variable: Variable) -> bool:
    """Whether a variable has fewer digits than its moments."""
    return keras.backend.standardize_dtype(variable.dtype) != moment_dtype(variable)


def one_minus_power(beta: float, t: Scalar) -> Scalar:
    r"""$1 - \beta^t$ without the cancellation of computing it so."""
    log_beta = math.log(beta) if beta > 0 else -math.inf
    return -ops.expm1(t * log_beta)


def decayed_average(average: Tensor, gain: Scalar, value: Tensor) -> Tensor:
    r"""$\beta x + (1 - \beta) y$ from `gain` = $1 - \beta$, which rounds better than $\beta$.

    In float32 1 - 0.999 is off by 1.3e-5 of itself when it is taken from the rounded 0.999.
    """
    return average - gain * average + gain * value


def maximum(a: Tensor, b: Tensor) -> Tensor:
    """The larger one, elementwise; `ops.maximum` takes float64 through float32 on PyTorch."""
    return ops.where(a > b, a, b)


def name_of(variable: Variable) -> str:
    """What a message calls a variable."""
    return getattr(variable, "path", None) or getattr(variable, "name", None) or repr(variable)


def divided_layout(variable: Variable) -> object:
    """The layout of a variable, divided also over the devices that share a batch.

    Its largest dimension that is whole and that they can divide evenly is divided; where there is
    none the layout stays.

    Raises:
        ValueError: when there is no distribution.
    """
    distribution = keras.distribution.distribution()
    if distribution is None:
        raise ValueError(
            "divide_state=True needs keras.distribution.set_distribution, and a model made after it"
        )
    mesh, layout = distribution.device_mesh, layout_of(variable)
    axis = distribution.batch_dim_name
    devices = mesh.shape[mesh.axis_names.index(axis)]
    axes = list(getattr(layout, "axes", ())) or [None] * len(variable.shape)
    free = [
        (size, -d)
        for d, size in enumerate(variable.shape)
        if axes[d] is None and size % devices == 0 and size > 0
    ]
    if not free or axis in axes:
        return layout
    axes[-max(free)[1]] = axis
    return keras.distribution.TensorLayout(axes, mesh)


def agreeing(step: Tensor, gradient: Tensor) -> Tensor:
    r"""The step of a cautious optimizer: $u\,\phi\,d / (1 + \sum\phi)$, $\phi = [u g > 0]$.

    Args:
        step: $u$, what would be subtracted from the variable, $d$ numbers.
        gradient: $g$, of the same shape.
    """
    # By their signs: a product of small numbers would underflow.
    agree = ops.cast(ops.sign(step) * ops.sign(gradient) > 0, step.dtype)
    whole = ops.cast(ops.size(step), step.dtype)
    return step * agree * (whole / (1 + ops.sum(agree)))


class Seed(keras.random.SeedGenerator):
    """The seed of one rounding: a function of the step and of what is rounded, with no state."""

    def __init__(self, step: Tensor, index: int) -> None:
        """For state number `index` at step `step`."""
        self.pair = step, index

    def next(self, ordered: bool = True) -> Tensor:
        """The seed, always the same."""
        step, index = self.pair
        # An odd factor, because PyTorch adds the two.
        words = ops.stack([step * 65537, ops.full_like(step, index)])
        return ops.cast(words, "uint32")


def state_name(variable: Variable, name: str) -> str:
    """What Keras calls the state `name` of a variable."""
    path = getattr(variable, "path", None) or variable.name
    return f"{path.replace('/', '_').replace(':', '_')}_{name}"


class Way(NamedTuple):
    """How the arithmetic of a variable is done."""

    dtype: str  # float32 or float64
    kernel: bool


class Scalars(NamedTuple):
    """The scalars of one step, by the ways of arithmetic that it needs (None: not needed).

    Keras hands one value to each update, which it takes for the learning rate: this one. It must be
    a tuple of tensors, since `tf.distribute` looks into it.
    """

    step: Tensor  # t - 1 as int32
    decay: Any = None  # learning rate times weight decay in float32, for narrow variables
    float32: Any = None
    float64: Any = None
    float32_kernel: Any = None
    float64_kernel: Any = None

    @staticmethod
    def name(way: Way) -> str:
        """The field for a way of arithmetic."""
        return way.dtype + "_kernel" * way.kernel

    def of(self, way: Way) -> Any:
        """The scalars for a way of arithmetic."""
        return getattr(self, self.name(way))


class Slot:
    """What the optimizer keeps for one variable. Keras does not look into it for variables."""

    def __init__(
        self,
        moments: list[keras.Variable],
        remainders: list[keras.Variable],
        way: Way,
        joined: Any | None,
    ) -> None:
        """See `MomentOptimizer.build`."""
        self.moments = moments
        self.remainders = remainders  # of a narrow variable: its own, that of its average
        self.way = way
        self.joined = joined  # the tensorflow.joined.Joined it belongs to


def check_variable(variable: Variable) -> None:
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
    shape = backend.known_shape(variable)
    if shape is None or None in shape:
        raise ValueError(
            f"variable {name_of(variable)!r} must have a shape without None, got {shape}"
        )


def checked_gradient(gradient: Tensor, variable: Variable) -> Tensor:
    """`gradient` when it is a real one of the shape of `variable`.

    A dimension that TensorFlow does not know yet is checked when the graph runs.

    Args:
        gradient: a tensor, an array or `tf.IndexedSlices`.
        variable: what it is the gradient of.

    Raises:
        ValueError: when it has another shape, or is complex.
    """
    values = gradient.values if backend.is_sparse(gradient) else gradient
    if "complex" in str(getattr(values, "dtype", "")):
        dtype = keras.backend.standardize_dtype(values.dtype)
        raise ValueError(f"the gradient of {name_of(variable)!r} must be real, got {dtype}")
    wanted, given = tuple(variable.shape), backend.known_shape(values)
    if backend.is_sparse(gradient):  # any number of rows, each as those of the variable
        wanted, given = wanted[1:], given and given[1:]
    if given == wanted:
        return gradient
    if given is not None and (
        len(given) != len(wanted)
        or any(n is not None and n != m for n, m in zip(given, wanted, strict=True))
    ):
        kind = "rows of the gradient" if backend.is_sparse(gradient) else "gradient"
        raise ValueError(
            f"the {kind} of {name_of(variable)!r} must have its shape {wanted}, got {given}"
        )
    return backend.of_shape(gradient, wanted)


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
        """Validate what Keras does not, and keep the learning rate unrounded."""
        check_names(type(self), kwargs)
        if isinstance(learning_rate, str) or not callable(learning_rate):
            learning_rate = check_number("learning_rate", learning_rate, 0)
        for name in ("weight_decay", "clipnorm", "clipvalue", "global_clipnorm"):
            if kwargs.get(name) is not None:
                # Keras reads a clip of 0 as "no clip", which None says better. What is kept is
                # Python's: a number of NumPy could not be saved.
                kwargs[name] = check_number(name, kwargs[name], 0, low_open=name != "weight_decay")
        if kwargs.get("loss_scale_factor") is not None:
            scale = check_number("loss_scale_factor", kwargs["loss_scale_factor"], 0, low_open=True)
            kwargs["loss_scale_factor"] = scale
        if kwargs.get("ema_momentum") is not None:
            kwargs["ema_momentum"] = check_number("ema_momentum", kwargs["ema_momentum"], 0, 1)
        for name, low in (("gradient_accumulation_steps", 2), ("ema_overwrite_frequency", 1)):
            if kwargs.get(name) is not None:
                kwargs[name] = check_integer(name, kwargs[name], low)
        # Keras would hold the learning rate in floatx, where 0.001 is 0.0010000000475. It is given
        # a callable until then: to drop a variable again spoils the list for tf.train.Checkpoint.
        wide = isinstance(learning_rate, float) and scalar_dtype() != keras.config.floatx()
        super().__init__((lambda: learning_rate) if wide else learning_rate, **kwargs)
        self._slots: list[Slot] = []
        self.fused = check_choice("fused", fused, (None, True, False))
        self.sparse = check_choice("sparse", sparse, ("dense", "lazy"))
        self.moments = check_choice("moments", moments, (None, "bfloat16"))
        self.cautious = check_choice("cautious", cautious, (True, False))
        self.divide_state = check_choice("divide_state", divide_state, (True, False))
        if fused and keras.backend.backend() != "tensorflow":
            raise ValueError(
                f"fused=True needs the tensorflow backend, got {keras.backend.backend()!r}"
            )
        if divide_state and keras.backend.backend() != "jax":
            raise ValueError(
                f"divide_state=True needs the jax backend, got {keras.backend.backend()!r}"
            )
        if sparse == "lazy" and self.gradient_accumulation_steps:
            raise ValueError(
                "sparse='lazy' must go without gradient_accumulation_steps, which adds gradients "
                f"up densely, got {self.gradient_accumulation_steps}"
            )
        if self.ema_overwrite_frequency and self.gradient_accumulation_steps:
            raise ValueError(
                "ema_overwrite_frequency must go without gradient_accumulation_steps: Keras would "
                "overwrite the weights within a step, got "
                f"{self.ema_overwrite_frequency} and {self.gradient_accumulation_steps}"
            )
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
        """The new moments and what to subtract from the variable, all of its shape."""
        raise NotImplementedError

    def kernel_obstacle(self, variable: Variable) -> str | None:
        """Why `variable` cannot be updated by a kernel, or None."""
        raise NotImplementedError

    def kernel_coefficients(self, t: Scalar, learning_rate: Scalar, dtype: str) -> NamedTuple:
        """The scalars of step `t` that `kernel` reads."""
        raise NotImplementedError

    def kernel(
        self, gradient: Tensor, variable: Variable, moments: Sequence[Variable], c: Any
    ) -> None:
        """Update `variable` and its `moments` in one pass."""
        raise NotImplementedError

    def build(self, variables: Sequence[Variable]) -> None:
        """Create the moments of `variables` and choose the path of each."""
        if self.built:
            return
        for variable in variables:
            check_variable(variable)
        self.check_clips()
        super().build(variables)
        names = self.moment_names()
        ways = [Way(moment_dtype(variable), self._takes_kernel(variable)) for variable in variables]
        # A variable that is named twice has the state of its last place, as in Keras.
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
        # Next to 1, bfloat16 has nothing closer than 0.004: what rounding takes from a step of
        # 0.001 is kept and added to the next. So it is with the average of such a variable.
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

    def _joined(self, members: dict[int, Variable], size: int) -> Any:
        """What joins variables, which are given by index and hold so many numbers together."""
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
        """The state in Keras' order; moments of joined variables are given as `joined.Part`."""
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
                shape.
        """
        variables = self.variables
        if len(weights) != len(variables):
            raise ValueError(
                f"weights must be {len(variables)} arrays, one for each variable, "
                f"got {len(weights)}"
            )
        for variable, weight in zip(variables, weights, strict=True):
            if tuple(variable.shape) != tuple(np.shape(weight)):
                raise ValueError(
                    f"the weight of {name_of(variable)!r} must have its shape "
                    f"{tuple(variable.shape)}, got {tuple(np.shape(weight))}"
                )
        for variable, weight in zip(variables, weights, strict=True):
            variable.assign(weight)

    def add_variable_from_reference(
        self, reference_variable: Variable, name: str | None = None, initializer: str = "zeros"
    ) -> keras.Variable:
        """A variable of the optimizer for one of the model, as Keras makes it.

        Gradients of narrow variables are accumulated in float32.
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
        if self.fused is False:
            return False
        if self.moments:
            obstacle: str | None = f"its moments are {self.moments}"
        elif self.cautious:
            obstacle = "cautious=True looks at a whole variable, a kernel at each number"
        else:
            obstacle = self.kernel_obstacle(variable)
        if obstacle and self.fused:
            raise ValueError(f"fused=True is impossible for {name_of(variable)!r}: {obstacle}")
        return obstacle is None

    def apply(
        self, grads: Sequence[Tensor], trainable_variables: Sequence[Variable] | None = None
    ) -> None:
        """Update the variables by their gradients, as `keras.optimizers.Optimizer.apply` does.

        Raises:
            ValueError: when a gradient has not the shape of its variable, or is complex.
        """
        grads = list(grads)
        if trainable_variables is not None:
            trainable_variables = list(trainable_variables)
        targets = trainable_variables or self.trained
        if grads and targets:
            grads = self._checked(grads, targets)
        super().apply(grads, trainable_variables)

    def _checked(self, grads: list[Tensor], variables: Sequence[Variable]) -> list[Tensor]:
        """The gradients when they fit the variables; rows as wholes, unless `sparse="lazy"`."""
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
        # Before anything looks at them: clipping must see rows that occur twice added up.
        return [
            backend.to_dense(g, v) if backend.is_sparse(g) else g
            for g, v in zip(grads, variables, strict=True)
        ]

    def _wide(self, gradient: Tensor, variable: Variable) -> Tensor:
        """`gradient` as a tensor, in float32 for a narrow variable.

        The square of 300 is infinite in float16, and in bfloat16 a sum of 200 gradients stops
        growing.
        """
        if self.is_overwritten(variable):
            return gradient
        if not backend.is_sparse(gradient):
            gradient = ops.convert_to_tensor(gradient)
        return backend.cast(gradient, "float32") if is_narrow(variable) else gradient

    def check_clips(self) -> None:
        """Refuse two ways of clipping, one of which was set later: no file of it could be read.

        Raises:
            ValueError: when there are two.
        """
        names = ("clipnorm", "clipvalue", "global_clipnorm")
        chosen = [f"{name}={getattr(self, name)}" for name in names if getattr(self, name)]
        if len(chosen) > 1:
            raise ValueError(f"only one of {', '.join(names)} can be set, got {', '.join(chosen)}")

    def clip(self, gradients: Sequence[Tensor]) -> Sequence[Tensor]:
        """The clipped gradients; rows that occur twice are added up first."""
        if self.clipnorm or self.clipvalue or self.global_clipnorm:
            gradients = [
                backend.without_duplicates(g) if backend.is_sparse(g) else g for g in gradients
            ]
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
        if steps:  # until the end of the first step, the average is what there is
            within = ops.logical_and(self.iterations > 0, (self.batches + 1) % steps != 0)
            weight = ops.where(within, none, weight)
        for variable, average, slot in zip(self.trained, self.averages, self._slots, strict=True):
            if average is None:
                continue
            kept = slot.remainders[1] if slot.remainders else None
            dtype = moment_dtype(variable)
            old = ops.cast(average, dtype)
            if kept is not None:
                old = old + kept
            new = old + ops.cast(weight, dtype) * (ops.cast(variable, dtype) - old)
            rounded = ops.cast(new, average.dtype)
            average.assign(self._laid_out(rounded, average))
            if kept is not None:
                kept.assign(self._laid_out(new - ops.cast(rounded, dtype), kept))

    def update(
        self, gradients: Sequence[Tensor], variables: Sequence[Variable], learning_rate: Scalar
    ) -> None:
        """Work out the scalars of the step, once, and update joined variables together."""
        pairs = list(zip(gradients, variables, strict=True))
        scalars = self._scalars({self._way(g, v) for g, v in pairs}, learning_rate)
        if self.weight_decay and any(map(is_narrow, variables)):
            rate = ops.convert_to_tensor(learning_rate, dtype=scalar_dtype())
            decay = ops.convert_to_tensor(rate * self.weight_decay, dtype="float32")
            scalars = scalars._replace(decay=decay)
        separate = []
        # By group: the gradients by variable, and for one that is named again another update.
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
        """How a variable is updated by this gradient: rows by no kernel."""
        way = self._slots[self.index_of(variable)].way
        return way._replace(kernel=way.kernel and not backend.is_sparse(gradient))

    def _scalars(self, ways: set[Way], learning_rate: Scalar) -> Scalars:
        before = ops.convert_to_tensor(self.iterations)
        if keras.backend.standardize_dtype(before.dtype) == "int32":
            # It may run over; the corrections are 1 long before.
            before = ops.where(before < 0, 2**31 - 1, before)
        t = ops.cast(before, scalar_dtype()) + 1
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
        """Move `variable` one step against `gradient`, a tensor of its shape or rows of it."""
        gradient = checked_gradient(gradient, variable)
        way = self._way(gradient, variable)
        # A bare learning rate comes from who calls update_step by hand.
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
            native = variable.value if isinstance(variable, keras.Variable) else variable
            if slot.joined:
                slot.joined.update({i: value}, self.kernel, c)
            else:
                self.kernel(value, native, slot.moments, c)
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
        wide = ops.cast(backend.read(variable, where), "float32")
        return wide + backend.read(slot.remainders[0], where)

    def _assign_wide(
        self, variable: Variable, slot: Slot, wide: Tensor, where: Tensor | None
    ) -> None:
        """Assign float32 to a narrow variable, or to its rows, and keep what rounding takes."""
        rounded = ops.cast(wide, variable.dtype)
        self.assign(variable, backend.at(rounded, where))
        kept = slot.remainders[0]
        lost = self._laid_out(wide - ops.cast(rounded, wide.dtype), kept)
        self.assign(kept, backend.at(lost, where))

    def _rounded(self, moment: Tensor, seed: Seed) -> Tensor:
        noise = keras.random.randint(ops.shape(moment), 0, 1 << 16, dtype="int32", seed=seed)
        return backend.to_bfloat16(ops.cast(moment, "float32"), noise)

    def _laid_out(self, value: Tensor, variable: Variable) -> Tensor:
        """`value` on the devices where `variable` is, where the state lies elsewhere than it."""
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
        """Number and learning rate of the last step, the moments after it, whether by a kernel."""
        if not self.knows(variable):
            raise ValueError(
                f"variable must be one that the optimizer was built with, got {name_of(variable)!r}"
            )
        if self.cautious:
            raise ValueError(
                "diagnostics tell the last step from the moments, and with cautious=True it "
                "depends on the gradient too"
            )
        t = int(self.iterations)
        if t == 0:
            raise ValueError("diagnostics are of the last step, and there was none yet")
        rate: Any = self.given_learning_rate
        if isinstance(rate, keras.optimizers.schedules.LearningRateSchedule):
            rate = rate(t * (self.gradient_accumulation_steps or 1) - 1)
        elif not isinstance(rate, keras.Variable) and callable(rate):
            rate = rate()
        slot = self._slots[self.index_of(variable)]
        moments = [
            # NumPy has no bfloat16 of its own.
            ops.convert_to_numpy(ops.cast(m.value, slot.way.dtype)) if self.moments else m.numpy()
            for m in slot.moments
        ]
        moments = [moment.astype("float64") for moment in moments]
        return t, float(rate), moments, slot.way.kernel

    def get_config(self) -> dict[str, Any]:
        """What rebuilds this optimizer through `from_config`."""
        self.check_clips()
        return super().get_config() | {
            "fused": self.fused,
            "sparse": self.sparse,
            "moments": self.moments,
            "cautious": self.cautious,
            "divide_state": self.divide_state,
        }
