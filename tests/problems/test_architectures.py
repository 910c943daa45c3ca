"""The transformers, the residual network, the diffusion model and the rare classes."""

from __future__ import annotations

import dataclasses
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

from experiments.data import cifar10, mnist, shakespeare
from experiments.data.arrays import Arrays, Text
from experiments.methods import optimizers
from experiments.problems import registry
from experiments.problems.problem import Problem
from experiments.randomness import batch_order
from experiments.records.store import Store
from experiments.study import Run
from experiments.training import loops, runtime

ROOT = Path(__file__).resolve().parents[2]
ALPHABET = "abcdefgh"
TINY: dict[str, dict[str, Any]] = {
    "tinyshakespeare_gpt": {"depth": 1, "heads": 2, "width": 8, "context": 6},
    "tinyshakespeare_masked": {
        "depth": 1,
        "heads": 2,
        "width": 8,
        "context": 8,
        "masked_share": 0.4,
    },
    "cifar10_resnet": {"blocks": 1, "width": 2, "shift": 2},
    "mnist_diffusion": {"width": 8},
    "imbalance": {"classes": 12, "dimensions": 5},
}
RATES = {"adam": 0.01, "adamw": 0.01, "sgd_nesterov": 1e-12, "adagrad": 1e-12}


@contextmanager
def few_data() -> Iterator[None]:
    """The data sets cut down to what takes no time."""
    draw = np.random.default_rng(0)

    def images(*shape: int) -> Arrays:
        x = draw.integers(256, size=(60, *shape), dtype=np.uint8)
        y = draw.integers(10, size=60).astype(np.uint8)
        return Arrays(x[:40], y[:40], x[40:], y[40:])

    colour, grey = images(32, 32, 3), images(28, 28)
    letters = draw.integers(len(ALPHABET), size=500).astype(np.uint8)
    text = Text(letters[:400], letters[400:], ALPHABET)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cifar10, "load", lambda kind: colour)
        patch.setattr(mnist, "load", lambda kind: grey)
        patch.setattr(shakespeare, "load", lambda kind: text)
        yield


@pytest.fixture(autouse=True, scope="module")
def _small_and_ready() -> Iterator[None]:
    runtime.configure()
    with few_data():
        yield


def data_of(name: str) -> str:
    return "none" if name == "imbalance" else name.partition("_")[0] + "-stand-in"


def build(name: str, **options: Any) -> Problem:
    import keras

    keras.utils.set_random_seed(3)
    few = {"train_examples": 40, "held_out_examples": 10}
    return registry.build(name, data_of(name), {**few, **TINY[name], **options}, seed=0)


def count(problem: Problem) -> int:
    return sum(math.prod(v.shape) for v in problem.model.trainable_variables)


# --- what they are ----------------------------------------------------------------------------


@pytest.mark.parametrize(("width", "depth"), [(8, 1), (12, 3)])
def test_parameters_of_the_transformers(width, depth):
    sizes = {"width": width, "depth": depth, "heads": 2, "context": 6}
    blocks = depth * (2 * width + 12 * width**2) + width
    letters = len(ALPHABET)
    gpt, masked = (build(f"tinyshakespeare_{kind}", **sizes) for kind in ("gpt", "masked"))
    assert count(gpt) == (letters + 6) * width + blocks
    assert count(masked) == (letters + 1 + 6) * width + blocks


def test_the_declared_sizes_are_those_of_the_known_models():
    """nanoGPT's small model has 0.80 million parameters, ResNet-20 0.27 million."""
    entries = registry.PROBLEMS
    gpt = entries["tinyshakespeare_gpt"].options()
    width, depth = gpt.width, gpt.depth
    blocks = depth * (2 * width + 12 * width**2) + width
    assert (65 + gpt.context) * width + blocks == 804_096
    resnet = entries["cifar10_resnet"].options()
    problem = build("cifar10_resnet", blocks=resnet.blocks, width=resnet.width)
    kernels = 9 * (3 * 16 + 6 * 16 * 16 + 16 * 32 + 5 * 32 * 32 + 32 * 64 + 5 * 64 * 64)
    norms = 2 * (7 * 16 + 6 * 32 + 6 * 64)
    assert count(problem) == kernels + norms + 65 * 10 == 269_722
    assert sum(math.prod(v.shape) for v in loops.statistics(problem.model)) == norms


