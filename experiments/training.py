"""Train one run and return its record.

A run is a pure function of its configuration: initial weights, batch order and every other random
number come from (seed, stream, epoch), never from what ran before. An epoch is one compiled call:
the examples stay in memory, a loop inside the graph gathers each batch by its indices. That is ten
times faster than `Model.fit` on arrays for a model as small as a logistic regression
(`benchmarks/training_step.py`), and lets the resumed run repeat the interrupted one bit by bit.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import numpy as np

from experiments import optimizers, problems, runtime
from experiments.store import Store
from experiments.study import Run

METRICS = ("training_cost", "objective", "held_out_cost", "held_out_accuracy", "seconds")
STREAMS = {"order": 0, "weights": 1, "noise": 2}
CHECKPOINT_SECONDS = 10.0
EVALUATION_BATCH = 2000


def stream(seed: int, name: str, epoch: int = 0) -> np.random.Generator:
    """The random numbers of one purpose in one epoch of one seed."""
    return np.random.default_rng([seed, STREAMS[name], epoch])


def batch_order(seed: int, epoch: int, examples: int, batch_size: int) -> np.ndarray:
    """Indices of an epoch's batches, shape (steps, batch_size): a fresh shuffle without the rest.

    The examples that do not fill a last batch are left out of this epoch, others in the next.
    """
    steps = examples // batch_size
    order = stream(seed, "order", epoch).permutation(examples)[: steps * batch_size]
    return order.reshape(steps, batch_size).astype(np.int32)


def train(run: Run, store: Store, on_epoch: Callable[[int], None] | None = None) -> dict[str, Any]:
    """Train `run` to its end, from its last checkpoint if there is one, and return its record.

    Args:
        run: what to train.
        store: holds the checkpoints; the caller stores the record.
        on_epoch: called with the number of epochs done, after each.
    """
    runtime.configure()
    import keras

    keras.backend.clear_session(free_memory=False)  # its garbage collection takes half a short run
    keras.utils.set_random_seed(int(stream(run.seed, "weights").integers(2**31)))
    started, clock = datetime.now(UTC), time.perf_counter()
    problem = problems.build(run.problem, run.data, run.options, run.seed)
    steps = len(problem.train[0]) // run.batch_size
    if steps == 0:
        raise ValueError(f"batch_size={run.batch_size} exceeds {len(problem.train[0])} examples")
    optimizer = optimizers.build(run.optimizer, run.settings, steps)
    optimizer.build(problem.model.trainable_variables)
    train_epoch, evaluate = compile_epoch(problem, optimizer)

    state = [*problem.model.variables, *optimizer.variables]
    metrics: dict[str, list[float]] = {name: [] for name in METRICS}
    resumed = store.load_checkpoint(run.id, [tuple(variable.shape) for variable in state])
    if resumed is not None:
        arrays, metrics = resumed
        for variable, array in zip(state, arrays, strict=True):
            variable.assign(array)
    saved = time.perf_counter()
    diverged_at = None
    for epoch in range(len(metrics["training_cost"]), run.epochs):
        lap = time.perf_counter()
        order = batch_order(run.seed, epoch, len(problem.train[0]), run.batch_size)
        cost, objective = (float(value) for value in train_epoch(order))
        seconds = time.perf_counter() - lap
        held_out_cost, held_out_accuracy = (float(value) for value in evaluate())
        row = (cost, objective, held_out_cost, held_out_accuracy, seconds)
        if not all(map(math.isfinite, row)):
            diverged_at = epoch
            break
        for name, value in zip(METRICS, row, strict=True):
            metrics[name].append(value)
        if on_epoch:
            on_epoch(epoch + 1)
        if time.perf_counter() - saved > CHECKPOINT_SECONDS and epoch + 1 < run.epochs:
            store.save_checkpoint(run.id, [np.asarray(variable) for variable in state], metrics)
            saved = time.perf_counter()
    return {
        "config": run.config(),
        "status": "finished" if diverged_at is None else "diverged",
        "diverged_at": diverged_at,
        "metrics": metrics,
        "manifest": {
            **runtime.manifest(),
            "started": started.isoformat(timespec="seconds"),
            "wall_seconds": round(time.perf_counter() - clock, 3),
            "peak_memory_mb": round(runtime.peak_memory_mb()),
            "steps_per_epoch": steps,
            "resumed": resumed is not None,
        },
    }


def compile_epoch(problem: problems.Problem, optimizer: Any) -> tuple[Callable, Callable]:
    """The compiled epoch and the compiled evaluation on held-out examples."""
    import tensorflow as tf

    model, variables = problem.model, problem.model.trainable_variables
    # The examples are arguments: a graph would keep what it captures for as long as TensorFlow
    # keeps the graph, which is longer than the run.
    train = [tf.constant(array) for array in problem.train]
    held_out = [tf.constant(array) for array in problem.held_out]

    # A loop in TensorFlow's own words: AutoGraph does not know every Python version.
    @tf.function(autograph=False)
    def train_epoch(order: Any, train: Any) -> Any:
        """Mean training cost over the pass, and mean objective: the cost plus the penalty."""

        def step(i: Any, total_cost: Any, total_objective: Any) -> Any:
            batch = [tf.gather(array, order[i]) for array in train]
            with tf.GradientTape() as tape:
                costs, _ = problem.evaluate(model, *batch, training=True)
                cost = tf.reduce_mean(costs)
                objective = cost + problem.penalty(model)
            optimizer.apply(tape.gradient(objective, variables), variables)
            cost, objective = (tf.cast(value, tf.float64) for value in (cost, objective))
            return i + 1, total_cost + cost, total_objective + objective

        steps, zero = tf.shape(order)[0], tf.zeros((), tf.float64)
        _, total_cost, total_objective = tf.while_loop(
            lambda i, *_: i < steps, step, (0, zero, zero), parallel_iterations=1
        )
        return total_cost / tf.cast(steps, tf.float64), total_objective / tf.cast(steps, tf.float64)

    @tf.function(autograph=False)
    def evaluate(held_out: Any) -> Any:
        """Mean cost and accuracy on the held-out examples, at the current parameters."""
        total_cost = total_correct = tf.zeros((), tf.float64)
        for start in range(0, len(problem.held_out[0]), EVALUATION_BATCH):
            batch = [array[start : start + EVALUATION_BATCH] for array in held_out]
            cost, correct = problem.evaluate(model, *batch, training=False)
            total_cost += tf.reduce_sum(tf.cast(cost, tf.float64))
            total_correct += tf.reduce_sum(tf.cast(correct, tf.float64))
        examples = len(problem.held_out[0])
        return total_cost / examples, total_correct / examples

    return lambda order: train_epoch(tf.constant(order), train), lambda: evaluate(held_out)
