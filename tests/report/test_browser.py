"""The report in a real browser: claims, charts, contents, phones, the dark, print, no requests."""

from __future__ import annotations

import base64
import io
import json
import re

import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

from experiments import pages
from experiments.analysis import claims, ledger
from experiments.figures import style
from experiments.report import build, charts, readme, summary, webpage
from experiments.report.summary import DARK, LIGHT, SIGNS

PNG = (
    "iVBORw0KGgoAAAANSUhEUgAAAAoAAAAKCAIAAAACUFjqAAAAEklEQVR4nGP4//8/AwMDw6hCyhUCAO0/"
    "Cfc3f5IAAAAAAElFTkSuQmCC"
)


def curve(arm, protocol, start, colour):
    mean = [start, start / 2, start / 3]
    low, high = [0.9 * y for y in mean], [1.1 * y for y in mean]
    seeds = {"0": low, "1": high}
    return {
        "protocol": protocol, "arm": arm, "colour": colour, "mean": mean,
        "low": low, "high": high, "seeds": seeds,
    }  # fmt: skip


CHARTS = {
    "studies": [
        {
            "name": "one",
            "title": "Study <one>",
            "section": "Section 6.1",
            "page": "01_adam",
            "label": "Two seeds",
            "log": False,
            "standIn": False,
            "curves": [
                curve("Adam", "matched", 3.0, "#d55e00"),
                curve("AdaGrad", "matched", 6.0, "#0173b2"),
                curve("Adam", "tuned", 2.0, "#d55e00"),
            ],
            "paper": [{"arm": "Adam", "colour": "#d55e00", "x": [0, 1, 2], "y": [3, 2, 1]}],
            "trials": [
                {"arm": "Adam", "colour": "#d55e00", "rate": rate, "others": "", "curve": [3, cost]}
                for rate, cost in ((0.01, 2.0), (0.1, 1.0), (1.0, None))
            ],
        },
    ],
    "claims": [
        {
            "id": f"claim-{rule}", "part": "One", "reading": f"rule {rule}", "study": "Study <one>",
            "criterion": "a ratio", "rule": rule, "limit": limit, "fewest": 3,
            "judged": {"matched": {"value": 0.9, "low": 0.8, "high": 0.95, "n": 3, "verdict": "x"}},
        }
        for rule, limit in (("below", 1.0), ("above", 1.0), ("within", 1.05))
    ],
}  # fmt: skip
VERDICTS = ["reproduced", "not reproduced", "inconclusive", "not tested"]


def verdict_row(number):
    return webpage.Row(
        id=f"c{number}", claim=f"Statement number {number}", about="Study one",
        section="6.1", part=f"part-{number % 3}", page="01_adam",
        results={
            "matched": webpage.Result(VERDICTS[number % 4], ["1.0 [0.9, 1.1]"]),
            "tuned": webpage.Result(["", "reproduced"][number % 2]),
        },
        quotation="Adam is fast" if number == 5 else "",
    )  # fmt: skip


def curves_of_one():
    with style.styled():
        figure, axes = style.new_figure(1)
        axes[0][0].plot([0, 1], [2.5, 1.5], color="#d55e00", label="α, “Adam”")
    return style.png(figure)


def notebook():
    words = "\n\n".join(["Some words that fill the page."] * 40)
    cells = [new_markdown_cell("# The page: of figures")]
    for title in ("First", "Second thing", "Third"):
        cells.append(new_markdown_cell(f"## {title}\n\n{words}"))
    picture = new_output("display_data", data={"image/png": PNG}, metadata={"alt": "A curve"})
    cells.append(new_code_cell("draw()", outputs=[picture], execution_count=1))
    ours = base64.b64encode(curves_of_one()).decode()
    picture = new_output("display_data", data={"image/png": ours}, metadata={"alt": "Ours"})
    cells.append(new_code_cell("draw_ours()", outputs=[picture], execution_count=2))
    cells.append(new_markdown_cell("## Provenance\n\nRecords."))
    return webpage.Page("01_adam", new_notebook(cells=cells))


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    mark = '<a href="#claim-c5"><title>Five</title><rect width="40" height="40"/></a>'
    shown = webpage.Report(
        title="Adam",
        summary="Words.",
        verdicts=[verdict_row(number) for number in range(12)],
        groups=[webpage.Group(f"part-{k}", f"Part {k}", "Section 6") for k in range(3)],
        answer="- It holds.",
        picture=f'<svg xmlns="http://www.w3.org/2000/svg" width="850">{mark}</svg>',
        narrow=f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 370 9">{mark}</svg>',
        pages=[notebook()],
        provenance={"Python": "3.11"},
        charts=CHARTS,
        library=charts.library(),
    )
    webpage.build(tmp_path_factory.mktemp("report"), shown)
    return tmp_path_factory.getbasetemp() / "report0"


