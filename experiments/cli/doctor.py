"""What a bug report needs: versions, devices, data, kernel, and what is wrong with them."""

from __future__ import annotations

import importlib.metadata
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from experiments import paths
from experiments.data import catalogue, files
from experiments.engines import execution
from experiments.records.store import local_store
from experiments.training import runtime

PACKAGES = ("tensorflow", "keras", "numpy", "scipy", "pandas", "seaborn", "papermill", "nbconvert")
LOCK = paths.ROOT / "requirements.lock"


def report(as_json: bool = False) -> int:
    """Print the findings; 1 if anything is wrong, else 0."""
    found, wrong = findings()
    if as_json:
        print(json.dumps({**found, "problems": wrong}, indent=1))
        return 1 if wrong else 0
    for name, value in found.items():
        for line in _lines(name, value):
            print(line)
    for line in wrong:
        print(f"PROBLEM: {line}")
    print(f"problems: {len(wrong)}" if wrong else "nothing is wrong")
    return 1 if wrong else 0


def _lines(name: str, value: Any) -> Iterator[str]:
    """A finding in words."""
    if name == "packages":
        for package, about in value.items():
            odd = "" if about["as locked"] else " (not the locked version)"
            yield f"{package}: {about['version']}{odd}"
    elif name == "data":
        for data_set, states in value.items():
            yield f"data {data_set}: {', '.join(states)}"
    elif name == "records":
        yield f"records: {value['whole']} in {value['folder']}"
    else:
        yield f"{name}: {', '.join(value) if isinstance(value, list) else value}"


def findings() -> tuple[dict[str, Any], list[str]]:
    """What a bug report needs, by name, and the problems found, one line each."""
    wrong: list[str] = []
    found: dict[str, Any] = {
        "python": f"{sys.version.split()[0]} at {sys.executable}",
        "packages": {},
    }
    locked = _locked()
    for package in PACKAGES:
        try:
            version = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            wrong.append(f"{package} is not installed; `make env` installs it")
            continue
        right = version in locked.get(package, {version})
        found["packages"][package] = {"version": version, "as locked": right}
    found["commit"] = runtime.commit()
    found["processor"] = f"{runtime.processor()}; {execution.default_workers()} worker processes"
    if devices := _devices(wrong):
        found["devices"] = devices
    found["data folder"] = str(files.root())
    found["data"] = {}
    for name in catalogue.DATASETS:
        states = sorted({status.state for status in files.status(name)})
        found["data"][name] = states
        if "wrong size" in states:
            wrong.append(f"data {name} is damaged; `adam-study data verify {name}` says where")
    if kernel := _kernel(wrong):
        found["kernel python3"] = kernel
    store = local_store()
    try:
        store.check_writable()
        whole = sum(1 for _ in store.records())
        found["records"] = {"whole": whole, "folder": str(store.path)}
        wrong += (*store.damaged, *store.foreign_files())
    except OSError as error:
        wrong.append(str(error.strerror))
    return found, wrong


def _locked() -> dict[str, set[str]]:
    """The locked versions by package; there may be one per Python version."""
    found: dict[str, set[str]] = {}
    if LOCK.exists():
        for line in LOCK.read_text(encoding="utf-8").splitlines():
            name, equals, rest = line.partition("==")
            if equals and not line.startswith(" "):
                found.setdefault(name, set()).add(rest.split()[0])
    return found


def _devices(wrong: list[str]) -> str:
    try:
        runtime.configure()
        manifest = runtime.manifest()
    except ImportError as error:
        wrong.append(f"TensorFlow does not start: {error}")
        return ""
    if Path("/dev/nvidia0").exists() and manifest["devices"] == ["CPU"]:
        wrong.append("there is a GPU that TensorFlow does not see; install the `gpu` extra")
    return f"{', '.join(manifest['devices'])}; backend {manifest['backend']}"


def _kernel(wrong: list[str]) -> str:
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

    try:
        return KernelSpecManager().get_kernel_spec("python3").argv[0]
    except NoSuchKernel:
        wrong.append("there is no Jupyter kernel python3; `make env` installs it")
        return ""
