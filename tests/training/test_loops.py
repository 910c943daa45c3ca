"""The compiled loops: what a step is, its noise, and that both backends train the same."""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import special, stats

from experiments.data import cifar10, imdb, mnist
from experiments.data.arrays import Arrays
from experiments.methods import optimizers
from experiments.problems import registry as problems
from experiments.problems.problem import Problem
from experiments.records.store import Store
from experiments.study import Run
from experiments.training import diagnostics, loops, runtime

ROOT = Path(__file__).resolve().parents[2]
BATCH = 16
# Each problem, small, and what adds noise to it. The auto-encoder draws its latents in any case.
SMALL: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "mnist_logistic_regression": ({"l2": 1e-3, "initial_stddev": 0.1}, {}),
    "imdb_logistic_regression": ({"l2": 1e-3, "train_examples": 800}, {"dropout": 0.5}),
    "mnist_multilayer": ({"l2": 1e-3, "hidden": 30}, {"input_dropout": 0.2, "hidden_dropout": 0.5}),
    "cifar10_convolutional": (
        {"l2": 1e-3, "whitening": "none", "train_examples": 16, "held_out_examples": 10},
        {"input_dropout": 0.2, "hidden_dropout": 0.5},
    ),
    "mnist_variational": ({"hidden": 30, "latent": 5, "prior": 1.0}, {}),
}
NOISY = [name for name, (_, noise) in SMALL.items() if noise or name == "mnist_variational"]
METHODS: dict[str, dict[str, Any]] = {
    "adam": {"learning_rate": 0.002, "decay": "sqrt_step"},
    "adamax": {"learning_rate": 0.002},
    "sgd_nesterov": {"learning_rate": 0.01},
    "adagrad": {"learning_rate": 0.01, "decay": "sqrt_epoch"},
    "rmsprop": {"learning_rate": 0.001},
    "adadelta": {"learning_rate": 1.0},
}


def build(name: str, noisy: bool, **options: Any) -> Problem:
    """A small problem on stand-in data, with 30 held-out examples at most."""
    import keras

    keras.utils.set_random_seed(0)
    calm, noise = SMALL[name]
    few = {"train_examples": 400, "held_out_examples": 30}
    options = {**few, **calm, **(noise if noisy else {}), **options}
    return problems.build(name, name.split("_")[0] + "-stand-in", options, seed=0)


@contextmanager
def few_colour_images() -> Iterator[None]:
    """CIFAR-10's stand-in cut down to a few images, which takes no time."""

    def load(kind: str = "cifar10") -> Arrays:
        draw = np.random.default_rng(0)
        images = draw.integers(256, size=(60, 32, 32, 3), dtype=np.uint8)
        labels = draw.integers(10, size=60).astype(np.uint8)
        return Arrays(images[:40], labels[:40], images[40:], labels[40:])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cifar10, "load", load)
        patch.setattr(cifar10, "_TRAIN", 40)
        kept = (cifar10._whitened, cifar10.labels)
        for each in kept:
            each.cache_clear()
        try:
            yield
        finally:
            for each in kept:
                each.cache_clear()


def reset_noise(problem: Problem, seed: int, epoch: int = 0) -> None:
    from experiments.training.train import _reset_noise

    _reset_noise(problem.model, seed, epoch)


class Trainer:
    """A problem that can be trained again from the start without another compilation."""

    def __init__(self, problem: Problem, method: str = "adam") -> None:
        self.problem = problem
        steps = len(problem.train[0]) // BATCH
        self.optimizer = optimizers.build(method, METHODS[method], steps)
        self.optimizer.build(problem.model.trainable_variables)
        self.fresh = [np.asarray(v).copy() for v in self.optimizer.variables]
        self.loops = loops.compile_loops(problem, self.optimizer)

    def train(self, seed: int, weights: list[np.ndarray]) -> np.ndarray:
        """Costs, objectives and held-out costs of two epochs, (3, 2)."""
        from experiments.randomness import batch_order

        variables = (*self.optimizer.variables, *self.problem.model.trainable_variables)
        for variable, value in zip(variables, (*self.fresh, *weights), strict=True):
            variable.assign(value)
        rows = []
        for epoch in range(2):
            reset_noise(self.problem, seed, epoch)
            order = batch_order(seed, epoch, len(self.problem.train[0]), BATCH)
            rows.append((*self.loops.train_epoch(order), self.loops.evaluate()[0]))
        return np.array(rows).T


# --- both backends train the same -----------------------------------------------------------------