def test_parameters_of_the_diffusion_model_and_of_the_regression():
    def conv(a: int, b: int) -> int:
        return 9 * a * b + b

    def residual(c: int, code: int) -> int:
        return 2 * (2 * c + conv(c, c)) + code * c + c

    w, code = 16, 64
    ways = conv(1, w) + conv(w, 2 * w) + conv(2 * w, w) + conv(2 * w, w) + conv(w + 1, 1) + 2 * w
    blocks = 2 * residual(w, code) + 2 * residual(2 * w, code)
    assert count(build("mnist_diffusion", width=w)) == ways + blocks + 24 * code + code
    assert count(build("imbalance")) == (5 + 1) * 12


@pytest.mark.parametrize("name", TINY)
def test_every_problem_gives_a_cost_for_each_example(name):
    problem = build(name)
    batch = [array[:7] for array in problem.train]
    for training in (True, False):
        costs, correct = problem.evaluate(problem.model, *batch, training=training)
        assert np.shape(costs) == (7,)
        assert np.isfinite(np.asarray(costs)).all()
        classifies = name in ("cifar10_resnet", "imbalance")
        assert (None if correct is None else np.shape(correct)) == ((7,) if classifies else None)
    assert costs.dtype == "float32"
    assert len(problem.held_out[0]) == 10
    assert problem.examples == 40


def test_untrained_transformers_guess_evenly():
    for kind in ("gpt", "masked"):
        problem = build(f"tinyshakespeare_{kind}")
        costs, _ = problem.evaluate(problem.model, problem.train[0][:40], training=False)
        assert np.mean(costs) == pytest.approx(math.log(len(ALPHABET)), abs=0.01)


def test_a_later_letter_never_changes_an_earlier_logit():
    model = build("tinyshakespeare_gpt").model
    for weight in model.trainable_variables:  # far enough from 0 for all to matter
        weight.assign(weight + 0.3 * np.random.default_rng(1).standard_normal(weight.shape))
    letters = np.array([[1, 5, 2, 7, 0, 3]])
    before = np.asarray(model(letters))
    for place in range(6):
        changed = letters.copy()
        changed[0, place] = (letters[0, place] + 1) % 8
        after = np.asarray(model(changed))
        assert (after[:, :place] == before[:, :place]).all()
        assert (np.abs(after - before)[:, place:].max(axis=-1) > 1e-6).all()


def test_the_letters_of_the_text_are_each_guessed_from_those_before():
    problem = build("tinyshakespeare_gpt", train_examples=394)
    text = shakespeare.load("")
    assert len(problem.train[0]) == 400 - 6
    assert (problem.train[0][17] == text.train[17:24]).all()
    # Held-out windows share only the letter that the one guesses last and the next starts from.
    starts = np.arange(10) * 16 // 10 * 6
    assert (problem.held_out[0] == np.stack([text.held_out[i : i + 7] for i in starts])).all()


# --- the masked encoder -----------------------------------------------------------------------


def test_masked_places_alone_enter_the_loss():
    import keras

    problem = build("tinyshakespeare_masked")
    letters = np.asarray(problem.train[0][:20], np.int32)
    places, logits = problem.model(letters)
    places, logits = np.asarray(places), np.asarray(logits)
    assert places.shape == (20, 3)
    assert all(len(set(row)) == 3 for row in places)
    assert len({tuple(sorted(row)) for row in places}) > 5
    assert logits.shape == (20, 3, len(ALPHABET))
    hide = problem.model.get_layer("hide")
    seed = np.asarray(hide.seed_generator.state)

    def again(rows: np.ndarray) -> np.ndarray:
        hide.seed_generator.state.assign(seed)
        return np.asarray(problem.evaluate(problem.model, rows, training=True)[0])

    hide.seed_generator.state.assign(seed)
    where, shown = map(np.asarray, hide(letters))
    hidden = np.zeros(letters.shape, bool)
    np.put_along_axis(hidden, where, True, axis=1)
    assert (shown == np.where(hidden, len(ALPHABET), letters)).all()
    # What the hidden letters are changes the targets, and nothing that the model sees.
    hide.seed_generator.state.assign(seed)
    _, found = problem.model(letters)
    logs = np.asarray(keras.ops.log_softmax(found))
    other = np.where(hidden, (letters + 1) % len(ALPHABET), letters)
    for rows in (letters, other):
        wanted = np.take_along_axis(rows, where, axis=1)
        expected = -np.take_along_axis(logs, wanted[..., None], axis=2)[..., 0].mean(axis=1)
        np.testing.assert_allclose(again(rows), expected, rtol=1e-5)


