"""Processes that are killed, crash, hang or grow: they are replaced, and the rest is trained."""

from __future__ import annotations

import re
import shutil
import sys
import time
import types

import pytest
from commands import PATIENCE, RUN, alive, check_complete, last_line, wait_for

from experiments.cli import main
from experiments.engines import runs
from experiments.records.store import Store

if sys.platform == "win32":
    pytest.skip("signals of POSIX", allow_module_level=True)

MATCHED = (*RUN, "--protocol", "matched")  # six runs
ONE = "run.optimizer == 'adagrad' and run.seed == 1"


def misbehave(command, how: str, which: str = ONE) -> None:
    command.change(
        f"""
        def train(run, records, on_epoch=None, keep=False, whole=train):
            record = whole(run, records, on_epoch)
            if {which}:
                {how}
            return record
        training.train = train
        """
    )


def test_a_killed_process_is_replaced_and_its_run_tried_once_more(command):
    misbehave(
        command,
        "os.kill(os.getpid(), signal.SIGKILL)",
        "run.seed == 1 and LOG.read_text().count(run.id) == 1",
    )
    code, out, err = command(*MATCHED)
    assert code == 0
    assert "6 runs done" in out
    assert err.count("its process was killed (SIGKILL, out of memory? --workers 1 needs the least)")
    assert err.count("it was tried once more") == 3  # one of each arm
    assert len(command.trained()) == 9
    wait_for(lambda: not any(map(alive, command.workers())))


@pytest.mark.parametrize(("ahead", "tries"), [(10, 5), (0, 2)])
def test_only_losses_without_progress_count(command, ahead, tries):
    """A try that begins with more passes than the last had a newer checkpoint."""
    command.change(
        f"""
        def train(run, records, on_epoch=None, keep=False, whole=train):
            record = whole(run, records)
            tries = LOG.read_text().count(run.id)
            if {ONE} and tries < 5:
                on_epoch(1 + {ahead} * tries)
                os.kill(os.getpid(), signal.SIGKILL)
            return record
        training.train = train
        """
    )
    code, _, err = command(*MATCHED)
    assert code == (0 if ahead else 1)
    assert ("it was tried once more" in err) == bool(ahead)
    assert len(command.trained()) == 5 + tries
    if not ahead:
        assert last_line(err).endswith("--workers 1 needs the least), twice")


def test_losses_since_the_last_progress_are_told(command):
    command.change(
        f"""
        def train(run, records, on_epoch=None, keep=False, whole=train):
            record = whole(run, records)
            if {ONE}:
                on_epoch(1 + 10 * min(3, LOG.read_text().count(run.id)))
                os._exit(7)
            return record
        training.train = train
        """
    )
    code, _, err = command(*MATCHED)
    assert code == 1
    assert last_line(err).endswith(
        "failed: its process ended with exit code 7, twice since it last got further"
    )
    assert len(command.trained()) == 5 + 4


def test_a_process_that_ends_slowly_is_not_said_to_be_killed(command):
    """It has hung up, and needs a moment to end by itself."""
    command.change(
        f"""
        import threading
        from experiments.engines import processes
        if __name__ != "__main__":
            def train(run, records, on_epoch=None, keep=False, whole=train):
                record = whole(run, records)
                if {ONE}:
                    os.closerange(3, 64)
                    time.sleep(1)
                    os._exit(7)
                return record
            training.train = train
        """
    )
    code, _, err = command(*MATCHED)
    assert code == 1
    assert last_line(err).endswith("failed: its process ended with exit code 7, twice")


def test_runs_that_fail_stop_no_other(command):
    """Five of the six fail, each in its way; one line says how, a file has the rest."""
    command.change(
        """
        def train(run, records, on_epoch=None, keep=False, whole=train):
            record = whole(run, records, on_epoch)
            match run.optimizer, run.seed:
                case "adagrad", 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                case "adagrad", 1:
                    os._exit(7)
                case "adam", 0:
                    raise MemoryError
                case "adam", 1:
                    raise KeyError("two\\nlines")
                case "sgd_nesterov", 0:
                    raise RecursionError
            return record
        training.train = train
        """
    )
    code, _, err = command(*MATCHED)
    assert code == 1
    assert "Traceback" not in err
    for run, reason in {
        "adagrad .* seed 0": r"its process was killed \(SIGKILL, out of memory\? .*\), twice",
        "adagrad .* seed 1": "its process ended with exit code 7, twice",
        "adam .* seed 0": "out of memory; --workers 1 needs the least; the traceback is in .*",
        "adam .* seed 1": r"KeyError: 'two\\nlines'; the traceback is in .*/\w{16}\.failed",
        "sgd_nesterov .* seed 0": r"RecursionError; the traceback is in .*/\w{16}\.failed",
    }.items():
        line = rf"^adam-study: fig1-mnist: {run} failed: {reason}$"
        assert len(re.findall(line, err, re.MULTILINE)) == 1, run
    assert err.count("adam-study: ") == 5
    assert len(Store(command.records).ids()) == 1
    assert len(command.trained()) == 6 + 2
    kept = list(command.records.glob("*.failed"))
    assert len(kept) == 3
    assert all("Traceback (most recent call last)" in path.read_text() for path in kept)
    command.change()
    check_complete(command, "processes")
    assert not list(command.records.glob("*.failed"))


class ResourceExhaustedError(Exception):
    """As TensorFlow's."""


