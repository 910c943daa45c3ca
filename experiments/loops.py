"""An epoch as one compiled call, on each backend.

The examples stay in memory; a loop inside the compiled function gathers each batch by its indices.
That is ten times faster than `Model.fit` on arrays for a model as small as a logistic regression
(`benchmarks/training_step.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from experiments.problems import Problem

EVALUATION_BATCH = 500


class Loops(NamedTuple):
    """A problem's compiled functions; the model and the optimizer hold the state they change.

    Attributes:
        train_epoch: `(order)` of shape (steps, batch_size) to the mean training cost over the pass
            and the mean objective, the cost plus the penalty.
        evaluate: `()` to the mean cost and accuracy (None where nothing is classified) on the
            held-out examples, without dropout.
        gradients: `(indices)` to the gradients of the objective on these training examples, as
            `train_epoch` would take them.
    """

    train_epoch: Callable[[np.ndarray], tuple[float, float]]
    evaluate: Callable[[], tuple[float, float | None]]
    gradients: Callable[[np.ndarray], list[np.ndarray]]


def compile_loops(problem: Problem, optimizer: Any) -> Loops:
    """The compiled functions on Keras's backend.

    Raises:
        ValueError: the backend has no loop here.
    """
    import keras

    backend = keras.backend.backend()
    if backend == "tensorflow":
        return _tensorflow(problem, optimizer)
    if backend == "jax":
        return _jax(problem, optimizer)
    raise ValueError(f"KERAS_BACKEND={backend} can't train here: use tensorflow or jax")


def _tensorflow(problem: Problem, optimizer: Any) -> Loops:
    import tensorflow as tf

    model, variables = problem.model, problem.model.trainable_variables
    # The examples are arguments: a graph would keep what it captures for as long as TensorFlow
    # keeps the graph, which is longer than the run.
    train = [tf.constant(array) for array in problem.train]
    held_out = [tf.constant(array) for array in problem.held_out]

    def differentiate(batch: Any) -> tuple[Any, Any, list[Any]]:
        with tf.GradientTape() as tape:
            costs, _ = problem.evaluate(model, *batch, training=True)
            cost = tf.reduce_mean(costs)
            objective = cost + problem.penalty(model)
        # Every method sees the same dense gradient, also where only some rows were looked up.
        gradients = [tf.convert_to_tensor(g) for g in tape.gradient(objective, variables)]
        return cost, objective, gradients

    # A loop in TensorFlow's own words: AutoGraph does not know every Python version.
    @tf.function(autograph=False)
    def train_epoch(order: Any, train: Any) -> Any:
        def step(i: Any, total_cost: Any, total_objective: Any) -> Any:
            batch = [tf.gather(array, order[i]) for array in train]
            cost, objective, gradients = differentiate(batch)
            optimizer.apply(gradients, variables)
            cost, objective = (tf.cast(value, tf.float64) for value in (cost, objective))
            return i + 1, total_cost + cost, total_objective + objective

        steps, zero = tf.shape(order)[0], tf.zeros((), tf.float64)
        _, total_cost, total_objective = tf.while_loop(
            lambda i, *_: i < steps, step, (0, zero, zero), parallel_iterations=1
        )
        return total_cost / tf.cast(steps, tf.float64), total_objective / tf.cast(steps, tf.float64)

    @tf.function(autograph=False)
    def evaluate(*batch: Any) -> Any:
        sums = (
            None if value is None else tf.reduce_sum(tf.cast(value, tf.float64))
            for value in problem.evaluate(model, *batch, training=False)
        )
        return tuple(sums)

    @tf.function(autograph=False)
    def gradients(indices: Any, train: Any) -> Any:
        return differentiate([tf.gather(array, indices) for array in train])[2]

    def run_epoch(order: np.ndarray) -> tuple[float, float]:
        cost, objective = train_epoch(tf.constant(order), train)
        return float(cost), float(objective)

    return Loops(
        run_epoch,
        lambda: _over_batches(evaluate, held_out),
        lambda indices: [np.asarray(g) for g in gradients(tf.constant(indices), train)],
    )


def _jax(problem: Problem, optimizer: Any) -> Loops:
    """The same, with the state passed in and out instead of assigned."""
    import jax
    import keras

    model = problem.model
    trained, others = model.trainable_variables, model.non_trainable_variables
    train = [jax.numpy.asarray(array) for array in problem.train]
    held_out = [jax.numpy.asarray(array) for array in problem.held_out]

    def scope(parameters: Any, rest: Any) -> keras.StatelessScope:
        values = (*zip(trained, parameters, strict=True), *zip(others, rest, strict=True))
        return keras.StatelessScope(state_mapping=values)

    def objective(parameters: Any, rest: Any, batch: Any) -> Any:
        with scope(parameters, rest) as inside:
            costs, _ = problem.evaluate(model, *batch, training=True)
            cost = jax.numpy.mean(costs)
            total = cost + problem.penalty(model)
        return total, (cost, [inside.get_current_value(v) for v in others])

    differentiate = jax.value_and_grad(objective, has_aux=True)

    @jax.jit
    def train_epoch(state: Any, order: Any, train: Any) -> Any:
        def step(state: Any, indices: Any) -> Any:
            parameters, rest, moments = state
            batch = [array[indices] for array in train]
            (total, (cost, rest)), gradients = differentiate(parameters, rest, batch)
            parameters, moments = optimizer.stateless_apply(moments, gradients, parameters)
            return (parameters, rest, moments), (cost, total)

        return jax.lax.scan(step, state, order)

    @jax.jit
    def evaluate(parameters: Any, rest: Any, *batch: Any) -> Any:
        with scope(parameters, rest) as inside:
            values = problem.evaluate(model, *batch, training=False)
            rest = [inside.get_current_value(v) for v in others]
        return tuple(None if value is None else value.sum() for value in values), rest

    @jax.jit
    def gradients(parameters: Any, rest: Any, indices: Any, train: Any) -> Any:
        batch = [array[indices] for array in train]
        return differentiate(parameters, rest, batch)[1]

    def state() -> tuple[list[Any], ...]:
        return tuple([v.value for v in group] for group in (trained, others, optimizer.variables))

    def run_epoch(order: np.ndarray) -> tuple[float, float]:
        new, (costs, totals) = train_epoch(state(), order, train)
        for group, values in zip((trained, others, optimizer.variables), new, strict=True):
            for variable, value in zip(group, values, strict=True):
                variable.assign(value)
        return tuple(float(np.mean(np.asarray(each, np.float64))) for each in (costs, totals))

    def run_evaluation(*batch: Any) -> Any:
        parameters, rest, _ = state()
        sums, rest = evaluate(parameters, rest, *batch)
        for variable, value in zip(others, rest, strict=True):
            variable.assign(value)
        return sums

    return Loops(
        run_epoch,
        lambda: _over_batches(run_evaluation, held_out),
        lambda indices: [np.asarray(g) for g in gradients(*state()[:2], indices, train)],
    )


def _over_batches(evaluate: Callable[..., Any], arrays: list[Any]) -> tuple[float, float | None]:
    """Means over all examples from the sums over batches."""
    examples = len(arrays[0])
    sums = [
        evaluate(*(array[start : start + EVALUATION_BATCH] for array in arrays))
        for start in range(0, examples, EVALUATION_BATCH)
    ]
    costs, correct = zip(*sums, strict=True)
    accuracy = None if correct[0] is None else sum(map(float, correct)) / examples
    return sum(map(float, costs)) / examples, accuracy