@pytest.fixture(scope="module")
def opened(chromium, report):
    contexts = []

    def open_page(name, **options):
        context = chromium.new_context(**{"viewport": {"width": 1400, "height": 900}, **options})
        context.set_default_timeout(120_000)  # a busy machine may take long to open 5 MB
        contexts.append(context)
        page = context.new_page()
        page.faults = []
        page.on("pageerror", lambda error: page.faults.append(str(error)))
        page.on("console", lambda m: page.faults.append(m.text) if m.type == "error" else None)
        page.on(
            "request",
            lambda r: (
                page.faults.append(r.url)
                if not r.url.startswith((report.as_uri(), "data:", "blob:"))
                else None
            ),
        )
        page.goto(f"{report.as_uri()}/{name}")
        return page

    yield open_page
    for context in contexts:
        context.close()


def shown_claims(page):
    return page.evaluate(
        """[...document.querySelectorAll(".verdicts tbody tr")].filter((row) => !row.hidden)
          .map((row) => row.id)"""
    )


def test_search_filters_and_order(opened):
    page = opened("index.html")
    assert len(shown_claims(page)) == 12
    page.fill("#search", "number 11")
    assert shown_claims(page) == ["claim-c11"]
    assert page.inner_text("#found") == "1 of 12 claims"
    assert page.is_visible("#claim-c11")  # its part has opened
    page.click("#clear")
    page.select_option("#verdict", "not reproduced")
    assert shown_claims(page) == [f"claim-c{n}" for n in (9, 1, 5)]
    page.select_option("#protocol", "tuned")
    assert shown_claims(page) == []
    page.click("#clear")
    page.select_option("#part", "part-1")
    assert shown_claims(page) == [f"claim-c{n}" for n in (1, 4, 7, 10)]
    page.click("#clear")
    page.select_option("#sort", "verdict")
    first = page.evaluate("document.querySelector('#sorted tbody tr').dataset.matched")
    assert first == "not reproduced"
    assert len(shown_claims(page)) == 12
    page.select_option("#sort", "")
    assert page.evaluate("document.querySelector('#claim-c4').closest('details').id") == "part-1"
    assert page.faults == []


def test_an_address_opens_the_part_of_its_claim(opened):
    page = opened("index.html#claim-c5")
    assert page.is_visible("#claim-c5")
    assert not page.is_visible("#claim-c4")
    page = opened("index.html")
    assert not page.is_visible("#claim-c5")
    page.click(".picture a")
    page.wait_for_timeout(50)
    assert page.is_visible("#claim-c5")


def test_the_claims_work_by_the_keyboard(opened):
    page = opened("index.html")
    page.focus("#search")
    page.keyboard.type("number 5")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "verdict"
    page.focus("#part-2 summary")
    before = page.evaluate("document.getElementById('part-2').open")
    page.keyboard.press("Enter")
    assert page.evaluate("document.getElementById('part-2').open") != before


def test_without_scripts_everything_can_be_read(opened):
    page = opened("index.html", java_script_enabled=False)
    assert page.locator("#tools").is_hidden()
    page.click("#part-2 summary")
    assert page.is_visible("#claim-c5")
    page = opened("charts.html", java_script_enabled=False)
    assert "need JavaScript" in page.inner_text("noscript")


def test_the_contents_follow_the_scroll(opened):
    page = opened("01_adam.html")
    links = page.locator(".contents a")
    assert links.all_inner_texts() == ["First", "Second thing", "Third", "Provenance"]
    assert page.locator(".contents a[aria-current]").inner_text() == "First"
    page.evaluate("document.getElementById('Second-thing').scrollIntoView()")
    page.wait_for_timeout(200)
    assert page.locator(".contents a[aria-current]").inner_text() == "Second thing"
    narrow = opened("01_adam.html", viewport={"width": 390, "height": 800})
    assert not narrow.is_visible(".contents")


