"""The report: self-contained HTML pages that open offline, from verdicts, figures and notebooks.

Every page contains its own style, pictures and scripts and loads nothing: its formulas are MathML,
and a content security policy in the page tells the browser so. It lets the browser run the scripts
of this project, by their hashes, and none that a notebook or a text brings. The pages depend on the
`Report` alone; no clock is read.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.records.store import write_atomically
from experiments.report import explorer
from experiments.report.cells import body_of, framed, image_of, tools_of
from experiments.report.contained import foreign
from experiments.report.prose import Writer, address_of
from experiments.study import PROTOCOLS

if TYPE_CHECKING:
    from markupsafe import Markup
    from nbformat import NotebookNode

# A symbol and words beside the colour: no verdict depends on seeing colours.
VERDICTS = {"reproduced": "✓", "not reproduced": "✗", "inconclusive": "?", "not tested": "–"}
EXPLORER = "explorer.html"
CHARTS = "charts.html"

_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Group:
    """A part of the paper, whose claims stand together.

    Attributes:
        key: its name in addresses, and in the rows' `part`.
        title: what it is about.
        where: its place in the paper.
        finding: what was found, in words.
        tally: how many of its claims have each verdict, a line for each protocol.
    """

    key: str
    title: str
    where: str = ""
    finding: str = ""
    tally: Sequence[str] = ()


@dataclass(frozen=True)
class Result:
    """What a claim came to under one protocol.

    Attributes:
        verdict: one of `VERDICTS`, or "" where the claim does not concern the protocol.
        numbers: what the verdict rests on, in lines.
    """

    verdict: str = ""
    numbers: Sequence[str] = ()

    def __post_init__(self) -> None:
        """Refuses a verdict that has no sign."""
        if self.verdict and self.verdict not in VERDICTS:
            raise ValueError(f"the verdict {self.verdict!r} is not one of {', '.join(VERDICTS)}")


@dataclass(frozen=True)
class Row:
    """A claim in the table of verdicts; all plain text.

    Attributes:
        id: its name in addresses.
        claim: what is claimed.
        section: of the paper.
        part: the key of its group.
        page: the name of the page to link to.
        results: by protocol.
        about: a line about the claim: its study, its rule.
        quotation: the paper's words, if it says this in words.
    """

    id: str
    claim: str
    section: str
    part: str
    page: str
    results: Mapping[str, Result]
    about: str = ""
    quotation: str = ""


@dataclass(frozen=True)
class Page:
    """An executed notebook, to become `<name>.html`.

    Attributes:
        name: the file's name without its ending.
        notebook: the executed notebook; its first heading is the page's title, which the
            navigation bar shows up to its colon. The code of cells that are tagged "open" is
            unfolded.
        root: the folder that images in the notebook's text are relative to.
    """

    name: str
    notebook: NotebookNode
    root: Path | None = None

    def __post_init__(self) -> None:
        """Refuses a name that no file can have, or that is the overview's."""
        if not re.fullmatch(r"[\w-][\w.-]*", self.name) or self.name == "index":
            raise ValueError(f"{self.name!r} cannot be the name of a page")

    @classmethod
    def read(cls, path: Path) -> Page:
        """The page of an executed notebook on disk."""
        import nbformat

        return cls(path.stem, nbformat.read(path, as_version=4), path.parent)

    @property
    def href(self) -> str:
        """The address of the page, seen from its neighbours."""
        return f"{self.name}.html"

    @property
    def words(self) -> str:
        """The title of a page that has no heading, made from `name`."""
        words = re.sub(r"^\d+[_-]", "", self.name).replace("_", " ").strip()
        return words[:1].upper() + words[1:]


@dataclass(frozen=True)
class Figure:
    """A headline figure for the overview.

    Attributes:
        png: the picture.
        caption: one or two sentences of plain text below it, also read to those who cannot see it.
        page: the name of the page it comes from, if any.
        name: of the files that it is saved as, without their ending; by default the page's.
    """

    png: bytes
    caption: str
    page: str | None = None
    name: str = ""


@dataclass(frozen=True)
class Report:
    """Everything that the report shows.

    Attributes:
        title: the project's name, plain text.
        summary: one paragraph, Markdown with formulas; HTML in it is shown, not obeyed.
        pages: the executed notebooks, in order.
        verdicts: a row per claim.
        groups: the parts of the paper by which the claims are shown.
        tally: how many claims have each verdict in all, by protocol.
        sources: whose claims they are, a sentence.
        figures: headline figures for the overview.
        provenance: what the results come from, by name; shown in order.
        checked: which records were checked on this machine, a line for each study.
        banner: a loud line on every page, such as that the data are stand-ins.
        note: a quiet line on every page, such as the profile.
        answer: what was found in all, Markdown.
        picture: an SVG of all verdicts.
        narrow: the same for phones.
        charts: what the page of interactive charts draws, plain data: `studies` and `claims`.
        library: the source of Plotly, which draws these charts.
    """

    title: str
    summary: str
    pages: Sequence[Page] = ()
    verdicts: Sequence[Row] = ()
    groups: Sequence[Group] = ()
    tally: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    sources: str = ""
    figures: Sequence[Figure] = ()
    provenance: Mapping[str, str] = field(default_factory=dict)
    checked: Mapping[str, str] = field(default_factory=dict)
    banner: str | None = None
    note: str | None = None
    answer: str = ""
    picture: str = ""
    narrow: str = ""
    charts: Mapping[str, Any] | None = None
    library: str = ""


