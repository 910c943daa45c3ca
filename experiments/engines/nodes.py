"""The nodes of a Ray cluster as the command knows them: what each takes, and which are left out.

A node that can't train is left out with one line, and the others go on: it can't import the study,
differs from this machine, lacks the data or room for files, or its processes never start or always
die. Runs are placed by node, so that Ray gives nothing to one that is left out.
"""

from __future__ import annotations

import contextlib
import math
import re
import sys
import time
from dataclasses import dataclass, field
from typing import Any

from experiments.engines import pool, runs
from experiments.paths import ROOT
from experiments.words import counted

LOOK_SECONDS = 5.0  # between looks at the cluster's nodes
IN_A_ROW = 3  # runs that a node loses before a pass of any, so that it must be at fault


@dataclass
class Node:
    """A node of the cluster.

    Attributes:
        id: Ray's.
        name: its host name.
        slots: how many runs it takes at once.
        alive: whether it is there.
        fault: why it is left out; "" if it is not.
        failed_starts: how many actors in a row could not start on it.
        lost: the runs that it lost in a row, without a pass of any run in between.
        passed_over: when an actor last waited for it in vain.
    """

    id: str
    name: str
    slots: int = 0
    alive: bool = True
    fault: str = ""
    failed_starts: int = 0
    lost: set[str] = field(default_factory=set)
    passed_over: float = -math.inf

    @property
    def usable(self) -> bool:
        """Whether it takes runs."""
        return self.alive and self.slots > 0 and not self.fault


class Nodes:
    """All nodes that the cluster has or had.

    Args:
        library: Ray.
        gpus: the share of a GPU that a run takes, or 0.
        local: whether this machine is the only one, on which this command has started Ray.
    """

    def __init__(self, library: Any, gpus: float, local: bool) -> None:
        self.library, self.gpus, self.local = library, gpus, local
        self.known: dict[str, Node] = {}
        self.looked = -math.inf

    def look(self, now: bool = False) -> None:
        """Learn which nodes there are, unless that was a moment ago; they come and go."""
        if not now and time.monotonic() - self.looked <= LOOK_SECONDS:
            return
        found = [entry for entry in self.library.nodes() if entry["Alive"]]
        for node in self.known.values():
            node.alive = False
        for entry in found:
            name = entry["NodeManagerHostname"] or entry["NodeManagerAddress"]
            node = self.known.setdefault(entry["NodeID"], Node(entry["NodeID"], name))
            node.alive, node.slots = True, self._slots(entry["Resources"])
        self.looked = time.monotonic()

    def _slots(self, resources: dict[str, float]) -> int:
        """How many runs a node takes: each has a core, and a share of one GPU if any."""
        slots = int(resources.get("CPU", 0))
        if self.gpus:  # a share is never of two GPUs
            slots = min(slots, int(resources.get("GPU", 0)) * int(1 / self.gpus + 1e-9))
        return slots

    @property
    def usable(self) -> list[Node]:
        """Those that take runs."""
        return [node for node in self.known.values() if node.usable]

    def check(self) -> None:
        """Raise a ConnectionError if every node that is there was left out."""
        names = [node.name for node in self.known.values() if node.alive and node.fault]
        if names and not self.usable:
            were = "was" if len(names) == 1 else "were"
            raise ConnectionError(
                f"no node of the Ray cluster can train: {counted(len(names), 'node')} {were} left "
                f"out, for the reasons above ({', '.join(names)}); finished runs are kept; mend a "
                "node and give the same command to continue"
            )

    def leave_out(self, node: Node, why: str) -> None:
        """Give a node no more runs, and print why, once."""
        if not node.fault:
            node.fault = why
            print(f"adam-study: node {node.name} is left out: {why}", file=sys.stderr, flush=True)

    def not_started(self, node: Node, error: BaseException) -> None:
        """Note that an actor could not start on a node, which may be gone."""
        text = _plain(error)
        if "No module named" in text:
            why = f"it can't import the study; it needs this checkout at {ROOT} and `make env`"
            self.leave_out(node, why)
            return
        self._look_quietly()
        node.failed_starts += node.alive
        if node.failed_starts >= pool.HOPELESS:
            what = f"{node.failed_starts} Ray actors in a row could not start there"
            last = f"{type(error).__name__}: {_short(text)}"
            self.leave_out(node, f"{what}; the last time, {last}")

    def progressed(self, node: Node) -> None:
        """Note that a run on a node has a new pass, or a record."""
        node.lost.clear()

    def lost(self, node: Node, run_id: str, error: BaseException) -> str:
        """Note that a run was lost on a node; returns how, in words, as far as Ray knows.

        A node that loses one run after the other is left out, if there is another one.
        """
        self._look_quietly()
        how = self._how(node, error)
        node.lost.add(run_id)
        if len(node.lost) >= IN_A_ROW and node.alive and len(self.usable) > 1:
            self.leave_out(node, f"it lost {len(node.lost)} runs in a row; the last time, {how}")
        return how

    def fewer(self, node: Node, memory: str = "memory") -> str:
        """What to do where a memory was full, so that fewer runs share it.

        Args:
            node: where that was.
            memory: as in `runs.full_memory`.
        """
        if memory == "GPU memory":
            if self.gpus == 1:
                return "it had a GPU of its own"
            return f"--gpus-per-run {self.gpus:g} is too small a share; 1 gives it a GPU of its own"
        if self.local:
            return runs.FEWER
        return f"fewer --num-cpus in the `ray start` of node {node.name} need less"

    def _look_quietly(self) -> None:
        """Learn which nodes there are; without an answer, what was known stays."""
        with contextlib.suppress(self.library.exceptions.RayError):
            self.look(now=True)

    def _how(self, node: Node, error: BaseException) -> str:
        kind, text = type(error).__name__, _plain(error)
        memory = "NODE_OUT_OF_MEMORY" in text or "node running low on memory" in text
        if kind == "OutOfMemoryError" or memory:
            why = f"since node {node.name} ran out of memory"
            return f"Ray killed its process, {why}; {self.fewer(node)}"
        gone = ("NodeDiedError", "LocalRayletDiedError", "ActorUnschedulableError")
        if not node.alive or kind in gone or "node has died" in text:
            what = "preempted" if getattr(error, "preempted", False) else "lost"
            return f"its node {node.name} was {what}"
        if kind == "ActorUnavailableError":
            return f"its node {node.name} did not answer"
        if code := re.search(r"exit code (-?\d+)", text):
            return f"its process on node {node.name} ended with exit code {code[1]}"
        if kind in ("ActorDiedError", "RayActorError", "WorkerCrashedError"):
            return f"its process on node {node.name} died; Ray does not know why (out of memory?)"
        return f"it was lost on node {node.name} ({kind}: {_short(text)})"


def _plain(error: BaseException) -> str:
    """What an error says, without Ray's colours."""
    return re.sub(r"\x1b\[[0-9;]*m", "", str(error))


def _short(text: str) -> str:
    """What an error says, in short: how a process ended, or the last line of a traceback."""
    text = text.rpartition("Worker exit detail: ")[2]
    lines = [line.strip() for line in text.splitlines() if line.strip()] or ["no details"]
    return lines[-1 if "  File " in text else 0][:200]
