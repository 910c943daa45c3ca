"""What a bug report needs: versions, devices, data, kernel; and what is wrong."""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path

from experiments import paths
from experiments.data import catalogue, files
from experiments.engines import execution
from experiments.records.store import local_store
from experiments.training import runtime

PACKAGES = ("tensorflow", "keras", "numpy", "scipy", "pandas", "seaborn", "papermill", "nbconvert")
LOCK = paths.ROOT / "requirements.lock"


def report() -> int:
    """Print the findings; 1 if anything is wrong, else 0."""
    wrong: list[str] = []
    print(f"python: {sys.version.split()[0]} at {sys.executable}")
    locked = _locked()
    for package in PACKAGES:
        try:
            version = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            wrong.append(f"{package} is not installed; `make env` installs it")
            continue
        differs = locked.get(package, {version}) - {version} and version not in locked[package]
        print(f"{package}: {version}" + (" (not the locked version)" if differs else ""))
    print(f"commit: {runtime.commit()}")
    print(f"processor: {runtime.processor()}; {execution.default_workers()} worker processes")
    _devices(wrong)
    print(f"data folder: {files.root()}")
    for name in catalogue.DATASETS:
        states = {status.state for status in files.status(name)}
        print(f"data {name}: {', '.join(sorted(states))}")
        if "wrong size" in states:
            wrong.append(f"data {name} is damaged; `adam-study data verify {name}` says where")
    _kernel(wrong)
    store = local_store()
    try:
        store.check_writable()
        whole = sum(1 for _ in store.records())
        print(f"records: {whole} in {store.path}")
        wrong += (*store.damaged, *store.strangers())
    except OSError as error:
        wrong.append(str(error.strerror))
    for line in wrong:
        print(f"PROBLEM: {line}")
    print(f"problems: {len(wrong)}" if wrong else "nothing is wrong")
    return 1 if wrong else 0


def _locked() -> dict[str, set[str]]:
    """The locked versions by package; there may be one per Python version."""
    found: dict[str, set[str]] = {}
    if LOCK.exists():
        for line in LOCK.read_text(encoding="utf-8").splitlines():
            name, equals, rest = line.partition("==")
            if equals and not line.startswith(" "):
                found.setdefault(name, set()).add(rest.split()[0])
    return found


def _devices(wrong: list[str]) -> None:
    try:
        runtime.configure()
        manifest = runtime.manifest()
    except ImportError as error:
        wrong.append(f"TensorFlow does not start: {error}")
        return
    print(f"devices: {', '.join(manifest['devices'])}; backend {manifest['backend']}")
    if Path("/dev/nvidia0").exists() and manifest["devices"] == ["CPU"]:
        wrong.append("there is a GPU that TensorFlow does not see; install the `gpu` extra")


def _kernel(wrong: list[str]) -> None:
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

    try:
        spec = KernelSpecManager().get_kernel_spec("python3")
        print(f"kernel python3: {spec.argv[0]}")
    except NoSuchKernel:
        wrong.append("there is no Jupyter kernel python3; `make env` installs it")
