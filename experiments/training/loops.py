"""An epoch as one compiled call, on each backend.

The examples stay in memory; a loop inside the compiled function gathers each batch by its indices.
That is ten times faster than `Model.fit` on arrays for a model as small as a logistic regression
(`benchmarks/training_step.py`).
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import threadpoolctl

from experiments.problems.problem import Problem
from experiments.randomness import stream
from experiments.training import runtime

if TYPE_CHECKING:
    from experiments.methods.sfo import SFO
    from experiments.training.averages import Averages

EVALUATION_BATCH = 500
SAMPLE = 5_000


class Loops(NamedTuple):
    """A problem's compiled functions; the model and the optimizer hold the state they change.

    Attributes:
        train_epoch: `(order)` of shape (steps, batch_size) to the mean training cost over the pass
            and the mean objective, the cost plus the penalty.
        evaluate: `()` to the mean cost and accuracy (None where nothing is classified) on the
            held-out examples, without dropout; `("training_sample")` and `("held_out_sample")` to
            those on `SAMPLE` examples drawn at random, the same ones for every run; and so for the
            problem's groups.
        differentiate: `(indices)` to the mean cost, the objective and the objective's gradients on
            these training examples, as `train_epoch` would compute them, except that batch norms
            are left unchanged.
        facts: what else there is to record after a pass.
    """

    train_epoch: Callable[[np.ndarray], tuple[float, float]]
    evaluate: Callable[..., tuple[float, float | None]]
    differentiate: Callable[[np.ndarray], tuple[float, float, list[np.ndarray]]]
    facts: Callable[[], dict[str, float]] = dict


def compile_loops(problem: Problem, optimizer: Any, averages: Averages | None = None) -> Loops:
    """The compiled functions on Keras's backend.

    Args:
        problem: the model and its examples.
        optimizer: a built Keras optimizer.
        averages: advanced after each step, where they are wanted.

    Raises:
        ValueError: the backend has no loop here.
    """
    loop = _jax if runtime.backend() == "jax" else _tensorflow
    return loop(problem, optimizer, averages)


def statistics(model: Any) -> list[Any]:
    """The variables that training moves without an optimizer: those of batch norms."""
    return [
        variable
        for variable in model.non_trainable_variables
        if not variable.path.endswith("seed_generator_state")
    ]


def _kept(model: Any, differentiate: Callable[..., Any]) -> Callable[..., Any]:
    """`differentiate` with the batch norms' statistics left as they were."""
    moved = statistics(model)
    if not moved:
        return differentiate

    def undone(indices: np.ndarray) -> Any:
        before = [np.asarray(variable).copy() for variable in moved]
        found = differentiate(indices)
        for variable, value in zip(moved, before, strict=True):
            variable.assign(value)
        return found

    return undone


def _convolves(model: Any) -> bool:
    """Whether the model, or one within it, has convolutions."""
    import keras

    return any(
        isinstance(layer, keras.layers.Conv2D)
        or (isinstance(layer, keras.Model) and _convolves(layer))
        for layer in model.layers
    )


def _tensorflow(problem: Problem, optimizer: Any, averages: Averages | None) -> Loops:
    import tensorflow as tf

    model, variables = problem.model, problem.model.trainable_variables
    # The examples are arguments: a graph would keep what it captures for as long as TensorFlow
    # keeps the graph, which is longer than the run.
    # An operation takes an array as it is, whereas `constant` first copies it: gigabytes of images
    # that the processes share.
    train, held_out = (
        [tf.raw_ops.Identity(input=array) for array in arrays]
        for arrays in (problem.train, problem.held_out)
    )
    examples = _evaluated(train, held_out, problem.groups)

    def differentiate(batch: Any) -> tuple[Any, Any, list[Any]]:
        with tf.GradientTape() as tape:
            costs, _ = problem.evaluate(model, *batch, training=True)
            cost = tf.reduce_mean(costs)
            objective = cost + problem.penalty()
        # Every method sees the same dense gradient, even where only some rows were looked up.
        gradients = [tf.convert_to_tensor(g) for g in tape.gradient(objective, variables)]
        return cost, objective, gradients

    # A loop in TensorFlow's own operations: AutoGraph does not support every Python version.
    @tf.function(autograph=False)
    def train_epoch(order: Any, train: Any) -> Any:
        def step(i: Any, total_cost: Any, total_objective: Any) -> Any:
            batch = [tf.gather(array, order[i]) for array in train]
            cost, objective, gradients = differentiate(batch)
            optimizer.apply(gradients, variables)
            if averages is not None:
                moved = averages.advance(averages.variables, variables, optimizer.iterations)
                for average, value in zip(averages.variables, moved, strict=True):
                    average.assign(value)
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
    def derivatives(indices: Any, train: Any) -> Any:
        return differentiate([tf.gather(array, indices) for array in train])

    def run_epoch(order: np.ndarray) -> tuple[float, float]:
        cost, objective = train_epoch(tf.constant(order), train)
        return float(cost), float(objective)

    def run_derivatives(indices: np.ndarray) -> tuple[float, float, list[np.ndarray]]:
        cost, objective, gradients = derivatives(tf.constant(indices), train)
        return float(cost), float(objective), [np.asarray(g) for g in gradients]

    return Loops(
        run_epoch,
        lambda which="held_out": _over_batches(evaluate, examples(which)),
        _kept(model, run_derivatives),
    )


