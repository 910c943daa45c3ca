"""Verdicts: each claim of the ledger judged from records by its rule.

Each seed gives one value of the claim's metric. A claim is `reproduced` if the 95% interval over
seeds lies wholly on the right side of the margin, `not reproduced` if wholly on the wrong side, and
otherwise `inconclusive`. A universal claim, one of "no" or "every", is decided by the seed that
meets it worst: a mean can't hide a counterexample. With the verdict comes what a reader needs to
question it: the margin at which it would change, what is left of it after Holm's correction for the
many verdicts of a study, whether the paper's own figure supports the sentence, and whether our
figure agrees with that one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from experiments.analysis import statistics
from experiments.analysis.ledger import Claim, of
from experiments.analysis.metrics import METRICS, left_out, objective_ratio
from experiments.analysis.results import Results
from experiments.study import PROTOCOLS, Panel, Study
from experiments.words import counted

REPRODUCED, NOT_REPRODUCED = "reproduced", "not reproduced"
INCONCLUSIVE, NOT_TESTED = "inconclusive", "not tested"
FEWEST_SEEDS = 3
SIGNIFICANT = 1 - statistics.CONFIDENCE


@dataclass(frozen=True)
class Verdict:
    """A claim judged under one protocol.

    Attributes:
        claim: the claim.
        protocol: "matched" or "tuned".
        verdict: "reproduced", "not reproduced", "inconclusive", "not tested", or "" where the
            claim does not concern this protocol.
        value: the metric, mean over seeds; of a universal claim that of the worst seed; NaN if
            there is none.
        low: lower end of its 95% interval; of a universal claim the value.
        high: upper end; of a universal claim the value.
        n: number of seeds.
        reason: why it was not tested, or what else a reader must know.
        deterministic: whether nothing about it is random, so that it has no interval.
        p: two-sided p-value of the metric against the margin that decides; NaN if there is none,
            as for a universal claim.
        adjusted: the same after Holm's correction over the verdicts of the study.
        same: whether its runs are those of the other protocol.
        paper: the metric on the paper's own curves; NaN where they do not show it.
        from_trials: for a tuned verdict, the number of trials per method from which on the medians
            of the best trial lie on the same side of the margin; 0 where that can't be said.
    """

    claim: Claim
    protocol: str
    verdict: str
    value: float = math.nan
    low: float = math.nan
    high: float = math.nan
    n: int = 0
    reason: str = ""
    deterministic: bool = False
    p: float = math.nan
    adjusted: float = math.nan
    same: bool = False
    paper: float = math.nan
    from_trials: int = 0

    @property
    def judged(self) -> bool:
        """Whether there is a verdict on the numbers."""
        return self.verdict in (REPRODUCED, NOT_REPRODUCED, INCONCLUSIVE)

    @property
    def numbers(self) -> str:
        """The metric with n and, for several seeds, its interval; or the reason there is none."""
        if not self.verdict:
            return ""
        if not np.isfinite(self.value):
            return self.reason or "diverged"
        value, low, high = (number(x) for x in (self.value, self.low, self.high))
        if self.deterministic:
            text = f"{value}, deterministic"
        elif self.claim.universal:
            worst = "largest" if self.claim.rule == "below" else "smallest"
            text = f"{value}, the {worst} of {counted(self.n, 'seed')}"
        elif self.n > 1 and self.low == self.high:
            text = f"{value} in all {self.n} seeds"
        else:
            interval = f" [{low}, {high}]" if self.n > 1 else ""
            text = f"{value}{interval}, n = {self.n}"
        return f"{text}; {self.reason}" if self.reason else text

    @property
    def flip(self) -> tuple[float, ...]:
        """The margins at which the verdict would change: one, or two where it is inconclusive.

        For the rule `within`, this is the larger limit; for `between`, the end of the interval that
        is nearer to a limit, or, outside both, the end that faces them.
        """
        if not self.judged or not np.isfinite(self.value):
            return ()
        low, high = self.low, self.high
        rule = self.claim.rule
        if rule == "within":
            ends = (max(low, 1 / high, 1.0), max(high, 1 / low))
        elif rule == "between":
            first, last = self.claim.limits
            if self.verdict == NOT_REPRODUCED:
                return (high,) if high < first else (low,)
            ends = (low, high) if abs(low - first) < abs(high - last) else (high, low)
            return ends[:1] if self.verdict != INCONCLUSIVE else ends
        else:
            ends = (low, high)
        needs_high = rule != "above"
        if self.verdict == INCONCLUSIVE:
            return ends
        held = self.verdict == REPRODUCED
        return (ends[1] if held == needs_high else ends[0],)

    @property
    def flips(self) -> str:
        """`flip` in words."""
        if not self.flip:
            return ""
        if self.verdict == INCONCLUSIVE:
            low, high = sorted(self.flip)
            return f"decided by a margin outside [{number(low)}, {number(high)}]"
        return f"changes at a margin of {number(self.flip[0])}"

    @property
    def holm(self) -> str:
        """The verdict after Holm's correction."""
        if self.verdict not in (REPRODUCED, NOT_REPRODUCED) or math.isnan(self.adjusted):
            return self.verdict
        return self.verdict if self.adjusted < SIGNIFICANT else INCONCLUSIVE

    @property
    def details(self) -> tuple[str, ...]:
        """What a table adds to the verdict: its numbers, and what they depend on."""
        number = counted(self.from_trials, "trial")
        trials = f"on this side from {number} on" if self.from_trials else ""
        left = f"{self.holm} after Holm's correction" if self.holm != self.verdict else ""
        return tuple(filter(None, (self.numbers, self.flips, trials if self.judged else "", left)))

    @property
    def paper_holds(self) -> bool | None:
        """Whether the paper's own curves support the statement; None where they do not show it."""
        return None if math.isnan(self.paper) else holds(self.claim, self.paper)

    @property
    def figure(self) -> str:
        """Whether our figure agrees with the paper's on the statement; "" if unknown."""
        if self.paper_holds is None or not self.judged:
            return ""
        if self.verdict == INCONCLUSIVE:
            return INCONCLUSIVE
        return "agrees" if (self.verdict == REPRODUCED) == self.paper_holds else "differs"


