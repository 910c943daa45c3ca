"""Ray: the same records as everywhere, whatever happens to its nodes; nothing is left running."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import re
import signal
import socket
import subprocess
import sys
import time
import types
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import OFTEN, alive, run

from experiments.engines import cluster, node, nodes, pool
from experiments.engines import runs as engine_runs
from experiments.engines.runs import Failure, Options
from experiments.paths import ROOT
from experiments.records import store
from experiments.records.store import Store
from experiments.study import Run

needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None or sys.platform == "win32",
    reason="ray is not installed: pip install '.[cluster]'",
)
PATIENCE = 900.0  # seconds that a busy machine may take to start Ray's ten processes


def a_run(seed: int = 0, epochs: int = 3) -> Run:
    return Run(
        "mnist_logistic_regression",
        {"train_examples": 640, "held_out_examples": 160, "l2": 1e-4},
        "mnist-stand-in",
        "adam",
        {"learning_rate": 0.001, "decay": "sqrt_step"},
        128,
        epochs,
        seed,
    )


def record_of(run: Run) -> dict:
    return {
        "config": run.config(),
        "status": "finished",
        "diverged_at": None,
        "metrics": {"training_cost": [0.5] * run.epochs},
        "manifest": {"wall_seconds": 1.0},
    }


# --- what the driver does, with a stand-in for Ray ------------------------------------------------


# Ray's exceptions, with what Ray says (python/ray/exceptions.py and the texts of its raylets).


class RayError(Exception):
    pass


class RaySystemError(RayError):
    def __str__(self):
        return f"System error: {self.args[0]}"


class RayActorError(RayError):
    preempted = False


class ActorDiedError(RayActorError):
    pass


class ActorUnavailableError(RayActorError):
    pass


class WorkerCrashedError(RayError):
    def __str__(self):
        return (
            "The worker died unexpectedly while executing this task. Check "
            "python-core-worker-*.log files for more information."
        )


class OutOfMemoryError(RayError):
    pass


class ObjectLostError(RayError):
    pass


class ActorUnschedulableError(RayError):
    pass


class RayTaskError(RayError):
    """What a method raised; `ray.get` raises one that is an instance of its class, too."""

    def __init__(self, cause):
        super().__init__(cause)
        self.cause = cause

    def as_instanceof_cause(self):
        cls = type(
            f"RayTaskError({type(self.cause).__name__})", (RayTaskError, type(self.cause)), {}
        )
        return cls(self.cause)


DIED = "The actor died unexpectedly before finishing this task.\n\tclass_name: Trainer\n\tip: ::1\n"
NODE_DIED = ActorDiedError(
    f"{DIED}The actor died because its node has died. Node Id: 16b2\n"
    "\tthe actor's node was terminated unexpectedly: health check failed"
)
KILLED = ActorDiedError(
    f"{DIED}The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR "
    "Worker exit detail: Worker unexpectedly exits with a connection error code 2. End of file. "
    "There are some potential root causes. (1) The process is killed by SIGKILL by OOM killer due "
    "to high memory usage. (2) ray stop --force is called. (3) The worker is crashed unexpectedly "
    "due to SIGSEGV or other unexpected errors."
)
EXITED = ActorDiedError(
    f"{DIED}The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR "
    "Worker exit detail: Worker exits unexpectedly. Worker exits with an exit code 27."
)
LOW_MEMORY = (
    "Task was killed due to the node running low on memory.\nMemory on the node (IP: 10.0.22.131, "
    "ID: 6416) where the task was running was 51.33GB / 54.00GB (0.950537), which exceeds the "
    "memory usage threshold of 0.95. Ray killed this worker because it was the most recently "
    "scheduled task."
)
NOT_IMPORTED = (
    "The actor died because of an error raised in its creation task, \x1b[36mray::Trainer."
    "__init__()\x1b[39m (pid=7, ip=10.0.0.2, repr=<ray.TemporaryActor>)\n"
    "RuntimeError: The actor with name Trainer failed to import on the worker. This may be because "
    "needed library dependencies are not installed in the worker environment:\n\n"
    '  File "experiments/engines/node.py", line 3\n'
    "ModuleNotFoundError: No module named 'experiments'"
)


class StandIn:
    """What of Ray the driver uses. `train` makes what a node answers; an exception loses it.

    Args:
        resources: of the only node, n1, or of each node by its name.
        train: what `Trainer.train` does, on the node that is `at`.
        differs: what `Trainer.differences` answers; a function is called.
    """

    exceptions = types.SimpleNamespace(
        RayError=RayError, RayTaskError=RayTaskError, RaySystemError=RaySystemError
    )
    strategies = types.SimpleNamespace(
        NodeAffinitySchedulingStrategy=lambda node_id, soft: (node_id, soft)
    )

    def __init__(self, resources: dict, train=None, differs: object = "") -> None:
        self.resources, self.train, self.differs = resources, train, differs
        self.actors: list[dict] = []
        self.given: list[tuple] = []  # the arguments of each `Trainer`
        self.passes: dict[str, tuple[int, int]] = {}
        self.dead: set[str] = set()
        self.killed = 0
        self.at = ""

    def init(self, **options) -> None:
        self.options = options

    def shutdown(self) -> None:
        self.ended = True

    def per_node(self) -> dict[str, dict]:
        whole = all(isinstance(amount, float) for amount in self.resources.values())
        found = {"n1": self.resources} if whole and self.resources else self.resources
        return {name: amounts for name, amounts in found.items() if name not in self.dead}

    def cluster_resources(self) -> dict:
        total: dict[str, float] = {}
        for amounts in self.per_node().values():
            for name, amount in amounts.items():
                total[name] = total.get(name, 0.0) + amount
        return total

    def nodes(self) -> list[dict]:
        there = [
            {
                "NodeID": f"id of {name}",
                "Alive": True,
                "NodeManagerHostname": name,
                "NodeManagerAddress": "10.0.0.1",
                "Resources": amounts,
            }
            for name, amounts in self.per_node().items()
        ]
        return [*there, *({"NodeID": f"id of {n}", "Alive": False} for n in sorted(self.dead))]

    def get_runtime_context(self):
        return types.SimpleNamespace(get_node_id=lambda: "id of n1")

    def remote(self, cls):
        def make(scheduling_strategy, arguments):
            node_id, soft = scheduling_strategy

            def call(function):
                at = node_id.removeprefix("id of ")
                return types.SimpleNamespace(remote=lambda *arguments: (function, arguments, at))

            if cls is node.Board:
                assert soft
                return types.SimpleNamespace(passes=call(lambda: dict(self.passes)))
            assert not soft
            self.given.append(arguments)
            differs = self.differs if callable(self.differs) else lambda: self.differs
            return types.SimpleNamespace(
                differences=call(lambda theirs: differs()), train=call(self.train)
            )

        def options(scheduling_strategy, **asked):
            self.actors += [asked] if cls is node.Trainer else []
            return types.SimpleNamespace(remote=lambda *given: make(scheduling_strategy, given))

        return types.SimpleNamespace(options=options)

    def get(self, reference):
        function, arguments, self.at = reference
        try:
            found = function(*arguments)
        except Exception as error:
            raise RayTaskError(error).as_instanceof_cause() from None
        if isinstance(found, Exception):
            raise found
        return found

    def wait(self, references, timeout, fetch_local):
        time.sleep(min(timeout, 0.001))
        return references, []

    def kill(self, actor, no_restart):
        self.killed += 1


def answer(config, folder, keep, board=None, key="") -> dict:
    record = record_of(Run.from_config(config))
    return {"record": record, "keep": keep, "notes": (), "megabytes": 100.0}


@pytest.fixture
def use(monkeypatch):
    def put(library: StandIn) -> StandIn:
        real = importlib.import_module
        monkeypatch.setattr(
            cluster.importlib,
            "import_module",
            lambda name: (
                library
                if name == "ray"
                else library.strategies
                if name == "ray.util.scheduling_strategies"
                else real(name)
            ),
        )
        return library

    return put


def train_all(folder: Path, runs, workers=2, **options) -> list:
    with cluster.ray(folder, Options(workers, **options)) as train:
        return list(train(runs))


def test_records_come_back_and_the_driver_writes_them(tmp_path, use):
    library = use(StandIn({"CPU": 8.0}, answer))
    records, runs = Store(tmp_path), [a_run(seed) for seed in range(4)]
    records.put(record_of(runs[0]))  # is not trained again
    results = train_all(tmp_path, runs)
    assert {result.run.seed for result in results} == {0, 1, 2, 3}
    assert sum(result.seconds for result in results) == 3.0
    assert record_of(runs[0]).items() <= Store(tmp_path).get(runs[0].id).items()
    assert Store(tmp_path).ids() == sorted(run.id for run in runs)
    assert library.killed == 2  # no more actors than workers, all ended
    assert library.ended
    assert not list(tmp_path.glob("*.lock"))


def test_passes_are_heard_of_while_a_run_trains(tmp_path, use):
    library, run, heard = use(StandIn({"CPU": 1.0}, answer)), a_run(), []
    waits = iter(range(1000))
    wait = library.wait

    def slow(references, timeout, fetch_local):
        trained = [given for function, given, _ in references if function is answer]
        for *_, key in trained:
            library.passes[key] = 1, min(3, next(waits) // 4)
        if trained and library.passes[key][1] < 3:
            return [], references
        return wait(references, timeout, fetch_local)

    library.wait = slow
    with cluster.ray(tmp_path, Options(1)) as train:
        list(train([run], (), lambda *words: heard.append(words)))
    passes = [number for _, number in heard]
    assert passes == sorted(set(passes))
    assert passes[0] > 0
    assert all(which == run for which, _ in heard)


def test_a_lost_run_is_tried_three_times(tmp_path, use):
    tries: list[int] = []

    def train(config, folder, keep, board, key):
        tries.append(config["seed"])
        if config["seed"] == 1 or (config["seed"] == 2 and tries.count(2) < 3):
            return NODE_DIED
        return answer(config, folder, keep)

    use(StandIn({"CPU": 8.0}, train))
    found = {r.run.seed: r for r in train_all(tmp_path, [a_run(seed) for seed in range(3)])}
    assert sorted(tries) == [0, 1, 1, 1, 2, 2, 2]
    assert found[1].failed
    assert found[1].end == "its node n1 was lost, 3 times"
    assert not found[2].failed
    assert len(found[2].notes) == 2
    for note in found[2].notes:
        assert note.endswith("its node n1 was lost; it was tried once more")
    assert not list(tmp_path.glob("*.lock"))


def preempted() -> ActorDiedError:
    error = ActorDiedError(*NODE_DIED.args)
    error.preempted = True
    return error


@pytest.mark.parametrize(
    ("error", "how"),
    [
        (NODE_DIED, "its node n1 was lost"),
        (preempted(), "its node n1 was preempted"),
        (ActorUnschedulableError("The node doesn't exist any more"), "its node n1 was lost"),
        (ActorUnavailableError("The actor is unavailable"), "its node n1 did not answer"),
        (KILLED, "its process on node n1 died; Ray does not know why (out of memory?)"),
        (
            WorkerCrashedError(),
            "its process on node n1 died; Ray does not know why (out of memory?",
        ),
        (EXITED, "its process on node n1 ended with exit code 27"),
        (
            OutOfMemoryError(LOW_MEMORY),
            "Ray killed its process, since node n1 ran out of memory; --workers 1 needs the least",
        ),
        (OutOfMemoryError("Killed"), "Ray killed its process, since node n1 ran out of memory; "),
        (ActorDiedError(DIED + LOW_MEMORY), "Ray killed its process, since node n1 ran out of mem"),
        (
            ActorDiedError(f"{DIED}Worker exit type: NODE_OUT_OF_MEMORY Worker exit detail: x"),
            "Ray killed its process, since node n1 ran out of memory",
        ),
        (
            ObjectLostError("All copies\nare lost"),
            "it was lost on node n1 (ObjectLostError: All co",
        ),
    ],
)
def test_how_a_run_was_lost_is_said_as_far_as_ray_knows(tmp_path, use, error, how):
    """Only a node that died is lost; a crash and a memory that is full are named as such."""
    use(StandIn({"CPU": 1.0}, lambda *_: error))
    (found,) = train_all(tmp_path, [a_run()])
    assert found.failed
    assert found.end.startswith(how)
    assert found.end.endswith(", 3 times")


def test_a_node_that_is_not_there_any_more_is_lost_whatever_ray_says(tmp_path, use):
    """The process is often missed before its node."""
    library = use(StandIn({"n1": {"CPU": 1.0}}))

    def train(*given):
        if not library.dead:
            library.dead.add("n1")
            library.resources["n2"] = {"CPU": 1.0}
            return KILLED
        return answer(*given)

    library.train = train
    (found,) = train_all(tmp_path, [a_run()])
    assert not found.failed
    assert found.notes == (f"{runs_name(found)}: its node n1 was lost; it was tried once more",)
    assert library.at == "n2"


def runs_name(found) -> str:
    return engine_runs.name(found.run)


@pytest.mark.parametrize(("ahead", "tries"), [(20, 6), (0, 3)])
def test_only_losses_without_progress_count(tmp_path, use, ahead, tries):
    """A try that begins with more passes than the last had a newer checkpoint."""
    library, keys = use(StandIn({"CPU": 1.0})), []

    def train(config, folder, keep, board, key):
        keys.append(key)
        return answer(config, folder, keep) if len(keys) == 6 else NODE_DIED

    wait, waits = library.wait, []

    def wait_for_passes(references, timeout, fetch_local):
        trained = [given for function, given, _ in references if function is train]
        for *_, key in trained:
            begun = 1 + ahead * len(keys)
            library.passes[key] = begun, begun + 5
            waits.append(key)
            if waits.count(key) < 5:
                return [], references
        return wait(references, timeout, fetch_local)

    library.train, library.wait = train, wait_for_passes
    (found,) = train_all(tmp_path, [a_run(epochs=400)])
    assert len(keys) == tries
    assert found.failed == (not ahead)
    assert len(set(keys)) == tries
    assert not ahead or len(found.notes) == 5


def test_a_failed_run_stops_no_other_and_its_trace_comes_back(tmp_path, use):
    def train(config, folder, keep, board, key):
        if config["seed"] == 1:
            failed = {"failed": "KeyError: 3", "trace": "Traceback", "memory": ""}
            return {**failed, "notes": (), "megabytes": 1.0}
        return answer(config, folder, keep)

    use(StandIn({"CPU": 8.0}, train))
    found = {r.run.seed: r for r in train_all(tmp_path, [a_run(seed) for seed in range(3)])}
    assert [found[seed].failed for seed in range(3)] == [False, True, False]
    kept = tmp_path / f"{a_run(1).id}.failed"
    assert kept.read_text() == "Traceback"
    assert found[1].end == f"KeyError: 3; the traceback is in {kept}"


DIFFERS = "it differs from this machine: keras is 3.0.0, not 3.12.0"
STOP = {"stop": "/scratch/x: No space left on device", "notes": (), "megabytes": 1.0}


@pytest.mark.parametrize(
    ("differs", "stop", "why"),
    [
        (DIFFERS, None, re.escape(DIFFERS)),
        (
            ActorDiedError(NOT_IMPORTED),
            None,
            f"it can't import the study; it needs this checkout at {ROOT} and `make env`",
        ),
        (
            KILLED,
            None,
            "6 Ray actors in a row could not start there; the last time, ActorDiedError: Worker "
            "unexpectedly exits with a connection error code 2. .*",
        ),
        ("", STOP, "/scratch/x: No space left on device"),
    ],
)
def test_a_node_that_can_not_train_is_left_out(tmp_path, use, capsys, differs, stop, why):
    """One line names it and says why; the other trains everything. If it is alone, that is all."""
    library = use(StandIn({"n1": {"CPU": 4.0}, "n2": {"CPU": 2.0}}))
    trained = []

    def train(*given):
        trained.append(library.at)
        return stop if stop and library.at == "n1" else answer(*given)

    library.train = train
    library.differs = lambda: differs if library.at == "n1" else ""
    found = train_all(tmp_path, [a_run(seed) for seed in range(4)], workers=3)
    assert not any(result.failed for result in found)
    assert Store(tmp_path).ids() == sorted(a_run(seed).id for seed in range(4))
    assert trained.count("n2") == 4
    assert re.fullmatch(f"adam-study: node n1 is left out: {why}\n", capsys.readouterr().err)

    library.resources = {"n1": {"CPU": 4.0}}
    with pytest.raises(ConnectionError) as error:
        train_all(tmp_path, [a_run(9)])
    assert str(error.value) == (
        "no node of the Ray cluster can train: 1 node was left out, for the reasons above (n1); "
        "finished runs are kept; mend a node and give the same command to continue"
    )
    assert capsys.readouterr().err.count("\n") == 1
    assert not list(tmp_path.glob("*.lock"))


def test_runs_on_a_node_that_is_left_out_may_end_there(tmp_path, use, capsys):
    """They are not asked to stop; when the last has ended, the command does too."""
    library = use(StandIn({"n1": {"CPU": 2.0}}))
    late = []

    def train(config, *given):
        return STOP if config["seed"] else answer(config, *given)

    wait = library.wait

    def wait_long(references, timeout, fetch_local):
        slow = [r for r in references if r[0] is train and not r[1][0]["seed"]]
        late.extend(slow)
        return (
            ([r for r in references if r not in slow], slow)
            if len(late) < 9
            else wait(references, timeout, fetch_local)
        )

    library.train, library.wait = train, wait_long
    with pytest.raises(ConnectionError, match="no node of the Ray cluster can train"):
        train_all(tmp_path, [a_run(seed) for seed in range(3)])
    assert Store(tmp_path).ids() == [a_run(0).id]
    assert capsys.readouterr().err.count("is left out") == 1


def test_what_ends_on_a_node_that_is_left_out_takes_no_room_on_others(tmp_path, use):
    library = use(StandIn({"n1": {"CPU": 2.0}, "n2": {"CPU": 3.0}}))
    found = cluster._Cluster(library, Store(tmp_path), Options(10_000))
    assert found.limit() == 5
    busy, idle = [actor for actor in [found.start() for _ in range(5)] if actor.node.name == "n1"]
    busy.run = a_run()
    found.nodes.leave_out(busy.node, "it is too slow")
    assert found.limit() == 3 + 1
    assert busy.alive
    assert not idle.alive  # it is ended


def test_a_node_that_loses_one_run_after_the_other_is_left_out(tmp_path, use, capsys):
    """If there is another; else the runs that are lost are told as before."""
    library = use(StandIn({"n1": {"CPU": 4.0}, "n2": {"CPU": 1.0}}))
    library.train = lambda *given: KILLED if library.at == "n1" else answer(*given)
    found = train_all(tmp_path, [a_run(seed) for seed in range(8)], workers=5)
    assert not any(result.failed for result in found)
    err = capsys.readouterr().err
    assert err == (
        "adam-study: node n1 is left out: it lost 3 runs in a row; the last time, its process on "
        "node n1 died; Ray does not know why (out of memory?)\n"
    )
    library.resources = {"n1": {"CPU": 4.0}}
    found = train_all(tmp_path, [a_run(seed) for seed in (10, 11)])
    assert all(result.failed for result in found)
    assert not capsys.readouterr().err


def test_an_actor_that_waits_for_room_gives_way_to_another_node(tmp_path, use, monkeypatch):
    monkeypatch.setattr(pool, "START_SECONDS", 0.05)
    library = use(StandIn({"n1": {"CPU": 4.0}, "n2": {"CPU": 1.0}}, answer))
    wait = library.wait

    def busy(references, timeout, fetch_local):
        if references[0][2] == "n1":
            time.sleep(0.001)
            return [], references
        return wait(references, timeout, fetch_local)

    library.wait = busy
    assert len(train_all(tmp_path, [a_run()])) == 1
    assert library.at == "n2"


def test_what_a_method_raises_fails_its_run_and_names_the_node(tmp_path, use):
    def train(config, *given):
        if config["seed"]:
            raise KeyError(3)
        return answer(config, *given)

    use(StandIn({"CPU": 2.0}, train))
    found = {r.run.seed: r for r in train_all(tmp_path, [a_run(0), a_run(1)])}
    assert not found[0].failed
    assert found[1].end == "KeyError: 3, on node n1"


@pytest.mark.parametrize(
    ("memory", "options", "advice"),
    [
        ("GPU memory", {"gpus": 0.25}, "--gpus-per-run 0.25 is too small a share; 1 gives it a "),
        ("GPU memory", {}, "it had a GPU of its own"),
        ("memory", {}, "--workers 1 needs the least"),
        ("memory", {"address": "auto"}, "fewer --num-cpus in the `ray start` of node n1 need less"),
        ("", {}, "the traceback is in"),
    ],
)
def test_what_helps_where_memory_was_full(tmp_path, use, memory, options, advice):
    failed = {"failed": "out of it", "trace": "Traceback", "memory": memory}
    use(StandIn({"CPU": 2.0, "GPU": 1.0}, lambda *_: {**failed, "notes": (), "megabytes": 1.0}))
    (found,) = train_all(tmp_path, [a_run()], **options)
    assert found.end.startswith(f"out of it; {advice}")


@pytest.mark.parametrize(
    ("resources", "gpus", "workers", "slots", "share"),
    [
        ({"CPU": 8.0}, None, 10_000, 8, 0.0),
        ({"CPU": 8.0}, None, 3, 3, 0.0),
        ({"CPU": 8.0, "GPU": 2.0}, None, 10_000, 2, 1.0),
        ({"CPU": 8.0, "GPU": 2.0}, 0.25, 10_000, 8, 0.25),
        ({"CPU": 4.0, "GPU": 2.0}, 0.25, 10_000, 4, 0.25),
        ({"CPU": 8.0, "GPU": 2.0}, 0.0, 10_000, 8, 0.0),
        ({"CPU": 8.0, "GPU": 2.0}, 0.4, 10_000, 4, 0.4),
        ({}, None, 10_000, 0, 0.0),
    ],
)
def test_runs_share_cores_and_gpus(tmp_path, use, resources, gpus, workers, slots, share):
    library = use(StandIn(resources))
    found = cluster._Cluster(library, Store(tmp_path), Options(workers, gpus=gpus))
    assert found.limit() == slots
    if slots:
        found.start()
        assert library.actors == [{"num_cpus": 1, "num_gpus": share, "max_restarts": 0}]


def test_actors_are_spread_over_the_nodes_by_their_room(tmp_path, use):
    """A share is never of two GPUs; a node without one trains nothing if runs need one."""
    gpus = {"big": 2.0, "small": 1.0, "none": 0.0}
    library = use(StandIn({name: {"CPU": 8.0, "GPU": gpu} for name, gpu in gpus.items()}))
    found = cluster._Cluster(library, Store(tmp_path), Options(10_000, gpus=0.4))
    assert found.limit() == 6
    assert [found.start().node.name for _ in range(6)].count("small") == 2
    assert found.limit() == 6


def test_a_gpu_that_the_cluster_lacks(tmp_path, use):
    use(StandIn({"CPU": 8.0}))
    with pytest.raises(ValueError, match=r"--gpus-per-run 0.5: the Ray cluster has no GPU"):
        train_all(tmp_path, [a_run()], gpus=0.5)


def test_nodes_that_come_later_are_used(tmp_path, use, monkeypatch):
    monkeypatch.setattr(nodes, "LOOK_SECONDS", -1.0)
    library = use(StandIn({"CPU": 1.0}))
    found = cluster._Cluster(library, Store(tmp_path), Options(10))
    assert found.limit() == 1
    library.resources = {"CPU": 3.0}
    assert found.limit() == 3


def test_an_actor_that_has_grown_is_replaced(tmp_path, use, monkeypatch):
    monkeypatch.setattr(pool, "GROWTH_MB", 50.0)
    sizes = iter([100.0, 140.0, 160.0, 100.0])
    library = use(
        StandIn({"CPU": 1.0}, lambda *given: {**answer(*given), "megabytes": next(sizes)})
    )
    assert len(train_all(tmp_path, [a_run(seed) for seed in range(4)])) == 4
    assert library.killed >= 2


def test_no_node_with_room_is_said(tmp_path, use, monkeypatch, capsys):
    monkeypatch.setattr(cluster, "QUIET_SECONDS", 0.05)
    monkeypatch.setattr(nodes, "LOOK_SECONDS", -1.0)
    library = use(StandIn({}, answer))
    looks = iter(range(1000))
    library.per_node = lambda: {"n1": {"CPU": 1.0}} if next(looks) > 4 else {}
    assert len(train_all(tmp_path, [a_run()])) == 1
    assert capsys.readouterr().err == "waiting for a node of the Ray cluster with room\n"


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "127.0.0.1:99999999999"])
def test_a_cluster_that_is_not_there(tmp_path, use, address):
    use(StandIn({}))
    with pytest.raises(ConnectionError, match=f"no Ray cluster at {address}: "):
        train_all(tmp_path, [a_run()], address=address)


@pytest.mark.parametrize("given", ["[::1]:{}", "ray://[::1]:{}", "127.0.0.1:{}"])
def test_an_address_may_have_brackets(tmp_path, use, given):
    """Those of an IPv6 address, which its port needs."""
    ipv6 = "[" in given
    with socket.socket(socket.AF_INET6 if ipv6 else socket.AF_INET) as listening:
        try:
            listening.bind(("::1" if ipv6 else "127.0.0.1", 0))
        except OSError:
            pytest.skip("this machine has no IPv6")
        listening.listen()
        address = given.format(listening.getsockname()[1])
        library = use(StandIn({"CPU": 1.0}, answer))
        assert len(train_all(tmp_path, [a_run()], address=address)) == 1
    assert library.options["address"] == address
    with pytest.raises(ConnectionError, match=re.escape(f"no Ray cluster at {address}: ")):
        train_all(tmp_path, [a_run()], address=address)


@pytest.mark.parametrize(
    "address", ["head", "[::1]", "::1:6379", "[head]:6379", "[::1:6379", ":6379", "head:", "local"]
)
def test_what_is_no_address_is_one_line(address, monkeypatch, use, capsys, tmp_path):
    monkeypatch.setenv("ADAM_TF_BUILD", str(tmp_path))
    use(StandIn({"CPU": 1.0}, answer))
    line = f"run fig1-mnist --profile smoke --data stand-in --engine ray --address {address}"
    assert run(line) == 2
    assert capsys.readouterr().err == (
        f"adam-study: --address {address} is not valid: use auto, HOST:PORT or ray://HOST:PORT, "
        "with an IPv6 address in brackets, as in [::1]:6379\n"
    )


@pytest.mark.parametrize(
    ("address", "said"),
    [
        (None, "Ray does not start on this machine: RayError: no port; --engine processes needs"),
        ("auto", "no Ray cluster at auto: RayError: no port; start one there, or give another"),
    ],
)
def test_a_ray_that_does_not_start_is_one_line(tmp_path, use, address, said):
    """Whatever it raises, of its own kinds too."""
    library = use(StandIn({}))

    def fails(**options):
        raise RayError("no port")

    library.init = fails
    with pytest.raises(ConnectionError, match=f"^{said}"):
        train_all(tmp_path, [a_run()], address=address)


def test_a_cluster_that_is_gone_at_once_is_one_line(tmp_path, use):
    """When its size is asked for, before anything is trained."""
    library = use(StandIn({}))

    def fails():
        raise RaySystemError("no reply")

    library.cluster_resources = fails
    with pytest.raises(ConnectionError, match=r"^the Ray cluster is gone \(RaySystemError: Sys"):
        train_all(tmp_path, [a_run()])


def test_without_ray_one_line_says_what_installs_it(monkeypatch, capfd):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert run("run fig1-mnist --engine ray") == 2
    err = capfd.readouterr().err
    assert err.count("\n") == 1
    assert "pip install -e '.[cluster]'" in err


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("--address auto", "--address is for --engine ray alone"),
        ("--gpus-per-run 0.5", "--gpus-per-run is for --engine ray alone"),
        ("--engine ray --gpus-per-run 2", "'2' is not valid: use 0 to 1"),
        ("--engine ray --gpus-per-run nan", "'nan' is not valid"),
        ("--workers 9999", "--workers 9999 is too many for this machine: use 1 to"),
    ],
)
def test_options_of_a_cluster(line, words, capfd):
    assert run(f"run fig1-mnist {line}") == 2
    err = capfd.readouterr().err
    assert words in err
    assert err.count("\n") == 1


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="there is no /proc")
def test_nothing_that_ray_started_here_outlives_the_command(tmp_path):
    """A process that does not notice is ended when the command is, even by SIGKILL."""
    script = tmp_path / "script.py"
    script.write_text(
        "import os, subprocess, sys, time\n"
        "from experiments.engines import cluster\n"
        "with cluster._Watch():\n"
        "    child = subprocess.Popen(['sleep', '600'], start_new_session=True)\n"
        "    print(child.pid, flush=True)\n"
        "    time.sleep(0 if sys.argv[1:] else 600)\n"
    )
    for more in ([], ["ends by itself"]):
        process = start([sys.executable, str(script), *more])
        child = int(process.stdout.readline())
        if not more:
            process.kill()
        process.communicate()
        wait_until(lambda child=child: not alive(child))
    assert process.returncode == 0


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="there is no /proc")
def test_what_is_still_starting_others_does_not_outlive_the_command(tmp_path):
    """Processes that leave their session, start the next and end; and a watch that was killed."""
    script = tmp_path / "script.py"
    leaps = "import os, time\nwhile not (os.fork() and 1):\n    os.setsid()\n    time.sleep(0.01)\n"
    script.write_text(
        "import subprocess, sys, time\n"
        "from experiments.engines import cluster\n"
        "with cluster._Watch() as watch:\n"
        "    for _ in range(4):\n"
        f"        subprocess.Popen([sys.executable, '-c', {leaps!r}], start_new_session=True)\n"
        "    watch.process.kill()\n"
        "    watch.process.wait()\n"
        "    watch.keep()\n"
        "    print(watch.mark, flush=True)\n"
        "    time.sleep(600)\n"
    )
    process = start([sys.executable, str(script)])
    mark = process.stdout.readline().strip().encode()
    assert marked(mark)
    process.kill()
    process.communicate()
    wait_until(lambda: not marked(mark))
    time.sleep(0.5)
    assert not marked(mark)


def marked(mark: bytes) -> list[str]:
    """The processes with this mark in their environment."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark in (place / "environ").read_bytes():
                found.append(place.name)
    return found


