"""The ledger: what the paper says and how each statement is judged, written before the runs.

`paper/claims.yaml` holds the claims and explains their fields.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.analysis.metrics import METRICS
from experiments.options import known
from experiments.study import Study

LEDGER = Path(__file__).parents[1] / "paper" / "claims.yaml"
RULES = ("below", "above", "within", "between")


@dataclass(frozen=True)
class Claim:
    """One entry of the ledger; the fields are explained there."""

    id: str
    study: str
    section: str
    quote: str
    reading: str
    metric: str
    arms: tuple[str, ...]
    passes: tuple[int, int]
    rule: str
    limit: Any
    why: str
    protocols: tuple[str, ...]
    source: str = "text"
    recorded: tuple[str, ...] = ()
    vacuous: float | None = None
    untested: str = ""

    @property
    def limits(self) -> tuple[float, float]:
        """The ends of the interval in which the metric must lie, of the rules that have one."""
        low, high = (1 / self.limit, self.limit) if self.rule == "within" else self.limit
        return low, high

    @property
    def criterion(self) -> str:
        """The decision rule in words."""
        if self.rule in ("within", "between"):
            side = "within [{:.3g}, {:g}]".format(*self.limits)
        else:
            side = f"{known('rule', self.rule, RULES)} {self.limit:g}"
        first, last = self.passes
        words = METRICS[known("metric", self.metric, METRICS)].words
        ends = {"first": first, "last": last} if last >= 0 else {"first": "first", "last": "last"}
        passes = {**ends, "after": last + 1}
        what = words.format(*self.arms, recorded=" / ".join(self.recorded), **passes)
        return f"{what}: {side}"


@functools.cache
def ledger() -> tuple[Claim, ...]:
    """Every claim, in the paper's order.

    Raises:
        ValueError: an entry of the ledger is malformed.
    """
    import yaml

    claims = []
    for entry in yaml.safe_load(LEDGER.read_text(encoding="utf-8")):
        lists = {
            key: tuple(entry[key])
            for key in ("arms", "passes", "protocols", "recorded")
            if key in entry
        }
        try:
            claim = Claim(**{**entry, **lists})
            claim.criterion  # noqa: B018 - raises for an unknown metric or rule
        except (TypeError, ValueError, KeyError, IndexError) as error:
            raise ValueError(f"claim {entry.get('id')!r} of {LEDGER.name}: {error}") from None
        claims.append(claim)
    return tuple(claims)


def of(study: Study) -> tuple[Claim, ...]:
    """The claims that a study judges."""
    return tuple(claim for claim in ledger() if claim.study == study.name)
