"""Verdicts as plain tables, for analysis with other tools."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from experiments.analysis.claims import Verdict
from experiments.analysis.metrics import METRICS
from experiments.analysis.results import Results
from experiments.report import summary
from experiments.study import PROTOCOLS, Panel


def verdicts(found: Iterable[Results]) -> list[dict[str, Any]]:
    """A row for each claim and protocol that it concerns, numbers as numbers.

    A value that does not exist or is not finite is None. `low` and `high` are the ends of the 95%
    interval of `value`. The rule holds between `limit_low` and `limit_high`, of which there may be
    only one. At the margins `flip_low` and `flip_high` the verdict would change: they are equal
    unless it is inconclusive. `paper` is the metric on the paper's own curves.
    """
    found = list(found)
    profiles = {results.study.name: results for results in found}
    rows = []
    for part in summary.parts(found):
        for judged in part.judged:
            results = profiles[judged.study.name]
            for protocol in PROTOCOLS:
                verdict = judged.verdicts[protocol]
                if verdict.verdict:
                    rows.append(
                        {
                            "id": judged.claim.id,
                            "study": judged.study.name,
                            "part": part.title,
                            "section": judged.claim.section,
                            "source": judged.claim.source,
                            "profile": "published" if results.published else results.profile,
                            "data": results.data,
                            **_numbers(verdict, judged.study.panel),
                        }
                    )
    return rows


def _numbers(verdict: Verdict, panel: Panel) -> dict[str, Any]:
    claim = verdict.claim
    low, high = {
        "below": (math.nan, claim.limit),
        "above": (claim.limit, math.nan),
    }.get(claim.rule) or claim.limits
    flips = sorted(verdict.flip) or [math.nan]
    row = {
        "protocol": verdict.protocol,
        "verdict": verdict.verdict,
        "metric": claim.metric,
        "value": verdict.value,
        "low": verdict.low,
        "high": verdict.high,
        "n": verdict.n,
        "unit": "log ratio"
        if claim.metric == "distance" and panel.log
        else METRICS[claim.metric].unit,
        "rule": claim.rule,
        "limit_low": low,
        "limit_high": high,
        "flip_low": flips[0],
        "flip_high": flips[-1],
        "p": verdict.p,
        "p_holm": verdict.adjusted,
        "deterministic": verdict.deterministic,
        "from_trials": verdict.from_trials or None,
        "paper": verdict.paper,
        "paper_holds": verdict.paper_holds,
        "figure": verdict.figure or None,
        "reason": verdict.reason or None,
        "statement": claim.reading,
        "criterion": claim.criterion,
    }
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in row.items()
    }
