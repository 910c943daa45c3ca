"""The command line with made-up training, for tests of what goes wrong while a study runs."""

from __future__ import annotations

import contextlib
import os
import struct
import subprocess
import sys
import textwrap
import time
from pathlib import Path

from experiments import plan as planning
from experiments import studies
from experiments.cli.main import main
from experiments.paths import ROOT
from experiments.records.store import Store

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


def train(run, records, on_epoch=None, keep=False):
    with LOG.open("a") as file:
        print(run.id, os.getpid(), file=file)
    for passes in (1, 2):
        time.sleep(PAUSE / 2)
        if on_epoch:
            on_epoch(passes)
    cost = 0.1 + abs(math.log10(run.settings["learning_rate"]) + 1.5) + run.seed / 1e6
    metrics = {{name: [2 * cost, cost] for name in training.METRICS}}
    rest = {{"status": "finished", "diverged_at": None, "manifest": {{"wall_seconds": 0.5}}}}
    return {{"config": run.config(), "metrics": metrics, **rest}}


training.train = train
{extra}
if __name__ == "__main__":
    sys.exit(main())
'''

# As a `sitecustomize` module: a name of a module is something else in every process.
CHANGED = """\
import importlib.abc, importlib.util, sys

class Changed(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name != {module!r}:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        load = spec.loader.exec_module
        def execute(module):
            load(module)
            module.{name} = {value!r}
        spec.loader.exec_module = execute
        return spec

sys.meta_path.insert(0, Changed())
"""
# Every pass leaves a checkpoint.
OFTEN = CHANGED.format(module="experiments.training.train", name="CHECKPOINT_SECONDS", value=0.0)
# Figures have few pixels, which takes far less time; all else is as ever.
COARSE = CHANGED.format(module="experiments.figures.style", name="DPI", value=24)


def run(line: str, *words: str) -> int:
    """The exit code of a command line, in this process."""
    try:
        return main([*line.split(), *words])
    except SystemExit as end:
        return int(end.code or 0)


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


def on_a_terminal(command: Command, *arguments: str, pause: float) -> tuple[int, str, list[str]]:
    """The exit code, the output, and what standard error showed, a frame at a time."""
    import fcntl
    import pty
    import termios

    screen, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    process = command.start(*arguments, pause=pause, stderr=terminal)
    os.close(terminal)
    shown = b""
    with contextlib.suppress(OSError):  # Linux's way to say that the other end is closed
        while part := os.read(screen, 1 << 16):
            shown += part
    os.close(screen)
    out, _ = process.communicate(timeout=PATIENCE)
    return process.returncode, out, shown.decode().split("\r")


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


def check_complete(command: Command, engine: str = "serial", runs: int = 36) -> None:
    """`run` completes the study, and then every record is whole and nothing half is left."""
    before = len(command.trained())
    code, out, _ = command(*RUN, "--engine", engine)
    assert code == 0
    assert f"{runs} runs done" in out
    records = Store(command.records)
    assert len(records.ids()) == runs
    assert all(records.get(run_id) for run_id in records.ids())
    assert not records.damaged
    plan = planning.plan(STUDY, "smoke", DATA, records)
    assert not plan.missing(records)
    assert not plan.later
    assert command(*RUN, "--engine", "serial")[0] == 0
    assert len(command.trained()) <= before + runs


def last_line(err: str) -> str:
    return err.rstrip("\n").splitlines()[-1]