@pytest.mark.parametrize(
    ("error", "memory"),
    [
        (MemoryError(), "memory"),
        (ResourceExhaustedError("OOM on /device:CPU:0 by allocator cpu"), "memory"),
        (ResourceExhaustedError("OOM on /device:GPU:0 by allocator GPU_0_bfc"), "GPU memory"),
        (RuntimeError("Failed to create: CUDA_ERROR_OUT_OF_MEMORY: out of memory"), "GPU memory"),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes"), "cpu"),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes"), "gpu"),
        (ValueError("out of memory"), ""),
    ],
)
def test_a_full_memory_is_recognised(error, memory, monkeypatch):
    """TensorFlow says whose it is; JAX, whose messages do not, has the GPU or has none."""
    if memory in ("cpu", "gpu"):
        backend, memory = memory, "GPU memory" if memory == "gpu" else "memory"
        jax = types.SimpleNamespace(default_backend=lambda: backend)
        monkeypatch.setitem(sys.modules, "jax", jax)
        monkeypatch.setenv("KERAS_BACKEND", "jax")
    assert runs.full_memory(error) == memory
    assert runs.reason(error).startswith(f"out of {memory}") == bool(memory)


def test_alone_in_its_process_a_run_has_no_fewer_beside_it(command):
    misbehave(command, "raise MemoryError")
    code, _, err = command(*MATCHED, "--engine", "serial")
    assert code == 1
    assert "failed: out of memory; the traceback is in" in last_line(err)


@pytest.mark.parametrize(
    ("line", "said"), [("plan", "; --workers 1 needs the least"), ("list", "")]
)
def test_a_command_out_of_memory_advises_what_it_takes(line, said, monkeypatch, capsys):
    def full(_):
        raise MemoryError

    monkeypatch.setitem(main.COMMANDS, line, (full, *main.COMMANDS[line][1:]))
    assert main.main([line]) == 1
    assert capsys.readouterr().err == f"adam-study: out of memory{said}\n"


def test_the_serial_engine_goes_on_as_well(command):
    misbehave(command, "raise KeyError(3)")
    code, _, err = command(*MATCHED, "--engine", "serial")
    assert code == 1
    (kept,) = command.records.glob("*.failed")
    assert last_line(err).endswith(f"seed 1 failed: KeyError: 3; the traceback is in {kept}")
    assert len(Store(command.records).ids()) == 5


def test_a_failed_trial_ends_the_tuning_of_its_study_alone(command):
    misbehave(command, "raise KeyError(3)", "run.seed >= 1000 and run.optimizer == 'adam'")
    code, out, err = command("run", "fig1-mnist", "sec7-logistic", *RUN[2:], "--protocol", "tuned")
    assert code == 1
    assert err.count(" failed: KeyError: 3") == len(list(command.records.glob("*.failed"))) > 0
    assert "fig1-mnist: adam" in err
    assert "sec7-logistic: adam" in err
    assert "Traceback" not in err
    assert not out


def test_a_run_that_hangs_is_given_up(command):
    misbehave(command, "time.sleep(600)")
    started = time.monotonic()
    code, _, err = command(*MATCHED, "--timeout", "2")
    assert code == 1
    assert time.monotonic() - started < PATIENCE
    assert last_line(err).endswith(
        "seed 1 failed: it took longer than 2 s, the --timeout of a run; "
        "its last checkpoint is kept"
    )
    assert len(Store(command.records).ids()) == 5
    wait_for(lambda: not any(map(alive, command.workers())))


def test_processes_that_all_end_are_one_line(command):
    command.change(
        """
        if __name__ != "__main__":
            os._exit(3)
        """
    )
    code, _, err = command(*MATCHED, "--workers", "2")
    assert code == 1
    assert last_line(err) == (
        "adam-study: 8 training processes ended in a row; the last time, its process ended with "
        "exit code 3; finished runs are kept; give the same command to continue"
    )
    assert not list(command.records.glob("*.json"))


def test_processes_that_grow_are_replaced(command):
    """Every run leaves 40 MB behind, and none may be 60 MB above where it started."""
    command.change(
        """
        from experiments.engines import pool
        from experiments.training.runtime import memory_mb
        pool.GROWTH_MB = 60.0
        left = []
        def leak(run, records, on_epoch=None, keep=False, whole=train):
            left.append(os.urandom(40 << 20))
            with LOG.with_name("memory").open("a") as file:
                print(memory_mb(), file=file)
            return whole(run, records, on_epoch)
        training.train = leak
        """
    )
    code, out, _ = command(*MATCHED, "--workers", "1")
    assert code == 0
    assert "6 runs done" in out
    used = [float(line) for line in command.log.with_name("memory").read_text().splitlines()]
    assert len(used) == 6
    assert max(used) < used[0] + 60 + 40 + 10
    assert len(command.workers()) == 2


def test_a_quota_on_files_is_found_before_training(command):
    command.change(
        """
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))
        """
    )
    code, _, err = command(*MATCHED)
    assert code == 1
    assert last_line(err).startswith(f"adam-study: cannot write {command.records}")
    assert last_line(err).endswith("File too large")
    assert "Traceback" not in err
    assert not command.trained()


def test_a_store_that_is_deleted_meanwhile_is_made_anew(command):
    process = command.start(*MATCHED, pause=0.3)
    wait_for(lambda: list(command.records.glob("*.json")))
    shutil.rmtree(command.records, ignore_errors=True)
    _, err = process.communicate(timeout=PATIENCE)
    assert "Traceback" not in err
    code, out, _ = command(*MATCHED)
    assert code == 0
    assert "6 runs done" in out
    assert len(Store(command.records).ids()) == 6
