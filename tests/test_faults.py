"""What goes wrong while a study runs: nothing is lost or half written, and `run` completes it.

Most tests replace training by arithmetic, in a driver script that worker processes import as well,
so that they need no TensorFlow; the last ones train.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import math
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import textwrap
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments import plan as planning
from experiments import studies, study
from experiments.analysis import results as analysis
from experiments.cli.main import main
from experiments.engines import execution
from experiments.paths import ROOT
from experiments.records import store
from experiments.records.store import (
    DamagedRecord,
    Store,
    decode,
    encode,
)
from experiments.training import train as training

if sys.platform == "win32":
    pytest.skip("signals and pseudo-terminals of POSIX", allow_module_level=True)

STUDY = studies.get("fig1-mnist")
DATA = "mnist-stand-in"
RUN = ("run", STUDY.name, "--profile", "smoke", "--data", "stand-in")
PATIENCE = 60.0  # seconds that a busy machine may take for anything

DRIVER = '''\
"""The command line with made-up training: one line of the log per run, costs by arithmetic."""
import math, os, signal, sys, time
from pathlib import Path
from experiments.records import store; from experiments.training import train as training
from experiments.cli.main import main

LOG = Path(os.environ["LOG"])
PAUSE = float(os.environ.get("PAUSE", "0"))


def train(run, records, keep=False):
    with LOG.open("a") as file:
        print(run.id, os.getpid(), file=file)
    time.sleep(PAUSE)
    cost = 0.1 + abs(math.log10(run.settings["learning_rate"]) + 1.5) + run.seed / 1e6
    metrics = {{name: [2 * cost, cost] for name in training.METRICS}}
    rest = {{"status": "finished", "diverged_at": None, "manifest": {{"wall_seconds": 0.5}}}}
    return {{"config": run.config(), "metrics": metrics, **rest}}


training.train = train
{extra}
if __name__ == "__main__":
    sys.exit(main())
'''


class Command:
    """The command line with made-up training, its build folder and its log."""

    def __init__(self, folder: Path, extra: str = "") -> None:
        self.script = folder / "driver.py"
        self.build, self.log = folder / "build", folder / "log"
        self.log.touch()
        self.change(extra)

    def change(self, extra: str = "") -> None:
        """Add lines to the script; the last ones go."""
        self.script.write_text(DRIVER.format(extra=textwrap.dedent(extra)))

    def start(self, *arguments: str, pause: float = 0, **options) -> subprocess.Popen:
        environment = {
            **os.environ,
            "ADAM_TF_BUILD": str(self.build),
            "LOG": str(self.log),
            "PAUSE": str(pause),
            "PYTHONPATH": str(ROOT),
        }
        command = [sys.executable, str(self.script), *(arguments or RUN)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        return subprocess.Popen(
            command, cwd=ROOT, env=environment, text=True, start_new_session=True, **pipes
        )

    def __call__(self, *arguments: str, **options) -> tuple[int, str, str]:
        process = self.start(*arguments, **options)
        out, err = process.communicate(timeout=PATIENCE)
        return process.returncode, out, err

    @property
    def records(self) -> Path:
        return self.build / "records"

    def trained(self) -> list[str]:
        """The ids of the trainings begun, in order."""
        return [line.split()[0] for line in self.log.read_text().splitlines()]

    def workers(self) -> set[int]:
        return {int(line.split()[1]) for line in self.log.read_text().splitlines()}


@pytest.fixture
def command(tmp_path) -> Command:
    return Command(tmp_path)


def wait_for(condition) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"


def check_complete(command: Command, runs: int = 36) -> None:
    """`run` completes the study, and then every record is whole and nothing half is left."""
    before = len(command.trained())
    code, out, _ = command()
    assert code == 0
    assert f"{runs} runs done" in out
    records = Store(command.records)
    assert len(records.ids()) == runs
    assert all(records.get(run_id) for run_id in records.ids())
    assert not records.damaged
    plan = planning.plan(STUDY, "smoke", DATA, records)
    assert not plan.missing(records)
    assert not plan.later
    assert command()[0] == 0
    assert len(command.trained()) <= before + runs


# --- records --------------------------------------------------------------------------------------

number = st.floats(allow_nan=False, allow_infinity=False)
text = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=8)
plain = st.one_of(st.none(), st.booleans(), st.integers(-(2**53), 2**53), number, text)


@st.composite
def records(draw, names=("training_cost", "a metric")):
    epochs = draw(st.integers(0, 3))
    column = st.lists(number, min_size=epochs, max_size=epochs)
    diverged = epochs == 0 or draw(st.booleans())
    return {
        "config": draw(st.dictionaries(text, plain, max_size=3)),
        "status": "diverged" if diverged else "finished",
        "diverged_at": epochs if diverged else None,
        "metrics": {name: draw(column) for name in names},
        "manifest": draw(st.dictionaries(text, plain, max_size=3)),
    }


def bits(record) -> str:
    """All content, with floats to the last bit and the sign of zero."""
    return json.dumps({part: record[part] for part in store.PARTS}, sort_keys=True)


@given(records())
def test_a_record_reads_back_bit_by_bit(record):
    run_id = study.config_id(record["config"])
    assert bits(decode(encode(record), run_id)) == bits(record)
    with pytest.raises(DamagedRecord, match="it is the record of run"):
        decode(encode(record), "0" * 16)


@given(records(), st.data())
def test_no_damage_passes_for_a_record(record, data):
    whole = encode(record)
    run_id = study.config_id(record["config"])
    place = data.draw(st.integers(0, len(whole) - 1))
    for content in (
        whole[:place],
        whole[:place] + bytes([whole[place] ^ data.draw(st.integers(1, 255))]) + whole[place + 1 :],
        whole + whole[place:],
    ):
        with contextlib.suppress(DamagedRecord):  # a byte between the words may not matter
            assert bits(decode(content, run_id)) == bits(record)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_record_holds_finite_numbers_only(value):
    record = {part: {} for part in store.PARTS} | {"metrics": {"training_cost": [value]}}
    with pytest.raises(ValueError, match="not JSON compliant"):
        encode(record)


# --- damaged and foreign files --------------------------------------------------------------------


def test_damaged_and_foreign_files_are_named_set_aside_and_trained_again(command):
    assert command()[0] == 0
    ids = Store(command.records).ids()
    files = [command.records / f"{run_id}.json" for run_id in ids]
    good = {path: path.read_bytes() for path in files}
    flipped = bytearray(good[files[1]])
    digit = re.compile(rb'"training_cost": \[\s*\d').search(flipped)
    assert digit
    flipped[digit.end() - 1] ^= 1  # another digit
    bad = {
        files[0]: good[files[0]][:100],
        files[1]: bytes(flipped),
        files[2]: good[files[3]],
        files[4]: b"",
        files[5]: b"\xff\xfe",
        files[6]: b'{"format": 1}',
        files[7]: b"[]",
    }
    for path, content in bad.items():
        path.write_bytes(content)
    files[8].unlink()
    files[8].mkdir()
    foreign = {
        command.records / "notes.json": b"{}",
        command.records / "notes.txt": b"mine",
        command.records / ".new-half": b'{"format',
        command.records / f"{ids[0]}.lock": b"",
        command.records / f"{ids[0]}.checkpoint": b"short",
    }
    for path, content in foreign.items():
        path.write_bytes(content)
    command.log.write_text("")

    code, out, err = command()
    assert code == 0
    assert "36 runs done" in out
    for path, reason in {
        files[0]: "it is not a whole record",
        files[1]: "its checksum does not fit its content",
        files[2]: f"it is the record of run {ids[3]}",
        files[4]: "it is not a whole record",
        files[5]: "it is not a whole record",
        files[6]: "it is not a whole record",
        files[7]: "it is not a whole record",
        files[8]: "it is a folder",
    }.items():
        assert err.count(f"{path} is ignored: {reason}; its run will be trained again") == 1
    assert err.count("notes.json is ignored: it bears no run's name") == 1
    assert sorted(set(command.trained())) == sorted([*(path.stem for path in bad), ids[8]])
    assert len(command.trained()) == 8
    for path, content in bad.items():
        assert path.with_suffix(".damaged").read_bytes() == content
        assert path.read_bytes() == good[path]
    assert files[8].with_suffix(".damaged").is_dir()
    for name in ("notes.json", "notes.txt", ".new-half"):
        assert (command.records / name).read_bytes() == foreign[command.records / name]
    code, _, err = command()
    assert code == 0
    assert err.count("is ignored") == 1  # the foreign file


def test_a_damaged_checkpoint_is_named_and_ignored(command):
    command.change(
        """
        def resume(run, records, keep=False, fresh=train):
            assert records.load_checkpoint(run, lambda arrays: True) is None
            return fresh(run, records)
        training.train = resume
        """
    )
    run = planning.plan(STUDY, "smoke", DATA, Store(command.records)).runs()[0]
    records = Store(command.records)
    records.save_checkpoint(run, [], {})
    path = command.records / f"{run.lineage}.checkpoint"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    code, out, err = command()
    assert code == 0
    assert "36 runs done" in out
    line = f"{path} is ignored: it is damaged; its run starts from the beginning"
    assert err.count(line) == 1
    assert not path.exists()


# --- disks ----------------------------------------------------------------------------------------


def test_a_full_disk_is_found_before_training(command):
    command.change(
        """
        def full(descriptor):
            raise OSError(28, "No space left on device")
        os.fsync = full
        """
    )
    code, _, err = command()
    assert code == 1
    assert not command.trained()
    assert err.splitlines()[2:] == [last_line(err)]
    assert last_line(err).startswith(f"adam-study: cannot write {command.records}")
    assert last_line(err).endswith("No space left on device")
    assert not list(command.records.glob("*"))
    command.change()
    check_complete(command)


@pytest.mark.parametrize("engine", execution.ENGINES)
def test_a_disk_that_fills_up_keeps_what_was_written(command, engine):
    command.change(
        """
        replace = os.replace
        def full(source, target):
            if str(target).endswith(".json") and len(list(Path(target).parent.glob("*.json"))) >= 5:
                raise OSError(28, "No space left on device")
            replace(source, target)
        os.replace = full
        """
    )
    code, _, err = command(*RUN, "--engine", engine)
    assert code == 1
    assert "Traceback" not in err
    assert last_line(err).startswith(f"adam-study: cannot write {command.records}")
    assert last_line(err).endswith("No space left on device")
    assert 5 <= len(Store(command.records).ids()) <= 6  # two workers may write at once
    command.change()
    check_complete(command)


@contextlib.contextmanager
def mounted(folder: Path, options: str):
    folder.mkdir(exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    with contextlib.suppress(FileNotFoundError):
        if subprocess.run(mount, capture_output=True).returncode == 0:
            try:
                yield
            finally:
                subprocess.run(["umount", str(folder)], check=True)
            return
    pytest.skip("mounting needs privileges")


@pytest.mark.parametrize(
    ("options", "reason"),
    [("size=64k", "No space left on device"), ("ro", "Read-only file system")],
)
def test_a_folder_without_room_or_right_is_found_before_training(command, options, reason):
    with mounted(command.build, options):
        code, _, err = command()
        assert code == 1
        assert last_line(err).startswith("adam-study: cannot write ")
        assert str(command.records) in err
        assert last_line(err).endswith(reason)
        assert err.count("\n") == 3  # the two that say which data
        assert not command.trained()
    check_complete(command)


@pytest.mark.parametrize("place", ["build", "build/records"])
def test_a_file_in_the_place_of_the_folder(command, place):
    path = command.build.parent / place
    path.parent.mkdir(exist_ok=True)
    path.write_text("mine")
    code, _, err = command()
    assert code == 1
    assert last_line(err).startswith("adam-study: ")
    assert str(path) in last_line(err)
    assert not command.trained()
    assert path.read_text() == "mine"
    path.unlink()
    check_complete(command)


def last_line(err: str) -> str:
    return err.rstrip("\n").splitlines()[-1]


@pytest.mark.parametrize("fault", [OSError(errno.ENOSPC, "No space left"), KeyboardInterrupt()])
@pytest.mark.parametrize("function", ["fsync", "replace", "chmod"])
def test_a_failed_write_leaves_the_file_and_nothing_else(tmp_path, monkeypatch, function, fault):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail(*arguments):
        raise fault

    monkeypatch.setattr(store.os, function, fail)
    with pytest.raises(type(fault)) as caught:
        store.write_atomically(path, b"new")
    if isinstance(fault, OSError):
        assert caught.value.errno == errno.ENOSPC
        assert f"cannot write {path}: No space left" in str(caught.value)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


# --- killed and interrupted -----------------------------------------------------------------------


def test_a_killed_worker_is_one_line(command):
    command.change(
        """
        def killed(run, records, keep=False, whole=train):
            record = whole(run, records)
            if len(list(records.path.glob("*.json"))) >= 4:
                os.kill(os.getpid(), signal.SIGKILL)
            return record
        training.train = killed
        """
    )
    code, _, err = command()
    assert code == 1
    assert "Traceback" not in err
    assert last_line(err) == (
        "adam-study: a training process was killed (out of memory?); finished runs are kept, "
        "the same command goes on, --workers 1 needs the least memory"
    )
    assert 4 <= len(Store(command.records).ids()) <= 5
    wait_for(lambda: not any(map(alive, command.workers())))
    command.change()
    check_complete(command)


@pytest.mark.parametrize("engine", execution.ENGINES)
def test_killed_while_it_writes_a_record(command, engine):
    command.change(
        """
        replace = os.replace
        def killed(source, target):
            if str(target).endswith(".json") and len(list(Path(target).parent.glob("*.json"))) >= 3:
                os.kill(os.getpid(), signal.SIGKILL)
            replace(source, target)
        os.replace = killed
        """
    )
    code, _, err = command(*RUN, "--engine", engine)
    assert code == (-signal.SIGKILL if engine == "serial" else 1)
    assert "Traceback" not in err
    assert list(command.records.glob(".new-*"))  # the half file
    found = Store(command.records)
    assert len(found.ids()) >= 3
    assert all(found.get(run_id) for run_id in found.ids())
    command.change()
    check_complete(command)


def test_workers_end_with_their_parent(command):
    process = command.start(*RUN, "--workers", "2", pause=PATIENCE)
    wait_for(lambda: len(command.workers()) == 2)
    process.kill()
    started = time.monotonic()
    wait_for(lambda: not any(map(alive, command.workers())))
    assert time.monotonic() - started < 10
    process.communicate()
    command.log.write_text("")
    check_complete(command)


@pytest.fixture
def _sigint_is_heard():
    """A shell lets what it runs in the background ignore SIGINT, and so do all its children."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_sigint_is_heard")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("engine", execution.ENGINES)
