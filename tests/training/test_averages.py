"""The averages of Section 7.2 along a run: what they are, and that training does not feel them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from adam_tf.averaging import average_weight
from experiments.data import files
from experiments.methods import optimizers
from experiments.problems import registry as problems
from experiments.randomness import batch_order
from experiments.records.store import Store
from experiments.study import Run
from experiments.training import loops
from experiments.training import train as training
from experiments.training.averages import DECAYS, Averages

RUN = Run(
    problem="mnist_multilayer",
    options={"hidden": 8, "hidden_dropout": 0.5, "train_examples": 320, "averages": 1.0},
    data="mnist-stand-in",
    optimizer="adam",
    settings={"learning_rate": 0.01},
    batch_size=32,
    epochs=3,
    seed=1,
)


@pytest.fixture
def trained():
    """Parameters after each of 12 steps of a small network, and its averages after the last."""
    import keras

    keras.utils.set_random_seed(0)
    problem = problems.build("mnist_multilayer", RUN.data, {"hidden": 8, "train_examples": 64}, 0)
    optimizer = optimizers.build("adam", RUN.settings, 1)
    optimizer.build(problem.model.trainable_variables)
    averages = Averages(problem.model.trainable_variables)
    compiled = loops.compile_loops(problem, optimizer, averages)
    steps = []
    for _ in range(6):
        for half in (np.arange(32), np.arange(32, 64)):
            compiled.train_epoch(half.astype(np.int32)[None])
            steps.append([np.asarray(v).astype(float) for v in problem.model.trainable_variables])
    return problem, compiled, averages, steps


def by_hand(steps: list[list[np.ndarray]], decay: float | None) -> list[np.ndarray]:
    """The paper's formulae, from all steps at once."""
    t = len(steps)
    if decay is None:
        return [sum(parts) / t for parts in zip(*steps, strict=True)]
    weights = [(1 - decay) * decay ** (t - k) / (1 - decay**t) for k in range(1, t + 1)]
    return [
        sum(w * p for w, p in zip(weights, parts, strict=True))
        for parts in zip(*steps, strict=True)
    ]


def test_the_averages_are_those_of_the_paper(trained):
    _, _, averages, steps = trained
    n = len(steps[0])
    for i, (kind, decay) in enumerate(DECAYS.items()):
        for ours, wanted in zip(
            averages.variables[i * n : (i + 1) * n], by_hand(steps, decay), strict=True
        ):
            np.testing.assert_allclose(np.asarray(ours), wanted, rtol=1e-5, atol=1e-7, err_msg=kind)


@pytest.mark.parametrize("wrong", [None, 0.99, 0.0])
def test_another_average_would_be_noticed(trained, wrong):
    _, _, averages, steps = trained
    n, kernel = len(steps[0]), 0
    ours = np.asarray(averages.variables[n + kernel])
    assert np.abs(ours - by_hand(steps, wrong)[kernel]).max() > 1e-5


def test_costs_are_measured_with_each_average_in_place(trained):
    problem, compiled, averages, steps = trained
    measured = averages.measure(lambda: {"cost": compiled.evaluate()[0]})
    assert list(measured) == ["last cost", "mean cost", "exponential cost"]
    for variable, value in zip(problem.model.trainable_variables, steps[-1], strict=True):
        np.testing.assert_array_equal(np.asarray(variable), value)  # its own again
    for kind, decay in (("last", 0.0), *DECAYS.items()):
        for variable, value in zip(
            problem.model.trainable_variables, by_hand(steps, decay), strict=True
        ):
            variable.assign(value)
        assert measured[f"{kind} cost"] == pytest.approx(compiled.evaluate()[0], rel=1e-5), kind


def test_samples_stand_for_all_examples():
    labels = np.arange(60_000)
    halves = labels % 2  # MNIST's training images alternate between two groups of writers
    found = loops._evaluated([labels, halves], [labels[:4_000]], {"few": np.array([7, 3])})
    chosen, odd = map(np.asarray, found("training_sample"))
    assert len(set(chosen)) == loops.SAMPLE
    np.testing.assert_array_equal(chosen % 2, odd)
    assert chosen.mean() == pytest.approx(labels.mean(), rel=0.02)
    assert odd.mean() == pytest.approx(0.5, abs=0.02)
    assert len(found("held_out_sample")[0]) == len(found("held_out")[0]) == 4_000
    assert [np.asarray(part).tolist() for part in found("few")] == [[7, 3], [1, 1]]
    again = loops._evaluated([labels], [labels], {})("training_sample")[0]
    np.testing.assert_array_equal(np.asarray(again), chosen)


@pytest.mark.skipif(not files.available("mnist"), reason="ADAM_TF_DATA holds no MNIST")
def test_a_sample_of_mnist_is_neither_easier_nor_harder():
    """Every twelfth training image costs a third more than the mean of all."""
    problem = problems.build("mnist_logistic_regression", "mnist", {}, 0)
    optimizer = optimizers.build("adam", {"learning_rate": 0.001}, 468)
    optimizer.build(problem.model.trainable_variables)
    compiled = loops.compile_loops(problem, optimizer)
    for epoch in range(5):
        passed, _ = compiled.train_epoch(batch_order(0, epoch, 60_000, 128))
    assert compiled.evaluate("training_sample")[0] == pytest.approx(passed, rel=0.1)


def test_training_does_not_feel_its_averages(tmp_path):
    bare = {k: v for k, v in RUN.options.items() if k != "averages"}
    watched = training.train(RUN, Store(tmp_path))["metrics"]
    alone = training.train(dataclasses.replace(RUN, options=bare), Store(tmp_path))["metrics"]
    for name in ("training_cost", "objective", "held_out_cost"):
        assert watched[name] == alone[name]
    extra = set(watched) - set(alone)
    assert len(extra) == 3 * 4
    assert {name.split()[0] for name in extra} == {"last", "mean", "exponential"}


def test_a_resumed_run_has_the_same_averages(tmp_path, interrupt):
    whole = training.train(RUN, Store(tmp_path / "whole"))
    parts = Store(tmp_path / "parts")
    interrupt(RUN, parts, 2)
    resumed = training.train(RUN, parts)
    assert resumed["manifest"]["resumed"]
    for name in set(whole["metrics"]) - {"seconds"}:
        assert resumed["metrics"][name] == whole["metrics"][name], name


@pytest.mark.parametrize("decay", [None, 0.0, 0.9, 0.999])
def test_the_first_step_has_all_the_weight(decay):
    assert average_weight(1, decay) == pytest.approx(1.0, rel=1e-12)
    assert float(average_weight(np.float32(1), decay)) == pytest.approx(1.0, rel=1e-6)