# At each of 16 seeds both backends start from the same weights and see the same batches; only the
# noise is drawn differently. For each of the four noisy problems there is a t-test of the 16
# differences of the training cost and one of those of the held-out cost. Two backends that draw
# from the same distributions fail any of the eight at most once in 12,500 times.
SEEDS = range(16)
SIGNIFICANCE = 1e-5
MUTANTS = {
    "dropout that does not rescale": "mnist_multilayer",
    "dropout at 0.3 instead of 0.5": "imdb_logistic_regression",
    "latents with half the deviation": "mnist_variational",
}


def calm_methods(name: str) -> tuple[str, ...]:
    """All methods for one problem, one for the others.

    The first steps of Adam go by the signs of gradients, which in the deep network may be rounding.
    """
    if name == "mnist_logistic_regression":
        return tuple(METHODS)
    return ("sgd_nesterov",) if name == "cifar10_convolutional" else ("adam",)


def record(backend: str, folder: Path) -> None:
    """Train the problems on Keras's backend, in a process of its own, and write their costs.

    The initial weights are those that TensorFlow drew: it goes first and leaves them in `folder`.
    """
    runtime.configure()
    import keras

    from experiments.problems import autoencoder

    assert keras.backend.backend() == backend
    found: dict[str, np.ndarray] = {}
    weights: dict[str, list[np.ndarray]] = {}

    def fixed(self: Any, mean: Any, log_variance: Any) -> Any:
        return mean + keras.ops.exp(log_variance / 2) / 2

    for name in SMALL:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(autoencoder.Sample, "call", fixed)
            problem = build(name, noisy=False)
            file = folder / f"{name}.npz"
            if backend == "tensorflow":
                np.savez(file, *map(np.asarray, problem.model.trainable_variables))
            with np.load(file) as stored:
                weights[name] = [stored[key] for key in stored.files]
            for method in calm_methods(name):
                found[f"{name} {method}"] = Trainer(problem, method).train(0, weights[name])
        if name in NOISY:
            trainer, shaken = Trainer(build(name, noisy=True)), shake(name, weights[name])
            costs = [trainer.train(seed, shaken) for seed in SEEDS]
            found[f"{name} noisy"] = np.array(costs)
            found[f"{name} repeats"] = trainer.train(SEEDS[3], shaken) == costs[3]
    found["averages"] = averaged(folder / backend)
    found["sfo"] = with_sfo(folder / backend)
    if backend == "tensorflow":
        for mutant in MUTANTS:
            found[mutant] = mutate(mutant, shake(MUTANTS[mutant], weights[MUTANTS[mutant]]))
    else:
        assert "tensorflow" not in sys.modules
        found |= jax_facts(folder)
    np.savez(folder / f"{backend}.npz", allow_pickle=False, **found)


def averaged(folder: Path) -> np.ndarray:
    """What a run recorded of the averages of its parameters: a row per metric."""
    from experiments.training import train as training

    run = Run(
        problem="mnist_logistic_regression",
        options={"train_examples": 320, "averages": 1.0},
        data="mnist-stand-in",
        optimizer="adam",
        settings={"learning_rate": 0.01},
        batch_size=BATCH,
        epochs=3,
        seed=1,
    )
    metrics = training.train(run, Store(folder))["metrics"]
    return np.array([metrics[name] for name in sorted(metrics) if " " in name])


def with_sfo(folder: Path) -> np.ndarray:
    """Training and held-out costs of two passes of the Sum-of-Functions Optimizer."""
    from experiments.training import train as training

    run = Run(
        problem="mnist_logistic_regression",
        options={"train_examples": 320, "l2": 1e-3},
        data="mnist-stand-in",
        optimizer="sfo",
        settings={"minibatches": 8},
        batch_size=BATCH,
        epochs=2,
        seed=1,
    )
    metrics = training.train(run, Store(folder))["metrics"]
    return np.array([metrics["training_cost"], metrics["held_out_cost"]])


def shake(name: str, weights: list[np.ndarray]) -> list[np.ndarray]:
    """Weights away from 0, where noise changes the cost."""
    draw = np.random.default_rng(7)
    size = 10.0 if name == "imdb_logistic_regression" else 1.0
    return [
        w + size * draw.standard_normal(w.shape) / math.sqrt(np.prod(w.shape[:-1]))
        if w.ndim > 1
        else w
        for w in weights
    ]


def mutate(mutant: str, weights: list[np.ndarray]) -> np.ndarray:
    """The costs of the 16 seeds with an error in the noise."""
    import keras

    from experiments.problems import autoencoder

    draw, drop = autoencoder.Sample.call, keras.layers.Dropout.call

    def half(self: Any, mean: Any, log_variance: Any) -> Any:
        return draw(self, mean, log_variance - 2 * math.log(2))

    def unscaled(self: Any, inputs: Any, training: bool = False) -> Any:
        found = drop(self, inputs, training=training)
        return found * (1 - self.rate) if training else found

    with pytest.MonkeyPatch.context() as patch:
        options = {}
        if mutant.startswith("latents"):
            patch.setattr(autoencoder.Sample, "call", half)
        elif "rescale" in mutant:
            patch.setattr(keras.layers.Dropout, "call", unscaled)
        else:
            options = {"dropout": 0.3}
        trainer = Trainer(build(MUTANTS[mutant], noisy=True, **options))
        return np.array([trainer.train(seed, weights) for seed in SEEDS])


