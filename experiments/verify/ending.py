"""What `adam-study verify` says at its end: what was checked, and with what result."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from experiments.analysis.claims import Verdict
from experiments.analysis.results import Results
from experiments.study import PROTOCOLS
from experiments.verify.again import Check, passes_of
from experiments.verify.checks import Checks, told_by
from experiments.verify.kept import GET_DATA, folder, from_others, published_records
from experiments.verify.standing import standing
from experiments.words import counted

LINES = 25  # at the end, at most


def end(
    found: Sequence[Results],
    verdicts: Sequence[Verdict],
    done: Checks,
    lacking: Mapping[str, str],
    seconds: float,
    peak: tuple[float, float],
    index: Path | None,
    minutes: float,
) -> list[str]:
    """At most `LINES` lines that say what was checked, and with what result.

    Args:
        found: the published results.
        verdicts: theirs.
        done: the checks made here.
        lacking: by study, what keeps it from being checked.
        seconds: how long this command trained.
        peak: the largest memory of a process in MB, and how much of it is shared.
        index: the report, if it was built.
        minutes: the budget.
    """
    records = published_records(found)
    passes = sum(map(passes_of, records.values()))
    trained = [check for check in done.runs if not check.failed]
    mine = sum(check.passes for check in trained)
    equal = sum(check.equal for check in trained)
    of_paper = [verdict for verdict in verdicts if verdict.claim.of_paper]
    whose = "of the paper" if of_paper else "beyond the paper"
    head = [
        f"Published, {whose}: {in_numbers(of_paper or verdicts)}.",
        f"Checked here: {counted(len(trained), 'run')} of {len(records):,}, "
        f"{counted(mine, 'pass', 'passes')} of {passes:,} ({mine / max(passes, 1):.1%}), "
        f"{equal:,} of them equal to the last bit; {in_minutes(seconds)} minutes now.",
    ]
    agree = {check.run for check in trained if not check.fault}
    if agree:
        total, some, whole = standing(found, agree)
        head.append(
            f"Of {counted(total, 'verdict')}, {counted(some, 'rests', 'rest')} on runs that were "
            f"checked here and agree, {whole or 'none'} of them on such runs alone."
        )
    tail = [_speed(trained, peak)]
    told = told_by(from_others())
    if told:
        more = f" (and {len(told) - 1} more)" if len(told) > 1 else ""
        tail.append(f"By others{more}: {told[0]}")
    tail += [f"report: {index}"] if index else []
    tail.append(
        f"Next: `make reproduce MINUTES={max(120, 2 * minutes):g}` checks more; "
        "`adam-study verify --export FILE` writes the check as a file to send."
    )
    tail = [line for line in tail if line]
    room = LINES - len(head) - len(tail)
    faults = _named("DISAGREEMENT", "DISAGREEMENTS", done.faults, room // 3)
    if not done.faults:
        faults = ["Nothing disagrees by more than rounding."] if trained else [_nothing(lacking)]
    one, many = "run could not be trained", "runs could not be trained"
    faults += _named(one, many, done.failures, room // 4)
    return [*head, *_by_study(found, done, lacking, room - len(faults)), *faults, *tail]


def _by_study(
    found: Sequence[Results], done: Checks, lacking: Mapping[str, str], room: int
) -> list[str]:
    """What was checked, one line per study; studies that do not fit share a line."""
    by_name = {results.study.name: results for results in found}
    names = list(by_name)
    mine = {name: done.of(results) for name, results in by_name.items()}
    checked = sorted((n for n in names if mine[n]), key=lambda n: not _wrong(mine[n]))
    last = []
    if nothing := [n for n in names if n not in checked and n not in lacking]:
        last.append(f"  nothing yet: {', '.join(nothing)}")
    if without := [n for n in names if n not in checked and n in lacking]:
        last.append(f"  nothing: no real data: {', '.join(without)}")
    room -= len(last)
    shown = checked if len(checked) <= room else checked[: max(0, room - 1)]
    rest = checked[len(shown) :]
    wide = max(map(len, names), default=0)
    lines = [f"  {name:{wide}} {mine[name]}" for name in names if name in shown]
    more = counted(len(rest), "more study", "more studies")
    lines += [f"  {more}: {done.of(*(by_name[n] for n in rest))}"] if rest else []
    return lines + last


def _wrong(checks: Checks) -> bool:
    return bool(checks.faults or checks.failures)


def _named(what: str, plural: str, texts: Sequence[str], room: int) -> list[str]:
    """What is wrong, by name, in at most `room` lines."""
    if not texts:
        return []
    shown = texts if len(texts) < room else texts[: max(1, room - 2)]
    lines = [f"{counted(len(texts), what, plural)}:", *(f"  {text}" for text in shown)]
    if len(texts) > len(shown):
        lines.append(f"  and {len(texts) - len(shown)} more, in {folder() / 'checks'}")
    return lines


def _nothing(lacking: Mapping[str, str]) -> str:
    return f"Nothing was checked. {GET_DATA}." if lacking else "Nothing was checked."


def _speed(trained: Sequence[Check], peak: tuple[float, float]) -> str:
    """This machine's speed against that of the records, and the memory that it took."""
    speeds = [c.seconds / c.seconds_published for c in trained if c.seconds_published]
    parts = []
    if speeds:
        times = f"{statistics.median(speeds):.2g} times as long as in the records"
        parts.append(f"A pass takes {times}")
    if peak[0]:
        held, shared = (megabytes / 1024 for megabytes in peak)
        parts.append(f"the largest process held {held:.1f} GB, {shared:.1f} of it shared")
    return "; ".join(parts) + "." if parts else ""


def in_numbers(judged: Sequence[Verdict]) -> str:
    """How many verdicts there are of each kind, by protocol."""
    parts = []
    for protocol in PROTOCOLS:
        mine = [v for v in judged if v.protocol == protocol and v.claim.source != "control"]
        counts = Counter(v.verdict for v in mine if v.verdict)
        if counts:
            text = ", ".join(f"{n} {verdict}" for verdict, n in counts.most_common())
            parts.append(f"{protocol}: {text}")
    return "; ".join(parts) or "no claims"


def in_minutes(seconds: float) -> str:
    """Seconds in minutes, as text."""
    return f"{seconds / 60:.1f}".removesuffix(".0")