# --- PyTorch ----------------------------------------------------------------------------------


def test_gradients_are_those_of_pytorch():
    """A GPT written with PyTorch's own functions, with the same weights."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    import torch.nn.functional as F

    problem = build("tinyshakespeare_gpt", depth=2)
    model, heads, width = problem.model, 2, 8
    draw = np.random.default_rng(2)
    for weight in model.trainable_variables:
        weight.assign(weight + 0.2 * draw.standard_normal(weight.shape))
    rows = np.arange(9, dtype=np.int32)
    cost, objective, gradients = loops.compile_loops(problem, Nothing()).differentiate(rows)
    ours = dict(zip([v.path for v in model.trainable_variables], gradients, strict=True))
    weights = {
        v.path: torch.tensor(np.asarray(v, np.float64), requires_grad=True)
        for v in model.trainable_variables
    }

    def of(name: str) -> Any:
        return next(w for path, w in weights.items() if path.split("/")[-2] == name)

    letters = torch.tensor(np.asarray(problem.train[0][rows], np.int64))
    x = of("embedding")[letters[:, :-1]] + of("positions")
    for i in (1, 2):
        normed = F.layer_norm(x, (width,), of(f"norm{i}a"))
        query, key, value = (normed @ of(f"attend{i}")).split(width, dim=-1)
        parts = [p.unflatten(-1, (heads, -1)).transpose(1, 2) for p in (query, key, value)]
        seen = F.scaled_dot_product_attention(*parts, is_causal=True)
        x = x + seen.transpose(1, 2).flatten(2) @ of(f"project{i}")
        normed = F.layer_norm(x, (width,), of(f"norm{i}b"))
        x = x + F.gelu(normed @ of(f"expand{i}")) @ of(f"contract{i}")
    logits = F.layer_norm(x, (width,), of("norm")) @ of("embedding").T
    loss = F.cross_entropy(logits.flatten(0, 1), letters[:, 1:].flatten())
    loss.backward()
    assert cost == objective == pytest.approx(loss.item(), rel=1e-5)
    assert len(ours) == 2 + 2 * 6 + 1
    for path, weight in weights.items():
        theirs = weight.grad.numpy()
        np.testing.assert_allclose(ours[path], theirs, atol=2e-5 * np.abs(theirs).max() + 1e-7)


def test_the_residual_network_is_that_of_pytorch():
    """Costs in training and in evaluation, gradients and statistics, with the same weights."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    import torch.nn.functional as F

    problem = build("cifar10_resnet", shift=0)
    model, rows = problem.model, np.arange(12, dtype=np.int32)
    layers = {layer.name: layer for layer in model.layers}
    images = np.asarray(problem.train[0][rows], np.float64)
    colours = problem.train[0].reshape(-1, 3).astype(np.float64)
    normed = (images - colours.mean(axis=0)) / colours.std(axis=0)
    weights = {
        v.path: torch.tensor(np.asarray(v, np.float64), requires_grad=True)
        for v in model.trainable_variables
    }
    labels = torch.tensor(problem.train[1][rows].astype(np.int64))
    batches = {}

    def conv(x: Any, name: str, stride: int) -> Any:
        # TensorFlow pads below and to the right first where only one row is needed.
        x = F.pad(x, (0, 1, 0, 1) if stride == 2 else (1, 1, 1, 1))
        kernel = weights[layers[f"conv{name}"].kernel.path].permute(3, 2, 0, 1)
        x = F.conv2d(x, kernel, stride=stride)
        norm = layers[f"norm{name}"]
        batches[name] = (x.mean(dim=(0, 2, 3)), x.var(dim=(0, 2, 3), correction=0))
        gamma, beta = weights[norm.gamma.path], weights[norm.beta.path]
        return F.batch_norm(x, None, None, gamma, beta, training=True, eps=1e-5)

    x = F.relu(conv(torch.tensor(normed).permute(0, 3, 1, 2), "first", 1))
    for stage, stride in enumerate((1, 2, 2)):
        inner = conv(F.relu(conv(x, f"{stage}_0a", stride)), f"{stage}_0b", 1)
        more = inner.shape[1] - x.shape[1]
        shortcut = F.pad(x[:, :, ::stride, ::stride], (0, 0, 0, 0, more // 2, more // 2))
        x = F.relu(inner + shortcut)
    kernel, bias = (weights[v.path] for v in layers["logits"].trainable_variables)
    loss = F.cross_entropy(x.mean(dim=(2, 3)) @ kernel + bias, labels)
    loss.backward()

    before = state(model)
    compiled = loops.compile_loops(problem, Nothing())
    cost, _, gradients = compiled.differentiate(rows)
    assert cost == pytest.approx(loss.item(), rel=1e-4)
    for variable, ours in zip(model.trainable_variables, gradients, strict=True):
        theirs = weights[variable.path].grad.numpy()
        np.testing.assert_allclose(ours, theirs, atol=1e-3 * np.abs(theirs).max() + 1e-5)
    # To look at a gradient teaches the batch norms nothing; a step does, and evaluation does not.
    np.testing.assert_array_equal(state(model), before)
    compiled.train_epoch(rows[None])
    moved = state(model)
    for name, (mean, variance) in batches.items():
        norm = layers[f"norm{name}"]
        np.testing.assert_allclose(norm.moving_mean, 0.1 * mean.detach(), atol=1e-5)
        np.testing.assert_allclose(norm.moving_variance, 0.9 + 0.1 * variance.detach(), rtol=1e-4)
    compiled.evaluate()
    np.testing.assert_array_equal(state(model), moved)
    costs, _ = problem.evaluate(model, problem.train[0][:3], problem.train[1][:3], training=False)
    alone, _ = problem.evaluate(model, problem.train[0][:1], problem.train[1][:1], training=False)
    assert float(costs[0]) == pytest.approx(float(alone[0]), rel=1e-5), "depends on the batch"


def state(model: Any) -> np.ndarray:
    """The statistics of batch norms, in a row."""
    return np.concatenate([[0.0], *(np.ravel(np.asarray(v)) for v in loops.statistics(model))])


class Nothing:
    """An optimizer that leaves everything as it is."""

    def apply(self, gradients: Any, variables: Any) -> None:
        pass


# --- images -----------------------------------------------------------------------------------


def test_images_are_flipped_and_moved_and_nothing_else():
    from experiments.problems.resnet import FlipAndShift

    images = np.random.default_rng(3).random((200, 6, 5, 2)).astype(np.float32) + 1
    layer = FlipAndShift(2)
    np.testing.assert_array_equal(layer(images), images)
    found = np.asarray(layer(images, training=True))
    padded = np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)))
    seen = []
    for image, source in zip(found, padded, strict=True):
        ways = [
            (down, right, flip)
            for down in range(5)
            for right in range(5)
            for flip in (False, True)
            if np.array_equal(
                image, source[down : down + 6, right : right + 5][:, :: -1 if flip else 1]
            )
        ]
        assert len(ways) == 1
        seen += ways
    assert len(set(seen)) > 40, "of 50 ways"
    assert 70 < sum(flip for _, _, flip in seen) < 130


