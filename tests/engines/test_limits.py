"""What a machine may do to a command: set its clock, lack room for files, processes and memory,
and lose the store. One clear line; what was trained stays."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading

import pytest
from commands import DATA, PATIENCE, RUN, STUDY, last_line, on_a_terminal, wait_for

from experiments import plan as planning
from experiments.records.store import Store

if sys.platform == "win32":
    pytest.skip("limits of POSIX", allow_module_level=True)

MATCHED = (*RUN, "--protocol", "matched")  # six runs


def complete(command) -> bool:
    """Whether the same command, given once more, has all six records."""
    code, out, err = command(*MATCHED)
    records = Store(command.records)
    planned = planning.plan(STUDY, "smoke", DATA, records, ("matched",))
    return (
        code == 0
        and "6 runs done" in out
        and "Traceback" not in err
        and not planned.missing(records)
        and not records.damaged
    )


# Every look at the wall clock finds another year.
LEAPING = """
    import random
    wall, years = time.time, random.Random(0)
    time.time = lambda: wall() + years.choice((-1e9, -4000.0, 0.0, 4000.0, 1e9))
"""


def test_a_clock_that_leaps_changes_nothing(command):
    """Neither the timeout of a run nor the bar goes by the wall clock."""
    command.change(LEAPING)
    code, out, shown = on_a_terminal(command, *MATCHED, "--timeout", "30", pause=0.3)
    assert code == 0
    assert "6 runs done" in out
    frames = [frame for frame in shown if frame.startswith("fig1-mnist ")]
    assert ", 6/6 runs" in frames[-1]
    for frame in frames:
        minutes, seconds = frame.split("%, ")[1].split(" elapsed")[0].split(":")
        assert 0 <= 60 * int(minutes) + int(seconds) < PATIENCE
    assert all(Store(command.records).get(run_id) for run_id in Store(command.records).ids())


def limited(command, limit: str, *arguments: str) -> tuple[int, str, str]:
    """Run the command under a limit of the shell's `ulimit`."""
    arguments = arguments or MATCHED
    line = ["bash", "-c", f'ulimit {limit} && exec "$@"', "bash", sys.executable]
    environment = {**os.environ, "ADAM_TF_BUILD": str(command.build), "LOG": str(command.log)}
    done = subprocess.run(
        [*line, str(command.script), *arguments],
        env={**environment, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    return done.returncode, done.stdout, done.stderr


def test_too_few_open_files_for_any_process(command):
    code, _, err = limited(command, "-n 10")
    assert code == 1
    assert "Traceback" not in err
    assert last_line(err) == (
        "adam-study: cannot start a training process (Too many open files): use fewer --workers, "
        "or raise the limit (ulimit -n, ulimit -u)"
    )
    assert not command.trained()


@pytest.mark.parametrize("there", [0, 1])
def test_no_more_processes(command, there):
    """As `ulimit -u` makes it, which does not bind root: with some processes training goes on."""
    command.change(
        f"""
        from multiprocessing import util
        spawn, started = util.spawnv_passfds, []
        def limited(path, arguments, descriptors):
            if b"--multiprocessing-fork" in arguments or "--multiprocessing-fork" in arguments:
                if len(started) == {there}:
                    raise BlockingIOError(11, "Resource temporarily unavailable")
                started.append(path)
            return spawn(path, arguments, descriptors)
        util.spawnv_passfds = limited
        """
    )
    code, out, err = command(*MATCHED, "--workers", "3")
    assert "Traceback" not in err
    line = (
        "adam-study: cannot start a training process (Resource temporarily unavailable): use fewer "
        "--workers, or raise the limit (ulimit -n, ulimit -u)"
    )
    if there:
        assert code == 0
        assert "6 runs done" in out
        assert err.count(f"{line}; training goes on in 1 process\n") == 1
    else:
        assert code == 1
        assert last_line(err) == line
    assert len(Store(command.records).ids()) == 6 * there


@pytest.mark.parametrize("engine", ["serial", "processes"])
def test_a_quota_that_a_record_exceeds(command, engine):
    """The limit lets the first look pass, and the other records."""
    command.change(
        """
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, (2 << 20, 2 << 20))
        def train(run, records, on_epoch=None, keep=False, whole=train):
            record = whole(run, records, on_epoch)
            if run.optimizer == "sgd_nesterov":
                record["metrics"]["training_cost"] = [1 / 3] * 200_000
                record["metrics"] = {"training_cost": record["metrics"]["training_cost"]}
            return record
        training.train = train
        """
    )
    code, _, err = command(*MATCHED, "--engine", engine, "--workers", "1")
    assert code == 1
    assert "Traceback" not in err
    assert last_line(err).startswith(f"adam-study: cannot write {command.records}")
    assert last_line(err).endswith(".json: File too large")
    assert len(Store(command.records).ids()) == 1
    assert not list(command.records.glob(".new-*"))
    command.change()
    assert complete(command)


def test_a_store_that_is_deleted_again_and_again(command):
    """While it is planned and trained; the next command has it whole."""
    ended = threading.Event()

    def delete() -> None:
        while not ended.wait(0.01):
            shutil.rmtree(command.records, ignore_errors=True)

    deleting = threading.Thread(target=delete)
    deleting.start()
    try:
        planned = command("plan", *RUN[1:])
        trained = command(*MATCHED, "--workers", "2", pause=0.05)
    finally:
        ended.set()
        deleting.join()
    assert planned[0] == 0
    assert "Traceback" not in planned[2] + trained[2]
    assert trained[0] == 1
    assert "6 runs done" not in trained[1]
    assert "adam-study: " in last_line(trained[2])
    assert complete(command)


def test_records_that_are_removed_meanwhile_are_said(command):
    """Those that a command has counted as done; others it trains again by itself."""
    assert complete(command)
    first = sorted(command.records.glob("*.json"))
    process = command.start(*RUN, "--engine", "serial", pause=0.02)
    wait_for(lambda: len(list(command.records.glob("*.json"))) == 8)
    for path in first[:2]:
        path.unlink()
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert not out
    assert last_line(err) == (
        f"adam-study: fig1-mnist: 2 records were removed from {command.records} meanwhile; the "
        "same command trains what is missing"
    )
    assert complete(command)