# --- what a node does -----------------------------------------------------------------------------


@pytest.fixture
def trainer(monkeypatch) -> node.Trainer:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    made = node.Trainer({"KERAS_BACKEND": "jax"}, gpu=False)
    assert os.environ["KERAS_BACKEND"] == "jax"
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "-1"
    return made


def test_a_run_sees_the_gpu_that_ray_gave_it(monkeypatch):
    """Ray names the part of a GPU in the actor's environment; without a part there is none."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    node.Trainer({}, gpu=True)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "3"
    node.Trainer({}, gpu=False)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "-1"


@pytest.mark.parametrize(("gpus", "has"), [(None, True), (0.25, True), (0.0, False)])
def test_an_actor_is_told_whether_it_has_a_gpu(tmp_path, use, gpus, has):
    library = use(StandIn({"CPU": 8.0, "GPU": 2.0}, answer))
    assert len(train_all(tmp_path, [a_run(seed) for seed in range(3)], gpus=gpus)) == 3
    assert {gpu for _, gpu, _ in library.given} == {has}


def test_a_node_says_how_it_differs(trainer):
    ours = node.facts()
    assert trainer.differences(ours) == ""
    assert {"code", "requirements.lock", "python", "keras", "numpy"} <= set(ours)
    text = trainer.differences({**ours, "keras": "2.0", "code": "0" * 12})
    assert text.startswith("it differs from this machine: ")
    assert f"code is {ours['code']}, not 000000000000; keras is {ours['keras']}, not 2.0" in text
    assert text.endswith("give it the same checkout and `make env`")


def test_a_node_answers_with_a_record_or_a_reason(trainer, tmp_path, monkeypatch):
    from experiments.engines import runs as engine

    run, given, told = a_run(), [], []
    tell = types.SimpleNamespace(remote=lambda *words: told.append(words))
    board = types.SimpleNamespace(tell=tell)

    def attempt(run, store, keep, tell):
        tell(1)
        tell(2)
        given.append(store.path)
        return record_of(run)

    monkeypatch.setattr(engine, "attempt", attempt)
    found = trainer.train(run.config(), str(tmp_path), False, board, "a key")
    assert told == [("a key", 1, 1)]  # a word a second is enough
    assert found["record"] == record_of(run)
    assert given == [tmp_path]
    assert not Store(tmp_path).ids()  # the driver writes it
    monkeypatch.setattr(engine, "attempt", lambda *_: Failure("KeyError: 3", "Traceback"))
    found = trainer.train(run.config(), str(tmp_path), False, board, "")
    assert found["failed"] == "KeyError: 3"

    def full(*_):
        raise OSError(28, "No space left on device", "/scratch/x")

    monkeypatch.setattr(engine, "attempt", full)
    found = trainer.train(run.config(), str(tmp_path), False, board, "")
    assert found["stop"] == "/scratch/x: No space left on device"


def test_a_node_gets_the_folder_of_the_data_and_what_libraries_read(tmp_path, use, monkeypatch):
    """--data and ADAM_TF_DATA name one; without them, every node has its own."""
    for name in cluster.SENT:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ADAM_TF_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("XLA_CLIENT_MEM_FRACTION", ".2")
    library = use(StandIn({"CPU": 1.0}, answer))
    train_all(tmp_path, [a_run()])
    monkeypatch.delenv("ADAM_TF_DATA")
    train_all(tmp_path, [a_run(1)])
    environment = {"KERAS_BACKEND": "tensorflow", "XLA_CLIENT_MEM_FRACTION": ".2"}
    assert library.given == [
        (environment, False, str(tmp_path / "data")),
        (environment, False, ""),
    ]


def test_a_node_reads_the_drivers_folder_if_it_has_it(tmp_path, monkeypatch):
    monkeypatch.setenv("ADAM_TF_DATA", str(tmp_path / "own"))
    node.Trainer({}, False, str(tmp_path / "missing"))
    assert node.files.root() == tmp_path / "own"
    node.Trainer({}, False, str(tmp_path))
    assert node.files.root() == tmp_path


def test_a_node_without_the_data_names_both_folders(tmp_path, monkeypatch):
    """It downloads them into its own; a stand-in never takes their place."""
    from experiments.engines import runs as engine

    own, theirs, trained = tmp_path / "own", tmp_path / "theirs", []
    monkeypatch.setenv("ADAM_TF_DATA", str(own))
    monkeypatch.setattr(engine, "attempt", lambda *given: trained.append(given))
    monkeypatch.setattr(node.download, "_Mirrors", no_mirrors)
    node._fetch.cache_clear()
    config = {**a_run().config(), "data": "mnist"}
    found = node.Trainer({}, False, str(theirs)).train(config, str(tmp_path), False, None, "")
    assert "cannot download mnist/train-images-idx3-ubyte.gz (no network)" in found["stop"]
    assert str(own) in found["stop"]
    assert found["stop"].endswith(f"; nor has it the folder {theirs}, which holds the data here")
    assert not trained


def no_mirrors(missing, folder):
    raise node.download.DownloadError(
        f"cannot download {missing[0].path} (no network): place the file by hand at {folder}"
    )


def test_a_package_that_a_node_can_not_import_is_its_fault(trainer, tmp_path, monkeypatch):
    """No run could be trained there, and none fails for it."""
    from experiments.training import train as training

    def broken(*_, **__):
        raise ImportError("libcudart.so.12: cannot open shared object file")

    monkeypatch.setattr(training, "train", broken)
    found = trainer.train(a_run().config(), str(tmp_path), False, None, "")
    assert found["stop"] == (
        "it can't train: ImportError: libcudart.so.12: cannot open shared object file; `make env` "
        "there mends its packages"
    )


def test_checkpoints_lie_with_the_node_where_it_has_not_the_drivers_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("ADAM_TF_BUILD", str(tmp_path / "own"))
    assert node._checkpoints(str(tmp_path)) == tmp_path
    assert node._checkpoints(str(tmp_path / "missing")) == tmp_path / "own" / "records"


def test_data_are_fetched_once_per_node(tmp_path, monkeypatch):
    fetched: list[str] = []
    there: list[bool] = [False, False, True]
    monkeypatch.setattr(node.files, "root", lambda: tmp_path)
    monkeypatch.setattr(node.files, "available", lambda name: there.pop(0))
    monkeypatch.setattr(node.download, "fetch", lambda name, progress: fetched.append(name))
    node._fetch.__wrapped__("mnist-stand-in")
    assert not fetched
    with Store(tmp_path).claim("fetch"):  # another process of this node is at it
        monkeypatch.setattr(pool, "POLL_SECONDS", 0.01)
        node._fetch.__wrapped__("mnist")
    assert fetched == ["mnist"]  # what is there now is verified, not fetched
    assert not there


def test_data_are_fetched_without_locks_where_there_are_none(tmp_path, monkeypatch):
    def none(file, path):
        raise node.NoLocks(38, "Function not implemented")

    fetched: list[str] = []
    monkeypatch.setattr(node.files, "root", lambda: tmp_path)
    monkeypatch.setattr(node.files, "available", lambda name: False)
    monkeypatch.setattr(node.download, "fetch", lambda name, progress: fetched.append(name))
    monkeypatch.setattr(store, "lock", none)
    node._fetch.__wrapped__("mnist")
    assert fetched == ["mnist"]


# --- Ray itself -----------------------------------------------------------------------------------

# Trains on the cluster at an address, or serially without one.
SCRIPT = """\
import sys
from pathlib import Path
from experiments.engines import execution
from experiments.engines.runs import Options