def test_ctrl_c_and_sigterm_during_training(command, engine, number):
    process = command.start(*RUN, "--engine", engine, pause=0.2)
    wait_for(lambda: len(list(command.records.glob("*.json"))) >= 2)
    os.killpg(process.pid, number)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert last_line(err) == "interrupted; finished runs are kept, the same command goes on"
    assert "Traceback" not in err
    wait_for(lambda: not any(map(alive, command.workers())))
    kept = {path: path.stat().st_mtime_ns for path in command.records.glob("*.json")}
    assert 2 <= len(kept) < 36
    assert not list(command.records.glob(".new-*"))
    check_complete(command)
    assert all(path.stat().st_mtime_ns == mtime for path, mtime in kept.items())


@pytest.mark.usefixtures("_sigint_is_heard")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_sigterm_while_workers_start(command, number):
    """At their start the workers have not yet said that these are not for them."""
    command.change(
        """
        if __name__ != "__main__":
            LOG.with_name("starting").touch()
            time.sleep(1)
        """
    )
    process = command.start()
    wait_for(lambda: command.log.with_name("starting").exists())
    os.killpg(process.pid, number)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert last_line(err) == "interrupted; finished runs are kept, the same command goes on"
    assert "Traceback" not in err
    assert "KeyboardInterrupt" not in err


