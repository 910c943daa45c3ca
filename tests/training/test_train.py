"""Training does what it says: against NumPy, bit by bit on repetition, and against `results/`."""

from __future__ import annotations

import dataclasses
import math
import resource
from pathlib import Path

import numpy as np
import pytest

from experiments.analysis import claims
from experiments.analysis import results as analysis
from experiments.analysis.metrics import METRICS
from experiments.data import catalogue, mnist
from experiments.engines import execution
from experiments.plan import plan
from experiments.records.store import Store
from experiments.studies import STUDIES
from experiments.study import Run
from experiments.training import runtime
from experiments.training import train as training

DATA = "mnist-stand-in"
RUN = Run(
    problem="mnist_logistic_regression",
    options={"l2": 1e-2, "train_examples": 1_000},
    data=DATA,
    optimizer="adam",
    settings={"learning_rate": 0.01, "decay": "sqrt_epoch"},
    batch_size=128,
    epochs=3,
    seed=5,
)
METHODS = {
    "adam": {"learning_rate": 0.01, "decay": "sqrt_epoch", "beta_1": 0.8, "beta_2": 0.99},
    "adam, warmed up": {"learning_rate": 0.01, "beta_1": 0.8, "beta_2": 0.99, "warmup_steps": 10},
    "adamax": {"learning_rate": 0.01, "decay": "sqrt_step"},
    "sgd_nesterov": {"learning_rate": 0.05, "momentum": 0.9},
    "adagrad": {"learning_rate": 0.05, "decay": "sqrt_epoch"},
    "rmsprop": {"learning_rate": 0.003, "rho": 0.8},
    "adadelta": {"learning_rate": 2.0, "rho": 0.9, "epsilon": 1e-5, "decay": "sqrt_step"},
}


@pytest.fixture(scope="module", autouse=True)
def _tensorflow():
    runtime.configure()


def train(run: Run, tmp_path, **arguments):
    from experiments.training.train import train

    return train(run, Store(tmp_path), **arguments)


def numbers(record):
    """A record's metrics, but for the wall time."""
    return {name: values for name, values in record["metrics"].items() if name != "seconds"}


def softmax(scores):
    exponent = np.exp(scores - scores.max(axis=1, keepdims=True))
    return exponent / exponent.sum(axis=1, keepdims=True)


def oracle(run: Run):
    """The same training in float64 NumPy, written from the textbook formulas."""
    from experiments.randomness import batch_order

    arrays = mnist.load(run.data)
    n, l2 = run.options["train_examples"], run.options["l2"]
    x = arrays.x_train[:n].reshape(n, -1) / 255.0
    y = np.eye(10)[arrays.y_train[:n]]
    x_test = arrays.x_test.reshape(len(arrays.x_test), -1) / 255.0
    w, b = np.zeros((784, 10)), np.zeros(10)
    m, v = [np.zeros_like(w), np.zeros_like(b)], [np.zeros_like(w), np.zeros_like(b)]
    s, t = run.settings, 0
    rows = []
    for epoch in range(run.epochs):
        costs, objectives = [], []
        for batch in batch_order(run.seed, epoch, n, run.batch_size):
            t += 1
            p = softmax(x[batch] @ w + b)
            cost = -np.mean(np.log((p * y[batch]).sum(axis=1)))
            costs.append(cost)
            objectives.append(cost + l2 / 2 * np.sum(w * w))
            error = (p - y[batch]) / len(batch)
            gradients = [x[batch].T @ error + l2 * w, error.sum(axis=0)]
            decay = s.get("decay", "constant")
            rate = s["learning_rate"] / math.sqrt(
                {"constant": 1, "sqrt_epoch": epoch + 1, "sqrt_step": t}[decay]
            )
            rate *= min(1, t / s.get("warmup_steps", 1))
            for i, (theta, g) in enumerate(zip((w, b), gradients, strict=True)):
                if run.optimizer == "adam":
                    b1, b2 = s["beta_1"], s["beta_2"]
                    m[i] = b1 * m[i] + (1 - b1) * g
                    v[i] = b2 * v[i] + (1 - b2) * g * g
                    theta -= rate * (m[i] / (1 - b1**t)) / (np.sqrt(v[i] / (1 - b2**t)) + 1e-8)
                elif run.optimizer == "adamax":
                    m[i] = 0.9 * m[i] + 0.1 * g
                    v[i] = np.maximum(0.999 * v[i], np.abs(g))
                    step = np.divide(m[i], v[i], out=np.zeros_like(g), where=v[i] > 0)
                    theta -= rate / (1 - 0.9**t) * step
                elif run.optimizer == "sgd_nesterov":
                    m[i] = s["momentum"] * m[i] - rate * g
                    theta += s["momentum"] * m[i] - rate * g
                elif run.optimizer == "adagrad":
                    v[i] = v[i] + g * g
                    theta -= rate * g / (np.sqrt(v[i]) + 1e-8)
                elif run.optimizer == "rmsprop":
                    v[i] = s["rho"] * v[i] + (1 - s["rho"]) * g * g
                    theta -= rate * g / (np.sqrt(v[i]) + 1e-8)
                else:
                    rho, epsilon = s["rho"], s["epsilon"]
                    v[i] = rho * v[i] + (1 - rho) * g * g
                    step = np.sqrt(m[i] + epsilon) / np.sqrt(v[i] + epsilon) * g
                    m[i] = rho * m[i] + (1 - rho) * step * step
                    theta -= rate * step
        p = softmax(x_test @ w + b)
        held_out = -np.mean(np.log(p[np.arange(len(p)), arrays.y_test]))
        accuracy = np.mean(p.argmax(axis=1) == arrays.y_test)
        rows.append((np.mean(costs), np.mean(objectives), held_out, accuracy))
    return np.array(rows).T


