"""Every example in README and docs/ is executed; training is made up, and nothing is downloaded."""

from __future__ import annotations

import math
import os
import re
import shlex
import shutil
import subprocess

import pytest

from experiments import pages
from experiments.cli.main import _parse, main
from experiments.data import download
from experiments.engines import execution
from experiments.paths import ROOT
from experiments.plan import plan
from experiments.records.store import Store
from experiments.studies import STUDIES
from experiments.training import runtime
from experiments.training import train as training

TEXTS = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
}
FENCES = [
    (name, kind, text)
    for name, whole in TEXTS.items()
    for kind, text in re.findall(r"^```(\w*)\n(.*?)^```$", whole, re.MULTILINE | re.DOTALL)
]
LINES = [
    line.removeprefix(".venv/bin/")
    for name, kind, text in FENCES
    if not kind and name != "docs/extending.md"  # test_extending.py follows that page
    for line in text.splitlines()
]
STUDY_LINES = sorted({line for line in LINES if line.startswith("adam-study ")})
MAKE_LINES = sorted(
    {line for line in LINES if line.startswith("make ")}
    | {found for text in TEXTS.values() for found in re.findall(r"`(make [^`]+)`", text)}
)


def made_up(run, store, on_epoch=None, keep=False):
    cost = 0.1 + abs(math.log10(run.settings.get("learning_rate", 0.03)) + 1.5) + run.seed / 1e6
    metrics = {name: [2 * cost, *[cost] * (run.epochs - 1)] for name in training.METRICS}
    manifest = {"wall_seconds": 0.5, "started": "2026-01-01T00:00:00+00:00"}
    return {
        "config": run.config(),
        "status": "finished",
        "diverged_at": None,
        "metrics": metrics,
        "manifest": manifest,
    }


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a little of everything that the examples name."""
    folder = tmp_path_factory.mktemp("examples")
    results, here = folder / "results", folder / "here"
    for target in (results, *(folder / "Downloads" / f"results-{who}" for who in ("ann", "bob"))):
        target.mkdir(parents=True)
        for name in ("fig1-mnist", "fig1-imdb", "sec7-logistic"):
            shutil.copy(ROOT / "results" / f"{name}.parquet", target)
    here.mkdir()
    for other in (folder / "theirs" / "build" / "records", here / "build" / "cloud"):
        store = Store(other)
        store.put(made_up(plan(STUDIES["fig1-mnist"], "smoke", "mnist", store).runs()[0], store))

    def no_network(name, progress=True):
        raise download.DownloadError("no network in tests")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pages, "RESULTS", results)
        patch.setattr(training, "train", made_up)
        patch.setattr(download, "fetch", no_network)
        patch.setitem(execution.ENGINES, "processes", execution.ENGINES["serial"])
        patch.setattr(runtime, "configure", lambda *a: None)
        patch.setattr(runtime, "manifest", lambda: {"devices": ["CPU"], "backend": "none"})
        patch.setenv("HOME", str(folder))
        patch.setenv("ADAM_TF_BUILD", str(here / "build"))
        patch.setenv("ADAM_TF_DATA", str(folder / "data"))
        patch.chdir(here)
        yield here


@pytest.mark.parametrize("line", STUDY_LINES)
def test_a_command_does_what_its_page_shows(line, place, capfd):
    words = shlex.split(line)[1:]
    if "ray" in words:  # needs a cluster; what it is asked for is right
        assert _parse(words).engine == "ray"
        return
    words = [os.path.expanduser(word) for word in words]  # as a shell would
    assert main(words) == 0, capfd.readouterr().err
    assert capfd.readouterr().out


@pytest.mark.parametrize("line", MAKE_LINES)
def test_a_target_exists(line):
    command = ["make", "--dry-run", *shlex.split(line)[1:]]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_readme_compiles_a_model():
    (code,) = (text for name, kind, text in FENCES if (name, kind) == ("README.md", "python"))
    names: dict[str, object] = {}
    exec(code, names)
    assert names["model"].optimizer.epsilon == 1e-8


def test_the_recipes_run():
    import keras

    blocks = [
        text for name, kind, text in FENCES if (name, kind) == ("docs/optimizers.md", "python")
    ]
    assert blocks
    keras.utils.set_random_seed(0)  # which determinism, once on in this process, asks for
    for code in blocks:
        backbone = keras.layers.Dense(2, name="backbone_1")
        names: dict[str, object] = {"model": keras.Sequential([keras.Input((3,)), backbone])}
        exec(code, names)
        names["model"].fit(keras.ops.ones((4, 3)), keras.ops.ones((4, 2)), verbose=0)


def test_jupyterlab_starts_without_its_news(monkeypatch, tmp_path):
    settings = pytest.importorskip("jupyterlab_server.settings_utils")
    shown = subprocess.run(["make", "-n", "lab"], cwd=ROOT, capture_output=True, text=True).stdout
    monkeypatch.setenv("JUPYTER_CONFIG_PATH", re.search(r"JUPYTER_CONFIG_PATH=(\S+)", shown)[1])
    found, error = settings._get_overrides(str(tmp_path))
    assert not error
    news = found["@jupyterlab/apputils-extension:notification"]
    assert news == {"checkForUpdates": False, "fetchNews": "false"}


def test_every_kind_of_example_is_known():
    """Python, YAML and commands; whoever adds another kind says here how it is tested."""
    assert {kind for _, kind, _ in FENCES} <= {"", "python", "yaml", "bibtex"}
    begins = {line.split()[0] for line in LINES if line and not line.startswith(" ")}
    commands = {word for word in begins if re.fullmatch(r"[\w./-]+", word)}
    tree = {word for word in commands if word.endswith("/")}
    elsewhere = {"srun", "ray", "git", "gh", "pip", ".venv/bin/pip"}
    assert commands - tree - elsewhere == {"adam-study", "make"}