def test_ctrl_c_in_every_command_is_130(monkeypatch, capsys):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("experiments.cli.main._table", interrupt)
    assert main(["list"]) == 130
    assert capsys.readouterr().err.count("\n") == 1


# --- several commands, one store ------------------------------------------------------------------


def test_two_commands_share_a_store(command):
    both = [command.start(*RUN, pause=0.05) for _ in range(2)]
    outputs = [process.communicate(timeout=PATIENCE) for process in both]
    assert [process.returncode for process in both] == [0, 0]
    for out, err in outputs:
        assert "36 runs done" in out
        assert "Traceback" not in err
    trained = command.trained()
    assert len(trained) == len(set(trained)) == 36
    assert {line for _, err in outputs for line in err.splitlines() if "another process" in line}
    assert not list(command.records.glob("*.lock"))
    check_complete(command)


def test_a_run_is_taken_over_when_the_other_command_is_killed(command):
    first = command.start(*RUN, "--protocol", "matched", "--engine", "serial", pause=PATIENCE)
    wait_for(lambda: command.trained())
    second = command.start(*RUN, "--protocol", "matched", "--workers", "1")
    wait_for(lambda: len(list(command.records.glob("*.json"))) == 5)
    assert second.poll() is None
    first.kill()
    first.communicate()
    out, _ = second.communicate(timeout=PATIENCE)
    assert second.returncode == 0
    assert "6 runs done" in out
    assert command.trained()[0] == command.trained()[-1]
    assert len(command.trained()) == 7


