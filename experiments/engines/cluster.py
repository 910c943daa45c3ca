"""Ray: the cores and GPUs of many machines, or of this one.

The driver claims runs, hands them to actors and writes the records, which come back through Ray's
object store, so no shared folder is needed. Every node must have the same checkout at the same path
and the same locked packages; if one differs, the command names it and ends. A node keeps
checkpoints in the driver's build folder if it has that too, else in its own. If the folder is
shared, the runs of a lost node resume from them elsewhere; otherwise they start again. A run is
tried at most `TRIES` times.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from experiments.engines import node, pool, runs
from experiments.engines.runs import Options, Result, Train
from experiments.paths import ROOT
from experiments.records.store import Store
from experiments.study import Run

TRIES = 3
CONNECT_SECONDS = 30.0
LOOK_SECONDS = 5.0  # between checks of the cluster's size
QUIET_SECONDS = 60.0  # without a free node, after which a message says so
MEGABYTE = 1 << 20
# Ray sends no usage data and prints nothing unasked; its processes may start slowly on a busy
# machine, and those that train have the priority of the command.
SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_worker_register_timeout_seconds": "600",
    "RAY_worker_niceness": "0",
}


@contextlib.contextmanager
def ray(folder: Path, options: Options) -> Iterator[Train]:
    """Train on the Ray cluster at `options.address`, or on Ray started on this machine.

    Raises:
        ValueError: Ray is not installed; the cluster has no GPU and one is asked for; a node has
            another version of the code or of a package.
        ConnectionError: there is no such cluster, or it is gone.
    """
    try:
        library: Any = importlib.import_module("ray")
    except ImportError:
        raise ValueError(
            "--engine ray needs Ray, which is not installed; in a checkout: "
            ".venv/bin/pip install -e '.[cluster]'"
        ) from None
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    ended = contextlib.ExitStack()
    where: dict[str, Any] = {"address": options.address}
    if options.address:
        _check_address(options.address)
    else:
        where = {
            "address": "local",
            "num_cpus": options.workers,
            "include_dashboard": False,
            "object_store_memory": 100 * MEGABYTE,
        }
    try:
        with _as_before():
            watch = None if options.address else ended.enter_context(_Watch())
            try:
                library.init(**where, log_to_driver=False, logging_level=logging.FATAL)
            except Exception as error:  # of Ray's own kinds, too
                what = f"no Ray cluster at {options.address}"
                hint = "start one there, or give another --address"
                if not options.address:
                    what = "Ray does not start on this machine"
                    hint = "--engine processes needs no Ray"
                raise ConnectionError(f"{what}: {runs.reason(error)}; {hint}") from None
        try:
            cluster = _Cluster(library, Store(folder), options, watch)
            shared = pool.Pool(cluster.start, cluster.wait, cluster.limit, options, TRIES)
            with contextlib.ExitStack() as at_end:
                at_end.callback(shared.kill)
                yield shared.train_all
        except library.exceptions.RaySystemError as error:
            raise ConnectionError(
                f"the Ray cluster is gone ({runs.reason(error)}); finished runs are kept; give "
                "the same command to continue"
            ) from None
    finally:
        with contextlib.suppress(Exception):
            library.shutdown()
        ended.close()


# Waits until the process that started it has ended, however that happened; then kills every process
# with a mark, again and again until none is left for a while, since they may be starting others.
WATCH = """\
import os, sys, time
sys.stdin.buffer.read()
quiet = 0
while quiet < 5:
    quiet += 1
    for name in os.listdir("/proc"):
        try:
            with open(f"/proc/{name}/environ", "rb") as file:
                marked = sys.argv[1].encode() in file.read()
            if marked and int(name) != os.getpid():
                os.kill(int(name), 9)
                quiet = 0
        except (OSError, ValueError):
            pass
    time.sleep(0.1)