def test_small_digits():
    from experiments.data.mnist import shrink

    image = np.zeros((1, 28, 28), np.uint8)
    image[0, 4, 6:8], image[0, 5, 6:8], image[0, 27, 27] = (255, 255), (255, 254), 200
    found = shrink(image)
    assert found.shape == (1, 16, 16, 1)
    assert (found[0, 3, 4, 0], found[0, 14, 14, 0]) == (255, 50)
    assert np.count_nonzero(found) == 2


def test_small_colour_images():
    """Means of 2x2 pixels, colour by colour; the network takes them, and nothing else changes."""
    from experiments.data import cifar10
    from experiments.data.images import halve

    images = np.random.default_rng(5).integers(0, 256, (3, 8, 6, 3), dtype=np.uint8)
    means = images.reshape(3, 4, 2, 3, 2, 3).astype(float).mean(axis=(2, 4))
    np.testing.assert_array_equal(halve(images), np.floor(means + 0.5))
    small, large = (build("cifar10_resnet", side=side) for side in (16, 32))
    np.testing.assert_array_equal(small.train[0], halve(large.train[0]))
    np.testing.assert_array_equal(small.held_out[0], halve(large.held_out[0]))
    np.testing.assert_array_equal(small.train[1], large.train[1])
    stored = cifar10.load(cifar10.KINDS[1]).x_train
    np.testing.assert_array_equal(small.train[0], halve(stored[: len(small.train[0])]))
    shapes = [[tuple(w.shape) for w in each.model.weights] for each in (small, large)]
    assert shapes[0] == shapes[1]
    assert small.model.input_shape == (None, 16, 16, 3)