def build(out: Path, report: Report) -> Path:
    """Writes the report and returns the path of its overview, `out/index.html`.

    Nothing is written unless every page can be rendered; each file appears in one step. Other
    files in `out` are left alone.

    Args:
        out: the folder, made if missing.
        report: what to show.

    Raises:
        ValueError: see `render`.

    Warns:
        UserWarning: see `render`.
    """
    rendered = render(report)
    out = Path(out)
    for name, text in rendered.items():
        write_atomically(out / name, text.encode())
    return out / "index.html"


def render(report: Report) -> dict[str, str]:
    """The report's files, from name to text.

    Raises:
        ValueError: a row, a page's name or a link to a page makes no sense; a notebook was not
            executed, holds an error, a formula that cannot be converted, or anything that would
            be loaded or run when the page opens.

    Warns:
        UserWarning: a picture has no description (`alt` or `caption` in the metadata of its cell
            or output); the heading above it stands in.
    """
    names = [page.name for page in report.pages]
    if len(set(names)) < len(names):
        raise ValueError(f"two pages have the same name: {names}")
    environment = _environment()
    bodies = [body_of(page, names) for page in report.pages]
    shared = {
        "css": _css(),
        "title": report.title,
        "banner": report.banner,
        "note": report.note,
        "provenance": list(report.provenance.items()),
        "nav": [
            {"href": "index.html", "label": "Overview"},
            {"href": EXPLORER, "label": "Explorer"},
            *([{"href": CHARTS, "label": "Charts"}] if report.charts else []),
            *({"href": body["href"], "label": body["title"].split(":")[0]} for body in bodies),
        ],
    }
    files = {
        "index.html": environment.get_template("index.html.j2").render(
            shared,
            **_place(shared["nav"], 0),
            **_scripts(*([_own("overview.js")] if report.verdicts else []), _own("save.js")),
            summary=_summary(report.summary, names),
            answer=_summary(report.answer, names) if report.answer else "",
            picture=_svg(report.picture),
            narrow=_svg(report.narrow),
            groups=_grouped(report, names),
            kinds=[(verdict, verdict) for verdict in VERDICTS],
            parts=[(group.key, group.title) for group in report.groups],
            charts=CHARTS if report.charts else None,
            tally=_tally(report.tally),
            sources=report.sources,
            figures=[_card(figure, names) for figure in report.figures],
            pages=bodies,
            checked=list(report.checked.items()),
        )
    }
    files[EXPLORER] = _explorer(shared, _place(shared["nav"], 1), names)
    if report.charts:
        files[CHARTS] = environment.get_template("charts.html.j2").render(
            {
                **shared,
                **_place(shared["nav"], 2),
                **_scripts(report.library, _own("charts.js"), pictures="data: blob:"),
                "data": _json(report.charts),
            },
            studies=report.charts["studies"],
            has_claims=bool(report.charts["claims"]),
            names=names,
        )
    for number, body in enumerate(bodies, start=3 if report.charts else 2):
        files[body["href"]] = environment.get_template("page.html.j2").render(
            shared,
            **_place(shared["nav"], number),
            **_scripts(_own("page.js"), _own("save.js")),
            page=body,
        )
    return files