@pytest.mark.parametrize("method", METHODS)
def test_a_run_is_the_textbooks_training(tmp_path, method):
    optimizer = method.partition(",")[0]
    run = dataclasses.replace(RUN, optimizer=optimizer, settings=METHODS[method])
    record = train(run, tmp_path)
    assert record["status"] == "finished"
    cost, objective, held_out, accuracy = oracle(run)
    metrics = record["metrics"]
    np.testing.assert_allclose(metrics["training_cost"], cost, rtol=2e-5)
    np.testing.assert_allclose(metrics["objective"], objective, rtol=2e-5)
    np.testing.assert_allclose(metrics["held_out_cost"], held_out, rtol=2e-5)
    np.testing.assert_allclose(metrics["held_out_accuracy"], accuracy, atol=5e-4)
    assert all(seconds > 0 for seconds in metrics["seconds"])


def test_the_first_cost_is_a_blind_guess(tmp_path):
    slow = {"learning_rate": 1e-12}
    record = train(dataclasses.replace(RUN, settings=slow, epochs=1), tmp_path)
    assert record["metrics"]["training_cost"][0] == pytest.approx(math.log(10), rel=1e-6)


def test_a_run_repeats_bit_by_bit_whatever_ran_before(tmp_path):
    first = train(RUN, tmp_path)
    train(dataclasses.replace(RUN, seed=6, optimizer="adagrad"), tmp_path)
    assert numbers(train(RUN, tmp_path)) == numbers(first)
    other = train(dataclasses.replace(RUN, seed=6), tmp_path)
    assert numbers(other) != numbers(first)


@pytest.mark.parametrize("stop", [1, 2])
def test_a_resumed_run_gives_the_same_bits(tmp_path, interrupt, stop):
    whole = train(RUN, tmp_path / "whole")
    interrupt(RUN, Store(tmp_path / "parts"), stop + 1)
    epochs = []
    resumed = train(RUN, tmp_path / "parts", on_epoch=epochs.append)
    assert epochs == list(range(stop + 1, RUN.epochs + 1))
    assert numbers(resumed) == numbers(whole)
    assert resumed["manifest"]["resumed"]
    assert not whole["manifest"]["resumed"]


