"""Commands that are killed or interrupted, and several at one store: `run` completes the study."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
from commands import PATIENCE, RUN, alive, check_complete, last_line, on_a_terminal, wait_for

from experiments.cli.main import main
from experiments.paths import ROOT
from experiments.records.store import Store

if sys.platform == "win32":
    pytest.skip("signals and pseudo-terminals of POSIX", allow_module_level=True)

# --- killed and interrupted -----------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["serial", "processes"])
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
    if engine != "serial":
        assert "training processes ended in a row; the last time, its process was killed" in err
    # The half file; what a worker leaves is swept by the command that it worked for.
    assert len(list(command.records.glob(".new-*"))) == (engine == "serial")
    found = Store(command.records)
    assert len(found.ids()) >= 3
    assert all(found.get(run_id) for run_id in found.ids())
    command.change()
    check_complete(command, engine)


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


ENDING = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT]


@pytest.fixture
def _sigint_is_heard():
    """A shell lets what it runs in the background ignore these, and so do all its children."""
    before = {number: signal.getsignal(number) for number in ENDING}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in ENDING[1:]:
        signal.signal(number, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("_sigint_is_heard")
@pytest.mark.parametrize("number", ENDING)
@pytest.mark.parametrize("engine", ["serial", "processes"])
def test_ctrl_c_and_its_like_during_training(command, engine, number):
    process = command.start(*RUN, "--engine", engine, pause=0.2)
    wait_for(lambda: len(list(command.records.glob("*.json"))) >= 2)
    os.killpg(process.pid, number)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert (
        last_line(err) == "interrupted; finished runs are kept; give the same command to continue"
    )
    assert "Traceback" not in err
    wait_for(lambda: not any(map(alive, command.workers())))
    kept = {path: path.stat().st_mtime_ns for path in command.records.glob("*.json")}
    assert 2 <= len(kept) < 36
    assert not list(command.records.glob(".new-*"))
    check_complete(command)
    assert all(path.stat().st_mtime_ns == mtime for path, mtime in kept.items())


@pytest.mark.usefixtures("_sigint_is_heard")
@pytest.mark.parametrize("number", ENDING)
def test_ctrl_c_and_its_like_while_workers_start(command, number):
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
    assert (
        last_line(err) == "interrupted; finished runs are kept; give the same command to continue"
    )
    assert "Traceback" not in err
    assert "KeyboardInterrupt" not in err


@pytest.mark.usefixtures("_sigint_is_heard")
def test_a_second_ctrl_c_ends_at_once_and_without_a_traceback(command):
    command.change(
        """
        from experiments.engines import processes
        kill = processes.Worker.kill
        def slowly(worker):
            LOG.with_name("ending").touch()
            time.sleep(60)
        processes.Worker.kill = slowly
        """
    )
    process = command.start(*RUN, pause=0.2)
    wait_for(lambda: len(list(command.records.glob("*.json"))) >= 2)
    process.send_signal(signal.SIGINT)
    wait_for(lambda: command.log.with_name("ending").exists())
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=10)
    assert process.returncode == 130
    assert "Traceback" not in err
    wait_for(lambda: not any(map(alive, command.workers())))


@pytest.mark.usefixtures("_sigint_is_heard")
def test_ctrl_c_while_the_command_starts(tmp_path):
    """It is heard before anything that takes long is imported."""
    code = "import time, pathlib; pathlib.Path('begun').touch(); time.sleep(60)"
    (tmp_path / "argparse.py").write_text(code)
    process = subprocess.Popen(
        [sys.executable, "-m", "experiments", "list"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"},
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for((tmp_path / "begun").exists)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert err == "interrupted; finished runs are kept; give the same command to continue\n"


def test_ctrl_c_in_every_command_is_130(monkeypatch, capsys):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("experiments.cli.common.show_table", interrupt)
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
    first, following = out.splitlines()
    assert first == f"fig1-mnist: 6 runs done at profile smoke, in {command.records}"
    assert following.startswith("next: `adam-study claims fig1-mnist --profile smoke ")
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
    code, _, shown = on_a_terminal(command, *RUN, pause=0.03)
    assert code == 0
    frames = [frame for frame in shown if frame.startswith("fig1-mnist ")]
    assert len(frames) > 5
    assert " 0%, " in frames[0]
    assert frames[0].split("left")[1].strip(", ") == "0/30 runs"
    assert any(", 0/30 runs" in frame and " 0%, " not in frame for frame in frames)  # within a run
    assert "6 more runs, since a grid has grown" in "".join(shown)
    assert " 100%, " in frames[-1]
    assert ", 36/36 runs" in frames[-1]
    assert "█" in frames[-1]
    assert "last: " in frames[-1]
    assert all(len(frame) <= 100 for frame in frames)