"""


class _Watch:
    """Ends the processes that Ray starts here when this one ends; some might not notice it."""

    def __init__(self) -> None:
        self.mark = uuid.uuid4().hex
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> _Watch:
        os.environ["ADAM_STUDY_RAY"] = self.mark
        self.keep()
        return self

    def keep(self) -> None:
        """Start it, or restart it if it was killed."""
        if os.path.isdir("/proc/self") and (not self.process or self.process.poll() is not None):
            self.process = subprocess.Popen(
                [sys.executable, "-S", "-c", WATCH, self.mark],
                env={**os.environ, "ADAM_STUDY_RAY": ""},
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )

    def __exit__(self, *exception: object) -> None:
        del os.environ["ADAM_STUDY_RAY"]
        if self.process:
            self.process.communicate()


def _check_address(address: str) -> None:
    """Raise a ConnectionError if nothing listens at HOST:PORT; Ray would wait for ten minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not (host and port.isdecimal()):
        return
    try:
        socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConnectionError(f"no Ray cluster at {address}: {reason}") from None


@contextlib.contextmanager
def _as_before() -> Iterator[None]:
    """Undo what Ray does to signal handlers."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # not in the main thread
            for number, handler in before.items():
                signal.signal(number, handler)


class _Cluster:
    """A connected cluster: its size, and how its actors are started and waited for."""

    def __init__(
        self, library: Any, store: Store, options: Options, watch: _Watch | None = None
    ) -> None:
        self.library, self.store, self.options, self.watch = library, store, options, watch
        found = library.cluster_resources()
        if options.gpus and not found.get("GPU"):
            raise ValueError(
                f"--gpus-per-run {options.gpus:g}: the Ray cluster has no GPU; leave it out"
            )
        self.gpus = options.gpus if options.gpus is not None else float(bool(found.get("GPU")))
        self.actor = library.remote(node.Trainer).options(
            num_cpus=1, num_gpus=self.gpus, max_restarts=0
        )
        self.board = library.remote(node.Board).options(num_cpus=0).remote()
        self.passes: dict[str, int] = {}  # of the runs that are being trained
        self.heard: Any = self.board.passes.remote()
        self.here = node.facts()
        self.failed_starts = 0
        self.looked = -LOOK_SECONDS
        self.slots = 0
        self.had_node = time.monotonic()

    def limit(self) -> int:
        """How many runs the cluster takes at once; nodes come and go."""
        if time.monotonic() - self.looked > LOOK_SECONDS:
            found = self.library.cluster_resources()
            slots = found.get("CPU", 0)
            if self.gpus:
                slots = min(slots, found.get("GPU", 0) / self.gpus)
            self.slots, self.looked = int(slots), time.monotonic()
        return min(self.slots, self.options.workers)

    def start(self) -> Actor:
        """Ask for an actor; Ray starts it where there is room."""
        if self.failed_starts > pool.HOPELESS:
            raise ChildProcessError(f"{self.failed_starts} Ray actors in a row could not start")
        environment = {"KERAS_BACKEND": os.environ.get("KERAS_BACKEND", "tensorflow")}
        return Actor(self, self.actor.remote(environment, bool(self.gpus)))

    def done(self, reference: Any) -> bool:
        """Whether an answer, or an error in its place, has arrived."""
        return bool(self.library.wait([reference], timeout=0, fetch_local=False)[0])

    def wait(self, workers: Sequence[Actor], seconds: float) -> None:
        """Wait for any of these actors; print a message if none has had a node for long."""
        if self.watch:
            self.watch.keep()
        if not workers or all(not worker.ready for worker in workers):
            if time.monotonic() - self.had_node > QUIET_SECONDS:
                print("waiting for a node of the Ray cluster with room", file=sys.stderr)
                self.had_node = time.monotonic()
        else:
            self.had_node = time.monotonic()
        self._hear()
        pending = [worker.pending for worker in workers if worker.pending is not None]
        if len(pending) < len(workers):
            return
        if pending:
            self.library.wait(pending, timeout=seconds, fetch_local=False)
        else:
            time.sleep(seconds)

    def _hear(self) -> None:
        """Read the board without waiting for it; it may be lost, and nothing depends on it."""
        if not self.done(self.heard):
            return
        with contextlib.suppress(self.library.exceptions.RayError):
            self.passes = self.library.get(self.heard)
            self.heard = self.board.passes.remote()


class Actor:
    """A process of Ray's that trains, and its present run; see `pool.Worker`."""

    def __init__(self, cluster: _Cluster, handle: Any) -> None:
        self.cluster, self.handle = cluster, handle
        self.run: Run | None = None
        self.deadline = float("inf")
        self.starting: Any = handle.differences.remote(cluster.here)
        self.reference: Any = None  # of what comes back from the node
        self.passes = 0  # of its run, as far as is known
        self.known: tuple[Any] | None = None  # an answer that needs no node
        self.claim = contextlib.ExitStack()
        self.how = ""  # it was lost
        self.usable = True
        self.first_mb: float | None = None

    @property
    def pending(self) -> Any:
        """What to wait for; None if there is nothing to wait for."""
        return self.starting if self.starting is not None else self.reference

    @property
    def ready(self) -> bool:
        """Whether it has started.

        Raises:
            ValueError: its node has other code or packages, or none.
        """
        if self.starting is None or not self.usable or not self.cluster.done(self.starting):
            return self.starting is None and self.usable
        library = self.cluster.library
        try:
            differs = library.get(self.starting)
        except library.exceptions.RayError as error:
            self.usable = False
            self.cluster.failed_starts += 1
            if "No module named" in str(error):
                raise ValueError(
                    "a node of the Ray cluster can't import the study; it needs this checkout at "
                    f"{ROOT} and `make env`"
                ) from None
            return False
        if differs:
            raise ValueError(differs)
        self.cluster.failed_starts = 0
        self.starting = None
        return True

    def start(self, run: Run, keep: bool, seconds: float) -> None:
        """Claim a run for this command and give it to the node; arguments as in `pool.Worker`."""
        store = self.cluster.store
        self.run, self.known, self.reference = run, None, None
        self.deadline = time.monotonic() + seconds
        if not self.claim.enter_context(store.claim(run.lineage)):
            self.known = (None,)
        elif (record := store.get(run.id)) is not None:
            self.known = (Result(run, runs.end(record)),)
        else:
            self.passes = 0
            self.reference = self.handle.train.remote(
                run.config(), str(store.path), keep, self.cluster.board
            )

    def answers(self) -> bool:
        """Whether `answer` would not wait."""
        return self.known is not None or self._passed() or self.cluster.done(self.reference)

    def _passed(self) -> bool:
        """Whether the board has a new number of passes of its run."""
        return self.run is not None and self.cluster.passes.get(self.run.id, 0) > self.passes

    def answer(self) -> Any:
        """See `pool.Worker`; writes the record."""
        run, exceptions = self.run, self.cluster.library.exceptions
        assert run is not None
        if self.known is None and self._passed():
            self.passes = self.cluster.passes[run.id]
            return self.passes
        with self.claim:
            if self.known is not None:
                self.run = None
                return self.known[0]
            try:
                found = self.cluster.library.get(self.reference)
            except exceptions.RayTaskError as error:
                self.run = None
                return Result(run, runs.reason(error.cause or error), failed=True)
            except exceptions.RayError as error:
                self.how = _lost(error)
                raise EOFError from None
            self.run = None
            result = self._result(run, found)
        self.first_mb = self.first_mb or found["megabytes"]
        if found["megabytes"] > self.first_mb + pool.GROWTH_MB:
            self.close()
        return result

    def _result(self, run: Run, found: dict[str, Any]) -> Result | Exception:
        """The result of a node's work on a run."""
        store, notes = self.cluster.store, found["notes"]
        if "stop" in found:
            return ConnectionError(found["stop"])
        if "record" not in found:
            return runs.failed(run, store, runs.Failure(found["failed"], found["trace"]), notes)
        store.put(found["record"])
        store.drop_failure(run)
        if not found["keep"]:
            store.drop_checkpoint(run)
        seconds = found["record"]["manifest"]["wall_seconds"]
        return Result(run, runs.end(found["record"]), seconds, notes)

    def close(self) -> None:
        """End it; it has no run."""
        self.kill()

    def kill(self) -> str:
        """End it now, wherever it is: it writes nothing but checkpoints."""
        self.claim.close()
        self.run, self.usable = None, False
        with contextlib.suppress(Exception):
            self.cluster.library.kill(self.handle, no_restart=True)
        return self.how


def _lost(error: BaseException) -> str:
    """How Ray lost a run, in a few words."""
    kind, text = type(error).__name__, str(error).lower()
    if "node" in text and ("died" in text or "dead" in text or "terminat" in text):
        return "its node was lost"
    if "memory" in text:
        return "its node ran out of memory"
    return f"its process was killed ({kind})"
