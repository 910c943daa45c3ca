"""Milliseconds per training step of Figure 1's logistic regression: this project's loop and `fit`.

    python benchmarks/training_step.py [--rounds 5]

The contestants take turns inside one process, so that they share whatever else the machine does:

- fit, arrays: `Model.fit` on NumPy arrays, as most people write it;
- fit, tf.data: `Model.fit` on a pipeline that gathers batches from memory, 50 steps per execution;
- compiled epoch: what `experiments.training` does, one compiled loop over the pass.

All train the same model with the same optimizer (`adam_tf.Adam`) and batch size 128. The median and
the range over the rounds are printed, and the ratio to the first.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np

from experiments import optimizers, problems, runtime, training
from experiments.problems import files

BATCH, EXAMPLES = 128, 20_480


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    runtime.configure()
    import keras

    keras.utils.set_random_seed(0)
    data = files.choose("mnist", "auto", download=False).kind
    if not files.is_stand_in(data) and not files.available(data):
        data = files.stand_in(data)
    contestants = {
        "fit, arrays": fit_arrays(data),
        "fit, tf.data": fit_pipeline(data),
        "compiled epoch": compiled_epoch(data),
    }
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for run in contestants.values():  # compile
        run()
    for _ in range(rounds):
        for name, run in contestants.items():
            start = time.perf_counter()
            run()
            times[name].append((time.perf_counter() - start) / (EXAMPLES // BATCH) * 1e3)
    base = statistics.median(times["fit, arrays"])
    print(f"{data}, {runtime.processor()}, one thread, {rounds} rounds")
    print(f"{'':16}{'ms per step':>12}{'range':>16}{'ratio':>8}")
    for name, values in times.items():
        middle = statistics.median(values)
        spread = f"{min(values):.2f}-{max(values):.2f}"
        print(f"{name:16}{middle:12.2f}{spread:>16}{middle / base:8.2f}")


def _problem(data: str) -> tuple[problems.Problem, object]:
    options = {"l2": 1e-4, "train_examples": EXAMPLES}
    problem = problems.build("mnist_logistic_regression", data, options, seed=0)
    settings = {"learning_rate": 0.001, "decay": "sqrt_epoch"}
    return problem, optimizers.build("adam", settings, EXAMPLES // BATCH)


def _compiled_model(data: str, steps_per_execution: int) -> tuple[object, problems.Problem]:
    import keras

    problem, optimizer = _problem(data)
    problem.model.layers[-1].kernel.regularizer = keras.regularizers.L2(5e-5)
    problem.model.compile(
        optimizer=optimizer,
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        steps_per_execution=steps_per_execution,
        jit_compile=False,
    )
    return problem.model, problem


def fit_arrays(data: str) -> Callable[[], None]:
    """`fit` on arrays."""
    model, problem = _compiled_model(data, 1)
    x, y = problem.train
    return lambda: model.fit(x, y, batch_size=BATCH, verbose=0)


def fit_pipeline(data: str) -> Callable[[], None]:
    """`fit` on a `tf.data` pipeline."""
    import tensorflow as tf

    model, problem = _compiled_model(data, 50)
    x, y = (tf.constant(array) for array in problem.train)
    indices = tf.data.Dataset.range(EXAMPLES).shuffle(EXAMPLES, seed=0)
    batches = indices.batch(BATCH, drop_remainder=True)
    pipeline = batches.map(lambda i: (tf.gather(x, i), tf.gather(y, i))).prefetch(2)
    return lambda: model.fit(pipeline, shuffle=False, verbose=0)


def compiled_epoch(data: str) -> Callable[[], None]:
    """One compiled loop over the pass."""
    problem, optimizer = _problem(data)
    optimizer.build(problem.model.trainable_variables)
    train_epoch, _ = training.compile_epoch(problem, optimizer)
    order = training.batch_order(0, 0, EXAMPLES, BATCH)
    return lambda: np.asarray(train_epoch(order)[0])


if __name__ == "__main__":
    main()
