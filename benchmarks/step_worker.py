"""A contestant of `training_step.py`, in a process of its own.

    python benchmarks/step_worker.py CONTESTANT MODEL DATA THREADS

It answers a line of JSON when it is ready, and then one for each line "UPDATE STEPS": the seconds
that these steps took and their mean cost.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from training_step import MODELS, UPDATES, Model

RATE = 1e-3
Train = Callable[[np.ndarray], float]  # from the batches' indices, (steps, batch), to the mean cost


def examples(model: Model, data: str) -> tuple[np.ndarray, ...]:
    """The training examples of a problem as `experiments.problems` gives them, without Keras."""
    from experiments.data import cifar10, imdb, mnist, shakespeare

    n = model.options["train_examples"]
    if model.data_set == "mnist":
        arrays = mnist.load(data)
        images, labels = arrays.x_train[:n].reshape(n, -1), arrays.y_train[:n].astype(np.int32)
        return (images,) if model.problem == "mnist_variational" else (images, labels)
    if model.data_set == "tinyshakespeare":
        return (shakespeare.windows(shakespeare.load(data).train, 65),)
    if model.problem == "cifar10_resnet":
        arrays = cifar10.load(data)
        return arrays.x_train[:n], arrays.y_train[:n].astype(np.int32)
    if model.data_set == "cifar10":
        x, _ = cifar10.whitened(data, model.options["whitening"], model.options["floor"])
        return x[:n], cifar10.load(data).y_train[:n].astype(np.int32)
    reviews = imdb.load(data)
    kept = np.linspace(0, len(reviews.x_train) - 1, n).astype(int)
    labels = reviews.y_train[kept].astype(np.int32)
    return reviews.x_train[kept], reviews.counts_train[kept], labels


class Plain:
    """The least update there is, w -= rate * g, with what the loops use of Keras' optimizers."""

    variables: tuple[()] = ()

    def apply(self, gradients: list[Any], variables: list[Any]) -> None:
        """Under TensorFlow: one kernel for each variable."""
        import tensorflow as tf

        for gradient, variable in zip(gradients, variables, strict=True):
            handle = variable.value.handle
            tf.raw_ops.ResourceApplyGradientDescent(var=handle, alpha=RATE, delta=gradient)

    def stateless_apply(self, state: Any, gradients: Any, parameters: Any) -> tuple[Any, Any]:
        """Under JAX."""
        return [p - RATE * g for p, g in zip(parameters, gradients, strict=True)], state


def loop(model: Model, data: str, threads: int, update: str) -> Train:
    """What the studies run, on Keras' backend."""
    from experiments.methods import optimizers
    from experiments.problems import registry as problems
    from experiments.training import loops, runtime

    runtime.configure(threads)
    import keras

    keras.utils.set_random_seed(0)
    problem = problems.build(model.problem, data, model.options, seed=0)
    optimizer: Any = Plain()
    if update == "adam":
        optimizer = optimizers.build("adam", {"learning_rate": RATE}, 1)
        optimizer.build(problem.model.trainable_variables)
    train_epoch = loops.compile_loops(problem, optimizer).train_epoch
    return lambda order: train_epoch(order)[0]


def fit(model: Model, data: str, threads: int, update: str) -> Train:
    """Keras' own loop, on arrays."""
    from experiments.methods import optimizers
    from experiments.problems import registry as problems
    from experiments.training import runtime

    runtime.configure(threads)
    import keras

    keras.utils.set_random_seed(0)
    problem = problems.build(model.problem, data, model.options, seed=0)
    optimizer: Any = keras.optimizers.SGD(RATE)
    if update == "adam":
        optimizer = optimizers.build("adam", {"learning_rate": RATE}, 1)
    for layer in problem.model.layers:
        if model.options.get("l2") and hasattr(layer, "kernel"):
            layer.kernel.regularizer = keras.regularizers.L2(model.options["l2"] / 2)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    problem.model.compile(optimizer, loss, jit_compile=False)

    def train(order: np.ndarray) -> float:
        x, y = (array[: order.size] for array in problem.train)  # it shuffles by itself
        history = problem.model.fit(x, y, batch_size=order.shape[1], verbose=0)
        return history.history["loss"][0]

    return train


def products(threads: int) -> Train:
    """Multiply matrices for a tenth of a second; gives the processor time of one operation."""
    from experiments.training import runtime

    runtime.configure(threads)
    import tensorflow as tf

    n = 1024
    a = tf.ones((n, n))

    def multiply(order: np.ndarray) -> float:
        start, times = time.process_time(), 0
        while time.process_time() - start < 0.1:
            tf.matmul(a, a).numpy()
            times += 1
        return (time.process_time() - start) / (2 * n**3 * times)

    return multiply


def contestant(name: str, model: Model, data: str, threads: int) -> dict[str, Train]:
    """The contestant's training by update."""
    if name in ("TensorFlow loop", "JAX loop"):
        return {update: loop(model, data, threads, update) for update in UPDATES}
    if name == "Keras fit":
        return {update: fit(model, data, threads, update) for update in UPDATES}
    if name == "products":
        return dict.fromkeys(UPDATES, products(threads))
    if name == "PyTorch":
        import step_torch as library
    else:
        import step_optax as library  # type: ignore[no-redef]
    arrays = examples(model, data)
    return {update: library.prepare(model, arrays, threads, update, RATE) for update in UPDATES}


def main() -> None:
    """Answer until the questions end."""
    name, key, data, threads = sys.argv[1:]
    model = MODELS[key]
    arrays = examples(model, data)
    available, words = len(arrays[0]), 0.0
    if model.data_set == "imdb":
        words = float(np.count_nonzero(arrays[1]) / available)
    del arrays
    train = contestant(name, model, data, int(threads))
    print(json.dumps(words), flush=True)
    draws = np.random.default_rng(0)
    for line in sys.stdin:
        update, steps = line.split()
        size = (int(steps), model.batch_size)
        order = np.resize(draws.permutation(available), size).astype(np.int32)
        start, busy = time.perf_counter(), time.process_time()
        cost = train[update](order)
        seconds, busy = time.perf_counter() - start, time.process_time() - busy
        if name == "products":
            busy = cost * int(steps)
        print(json.dumps({"seconds": seconds, "busy": busy, "cost": cost}), flush=True)


if __name__ == "__main__":
    main()
