"""What every engine does with one run: claim it, train it, store its record, say how it ended."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from experiments.data.files import DataError
from experiments.records.store import Store
from experiments.study import Run, describe
from experiments.words import counted

FEWER = "--workers 1 needs the least"  # memory, where processes share this machine's
# What libraries say of a memory that is full, beside TensorFlow's own kind of error.
FULL = ("RESOURCE_EXHAUSTED", "CUDA_ERROR_OUT_OF_MEMORY", "CUDNN_STATUS_ALLOC_FAILED")


@dataclass(frozen=True)
class Options:
    """How an engine works.

    Attributes:
        workers: how many runs train at once.
        timeout: seconds that a run may take before it is given up; a day is more than any takes.
        address: of a Ray cluster; None starts Ray on this machine.
        gpus: the share of a GPU that a run on Ray takes, 0 for none; None takes a whole one if the
            cluster has any.
    """

    workers: int
    timeout: float = 86_400.0
    address: str | None = None
    gpus: float | None = None


@dataclass(frozen=True)
class Result:
    """How a run ended.

    Attributes:
        run: the run.
        end: how it ended, in words.
        seconds: how long it took here; 0 if another process trained it.
        notes: what to report about it, one line each: files that were ignored, a second try.
        failed: whether there is no record of it.
    """

    run: Run
    end: str
    seconds: float = 0.0
    notes: tuple[str, ...] = ()
    failed: bool = False


class RunsFailed(RuntimeError):
    """Runs that could not be trained, one line each; all others were."""

    def __init__(self, lines: Sequence[str]) -> None:
        super().__init__("\n".join(lines))
        self.lines = tuple(lines)


def ignore(run: Run, passes: int) -> None:
    """A callback that does nothing after a pass, for callers that need no news."""


class Train(Protocol):
    """Trains runs; keeps the last state of those whose ids are in `keep`, for longer runs.

    After each pass of a run, `on_pass` is told the run and how many passes it has.
    """

    def __call__(
        self,
        runs: Sequence[Run],
        keep: Collection[str] = (),
        on_pass: Callable[[Run, int], None] = ignore,
    ) -> Iterator[Result]:
        """The results, in the order in which the runs finish; see the class for the arguments."""


Engine = Callable[[Path, Options], AbstractContextManager[Train]]


def name(run: Run) -> str:
    """A run in words."""
    return f"{run.optimizer} {describe(run.settings)} seed {run.seed}"


def train_and_store(
    run: Run,
    folder: Path,
    keep: bool = False,
    on_epoch: Callable[[int], None] | None = None,
    advice: str = FEWER,
) -> Result | None:
    """Train a run unless it has a record; None if another process trains its lineage.

    If it could not be trained, `ID.failed` in the folder has the full traceback.

    Args:
        run: the run.
        folder: where its record is or will be.
        keep: whether its last state is kept for a longer run to continue.
        on_epoch: called with the number of passes done, after each.
        advice: what to do if a memory was full.

    Raises:
        OSError: its record can't be written, or a file can't be read: other runs would fail too.
        DataError: its data are damaged.
    """
    store = Store(folder)
    with store.claim(run.lineage) as claimed:
        if not claimed:
            return None
        record = store.get(run.id)
        seconds = 0.0
        if record is None:
            trained = attempt(run, store, keep, on_epoch)
            if isinstance(trained, Failure):
                return failed(run, store, trained, tuple(store.damaged), advice)
            store.drop_failure(run)
            record = trained
            store.put(record)
            if not keep:
                store.drop_checkpoint(run)
            seconds = record["manifest"]["wall_seconds"]
    return Result(run, end(record), seconds, tuple(store.damaged))


@dataclass(frozen=True)
class Failure:
    """Why a run has no record.

    Attributes:
        reason: what went wrong, in one line.
        trace: the traceback.
        memory: which memory was full, as in `full_memory`.
        machine: whether a package can't be imported, so that no run can be trained here.
    """

    reason: str
    trace: str
    memory: str = ""
    machine: bool = False


def failed(
    run: Run, store: Store, why: Failure, notes: tuple[str, ...], advice: str = FEWER
) -> Result:
    """The result of a run that failed; it names the file that gets the traceback.

    Args:
        run: the run.
        store: where the file goes.
        why: what went wrong.
        notes: what else to report.
        advice: what to do if a memory was full.
    """
    path = store.write_failure(run, why.trace)
    reason = f"{why.reason}; {advice}" if why.memory and advice else why.reason
    return Result(run, f"{reason}; the traceback is in {path}", notes=notes, failed=True)


def attempt(
    run: Run, store: Store, keep: bool, on_epoch: Callable[[int], None] | None = None
) -> dict[str, Any] | Failure:
    """The record of a run, or what went wrong with it.

    Args:
        run: the run.
        store: holds checkpoints.
        keep: whether its last state is kept for a longer run to continue.
        on_epoch: called with the number of passes done, after each.

    Raises:
        OSError: a file can't be read or written: other runs would fail too.
        DataError: its data are damaged.
    """
    from experiments.training import train as training

    try:
        record: dict[str, Any] = training.train(run, store, on_epoch, keep=keep)
    except (OSError, DataError):
        raise
    except Exception as error:
        trace, machine = traceback.format_exc(), isinstance(error, ImportError)
        return Failure(reason(error), trace, full_memory(error), machine)
    return record


def full_memory(error: BaseException) -> str:
    """Which memory was full: "memory", that of the processor, "GPU memory", or "" if none was."""
    words, kind = str(error), type(error).__name__
    if isinstance(error, MemoryError):
        return "memory"
    if kind != "ResourceExhaustedError" and not any(word in words for word in FULL):
        return ""
    on_gpu = any(word in words for word in ("GPU", "CUDA", "CUDNN"))
    if not on_gpu and os.environ.get("KERAS_BACKEND") == "jax" and "jax" in sys.modules:
        on_gpu = sys.modules["jax"].default_backend() == "gpu"  # its message does not say
    return "GPU memory" if on_gpu else "memory"


def reason(error: BaseException) -> str:
    """An exception in one line."""
    words = " ".join(str(error).split())
    if memory := full_memory(error):
        return f"out of {memory}" + (f" ({words[:200]})" if words else "")
    return f"{type(error).__name__}: {words[:300]}" if words else type(error).__name__


def end(record: Mapping[str, Any]) -> str:
    """How a recorded run ended."""
    if record["status"] == "diverged":
        return f"diverged in pass {record['diverged_at']}"
    metrics = record["metrics"]
    if "training_cost" not in metrics:
        return counted(len(next(iter(metrics.values()), ())), "row")
    return f"cost {metrics['training_cost'][-1]:.4f}"