def test_a_figure_is_saved_as_it_is_shown(opened, tmp_path):
    page = opened("01_adam.html")
    with page.expect_download() as download:
        page.click("a.save")
    assert download.value.suggested_filename == "01-adam-cell-5-third.png"
    download.value.save_as(tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert page.locator("figure").first.locator("a.save").count() == 1  # it holds nothing else


def test_a_figure_of_ours_gives_its_numbers_and_its_lines(opened, tmp_path):
    page = opened("01_adam.html")
    tools = page.locator("figure").nth(1).locator(".tools-of-figure")
    held = Image.open(io.BytesIO(curves_of_one())).text
    for kind in ("CSV", "SVG"):
        with page.expect_download() as download:
            tools.locator("a", has_text=kind).click()
        assert download.value.suggested_filename == f"01-adam-cell-6-third.{kind.lower()}"
        download.value.save_as(tmp_path / kind)
        assert (tmp_path / kind).read_text(encoding="utf-8") == held[kind]
    assert "α, “Adam”" in held["CSV"]


def test_a_figure_leads_to_its_code_and_its_records(opened):
    page = opened("01_adam.html")
    code = page.locator("#code-6")
    assert code.get_attribute("open") is None
    page.locator("figure").nth(1).get_by_text("code", exact=True).click()
    assert code.get_attribute("open") is not None
    assert "draw_ours" in code.inner_text()
    page.locator("figure").nth(1).get_by_text("records", exact=True).click()
    assert page.url.endswith("#Provenance")
    assert page.locator("#Provenance").is_visible()


def traces(page, number=0):
    text = page.evaluate(
        f"""JSON.stringify(document.querySelectorAll(".charts .plot")[{number}].data.map(
          ({{ name, x, y, band }}) => ({{ name, x, y, band: Boolean(band) }})))"""
    )
    return [trace for trace in json.loads(text) if not trace["band"]]


def test_charts_show_what_the_records_hold(opened, tmp_path):
    page = opened("charts.html#one")
    page.wait_for_selector(".charts .plot .main-svg")
    assert [trace["name"] for trace in traces(page)] == ["Adam", "AdaGrad", "Adam, the paper"]
    assert traces(page)[0]["y"] == [3.0, 1.5, 1.0]
    section = page.locator("#one")
    section.get_by_label("every seed").check()
    assert len(traces(page)) == 7
    section.get_by_label("every seed").uncheck()
    section.get_by_label("the paper's curves").uncheck()
    assert len(traces(page)) == 2
    section.get_by_label("logarithmic").first.check()
    kind = "document.querySelector('.charts .plot').layout.yaxis.type"
    assert page.evaluate(kind) == "log"
    section.get_by_label("Protocol").select_option("")
    assert "Adam, tuned" in [trace["name"] for trace in traces(page)]
    with page.expect_download() as download:
        section.locator(".downloads button", has_text="CSV").first.click()
    download.value.save_as(tmp_path / "drawn.csv")
    lines = (tmp_path / "drawn.csv").read_text().splitlines()
    assert lines[0] == "line,passes over the training set,training cost (nats),low,high"
    assert '"Adam, tuned",0,2,1.8,2.2' in lines
    for kind in ("PNG", "SVG"):
        with page.expect_download() as download:
            section.locator(".downloads button", has_text=kind).first.click()
        assert download.value.suggested_filename.endswith(kind.lower())
    assert page.faults == []


def test_paper_shows_charts_that_were_not_scrolled_to(opened):
    page = opened("charts.html", viewport={"width": 1400, "height": 100})
    page.wait_for_timeout(300)
    assert page.locator("#one .main-svg").count() == 0
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.wait_for_selector("#one .main-svg", state="attached")
    assert page.locator("#one .plot").count() == 3
    assert page.faults == []


def test_rates_are_powers_of_ten_and_not_of_a_thousand(opened):
    page = opened("charts.html#one")
    page.wait_for_selector("#one .main-svg")
    page.evaluate(
        """Plotly.relayout(document.querySelectorAll("#one .plot")[1],
          { "xaxis.autorange": false, "xaxis.range": [-6.5, -4.5] })"""
    )
    ticks = page.locator("#one .plot").nth(1).locator(".xtick").all_text_contents()
    assert any("10" in tick for tick in ticks)
    assert not any("μ" in tick or "µ" in tick for tick in ticks)


def test_the_learning_rate_slides_along_the_tuning_grid(opened):
    page = opened("charts.html#one")
    page.wait_for_selector(".charts .plot .main-svg")
    assert traces(page, 1)[0]["x"] == [0.01, 0.1, 1]
    slider = page.locator("#one input[type=range]")
    slider.focus()
    page.keyboard.press("ArrowRight")
    assert slider.get_attribute("aria-valuetext") == "0.1"
    assert "Adam, learning rate 0.1" in [trace["name"] for trace in traces(page, 2)]


@pytest.mark.parametrize("rule", ["below", "above", "within"])
def test_a_margin_moves_and_the_verdict_is_that_of_the_studys_rule(opened, rule):
    page = opened(f"charts.html#margin=claim-{rule}")
    page.wait_for_selector("#plot-margin .main-svg")
    assert page.input_value("#claim") == f"claim-{rule}"
    seen = set()
    for place in range(0, 1001, 50):
        page.evaluate(
            f"""(() => {{ const s = document.getElementById("limit"); s.value = {place};
              s.dispatchEvent(new Event("input")); }})()"""
        )
        limit = float(page.inner_text("#limit-value"))
        if min(abs(np.log(limit / end)) for end in (0.8, 0.95, 1 / 0.8, 1 / 0.95)) < 1e-3:
            continue  # shown to four digits
        declared = next(claim for claim in ledger.ledger() if claim.rule == rule)
        moved = type(declared)(**{**vars(declared), "limit": limit})
        verdict = claims.decide(moved, 0.8, 0.95)
        assert page.inner_text("#flips .badge") == verdict, limit
        seen.add(verdict)
    assert len(seen) == 3
    page.click("#limit-back")
    assert float(page.inner_text("#limit-value")) == (1.05 if rule == "within" else 1)


@pytest.mark.parametrize("name", ["index.html", "01_adam.html", "charts.html"])
def test_pages_fit_a_phone_and_paint_at_once(opened, name):
    page = opened(name, viewport={"width": 390, "height": 844})
    page.wait_for_timeout(300)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    painted = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    assert painted < 2000
    assert page.faults == []


def test_a_phone_has_a_picture_of_its_own_that_does_not_scroll_sideways(opened):
    page = opened("index.html", viewport={"width": 390, "height": 844})
    assert page.is_visible(".picture.narrow svg")
    assert not page.is_visible(".picture.broad")
    assert page.evaluate("document.querySelector('.picture.narrow').scrollWidth") <= 390
    page.set_viewport_size({"width": 1400, "height": 900})
    assert page.is_visible(".picture.broad")
    assert not page.is_visible(".picture.narrow")


def test_the_first_figure_is_not_far(opened, tmp_path):
    """Of the published report, with all that stands before it: two screens, of a phone three."""
    parts = summary.parts([pages.published(study) for study in pages.published_studies()])
    shown = webpage.Report(
        title=build.TITLE,
        summary=build.SUMMARY,
        answer=readme.answer(parts),
        picture=summary.picture(parts),
        narrow=summary.picture(parts, width=summary.NARROW),
        figures=[webpage.Figure((pages.RESULTS / "fig1-mnist.png").read_bytes(), "Figure 1")],
    )
    webpage.build(tmp_path, shown)
    page = opened("index.html")
    page.goto((tmp_path / "index.html").as_uri())
    for width, height, screens in ((1400, 900, 2), (390, 844, 3)):
        page.set_viewport_size({"width": width, "height": height})
        top = page.evaluate("document.querySelector('.gallery figure').getBoundingClientRect().top")
        assert top < screens * height


def test_the_dark_and_print(opened):
    ground = "getComputedStyle(document.body).backgroundColor"
    page = opened("01_adam.html", color_scheme="dark")
    assert page.evaluate(ground) == "rgb(20, 23, 28)"
    assert "invert" in page.evaluate(
        "getComputedStyle(document.querySelector('figure img')).filter"
    )
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate(ground) == "rgb(255, 255, 255)"
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
    assert page.evaluate("getComputedStyle(document.querySelector('figure img')).filter") == "none"
    assert not page.is_visible(".contents")


@pytest.mark.parametrize("name", ["index.html", "01_adam.html", "charts.html"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(opened, name, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is missing")
    page = opened(name, color_scheme=scheme)
    page.wait_for_timeout(300)
    found = axe.Axe().run(page).response["violations"]
    assert [(v["id"], v["nodes"][0]["html"][:200]) for v in found] == []


def test_the_picture_has_the_colours_of_the_page():
    css = (webpage._TEMPLATES / "report.css").read_text(encoding="utf-8")
    light, dark = (dict(re.findall(r"--([\w-]+): (#\w{6});", x)) for x in css.split("@media")[:2])
    for theme, page in ((LIGHT, light), (DARK, dark)):
        assert theme == {name: page[name] for name in theme}
    assert set(SIGNS) == set(webpage.VERDICTS)
