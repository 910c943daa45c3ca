"""Records made up by functions, for tests of what is planned, judged and drawn from records."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from experiments.analysis.results import Results
from experiments.plan import plan
from experiments.study import Plan, Run, Study

Record = dict[str, Any]
Make = Callable[[Run], Record | None]


def record(metrics: Mapping[str, Sequence[float]], *, diverged: bool = False, **manifest) -> Record:
    status = "diverged" if diverged else "finished"
    return {"status": status, "metrics": metrics, "manifest": manifest}


def of_cost(costs: Sequence[float]) -> Record:
    """A record of these training costs, of a run that diverged if one is not finite."""
    return record({"training_cost": costs}, diverged=not all(map(math.isfinite, costs)))


AT_ONCE = record({"training_cost": []}, diverged=True)


class MadeUp:
    """What a function makes of each run that was trained; it may make nothing of some."""

    def __init__(self, make: Make, runs: Iterable[Run] = ()) -> None:
        self.make = make
        self.runs = {run.id: run for run in runs}

    def train(self, runs: Iterable[Run]) -> None:
        self.runs |= {run.id: run for run in runs}

    def get(self, run_id: str) -> Record | None:
        run = self.runs.get(run_id)
        return None if run is None else self.make(run)

    def complete(self, study: Study, profile: str, data: str) -> Plan:
        """Train and plan until the plan has no run that was not trained."""
        while True:
            found = plan(study, profile, data, self)
            if self.runs.keys() >= {run.id for run in found.runs()}:
                return found
            self.train(found.runs())


def results(study: Study, make: Make, profile: str = "paper", data: str = "") -> Results:
    """The results of a study whose runs are all trained."""
    records, kind = MadeUp(make), data or study.data_set
    return Results(study, profile, kind, records, records.complete(study, profile, kind))