@pytest.mark.parametrize("engine", ["processes", "serial"])
def test_a_longer_run_goes_on_where_a_shorter_one_ended(tmp_path, engine, interrupt):
    """Bit by bit, also when the longer one is interrupted in between; its record says so."""
    lengths = (1, 3, 6)
    rungs = [dataclasses.replace(RUN, epochs=epochs) for epochs in lengths]
    whole = train(rungs[-1], tmp_path / "whole")
    store = Store(tmp_path / "rungs")
    keep = {run.id for run in rungs[:-1]}
    with execution.ENGINES[engine](store.path, execution.Options(1)) as train_all:
        for run in rungs[:-1]:
            assert [result.run for result in train_all([run], keep)] == [run]
        interrupt(rungs[-1], store, 5)
        list(train_all([rungs[-1]], keep))
    records = [store.get(run.id) for run in rungs]
    for record, epochs in zip(records, lengths, strict=True):
        expected = {name: values[:epochs] for name, values in numbers(whole).items()}
        assert numbers(record) == expected
    assert "continues" not in records[0]["manifest"]
    assert records[1]["manifest"]["continues"] == {"run": rungs[0].id, "passes": 1}
    assert records[2]["manifest"]["continues"] == {"run": rungs[1].id, "passes": 3}
    assert not list(store.path.glob("*.checkpoint"))


def test_a_shorter_run_is_the_beginning_of_an_interrupted_longer_one(tmp_path, interrupt):
    store, long = Store(tmp_path), dataclasses.replace(RUN, epochs=6)
    whole = train(dataclasses.replace(RUN, epochs=2), tmp_path / "whole")
    interrupt(long, store, 5)
    trained = []
    record = training.train(dataclasses.replace(RUN, epochs=2), store, trained.append, keep=True)
    assert numbers(record) == numbers(whole)
    assert trained == []
    # The longer one still goes on from its own fourth pass.
    training.train(long, store, trained.append)
    assert trained == [5, 6]


def test_a_checkpoint_of_another_run_is_reported_and_ignored(tmp_path, interrupt):
    """A file under another run's name has a good checksum, and is still not that run's."""
    store, other = Store(tmp_path), dataclasses.replace(RUN, seed=6)
    interrupt(other, store, 2)
    (tmp_path / f"{other.lineage}.checkpoint").rename(tmp_path / f"{RUN.lineage}.checkpoint")
    record = training.train(RUN, store)
    assert numbers(record) == numbers(train(RUN, tmp_path / "fresh"))
    assert not record["manifest"]["resumed"]
    assert "it is another run's" in store.damaged[0]


def test_a_checkpoint_of_another_model_is_reported_and_ignored(tmp_path):
    store = Store(tmp_path)
    store.save_checkpoint(RUN, [np.zeros(3)], {"training_cost": [1.0]})
    from experiments.training.train import train

    record = train(RUN, store)
    assert not record["manifest"]["resumed"]
    assert len(record["metrics"]["training_cost"]) == RUN.epochs
    assert "another version" in store.damaged[0]


def test_a_diverging_run_is_recorded_at_its_epoch(tmp_path):
    settings = {"learning_rate": 1e38, "momentum": 0.9}
    record = train(dataclasses.replace(RUN, optimizer="sgd_nesterov", settings=settings), tmp_path)
    assert record["status"] == "diverged"
    assert record["diverged_at"] == len(record["metrics"]["training_cost"]) < RUN.epochs
    Store(tmp_path).put(record)
    assert (
        Store(tmp_path).get(record_id := RUN.from_config(record["config"]).id)["diverged_at"] == 0
    )
    assert record_id in Store(tmp_path).ids()


def test_batches_of_an_epoch_depend_on_seed_and_epoch_alone():
    from experiments.randomness import batch_order

    order = batch_order(3, 7, 1_000, 128)
    assert order.shape == (7, 128)
    assert len(set(order.ravel())) == 7 * 128
    assert order.min() >= 0
    assert order.max() < 1_000
    np.testing.assert_array_equal(order, batch_order(3, 7, 1_000, 128))
    assert (order != batch_order(3, 8, 1_000, 128)).any()
    assert (order != batch_order(4, 7, 1_000, 128)).any()
    with pytest.raises(ValueError, match="batch_size=1001 exceeds 1000 examples"):
        batch_order(0, 0, 1_000, 1_001)