def test_noise_is_mixed_in_by_time():
    from experiments.problems.diffusion import Spoil

    images = np.full((400, 16, 16, 1), 0.5, np.float32)
    noisy, time, noise = map(np.asarray, Spoil()(images))
    angle = time[:, :, None, None] * np.pi / 2
    np.testing.assert_allclose(noisy, np.cos(angle) * images + np.sin(angle) * noise, atol=1e-6)
    assert 0 <= time.min() < 0.03
    assert 0.97 < time.max() < 1
    assert noise.std() == pytest.approx(1, abs=0.01)
    assert abs(noise.mean()) < 0.01


# --- rare classes -----------------------------------------------------------------------------


@pytest.mark.parametrize("frequencies", ["zipf", "equal"])
def test_classes_have_their_frequencies(frequencies):
    problem = build("imbalance", classes=50, frequencies=frequencies, train_examples=9_000)
    counts = np.bincount(problem.train[1], minlength=50)
    share = 1 / np.arange(1, 51) if frequencies == "zipf" else np.ones(50)
    assert np.abs(counts - 9_000 * share / share.sum()).max() <= 1
    groups = {name: problem.train[1][rows] for name, rows in problem.groups.items()}
    assert len(groups["frequent"]) == len(groups["rare"]) == 4_500
    assert groups["frequent"].max() <= groups["rare"].min()
    other = build("imbalance", classes=50, frequencies=frequencies, train_examples=9_000)
    assert (other.train[0] == problem.train[0]).all(), "the data are the same for every run"


# --- bad options ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("tinyshakespeare_gpt", {"heads": 3}, "heads=3 is not valid: width=8 is not a multiple"),
        (
            "tinyshakespeare_gpt",
            {"context": 500},
            "501 letters at a time are too many: a",
        ),
        ("tinyshakespeare_gpt", {"train_examples": 395}, "train_examples=395 is not valid: use 1 "),
        ("tinyshakespeare_gpt", {"held_out_examples": 99}, "held_out_examples=99 is not valid"),
        ("tinyshakespeare_masked", {"masked_share": 0.01}, "masked_share=0.01 is not valid: it "),
        ("tinyshakespeare_masked", {"masked_share": 1.0}, "masked_share=1.0 is not valid: it "),
        ("cifar10_resnet", {"train_examples": 41}, "train_examples=41 is not valid: use 1 to 40"),
        ("imbalance", {"train_examples": 20_001}, "train_examples=20001 is not valid: use 1 to"),
    ],
)
def test_what_cannot_be_built_is_refused(name, options, message):
    with pytest.raises(ValueError, match=message) as error:
        build(name, **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "option", "message"),
    [
        ("tinyshakespeare_gpt", {"depth": 1.5}, "depth=1.5 is not valid for tinyshakespeare_gpt: "),
        ("tinyshakespeare_gpt", {"width": 0}, "width=0 is not .*: use a whole number, 1 or more"),
        ("cifar10_resnet", {"shift": 0.5}, "shift=0.5 is not .*: use a whole number, 0 or more"),
        (
            "cifar10_resnet",
            {"side": 28},
            "side=28 is not valid for cifar10_resnet: use one of",
        ),
        ("cifar10_resnet", {"l2": -1}, "l2=-1 is not valid .*: use a finite number >= 0"),
        ("imbalance", {"frequencies": "all"}, "frequencies='all' is not .*: use one of zipf, equa"),
        ("mnist_diffusion", {"hidden": 1}, "unknown option of mnist_diffusion 'hidden'"),
    ],
)
def test_bad_options_are_refused_before_anything_is_built(name, option, message):
    with pytest.raises(ValueError, match=message):
        registry.check_options(name, option)


