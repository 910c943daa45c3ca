"""The Sum-of-Functions Optimizer as one of the compared methods: its passes, records and resume."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from experiments import randomness
from experiments.cli.main import main
from experiments.methods import optimizers
from experiments.methods.sfo import SFO, memory, subspace
from experiments.methods.sfo import optimizer as iterations
from experiments.problems import registry as problems
from experiments.records.store import Store
from experiments.study import Run
from experiments.training import loops
from experiments.training import train as training

RUN = Run(
    problem="mnist_multilayer",
    options={"hidden": 12, "l2": 1e-4, "train_examples": 400},
    data="mnist-stand-in",
    optimizer="sfo",
    settings={"minibatches": 10},
    batch_size=32,
    epochs=6,
    seed=1,
)


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    return training.train(RUN, Store(tmp_path_factory.mktemp("sfo")))


def test_a_run_of_sfo_is_a_record_like_any(record):
    metrics = record["metrics"]
    assert record["status"] == "finished"
    assert record["manifest"]["steps_per_epoch"] == 10
    assert {len(values) for values in metrics.values()} == {6}
    assert metrics["training_cost"][-1] < 0.3 * metrics["training_cost"][0]
    for cost, objective in zip(metrics["training_cost"], metrics["objective"], strict=True):
        assert 0 < objective - cost < 0.1  # the L2 term
    for whole, gradient in zip(metrics["seconds"], metrics["gradient_seconds"], strict=True):
        assert 0 < gradient < whole


def test_its_memory_is_that_of_its_arrays(record):
    parameters = 784 * 12 + 12 + 12 * 12 + 12 + 12 * 10 + 10
    basis = 8 * parameters * subspace.subspace_size(parameters, 10)
    measured = record["metrics"]["optimizer_mb"]
    assert len(set(measured)) == 1
    assert basis < measured[0] * 2**20 <= memory.memory_needed(parameters, 10)


def build(l2: float = 1e-3, **options):
    import keras

    keras.utils.set_random_seed(0)
    options = {"hidden": 5, "l2": l2, "train_examples": 60, **options}
    return problems.build("mnist_multilayer", "mnist-stand-in", options, seed=0)


def test_the_subfunctions_are_the_objectives_of_fixed_minibatches():
    problem = build()
    parts = randomness.batch_order(0, 0, 60, 20)
    seen: dict[int, list] = {}

    def spy(f_df, theta, *, seed, subfunctions):
        def watched(theta, part):
            value, gradient = f_df(theta, part)
            seen.setdefault(part, []).append((theta, value, gradient))
            return value, gradient

        return SFO(watched, theta, subfunctions, seed=seed)

    import functools

    method = functools.partial(spy, subfunctions=range(3))
    compiled, _ = loops.sum_of_functions(problem, method, parts, seed=0)
    cost, objective = compiled.train_epoch(parts)
    assert set(seen) <= {0, 1, 2}
    starts = []
    for part, points in seen.items():
        for theta, value, gradient in points:
            at, kernels = 0, 0.0
            for variable in problem.model.trainable_variables:
                size = int(np.prod(variable.shape))
                variable.assign(theta[at : at + size].reshape(variable.shape))
                kernels += np.sum(theta[at : at + size] ** 2) * (len(variable.shape) > 1)
                at += size
            found, goal, gradients = compiled.differentiate(parts[part])
            assert value == pytest.approx(goal, rel=1e-6)
            assert goal - found == pytest.approx(1e-3 / 2 * kernels, rel=1e-4)
            flat = np.concatenate([g.ravel() for g in gradients])
            np.testing.assert_allclose(gradient, flat, rtol=1e-5, atol=1e-7)
            starts.append((found, goal))
    assert len(starts) == 3  # none of these iterations fails
    np.testing.assert_allclose((cost, objective), np.mean(starts, axis=0), rtol=1e-6)


@pytest.mark.parametrize("l2", [0.0, 1e-3])
def test_a_failed_step_may_answer_with_an_earlier_value(l2):
    """It has a cost: a pass with such a step is no divergence."""
    problem, parts = build(l2=l2), randomness.batch_order(0, 0, 60, 20)

    class Failing:
        nbytes = 0

        def __init__(self, f_df, theta, seed):
            self.theta = theta
            self.value, _ = f_df(theta, 0)
            self.other, _ = f_df(theta + 0.1, 1)

        def step(self):
            return self.value

    compiled, failing = loops.sum_of_functions(problem, Failing, parts, seed=0)
    cost, objective = compiled.train_epoch(parts)
    found, goal, _ = compiled.differentiate(parts[0])
    assert (cost, objective) == pytest.approx((found, goal), rel=1e-6)
    assert (cost < objective) == (l2 > 0)
    failing.value = np.nan  # what no evaluation gave is no number
    assert not np.isfinite(compiled.train_epoch(parts)).any()


def test_after_a_pass_the_model_has_sfos_parameters():
    problem = build()
    parts = randomness.batch_order(0, 0, 60, 20)
    method = optimizers.build("sfo", {"minibatches": 3}, 0)
    compiled, found = loops.sum_of_functions(problem, method, parts, seed=0)
    compiled.train_epoch(parts)
    flat = np.concatenate([np.asarray(v).ravel() for v in problem.model.trainable_variables])
    np.testing.assert_array_equal(flat, found.theta.astype(np.float32))


def test_a_resumed_run_of_sfo_gives_the_same_bits(record, tmp_path, interrupt):
    store = Store(tmp_path)
    interrupt(RUN, store, 4)
    resumed = training.train(RUN, store)
    assert resumed["manifest"]["resumed"]
    for name in ("training_cost", "objective", "held_out_cost"):
        assert resumed["metrics"][name] == record["metrics"][name], name


def test_a_checkpoint_of_another_sfo_is_left(record, tmp_path, interrupt):
    store = Store(tmp_path)
    interrupt(RUN, store, 4)
    good, metrics, *_ = store.load_checkpoint(RUN, lambda arrays: True)
    first = next(i for i, array in enumerate(good) if array.ndim == 2)
    cut = [array[:, :-1] if i == first else array for i, array in enumerate(good)]
    last = next(i for i in reversed(range(len(good))) if good[i].ndim == 2)
    other = [array[:-1] if i == last else array for i, array in enumerate(good)]
    for arrays in (good[:-1], cut, other):
        store.save_checkpoint(RUN, arrays, metrics)
        again = training.train(RUN, store)
        assert not again["manifest"]["resumed"]
        assert again["metrics"]["training_cost"] == record["metrics"]["training_cost"]
        assert "another version" in store.damaged[-1]


def test_a_run_that_does_not_fit_is_refused_in_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ADAM_TF_BUILD", str(tmp_path))
    monkeypatch.setattr(iterations, "available_memory", lambda: 10**6)
    options = ("--profile", "smoke", "--data", "stand-in", "--engine", "serial", "--arm", "SFO")
    code = main(["run", "fig2-sfo", *options])
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert code == 1
    assert "SFO needs" in error
    assert "use fewer, larger subfunctions" in error
    assert not list(tmp_path.glob("records/*.json"))


@pytest.mark.parametrize("value", [1, 2.5, True, "many"])
def test_bad_numbers_of_minibatches_are_refused(value):
    with pytest.raises(
        ValueError, match=r"minibatches=.* is not valid for sfo: use a whole number"
    ):
        optimizers.check_settings("sfo", {"minibatches": value})


def test_more_minibatches_than_examples_are_refused(tmp_path):
    run = dataclasses.replace(RUN, settings={"minibatches": 401})
    with pytest.raises(ValueError, match=r"minibatches=401 exceeds 400 examples"):
        training.train(run, Store(tmp_path))


def test_a_run_that_starts_beyond_numbers_is_recorded_as_diverged(tmp_path, monkeypatch):
    compile_loops = loops.compile_loops

    def broken(problem, optimizer, averages=None):
        def nothing(indices):
            gradients = [np.full(v.shape, np.nan) for v in problem.model.trainable_variables]
            return np.nan, np.nan, gradients

        return compile_loops(problem, optimizer, averages)._replace(differentiate=nothing)

    monkeypatch.setattr(loops, "compile_loops", broken)
    record = training.train(RUN, Store(tmp_path))
    assert (record["status"], record["diverged_at"]) == ("diverged", 0)
    assert record["metrics"]["training_cost"] == []


def test_averages_of_sfo_are_refused(tmp_path):
    run = dataclasses.replace(RUN, options={**RUN.options, "averages": 1.0})
    with pytest.raises(ValueError, match=r"averages=1\.0 is not valid with sfo"):
        training.train(run, Store(tmp_path))
