"""What all studies found, in one sentence and one picture: what is counted, and what is said."""

from __future__ import annotations

import dataclasses
import re

import pytest

from experiments.analysis import claims, ledger
from experiments.report import summary
from experiments.report.summary import Judged, Part
from experiments.studies import STUDIES

CLAIM = next(claim for claim in ledger.ledger() if claim.protocols == ("matched", "tuned"))
STUDY = STUDIES[CLAIM.study]


def verdict(kind: str, low=0.9, high=1.1, protocol="matched") -> claims.Verdict:
    if not kind or kind == claims.NOT_TESTED:
        return claims.Verdict(CLAIM, protocol, kind)
    return claims.Verdict(CLAIM, protocol, kind, (low + high) / 2, low, high, 3)


def row(name: str, matched: str, tuned: str, source="text", **ends) -> Judged:
    claim = dataclasses.replace(CLAIM, id=name, source=source)
    verdicts = {
        "matched": verdict(matched, **ends),
        "tuned": verdict(tuned, protocol="tuned", **ends),
    }
    return Judged(claim, STUDY, verdicts, "")


ROWS = (
    row("a", claims.REPRODUCED, claims.REPRODUCED),
    row("b", claims.NOT_REPRODUCED, claims.NOT_TESTED),
    row("c", claims.NOT_TESTED, claims.NOT_TESTED),
    row("d", "", claims.NOT_TESTED),
    row("e", claims.NOT_TESTED, claims.INCONCLUSIVE),
    row("f", claims.REPRODUCED, "", source="control"),
    row("g", claims.REPRODUCED, "", source="practice"),
)
PART = Part("6.1", "A part", "Section 6.1", ROWS)


def test_what_no_protocol_tested_is_not_tested():
    """One protocol's test is enough; a statement for tuning alone counts, too."""
    said = summary.totals([PART])
    assert said == (
        "Of the paper's 5 statements and curves, 3 could be tested: **1 of 2** hold with *matched* "
        "settings, **1 of 2** with *tuned* ones (1 undecided)."
    )


def test_totals_of_a_selection():
    """What is beyond the paper is counted where there is nothing else, a single one as such."""
    beyond, control = ROWS[6], ROWS[5]
    for rows, said in (
        (
            (beyond, control),
            "Of 1 statement beyond the paper, **1 of 1** hold with *matched* settings.",
        ),
        ((ROWS[2],), "Of the paper's 1 statement or curve, none could be tested."),
        ((ROWS[2], ROWS[3]), "Of the paper's 2 statements and curves, none could be tested."),
        (
            (ROWS[4], beyond),
            "Of the paper's 1 statement or curve, **0 of 1** hold with *tuned* settings "
            "(1 undecided).",
        ),
        ((control,), "No statement is judged here."),
    ):
        assert summary.totals([Part("6.1", "A part", "Section 6.1", rows)]) == said


@pytest.mark.parametrize("width", [summary.WIDTH, summary.NARROW])
def test_the_picture_marks_what_it_counts(width):
    """Two of three, and the control has no mark."""
    drawn = summary.picture([PART], width=width)
    assert "2 of 3" in drawn
    marks = re.findall(r'href="#claim-(\w)"', drawn)
    assert sorted(marks) == list("aabbccdeeg")


@pytest.mark.parametrize(
    ("condition", "wanted", "met"),
    [
        ("matched", "reproduced", True),
        ("matched", "inconclusive", False),
        ("matched below", 1.11, True),
        ("matched below", 1.05, False),
        ("matched above", 0.89, True),
        ("matched above", 0.95, False),
        ("matched value below", 1.05, True),
        ("matched value below", 1.0, False),
        ("matched value above", 0.95, True),
        ("matched value above", 1.0, False),
        ("tuned", "not tested", True),
        ("tuned below", 1.11, False),
        ("tuned value above", 0.0, False),
    ],
)
def test_a_sentence_is_said_only_while_its_conditions_hold(monkeypatch, condition, wanted, met):
    """Of an interval from 0.9 to 1.1 about 1, and of no number at all."""
    judged = row("a", claims.REPRODUCED, claims.NOT_TESTED, low=0.9, high=1.1)
    sentence = {"says": "It is {a.matched}.", "if": {"a": {condition: wanted}}}
    monkeypatch.setattr(summary, "findings", lambda: {"6.1": [sentence]})
    assert summary.said("6.1", [judged]) == ("It is 1." if met else "")
