"""What Ray runs on the nodes of a cluster: actors that train, and the board they report to."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import os
import platform
import socket
import time
from pathlib import Path
from typing import Any

from experiments.data import catalogue, download, files
from experiments.engines import pool, runs
from experiments.paths import ROOT, build_folder
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
        self.known: dict[str, int] = {}

    def tell(self, run_id: str, passes: int) -> None:
        """Take note of a run's passes."""
        self.known[run_id] = passes

    def passes(self) -> dict[str, int]:
        """The passes of all runs so far."""
        return self.known


class Trainer:
    """A process on a node, which trains what it is given."""

    def __init__(self, environment: dict[str, str], gpu: bool) -> None:
        os.environ.update(environment)
        if not gpu:
            os.environ["CUDA_VISIBLE_DEVICES"] = "-1"

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
            f"node {socket.gethostname()} differs from this machine: {'; '.join(found)}; give it "
            "the same checkout and `make env`"
        )

    def train(self, config: dict[str, Any], folder: str, keep: bool, board: Any) -> dict[str, Any]:
        """Train a run.

        Args:
            config: the run's.
            folder: the driver's, for checkpoints.
            keep: whether its last state is kept for a longer run to continue.
            board: a `Board` actor that is told of its passes.

        Returns:
            The record, or the reason why there is none, with notes and this process's memory in MB.
        """
        from experiments.training.runtime import memory_mb

        run, store = Run.from_config(config), Store(_checkpoints(folder))
        told = 0.0

        def tell(passes: int) -> None:
            nonlocal told
            if time.monotonic() - told > TELL_SECONDS:
                told = time.monotonic()
                board.tell.remote(run.id, passes)

        found: dict[str, Any]
        try:
            _fetch(run.data)
            record = runs.attempt(run, store, keep, tell)
        except (OSError, files.DataError) as error:  # this node's fault: other runs would fail too
            words = getattr(error, "strerror", None) or " ".join(str(error).split())
            found = {"stop": f"node {socket.gethostname()}: {words}"}
        else:
            if isinstance(record, runs.Failure):
                found = {"failed": record.reason, "trace": record.trace}
            else:
                found = {"record": record, "keep": keep}
                if not keep:
                    store.drop_checkpoint(run)
        return {**found, "notes": tuple(store.damaged), "megabytes": memory_mb()}


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
        with Store(files.root()).claim("fetch") as first:
            if first:
                download.fetch(data, progress=False)
                return
        time.sleep(pool.POLL_SECONDS)
    download.fetch(data, progress=False)