def jax_facts(folder: Path) -> dict[str, np.ndarray]:
    """What the tests of `training.py` hold of TensorFlow, and what concerns JAX alone."""
    from experiments.training import train as training

    trainer = Trainer(build("mnist_multilayer", noisy=True))
    kernel = trainer.problem.model.trainable_variables[0]
    buffer, view, copy = kernel.value, np.asarray(kernel.value), np.array(kernel.value)
    trainer.loops.train_epoch(np.arange(2 * BATCH, dtype=np.int32).reshape(2, BATCH))
    moved = np.abs(np.asarray(kernel) - copy).max()
    found = {"view kept": (view == copy).all() and moved > 0, "buffer given away": False}
    del view
    buffer = kernel.value
    trainer.loops.train_epoch(np.arange(2 * BATCH, dtype=np.int32).reshape(2, BATCH))
    found["buffer given away"] = buffer.is_deleted()

    run = Run(
        problem="mnist_multilayer",
        options={"hidden": 10, "hidden_dropout": 0.5, "train_examples": 200, "averages": 1.0},
        data="mnist-stand-in",
        optimizer="adam",
        settings=METHODS["adam"],
        batch_size=BATCH,
        epochs=3,
        seed=5,
    )

    def costs(record: dict[str, Any]) -> dict[str, list[float]]:
        return {name: row for name, row in record["metrics"].items() if name != "seconds"}

    class Stop(Exception):
        pass

    def stop(epochs: int) -> None:
        if epochs == 2:
            raise Stop

    whole = training.train(run, Store(folder / "whole"))
    training.CHECKPOINT_SECONDS = 0.0
    with pytest.raises(Stop):
        training.train(run, Store(folder / "parts"), on_epoch=stop)
    resumed = training.train(run, Store(folder / "parts"))
    found["resumed"] = resumed["manifest"]["resumed"] and not whole["manifest"]["resumed"]
    found["same bits"] = costs(resumed) == costs(whole)
    wild = {"learning_rate": 1e38}
    wild_run = dataclasses.replace(run, optimizer="sgd_nesterov", settings=wild)
    found["diverged"] = training.train(wild_run, Store(folder))["status"] == "diverged"
    manifest = whole["manifest"]
    found["manifest"] = manifest["backend"] == "jax" and "jax" in manifest
    return {name: np.array(value) for name, value in found.items()}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory) -> dict[str, dict[str, np.ndarray]]:
    """What `record` wrote for both backends; under JAX, TensorFlow cannot be imported."""
    if importlib.util.find_spec("jax") is None:
        pytest.skip("jax is not installed")
    folder = tmp_path_factory.mktemp("backends")
    (folder / "tensorflow.py").write_text("raise ImportError('JAX must do without')")
    found = {}
    for backend in ("tensorflow", "jax"):
        places, settings = [str(ROOT), str(Path(__file__).parent)], {"KERAS_BACKEND": backend}
        if backend == "jax":
            places.insert(0, str(folder))
            # What is trained again need not be compiled again.
            settings["JAX_COMPILATION_CACHE_DIR"] = str(folder / "compiled")
            settings["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
            # To compile well would take longer than to train.
            flags = "--xla_backend_optimization_level=0 --xla_cpu_multi_thread_eigen=false"
            settings["XLA_FLAGS"] = flags
        code = f"""
import pathlib, warnings
warnings.simplefilter("error", UserWarning)
import test_loops
with test_loops.few_colour_images():
    test_loops.record({backend!r}, pathlib.Path({str(folder)!r}))
"""
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | settings | {"PYTHONPATH": os.pathsep.join(places)},
            capture_output=True,
            text=True,
            timeout=1200,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        with np.load(folder / f"{backend}.npz") as stored:
            found[backend] = dict(stored)
    return found


def p_values(first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """Of the paired differences of the training and the held-out costs, (seeds, 3, epochs)."""
    training = (first - second)[:, 0].mean(axis=1)
    held_out = (first - second)[:, 2, -1]
    return tuple(float(stats.ttest_1samp(each, 0).pvalue) for each in (training, held_out))


def test_both_backends_train_the_same_without_noise(recorded):
    for name in [f"{problem} {method}" for problem in SMALL for method in calm_methods(problem)]:
        ours, theirs = (recorded[backend][name] for backend in ("tensorflow", "jax"))
        np.testing.assert_allclose(theirs, ours, rtol=1e-4, err_msg=name)
        assert ours[1, 1] < ours[1, 0], f"{name} does not learn"


def test_both_backends_average_the_same(recorded):
    ours, theirs = (recorded[backend]["averages"] for backend in ("tensorflow", "jax"))
    assert ours.shape == (12, 3)
    np.testing.assert_allclose(theirs, ours, rtol=1e-4)


def test_both_backends_serve_sfo_the_same(recorded):
    ours, theirs = (recorded[backend]["sfo"] for backend in ("tensorflow", "jax"))
    assert ours[0, 1] < ours[0, 0]
    np.testing.assert_allclose(theirs, ours, rtol=1e-3)  # its model magnifies rounding


@pytest.mark.parametrize("name", NOISY)
def test_both_backends_draw_the_same_noise_on_average(recorded, name):
    ours, theirs = (recorded[backend][f"{name} noisy"] for backend in ("tensorflow", "jax"))
    assert (ours[:, 0] != theirs[:, 0]).all(), "the draws themselves differ"
    assert min(p_values(ours, theirs)) > SIGNIFICANCE


@pytest.mark.parametrize("mutant", MUTANTS)
def test_wrong_noise_would_be_noticed(recorded, mutant):
    right = recorded["jax"][f"{MUTANTS[mutant]} noisy"]
    assert min(p_values(recorded["tensorflow"][mutant], right)) < SIGNIFICANCE


@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
@pytest.mark.parametrize("name", NOISY)
def test_training_repeats_bit_by_bit_with_its_noise(recorded, backend, name):
    assert recorded[backend][f"{name} repeats"].all()


@pytest.mark.parametrize(
    "fact", ["buffer given away", "view kept", "resumed", "same bits", "diverged", "manifest"]
)
def test_runs_under_jax_are_runs(recorded, fact):
    assert recorded["jax"][fact]


# --- what a step is, under TensorFlow -------------------------------------------------------------


@pytest.fixture(autouse=True)
def _tensorflow():
    runtime.configure()


@pytest.fixture
def small_images():
    with few_colour_images():
        yield


class Nothing:
    """An optimizer that leaves everything as it is."""

    def apply(self, gradients: Any, variables: Any) -> None:
        pass


class Recorder:
    """Keeps the first gradient of every step, then does what another optimizer does."""

    def __init__(self, optimizer: Any, steps: int, size: int) -> None:
        import tensorflow as tf

        self.optimizer = optimizer
        self.step = tf.Variable(0)
        self.found = tf.Variable(np.zeros((steps, size), np.float32))

    def apply(self, gradients: Any, variables: Any) -> None:
        import tensorflow as tf

        self.found.scatter_nd_update([[self.step]], [tf.reshape(gradients[0], [-1])])
        self.step.assign_add(1)
        self.optimizer.apply(gradients, variables)


@functools.cache  # compiled anew for each method, and Adam's are compared with all others
def masks(method: str, seed: int, epochs: tuple[int, ...], steps: int = 6, size: int = 400) -> Any:
    """The dropout masks of the epochs' steps, read off the gradients of a sum of what is kept."""
    import keras
    from keras import ops

    keras.utils.set_random_seed(0)
    dense = keras.layers.Dense(1, use_bias=False)
    model = keras.Sequential([keras.Input((size,)), keras.layers.Dropout(0.25), dense])

    def evaluate(model: Any, x: Any, training: bool) -> tuple[Any, None]:
        return ops.sum(model(x, training=training), axis=1), None

    ones = np.ones((steps, size), np.float32)
    problem = Problem(model, (ones,), (ones,), evaluate)
    optimizer = optimizers.build(method, METHODS[method], steps)
    optimizer.build(model.trainable_variables)
    recorder = Recorder(optimizer, steps, size)
    train_epoch = loops.compile_loops(problem, recorder).train_epoch
    found = []
    for epoch in epochs:
        reset_noise(problem, seed, epoch)
        recorder.step.assign(0)
        train_epoch(np.arange(steps, dtype=np.int32)[:, None])
        found.append(recorder.found.numpy())
    return np.array(found)


def test_dropout_masks_come_from_seed_and_epoch_alone():
    found = masks("adam", seed=3, epochs=(0, 1, 0))
    np.testing.assert_allclose(np.unique(found), [0, 1 / 0.75], rtol=1e-6)
    assert abs(np.mean(found > 0) - 0.75) < 5 * math.sqrt(0.75 * 0.25 / found.size)
    np.testing.assert_array_equal(found[0], found[2])
    rows = found[:2].reshape(-1, found.shape[-1])
    assert len(np.unique(rows, axis=0)) == len(rows)  # steps and epochs differ
    # Independent: two masks agree in 0.625 of the places.
    agreement = np.mean((rows[:-1] > 0) == (rows[1:] > 0))
    assert abs(agreement - 0.625) < 5 * math.sqrt(0.25 / rows[1:].size)
    assert (masks("adam", seed=4, epochs=(0,))[0] != found[0]).any()
    np.testing.assert_array_equal(masks("adam", seed=3, epochs=(1,))[0], found[1])  # as if resumed


@pytest.mark.parametrize("method", [method for method in METHODS if method != "adam"])
def test_dropout_masks_are_the_same_for_every_method(method):
    np.testing.assert_array_equal(
        masks(method, seed=3, epochs=(0, 1)), masks("adam", seed=3, epochs=(0, 1))
    )


@pytest.mark.parametrize("name", NOISY)
def test_every_source_of_noise_has_its_own_seed(small_images, name):
    problem = build(name, noisy=True)
    reset_noise(problem, 1)
    seeds = [tuple(np.asarray(v)) for v in problem.model.non_trainable_variables]
    single = dict.fromkeys(("imdb_logistic_regression", "mnist_variational"), 1)
    expected = {**single, "mnist_multilayer": 3}.get(name, 2)
    assert len(set(seeds)) == len(seeds) == expected


def reviews() -> tuple[np.ndarray, np.ndarray]:
    """Lists of columns and values: full, ragged, one value, empty; what follows a list is junk."""
    columns = np.array(
        [[0, 1, 2, 3, 4, 5], [5, 2, 0, 7, 9, 8], [3, 8, 8, 8, 8, 8], [7, 1, 2, 8, 8, 8]], np.uint16
    )
    values = np.array(
        [[1, 2, 255, 1, 1, 3], [4, 1, 7, 0, 0, 0], [255, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0]],
        np.uint8,
    )
    return columns, values


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_sparse_dense_is_dense_on_written_out_rows(monkeypatch, backend, training):
    """To the last bit, with whole numbers; "jax" is how the layer works on any other backend."""
    import keras
    import tensorflow as tf

    from experiments.problems.classifiers import SparseDense

    draw = np.random.default_rng(0)
    columns, values = reviews()
    rows = np.zeros((4, 8), np.float32)
    for row, places, counts in zip(rows, columns, values, strict=True):
        row[places[counts > 0]] = counts[counts > 0]
    kernel = draw.integers(-9, 10, (8, 3)).astype(np.float32)
    bias = draw.integers(-9, 10, 3).astype(np.float32)
    upstream = draw.integers(-9, 10, (4, 3)).astype(np.float32)
    sparse, dense = SparseDense(8, 3, 0.0), keras.layers.Dense(3)
    dense.build((None, 8))
    for layer in (sparse, dense):
        layer.set_weights([kernel, bias])

    def run(layer: Any, *inputs: Any, **arguments: Any) -> list[np.ndarray]:
        with tf.GradientTape() as tape:
            outputs = layer(*inputs, **arguments)
        gradients = tape.gradient(outputs, layer.trainable_variables, upstream)
        return [np.asarray(tf.convert_to_tensor(each)) for each in (outputs, *gradients)]

    expected = run(dense, rows)
    monkeypatch.setattr(keras.backend, "backend", lambda: backend)
    found = run(sparse, tf.constant(columns), tf.constant(values), training=training)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_sparse_dense_drops_single_words(monkeypatch, backend):
    import keras
    import tensorflow as tf

    from experiments.problems.classifiers import SparseDense

    keras.utils.set_random_seed(0)
    columns, values = (np.tile(array, (500, 1)) for array in reviews())
    layer = SparseDense(8, 8, 0.5)
    layer.set_weights([np.eye(8, dtype=np.float32), np.zeros(8, np.float32)])
    calm = np.asarray(layer(tf.constant(columns), tf.constant(values)))
    monkeypatch.setattr(keras.backend, "backend", lambda: backend)
    noisy = np.asarray(layer(tf.constant(columns), tf.constant(values), training=True))
    kept = noisy != 0
    np.testing.assert_array_equal(noisy[kept], 2 * calm[kept])
    words = calm != 0
    assert abs(kept[words].mean() - 0.5) < 5 * math.sqrt(0.25 / words.sum())
    assert len(np.unique(kept[::4], axis=0)) == 2**6  # each word of the first review by itself


@pytest.mark.parametrize("batch", [7, 30, 500])
def test_evaluation_is_the_mean_over_all_held_out_examples(monkeypatch, batch):
    monkeypatch.setattr(loops, "EVALUATION_BATCH", batch)
    problem = build("mnist_logistic_regression", noisy=False)
    cost, accuracy = loops.compile_loops(problem, Nothing()).evaluate()
    logits, labels = scores(problem, problem.held_out)
    expected = special.logsumexp(logits, axis=1) - logits[np.arange(30), labels]
    assert cost == pytest.approx(expected.mean(), rel=1e-6)
    assert accuracy == pytest.approx(np.mean(logits.argmax(axis=1) == labels), rel=1e-12)


@pytest.mark.parametrize("name", SMALL)
def test_as_many_examples_are_held_out_as_asked(small_images, name):
    """The first test images; reviews evenly of both classes, the shortest first."""
    found = build(name, noisy=False, held_out_examples=10).held_out
    assert {len(array) for array in found} == {10}
    if name == "imdb_logistic_regression":
        reviews = imdb.load("imdb-stand-in")
        kept = np.linspace(0, len(reviews.y_test) - 1, 10).astype(int)
        lengths = np.count_nonzero(reviews.counts_test[kept], axis=1)
        kept = kept[np.argsort(lengths, kind="stable")]
        expected = (reviews.x_test[kept], reviews.counts_test[kept], reviews.y_test[kept])
        assert np.bincount(found[2]).tolist() == [5, 5]
    elif name == "cifar10_convolutional":
        found, expected = found[1:], (cifar10.load("cifar10-stand-in").y_test[:10],)
    else:
        arrays = mnist.load("mnist-stand-in")
        expected = (arrays.x_test[:10].reshape(10, -1), arrays.y_test[:10])[: len(found)]
    for array, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(array, other)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("examples", [0, 25_001])
def test_an_impossible_number_of_held_out_examples_is_refused(small_images, name, examples):
    with pytest.raises(ValueError, match=f"held_out_examples={examples} is not valid: use 1 to"):
        build(name, noisy=False, held_out_examples=examples)


def scores(problem: Problem, examples: Any) -> tuple[np.ndarray, np.ndarray]:
    """The logits of a logistic regression in float64, and the labels."""
    weights, bias = (np.asarray(v, np.float64) for v in problem.model.trainable_variables)
    return examples[0] / 255.0 @ weights + bias, examples[1]


def test_gradients_of_a_logistic_regression_are_the_textbooks():
    problem = build("mnist_logistic_regression", noisy=False)
    batch = np.arange(40, 60, dtype=np.int32)
    found = loops.compile_loops(problem, Nothing()).differentiate(batch)[2]
    logits, labels = scores(problem, [array[batch] for array in problem.train])
    errors = (special.softmax(logits, axis=1) - np.eye(10)[labels]) / len(batch)
    weights = np.asarray(problem.model.trainable_variables[0], np.float64)
    expected = problem.train[0][batch].T / 255.0 @ errors + 1e-3 * weights
    np.testing.assert_allclose(found[0], expected, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(found[1], errors.sum(axis=0), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("name", SMALL)
def test_gradients_belong_to_the_recorded_objective(small_images, name):
    """By differences along the gradient, at the same noise; the objective is cost plus penalty."""
    problem = build(name, noisy=True)
    variables = problem.model.trainable_variables
    for variable, value in zip(variables, shake(name, variables), strict=True):
        variable.assign(value)
    compiled = loops.compile_loops(problem, Nothing())
    batch = np.arange(BATCH, dtype=np.int32)

    def objective() -> float:
        reset_noise(problem, 1)
        cost, objective = compiled.train_epoch(batch[None])
        assert objective - cost == pytest.approx(float(problem.penalty()), rel=1e-2)
        return objective

    reset_noise(problem, 1)
    _, _, gradients = compiled.differentiate(batch)
    squares = sum(float(np.sum(np.square(g, dtype=np.float64))) for g in gradients)
    start = [np.asarray(v).copy() for v in variables]
    width = 0.01 * objective() / squares  # changes the objective by one per cent
    values = []
    for side in (width, -width):
        for variable, value, gradient in zip(variables, start, gradients, strict=True):
            variable.assign(value + side * gradient)
        values.append(objective())
    assert (values[0] - values[1]) / (2 * width) == pytest.approx(squares, rel=0.01)


@pytest.mark.parametrize("name", [name for name in SMALL if name != "mnist_variational"])
def test_weight_decay_leaves_biases_alone(small_images, name):
    problem = build(name, noisy=False)
    draw, expected = np.random.default_rng(0), 0.0
    for variable in problem.model.trainable_variables:
        value = draw.standard_normal(variable.shape).astype(np.float32)
        variable.assign(value)
        if variable.name == "kernel":
            expected += 1e-3 / 2 * float(np.sum(np.square(value, dtype=np.float64)))
    assert {v.name for v in problem.model.trainable_variables} == {"kernel", "bias"}
    assert float(problem.penalty()) == pytest.approx(expected, rel=1e-5)


def test_cost_of_the_auto_encoder_is_minus_its_bound():
    """In float64, with the same draws: the pixels' cross-entropy plus the latents' divergence."""
    import keras

    problem = build("mnist_variational", noisy=False)
    model, images = problem.model, problem.train[0][:20]
    for variable, value in zip(
        model.trainable_variables, shake("", model.trainable_variables), strict=True
    ):
        variable.assign(value)
    reset_noise(problem, 1)
    draws = {}
    for layer in model.layers:
        if hasattr(layer, "seed_generator"):
            same = keras.random.SeedGenerator(0)
            same.state.assign(layer.seed_generator.state)
            draws[type(layer).__name__] = same
    cost, nothing = problem.evaluate(model, images, training=True)
    assert nothing is None

    def dense(name: str, x: np.ndarray) -> np.ndarray:
        kernel, bias = (np.asarray(v, np.float64) for v in model.get_layer(name).variables)
        return x @ kernel + bias

    target = images / 255.0
    code = np.logaddexp(0, dense("encoder", target))
    mean, log_variance = dense("mean", code), dense("log_variance", code)
    noise = np.asarray(keras.random.normal((20, 5), seed=draws["Sample"]), np.float64)
    latent = mean + np.exp(log_variance / 2) * noise
    white = special.expit(dense("pixels", np.logaddexp(0, dense("decoder", latent))))
    pixel_cost = -np.sum(target * np.log(white) + (1 - target) * np.log1p(-white), axis=1)
    # The divergence as the expectation of log q(z) - log N(z; 0, 1).
    expected_log_prior = -(np.log(2 * np.pi) + mean**2 + np.exp(log_variance)) / 2
    entropy = stats.norm(mean, np.exp(log_variance / 2)).entropy()
    divergence = np.sum(-entropy - expected_log_prior, axis=1)
    np.testing.assert_allclose(np.asarray(cost), pixel_cost + divergence, rtol=2e-5)
    norm = sum(np.sum(np.square(np.asarray(v, np.float64))) for v in model.trainable_variables)
    assert float(problem.penalty()) == pytest.approx(1.0 / (2 * 400) * norm, rel=1e-5)


@pytest.mark.parametrize(
    ("padding", "flat", "parameters"), [("same", 2048, 2_371_266), ("valid", 128, 451_266)]
)
def test_shapes_of_the_convolutional_network(small_images, padding, flat, parameters):
    model = build("cifar10_convolutional", noisy=False, padding=padding).model
    assert [tuple(layer.kernel.shape) for layer in model.layers if hasattr(layer, "kernel")] == [
        *((5, 5, 3, 64), (5, 5, 64, 64), (5, 5, 64, 128), (flat, 1000), (1000, 10)),
    ]
    convolutions = 75 * 64 + 64 + 1600 * 64 + 64 + 1600 * 128 + 128
    assert parameters == convolutions + (flat + 1) * 1000 + 1001 * 10 == model.count_params()
    noisy = build("cifar10_convolutional", noisy=True).model
    rates = [layer.rate for layer in noisy.layers if hasattr(layer, "rate")]
    assert (rates, noisy.layers[0].rate) == ([0.2, 0.5], 0.2)
    assert noisy.layers[-2].rate == 0.5


def test_a_smaller_convolutional_network(small_images):
    model = build("cifar10_convolutional", noisy=False, filters=16, hidden=250).model
    assert [tuple(layer.kernel.shape) for layer in model.layers if hasattr(layer, "kernel")] == [
        *((5, 5, 3, 16), (5, 5, 16, 16), (5, 5, 16, 32), (512, 250), (250, 10)),
    ]


# --- diagnostics ----------------------------------------------------------------------------------


def test_sparsity_of_a_gradient():
    def measure(*arrays: Any) -> tuple[float, float]:
        found = diagnostics.gradient_sparsity(None, None, [np.array(a, float) for a in arrays])
        return found["gradient_support"], found["gradient_zeros"]

    assert measure([3.0] * 4, [[-3.0] * 3] * 2) == (0.9, 0.0)  # 9 of 10 equal ones
    assert measure([0.0] * 8, [5.0, -1e-9]) == (0.1, 0.9)
    assert measure([0.0, 0.0]) == (0.0, 1.0)
    assert measure([np.inf, 1.0])[0] == 0.0
    # Brute force.
    gradient = np.random.default_rng(0).standard_cauchy(200)
    squares = np.sort(gradient**2)[::-1]
    enough = next(k for k in range(201) if squares[:k].sum() >= 0.9 * squares.sum())
    assert measure(gradient[:50], gradient[50:])[0] == enough / 200


def test_share_of_the_second_moment_below_epsilon():
    import keras

    sizes = (2e-9, 5e-8, 1e-3)  # below epsilon = 1e-8, below its tenfold, above
    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(4, name="a"), keras.layers.Dense(1, name="b")]
    )
    variables = model.trainable_variables
    draw = np.random.default_rng(0)
    gradients = [draw.choice(sizes, size=v.shape).astype(np.float32) for v in variables]
    adam = optimizers.build("adam", {"learning_rate": 1e-3}, 1)
    adam.build(variables)
    for _ in range(3):  # of equal gradients, so that sqrt(v_hat) is their size
        adam.apply([keras.ops.convert_to_tensor(g) for g in gradients], variables)
    found = diagnostics.measure(["second_moment"], model, adam, gradients)
    flat = [g.ravel() for g in gradients]
    parts = {"a": flat[:2], "b": flat[2:], "all": flat}
    for layer, these in parts.items():
        size = np.concatenate(these)
        assert found.pop(f"below_epsilon {layer}") == np.mean(size < 1e-8)
        assert found.pop(f"near_epsilon {layer}") == np.mean(size < 1e-7)
    assert not found
    for method in METHODS:
        if method != "adam":
            other = optimizers.build(method, METHODS[method], 1)
            other.build(variables)
            assert diagnostics.measure(["second_moment"], model, other, gradients) == {}


# --- the benchmark --------------------------------------------------------------------------------

BENCHMARK = ROOT / "benchmarks" / "training_step.py"
AT_ONCE = ROOT / "benchmarks" / "runs_at_once.py"


def benchmark(*arguments: str, file: Path = BENCHMARK) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(file), *arguments],
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )


