"""How far a study is, while it trains."""

from __future__ import annotations

import sys

from experiments.engines.runs import Result, name
from experiments.study import Plan, Records


class Progress:
    """A live bar with the remaining time on a terminal; elsewhere one line per finished run."""

    def __init__(self, name: str, plan: Plan, records: Records, show: bool = True) -> None:
        from tqdm import tqdm

        self.show = show
        self.live = show and sys.stderr.isatty()
        self.name = name
        self.done = len(plan.runs()) - len(plan.missing(records))
        self.bar = tqdm(
            total=len(plan.runs()) + plan.later,
            initial=self.done,
            desc=name,
            unit="run",
            disable=not self.live,
            smoothing=0.1,
            bar_format="{desc} {bar:20} {n_fmt}/{total_fmt} runs, {elapsed} elapsed, "
            "{remaining} left{postfix}",
        )
        self.total = len(plan.runs()) + plan.later

    def finished(self, result: Result) -> None:
        """Count a run that has ended."""
        self.done += 1
        text = f"{name(result.run)}: {'FAILED, ' if result.failed else ''}{result.end}"
        if self.live:
            self.bar.set_postfix_str(f"last: {text}", refresh=False)
            self.bar.update()
        elif self.show:
            if not result.failed:
                text += f", {result.seconds:.1f} s" if result.seconds else ", by another process"
            print(f"{self.name} {self.done}/{self.total} {text}", file=sys.stderr, flush=True)

    def extend(self, plan: Plan) -> None:
        """Take over a plan that has grown."""
        self.total = len(plan.runs()) + plan.later
        self.bar.total = self.total
        self.bar.refresh()

    def close(self) -> None:
        """Leave the bar as it stands."""
        self.bar.close()