sys.path.insert(0, {here!r})
import test_cluster

folder, *address = sys.argv[1:]
engine = execution.ENGINES["ray" if address else "serial"]
options = Options(10_000 if address else 1, address=address[0] if address else None)
with engine(Path(folder), options) as go:
    for result in go(list(test_cluster.runs())):
        print(result.run.epochs, result.run.optimizer, result.end, *result.notes, flush=True)
"""
# Keeps a cluster of a node, which is lost once the first checkpoint is there; two others follow.
KEEPER = """\
import os, subprocess, sys, time
from pathlib import Path
from experiments.engines import cluster

sys.path.insert(0, {here!r})
import test_cluster

for name, value in cluster.SETTINGS.items():
    os.environ.setdefault(name, value)
from ray.cluster_utils import Cluster

folder = Path(sys.argv[2])
there = Cluster(initialize_head=True, head_node_args={{"num_cpus": 0}})
first = there.add_node(num_cpus=1)
driver = subprocess.Popen([sys.executable, *sys.argv[1:], there.address])
checkpoint = folder / f"{{next(test_cluster.runs()).lineage}}.checkpoint"
while not checkpoint.exists() and driver.poll() is None:
    time.sleep(0.01)
there.remove_node(first, allow_graceful=False)
for _ in range(2):
    there.add_node(num_cpus=1)