def test_the_benchmark_trains_the_same_model_everywhere():
    done = benchmark("--model", "fig1-mnist", "--rounds", "2", "--steps", "3")
    assert done.returncode == 0, done.stderr
    rows = [line.strip("| ").split(" | ") for line in done.stdout.splitlines() if "|" in line]
    costs = {row[0]: float(row[-1]) for row in rows[2:]}
    peers = {"PyTorch": "torch", "JAX loop": "jax", "optax": "optax"}
    for contestant, library in peers.items():
        installed = importlib.util.find_spec(library) is not None
        assert (contestant in costs) == installed
        assert (f"left out: {contestant}" in done.stdout) != installed
    assert {"TensorFlow loop", "Keras fit"} <= set(costs)
    del costs["Keras fit"]  # it shuffles by itself
    assert max(costs.values()) <= min(costs.values()) * 1.001


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="there is one core")
def test_one_run_and_one_for_each_core_are_timed():
    done = benchmark("--model", "fig1-mnist", "--rounds", "1", "--steps", "3", file=AT_ONCE)
    assert done.returncode == 0, done.stderr
    name, together, apart, gain = done.stdout.splitlines()[-1].strip("| ").split(" | ")
    assert name == "fig1-mnist"
    assert float(gain) == pytest.approx(float(apart) / float(together), rel=0.02)