def _jax(problem: Problem, optimizer: Any, averages: Averages | None) -> Loops:
    """The same, with the state passed in and out instead of assigned."""
    import jax
    import keras

    model = problem.model
    trained, others = model.trainable_variables, model.non_trainable_variables
    # Arguments here too: a compiled function copies the constants that it captures.
    train = [jax.numpy.asarray(array) for array in problem.train]
    held_out = [jax.numpy.asarray(array) for array in problem.held_out]
    examples = _evaluated(train, held_out, problem.groups)

    def values(variables: Any) -> list[Any]:
        return [variable.value for variable in variables]

    def assign(variables: Any, values: Any) -> None:
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)

    def scope(parameters: Any, rest: Any) -> keras.StatelessScope:
        pairs = (*zip(trained, parameters, strict=True), *zip(others, rest, strict=True))
        return keras.StatelessScope(state_mapping=pairs)

    def costs_of(parameters: Any, rest: Any, batch: Any) -> Any:
        with scope(parameters, rest) as inside:
            costs, _ = problem.evaluate(model, *batch, training=True)
            cost = jax.numpy.mean(costs)
            objective = cost + problem.penalty()
        return objective, (cost, [inside.get_current_value(v) for v in others])

    def differentiate(parameters: Any, rest: Any, indices: Any, train: Any) -> Any:
        batch = [array.at[indices].get(mode="promise_in_bounds") for array in train]
        return jax.value_and_grad(costs_of, has_aux=True)(parameters, rest, batch)

    def step(state: Any, indices: Any, train: Any) -> Any:
        parameters, rest, moments, mean = state
        (goal, (cost, rest)), gradients = differentiate(parameters, rest, indices, train)
        parameters, moments = optimizer.stateless_apply(moments, gradients, parameters)
        if averages is not None:
            states = zip(optimizer.variables, moments, strict=True)
            (count,) = (value for variable, value in states if variable is optimizer.iterations)
            mean = averages.advance(mean, parameters, count)
        return (parameters, rest, moments, mean), (cost, goal)

    def steps(state: Any, order: Any, train: Any) -> Any:
        return jax.lax.scan(lambda state, indices: step(state, indices, train), state, order)

    # In a compiled loop on CPUs, XLA takes ten times as long for the gradients of convolutions.
    one_by_one = _convolves(model) and jax.default_backend() == "cpu"
    # The new state takes the old one's memory.
    advance = jax.jit(step if one_by_one else steps, donate_argnums=0)

    @jax.jit
    def evaluate(parameters: Any, rest: Any, *batch: Any) -> Any:
        with scope(parameters, rest) as inside:
            found = problem.evaluate(model, *batch, training=False)
            return found, [inside.get_current_value(v) for v in others]

    @jax.jit
    def derivatives(parameters: Any, rest: Any, indices: Any, train: Any) -> Any:
        (goal, (cost, rest)), found = differentiate(parameters, rest, indices, train)
        return cost, goal, found, rest

    # JAX has no float64 by default, so NumPy adds up long sums.
    def total(found: Any) -> float:
        return float(np.asarray(found).sum(dtype=np.float64))

    def run_epoch(order: np.ndarray) -> tuple[float, float]:
        groups = (trained, others, optimizer.variables, averages.variables if averages else [])
        state, found = tuple(map(values, groups)), []
        for indices in order if one_by_one else [order]:
            state, sums = advance(state, indices, train)
            found.append(sums)
        for group, new in zip(groups, state, strict=True):
            assign(group, new)
        costs, goals = (np.hstack(each) for each in zip(*found, strict=True))
        return total(costs) / len(order), total(goals) / len(order)

    def run_evaluation(*batch: Any) -> Any:
        found, rest = evaluate(values(trained), values(others), *batch)
        assign(others, rest)
        return tuple(None if each is None else total(each) for each in found)

    def run_derivatives(indices: np.ndarray) -> tuple[float, float, list[np.ndarray]]:
        cost, goal, found, rest = derivatives(values(trained), values(others), indices, train)
        assign(others, rest)
        return float(cost), float(goal), [np.asarray(g) for g in found]

    return Loops(
        run_epoch,
        lambda which="held_out": _over_batches(run_evaluation, examples(which)),
        _kept(model, run_derivatives),
    )


