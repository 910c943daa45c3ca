"""The engines train: killed and resumed runs have the bits of whole ones."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from commands import DATA, PATIENCE, STUDY

from experiments import study
from experiments.analysis import results as analysis
from experiments.paths import ROOT
from experiments.records.store import Store
from experiments.training import train as training

if sys.platform == "win32":
    pytest.skip("signals and pseudo-terminals of POSIX", allow_module_level=True)

# --- real training --------------------------------------------------------------------------------

TRAINING = """\
import os, signal, sys
from pathlib import Path
import numpy as np
from experiments.engines import execution; from experiments.training import train as training
from experiments.data import arrays, mnist
from experiments.records.store import Store
from experiments.study import Run

training.CHECKPOINT_SECONDS = 0.0
save = Store.save_checkpoint


def load(kind):
    noise = np.random.default_rng(0)
    images, labels = noise.integers(0, 256, (800, 28, 28), np.uint8), noise.integers(0, 10, 800)
    labels = labels.astype(np.uint8)
    return arrays.Arrays(images[:640], labels[:640], images[640:], labels[640:])


def save_and_die(self, run, arrays, metrics, *rest):
    save(self, run, arrays, metrics, *rest)
    if len(metrics["training_cost"]) == 3 and run.optimizer in os.environ.get("KILL", "").split():
        os.kill(os.getpid(), signal.SIGKILL)


def runs():
    for optimizer, rate in (("adam", 0.001), ("sgd_nesterov", 1e30), ("adagrad", 0.01)):
        yield Run(
            "mnist_logistic_regression",
            {"train_examples": 640, "held_out_examples": 160, "l2": 1e-4}, "mnist-stand-in",
            optimizer, {"learning_rate": rate, "decay": "sqrt_step"}, 128, 5, 7,
        )
    yield Run(
        "mnist_variational",
        {"train_examples": 640, "held_out_examples": 160, "hidden": 8, "latent": 2},
        "mnist-stand-in", "adamax", {"learning_rate": 0.001}, 128, 5, 7,
    )


mnist.load = load
Store.save_checkpoint = save_and_die
if __name__ == "__main__":
    engine, folder = sys.argv[1:]
    with execution.ENGINES[engine](Path(folder), execution.Options(2)) as train_all:
        for result in train_all(list(runs())):
            print(result.run.optimizer, result.end, *result.notes)
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> dict[str, Path]:
    """The same runs, serial and uninterrupted, and in processes that are killed in the middle."""
    folder = tmp_path_factory.mktemp("training")
    script = folder / "driver.py"
    script.write_text(TRAINING)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    def start(engine: str, name: str, **more: str) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, str(script), engine, str(folder / name)],
            env={**environment, **more},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    for process in (start("processes", "killed", KILL="adam adamax"), start("serial", "whole")):
        out, err = process.communicate(timeout=6 * PATIENCE)
        assert process.returncode == 0, err
        assert "sgd_nesterov diverged in pass 0" in out
        assert out.count("it was tried once more") == (2 if "processes" in process.args else 0)
    assert not list((folder / "killed").glob("*.checkpoint"))
    return {name: folder / name for name in ("whole", "killed")}


def test_engines_and_resumed_runs_give_the_same_bits(trained):
    whole, resumed = Store(trained["whole"]), Store(trained["killed"])
    assert whole.ids() == resumed.ids()
    assert len(whole.ids()) == 4
    continued = []
    for run_id in whole.ids():
        a, b = whole.get(run_id), resumed.get(run_id)
        assert a["config"] == b["config"]
        assert a["status"] == b["status"]
        assert list(a["metrics"]) == list(b["metrics"])
        assert set(training.METRICS) - set(a["metrics"]) <= {"held_out_accuracy"}
        for name in set(a["metrics"]) - {"seconds"}:
            assert repr(a["metrics"][name]) == repr(b["metrics"][name])
        assert not a["manifest"]["resumed"]
        if b["manifest"]["resumed"]:
            continued.append(b["config"]["optimizer"])
            assert len(b["metrics"]["training_cost"]) == 5
    assert sorted(continued) == ["adam", "adamax"]


def test_a_diverged_run_is_a_result(trained):
    records = Store(trained["whole"])
    found = {records.get(i)["config"]["optimizer"]: records.get(i) for i in records.ids()}
    assert found["sgd_nesterov"]["status"] == "diverged"
    assert found["sgd_nesterov"]["diverged_at"] == 0
    assert study.final_cost(found["sgd_nesterov"]) == math.inf
    for name in ("adam", "adagrad"):
        assert found[name]["status"] == "finished"
        assert len(found[name]["metrics"]["training_cost"]) == 5


def test_a_study_with_diverged_runs_completes(command):
    """The largest learning rates diverge, and one matched run of two; selection avoids them."""
    command.change(
        """
        def diverge(run, records, on_epoch=None, keep=False, whole=train):
            record = whole(run, records, on_epoch)
            matched = run.optimizer == "adagrad" and run.seed == 1
            if run.settings["learning_rate"] >= 0.1 or matched:
                cut = {name: values[:1] for name, values in record["metrics"].items()}
                record |= {"status": "diverged", "diverged_at": 1, "metrics": cut}
            return record
        training.train = diverge
        """
    )
    code, out, err = command()
    assert code == 0
    assert "diverged in pass 1" in err
    records = Store(command.records)
    found = analysis.results(STUDY, "smoke", DATA, records)
    assert not found.plan.missing(records)
    assert not found.plan.later
    assert all(rate["learning_rate"] < 0.1 for rate in found.plan.selected.values())
    trials = found.trials()
    big = trials["learning_rate"] >= 0.1
    assert big.any()
    assert (trials["final_cost"][big] == math.inf).all()
    assert trials["final_cost"][~big].map(math.isfinite).all()
    costs = found.matrix("matched", "AdaGrad")
    assert costs.loc[1].tolist()[1] == math.inf
    code, out, _ = command("claims", "--profile", "smoke", "--data", "stand-in", "--json")
    assert code == 0
    assert json.loads(out)
