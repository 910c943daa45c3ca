"""Kill the commands that train, everywhere, for minutes: `make torture`.

Three studies are trained on every engine, over and over, each in a build folder of its own, and
killed at random moments (SIGKILL): the command itself, or one of the processes that it has started.
The same command then goes on. Runs have `PASSES` passes, each of which leaves a checkpoint, so that
they go on in the middle. Counted are

- kills;
- records that were complete when a study was, each compared with that of an undisturbed command;
- resumed: those of them whose run went on in the middle;
- lost: records that were there before a kill and were not, or not whole, after it, and those that
  a completed study lacks;
- different: records with another number in any pass, to the last bit;
- orphans: processes that were still there 30 seconds after their command was killed;
- tracebacks: commands that ended with one.

TensorFlow takes longer to start than such a run to train, and most kills would hit nothing else. So
`serial` and `processes` are forked from a process that has imported it; Ray's start as always.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from commands import OFTEN

from experiments.paths import ROOT
from experiments.records.merge import NOT_COMPARED
from experiments.records.store import Store

STUDIES = ("sec1-drift", "fig1-mnist", "sec7-variational")
ENGINES = ("processes", "serial", "ray")
PASSES = 5
GRACE = 30.0
LINE = "--profile smoke --data stand-in --protocol matched --workers 2"

# The command line, with longer runs.
LONGER = f"""\
import dataclasses
from experiments import studies
for study in studies.STUDIES.values():
    if not study.measured:
        longer = dataclasses.replace(study.profiles["smoke"], epochs={PASSES})
        profiles = {{**study.profiles, "smoke": longer}}
        studies.STUDIES[study.name] = dataclasses.replace(study, profiles=profiles)
from experiments.cli.main import main
"""
COLD = f"import sys\n{LONGER}\nsys.exit(main())\n"
# Forks commands when it is told to, and says which have ended. Their workers are forked, too.
WARM = f"""\
import json, multiprocessing, os, sys
sys.modules["jax"] = None  # its threads must not be there when this process forks
from experiments.training import runtime, train
runtime.configure()
runtime.commit()
train.CHECKPOINT_SECONDS = 0.0
from experiments.data import standins
standins.digits()
from experiments.engines import execution
{LONGER}
from experiments.engines import processes
get, work = multiprocessing.get_context, processes._work

def alone(connection):  # a forked worker has the ends of the other workers' pipes, too
    own = {{0, 1, 2, connection.fileno(), multiprocessing.parent_process().sentinel}}
    for number in set(map(int, os.listdir("/proc/self/fd"))) - own:
        try:
            os.close(number)
        except OSError:
            pass
    work(connection)