# --- progress -------------------------------------------------------------------------------------


def test_off_a_terminal_progress_is_a_line_per_run(command):
    code, out, err = command(*RUN, "--protocol", "matched")
    assert code == 0
    assert out == f"fig1-mnist: 6 runs done at profile smoke, in {command.records}\n"
    lines = err.splitlines()
    assert lines[0].startswith("STAND-IN DATA")
    assert [line.split()[1] for line in lines[2:]] == [f"{n}/6" for n in range(1, 7)]
    assert lines[2].startswith("fig1-mnist 1/6 ")
    assert ": cost " in lines[2]
    assert lines[2].endswith(", 0.5 s")
    assert "\r" not in err
    code, out, _ = command("plan", *RUN[1:], "--protocol", "matched")
    assert code == 0
    assert out.endswith("nothing is missing\n")


def test_on_a_terminal_progress_is_a_live_bar(command):
    screen, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    process = command.start(*RUN, pause=0.03, stderr=terminal)
    os.close(terminal)
    shown = b""
    with contextlib.suppress(OSError):  # Linux's way to say that the other end is closed
        while part := os.read(screen, 1 << 16):
            shown += part
    os.close(screen)
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    frames = [frame for frame in shown.decode().split("\r") if frame.startswith("fig1-mnist ")]
    assert len(frames) > 5
    assert " 0/30 runs, " in frames[0]
    assert " 36/36 runs, " in frames[-1]
    assert "█" in frames[-1]
    assert "last: " in frames[-1]
    assert all(len(frame) <= 100 for frame in frames)


