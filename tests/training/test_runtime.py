"""What a user has configured for other work decides nothing here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from unittest import mock

import pytest

from experiments.training import runtime

SETTINGS = {
    "floatx": "float64",
    "epsilon": 1e-3,
    "backend": "jax",
    "image_data_format": "channels_first",
}
TRAINED = """
from experiments.training import runtime
runtime.configure()
import json, keras
from experiments.problems import registry
options = {"train_examples": 100}
model = registry.build("mnist_logistic_regression", "mnist-stand-in", options, seed=0).model
print(json.dumps([
    keras.backend.backend(), keras.config.floatx(), keras.config.epsilon(),
    keras.config.image_data_format(), keras.config.max_epochs(),
    keras.config.dtype_policy().name, model.trainable_variables[0].dtype,
    runtime.manifest()["precision"],
]))
"""


def test_keras_is_set_as_the_studies_need_it(tmp_path):
    (tmp_path / "keras.json").write_text(json.dumps(SETTINGS))
    env = {k: v for k, v in os.environ.items() if k not in ("KERAS_BACKEND", "KERAS_FLOATX")}
    env |= {"KERAS_HOME": str(tmp_path), "KERAS_MAX_EPOCHS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", TRAINED], env=env, cwd=runtime.ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout.splitlines()[-1]) == [
        *("tensorflow", "float32", 1e-7, "channels_last", None, "float32", "float32", "float32")
    ]


@pytest.mark.parametrize(
    ("name", "installed", "message"),
    [
        ("torch", ("tensorflow", "jax"), "KERAS_BACKEND=torch can't train here: use tensorflow or"),
        ("Jax", ("jax",), "KERAS_BACKEND=Jax can't train here: use tensorflow or jax"),
        ("jax", ("tensorflow",), "can't train: jax is not installed; use tensorflow"),
        ("jax", (), "can't train: jax is not installed; `make env` installs tensorflow"),
    ],
)
def test_a_backend_that_cannot_train_is_one_line(monkeypatch, capsys, name, installed, message):
    from experiments.cli.main import main

    monkeypatch.setenv("KERAS_BACKEND", name)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name in installed or None)
    assert main(["run", "fig1-mnist", "--profile", "smoke", "--data", "stand-in"]) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert said.err.count("\n") == 1
    assert said.out == ""


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A git repository; where the project is said to lie is up to the test."""
    for name in ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"):
        monkeypatch.setenv(name, os.devnull)
    identity = ("-c", "user.name=x", "-c", "user.email=x@example.org")
    for arguments in (["init", "-q"], [*identity, "commit", "-q", "--allow-empty", "-m", "x"]):
        subprocess.run(["git", "-C", tmp_path, *arguments], check=True)
    runtime.commit.cache_clear()
    yield tmp_path
    runtime.commit.cache_clear()


def test_the_commit_is_that_of_the_project(repository, monkeypatch):
    monkeypatch.setattr(runtime, "ROOT", repository)
    head = runtime._git("rev-parse", "HEAD")
    assert runtime.commit() == head[:12]
    (repository / "adam_tf").mkdir()
    (repository / "adam_tf" / "new.py").touch()
    runtime.commit.cache_clear()
    assert runtime.commit() == head[:12] + "+"


@pytest.mark.parametrize("through_variables", [False, True])
def test_the_commit_of_a_repository_around_the_project_is_not_ours(
    repository, monkeypatch, tmp_path_factory, through_variables
):
    if through_variables:  # as in a hook of that repository
        monkeypatch.setattr(runtime, "ROOT", tmp_path_factory.mktemp("unpacked"))
        monkeypatch.setenv("GIT_DIR", str(repository / ".git"))
        monkeypatch.setenv("GIT_WORK_TREE", str(repository))
    else:
        (repository / "unpacked").mkdir()
        monkeypatch.setattr(runtime, "ROOT", repository / "unpacked")
    assert runtime.commit() == "unknown"


# --- a GPU, which runs may share ------------------------------------------------------------------


def test_on_every_gpu_memory_grows_with_need(monkeypatch):
    """TensorFlow would take all memory of a GPU for the first of the runs that share it."""
    tensorflow = mock.MagicMock()
    tensorflow.config.list_physical_devices.side_effect = {"GPU": ["first", "second"]}.get
    monkeypatch.setitem(sys.modules, "tensorflow", tensorflow)
    runtime._configure_tensorflow(threads=1)
    grown = tensorflow.config.experimental.set_memory_growth.call_args_list
    assert grown == [mock.call("first", True), mock.call("second", True)]


def test_jax_takes_no_memory_in_advance(monkeypatch):
    monkeypatch.setitem(sys.modules, "jax", mock.MagicMock())
    for name in ("XLA_FLAGS", "XLA_PYTHON_CLIENT_PREALLOCATE", "TF_CPP_MIN_LOG_LEVEL"):
        monkeypatch.setenv(name, "")  # which puts it back afterwards
        monkeypatch.delenv(name)
    runtime._configure_jax(threads=1)
    assert os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] == "false"