@pytest.mark.parametrize("file", [BENCHMARK, AT_ONCE])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--model", "fig9"), "invalid choice: 'fig9'"),
        (("--rounds", "0"), "'0' is not valid: use a whole number, 1 or more"),
        (("--fast",), "unrecognized arguments: --fast"),
    ],
)
def test_a_benchmark_refuses_bad_input_in_one_line(arguments, message, file):
    done = benchmark(*arguments, file=file)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_benchmark_refuses_other_numbers_of_threads():
    done = benchmark("--threads", "3")
    assert done.returncode == 2
    assert "invalid choice: 3" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_benchmark_counts_the_operations_of_the_models(monkeypatch, small_images):
    """Against the layers of the models themselves."""
    import keras

    specification = importlib.util.spec_from_file_location("training_step", BENCHMARK)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    monkeypatch.setitem(sys.modules, "training_step", module)  # its data classes look there
    monkeypatch.setattr(sys, "path", list(sys.path))
    specification.loader.exec_module(module)
    for model in module.MODELS.values():
        if model.problem == "imdb_logistic_regression":
            continue
        options = {**model.options, "train_examples": 40}
        if model.data_set == "cifar10":
            options["held_out_examples"] = 20
        problem = problems.build(model.problem, f"{model.data_set}-stand-in", options, seed=0)
        layers = [layer for layer in problem.model.layers if hasattr(layer, "kernel")]
        expected, letters = 0, model.problem == "tinyshakespeare_gpt"
        if letters:  # the logits, and queries by keys and scores by values in four layers
            expected = 6 * 12 * 64 * (65 * 128 + 4 * 2 * 64 * 128)
        for i, layer in enumerate(layers, 1 if letters else 0):  # no layer's inputs are data there
            places = math.prod(layer.output.shape[1:-1])
            assert isinstance(layer, keras.layers.Dense | keras.layers.Conv2D)
            once = 2 * model.batch_size * places * math.prod(layer.kernel.shape)
            expected += once * (2 if i == 0 else 3)
        assert model.flops(0.0) == expected, model.title