def sum_of_functions(
    problem: Problem, method: Callable[..., SFO], minibatches: np.ndarray, seed: int
) -> tuple[Loops, SFO]:
    """A pass of the Sum-of-Functions Optimizer, whose subfunctions are fixed minibatches.

    A pass makes as many iterations as there are minibatches; its cost is the mean over them, at the
    parameters that each iteration starts from. In addition to a pass's time, it records the time of
    its gradients (`gradient_seconds`) and the memory of the optimizer's state (`optimizer_mb`).

    Args:
        problem: the model and its examples; the gradients are float32, the optimizer float64.
        method: the optimizer without its function, its starting point and its seed.
        minibatches: indices of training examples, a row for each subfunction.
        seed: of the optimizer's choices.

    Returns:
        The functions, and the optimizer, which holds the state.
    """
    loops = compile_loops(problem, None)
    variables = problem.model.trainable_variables
    ends = np.cumsum([math.prod(v.shape) for v in variables])
    costs: dict[float, float] = {}  # of every evaluation, by its objective
    spent = [0.0]

    def assign(theta: np.ndarray) -> None:
        for variable, part in zip(variables, np.split(theta, ends[:-1]), strict=True):
            variable.assign(part.reshape(variable.shape).astype(np.float32))

    def f_df(theta: np.ndarray, minibatch: int) -> tuple[float, np.ndarray]:
        clock = time.perf_counter()
        assign(theta)
        cost, objective, gradients = loops.differentiate(minibatches[minibatch])
        costs[objective] = cost
        gradient = np.concatenate([np.ravel(g) for g in gradients]).astype(np.float64)
        spent[0] += time.perf_counter() - clock
        return objective, gradient

    theta = np.concatenate([np.ravel(np.asarray(v)) for v in variables]).astype(np.float64)
    sfo = method(f_df, theta, seed=seed)

    def run_epoch(order: np.ndarray) -> tuple[float, float]:
        spent[0] = 0.0
        seen = []
        # One thread, as in the backend: more would compete with those of other runs.
        with threadpoolctl.threadpool_limits(1):
            for _ in minibatches:
                try:
                    objective = sfo.step()
                except FloatingPointError:  # it diverged at its start, which is a result
                    return math.inf, math.inf
                # After a failed step it may be the value of an earlier one. Without a penalty it is
                # the cost itself, which a resumed run no longer remembers.
                seen.append((costs.get(objective, objective), objective))
        assign(sfo.theta)
        cost, objective = np.mean(seen, axis=0)
        return float(cost), float(objective)

    def facts() -> dict[str, float]:
        return {"gradient_seconds": spent[0], "optimizer_mb": sfo.nbytes / 2**20}

    return loops._replace(train_epoch=run_epoch, facts=facts), sfo


def _evaluated(
    train: list[Any], held_out: list[Any], groups: Mapping[str, np.ndarray]
) -> Callable[[str], list[Any]]:
    """The examples that `Loops.evaluate` knows, by name; samples are drawn on first use."""
    import keras

    @functools.cache
    def examples(name: str) -> list[Any]:
        if name == "held_out":
            return held_out
        if name in groups:
            return [keras.ops.take(array, groups[name], axis=0) for array in train]
        arrays = {"training_sample": train, "held_out_sample": held_out}[name]
        # Not every twelfth: the training images of MNIST alternate between easy and hard, and the
        # reviews of IMDB are sorted.
        chosen = np.sort(stream(0, "sample").permutation(len(arrays[0]))[:SAMPLE])
        return [keras.ops.take(array, chosen, axis=0) for array in arrays]

    return examples


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
