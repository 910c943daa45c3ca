"""What all studies together found: claims by part of the paper, findings in words, the picture."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from experiments.analysis import claims
from experiments.analysis.claims import Judged, Verdict
from experiments.analysis.results import Results
from experiments.study import PROTOCOLS, Study
from experiments.words import counted

FINDINGS = Path(__file__).parent / "findings.yaml"
KINDS = (claims.REPRODUCED, claims.NOT_REPRODUCED, claims.INCONCLUSIVE, claims.NOT_TESTED)
# The parts of the paper by section, in its order, in the words of this project; then the rest.
TITLES = {
    "1": "Memory and moving objectives",
    "2": "What Adam equals",
    "2.1": "The length of steps",
    "3": "Bias correction in theory",
    "4": "Regret and convergence",
    "6.1": "Logistic regression",
    "6.2": "Multilayer networks",
    "6.3": "Convolutional network",
    "6.4": "Bias correction in training",
    "7": "AdaMax and averaging",
    "Beyond the paper": "Adam's defaults today",
}


@dataclass(frozen=True)
class Part:
    """A part of the paper: its section, a title, where in the paper it is, and its claims."""

    section: str
    title: str
    where: str
    judged: tuple[Judged, ...]

    @property
    def key(self) -> str:
        """The part's name in addresses."""
        return "part-" + re.sub(r"[^\w]+", "-", self.section.lower()).strip("-")


def parts(found: Iterable[Results]) -> list[Part]:
    """The claims of these results by part of the paper, in the paper's order.

    What belongs to no section of the paper stands at the end, by the title of its study.
    """
    grouped: dict[str, list[Judged]] = {}
    named: dict[str, tuple[str, dict[str, None]]] = {}
    for results in found:
        study = results.study
        section = _section(study)
        named.setdefault(section, (TITLES.get(section, study.title), {}))[1][study.section] = None
        for row in claims.by_claim(results):
            grouped.setdefault(section, []).append(row)
    order = sorted(grouped, key=lambda section: (section not in TITLES, section))
    return [
        Part(section, named[section][0], _joined(named[section][1]), tuple(grouped[section]))
        for section in order
    ]


def _section(study: Study) -> str:
    found = re.match(r"Section ([\d.]+)", study.section)
    return found[1] if found else study.section


def _joined(sections: Iterable[str]) -> str:
    """ "Section 6.1, Figure 1" of "Section 6.1, Figure 1 (left)" and "... (right)"."""
    names: dict[str, None] = {}
    for section in sections:
        for name in re.sub(r" \(\w+\)", "", section).split(", "):
            names[name] = None
    return ", ".join(names).replace("Figure 2a, Figure 2b", "Figure 2")


def count(rows: Iterable[Judged], protocol: str) -> dict[str, int]:
    """How many claims have each verdict under a protocol; those that it does not concern are not
    counted, nor are controls."""
    verdicts = [row.verdicts[protocol].verdict for row in rows if row.claim.source != "control"]
    return {kind: verdicts.count(kind) for kind in KINDS}


def tally(rows: Sequence[Judged]) -> dict[str, dict[str, int]]:
    """`count` under each protocol."""
    return {protocol: count(rows, protocol) for protocol in PROTOCOLS}


def by_protocol(rows: Sequence[Judged]) -> list[str]:
    """How many claims have each verdict, a line for each protocol that any of them concerns."""
    lines = {protocol: in_numbers(counts) for protocol, counts in tally(rows).items()}
    return [f"{protocol}: {text}" for protocol, text in lines.items() if text != "-"]


def in_numbers(counts: Mapping[str, int]) -> str:
    """Verdicts in numbers: "3 reproduced, 1 not reproduced"."""
    return ", ".join(f"{n} {kind}" for kind, n in counts.items() if n) or "-"


# --- findings in words ----------------------------------------------------------------------------


@cache
def findings() -> dict[str, list[dict[str, Any]]]:
    """The sentences of `findings.yaml` by part."""
    import yaml

    found: dict[str, list[dict[str, Any]]] = yaml.safe_load(FINDINGS.read_text(encoding="utf-8"))
    return found


def said(key: str, rows: Sequence[Judged]) -> str:
    """The sentences about a part whose conditions hold, with their numbers; maybe none."""
    by_id = {row.claim.id: row.verdicts for row in rows}

    def holds(conditions: Mapping[str, Mapping[str, Any]]) -> bool:
        return all(
            claim in by_id and _met(by_id[claim], condition, wanted)
            for claim, each in conditions.items()
            for condition, wanted in each.items()
        )

    def number(match: re.Match[str]) -> str:
        value = by_id[match["claim"]][match["protocol"]].value
        if match["as"] == ":share":
            return f"{100 * value:.2g}%"
        return f"{100 * abs(value - 1):.2g}%" if match["as"] else f"{value:.3g}"

    pattern = r"\{(?P<claim>[\w-]+)\.(?P<protocol>\w+)(?P<as>%|:share|)\}"
    return " ".join(
        re.sub(pattern, number, sentence["says"].strip())
        for sentence in findings().get(key, [])
        if holds(sentence["if"])
    )


