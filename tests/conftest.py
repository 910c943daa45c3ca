"""Fixtures of several files."""

from __future__ import annotations

import gc
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from commands import Command

import experiments.report  # noqa: F401 - before nbformat, whose import it makes quick
from experiments.records.store import Store
from experiments.study import Run

# Files that take minutes: a worker that took one last would keep the others waiting.
LONGEST = (
    *("test_published_again.py", "test_train.py", "test_reproduce.py", "test_loops.py"),
    "test_figures.py",
)
# What `make check` leaves out: files that train, or compile for many seconds, and those that run
# commands and notebooks from their start to their end.
SLOW = {
    "adam_tf": (
        *("test_averaging.py", "test_diagnostics.py", "test_docs.py", "test_javascript.py"),
        *("test_joined.py", "test_keras_features.py", "test_mutations.py", "test_paths.py"),
        *("test_peers.py", "test_precision.py", "test_properties.py", "test_saving.py"),
        *("test_sparse.py", "test_reports.py", "test_sharding.py", "test_groups.py"),
        "test_public_reports.py",
    ),
    "data": ("test_cifar10.py", "test_imdb.py"),
    "figures": ("test_explained.py",),
    "problems": ("test_architectures.py",),
    "report": ("test_explorer.py",),
    "training": (
        "test_averages.py",
        "test_divergence.py",
        "test_loops.py",
        "test_sfo_training.py",
        "test_train.py",
    ),
    "verify": ("test_command.py", "test_published_again.py"),
}
E2E = {
    "engines": (*("test_interrupted.py", "test_limits.py", "test_training.py", "test_workers.py"),),
    "records": ("test_store.py",),
    "report": ("test_notebooks.py",),
    "tests": ("test_reproduce.py", "test_extending.py", "test_examples.py"),
}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One worker more than cores: tests that start processes wait for a fifth of their time."""
    return len(os.sched_getaffinity(0)) + 1


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is slow, and start with the longest files; the rest stay in order."""
    for item in items:
        folder, name = item.path.parent.name, item.path.name
        if name in SLOW.get(folder, ()):
            item.add_marker(pytest.mark.slow)
        if name in E2E.get(folder, ()):
            item.add_marker(pytest.mark.e2e)
    rank = {name: i for i, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.name, len(rank)))


def pytest_collection_finish() -> None:
    """Leave what all tests have imported out of garbage collection: it takes a third of some."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def interrupt(monkeypatch) -> Callable[[Run, Store, int], None]:
    """Train a run and stop it at the end of a pass; the checkpoint is of the pass before."""
    from experiments.training import train as training

    class Stop(Exception):
        pass

    def interrupted(run: Run, store: Store, epoch: int) -> None:
        def stop(epochs: int) -> None:
            if epochs == epoch:
                raise Stop

        monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0.0)
        with pytest.raises(Stop):
            training.train(run, store, on_epoch=stop)

    return interrupted


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A browser, closed at the end of the file; skips where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("neither chromium nor google-chrome is installed")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def build(tmp_path, monkeypatch) -> Path:
    """An empty build folder; no data."""
    monkeypatch.setenv("ADAM_TF_BUILD", str(tmp_path / "build"))
    monkeypatch.setenv("ADAM_TF_DATA", str(tmp_path / "no data"))
    return tmp_path / "build"


@pytest.fixture
def command(tmp_path) -> Command:
    """The command line with made-up training."""
    return Command(tmp_path)
