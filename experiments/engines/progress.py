"""The progress of a study while it trains."""

from __future__ import annotations

import sys
import threading

from experiments.engines.runs import Result, name
from experiments.study import Plan, Records, Run
from experiments.words import counted

REFRESH_SECONDS = 1.0


class Progress:
    """On a terminal, a live bar with the remaining time; elsewhere, one line per finished run.

    The bar counts passes, so that it moves within a run.

    Args:
        name: the study's.
        plan: its runs.
        records: runs that have a record here are done.
    """

    def __init__(self, name: str, plan: Plan, records: Records) -> None:
        from experiments.bar import Bar

        self.live = sys.stderr.isatty()
        self.name = name
        missing = plan.missing(records)
        self.total = len(plan.runs()) + plan.later
        self.done = len(plan.runs()) - len(missing)
        self.passes = sum(run.epochs for run in plan.runs()) - sum(run.epochs for run in missing)
        self.at: dict[str, int] = {}  # passes of the runs that are being trained
        self.bar = Bar(
            total=_passes(plan),
            initial=self.passes,
            desc=name,
            disable=not self.live,
            smoothing=0.1,
            postfix=self._counts,
            bar_format="{desc} {bar:20} {percentage:3.0f}%, {elapsed} elapsed, {remaining} left"
            "{postfix}",
        )
        self.last = ""
        self.ended = threading.Event()
        if self.live:
            threading.Thread(target=self._tick, daemon=True).start()

    def passed(self, run: Run, passes: int) -> None:
        """Note how many passes a run has."""
        self.at[run.id] = passes
        self._move()

    def finished(self, result: Result) -> None:
        """Count a run that has ended."""
        self.done += 1
        self.at.pop(result.run.id, None)
        self.passes += result.run.epochs
        text = f"{name(result.run)}: {'FAILED, ' if result.failed else ''}{result.end}"
        if self.live:
            self.last = f"; last: {text}"
            self._say()
            self._move()
        else:
            if not result.failed:
                text += f", {result.seconds:.1f} s" if result.seconds else ", by another process"
            print(f"{self.name} {self.done}/{self.total} {text}", file=sys.stderr, flush=True)

    def extend(self, plan: Plan) -> None:
        """Switch to a plan that has grown, and say so."""
        total = len(plan.runs()) + plan.later
        if (more := total - self.total) > 0:
            text = f"{self.name}: {counted(more, 'more run')}, since a grid has grown"
            if self.live:
                self.bar.write(text, file=sys.stderr)
            else:
                print(text, file=sys.stderr, flush=True)
        self.total = total
        self.bar.total = _passes(plan)
        self._say()
        self._move()

    def close(self) -> None:
        """Leave the bar as it stands."""
        self.ended.set()
        self.bar.close()

    @property
    def _counts(self) -> str:
        return f"{self.done}/{counted(self.total, 'run')}"

    def _say(self) -> None:
        self.bar.set_postfix_str(self._counts + self.last, refresh=False)

    def _move(self) -> None:
        if moved := self.passes + sum(self.at.values()) - self.bar.n:
            self.bar.update(moved)

    def _tick(self) -> None:
        """Keep the clock going while there is no news of the runs."""
        while not self.ended.wait(REFRESH_SECONDS):
            self.bar.refresh()


def _passes(plan: Plan) -> int:
    """The passes of all runs; those that are not planned yet have as many as the longest."""
    runs = plan.runs()
    return sum(run.epochs for run in runs) + plan.later * max([run.epochs for run in runs] or [0])