def _own(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")


def _svg(picture: str) -> Markup:
    """The picture, which may link inside its page and nowhere else."""
    from markupsafe import Markup

    if found := foreign(picture):
        raise ValueError(f"the picture: the report is self-contained, but this has {found[0]}")
    return Markup(picture)


def explorer_page(title: str) -> str:
    """The explorer on its own, outside a report."""
    shared: dict[str, Any] = {
        "title": title,
        "banner": None,
        "note": None,
        "provenance": [],
        "nav": [],
    }
    return _explorer(shared, {"here": EXPLORER, "previous": None, "following": None}, ())


def _explorer(shared: Mapping[str, Any], place: Mapping[str, Any], names: Sequence[str]) -> str:
    from markupsafe import Markup

    style = Markup((explorer.FOLDER / "explorer.css").read_text(encoding="utf-8").rstrip("\n"))
    return (
        _environment()
        .get_template("explorer.html.j2")
        .render(
            {**shared, **place, **_scripts(explorer.script()), "names": names},
            css=_css() + "\n" + style,
        )
    )


def _scripts(*sources: str, pictures: str = "data:") -> dict[str, Any]:
    """Scripts for a page's end, and the policy that lets it run these and load nothing."""
    from markupsafe import Markup

    allowed = [f"'sha256-{_hash(source)}'" for source in sources]
    policy = f"default-src 'none'; img-src {pictures}; style-src 'unsafe-inline'"
    if allowed:
        policy += f"; script-src {' '.join(allowed)}"
    return {"scripts": [Markup(source) for source in sources], "policy": policy, "data": None}


def _json(value: object) -> Markup:
    """Plain data in a page, escaped so that no text in them can end the element they are in."""
    from markupsafe import Markup

    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return Markup(text.replace("<", "\\u003c"))


def _hash(source: str) -> str:
    return base64.b64encode(hashlib.sha256(f"\n{source}".encode()).digest()).decode("ascii")


def _environment() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


@cache
def _css() -> Markup:
    """The stylesheet, with the colours of highlighted code in light and dark."""
    from markupsafe import Markup
    from pygments.formatters import HtmlFormatter

    def colours(style: str) -> str:
        lines = HtmlFormatter(style=style).get_style_defs(".highlight").splitlines()
        # The page sets the background; boxes around what the lexer does not know would distract.
        kept = [line for line in lines if re.match(r"\.highlight \.(?!err|hll)", line)]
        return "\n".join(re.sub(r" /\*.*?\*/", "", line) for line in kept)

    own = (_TEMPLATES / "report.css").read_text(encoding="utf-8").rstrip("\n")
    light, dark = colours("xcode"), colours("github-dark")
    return Markup(
        f"{own}\n@media print, (prefers-color-scheme: light) {{\n{light}\n}}\n"
        f"@media screen and (prefers-color-scheme: dark) {{\n{dark}\n}}"
    )


def _place(nav: Any, number: int) -> dict[str, Any]:
    """Where a page stands among the others."""
    return {
        "here": nav[number]["href"],
        "previous": nav[number - 1] if number else None,
        "following": nav[number + 1] if number + 1 < len(nav) else None,
    }


# --- the overview ---------------------------------------------------------------------------------


def _row(row: Row, names: Sequence[str]) -> dict[str, Any]:
    """A row of the verdict table as its template takes it."""
    shown = {protocol: _result(row.results[protocol]) for protocol in PROTOCOLS}
    return {**vars(row), "href": address_of(row.page, names), **shown}


def _result(result: Result) -> dict[str, Any]:
    if not result.verdict:
        return {"verdict": "", "symbol": "", "style": "", "numbers": []}
    return {**_badge(result.verdict), "numbers": [_unbroken(line) for line in result.numbers]}


def _unbroken(line: str) -> str:
    """The line, made unbreakable inside intervals and around equals signs."""
    held = re.sub(
        r"\[[^\]]*\]", lambda interval: interval[0].replace(" ", "\N{NO-BREAK SPACE}"), line
    )
    return held.replace(" = ", "\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}")


def _badge(verdict: str) -> dict[str, str]:
    return {
        "verdict": verdict,
        "symbol": VERDICTS[verdict],
        "style": verdict.replace(" ", "-"),
    }


def _grouped(report: Report, names: Sequence[str]) -> list[dict[str, Any]]:
    """The groups as the template takes them, each with its rows; empty groups are left out."""
    rows: dict[str, list[dict[str, Any]]] = {group.key: [] for group in report.groups}
    for row in report.verdicts:
        if row.part not in rows:
            raise ValueError(f"the part of a claim, {row.part!r}, is not one of the groups")
        rows[row.part].append(_row(row, names))
    return [{**vars(group), "rows": rows[group.key]} for group in report.groups if rows[group.key]]


def _tally(tally: Mapping[str, Mapping[str, int]]) -> list[dict[str, Any]]:
    """How many claims have each verdict, by protocol, as the template takes it."""
    return [
        {
            "protocol": protocol,
            "counts": [{**_badge(kind), "number": n} for kind, n in counts.items() if n],
        }
        for protocol, counts in tally.items()
    ]


def _summary(text: str, names: Sequence[str]) -> Markup:
    from markupsafe import Markup

    writer = Writer(where="the summary", names=names, escape=True)
    return Markup(writer.markdown(text))


def _card(figure: Figure, names: Sequence[str]) -> Markup:
    from markupsafe import Markup

    caption = html.escape(figure.caption)
    if figure.page:
        caption += f' <a href="{address_of(figure.page, names)}">More on its page</a>'
    data = base64.b64encode(figure.png).decode("ascii")
    picture = image_of("image/png", data, figure.caption)
    name = figure.name or re.sub(r"[^a-z0-9]+", "-", (figure.page or "figure").lower())
    return Markup(framed(picture, caption, tools_of(name, "image/png", data)))