def number(value: float) -> str:
    """Four decimals, or two significant digits of a number too small for them."""
    return f"{value:.1e}" if 0 < abs(value) < 1e-3 else f"{value:.4f}"


def judge(results: Results) -> list[Verdict]:
    """The verdict on each of a study's claims under each protocol."""
    verdicts = [
        _judge(claim, protocol, results) for claim in of(results.study) for protocol in PROTOCOLS
    ]
    # The same runs judged under the other protocol's name are not another test.
    family = {
        f"{v.claim.id}/{v.protocol}": v.p if v.judged and not v.same else math.nan for v in verdicts
    }
    adjusted = statistics.holm(family)
    for v in verdicts:
        if v.same:
            adjusted[f"{v.claim.id}/{v.protocol}"] = adjusted[f"{v.claim.id}/matched"]
    return [replace(v, adjusted=adjusted[f"{v.claim.id}/{v.protocol}"]) for v in verdicts]


def _judge(claim: Claim, protocol: str, results: Results) -> Verdict:
    if protocol not in claim.protocols:
        return Verdict(claim, protocol, "")
    if claim.untested:
        return Verdict(claim, protocol, NOT_TESTED, reason=claim.untested)
    measure = METRICS[claim.metric]
    paper = of_paper(claim, results.study.panel)
    profile = results.study.profile(results.profile)
    last = claim.passes[1]
    stand_in = "stand-in data; " if results.stand_in else ""
    if measure.trained and not results.study.measured and profile.epochs <= last:
        needs = f"needs {last + 1} passes, profile {results.profile} has {profile.epochs}"
        reason = stand_in + needs
        return Verdict(claim, protocol, NOT_TESTED, reason=reason, paper=paper)
    values = measure.compute(claim, protocol, results)
    if not len(values):
        reason = f"{stand_in}its runs are not finished"
        return Verdict(claim, protocol, NOT_TESTED, reason=reason, paper=paper)
    mean, low, high = _ends(claim, values)
    verdict, notes = decide(claim, low, high), []
    same = protocol == "tuned" and "matched" in claim.protocols and _same_runs(claim, results)
    needed = profile.seeds_to(last + 1) if measure.trained else profile.tuning_seeds
    if results.stand_in:
        verdict, notes = NOT_TESTED, ["stand-in data"]
    elif len(values) < FEWEST_SEEDS:
        verdict, notes = NOT_TESTED, [f"fewer than {FEWEST_SEEDS} seeds"]
    elif _tuned_arms(claim, protocol, results) & set(results.plan.on_edge):
        verdict, notes = NOT_TESTED, ["the best learning rate is an end of its grid"]
    elif claim.metric == "time_ratio" and len(_processors(claim, protocol, results)) > 1:
        verdict, notes = NOT_TESTED, ["timed on processors of several kinds"]
    elif not np.isfinite(mean):
        deciding = np.array([mean]) if claim.universal else values
        verdict, notes = _seed_by_seed(claim, deciding), [_of_seeds(measure.infinite, values)]
    else:
        if len(values) < needed:
            notes.append(f"of {needed} seeds")
        if claim.vacuous is not None and high < claim.vacuous:
            notes.append("met, but vacuous: the bound is far above anything seen")
        if claim.metric.startswith("grid_") and (lacking := left_out(claim, results)):
            notes.append(f"without the step sizes {', '.join(f'{rate:g}' for rate in lacking)}")
        if beside := _beside(claim, protocol, results):
            notes.append(beside)
        if same:
            notes.append("the same runs under both protocols")
    return Verdict(
        claim,
        protocol,
        verdict,
        mean,
        low,
        high,
        len(values),
        "; ".join(notes),
        deterministic=results.study.measured and statistics.deterministic(values),
        p=_p_value(claim, values),
        same=same,
        paper=paper,
        from_trials=_from_trials(claim, results, verdict) if protocol == "tuned" else 0,
    )