def _met(verdicts: Mapping[str, Verdict], condition: str, wanted: Any) -> bool:
    """Whether a condition of a sentence holds; `findings.yaml` explains them."""
    protocol, *words = condition.split()
    verdict = verdicts[protocol]
    if not words:
        return bool(verdict.verdict == wanted)
    ends = (verdict.value, verdict.value) if words[0] == "value" else (verdict.low, verdict.high)
    above = {"above": True, "below": False}[words[-1]]
    return verdict.judged and bool(ends[0] > wanted if above else ends[1] < wanted)


def finding(part: Part) -> str:
    """What was found about a part, in words; how many claims hold where there are none."""
    return said(part.section, part.judged) or "; ".join(by_protocol(part.judged)) + "."


def sources(shown: Sequence[Part]) -> str:
    """Whose claims these are, in a sentence; "" if all are alike."""
    rows = [row.claim for part in shown for row in part.judged]
    controls = sum(claim.source == "control" for claim in rows)
    of_paper = sum(claim.of_paper and claim.source != "control" for claim in rows)
    kinds = (
        (of_paper, "of the paper's statements and curves"),
        (len(rows) - of_paper - controls, "of our own on Adam's defaults"),
        (controls, f"{'control' if controls == 1 else 'controls'}, which no count includes"),
    )
    named = [f"{number} {words}" for number, words in kinds if number]
    if len(named) < 2:
        return ""
    return f"{len(rows)} rows: {', '.join(named[:-1])} and {named[-1]}."


def totals(shown: Sequence[Part]) -> str:
    """How many statements hold under each protocol, in a sentence."""
    rows = [row for part in shown for row in part.judged if row.claim.source != "control"]
    whose, what = "", ("statement beyond the paper", "statements beyond the paper")
    if of_paper := [row for row in rows if row.claim.of_paper]:
        rows, whose, what = (
            of_paper,
            "the paper's ",
            ("statement or curve", "statements and curves"),
        )
    if not rows:
        return "No statement is judged here."
    phrases: list[str] = []
    for protocol in PROTOCOLS:
        counts = count(rows, protocol)
        if not (tested := sum(counts.values()) - counts[claims.NOT_TESTED]):
            continue
        held = f"with *{protocol}* ones" if phrases else f"hold with *{protocol}* settings"
        unknown = counts[claims.INCONCLUSIVE]
        undecided = f" ({unknown} undecided)" if unknown else ""
        phrases.append(f"**{counts[claims.REPRODUCED]} of {tested}** {held}{undecided}")
    judged_rows = sum(any(v.judged for v in row.verdicts.values()) for row in rows)
    could = f"{judged_rows or 'none'} could be tested" if judged_rows < len(rows) else ""
    text = f"Of {whose}{counted(len(rows), *what)}, {could}{': ' if could and phrases else ''}"
    return f"{text}{', '.join(phrases)}."


# --- the picture ----------------------------------------------------------------------------------

LIGHT = {
    "text": "#1d2129", "soft": "#565e6b", "line": "#d9dde3", "page": "#ffffff",
    "reproduced": "#17599e", "on-reproduced": "#ffffff",
    "not-reproduced": "#ad3e00", "on-not-reproduced": "#ffffff",
    "inconclusive": "#f0d476", "on-inconclusive": "#3a2e00",
    "not-tested": "#ffffff", "on-not-tested": "#565e6b",
}  # fmt: skip
DARK = {
    "text": "#e4e7ec", "soft": "#a3abb8", "line": "#363c47", "page": "#14171c",
    "reproduced": "#8dbdf7", "on-reproduced": "#06203f",
    "not-reproduced": "#ffae85", "on-not-reproduced": "#421600",
    "inconclusive": "#e5cc72", "on-inconclusive": "#2e2500",
    "not-tested": "#14171c", "on-not-tested": "#a3abb8",
}  # fmt: skip
WIDTH, NARROW, MARK, COLUMN = 830, 350, 22, 25
LEGEND = ((0, 0), (130, 0), (290, 0), (420, 0))
# Signs that need no font: strokes in a square of 22.
SIGNS = {
    claims.REPRODUCED: "M6 11.5l3.5 3.5l6.5-8",
    claims.NOT_REPRODUCED: "M7 7l8 8m0-8l-8 8",
    claims.INCONCLUSIVE: "M8 8.6c0-4 6-4 6-.6c0 2.2-3 2.2-3 4.6m0 3v.4",
    claims.NOT_TESTED: "M7 11h8",
}


