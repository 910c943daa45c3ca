"""Kill the commands that train, everywhere, for minutes: `make torture`.

Three studies are trained on every engine, over and over, each in a build folder of its own, and
killed at random moments (SIGKILL): the command itself, or one of the processes that it has started.
The same command then goes on. Every pass leaves a checkpoint, so that runs go on in the middle.
Counted are

- kills;
- records that were complete when a study was, each compared with that of an undisturbed command;
- lost: records that were there before a kill and were not, or not whole, after it, and those that
  a completed study lacks;
- different: records with another number in any pass, to the last bit;
- orphans: processes that were still there 30 seconds after their command was killed;
- tracebacks: commands that ended with one.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from commands import OFTEN

from experiments.paths import ROOT
from experiments.records.merge import NOT_COMPARED
from experiments.records.store import Store

STUDIES = ("sec4-regret", "fig1-mnist", "sec7-variational")
ENGINES = ("processes", "serial", "ray")
GRACE = 30.0


@dataclass
class Command:
    """A study on an engine, in a build folder of its own.

    Attributes:
        study: its name.
        engine: the engine's name.
        folder: the build folder.
        hook: a folder with the module that makes checkpoints frequent.
        marker: what all its processes have in their environment.
        seconds: how long it took to its end, as far as that is known.
    """

    study: str
    engine: str
    folder: Path
    hook: Path
    marker: str = field(default_factory=lambda: uuid.uuid4().hex)
    seconds: float = 20.0

    def start(self) -> subprocess.Popen:
        line = f"run {self.study} --profile smoke --data stand-in --protocol matched --workers 2"
        environment = {
            **os.environ,
            "ADAM_TF_BUILD": str(self.folder),
            "PYTHONPATH": os.pathsep.join([str(self.hook), str(ROOT)]),
            "TORTURE": self.marker,
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "stderr").open("w") as said:
            return subprocess.Popen(
                [sys.executable, "-m", "experiments", *line.split(), "--engine", self.engine],
                cwd=ROOT,
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=said,
                start_new_session=True,
            )

    def processes(self) -> list[int]:
        """Its processes that are alive."""
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            try:
                alive = path.joinpath("stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
                if alive and self.marker.encode() in path.joinpath("environ").read_bytes():
                    found.append(int(path.name))
            except OSError:
                continue
        return found

    def records(self) -> dict[str, dict]:
        """What its records say, but for times."""
        return {
            path.stem: {
                "status": record["status"],
                "diverged_at": record["diverged_at"],
                **{k: v for k, v in record["metrics"].items() if k not in NOT_COMPARED},
            }
            for path, record in Store(self.folder / "records").records()
        }


class Campaign:
    """What is killed, and what is counted."""

    def __init__(self, place: Path, seed: int, engines: tuple[str, ...]) -> None:
        self.draw, self.counts = random.Random(seed), Counter[str]()
        hook = place / "hook"
        hook.mkdir()
        (hook / "sitecustomize.py").write_text(OFTEN)
        self.commands = [
            Command(study, engine, place / f"{study}-{engine}", hook)
            for engine, study in itertools.product(engines, STUDIES)
        ]
        self.expected: dict[str, dict] = {}
        self.by: dict[tuple[str, str], Counter[str]] = {}
        self.hook = hook

    def prepare(self, place: Path) -> None:
        """Train every study once, undisturbed."""
        for study in STUDIES:
            command = Command(study, "serial", place / f"{study}-undisturbed", self.hook)
            started = time.monotonic()
            assert command.start().wait() == 0, (command.folder / "stderr").read_text()
            self.expected[study] = command.records()
            for other in self.commands:
                if other.study == study:
                    other.seconds = time.monotonic() - started

    def count(self, command: Command, what: str, number: int = 1) -> None:
        self.counts[what] += number
        self.by.setdefault((command.engine, command.study), Counter())[what] += number

    def attack(self, command: Command, until: float) -> None:
        """Start a command and kill it, or its processes, until it has ended one way or another."""
        process, started = command.start(), time.monotonic()
        while process.poll() is None:
            wake = time.monotonic() + self.draw.uniform(0, command.seconds)
            while process.poll() is None and time.monotonic() < min(wake, until):
                time.sleep(0.02)
            if process.poll() is not None or time.monotonic() >= until:
                break
            before = command.records()
            others = [pid for pid in command.processes() if pid != process.pid]
            whole = not others or self.draw.random() < 0.5
            try:
                os.kill(process.pid if whole else self.draw.choice(others), signal.SIGKILL)
            except ProcessLookupError:
                continue
            self.count(command, "kills")
            if whole:
                process.wait()
                self.sweep(command)
            after = command.records()
            self.count(command, "lost", sum(after.get(k) != v for k, v in before.items()))
        if process.poll() is None:  # time is up: let it finish
            process.wait()
        self.count(command, "tracebacks", "Traceback" in (command.folder / "stderr").read_text())
        if process.returncode == 0:
            command.seconds = max(3.0, min(command.seconds, time.monotonic() - started))
            self.compare(command)
            self.sweep(command)
            shutil.rmtree(command.folder)

    def sweep(self, command: Command) -> None:
        """Wait for what a command has left to end, and count what does not."""
        deadline = time.monotonic() + GRACE
        while (left := command.processes()) and time.monotonic() < deadline:
            time.sleep(0.1)
        self.count(command, "orphans", len(left))
        for pid in left:
            os.kill(pid, signal.SIGKILL)

    def compare(self, command: Command) -> None:
        found, expected = command.records(), self.expected[command.study]
        self.count(command, "records", len(found))
        self.count(command, "lost", len(expected.keys() - found.keys()))
        self.count(
            command, "different", sum(record != expected.get(k) for k, record in found.items())
        )

    def run(self, minutes: float) -> None:
        """Go round the commands until the time is up, and let those that are killed finish."""
        until = time.monotonic() + 60 * minutes
        for command in itertools.cycle(self.commands):
            if time.monotonic() >= until:
                break
            self.attack(command, until)
        for command in self.commands:
            if command.folder.exists():
                self.attack(command, 0.0)


COLUMNS = ("kills", "records", "lost", "different", "orphans", "tracebacks")


def main() -> int:
    """Print the table; 1 if anything was lost, different or left."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("minutes", type=float, nargs="?", default=15.0)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4)))
    parser.add_argument("--engines", default=",".join(ENGINES))
    options = parser.parse_args()
    engines = tuple(options.engines.split(","))
    if "ray" in engines and importlib.util.find_spec("ray") is None:
        print("without ray, which is not installed")
        engines = tuple(engine for engine in engines if engine != "ray")
    print(f"seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        campaign = Campaign(Path(folder), options.seed, engines)
        campaign.prepare(Path(folder))
        campaign.run(options.minutes)
    print("| engine | study |", " | ".join(COLUMNS), "|")
    print("| --- " * (2 + len(COLUMNS)) + "|")
    for (engine, study), counts in sorted(campaign.by.items()):
        print(f"| {engine} | {study} |", " | ".join(str(counts[c]) for c in COLUMNS), "|")
    print("| all | |", " | ".join(str(campaign.counts[c]) for c in COLUMNS), "|")
    return int(any(campaign.counts[c] for c in ("lost", "different", "orphans", "tracebacks")))


if __name__ == "__main__":
    sys.exit(main())