def test_every_image_is_seen_in_some_pass():
    from experiments.randomness import batch_order

    seen = np.unique(np.concatenate([batch_order(0, e, 1_000, 128).ravel() for e in range(8)]))
    assert len(seen) == 1_000


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 1_001}, "batch_size=1001 exceeds 1000 examples"),
        ({"options": {"train_examples": 60_001}}, "train_examples=60001 is not valid: use 1 to"),
        ({"options": {"train_examples": 0}}, "train_examples=0 is not valid"),
    ],
)
def test_impossible_sizes_are_refused(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        train(dataclasses.replace(RUN, **change), tmp_path)


def test_initial_weights_depend_on_the_seed_alone(tmp_path):
    options = {**RUN.options, "initial_stddev": 0.1}
    settings = {"learning_rate": 1e-12}
    costs = [
        train(
            dataclasses.replace(
                RUN, options=options, optimizer=o, settings=settings, seed=seed, epochs=1
            ),
            tmp_path,
        )["metrics"]["training_cost"]
        for o, seed in (("adam", 1), ("adagrad", 1), ("adam", 2))
    ]
    assert costs[0] == pytest.approx(costs[1], rel=1e-6)
    assert abs(costs[0][0] - costs[2][0]) > 1e-3


def test_runs_do_not_pile_up_in_memory(tmp_path):
    """The examples of a run (47 MB here) must go with it."""
    import gc

    run = dataclasses.replace(RUN, options={"train_examples": 60_000}, batch_size=6_000, epochs=1)

    def resident() -> float:
        gc.collect()
        pages_used = int(Path("/proc/self/statm").read_text().split()[1])
        return pages_used * resource.getpagesize() / 2**20

    train(run, tmp_path)
    train(run, tmp_path)
    before = resident()
    for seed in range(4):
        train(dataclasses.replace(run, seed=seed), tmp_path)
    assert resident() - before < 100


def test_the_manifest_says_what_ran(tmp_path):
    manifest = train(dataclasses.replace(RUN, epochs=1), tmp_path)["manifest"]
    assert {"commit", "python", "tensorflow", "keras", "numpy", "devices", "threads"} <= set(
        manifest
    )
    assert manifest["backend"] == "tensorflow"
    assert manifest["precision"] == "float32"
    assert manifest["steps_per_epoch"] == 7
    assert manifest["peak_memory_mb"] > 0


def test_the_code_that_trains_is_the_code_at_the_start(tmp_path, monkeypatch):
    """Whoever edits a file while a run is under way changes the next process, not this one."""
    states = {"--show-toplevel": str(runtime.ROOT), "HEAD": "0123456789abcdef", "adam_tf": ""}

    def git(*words):
        return next(states[word] for word in words if word in states)

    def edit(done):
        states["adam_tf"] = " M adam_tf/adam.py"

    monkeypatch.setattr(runtime, "_git", git)
    runtime.commit.cache_clear()
    record = train(RUN, tmp_path, on_epoch=edit)
    assert record["manifest"]["commit"] == "0123456789ab"
    runtime.commit.cache_clear()
    assert runtime.commit() == "0123456789ab+"
    runtime.commit.cache_clear()


def test_a_resumed_run_names_the_code_of_every_part(tmp_path, monkeypatch, interrupt):
    """Edited code that trained the first passes does not turn into clean code by a resumption."""
    store = Store(tmp_path)
    for passes, commit in ((2, "0123456789ab+"), (3, "ba9876543210")):
        monkeypatch.setattr(runtime, "commit", lambda commit=commit: commit)
        interrupt(RUN, store, passes)
    record = training.train(RUN, store)
    assert record["manifest"]["resumed"]
    assert record["manifest"]["commit"] == "0123456789ab+; ba9876543210"


@pytest.mark.parametrize("name", [name for name, study in STUDIES.items() if study.measured])
def test_a_measurement_is_a_record_like_any(tmp_path, name):
    study = STUDIES[name]
    data = catalogue.stand_in(study.data_set)
    store = Store(tmp_path)
    for entry in plan(study, "smoke", data, store).entries:
        record = training.train(entry.run, store)
        lengths = {len(values) for values in record["metrics"].values()}
        assert len(lengths) == 1
        assert np.isfinite([*record["metrics"].values()]).all()
        assert record["manifest"]["precision"] == "float64"
        assert record["manifest"]["backend"] == "numpy"
        store.put(record)
        assert store.get(entry.run.id)["metrics"] == training.train(entry.run, store)["metrics"]
    found = analysis.results(study, "smoke", data, store)
    assert not found.missing
    for claim in claims.of(study):
        values = METRICS[claim.metric].compute(claim, "matched", found)
        assert len(values) == (claim.passes[0] < max(lengths)), claim.id