def _ends(claim: Claim, values: np.ndarray) -> tuple[float, float, float]:
    """The metric with the ends that decide: mean and interval, or the worst seed three times."""
    if claim.universal:
        worst = float(np.max(values) if claim.rule == "below" else np.min(values))
        return worst, worst, worst
    mean, low, high = statistics.interval(values, log=METRICS[claim.metric].log)
    return float(mean), float(low), float(high)


def _runs(claim: Claim, protocol: str, results: Results) -> set[str]:
    """The ids of the runs of a claim's arms; an arm with nothing to tune has its matched ones."""
    tunes = {arm: results.study.arm(arm).tunes for arm in claim.arms}
    roles = {arm: protocol if tuned else "matched" for arm, tuned in tunes.items()}
    return {e.run.id for e in results.plan.entries if roles.get(e.arm) == e.role}


def _tuned_arms(claim: Claim, protocol: str, results: Results) -> set[str]:
    """The arms on whose tuned runs a verdict rests."""
    if METRICS[claim.metric].of_all:
        return {arm.name for arm in results.study.arms}
    return set(claim.arms) if protocol == "tuned" else set()


def _same_runs(claim: Claim, results: Results) -> bool:
    """Whether the tuned runs of a claim's arms are their matched runs."""
    matched, tuned = (_runs(claim, protocol, results) for protocol in PROTOCOLS)
    return bool(matched) and matched == tuned


def _processors(claim: Claim, protocol: str, results: Results) -> set[tuple[str, str]]:
    """The processors on which a claim's runs were trained, by name and kind.

    Records from before the kind was noted have the commit instead: one session's runs share it.
    """
    found = map(results.records.get, _runs(claim, protocol, results))
    manifests = [record["manifest"] for record in found if record is not None]
    return {
        (each.get("processor", ""), each.get("kind") or each.get("commit", ""))
        for each in manifests
    }


def _beside(claim: Claim, protocol: str, results: Results) -> str:
    """For a ratio of costs, the same ratio of objectives, where these differ from the costs."""
    if claim.metric not in ("cost_ratio", "final_ratio") or not results.study.options.get("l2"):
        return ""
    values = objective_ratio(claim, protocol, results)
    if not len(values) or not np.isfinite(values).all():
        return ""
    mean, low, high = (number(float(x)) for x in statistics.interval(values, log=True))
    return f"with the L2 term, which is minimised too: {mean} [{low}, {high}]"


