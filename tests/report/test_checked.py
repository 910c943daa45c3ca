"""What was checked here stands in a local build, and in no committed page."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import nbformat
import pytest

from experiments import pages, studies
from experiments.data import catalogue
from experiments.paths import ROOT
from experiments.report import build, readme, summary, webpage
from experiments.report.stamp import Stamp
from experiments.verify import again, checks, kept, sample

NAME = "sec2-worst"
PAGE = ROOT / "notebooks" / "06_theory.ipynb"


@pytest.fixture(scope="module")
def found():
    return pages.published(studies.get(NAME))


@pytest.fixture(scope="module")
def check(found):
    item = sample.items([found])[0]
    record = found.records.get(item.run.id)
    return again.Check(
        run=item.run.id, record=again.digest(record), study=NAME, role=item.role, arm=item.arm,
        seed=0, passes=38, published=38, equal=30, largest=2e-15,
    )  # fmt: skip


@pytest.fixture(autouse=True)
def folder(build) -> Path:
    return build


def local(folder, found, here):
    checked = kept.by_study([found], here)
    texts = readme.local(folder, [found], summary.parts([found]), checked, here.faults)
    return {path.name: text for path, text in texts.items()}


def test_the_summary_and_the_verdicts_say_what_was_checked(folder, found, check):
    made = local(folder, found, checks.Checks(runs=[check]))
    words = "1 run, 38 passes, largest difference 2e-15"
    assert f"| {NAME}: {words} |" in made["README.md"]
    assert (
        "| Part of the paper | What was found | matched | tuned | checked here |"
        in made["README.md"]
    )
    assert f"*Checked here:* {words}" in made["VERDICTS.md"]
    assert "DISAGREE" not in "".join(made.values())
    assert f"| {NAME}: nothing yet |" in local(folder, found, checks.Checks())["README.md"]


def test_the_overview_has_one_row_for_all_studies_of_which_nothing_was_checked():
    nothing, away = "nothing yet", "nothing: no real data."
    assert kept.briefly({"a": nothing, "b": nothing}) == {"all 2 studies": nothing}
    assert kept.briefly({"a": nothing}) == {"a": nothing}
    lines = {"a": nothing, "b": "1 run", "c": away, "d": nothing, "e": away, "f": "1 run"}
    rows = kept.briefly(lines)
    assert list(rows.items()) == [
        ("b", "1 run"),
        ("f", "1 run"),
        ("2 others", nothing),
        ("2 others without data", away),
    ]


def test_links_of_the_verdicts_lead_somewhere(folder, found, check):
    text = local(folder, found, checks.Checks(runs=[check]))["VERDICTS.md"]
    links = [part.split(")")[0] for part in text.split("](")[1:]]
    assert any(link.endswith("claims.yaml") for link in links)
    for link in links:
        if not link.startswith("notebooks/"):  # the build's own pages
            assert (folder / link).resolve().exists(), link


def test_a_page_says_it_at_its_end_and_shouts_at_its_top(folder, found, check):
    page = webpage.Page.read(PAGE)
    before = PAGE.read_bytes()
    shown = build._with_checks(page, [found], checks.Checks(runs=[check]))
    assert shown.notebook.cells[-1].source.splitlines()[-1] == (
        f"| {NAME} | 1 run, 38 passes, largest difference 2e-15 |"
    )
    assert len(shown.notebook.cells) == len(page.notebook.cells) + 1
    nbformat.validate(shown.notebook)
    wrong = checks.Checks(runs=[dataclasses.replace(check, fault="t of row 1 is 3")])
    loud = build._with_checks(page, [found], wrong)
    top = loud.notebook.cells[1].source
    assert readme.DISAGREE in top
    assert "t of row 1 is 3" in top
    assert "1 DISAGREEMENT; 1 run" in loud.notebook.cells[-1].source
    assert PAGE.read_bytes() == before
    rendered = webpage.render(webpage.Report("T", "S", pages=[loud]))
    html = rendered["06_theory.html"]
    assert html.count("t of row 1 is 3") == 1
    assert '">1 DISAGREEMENT; 1 run, 38 passes' in html
    texts = local(folder, found, wrong)
    for text in texts.values():
        assert f"**{readme.DISAGREE}:**" in text


def test_a_page_without_a_study_is_as_it_was(found, check):
    page = webpage.Page.read(ROOT / "notebooks" / "00_adam_explained.ipynb")
    assert build._with_checks(page, [found], checks.Checks(runs=[check])) is page


def test_no_real_data_has_two_ways_out(found):
    mnist = dataclasses.replace(found, study=studies.get("fig1-mnist"))
    (line,) = kept.by_study([mnist], checks.Checks()).values()
    assert line.startswith("nothing: no real data. ")
    assert "`adam-study data fetch`" in line
    assert "ADAM_TF_DATA=FOLDER" in line


def test_the_report_is_made_again_when_something_has_changed(folder, check, monkeypatch):
    def stamp():
        return Stamp([studies.get(NAME)])

    report = folder / "published" / "report"
    report.mkdir(parents=True)
    (report / "index.html").write_text("one")
    assert not stamp().holds()
    stamp().put()
    assert stamp().holds()
    assert not Stamp([studies.get("sec3-bias")]).holds()
    checks.Folder(kept.folder() / "checks").put(check)
    assert not stamp().holds()
    stamp().put()
    assert stamp().holds()
    (report / "index.html").write_text("two")
    assert not stamp().holds()
    stamp().put()
    (report / "index.html").unlink()
    assert not stamp().holds()
    stamp().put()
    monkeypatch.setattr(kept, "data_is_there", lambda study: study.data_set != catalogue.NONE)
    assert not stamp().holds()
    stamp().path.write_text("[")
    assert not stamp().holds()
