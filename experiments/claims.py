"""The ledger: what the paper says, judged from records by rules written before the runs.

`paper/claims.yaml` holds the claims and explains their fields.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments.analysis import Results, interval, paper_curve
from experiments.study import PROTOCOLS, Study

LEDGER = Path(__file__).parent / "paper" / "claims.yaml"
REPRODUCED, NOT_REPRODUCED = "reproduced", "not reproduced"
INCONCLUSIVE, NOT_TESTED = "inconclusive", "not tested"
FEWEST_SEEDS = 3


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
    limit: float
    why: str
    protocols: tuple[str, ...]
    source: str = "text"

    @property
    def criterion(self) -> str:
        """The decision rule in words."""
        first, last = self.passes
        side = {
            "below": f"below {self.limit:g}",
            "within": f"within [{1 / self.limit:.3g}, {self.limit:g}]",
        }[self.rule]
        what = {
            "cost_ratio": "training cost {} / {}, geometric mean over passes {}-{}",
            "final_ratio": "training cost {} / {}, geometric mean over passes {}-{}",
            "distance": "largest distance of {} to the paper's curve over passes {}-{}, nats",
        }[self.metric]
        return f"{what.format(*self.arms, first, last)}: {side}"


@dataclass(frozen=True)
class Verdict:
    """A claim judged under one protocol.

    Attributes:
        claim: the claim.
        protocol: "matched" or "tuned".
        verdict: "reproduced", "not reproduced", "inconclusive", "not tested", or "" where the
            claim does not concern this protocol.
        value: the metric, mean over seeds; NaN if there is none.
        low: lower end of its 95% interval.
        high: upper end.
        n: number of seeds.
        reason: why it was not tested.
    """

    claim: Claim
    protocol: str
    verdict: str
    value: float = np.nan
    low: float = np.nan
    high: float = np.nan
    n: int = 0
    reason: str = ""

    @property
    def numbers(self) -> str:
        """The metric with its interval and n, or the reason there is none."""
        if not self.verdict:
            return ""
        if not np.isfinite(self.value):
            return self.reason or "diverged"
        text = f"{self.value:.4f} [{self.low:.4f}, {self.high:.4f}], n = {self.n}"
        return f"{text}; {self.reason}" if self.reason else text


@functools.cache
def ledger() -> tuple[Claim, ...]:
    """Every claim, in the paper's order.

    Raises:
        ValueError: an entry of the ledger is malformed.
    """
    import yaml

    claims = []
    for entry in yaml.safe_load(LEDGER.read_text()):
        lists = {key: tuple(entry[key]) for key in ("arms", "passes", "protocols")}
        try:
            claim = Claim(**{**entry, **lists})
            claim.criterion  # noqa: B018 - raises for an unknown metric or rule
        except (TypeError, KeyError, IndexError) as error:
            raise ValueError(f"claim {entry.get('id')!r} of {LEDGER.name}: {error}") from None
        claims.append(claim)
    return tuple(claims)


def of(study: Study) -> tuple[Claim, ...]:
    """The claims that a study judges."""
    return tuple(claim for claim in ledger() if claim.study == study.name)


def judge(results: Results) -> list[Verdict]:
    """The verdict on each of a study's claims under each protocol."""
    return [
        _judge(claim, protocol, results) for claim in of(results.study) for protocol in PROTOCOLS
    ]


def _judge(claim: Claim, protocol: str, results: Results) -> Verdict:
    if protocol not in claim.protocols:
        return Verdict(claim, protocol, "")
    profile = results.study.profile(results.profile)
    curves = [results.matrix(protocol, arm) for arm in claim.arms]
    if any(len(curve) < profile.seeds for curve in curves):
        return Verdict(claim, protocol, NOT_TESTED, reason="its runs are not finished")
    last = claim.passes[1]
    if profile.epochs <= last:
        reason = f"needs {last + 1} passes, profile {results.profile} has {profile.epochs}"
        return Verdict(claim, protocol, NOT_TESTED, reason=reason)
    values = metric(claim, [curve.to_numpy() for curve in curves], results.study.panel)
    mean, low, high = (float(number) for number in interval(values))
    verdict, reason = decide(claim, low, high), ""
    if results.stand_in:
        verdict, reason = NOT_TESTED, "stand-in data"
    elif profile.seeds < FEWEST_SEEDS:
        verdict, reason = NOT_TESTED, f"fewer than {FEWEST_SEEDS} seeds"
    elif protocol == "tuned" and set(claim.arms) & set(results.plan.on_edge):
        verdict, reason = NOT_TESTED, "the best learning rate is an end of its grid"
    elif not np.isfinite(mean):
        verdict, reason = NOT_REPRODUCED, "diverged"
    return Verdict(claim, protocol, verdict, mean, low, high, len(values), reason)


def metric(claim: Claim, curves: list[np.ndarray], panel: str) -> np.ndarray:
    """A claim's metric, one value per seed, from its arms' training costs (seeds x passes)."""
    first, last = claim.passes
    window = [np.asarray(curve, float)[:, first : last + 1] for curve in curves]
    if claim.metric == "distance":
        paper = paper_curve(panel, claim.arms[0]).loc[first:last]
        columns = [int(x) for x in paper.index]
        return np.abs(curves[0][:, columns] - paper.to_numpy()).max(axis=1)
    with np.errstate(invalid="ignore"):  # two diverged arms have no ratio
        return np.exp(np.mean(np.log(window[0]) - np.log(window[1]), axis=1))


def of_paper(claim: Claim, panel: str) -> float:
    """The same metric on the paper's own digitised curves; NaN for a distance to them."""
    if claim.metric == "distance":
        return np.nan
    first, last = claim.passes
    a, b = (paper_curve(panel, arm).loc[first:last] for arm in claim.arms)
    return float(np.exp(np.mean(np.log(a) - np.log(b))))


def decide(claim: Claim, low: float, high: float) -> str:
    """The verdict from the interval of the metric."""
    if claim.rule == "below":
        inside, outside = high < claim.limit, low >= claim.limit
    else:
        smallest = 1 / claim.limit
        inside = smallest <= low and high <= claim.limit
        outside = high < smallest or low > claim.limit
    return REPRODUCED if inside else NOT_REPRODUCED if outside else INCONCLUSIVE


def rows(results: Iterable[Results]) -> list[dict[str, str]]:
    """The verdict table, one row per claim, as plain text cells."""
    table = []
    for result in results:
        verdicts = {(v.claim.id, v.protocol): v for v in judge(result)}
        for claim in of(result.study):
            paper = of_paper(claim, result.study.panel)
            row = {
                "id": claim.id,
                "section": claim.section,
                "quote": claim.quote,
                "source": claim.source,
                "reading": claim.reading,
                "criterion": claim.criterion,
                "why": claim.why,
                "paper": "" if np.isnan(paper) else f"{paper:.3g}",
            }
            for protocol in PROTOCOLS:
                verdict = verdicts[claim.id, protocol]
                row[protocol] = verdict.verdict
                row[f"{protocol}_numbers"] = verdict.numbers
            table.append(row)
    return table