# --- real training --------------------------------------------------------------------------------

TRAINING = """\
import os, signal, sys
from pathlib import Path
import numpy as np
from experiments.engines import execution; from experiments.training import train as training
from experiments.data import files, mnist
from experiments.records.store import Store
from experiments.study import Run

training.CHECKPOINT_SECONDS = 0.0
save = Store.save_checkpoint


def load(kind):
    noise = np.random.default_rng(0)
    images, labels = noise.integers(0, 256, (800, 28, 28), np.uint8), noise.integers(0, 10, 800)
    labels = labels.astype(np.uint8)
    return files.Arrays(images[:640], labels[:640], images[640:], labels[640:])


def save_and_die(self, run, arrays, metrics, continues):
    save(self, run, arrays, metrics, continues)
    if len(metrics["training_cost"]) == 3 and "KILL" in os.environ:
        os.kill(os.getpid(), signal.SIGKILL)


def runs():
    for optimizer, rate in (("adam", 0.001), ("sgd_nesterov", 1e30), ("adagrad", 0.01)):
        yield Run(
            "mnist_logistic_regression",
            {"train_examples": 640, "held_out_examples": 160, "l2": 1e-4}, "mnist-stand-in",
            optimizer, {"learning_rate": rate, "decay": "sqrt_step"}, 128, 5, 7,
        )


mnist.load = load
Store.save_checkpoint = save_and_die
if __name__ == "__main__":
    engine, folder = sys.argv[1:]
    with execution.ENGINES[engine](Path(folder), 1) as train_all:
        for result in train_all(list(runs())):
            print(result.run.optimizer, result.end)
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> dict[str, Path]:
    """The same runs, serial and uninterrupted, and in processes of which the first is killed."""
    folder = tmp_path_factory.mktemp("training")
    script = folder / "driver.py"
    script.write_text(TRAINING)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    def start(engine: str, name: str, **more: str) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, str(script), engine, str(folder / name)],
            env={**environment, **more},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    killed = start("processes", "killed", KILL="1")
    whole = start("serial", "whole")
    _, err = killed.communicate(timeout=2 * PATIENCE)
    assert killed.returncode == 1
    assert "a training process was killed" in err
    assert not list((folder / "killed").glob("*.json"))
    assert list((folder / "killed").glob("*.checkpoint"))
    resumed = start("processes", "killed")
    for process in (whole, resumed):
        out, err = process.communicate(timeout=2 * PATIENCE)
        assert process.returncode == 0, err
        assert "sgd_nesterov diverged in pass 0" in out
    assert not list((folder / "killed").glob("*.checkpoint"))
    return {name: folder / name for name in ("whole", "killed")}


def test_engines_and_resumed_runs_give_the_same_bits(trained):
    whole, resumed = Store(trained["whole"]), Store(trained["killed"])
    assert whole.ids() == resumed.ids()
    assert len(whole.ids()) == 3
    continued = []
    for run_id in whole.ids():
        a, b = whole.get(run_id), resumed.get(run_id)
        assert a["config"] == b["config"]
        assert a["status"] == b["status"]
        assert list(a["metrics"]) == list(training.METRICS)
        for name in set(training.METRICS) - {"seconds"}:
            assert repr(a["metrics"][name]) == repr(b["metrics"][name])
        assert not a["manifest"]["resumed"]
        if b["manifest"]["resumed"]:
            continued.append(b["config"]["optimizer"])
            assert len(b["metrics"]["training_cost"]) == 5
    assert continued == ["adam"]


def test_a_diverged_run_is_a_result(trained):
    records = Store(trained["whole"])
    found = {records.get(i)["config"]["optimizer"]: records.get(i) for i in records.ids()}
    assert found["sgd_nesterov"]["status"] == "diverged"
    assert found["sgd_nesterov"]["diverged_at"] == 0
    assert study.final_cost(found["sgd_nesterov"]) == math.inf
    for name in ("adam", "adagrad"):
        assert found[name]["status"] == "finished"
        assert len(found[name]["metrics"]["training_cost"]) == 5


def test_a_study_with_diverged_runs_completes(command):
    """The largest learning rates diverge, and one matched run of two; selection avoids them."""
    command.change(
        """
        def diverge(run, records, keep=False, whole=train):
            record = whole(run, records)
            matched = run.optimizer == "adagrad" and run.seed == 1
            if run.settings["learning_rate"] >= 0.1 or matched:
                cut = {name: values[:1] for name, values in record["metrics"].items()}
                record |= {"status": "diverged", "diverged_at": 1, "metrics": cut}
            return record
        training.train = diverge
        """
    )
    code, out, err = command()
    assert code == 0
    assert "diverged in pass 1" in err
    records = Store(command.records)
    found = analysis.results(STUDY, "smoke", DATA, records)
    assert not found.plan.missing(records)
    assert not found.plan.later
    assert all(rate["learning_rate"] < 0.1 for rate in found.plan.selected.values())
    trials = found.trials()
    big = trials["learning_rate"] >= 0.1
    assert big.any()
    assert (trials["final_cost"][big] == math.inf).all()
    assert trials["final_cost"][~big].map(math.isfinite).all()
    costs = found.matrix("matched", "AdaGrad")
    assert costs.loc[1].tolist()[1] == math.inf
    code, out, _ = command("claims", "--profile", "smoke", "--data", "stand-in", "--json")
    assert code == 0
    assert json.loads(out)
