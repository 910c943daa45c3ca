"""What the verdicts rest on: the runs that each of them reads."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable
from typing import Any

from experiments.analysis import claims
from experiments.analysis.metrics import METRICS
from experiments.analysis.results import Results


class _Noted:
    """Records that keep track of which of them are read."""

    def __init__(self, records: Any) -> None:
        self.records = records
        self.read: set[str] = set()

    def get(self, run_id: str) -> Any:
        """The record of a run."""
        record = self.records.get(run_id)
        if record is not None:
            self.read.add(run_id)
        return record


def grounds(found: Results) -> dict[tuple[str, str], frozenset[str]]:
    """The runs whose records decide each verdict of a study, by claim and protocol.

    The trials that chose a tuned setting are not among them: they decide which runs a verdict
    reads. Only verdicts that were judged on their numbers are included, and no controls.
    """
    read = {}
    for verdict in claims.judge(found):
        if verdict.judged and verdict.claim.source != "control":
            noted = _Noted(found.records)
            METRICS[verdict.claim.metric].compute(
                verdict.claim, verdict.protocol, dataclasses.replace(found, records=noted)
            )
            read[verdict.claim.id, verdict.protocol] = frozenset(noted.read)
    return read


def standing(found: Iterable[Results], checked: Collection[str]) -> tuple[int, int, int]:
    """How many verdicts there are, how many read a checked run, and how many read only such runs.

    Args:
        found: the published results.
        checked: the ids of the runs that were trained again and agree.
    """
    read = [runs for results in found for runs in grounds(results).values()]
    known = set(checked)
    return len(read), sum(bool(runs & known) for runs in read), sum(runs <= known for runs in read)
