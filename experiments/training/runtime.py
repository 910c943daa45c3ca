"""The process that trains: how it starts its backend, and how the records describe it."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from experiments.paths import ROOT
from experiments.records.origin import UNKNOWN

BACKENDS = ("tensorflow", "jax")
# Environment variables by which a user tells libraries to compute as on an older processor.
OLDER = (
    "TF_ENABLE_ONEDNN_OPTS",
    "ONEDNN_MAX_CPU_ISA",
    "NPY_DISABLE_CPU_FEATURES",
    "OPENBLAS_CORETYPE",
)


def backend() -> str:
    """Keras' backend, which `KERAS_BACKEND` names: tensorflow (the default) or jax.

    Raises:
        ValueError: when it names another one, or one that is not installed.
    """
    name = os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    if name not in BACKENDS:
        raise ValueError(f"KERAS_BACKEND={name} can't train here: use {' or '.join(BACKENDS)}")
    if importlib.util.find_spec(name) is None:
        others = [other for other in BACKENDS if importlib.util.find_spec(other)]
        advice = f"use {' or '.join(others)}" if others else "`make env` installs tensorflow"
        raise ValueError(f"KERAS_BACKEND={name} can't train: {name} is not installed; {advice}")
    return name


@functools.cache
def configure(threads: int = 1) -> None:
    """Import Keras and its backend in deterministic mode, quietly, with `threads` per process.

    Small models train fastest on one thread, and one thread leaves the other cores to other runs.
    Keras' settings are the studies', whatever the user's `keras.json` says: they affect the
    numbers, and a run's id does not cover them.

    Raises:
        ValueError: the backend can't be used (see `backend`).
    """
    if backend() == "jax":
        _configure_jax(threads)
    else:
        _configure_tensorflow(threads)
    with silence():  # even with JAX, Keras imports TensorFlow if that is installed
        import keras

    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")
    keras.config.set_image_data_format("channels_last")
    keras.config.set_epsilon(1e-7)
    keras.config.set_max_epochs(None)
    keras.config.set_max_steps_per_epoch(None)


def _configure_jax(threads: int) -> None:
    # JAX reads these when it starts; the user's own values stay.
    limits = f"--xla_cpu_multi_thread_eigen={str(threads > 1).lower()}"
    flags = f"{limits} --xla_gpu_deterministic_ops=true"
    os.environ.setdefault("XLA_FLAGS", flags)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # memory grows with need
    import jax

    jax.config.update("jax_default_matmul_precision", "float32")  # no TensorFloat-32


def _configure_tensorflow(threads: int) -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with silence():
        import tensorflow as tf

    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
        for device in tf.config.list_physical_devices("GPU"):
            tf.config.experimental.set_memory_growth(device, True)
    except RuntimeError:  # TensorFlow already runs, for example in a notebook that used it before
        pass
    # Every run compiles its own graphs, which TensorFlow takes for a mistake and warns about.
    tf.get_logger().setLevel("ERROR")
    tf.config.experimental.enable_tensor_float_32_execution(False)
    tf.config.experimental.enable_op_determinism()


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Drop what TensorFlow's C++ start-up writes to stderr, which no setting turns off.

    If the import fails, what it wrote is shown.
    """
    sys.stderr.flush()
    terminal = os.dup(2)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            yield
        except BaseException:
            file.seek(0)
            os.write(terminal, file.read())
            raise
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)


def manifest() -> dict[str, Any]:
    """Versions, commit, devices and precision of this process, for the record of a training."""
    import keras

    backend = keras.backend.backend()
    return {
        **numpy_manifest(),
        "keras": keras.__version__,
        "backend": backend,
        "precision": keras.config.floatx(),
        **(_describe_jax() if backend == "jax" else _describe_tensorflow()),
    }


def numpy_manifest() -> dict[str, Any]:
    """The same, for what NumPy alone computes."""
    import numpy as np

    return {
        "commit": commit(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "backend": "numpy",
        "precision": "float64",
        "deterministic": True,
        "platform": f"{platform.system()} {platform.machine()}",
        "processor": processor(),
        "kind": processor_kind(),
        "threads": 1,
        "devices": ["CPU"],
    }


def _describe_jax() -> dict[str, Any]:
    import jax

    return {
        "jax": jax.__version__,
        "tensor_float_32": jax.config.values["jax_default_matmul_precision"] != "float32",
        "threads": 1 if "multi_thread_eigen=false" in os.environ.get("XLA_FLAGS", "") else None,
        "devices": [device.device_kind for device in jax.devices()],
    }


def _describe_tensorflow() -> dict[str, Any]:
    import tensorflow as tf

    return {
        "tensorflow": tf.__version__,
        "tensor_float_32": tf.config.experimental.tensor_float_32_execution_enabled(),
        "threads": tf.config.threading.get_intra_op_parallelism_threads(),
        "devices": [_device_name(tf, device) for device in tf.config.list_physical_devices()],
    }


def _device_name(tf: Any, device: Any) -> str:
    if device.device_type != "GPU":
        return device.device_type
    return tf.config.experimental.get_device_details(device).get("device_name", "GPU")


@functools.cache
def commit() -> str:
    """The repository's commit, with "+" when the code differs from it; "unknown" outside git.

    Asked for when a run starts and kept, since a process goes on with the code that it has loaded.
    A repository that merely contains this folder says nothing about it.
    """
    try:
        if not ROOT.samefile(_git("rev-parse", "--show-toplevel")):
            return UNKNOWN
        head = _git("rev-parse", "HEAD")
        changed = _git("status", "--porcelain", "--", "adam_tf", "experiments")
    except (OSError, subprocess.CalledProcessError):
        return UNKNOWN
    return head[:12] + ("+" if changed else "")


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    # Within a hook of another repository, git's variables name that one.
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
    return done.stdout.rstrip("\n")


@functools.cache
def processor() -> str:
    """The processor's name."""
    try:
        for line in Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines():
            if line.startswith("model name"):
                return f"{line.split(':', 1)[1].strip()}, {os.cpu_count()} cores"
    except OSError:
        pass
    return f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"


def processor_kind() -> str:
    """Family, model and widest vectors, since a virtual machine's processor name says little."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    facts = dict(reversed([[part.strip() for part in x.split(":", 1)] for x in lines if ":" in x]))
    flags = facts.get("flags", "").split()
    widest = next((f for f in ("avx512f", "avx2", "avx", "sse4_2") if f in flags), "no vectors")
    names = ("vendor_id", "cpu family", "model")
    vendor, family, model = (facts.get(name, "?") for name in names)
    told = "; ".join(f"{name}={os.environ[name]}" for name in OLDER if os.environ.get(name))
    found = f"{vendor} family {family} model {model}, {widest}"
    return f"{found}, told to compute as an older one: {told}" if told else found


def peak_memory_mb() -> float:
    """Peak resident memory of this process, in MB; 0 where the system does not report it."""
    try:
        import resource
    except ImportError:
        return 0.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def memory_mb() -> float:
    """Resident memory of this process now, in MB; 0 where the system does not report it."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def shared_mb() -> float:
    """How many of `memory_mb` are files that processes share, such as libraries; 0 if unknown."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0.0
    kilobytes = (line.split()[1] for line in lines if line.startswith(("RssFile", "RssShmem")))
    return sum(map(int, kilobytes)) / 2**10
