"""The overview counts as its picture does, and the charts go as far as the paper's figures."""

from __future__ import annotations

import dataclasses
import re
from html import unescape

import pytest
from nbformat.v4 import new_notebook

from experiments import pages
from experiments.analysis import claims, ledger
from experiments.paper import curves as digitised
from experiments.report import build, charts, webpage
from experiments.studies import STUDIES

CONTROLLED = dict.fromkeys(each.study for each in ledger.ledger() if each.source == "control")


@pytest.fixture
def overview(monkeypatch, tmp_path):
    """The overview of the studies with controls; its pages are empty."""
    monkeypatch.setenv("ADAM_TF_BUILD", str(tmp_path))
    monkeypatch.setenv("ADAM_TF_DATA", str(tmp_path / "no data"))
    monkeypatch.setattr(build, "is_current", lambda page: True)
    monkeypatch.setattr(build, "_headlines", lambda found: [])
    monkeypatch.setattr(webpage.Page, "read", lambda path: webpage.Page(path.stem, new_notebook()))
    index = build.build([STUDIES[name] for name in CONTROLLED], "published")
    return index.read_text(encoding="utf-8")


def test_the_page_counts_what_its_picture_counts(overview):
    """Controls have a row on the page, and neither a mark nor a place in any number."""
    rows = re.findall(r'<tr role="row" id="claim-([\w-]+)"', overview)
    controls = {each.id for each in ledger.ledger() if each.source == "control"}
    assert controls < set(rows)
    picture = overview.split('<div class="picture narrow">')[0]
    assert not controls & set(re.findall(r'href="#claim-([\w-]+)"', picture))

    whole = re.search(r'aria-label="The verdict on every claim. ([^"]+)"', picture)[1]
    tally = overview.split('<ul class="tally">')[1].split("</ul>")[0]
    badges = {
        protocol: re.findall(r"</span>(\d[\w ]+)</span>", counts)
        for protocol, counts in re.findall(r'class="protocol">(\w+)(.*?)</li>', tally, re.DOTALL)
    }
    assert whole == ". ".join(f"{name}: {', '.join(each) or '-'}" for name, each in badges.items())

    drawn = re.findall(r'font-weight="650">([^<]+)', picture)
    held = re.findall(r"<summary><h3>([^<]+)</h3>(.*?)</summary>", overview)
    assert [unescape(title) for title, _ in held] == [unescape(title) for title in drawn]
    assert len(held) > 1
    for (_, lines), title in zip(held, drawn, strict=True):
        part = picture.split(f">{title}</text>")[1].split('font-weight="650"')[0]
        marks = re.findall(r"<title>[^<]*, (\w+): ([\w ]+)</title>", part)
        for protocol, counts in re.findall(r'class="held">(\w+): ([^<]+)', lines):
            numbers = {kind: int(n) for n, kind in re.findall(r"(\d+) ([a-z ]+)", counts)}
            found = [kind for each, kind in marks if each == protocol]
            assert numbers == {kind: found.count(kind) for kind in set(found)}, title


@pytest.mark.parametrize("name", STUDIES)
def test_a_chart_shows_the_panel_of_its_axis(name):
    """Of a figure with several panels: the one that the distances are computed on."""
    study = STUDIES[name]
    shown = [arm.name for arm in study.arms if digitised.shows(study.panel.name, arm.name)]
    results = dataclasses.replace(pages.published(study), data=study.data_set)
    found = charts._paper(results)
    assert [curve["arm"] for curve in found] == shown
    for curve in found:
        paper = digitised.points(study.panel.name, curve["arm"])
        assert curve["x"] == list(paper)
        assert curve["y"] == pytest.approx(list(paper.values()), rel=1e-4)


def test_the_chart_of_figure_3_goes_on_with_the_paper():
    """To the last of its 48 passes, not to the third, where the left panel ends."""
    (chart,) = charts.data([pages.published(STUDIES["fig3"])], [])["studies"]
    assert len(chart["paper"]) == 6
    assert {curve["x"][-1] for curve in chart["paper"]} == {48}
    assert max(len(curve["mean"]) for curve in chart["curves"]) == 46


def test_the_rules_are_shown_without_judging_by_them(monkeypatch):
    """The paper's own words are quoted; words for what its figure shows are not."""
    study = STUDIES["fig1-mnist"]
    monkeypatch.setattr(claims, "judge", lambda results: pytest.fail("a claim was judged"))
    table = pages.criteria(pages.published(study))
    declared = ledger.of(study)
    assert list(table["margin"]) == [claim.why for claim in declared]
    assert list(table["reproduced if"]) == [claim.criterion for claim in declared]
    for words, claim in zip(table["the paper"], declared, strict=True):
        assert words == (f"“{claim.quote}”" if claim.source == "text" else claim.quote)
    assert {claim.source for claim in declared} > {"text"}