code = driver.wait()
there.shutdown()
sys.exit(code)
"""


def runs() -> Iterator[Run]:
    """A long run first, then one that diverges and two short ones."""
    yield a_run(epochs=400)
    options = a_run().options
    for optimizer, rate in (("sgd_nesterov", 1e30), ("adagrad", 0.01), ("adamax", 0.01)):
        settings = {"learning_rate": rate}
        yield Run(
            "mnist_logistic_regression", options, "mnist-stand-in", optimizer, settings, 128, 3, 7
        )


def left(marker: str) -> list[str]:
    """The processes that inherited an environment, but for zombies."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if marker.encode() in (path / "environ").read_bytes():
                found.append((path / "cmdline").read_bytes().replace(b"\0", b" ").decode()[:200])
        except OSError:
            continue
    return found


# A shell lets what it runs in the background ignore SIGINT, and so do all its children.
# `preexec_fn` would fork, of which JAX warns where another test has imported it.
HEEDING = (
    "import os, signal, sys; signal.signal(2, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"
)


def start(command: list[str], **more: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", HEEDING, *command],
        cwd=ROOT,
        env={**os.environ, **more},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_until(condition, process: subprocess.Popen | None = None) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        assert process is None or process.poll() is None, process.communicate()
        time.sleep(0.1)


@needs_ray
@pytest.mark.e2e
def test_a_node_is_lost_in_the_middle_of_a_run(tmp_path):
    """A run goes on elsewhere from its checkpoint; all have the bits of uninterrupted ones."""
    script, keeper = tmp_path / "script.py", tmp_path / "keeper.py"
    script.write_text(SCRIPT.format(here=str(Path(__file__).parent)))
    keeper.write_text(KEEPER.format(here=str(Path(__file__).parent)))
    (tmp_path / "often").mkdir()
    (tmp_path / "often" / "sitecustomize.py").write_text(OFTEN)
    marker = uuid.uuid4().hex
    for name, *through in (("whole",), ("lost", str(keeper))):
        (tmp_path / name).mkdir()
        process = start(
            [sys.executable, *through, str(script), str(tmp_path / name)],
            PYTHONPATH=os.pathsep.join(map(str, (tmp_path / "often", ROOT, ROOT / "tests"))),
            MARKER=marker,
        )
        out, err = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, err[-3000:]
        assert "3 sgd_nesterov diverged in pass 0" in out
        assert "400 adam cost" in out
        assert ("it was tried once more" in out) == bool(through)
    wait_until(lambda: not left(marker))
    lost, whole = Store(tmp_path / "lost"), Store(tmp_path / "whole")
    assert lost.ids() == whole.ids() == sorted(run.id for run in runs())
    for each in runs():
        a, b = whole.get(each.id), lost.get(each.id)
        assert (a["config"], a["status"]) == (b["config"], b["status"])
        assert set(a["metrics"]) == set(b["metrics"])
        for name in set(a["metrics"]) - {"seconds"}:
            assert repr(a["metrics"][name]) == repr(b["metrics"][name])
        assert b["manifest"]["resumed"] == (each.epochs == 400)
    assert not list((tmp_path / "lost").glob("*.lock"))
    assert not list((tmp_path / "lost").glob("*.checkpoint"))


@needs_ray
@pytest.mark.e2e
def test_ctrl_c_leaves_nothing_running(tmp_path):
    marker = uuid.uuid4().hex
    line = "run fig1-mnist --profile smoke --data stand-in --protocol matched --engine ray"
    command = [sys.executable, "-m", "experiments", *line.split(), "--workers", "1"]
    process = start(command, ADAM_TF_BUILD=str(tmp_path), MARKER=marker)
    store = Store(tmp_path / "records")
    wait_until(lambda: store.ids(), process)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    last = err.splitlines()[-1]
    assert last == "interrupted; finished runs are kept; give the same command to continue"
    assert "Traceback" not in err
    wait_until(lambda: not left(marker))
    assert not list(store.path.glob("*.lock"))
    assert not list(store.path.glob(".new-*"))
    assert all(store.get(run_id) for run_id in store.ids())
