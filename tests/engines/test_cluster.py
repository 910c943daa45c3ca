"""Ray: the same records as everywhere, whatever happens to its nodes; nothing is left running."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import signal
import subprocess
import sys
import time
import types
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import OFTEN, alive, run

from experiments.engines import cluster, node, pool
from experiments.engines.runs import Failure, Options
from experiments.paths import ROOT
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


class RayError(Exception):
    pass


class ActorDiedError(RayError):
    pass


class RaySystemError(RayError):
    pass


class RayTaskError(RayError):
    cause = None


class StandIn:
    """What of Ray the driver uses. `train` makes what a node answers; an exception loses it."""

    exceptions = types.SimpleNamespace(
        RayError=RayError, RayTaskError=RayTaskError, RaySystemError=RaySystemError
    )

    def __init__(self, resources: dict, train=None, differs: object = "") -> None:
        self.resources, self.train, self.differs = resources, train, differs
        self.actors: list[dict] = []
        self.passes: dict[str, int] = {}
        self.killed = 0

    def init(self, **options) -> None:
        self.options = options

    def shutdown(self) -> None:
        self.ended = True

    def cluster_resources(self) -> dict:
        return self.resources

    def remote(self, cls):
        def call(function):
            return types.SimpleNamespace(remote=lambda *arguments: (function, arguments))

        def make(*_):
            if cls is node.Board:
                return types.SimpleNamespace(passes=call(lambda: dict(self.passes)))
            return types.SimpleNamespace(
                differences=call(lambda theirs: self.differs), train=call(self.train)
            )

        def options(**asked):
            self.actors += [asked] if cls is node.Trainer else []
            return types.SimpleNamespace(remote=make)

        return types.SimpleNamespace(options=options)

    def get(self, reference):
        function, arguments = reference
        found = function(*arguments)
        if isinstance(found, Exception):
            raise found
        return found

    def wait(self, references, timeout, fetch_local):
        time.sleep(min(timeout, 0.001))
        return references, []

    def kill(self, actor, no_restart):
        self.killed += 1


def answer(config, folder, keep, board=None) -> dict:
    record = record_of(Run.from_config(config))
    return {"record": record, "keep": keep, "notes": (), "megabytes": 100.0}


@pytest.fixture
def use(monkeypatch):
    def put(library: StandIn) -> StandIn:
        real = importlib.import_module
        monkeypatch.setattr(
            cluster.importlib,
            "import_module",
            lambda name: library if name == "ray" else real(name),
        )
        return library

    return put


def train_all(folder: Path, runs, workers=2, **options) -> list:
    with cluster.ray(folder, Options(workers, **options)) as train:
        return list(train(runs))


def test_records_come_back_and_the_driver_writes_them(tmp_path, use):
    library = use(StandIn({"CPU": 8.0}, answer))
    store, runs = Store(tmp_path), [a_run(seed) for seed in range(4)]
    store.put(record_of(runs[0]))  # is not trained again
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
        library.passes = {run.id: min(3, next(waits) // 4)}
        late = [r for r in references if r[0] is answer and library.passes[run.id] < 3]
        return ([], late) if late else wait(references, timeout, fetch_local)

    library.wait = slow
    with cluster.ray(tmp_path, Options(1)) as train:
        list(train([run], (), lambda *words: heard.append(words)))
    passes = [number for _, number in heard]
    assert passes == sorted(set(passes))
    assert passes[0] > 0
    assert all(which == run for which, _ in heard)


def test_a_lost_run_is_tried_three_times(tmp_path, use):
    tries: list[int] = []

    def train(config, folder, keep, board):
        tries.append(config["seed"])
        if config["seed"] == 1 or (config["seed"] == 2 and tries.count(2) < 3):
            return ActorDiedError("The actor died because its node has died.")
        return answer(config, folder, keep)

    use(StandIn({"CPU": 8.0}, train))
    found = {r.run.seed: r for r in train_all(tmp_path, [a_run(seed) for seed in range(3)])}
    assert sorted(tries) == [0, 1, 1, 1, 2, 2, 2]
    assert found[1].failed
    assert found[1].end == "its node was lost, 3 times"
    assert not found[2].failed
    assert len(found[2].notes) == 2
    for note in found[2].notes:
        assert note.endswith("its node was lost; it was tried once more")
    assert not list(tmp_path.glob("*.lock"))


def test_a_failed_run_stops_no_other_and_its_trace_comes_back(tmp_path, use):
    def train(config, folder, keep, board):
        if config["seed"] == 1:
            return {"failed": "KeyError: 3", "trace": "Traceback", "notes": (), "megabytes": 1.0}
        return answer(config, folder, keep)

    use(StandIn({"CPU": 8.0}, train))
    found = {r.run.seed: r for r in train_all(tmp_path, [a_run(seed) for seed in range(3)])}
    assert [found[seed].failed for seed in range(3)] == [False, True, False]
    kept = tmp_path / f"{a_run(1).id}.failed"
    assert kept.read_text() == "Traceback"
    assert found[1].end == f"KeyError: 3; the traceback is in {kept}"


def test_what_is_wrong_with_a_node_is_one_line(tmp_path, use):
    differs = "node n1 differs from this machine: keras is 3.0.0, not 3.12.0"
    use(StandIn({"CPU": 2.0}, answer, differs))
    with pytest.raises(ValueError, match="node n1 differs"):
        train_all(tmp_path, [a_run()])
    use(StandIn({"CPU": 2.0}, answer, RayError("No module named 'experiments'")))
    with pytest.raises(ValueError, match="can't import the study; it needs this checkout at /"):
        train_all(tmp_path, [a_run()])
    use(StandIn({"CPU": 2.0}, answer, RayError("worker crashed")))
    with pytest.raises(ChildProcessError, match="Ray actors in a row could not start"):
        train_all(tmp_path, [a_run()])
    stop = {"stop": "node n1: No space left on device", "notes": (), "megabytes": 1.0}
    use(StandIn({"CPU": 2.0}, lambda *_: stop))
    with pytest.raises(ConnectionError, match="node n1: No space left on device"):
        train_all(tmp_path, [a_run()])
    assert not Store(tmp_path).ids()
    assert not list(tmp_path.glob("*.lock"))


@pytest.mark.parametrize(
    ("resources", "gpus", "workers", "slots", "share"),
    [
        ({"CPU": 8.0}, None, 10_000, 8, 0.0),
        ({"CPU": 8.0}, None, 3, 3, 0.0),
        ({"CPU": 8.0, "GPU": 2.0}, None, 10_000, 2, 1.0),
        ({"CPU": 8.0, "GPU": 2.0}, 0.25, 10_000, 8, 0.25),
        ({"CPU": 4.0, "GPU": 2.0}, 0.25, 10_000, 4, 0.25),
        ({"CPU": 8.0, "GPU": 2.0}, 0.0, 10_000, 8, 0.0),
        ({}, None, 10_000, 0, 0.0),
    ],
)
def test_runs_share_cores_and_gpus(tmp_path, resources, gpus, workers, slots, share):
    library = StandIn(resources)
    found = cluster._Cluster(library, Store(tmp_path), Options(workers, gpus=gpus))
    assert found.limit() == slots
    assert library.actors == [{"num_cpus": 1, "num_gpus": share, "max_restarts": 0}]


def test_a_gpu_that_the_cluster_lacks(tmp_path, use):
    use(StandIn({"CPU": 8.0}))
    with pytest.raises(ValueError, match=r"--gpus-per-run 0.5: the Ray cluster has no GPU"):
        train_all(tmp_path, [a_run()], gpus=0.5)


def test_nodes_that_come_later_are_used(tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "LOOK_SECONDS", 0.0)
    library = StandIn({"CPU": 1.0})
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
    monkeypatch.setattr(cluster, "LOOK_SECONDS", 0.0)
    library = use(StandIn({}, answer))
    looks = iter(range(1000))
    library.cluster_resources = lambda: {"CPU": 1.0} if next(looks) > 2 else {}
    assert len(train_all(tmp_path, [a_run()])) == 1
    assert capsys.readouterr().err == "waiting for a node of the Ray cluster with room\n"


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "127.0.0.1:99999999999"])
def test_a_cluster_that_is_not_there(tmp_path, use, address):
    use(StandIn({}))
    with pytest.raises(ConnectionError, match=f"no Ray cluster at {address}: "):
        train_all(tmp_path, [a_run()], address=address)


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
    with pytest.raises(ConnectionError, match=r"^the Ray cluster is gone \(RaySystemError: no rep"):
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
    library, told = use(StandIn({"CPU": 8.0, "GPU": 2.0}, answer)), []
    remote = library.remote

    def noted(cls):
        made = remote(cls)
        if cls is not node.Trainer:
            return made

        def options(**asked):
            start = made.options(**asked).remote
            return types.SimpleNamespace(remote=lambda *given: told.append(given) or start(*given))

        return types.SimpleNamespace(options=options)

    library.remote = noted
    assert len(train_all(tmp_path, [a_run(seed) for seed in range(3)], gpus=gpus)) == 3
    assert {gpu for _, gpu in told} == {has}


def test_a_node_says_how_it_differs(trainer):
    ours = node.facts()
    assert trainer.differences(ours) == ""
    assert {"code", "requirements.lock", "python", "keras", "numpy"} <= set(ours)
    text = trainer.differences({**ours, "keras": "2.0", "code": "0" * 12})
    assert text.startswith("node ")
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
    found = trainer.train(run.config(), str(tmp_path), False, board)
    assert told == [(run.id, 1)]  # a word a second is enough
    assert found["record"] == record_of(run)
    assert given == [tmp_path]
    assert not Store(tmp_path).ids()  # the driver writes it
    monkeypatch.setattr(engine, "attempt", lambda *_: Failure("KeyError: 3", "Traceback"))
    assert trainer.train(run.config(), str(tmp_path), False, board)["failed"] == "KeyError: 3"

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(engine, "attempt", full)
    assert trainer.train(run.config(), str(tmp_path), False, board)["stop"].endswith(
        ": No space left on device"
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
