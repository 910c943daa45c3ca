"""What Ray runs on the nodes of a cluster: actors that train, and the board they report to."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import os
import platform
import time
from pathlib import Path
from typing import Any

from experiments.data import catalogue, download, files
from experiments.engines import pool, runs
from experiments.paths import ROOT, build_folder
from experiments.records.locks import NoLocks
from experiments.records.store import Store
from experiments.study import Run

TELL_SECONDS = 1.0  # between reports on how far a run is
PACKAGES = ("keras", "numpy", "scipy", "tensorflow", "jax", "ray")


@functools.cache
def facts() -> dict[str, str]:
    """What determines a run's numbers on this machine: the code, the lock file and the packages."""
    code = hashlib.sha256()
    for folder in ("adam_tf", "experiments"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            code.update(name.encode() + b"\0" + path.read_bytes() + b"\0")
    lock = hashlib.sha256()
    with contextlib.suppress(FileNotFoundError):
        lock.update((ROOT / "requirements.lock").read_bytes())
    versions = {}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    python = ".".join(platform.python_version_tuple()[:2])
    return {
        "code": code.hexdigest()[:12],
        "requirements.lock": lock.hexdigest()[:12],
        "python": python,
        **versions,
    }


class Board:
    """Where nodes report how many passes their runs have."""

    def __init__(self) -> None:
        self.known: dict[str, tuple[int, int]] = {}

    def tell(self, key: str, begun: int, passes: int) -> None:
        """Take note of a run's passes.

        Args:
            key: names the try of the run.
            begun: its passes when it had its first one in this try.
            passes: its passes now.
        """
        self.known[key] = begun, passes

    def passes(self) -> dict[str, tuple[int, int]]:
        """The passes of all tries so far: `begun` and `passes`."""
        return self.known


class Trainer:
    """A process on a node, which trains what it is given.

    Args:
        environment: variables to set, before anything is imported that reads them.
        gpu: whether it has a GPU, or a share of one.
        data: the folder that holds the data on the driver; used if this node has it too. "" if the
            driver uses the default one.
    """

    def __init__(self, environment: dict[str, str], gpu: bool, data: str = "") -> None:
        os.environ.update(environment)
        if not gpu:
            os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
        self.lacks = data and not os.path.isdir(data)
        self.data = data
        if data and not self.lacks:
            os.environ["ADAM_TF_DATA"] = data

    def differences(self, theirs: dict[str, str]) -> str:
        """How this node differs from the machine that asks, in one line; "" if it doesn't."""
        ours = facts()
        found = [
            f"{name} is {ours.get(name, 'missing')}, not {theirs.get(name, 'missing')}"
            for name in dict.fromkeys((*theirs, *ours))
            if ours.get(name) != theirs.get(name)
        ]
        if not found:
            return ""
        return (
            f"it differs from this machine: {'; '.join(found)}; give it the same checkout and "
            "`make env`"
        )

    def train(
        self, config: dict[str, Any], folder: str, keep: bool, board: Any, key: str
    ) -> dict[str, Any]:
        """Train a run.

        Args:
            config: the run's.
            folder: the driver's, for checkpoints.
            keep: whether its last state is kept for a longer run to continue.
            board: a `Board` actor that is told of its passes.
            key: names this try there.

        Returns:
            The record, or what went wrong with the run ("failed") or with this node ("stop"), with
            notes and this process's memory in MB.
        """
        from experiments.training.runtime import memory_mb

        run = Run.from_config(config)
        begun, told = 0, 0.0

        def tell(passes: int) -> None:
            nonlocal begun, told
            begun = begun or passes
            if time.monotonic() - told > TELL_SECONDS:
                told = time.monotonic()
                board.tell.remote(key, begun, passes)

        found: dict[str, Any]
        notes: list[str] = []
        try:
            store = Store(_checkpoints(folder))
            notes = store.damaged
            _fetch(run.data)
            found = _answer(run, store, keep, runs.attempt(run, store, keep, tell))
        except (OSError, ValueError) as error:  # this node's fault: other runs would fail too
            found = {"stop": self._fault(error)}
        return {**found, "notes": tuple(notes), "megabytes": memory_mb()}

    def _fault(self, error: Exception) -> str:
        """What is wrong with this node, in one line."""
        words = " ".join(str(error).split())
        if isinstance(error, OSError) and error.strerror:
            words = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
        if isinstance(error, files.DataError) and self.lacks:
            words += f"; nor has it the folder {self.data}, which holds the data here"
        return words


def _answer(
    run: Run, store: Store, keep: bool, record: dict[str, Any] | runs.Failure
) -> dict[str, Any]:
    """What goes back to the driver."""
    if not isinstance(record, runs.Failure):
        if not keep:
            store.drop_checkpoint(run)
        return {"record": record, "keep": keep}
    if record.machine:
        return {"stop": f"it can't train: {record.reason}; `make env` there mends its packages"}
    return {"failed": record.reason, "trace": record.trace, "memory": record.memory}


@functools.cache
def _checkpoints(folder: str) -> Path:
    """Where this node keeps checkpoints: the driver's folder if it exists here, else its own."""
    if os.path.isdir(folder) and os.access(folder, os.W_OK):
        return Path(folder)
    return build_folder() / "records"


@functools.cache
def _fetch(data: str) -> None:
    """Download a data set that this node lacks, once for all its processes, and verify it."""
    if data not in catalogue.DATASETS:
        return
    while not files.available(data):
        try:
            with Store(files.root()).claim("fetch") as first:
                if first:
                    download.fetch(data, progress=False)
                    return
        except NoLocks:  # several processes download the same files, each of which appears whole
            break
        time.sleep(pool.POLL_SECONDS)
    download.fetch(data, progress=False)
