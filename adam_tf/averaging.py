"""Temporal averaging of the weights, Section 7.2 of the paper."""

import contextlib
import math
import os
from collections.abc import Iterator
from os import PathLike
from typing import Any

import keras
import numpy as np
from keras import ops

from adam_tf._keras import is_emptied, layout_of, number_of
from adam_tf.arithmetic import moment_dtype
from adam_tf.typing import Scalar, Variable
from adam_tf.validation import check_choice, check_number


def average_weight(step: Scalar, decay: float | None) -> Scalar:
    r"""The weight of $\theta_t$ in the average of Section 7.2: 1/t, or (1 - decay)/(1 - decay^t).

    The average moves by `weight * (theta - average)`; this is the bias-corrected exponential
    average that starts at 0, and with `decay=None` the mean of all steps.

    Args:
        step: t, from 1: a number or a tensor.
        decay: in [0, 1), or `None`.
    """
    if decay is None:
        return 1 / step
    if decay == 0:
        return 1.0
    exponent = step * math.log(decay)
    expm1 = math.expm1 if isinstance(exponent, float) else ops.expm1
    return (1 - decay) / -expm1(exponent)


class WeightAveraging(keras.callbacks.Callback):
    r"""A callback that averages the weights over the steps of `fit`, with any optimizer.

    After step $t$ the average is

    $$
    \hat\theta_t = \frac{1 - \beta}{1 - \beta^t} \sum_{k=1}^t \beta^{t-k}\, \theta_k
    \quad\text{or}\quad
    \bar\theta_t = \frac{1}{t} \sum_{k=1}^t \theta_k
    $$

    where $\beta$ is `decay`; the second form, Polyak-Ruppert averaging, is `decay=None`. The first
    is the paper's exponential average that starts at 0, corrected for its bias: unlike Keras'
    `use_ema` it gives the initial weights no weight.

    Training itself is not affected. The model has the averaged weights inside
    `with averaging.applied():`, to evaluate or save it, and its own weights again afterwards.
    The average continues over further calls of `fit`, and across processes by `save` and `load`.
    When a validation with averaged weights is interrupted, the model gets its own weights back at
    the start of the next `fit`, `evaluate` or `applied`.

    Only trainable weights are averaged: the statistics of batch normalization stay those of the
    last step.

    Args:
        decay: $\beta$ in [0, 1), or `None` for the mean of all steps.
        validate: whether `fit` validates with the averaged weights. They are gone when an epoch
            ends: `EarlyStopping(restore_best_weights=True)` and
            `ModelCheckpoint(save_best_only=True)` find the epoch whose average was best and keep
            the model's own weights of that epoch.

    Raises:
        TypeError: when an argument has the wrong type.
        ValueError: when `decay` lies outside [0, 1), and in `fit` when the model is compiled with
            `steps_per_execution` above 1, which hides steps from callbacks, when its layers were
            frozen or unfrozen since the average began, or inside `applied`.

    Example:
        >>> import keras, numpy as np
        >>> from adam_tf import Adam, WeightAveraging
        >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
        >>> model.set_weights([np.ones((1, 1))])
        >>> model.compile(Adam(learning_rate=0.5), "mse")
        >>> averaging = WeightAveraging(decay=None)
        >>> x = np.ones((2, 1))
        >>> _ = model.fit(x, 100 * x, batch_size=1, verbose=0, callbacks=[averaging])
        >>> with averaging.applied():  # the mean of 1.5 and 2.0
        ...     print(model.get_weights()[0].round(2))
        [[1.75]]
        >>> print(model.get_weights()[0].round(2))
        [[2.]]

    References:
        Kingma and Ba, [Adam: A Method for Stochastic
        Optimization](https://arxiv.org/abs/1412.6980), ICLR 2015, Section 7.2.
    """

    def __init__(self, decay: float | None = 0.999, validate: bool = False) -> None:
        """See the class."""
        super().__init__()
        self.decay = None if decay is None else check_number("decay", decay, 0, 1, high_open=True)
        self.validate = check_choice("validate", validate, (True, False))
        self.steps = 0
        self._averaged: list[Variable] = []  # the model's variables, each with its average
        self._averages: list[Variable] = []
        self._raw: list[np.ndarray] | None = None
        self._validating = False  # whether it was `on_test_begin` that put the average in
        self._counters: list[int] = []

    def _build(self, variables: list[Variable]) -> None:
        self.steps = 0
        self._averaged = list(variables)
        self._averages = [
            keras.Variable(
                "zeros",
                shape=v.shape,
                dtype=moment_dtype(v),
                trainable=False,
                layout=layout_of(v),
            )
            for v in variables
        ]

    def _check_model(self) -> None:
        """Refuse to go on when the model's trainable variables are not those of the average."""
        if self.model is None:
            raise ValueError("WeightAveraging has no model yet: pass it to fit, or call set_model")
        now = self.model.trainable_variables
        if [id(v) for v in now] == [id(v) for v in self._averaged]:
            return
        known = {id(v) for v in self._averaged}
        current = {id(v) for v in now}
        changed = [v.path for v in now if id(v) not in known]
        changed += [v.path for v in self._averaged if id(v) not in current]
        raise ValueError(
            f"the average is of {len(self._averaged)} variables and the model trains {len(now)}, "
            f"which differ in {', '.join(changed[:3]) or 'their order'}: keep the same layers "
            "trainable, or start a new WeightAveraging"
        )

    def on_train_begin(self, logs: Any = None) -> None:
        """Check that every step will be seen.

        Raises:
            ValueError: when several steps are executed at once, the model has its averaged weights,
                or its trainable variables are not those of the average.
        """
        if self.model.steps_per_execution > 1:
            raise ValueError(
                "WeightAveraging must see every step: steps_per_execution must be 1, "
                f"got {self.model.steps_per_execution}"
            )
        self._recover()
        if self._raw is not None:
            raise ValueError(
                "the model has its averaged weights: leave `with averaging.applied()` before fit"
            )
        # TensorFlow builds a model without an input shape only at its first batch.
        if self.model.built and not self._averages:
            self._build(self.model.trainable_variables)
        if self._averages:
            self._check_model()
        self._counters = self._count()

    def _count(self) -> list[int]:
        """The steps of each optimizer; a `MultiOptimizer` itself counts batches."""
        optimizer = self.model.optimizer
        optimizer = getattr(optimizer, "inner_optimizer", optimizer)  # of a LossScaleOptimizer
        every = getattr(optimizer, "optimizers", [optimizer])
        return [int(number_of(one.iterations)) for one in every]

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Add the weights after one step to the average."""
        counters = self._count()
        if counters == self._counters:  # gradients were accumulated or skipped: no step
            return
        self._counters = counters
        if not self._averages:
            self._build(self.model.trainable_variables)
        self.steps += 1
        weight = average_weight(self.steps, self.decay)
        for variable, average in zip(self._averaged, self._averages, strict=True):
            change = ops.cast(variable, average.dtype) - average
            average.assign_add(weight * change)

    def on_test_begin(self, logs: Any = None) -> None:
        """Validate with the average, if asked to."""
        self._recover()
        if self.validate and self.steps and self._raw is None:
            self._validating = True
            self._swap_in()

    def on_test_end(self, logs: Any = None) -> None:
        """Go back to the model's own weights."""
        if self._validating:
            self._swap_out()

    def _recover(self) -> None:
        """Give the model its own weights back if a validation was interrupted."""
        if not self._validating:
            return
        raw = self._raw or []
        for i in range(len(raw)):
            variable, average = self._averaged[i], self._averages[i]
            if is_emptied(variable):
                continue
            now = ops.convert_to_numpy(ops.copy(variable.value))
            put = ops.convert_to_numpy(ops.cast(average.value, variable.dtype))
            if now.tobytes() != put.tobytes():  # it was set since, by load_weights say
                raw[i] = now
        self._swap_out()

    def _swap_in(self) -> None:
        self._check_model()
        self._raw = [ops.convert_to_numpy(ops.copy(v.value)) for v in self._averaged]
        for variable, average in zip(self._averaged, self._averages, strict=True):
            # JAX donates a weight's buffer when it trains or evaluates: give it a copy, not ours.
            variable.assign(ops.copy(ops.cast(average.value, variable.dtype)))

    def _swap_out(self) -> None:
        if self._raw is not None:
            for variable, value in zip(self._averaged, self._raw, strict=True):
                variable.assign(value)
        self._raw, self._validating = None, False

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Give the model its averaged weights for the length of a `with` block.

        Raises:
            ValueError: when there is no average yet, it is applied already, or the model's
                trainable variables are no longer those of the average.
        """
        self._recover()
        if not self.steps:
            raise ValueError("there is no average yet: no step was seen")
        if self._raw is not None:
            raise ValueError("the average is applied already")
        self._swap_in()
        try:
            yield
        finally:
            self._swap_out()

    def save(self, path: str | PathLike[str]) -> None:
        """Write the average, to be kept next to the model's own file.

        Args:
            path: of a NumPy archive; NumPy adds `.npz` where that is missing.
        """
        averages = {f"average_{i}": average.numpy() for i, average in enumerate(self._averages)}
        decay = math.nan if self.decay is None else self.decay
        np.savez(path, steps=self.steps, decay=decay, **averages)

    def load(self, path: str | PathLike[str], model: Any) -> None:
        """Resume the average that `save` wrote to the same path, for `model`.

        Args:
            path: what `save` was given.
            model: the model that goes on training, with the weights it had then.

        Raises:
            ValueError: when `save` did not write the file, or with another `decay` or for other
                shapes.
        """
        variables = list(model.trainable_variables)
        if os.path.isfile(f"{path}.npz") and not os.path.isfile(path):
            path = f"{path}.npz"  # NumPy adds the ending when it saves
        with np.load(path, allow_pickle=False) as file:
            count = len(file.files) - 2
            wanted = {"steps", "decay", *(f"average_{i}" for i in range(count))}
            if set(file.files) != wanted:
                raise ValueError(
                    f"{path} must be a file of WeightAveraging.save, got one with "
                    f"{', '.join(file.files[:3]) or 'nothing'}: give the path that save was given"
                )
            number = float(file["decay"])
            decay = None if math.isnan(number) else number
            if decay != self.decay:
                raise ValueError(f"decay must be that of {path}, {decay}, got {self.decay}")
            averages = [file[f"average_{i}"] for i in range(count)]
            steps = int(file["steps"])
        given, shapes = [a.shape for a in averages], [tuple(v.shape) for v in variables]
        if given != shapes:
            raise ValueError(f"{path} must hold averages of shapes {shapes}, got {given}")
        self.set_model(model)
        self._build(variables)
        self.steps = steps
        for average, value in zip(self._averages, averages, strict=True):
            average.assign(value)
