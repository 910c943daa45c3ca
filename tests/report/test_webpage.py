"""The report opens offline, says what it was given, and is the same for the same arguments."""

import base64
import io
import re
import struct
import zlib
from hashlib import sha256
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest
from bs4 import BeautifulSoup
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

from experiments.figures import style
from experiments.report import cells, prose, webpage
from experiments.report.prose import to_mathml
from experiments.report.webpage import Figure, Group, Page, Report, Result, Row, build, render


def png(width: int = 4, height: int = 2, dpi: int | None = None) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    pixels = zlib.compress(b"".join(b"\0" + b"\xff" * 3 * width for _ in range(height)))
    size = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    density = chunk(b"pHYs", struct.pack(">IIB", *[round(dpi / 0.0254)] * 2, 1)) if dpi else b""
    parts = [chunk(b"IHDR", size), density, chunk(b"IDAT", pixels), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


PNG = base64.b64encode(png()).decode()
TABLE = (
    '<div><style scoped>th { color: red }</style><table border="1" class="dataframe"><thead><tr>'
    "<th></th><th>arm</th><th>cost</th></tr></thead><tbody>"
    "<tr><th>0</th><td>Adam, not `adam_tf.Adam`</td><td>-0.5</td></tr></tbody></table></div>"
)
TEXT = r"""# Adam & co

Its step is $\alpha \hat{m}_t$, `not $math$ here`, see [the other](02_other.ipynb#Results),
[the source](../adam_tf/adam.py) and [the paper](https://arxiv.org/abs/1412.6980).

$$\begin{aligned} m_t &= \beta_1 m_{t-1} \\ v_t &< 1 \end{aligned}$$

#### Results

```
$ pip install $x$
```

| a | b |
|---|---|
| 1 | 2 |
"""


def shown(data: dict[str, str], **metadata: object):
    return new_output("display_data", data=data, metadata=metadata)


def cell(source: str, *outputs, **metadata: object):
    return new_code_cell(source, outputs=list(outputs), execution_count=1, metadata=metadata)


def page(name: str = "01_adam", *cells, **options) -> Page:
    return Page(name, new_notebook(cells=list(cells)), **options)


def first() -> Page:
    figure = cell("draw()", shown({"image/png": PNG}), caption="Cost <b> & seeds", alt="A curve")
    printed = [new_output("stream", name="stdout", text="\x1b[31m<3\x1b[0m\n")]
    printed.append(new_output("stream", name="stderr", text="progress"))
    table = cell("frame", *printed, shown({"text/html": TABLE, "text/plain": "frame"}))
    return page("01_adam", new_markdown_cell(TEXT), cell("x = '<tag>'"), figure, table)


def second() -> Page:
    return page("02_other", new_markdown_cell("Text\n\n## Results\n\n# Late\n\n# Late"))


def row(matched: str = "reproduced", tuned: str = "not reproduced", **changes: str) -> Row:
    base = {
        "id": "fast",
        "claim": "Adam is <fast>",
        "quotation": "converges & wins",
        "section": "6.1",
        "part": "part-6-1",
        "page": "01_adam",
    }
    results = {
        "matched": Result(matched, ["Δ = 0.1 [0.0, 0.2]"]),
        "tuned": Result(tuned, ["Δ = 0.2", "n = 10"]),
    }
    return Row(results=results, **{**base, **changes})


def arguments(**changes: object) -> Report:
    base = {
        "title": "Adam, <again>",
        "summary": r"About $\beta_1$ & <script>alert(1)</script>.",
        "verdicts": [row(), row("inconclusive", "not tested", id="slow")],
        "groups": [Group("part-6-1", "Logistic regression")],
        "tally": {
            "matched": {"reproduced": 1, "not reproduced": 0, "inconclusive": 1},
            "tuned": {"not reproduced": 1, "not tested": 1},
        },
        "pages": [first(), second()],
        "figures": [Figure(png(40, 30), 'The "first" figure', "01_adam"), Figure(png(), "Last")],
        "provenance": {"Python": "3.11", "Data <set>": "mnist"},
        "banner": "STAND-IN <data>",
        "note": "quick, shortened",
    }
    return Report(**{**base, **changes})


class Elements(HTMLParser):
    """The elements of a page, with what the checks below ask for."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data):
        self.text += data

    def all(self, *tags: str) -> list[dict[str, str]]:
        return [attrs for tag, attrs in self.elements if tag in tags]


@pytest.fixture(scope="module")
def files() -> dict[str, str]:
    return render(arguments())


@pytest.fixture(scope="module")
def parsed(files) -> dict[str, Elements]:
    return {name: Elements(text) for name, text in files.items()}


def test_build_writes_what_render_gives(tmp_path, files):
    index = build(tmp_path / "deep" / "out", arguments())
    assert index == tmp_path / "deep" / "out" / "index.html"
    written = {path.name: path.read_text(encoding="utf-8") for path in index.parent.iterdir()}
    assert written == files
    assert set(files) == {"index.html", "explorer.html", "01_adam.html", "02_other.html"}


def test_the_same_arguments_give_the_same_bytes(files):
    assert render(arguments()) == files


def test_pages_load_and_run_nothing(files, parsed):
    for name, page in parsed.items():
        assert not page.all("link", "iframe", "object", "embed", "base"), name
        assert not any(attrs for attrs in page.all("script")), name  # each is in the page
        for tag, attrs in page.elements:
            assert not any(key.startswith("on") for key in attrs), (name, tag)
            assert attrs.get("src", "data:").startswith("data:"), (name, tag)
            assert "srcset" not in attrs
        assert "url(" not in files[name].partition("<script>")[0]
        assert "@import" not in files[name]
        policy = [m["content"] for m in page.all("meta") if "http-equiv" in m]
        scripts = re.findall(r"<script>(.*?)</script>", files[name], re.DOTALL)
        hashes = [base64.b64encode(sha256(s.encode()).digest()).decode() for s in scripts]
        expected = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
        if hashes:
            expected += "; script-src " + " ".join(f"'sha256-{each}'" for each in hashes)
        assert policy == [expected]


def test_links_between_pages_resolve(parsed):
    anchors = {
        name: {attrs["id"] for _, attrs in page.elements if "id" in attrs}
        for name, page in parsed.items()
    }
    for name, page in parsed.items():
        for link in page.all("a"):
            if not link["href"].startswith("https://arxiv.org/"):
                target, _, anchor = link["href"].partition("#")
                assert (target or name) in parsed, link
                if anchor:
                    assert anchor in anchors[target or name], link
        steps = {a["rel"]: a["href"] for a in page.all("a") if "rel" in a}
        order = [*parsed]
        position = order.index(name)
        assert steps.get("prev") == (order[position - 1] if position else None)
        assert steps.get("next") == (order[position + 1] if position + 1 < len(order) else None)
        assert [a["href"] for a in page.all("a") if a.get("aria-current")] == [name]
    hrefs = [a["href"] for a in parsed["01_adam.html"].all("a")]
    assert "02_other.html#Results" in hrefs
    assert not any("adam.py" in href for href in hrefs)


def test_identifiers_and_headings(parsed):
    for page in parsed.values():
        identifiers = [attrs["id"] for _, attrs in page.elements if "id" in attrs]
        assert len(identifiers) == len(set(identifiers))
        levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
        assert levels[0] == 1
        assert levels.count(1) == 1
        assert all(after <= before + 1 for before, after in pairwise(levels))
        assert [attrs["lang"] for attrs in page.all("html")] == ["en"]


def test_the_parts_of_a_page_hold_their_sections():
    """Several first-level headings in a notebook: what follows each stands a level below it."""
    titles = ("# Both", "# One", "## Data", "### Size", "# Two", "## Data", "# Provenance")
    text = render(arguments(pages=[page("01_adam", *map(new_markdown_cell, titles))]))[
        "01_adam.html"
    ]
    levels = re.findall(r"<h(\d)[^>]*>([^<]+)", text)
    assert levels == [
        ("1", "Both"), ("2", "One"), ("3", "Data"), ("4", "Size"), ("2", "Two"), ("3", "Data"),
        ("2", "Provenance"),
    ]  # fmt: skip
    contents = re.findall(r'<li( class="deeper")?><a href="#([^"]+)">', text)
    assert [(bool(deeper), name) for deeper, name in contents] == [
        (False, "One"), (True, "Data"), (False, "Two"), (True, "Data-2"), (False, "Provenance"),
    ]  # fmt: skip


def test_a_page_without_a_title_is_called_by_its_name(files):
    assert "<h1>Other</h1>" in files["02_other.html"]
    assert "<title>Other · Adam, &lt;again&gt;</title>" in files["02_other.html"]
    assert "<title>Adam &amp; co · " in files["01_adam.html"]


def test_formulas_become_mathml_outside_code_only(files, parsed):
    assert len(parsed["01_adam.html"].all("math")) == 2
    assert len(parsed["index.html"].all("math")) == 1
    assert "$pip" not in parsed["01_adam.html"].text
    assert "<code>not $math$ here</code>" in files["01_adam.html"]
    assert "$ pip install $x$" in files["01_adam.html"]
    assert 'columnalign="right"' in files["01_adam.html"]  # aligned at the equals signs


@pytest.mark.parametrize(
    ("latex", "message"),
    [(r"\nonsense{x}", r"unknown \\nonsense"), (r"\frac{1", "unmatched"), ("a & b", "unknown &")],
)
def test_a_formula_that_would_be_drawn_wrong_is_refused(latex, message):
    with pytest.raises(ValueError, match=message):
        to_mathml(latex)
    with pytest.raises(ValueError, match="01_adam: cell 1: the formula"):
        render(arguments(pages=[page("01_adam", new_markdown_cell(f"${latex}$"))]))


def test_verdicts_have_words_symbols_and_numbers(files, parsed):
    index = files["index.html"]
    for verdict, symbol in webpage.VERDICTS.items():
        style = verdict.replace(" ", "-")
        badge = f'class="badge {style}"><span aria-hidden="true">{symbol} </span>'
        assert f"{badge}{verdict}</span>" in index
        assert f"{badge}1 {verdict}</span>" in index
    assert "</span>0 " not in index
    text = parsed["index.html"].text
    for number in ("Δ\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}0.1 [0.0,\N{NO-BREAK SPACE}0.2]", "0.2"):
        assert number in text
    assert {header["scope"] for header in parsed["index.html"].all("th")} == {"col", "row"}
    assert '<a href="01_adam.html">Adam is &lt;fast&gt;</a>' in index


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"verdicts": [row(part="part-9")]}, "part of a claim, 'part-9', is not one of the groups"),
        ({"verdicts": [row(page="03")]}, "'03' is not one of the pages: 01_adam, 02_other"),
        ({"figures": [Figure(b"GIF", "x")]}, "not a PNG"),
        ({"figures": [Figure(png(), "x", "03")]}, "'03' is not one of the pages"),
        ({"pages": [first(), first()]}, "the same name"),
    ],
)
def test_arguments_that_make_no_sense(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        build(tmp_path / "out", arguments(**change))
    assert not (tmp_path / "out").exists()


def test_a_verdict_has_a_sign_or_is_none():
    assert Result("").verdict == ""
    with pytest.raises(ValueError, match="'partly' is not one of reproduced, not reproduced"):
        Result("partly")


@pytest.mark.parametrize("name", ["index", "a/b", ".hidden", ""])
def test_names_that_are_no_pages(name):
    with pytest.raises(ValueError, match="cannot be the name"):
        page(name)


def test_the_navigation_names_pages_by_their_titles_up_to_the_colon(files):
    for text in files.values():
        bar = re.search(r'<nav class="bar".*?</nav>', text, re.DOTALL)[0]
        assert re.findall(r"<a [^>]*>(.*?)</a>", bar) == [
            "Overview",
            "Explorer",
            "Adam &amp; co",
            "Other",
        ]
    titled = page("03_fig3", new_markdown_cell("# Figure 3: a *network*: deep"))
    text = render(arguments(pages=[titled, second()], verdicts=[], figures=[]))["02_other.html"]
    assert 'href="03_fig3.html">Figure 3</a>' in text
    assert 'href="03_fig3.html">← Figure 3</a>' in text


def test_text_is_escaped(files, parsed):
    for name, text in files.items():
        assert "<again>" not in text
        assert "STAND-IN &lt;data&gt;" in text
        assert "Adam, <again>" in parsed[name].text
    index = files["index.html"]
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in index
    assert "Data &lt;set&gt;" in index
    assert "converges &amp; wins" in index
    assert "Cost &lt;b&gt; &amp; seeds</figcaption>" in files["01_adam.html"]
    assert "&lt;tag&gt;" in files["01_adam.html"]


def test_banner_and_note_are_on_every_page_when_given(files):
    for text in files.values():
        assert text.count('class="banner"') == 1
        assert text.count("quick, shortened") == 1
    for text in render(arguments(banner=None, note=None)).values():
        assert 'class="banner"' not in text
        assert 'class="note"' not in text


def test_outputs(files, parsed):
    page = parsed["01_adam.html"]
    assert '<pre class="printed" tabindex="0">&lt;3</pre>' in files["01_adam.html"]
    assert "progress" not in page.text
    assert len(page.all("details")) == 2  # a cell that shows nothing shares the next one's
    frames = [attrs for attrs in page.all("table") if attrs.get("class") == "dataframe"]
    assert frames == [{"class": "dataframe"}]
    assert {header["scope"] for header in page.all("th")} == {"col", "row"}
    assert "color: red" not in files["01_adam.html"]
    words = '<td class="words">Adam, not <code>adam_tf.Adam</code></td><td>-0.5</td>'
    assert words in files["01_adam.html"]
    assert len([attrs for attrs in page.all("div") if attrs.get("class") == "scroll"]) == 2


def test_code_that_is_part_of_the_text_is_unfolded():
    cells = [cell("folded()"), cell("shown()", tags=["open"])]
    text = render(arguments(pages=[page("01_adam", *cells)], verdicts=[], figures=[]))
    details = Elements(text["01_adam.html"]).all("details")
    assert [("open" in attrs) for attrs in details] == [False, True]


def test_pictures_have_descriptions_and_sizes(parsed):
    pictures = [image for page in parsed.values() for image in page.all("img")]
    assert [image["alt"] for image in pictures] == ['The "first" figure', "Last", "A curve"]
    assert [image["width"] for image in pictures] == ["40", "4", "4"]


def test_a_picture_without_description_warns_and_uses_its_heading():
    drawn = cell("draw()", shown({"image/png": PNG}))
    pages = [page("01_adam", new_markdown_cell("# T\n\n## Costs"), drawn)]
    with pytest.warns(UserWarning, match="01_adam: cell 2: the figure has no description"):
        files = render(arguments(pages=pages))
    assert 'alt="Figure: Costs"' in files["01_adam.html"]


def test_a_fine_picture_is_shown_at_the_size_it_was_drawn():
    files = render(arguments(figures=[Figure(png(400, 200, dpi=192), "fine")]))
    assert 'width="200" height="100"' in files["index.html"]
    files = render(arguments(figures=[Figure(png(400, 200, dpi=72), "coarse")]))
    assert 'width="400" height="200"' in files["index.html"]


def test_a_figure_that_holds_its_numbers_is_shown_at_the_size_it_was_drawn():
    """They come before the resolution, and are long."""
    with style.styled():
        figure, (axes,) = style.new_figure(1, 3.0)
        axes[0].plot(range(2000))
        drawn = style.png(figure)
    assert drawn.index(b"pHYs") > 4096
    width, height = figure.get_size_inches() * 96
    files = render(arguments(figures=[Figure(drawn, "a line")]))
    found = re.search(r'<img[^>]*alt="a line" width="(\d+)" height="(\d+)"', files["index.html"])
    assert found
    assert [int(n) for n in found.groups()] == [round(width), round(height)]


def test_notebooks_that_failed_or_never_ran_are_refused():
    error = new_output("error", ename="ValueError", evalue="bad", traceback=[])
    with pytest.raises(ValueError, match="01_adam: cell 1: it ended in ValueError: bad"):
        render(arguments(pages=[page("01_adam", cell("x", error))]))
    with pytest.raises(ValueError, match="01_adam: the notebook was not executed"):
        render(arguments(pages=[page("01_adam", new_code_cell("x"))]))


@pytest.mark.parametrize(
    "html",
    [
        "<script>1</script>",
        '<img src="https://example.org/x.png">',
        '<img src="local.png">',
        '<p onclick="x()">a</p>',
        '<a href="javascript:x()">a</a>',
        "<style>@import 'x.css'</style>",
        '<p style="background: url(x.png)">a</p>',
        '<svg><use xlink:href="https://example.org#x"/></svg>',
        '<meta http-equiv="refresh" content="0; url=https://example.org">',
        '<META HTTP-EQUIV=refresh content="0;//example.org">',
        '<form action="https://example.org"><button>a</button></form>',
        '<a href="java&#10;script:x()">a</a>',
        '<a href="&#1;javascript:x()">a</a>',
        '<a href="data:text/html,<script>1</script>">a</a>',
        "<p style='background: u\\72l(x.png)'>a</p>",
        "<p style='background: image-set(\"x.png\" 1x)'>a</p>",
        "<style>@im\\70ort 'x.css'</style>",
        "<style>p { background: url(//example.org/x.png) }</style>",
        '<svg><a xlink:href="javascript:x()"><text>a</text></a></svg>',
        '<svg><set attributeName="href" to="javascript:x()"/></svg>',
        '<svg><image href="https://example.org/x.png"/></svg>',
        "<math><mtext><table><mglyph><style><img src=x.png onerror=x()>",
        "<noscript><p title='</noscript><img src=x.png>'></noscript>",
        '<video poster="x.png"></video>',
        '<img src="data:image/png,x" srcset="https://example.org/x.png 2x">',
        "<template><img src=x.png></template>",
        "<p>a<!-- not closed",
        "<style>p { color: red }",
        "<textarea>",
        "<portal src=x.html></portal>",
    ],
)
def test_outputs_and_text_that_load_or_run_are_refused(html):
    for content in (cell("x", shown({"text/html": html})), new_markdown_cell(html)):
        with pytest.raises(ValueError, match="01_adam: cell 1: the report is self-contained"):
            render(arguments(pages=[page("01_adam", content)]))


@pytest.mark.parametrize(
    "html",
    [
        '<a href="https://example.org" target="_blank" rel="noopener">a</a>',
        '<a href="#part">a</a><a href="02_other.html#x">b</a>',
        "<table class='dataframe'><thead><tr><th scope='col'>a</th></tr></thead></table>",
        "<style>.x td { background: url(data:image/png;base64,AA==); color: red }</style>",
        "<svg viewBox='0 0 1 1'><g clip-path='url(#a)'><use href='#b' fill='red'/></g></svg>",
        "<math display='block'><mfrac linethickness='0'><mi>a</mi><mn>2</mn></mfrac></math>",
        "<p>a < b & c <!-- closed --></p>",
        f"<img src='data:image/png;base64,{PNG}' alt='x' width='3'>",
    ],
)
def test_what_neither_loads_nor_runs_is_allowed(html):
    assert webpage.foreign(html) == []


def test_pictures_in_the_text_are_embedded(tmp_path):
    (tmp_path / "small.png").write_bytes(png())
    text = new_markdown_cell("![A small one](small.png)")
    files = render(arguments(pages=[page("01_adam", text, root=tmp_path)], verdicts=[], figures=[]))
    assert f'src="data:image/png;base64,{PNG}" alt="A small one"' in files["01_adam.html"]


def test_controls_without_a_kernel_leave_nothing():
    view = {"application/vnd.jupyter.widget-view+json": {"model_id": "x"}, "text/plain": "Slider()"}
    files = render(
        arguments(pages=[page("01_adam", cell("x", shown(view)))], verdicts=[], figures=[])
    )
    assert "Slider()" not in files["01_adam.html"]


def test_colours_of_text_meet_wcag_aa():
    css = (Path(webpage.__file__).parent / "templates" / "report.css").read_text(encoding="utf-8")
    light, dark = (
        dict(re.findall(r"--([\w-]+): (#\w{6});", part)) for part in re.split("@media", css)[:2]
    )

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    def contrast(one: str, other: str) -> float:
        low, high = sorted((luminance(one), luminance(other)))
        return (high + 0.05) / (low + 0.05)

    for theme in (light, dark):
        for ground in ("page", "panel"):
            for text in ("text", "soft", "link"):
                assert contrast(theme[ground], theme[text]) >= 4.5, (ground, text)
        for name in (key.removeprefix("on-") for key in theme if key.startswith("on-")):
            assert contrast(theme[name], theme[f"on-{name}"]) >= 4.5, name


def test_a_table_with_sentences_becomes_cards_on_a_phone():
    """Each cell names its column there; a table of numbers stays a table."""
    head = "<thead><tr><th></th><th>statement</th><th>tuned</th></tr></thead>"
    rows = f"<tr><th>0</th><td>{'A sentence that is long. ' * 3}</td><td>yes</td></tr>"
    made = prose.tables(f"<table>{head}<tbody>{rows}</tbody></table>")
    shown = BeautifulSoup(made, "html.parser")
    assert "cards" in shown.table["class"]
    assert [cell.get("data-label") for cell in shown.find_all("td")] == ["statement", "tuned"]
    assert "data-label" not in shown.tbody.th.attrs
    plain = prose.tables("<table><thead><tr><th>n</th></tr></thead><tr><td>1</td></tr></table>")
    assert "cards" not in plain
    assert "data-label" not in plain


@pytest.mark.parametrize(("width", "height", "large"), [(576, 380, False), (1400, 1300, True)])
def test_a_phone_shows_a_picture_in_parts_if_it_is_large(width, height, large):
    written = io.BytesIO()
    Image.new("L", (width, height)).save(written, "PNG")
    data = base64.b64encode(written.getvalue()).decode()
    shown = cells.image_of("image/png", data, "what")
    assert ("large" in shown) is large
    assert (f'style="--width: {width}px"' in shown) is large