def test_averages_of_parameters_do_not_go_with_batch_norms(tmp_path):
    from experiments.training.train import train

    run = dataclasses.replace(
        tiny("cifar10_resnet"), options={**few("cifar10_resnet"), "averages": 1.0}
    )
    with pytest.raises(ValueError, match=r"averages=1.0 is not valid with cifar10_resnet"):
        train(run, Store(tmp_path))


# --- training ---------------------------------------------------------------------------------


def few(name: str) -> dict[str, Any]:
    return {"train_examples": 24, "held_out_examples": 10, **TINY[name]}


def tiny(name: str, method: str = "adam", **settings: Any) -> Run:
    return Run(
        problem=name,
        options=few(name),
        data=data_of(name),
        optimizer=method,
        settings={"learning_rate": RATES[method], **settings},
        batch_size=8,
        epochs=3,
        seed=4,
    )


def costs(record: dict[str, Any]) -> dict[str, list[float]]:
    return {name: row for name, row in record["metrics"].items() if name != "seconds"}


@pytest.mark.parametrize("name", ["tinyshakespeare_masked", "cifar10_resnet", "imbalance"])
def test_a_resumed_run_is_the_same_bit_by_bit(name, tmp_path, interrupt):
    from experiments.training.train import train

    run = tiny(name)
    whole = train(run, Store(tmp_path / "whole"))
    interrupt(run, Store(tmp_path / "parts"), 2)
    resumed = train(run, Store(tmp_path / "parts"))
    assert resumed["manifest"]["resumed"]
    assert not whole["manifest"]["resumed"]
    assert costs(resumed) == costs(whole)
    assert whole["manifest"]["steps_per_epoch"] == 3
    assert ("training_cost rare" in whole["metrics"]) == (name == "imbalance")


def test_every_method_sees_the_same_batches_and_noise(tmp_path):
    """With steps too small to matter, the training costs are equal."""
    from experiments.training.train import train

    first, second = (
        train(tiny("tinyshakespeare_masked", method), Store(tmp_path))["metrics"]["training_cost"]
        for method in ("sgd_nesterov", "adagrad")
    )
    np.testing.assert_allclose(first, second, rtol=1e-6)
    assert len(set(first)) == 3, "every pass has batches of its own"


@pytest.mark.parametrize("name", TINY)
def test_all_noise_starts_anew_with_every_pass(name):
    from experiments.training.train import _reset_noise

    model = build(name).model
    known = {v.path for v in loops.statistics(model)}
    seeds = [v for v in model.non_trainable_variables if v.path not in known]
    noisy = name in ("tinyshakespeare_masked", "cifar10_resnet", "mnist_diffusion")
    assert len(seeds) == noisy
    states = []
    for epoch in (0, 1, 0):
        _reset_noise(model, 4, epoch)
        states.append([np.asarray(seed).tolist() for seed in seeds])
    assert states[0] == states[2]
    assert (states[0] != states[1]) == noisy


def test_a_pass_draws_windows_anew_and_none_twice():
    problem = build("tinyshakespeare_gpt", train_examples=24)
    passes = [batch_order(4, epoch, len(problem.train[0]), 8)[:3] for epoch in range(2)]
    assert all(len(np.unique(order)) == 24 for order in passes)
    assert len(np.intersect1d(*passes)) < 12
    assert max(order.max() for order in passes) > 300, "from the whole text"