multiprocessing.get_context = lambda name: get("fork")
processes._work = alone
while line := sys.stdin.readline():
    words = json.loads(line)
    if isinstance(words, int):
        done, status = os.waitpid(words, os.WNOHANG)
        print(os.waitstatus_to_exitcode(status) if done else "", flush=True)
        continue
    child = os.fork()
    if not child:
        os.setsid()
        folder, *sys.argv[1:] = words
        os.environ["ADAM_TF_BUILD"] = folder
        nothing = os.open(os.devnull, os.O_RDWR)
        said = os.open(os.path.join(folder, "stderr"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for number, file in enumerate((nothing, nothing, said)):
            os.dup2(file, number)
        break
    print(child, flush=True)
else:
    sys.exit()
sys.exit(main())
"""


class Started(Protocol):
    """A command that was started; what of `subprocess.Popen` is used."""

    pid: int
    returncode: int | None

    def poll(self) -> int | None:
        """Its exit code, if it has ended."""


class Warm:
    """The process from which commands are forked."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", WARM],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.lock = threading.Lock()

    def ask(self, question: Sequence[str] | int) -> str:
        """An answer of a line."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with self.lock:
            print(json.dumps(question), file=self.process.stdin, flush=True)
            answer = self.process.stdout.readline()
        assert answer, "the process from which commands are forked has ended"
        return answer.strip()


class Forked:
    """A command that was forked from the warm process."""

    def __init__(self, warm: Warm, words: Sequence[str]) -> None:
        self.warm, self.pid = warm, int(warm.ask(words))
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Its exit code, if it has ended."""
        if self.returncode is None and (answer := self.warm.ask(self.pid)):
            self.returncode = int(answer)
        return self.returncode


@dataclass
class Command:
    """A study on an engine, in a build folder of its own.

    Attributes:
        study: its name.
        engine: the engine's name.
        folder: the build folder.
        warm: what it is forked from.
        hook: a folder with the module that makes checkpoints frequent in Ray's processes.
        draw: when what is killed.
        seconds: how long it takes from its start to its end, as far as that is known.
        spent: how long it has been under attack.
        marker: what all processes of Ray have in their environment.
        session: of the processes that it has started, as far as they stay in it.
        counts: what was counted.
    """

    study: str
    engine: str
    folder: Path
    warm: Warm
    hook: Path
    draw: random.Random
    seconds: float = 20.0
    spent: float = 0.0
    marker: str = field(default_factory=lambda: uuid.uuid4().hex)
    session: int = -1  # none: 0 is that of others
    counts: Counter[str] = field(default_factory=Counter)

    def start(self) -> Started:
        self.folder.mkdir(parents=True, exist_ok=True)
        words = ["run", self.study, *LINE.split(), "--engine", self.engine]
        if self.engine != "ray":
            forked = Forked(self.warm, [str(self.folder), *words])
            self.session = forked.pid
            return forked
        environment = {
            **os.environ,
            "ADAM_TF_BUILD": str(self.folder),
            "PYTHONPATH": os.pathsep.join([str(self.hook), str(ROOT)]),
            "TORTURE": self.marker,
        }
        with (self.folder / "stderr").open("w") as said:
            process = subprocess.Popen(
                [sys.executable, "-c", COLD, *words],
                cwd=ROOT,
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=said,
                start_new_session=True,
            )
        self.session = process.pid
        return process

    def processes(self) -> list[int]:
        """Its processes that are alive."""
        assert self.session > 1
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            try:
                state, _, _, session = (
                    path.joinpath("stat").read_text().rsplit(")", 1)[1].split()[:4]
                )
                ours = int(session) == self.session
                if state not in "ZX" and (
                    ours or self.marker.encode() in path.joinpath("environ").read_bytes()
                ):
                    found.append(int(path.name))
            except OSError:
                continue
        return found

    def stored(self) -> dict[str, dict[str, Any]]:
        """Its records, whole."""
        return {path.stem: record for path, record in Store(self.folder / "records").records()}

    def records(self) -> dict[str, dict]:
        """What its records say, but for times."""
        return {
            run_id: {
                "status": record["status"],
                "diverged_at": record["diverged_at"],
                **{k: v for k, v in record["metrics"].items() if k not in NOT_COMPARED},
            }
            for run_id, record in self.stored().items()
        }

    def wait(self, process: Started, until: float = float("inf")) -> None:
        """Wait until it has ended, or some moment has come."""
        while process.poll() is None and time.monotonic() < until:
            time.sleep(0.02)

    def attack(self, expected: dict[str, dict], until: float) -> None:
        """Start it and kill it, or its processes, until it has ended one way or another."""
        process, started = self.start(), time.monotonic()
        while process.poll() is None:
            wake = time.monotonic() + self.seconds * self.draw.random() ** 2  # rather soon
            self.wait(process, min(wake, until))
            if process.poll() is not None or time.monotonic() >= until:
                break
            before = self.records()
            others = [pid for pid in self.processes() if pid != process.pid]
            whole = not others or self.draw.random() < 0.5
            try:
                os.kill(process.pid if whole else self.draw.choice(others), signal.SIGKILL)
            except ProcessLookupError:
                continue
            self.counts["kills"] += 1
            if whole:
                self.wait(process)
                self.sweep()
            after = self.records()
            self.counts["lost"] += sum(after.get(k) != v for k, v in before.items())
        self.wait(process)  # if time is up, let it finish
        said = (self.folder / "stderr").read_text()
        if "Traceback" in said:
            self.counts["tracebacks"] += 1
            print(f"{self.engine} {self.study}:\n{said}", file=sys.stderr, flush=True)
        if process.returncode == 0:
            self.seconds = max(1.0, min(2 * self.seconds, time.monotonic() - started))
            self.compare(expected)
            self.sweep()
            shutil.rmtree(self.folder)
        self.spent += time.monotonic() - started

    def sweep(self) -> None:
        """Wait for what the command has left to end, and count what does not."""
        deadline = time.monotonic() + GRACE
        while (left := self.processes()) and time.monotonic() < deadline:
            time.sleep(0.1)
        self.counts["orphans"] += len(left)
        for pid in left:
            with contextlib.suppress(OSError):
                words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
                print(
                    f"{self.engine} {self.study}: left {pid} {words}", file=sys.stderr, flush=True
                )
                os.kill(pid, signal.SIGKILL)

    def compare(self, expected: dict[str, dict]) -> None:
        """Count the records of a study that is complete, by what they are."""
        found = self.records()
        self.counts["records"] += len(found)
        self.counts["resumed"] += sum(
            record["manifest"].get("resumed", False) for record in self.stored().values()
        )
        self.counts["lost"] += len(expected.keys() - found.keys())
        self.counts["different"] += sum(v != expected.get(k) for k, v in found.items())


class Campaign:
    """What is attacked, several commands at a time, and each for as long as the others."""

    def __init__(self, place: Path, seed: int, engines: Sequence[str], at_once: int) -> None:
        hook = place / "hook"
        hook.mkdir()
        (hook / "sitecustomize.py").write_text(OFTEN)
        self.warm, self.at_once, self.lock = Warm(), at_once, threading.Lock()
        self.expected: dict[str, dict] = {}

        def command(study: str, engine: str, name: str) -> Command:
            draw = random.Random(f"{seed} {name}")
            return Command(study, engine, place / name, self.warm, hook, draw)

        self.undisturbed = [command(study, "serial", f"{study}-undisturbed") for study in STUDIES]
        self.commands = [
            command(study, engine, f"{study}-{engine}")
            for engine, study in itertools.product(engines, STUDIES)
        ]

    def prepare(self) -> None:
        """Train every study once, undisturbed."""

        def train(command: Command) -> None:
            started = time.monotonic()
            process = command.start()
            command.wait(process)
            assert process.returncode == 0, (command.folder / "stderr").read_text()
            self.expected[command.study] = command.records()
            for other in self.commands:
                if other.study == command.study:
                    slow = 3.0 if other.engine == "ray" else 1.0
                    other.seconds = slow * (time.monotonic() - started)

        with ThreadPoolExecutor(self.at_once) as threads:
            list(threads.map(train, self.undisturbed))

    def run(self, minutes: float) -> None:
        """Attack until the time is up, and let the commands that were killed finish."""
        until = time.monotonic() + 60 * minutes
        free = list(self.commands)

        def work(_: int) -> None:
            while time.monotonic() < until:
                with self.lock:
                    command = min(free, key=lambda command: command.spent)
                    free.remove(command)
                command.attack(self.expected[command.study], until)
                with self.lock:
                    free.append(command)

        with ThreadPoolExecutor(self.at_once) as threads:
            list(threads.map(work, range(self.at_once)))
            killed = [command for command in self.commands if command.folder.exists()]
            list(threads.map(lambda each: each.attack(self.expected[each.study], 0.0), killed))


COLUMNS = ("kills", "records", "resumed", "lost", "different", "orphans", "tracebacks")


def main() -> int:
    """Print the table; 1 if anything was lost, different or left."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("minutes", type=float, nargs="?", default=15.0)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4)))
    parser.add_argument("--engines", default=",".join(ENGINES))
    parser.add_argument("--at-once", type=int, default=max(2, os.cpu_count() or 1))
    options = parser.parse_args()
    engines = options.engines.split(",")
    if "ray" in engines and importlib.util.find_spec("ray") is None:
        print("without ray, which is not installed")
        engines.remove("ray")
    print(f"seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        campaign = Campaign(Path(folder), options.seed, engines, options.at_once)
        campaign.prepare()
        campaign.run(options.minutes)
    print("| engine | study |", " | ".join(COLUMNS), "|")
    print("| --- " * (2 + len(COLUMNS)) + "|")
    total = Counter[str]()
    for command in sorted(campaign.commands, key=lambda command: (command.engine, command.study)):
        total += command.counts
        counts = " | ".join(str(command.counts[name]) for name in COLUMNS)
        print(f"| {command.engine} | {command.study} | {counts} |")
    print("| all | |", " | ".join(str(total[name]) for name in COLUMNS), "|")
    return int(any(total[name] for name in ("lost", "different", "orphans", "tracebacks")))


if __name__ == "__main__":
    sys.exit(main())
