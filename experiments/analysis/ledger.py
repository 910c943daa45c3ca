"""The ledger: what the paper says and how each statement is judged; written before the runs.

`paper/claims.yaml` holds the claims and explains their fields.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import re
import reprlib
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.analysis.metrics import METRICS
from experiments.options import known
from experiments.studies import STUDIES
from experiments.study import PROTOCOLS, Study

LEDGER = Path(__file__).parents[1] / "paper" / "claims.yaml"
# What each rule takes as its limit.
RULES = {
    "below": "a number",
    "above": "a number",
    "within": "a number, 1 or more",
    "between": "[LOW, HIGH]",
}
SCALARS = {str: "text", bool: "true or false"}
SOURCES = ("text", "figure", "control", "practice")


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
    universal: bool = False
    untested: str = ""

    @property
    def of_paper(self) -> bool:
        """Whether the paper says it; neither our controls nor what others say of Adam count."""
        return self.source in ("text", "figure")

    @property
    def limits(self) -> tuple[float, float]:
        """The ends of the interval in which the metric must lie, for rules that have one."""
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
        passes: dict[str, Any] = {"first": first, "last": last, "after": last + 1}
        passes |= {"run": f"passes {first}-{last}", "end": f"pass {last}"}
        if last < 0:  # whatever was recorded last
            passes |= {"last": "last", "run": f"rows {first} to the last", "end": "the end"}
            passes |= {"first": "first", "run": "the whole run"} if first == 0 else {}
        first_arm, *others = self.arms
        if not others and re.search(r"{(best|each)}", words):
            raise ValueError(f"{self.metric} compares {first_arm} with other arms: name one")
        names = {"arms": " / ".join(self.arms), "recorded": " / ".join(self.recorded)}
        names["best"] = names["each"] = ", ".join(others)
        if len(others) > 1:
            joined = f"{', '.join(others[:-1])} and {others[-1]}"
            names |= {"best": f"the best of {joined}", "each": f"each of {joined} (the largest)"}
        try:
            what = words.format(*self.arms, **names, **passes)
        except IndexError:
            raise ValueError(f"{self.metric} compares more arms than {list(self.arms)}") from None
        return f"{what}: {side}{', in every seed' if self.universal else ''}"


@functools.cache
def ledger() -> tuple[Claim, ...]:
    """Every claim, in the paper's order.

    Raises:
        ValueError: the ledger, or an entry of it, is malformed.
    """
    claims = parse(LEDGER.read_bytes(), str(LEDGER))
    for claim in claims:  # one of a misspelt study would never be judged
        study = STUDIES[known(f"study of the claim {claim.id}", claim.study, STUDIES)]
        for arm in claim.arms:
            known(f"arm of the claim {claim.id}", arm, [each.name for each in study.arms])
        if claim.passes[1] < 0 and not study.measured:
            raise ValueError(
                f"the passes of the claim {claim.id} are {list(claim.passes)}, and -1 is for "
                f"studies that measure; {study.name} trains: write its last pass"
            )
    return claims


def parse(content: bytes, source: str) -> tuple[Claim, ...]:
    """The claims in `content`, a ledger.

    Raises:
        ValueError: it is not a ledger; the message, one line, names `source` and the entry.
    """
    import yaml

    try:
        entries = yaml.safe_load(content.decode())
    except (yaml.YAMLError, ValueError, RecursionError, OverflowError) as error:
        raise ValueError(f"{source} is not YAML: {' '.join(str(error).split())[:200]}") from None
    if not isinstance(entries, list):
        raise ValueError(f"{source} is not a list of claims")
    claims: list[Claim] = []
    for number, entry in enumerate(entries, start=1):
        name = entry.get("id") if isinstance(entry, dict) else None
        where = f"{source}: claim {name if isinstance(name, str) else number}"
        try:
            claims.append(_claim(entry))
        except (TypeError, ValueError, KeyError, IndexError) as error:
            raise ValueError(f"{where}: {' '.join(str(error).split())[:300]}") from None
        if claims[-1].id in {claim.id for claim in claims[:-1]}:
            raise ValueError(f"{where} appears twice")
    return tuple(claims)


def _claim(entry: Any) -> Claim:
    """An entry as a claim; raises a TypeError or a ValueError if something is wrong with it."""
    if not isinstance(entry, dict):
        raise TypeError("it is not a list of fields")
    fields = {name: kind for name, kind in typing.get_type_hints(Claim).items() if name != "limit"}
    for name in entry:
        if name != "limit":
            known("field", str(name), fields)
    needed = [f.name for f in dataclasses.fields(Claim) if f.default is dataclasses.MISSING]
    if lacking := [name for name in needed if name not in entry]:
        raise ValueError(f"it lacks {', '.join(lacking)}; a claim needs {', '.join(needed)}")
    values = dict(entry)
    for name, kind in fields.items():
        if name not in entry:
            continue
        value = entry[name]
        items = typing.get_args(kind) if typing.get_origin(kind) is tuple else ()
        if items:
            right = isinstance(value, list) and all(type(item) is items[0] for item in value)
            right = right and (items[-1] is Ellipsis or len(value) == len(items))
            values[name] = tuple(value) if right else None
        else:
            right = type(value) is kind if kind in (str, bool) else _is_number(value)
        if not right:
            wanted = f"a list, each {items[0].__name__}" if items else SCALARS.get(kind, 0.5)
            raise ValueError(f"{name} is {reprlib.repr(value)}; write {wanted}")
    claim = Claim(**values)
    for protocol in claim.protocols:
        known("protocol", protocol, PROTOCOLS)
    for name in ("arms", "protocols"):
        if not getattr(claim, name):
            raise ValueError(f"{name} is []; name at least one")
    known("source", claim.source, SOURCES)
    first, last = claim.passes
    if not (0 <= first <= last or (first >= 0 and last == -1)):
        raise ValueError(
            f"passes is {[first, last]}; write [FIRST, LAST], from 0; a LAST of -1 is the last row"
        )
    if known("rule", claim.rule, RULES) == "between":
        ends = claim.limit if isinstance(claim.limit, list) else ()
        right = len(ends) == 2 and all(map(_is_number, ends)) and ends[0] < ends[1]
    else:
        right = _is_number(claim.limit) and (claim.rule != "within" or claim.limit >= 1)
    if not right:
        given = reprlib.repr(claim.limit)
        raise ValueError(f"limit is {given}; for the rule {claim.rule}, write {RULES[claim.rule]}")
    if claim.universal and claim.rule not in ("below", "above"):
        raise ValueError(f"universal is true with the rule {claim.rule}; it needs below or above")
    claim.criterion  # noqa: B018 - raises for an unknown metric or rule
    words = METRICS[claim.metric].words
    if "{recorded}" in words and not claim.recorded:
        raise ValueError(f"{claim.metric} needs `recorded`: the names of what the runs recorded")
    return claim


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and abs(value) < math.inf  # type: ignore[arg-type]


def of(study: Study) -> tuple[Claim, ...]:
    """The claims that a study judges."""
    return tuple(claim for claim in ledger() if claim.study == study.name)