def test_adamw_is_that_of_pytorch():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    import keras

    start, draw = np.array([1.0, -2.0, 3.0], np.float32), np.random.default_rng(5)
    gradients = draw.standard_normal((5, 3)).astype(np.float32)
    ours = keras.Variable(start)
    optimizer = optimizers.build("adamw", {"learning_rate": 0.1}, 1)
    optimizer.build([ours])
    theirs = torch.nn.Parameter(torch.tensor(start))
    reference = torch.optim.AdamW([theirs], lr=0.1)
    for gradient in gradients:
        optimizer.apply([keras.ops.convert_to_tensor(gradient)], [ours])
        theirs.grad = torch.tensor(gradient)
        reference.step()
    np.testing.assert_allclose(ours, theirs.detach(), rtol=1e-5)
    plain = optimizers.build("adam", {"learning_rate": 0.1}, 1)
    assert plain.weight_decay is None
    with pytest.raises(ValueError, match=r"weight_decay=-1 is not valid for adamw: use a finite"):
        optimizers.check_settings("adamw", {"learning_rate": 0.1, "weight_decay": -1})


# --- both backends ----------------------------------------------------------------------------


def even(shape: Any, low: float = 0.0, high: float = 1.0) -> Any:
    """Numbers that look drawn and are the same on every backend."""
    from keras import ops

    places = ops.cumsum(ops.reshape(ops.ones(shape, "int32"), (-1,)))
    share = ops.cast((places * 7919 + 17) % 10_007, "float32") / 10_007
    return ops.reshape(low + (high - low) * share, shape)


def record(folder: Path) -> None:
    """Train each problem for two passes on Keras' backend, from stored weights; store the costs."""
    runtime.configure()
    import keras

    found = {}
    with few_data(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(keras.random, "uniform", lambda shape, seed: even(shape))
        patch.setattr(keras.random, "normal", lambda shape, seed: even(shape, -1.5, 1.5))
        for name in TINY:
            problem = build(name, train_examples=24)
            weights, file = problem.model.trainable_variables, folder / f"{name}.npz"
            if not file.exists():
                np.savez(file, *map(np.asarray, weights))
            with np.load(file) as stored:
                for weight, key in zip(weights, stored.files, strict=True):
                    weight.assign(stored[key])
            # Adam's first steps go by signs, which in a deep network may be those of rounding.
            method = "adamw" if name == "tinyshakespeare_gpt" else "sgd_nesterov"
            optimizer = optimizers.build(method, {"learning_rate": 0.01}, 3)
            optimizer.build(weights)
            compiled = loops.compile_loops(problem, optimizer)
            rows = []
            for epoch in range(2):
                order = batch_order(1, epoch, len(problem.train[0]), 8)[:3]
                rows.append(compiled.train_epoch(order))
                if name in ("tinyshakespeare_gpt", "cifar10_resnet"):
                    rows.append((compiled.evaluate()[0], 0.0))
            found[name] = np.array(rows)
            if loops.statistics(problem.model):
                compiled.differentiate(np.arange(8, dtype=np.int32))  # must not move them
            found[f"{name} statistics"] = state(problem.model)
    np.savez(folder / f"{keras.backend.backend()}.npz", allow_pickle=False, **found)


def test_both_backends_train_the_same(tmp_path):
    pytest.importorskip("jax", reason="jax is not installed")
    record(tmp_path)
    code = f"import pathlib, test_architectures as t; t.record(pathlib.Path({str(tmp_path)!r}))"
    places = os.pathsep.join([str(ROOT), str(Path(__file__).parent)])
    # To compile well would take longer than to train.
    flags = "--xla_backend_optimization_level=0 --xla_cpu_multi_thread_eigen=false"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"KERAS_BACKEND": "jax", "PYTHONPATH": places, "XLA_FLAGS": flags},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    with np.load(tmp_path / "tensorflow.npz") as ours, np.load(tmp_path / "jax.npz") as theirs:
        assert set(ours) == set(theirs) == {*TINY, *(f"{name} statistics" for name in TINY)}
        for name in ours:
            np.testing.assert_allclose(theirs[name], ours[name], rtol=2e-4, atol=1e-6, err_msg=name)
        assert len(ours["cifar10_resnet statistics"]) > 20