def _p_value(claim: Claim, values: np.ndarray) -> float:
    """The p-value against the deciding limit: of two, the nearer, whose p-value is the larger."""
    log = METRICS[claim.metric].log
    if claim.universal:
        return math.nan
    if claim.rule in ("below", "above"):
        return statistics.p_value(values, claim.limit, log=log)
    return max(statistics.p_value(values, limit, log=log) for limit in claim.limits)


def _from_trials(claim: Claim, results: Results, verdict: str) -> int:
    """The k from which on the medians of the best of k trials stay on the verdict's side.

    A trial is scored as the verdict is, by the geometric mean over the claim's passes; 0 where the
    trials are shorter than that, or end on the other side.
    """
    if claim.metric not in ("cost_ratio", "final_ratio") or len(claim.arms) != 2:
        return 0
    tried = [results.tried(arm, *claim.passes) for arm in claim.arms]
    if not all(tried) or verdict not in (REPRODUCED, NOT_REPRODUCED):
        return 0
    first, second = (statistics.best_of(scores).set_index("k")["median"] for scores in tried)
    ratios = (first / second).dropna()  # by k; there is none where both best ones diverged
    sides = [holds(claim, value) for value in ratios]
    if not sides or sides[-1] != (verdict == REPRODUCED):
        return 0
    enough = len(sides)
    while enough > 1 and sides[enough - 2] == sides[-1]:
        enough -= 1
    return int(ratios.index[enough - 1])


def of_paper(claim: Claim, panel: Panel) -> float:
    """The same metric on the paper's own digitised curves; NaN where they do not show it."""
    return METRICS[claim.metric].of_paper(claim, panel)


def _seed_by_seed(claim: Claim, values: np.ndarray) -> str:
    """The verdict on values that are not all finite, on which all seeds must agree."""
    kinds = {decide(claim, value, value) for value in values if not math.isnan(value)}
    return kinds.pop() if len(kinds) == 1 and not np.isnan(values).any() else INCONCLUSIVE


def _of_seeds(infinite: str, values: np.ndarray) -> str:
    """How many values are infinite, or have none."""
    gone = int(np.isinf(values).sum())
    if gone == len(values):
        return infinite
    parts = {infinite: gone, "no value": int(np.isnan(values).sum())}
    return ", ".join(f"{word} in {n} of {len(values)} seeds" for word, n in parts.items() if n)


def holds(claim: Claim, value: float) -> bool:
    """Whether one value lies on the right side of the margin."""
    return decide(claim, value, value) == REPRODUCED


def decide(claim: Claim, low: float, high: float) -> str:
    """The verdict from the interval of the metric.

    Args:
        claim: holds the rule and its limits.
        low: lower end of the interval.
        high: upper end.
    """
    if claim.rule == "below":
        inside, outside = high < claim.limit, low >= claim.limit
    elif claim.rule == "above":
        inside, outside = low > claim.limit, high <= claim.limit
    else:
        smallest, largest = claim.limits
        inside = smallest <= low and high <= largest
        outside = high < smallest or low > largest
    return REPRODUCED if inside else NOT_REPRODUCED if outside else INCONCLUSIVE


@dataclass(frozen=True)
class Judged:
    """A claim with its verdicts, by protocol, and the study that they come from."""

    claim: Claim
    study: Study
    verdicts: Mapping[str, Verdict]
    paper: str


def by_claim(results: Results) -> list[Judged]:
    """The claims of one study with their verdicts."""
    verdicts: dict[str, dict[str, Verdict]] = {}
    for verdict in judge(results):
        verdicts.setdefault(verdict.claim.id, {})[verdict.protocol] = verdict
    rows = []
    for mine in verdicts.values():
        claim = mine["matched"].claim
        paper = paper_words(claim, mine["matched"], of_paper(claim, results.study.panel))
        rows.append(Judged(claim, results.study, mine, paper))
    return rows


def paper_words(claim: Claim, matched: Verdict, value: float) -> str:
    """What the paper's own curves give, whether the statement holds there, and whether ours agree.

    Args:
        claim: the claim.
        matched: its verdict under the matched protocol.
        value: the metric on the paper's curves; NaN where they do not show it.
    """
    if math.isnan(value):
        return ""
    ours = {"agrees": ", ours agrees", "differs": ", ours differs"}.get(matched.figure, "")
    return f"{value:.3g} ({'holds' if holds(claim, value) else 'fails'}{ours})"