def picture(
    shown: Sequence[Part], theme: Mapping[str, str] | None = None, width: int = WIDTH
) -> str:
    """Every claim but controls under both protocols as an SVG, a block for each part of the paper.

    Args:
        shown: the parts.
        theme: the colours, `LIGHT` or `DARK`; without one they are those of the page around it, and
            every mark leads to its claim.
        width: `WIDTH`, or `NARROW` for phones, where a part's name stands above its marks.
    """
    narrow = width < WIDTH
    left = 74 if narrow else 330  # beyond the longest name of a part
    colour = (lambda name: theme[name]) if theme else (lambda name: f"var(--{name})")
    columns = max([(width - left - (60 if narrow else 74)) // COLUMN, 1])
    body: list[str] = []
    y = 64 if narrow else 34
    places = ((0, 0), (170, 0), (0, 30), (170, 30)) if narrow else LEGEND
    for kind, (x, down) in zip(KINDS, places, strict=True):
        body.append(f'<g transform="translate({x} {down})">{_mark(kind, colour)}</g>')
        body.append(_text(x + MARK + 7, down + 16, kind, colour("text"), 14))
    for part in shown:
        drawn = [row for row in part.judged if row.claim.source != "control"]
        lines = [
            (protocol, rows)
            for k in range(0, len(drawn), columns)
            for rows in [drawn[k : k + columns]]
            for protocol in PROTOCOLS
            if any(row.verdicts[protocol].verdict for row in rows)
        ]
        counted_already: set[str] = set()
        body.append(f'<path d="M0 {y}H{width}" stroke="{colour("line")}"/>')
        body.append(_text(0, y + 24, part.title, colour("text"), 14, weight=650))
        if narrow:
            body.append(_text(width, y + 24, part.where, colour("soft"), 12, anchor="end"))
        else:
            body.append(_text(0, y + 43, part.where, colour("soft"), 13))
        top = y + (34 if narrow else 8)
        for protocol, rows in lines:
            body.append(_text(left - 8, top + 16, protocol, colour("soft"), 13, anchor="end"))
            for k, row in enumerate(rows):
                verdict = row.verdicts[protocol].verdict
                if verdict:
                    body.append(_placed(row, protocol, left + COLUMN * k, top, colour, not theme))
            counts = count(part.judged, protocol)
            tested = sum(counts.values()) - counts[claims.NOT_TESTED]
            if protocol not in counted_already:
                counted_already.add(protocol)
                text = f"{counts[claims.REPRODUCED]} of {tested}" if tested else "–"
                body.append(_text(width, top + 16, text, colour("text"), 14, anchor="end"))
            top += MARK + 3
        y = max(top, y + (34 if narrow else 52)) + 6
    whole = tally([row for part in shown for row in part.judged])
    about = ". ".join(f"{protocol}: {in_numbers(counts)}" for protocol, counts in whole.items())
    ground = (
        f'<rect x="-10" y="-10" width="{width + 20}" height="{y + 14}" fill="{colour("page")}"/>'
        if theme
        else ""
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-10 -10 {width + 20} {y + 14}" '
        f'width="{width + 20}" height="{y + 14}" role="img" '
        f'aria-label="The verdict on every claim. {html.escape(about)}" '
        f'font-family="system-ui, -apple-system, Segoe UI, Roboto, Noto Sans, sans-serif">'
        f"{ground}{''.join(body)}</svg>\n"
    )


def _text(
    x: float, y: float, text: str, fill: str, size: int, *, weight: int = 400, anchor: str = "start"
) -> str:
    bold = f' font-weight="{weight}"' if weight != 400 else ""
    end = f' text-anchor="{anchor}"' if anchor != "start" else ""
    where = f'x="{x}" y="{y}" font-size="{size}" fill="{fill}"{bold}{end}'
    return f"<text {where}>{html.escape(text)}</text>"


def _mark(verdict: str, colour: Any) -> str:
    style = verdict.replace(" ", "-")
    edge = f' stroke="{colour("on-not-tested")}"' if verdict == claims.NOT_TESTED else ""
    return (
        f'<rect x=".5" y=".5" width="{MARK - 1}" height="{MARK - 1}" rx="4" '
        f'fill="{colour(style)}"{edge}/><path d="{SIGNS[verdict]}" fill="none" stroke-width="2.4" '
        f'stroke-linecap="round" stroke-linejoin="round" stroke="{colour(f"on-{style}")}"/>'
    )


def _placed(row: Judged, protocol: str, x: int, y: int, colour: Any, linked: bool) -> str:
    verdict = row.verdicts[protocol].verdict
    mark = _mark(verdict, colour)
    text = html.escape(f"{row.claim.reading} ({row.study.title}), {protocol}: {verdict}")
    if linked:
        mark = f'<a href="#claim-{row.claim.id}" tabindex="-1"><title>{text}</title>{mark}</a>'
    return f'<g transform="translate({x} {y})">{mark}</g>'
