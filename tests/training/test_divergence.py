"""A run whose numbers end is recorded as diverged, on every problem."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest

from experiments.problems.registry import PROBLEMS
from experiments.records.store import Store
from experiments.studies import STUDIES
from experiments.study import Run
from experiments.training import train as training

FEW: dict[str, Any] = {"train_examples": 64, "held_out_examples": 20}
TRANSFORMER = {"depth": 1, "heads": 2, "width": 8, "context": 8}
SMALL: dict[str, dict[str, Any]] = {
    "mnist_logistic_regression": {},
    "imdb_logistic_regression": {"dropout": 0.5},
    "mnist_multilayer": {"hidden": 16, "hidden_dropout": 0.5},
    "cifar10_convolutional": {"whitening": "none", "hidden_dropout": 0.5},
    "mnist_variational": {"hidden": 16, "latent": 3},
    "tinyshakespeare_gpt": TRANSFORMER,
    "tinyshakespeare_masked": TRANSFORMER,
    "cifar10_resnet": {"blocks": 1, "width": 2},
    "mnist_diffusion": {"width": 8},
    "imbalance": {"classes": 12, "dimensions": 5},
}


def test_every_problem_that_is_trained_is_here():
    assert set(SMALL) == {name for name, entry in PROBLEMS.items() if not entry.measured}


def test_a_run_that_diverges_is_recorded_before_its_stability_is_measured(tmp_path):
    study = STUDIES["stability-resnet"]
    run = study.run(
        study.arm("SGDNesterov"),
        {"learning_rate": 1e38, "momentum": 0.9},
        profile=study.profile("smoke"),
        data="cifar10-stand-in",
        seed=0,
    )
    assert run.options["stability"]
    record = training.train(run, Store(tmp_path))
    assert (record["status"], record["diverged_at"]) == ("diverged", 0)


@pytest.mark.parametrize("problem", SMALL)
def test_a_step_beyond_all_numbers_is_recorded_as_divergence(tmp_path, problem):
    run = Run(
        problem=problem,
        options={**dataclasses.asdict(PROBLEMS[problem].options()), **FEW, **SMALL[problem]},
        data="none" if problem == "imbalance" else f"{problem.partition('_')[0]}-stand-in",
        optimizer="sgd_nesterov",
        settings={"learning_rate": 1e38, "momentum": 0.9},
        batch_size=8,
        epochs=3,
        seed=0,
    )
    store = Store(tmp_path)
    record = training.train(run, store)
    assert (record["status"], record["diverged_at"]) == ("diverged", 0)
    assert all(values == [] for values in record["metrics"].values())
    assert math.isfinite(record["manifest"]["wall_seconds"])
    store.put(record)
    assert store.get(run.id)["status"] == "diverged"
