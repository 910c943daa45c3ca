"""The report: self-contained HTML pages that open offline, from verdicts, figures and notebooks.

Every page carries its style and its pictures in itself, runs no script and loads nothing: its
formulas are MathML, and a content security policy in the page says so to the browser. The pages
are a function of the arguments alone; no clock is read.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import os
import re
import struct
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.report import explorer

if TYPE_CHECKING:
    from markupsafe import Markup
    from nbformat import NotebookNode

# A symbol and words beside the colour: no verdict depends on seeing colours.
VERDICTS = {"reproduced": "✓", "not reproduced": "✗", "inconclusive": "?", "not tested": "–"}
PROTOCOLS = ("matched", "tuned")
EXPLORER = "explorer.html"
CHARTS = "charts.html"
OPEN = "open"  # the tag of a cell whose code is part of the text; other code is folded away

_NUMBER = r"[-−+±]?[\d.,]*\d(e[-−+]?\d+)?\s?%?|[-−+]?(inf|nan|∞)|NaN|None|[-–—]?"
_TEMPLATES = Path(__file__).parent / "templates"
_REQUIRED = {"claim", "section", *PROTOCOLS}
_OPTIONAL = {
    "id",
    "quotation",
    "page",
    "about",
    "part",
    *(f"{protocol}_numbers" for protocol in PROTOCOLS),
}


@dataclass(frozen=True)
class Group:
    """A part of the paper, whose claims stand together.

    Attributes:
        key: its name in addresses, and in the rows' `part`.
        title: what it is about.
        where: where in the paper it is.
        finding: what was found, in words.
    """

    key: str
    title: str
    where: str = ""
    finding: str = ""


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
        """Refuses a name that cannot be a file's, or that is the overview's."""
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
        caption: one or two sentences of plain text below it.
        page: the name of the page it comes from, if any.
        alt: what the picture shows, in words for readers who cannot see it; by default the caption.
    """

    png: bytes
    caption: str
    page: str | None = None
    alt: str = ""


def build(
    out: Path,
    *,
    title: str,
    summary: str,
    verdicts: Sequence[Mapping[str, object]],
    pages: Sequence[Page],
    figures: Sequence[Figure] = (),
    provenance: Mapping[str, object] | None = None,
    checked: Mapping[str, str] | None = None,
    banner: str | None = None,
    note: str | None = None,
    groups: Sequence[Group] = (),
    answer: str = "",
    picture: str = "",
    narrow: str = "",
    charts: Mapping[str, Any] | None = None,
    library: str = "",
) -> Path:
    """Writes the report and returns the path of its overview, `out/index.html`.

    Nothing is written unless every page can be rendered; each file appears in one step. Other
    files in `out` are left alone.

    Args:
        out: the folder, made if missing.
        title: the project's name, plain text.
        summary: one paragraph, Markdown with formulas; HTML in it is shown, not obeyed.
        verdicts: a row per claim: `claim`, `section`, `matched` and `tuned` (each one of
            `VERDICTS`, or "" where the claim does not concern that protocol);
            optional: `id`, `quotation`, `page` (a page's name, to link to), `about` (a line about
            the claim: its problem, its metric), `part` (the key of a group), `matched_numbers`
            and `tuned_numbers` (a line or several). All plain text.
        pages: the executed notebooks, in order.
        figures: headline figures for the overview.
        provenance: what the results come from, by name; shown in order.
        checked: which records were checked on this machine, a line for each study.
        banner: a loud line on every page, such as that the data are stand-ins.
        note: a quiet line on every page, such as the profile.
        groups: the parts of the paper by which the claims are shown; by default one of all.
        answer: what was found in all, Markdown.
        picture: an SVG of all verdicts.
        narrow: the same for phones.
        charts: what the page of interactive charts draws, plain data: `studies` and `claims`.
        library: the source of Plotly, which draws it.

    Raises:
        ValueError: a row, a page's name or a link to a page makes no sense; a notebook was not
            executed, holds an error, a formula that cannot be converted, or anything that would
            be loaded or run when the page opens.

    Warns:
        UserWarning: a picture has no description (`alt` or `caption` in the metadata of its cell
            or output); the heading above it stands in.
    """
    rendered = render(
        title=title,
        summary=summary,
        verdicts=verdicts,
        pages=pages,
        figures=figures,
        provenance=provenance,
        checked=checked,
        banner=banner,
        note=note,
        groups=groups,
        answer=answer,
        picture=picture,
        narrow=narrow,
        charts=charts,
        library=library,
    )
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    for name, text in rendered.items():
        _write(out / name, text)
    return out / "index.html"


def render(
    *,
    title: str,
    summary: str,
    verdicts: Sequence[Mapping[str, object]],
    pages: Sequence[Page],
    figures: Sequence[Figure] = (),
    provenance: Mapping[str, object] | None = None,
    checked: Mapping[str, str] | None = None,
    banner: str | None = None,
    note: str | None = None,
    groups: Sequence[Group] = (),
    answer: str = "",
    picture: str = "",
    narrow: str = "",
    charts: Mapping[str, Any] | None = None,
    library: str = "",
) -> dict[str, str]:
    """The report's files, name to text; the arguments are those of `build`."""
    names = [page.name for page in pages]
    if len(set(names)) < len(names):
        raise ValueError(f"two pages have the same name: {names}")
    environment = _environment()
    bodies = [_body(page, names) for page in pages]
    shared = {
        "css": _css(),
        "title": title,
        "banner": banner,
        "note": note,
        "provenance": [(key, str(value)) for key, value in (provenance or {}).items()],
        "nav": [
            {"href": "index.html", "label": "Overview"},
            {"href": EXPLORER, "label": "Explorer"},
            *([{"href": CHARTS, "label": "Charts"}] if charts else []),
            *({"href": body["href"], "label": body["title"].split(":")[0]} for body in bodies),
        ],
    }
    rows = [_row(row, names) for row in verdicts]
    files = {
        "index.html": environment.get_template("index.html.j2").render(
            shared,
            **_place(shared["nav"], 0),
            **_scripts(*([_own("overview.js")] if rows else [])),
            summary=_summary(summary, names),
            answer=_summary(answer, names) if answer else "",
            picture=_svg(picture),
            narrow=_svg(narrow),
            groups=_grouped(rows, groups),
            kinds=[(verdict, verdict) for verdict in VERDICTS],
            parts=[(group.key, group.title) for group in groups],
            charts=CHARTS if charts else None,
            tally=_tally(rows),
            figures=[_card(figure, names) for figure in figures],
            pages=bodies,
            checked=list((checked or {}).items()),
        )
    }
    files[EXPLORER] = _explorer(shared, _place(shared["nav"], 1), names)
    if charts:
        files[CHARTS] = environment.get_template("charts.html.j2").render(
            {
                **shared,
                **_place(shared["nav"], 2),
                **_scripts(library, _own("charts.js"), pictures="data: blob:"),
                "data": _json(charts),
            },
            studies=charts["studies"],
            has_claims=bool(charts["claims"]),
            names=names,
        )
    for number, body in enumerate(bodies, start=3 if charts else 2):
        files[body["href"]] = environment.get_template("page.html.j2").render(
            shared, **_place(shared["nav"], number), **_scripts(_own("page.js")), page=body
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
    """The explorer alone, outside of a report."""
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
    """Plain data in a page, where no text in them can end the element that holds them."""
    from markupsafe import Markup

    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return Markup(text.replace("<", "\\u003c"))


def _hash(source: str) -> str:
    return base64.b64encode(hashlib.sha256(f"\n{source}".encode()).digest()).decode("ascii")


def _write(path: Path, text: str) -> None:
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_text(text, encoding="utf-8", newline="\n")
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


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
        # The page sets the background; boxes around what the lexer does not know only distract.
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


def _row(row: Mapping[str, object], names: Sequence[str]) -> dict[str, Any]:
    """A row of the verdict table as its template takes it."""
    missing, unknown = _REQUIRED - set(row), set(row) - _REQUIRED - _OPTIONAL
    if missing or unknown:
        raise ValueError(
            f"a verdict row lacks {sorted(missing)} and has unknown {sorted(unknown)}: {dict(row)}"
        )
    page = row.get("page")
    return {
        "id": row.get("id"),
        "claim": row["claim"],
        "quotation": row.get("quotation"),
        "about": row.get("about"),
        "part": row.get("part"),
        "section": row["section"],
        "href": _href(str(page), names) if page else None,
        **{protocol: _result(row, protocol) for protocol in PROTOCOLS},
    }


def _result(row: Mapping[str, object], protocol: str) -> dict[str, Any]:
    verdict = str(row[protocol])
    if not verdict:  # the claim does not concern this protocol
        return {"verdict": "", "symbol": "", "style": "", "numbers": []}
    if verdict not in VERDICTS:
        raise ValueError(f"the verdict {verdict!r} is not one of {', '.join(VERDICTS)}")
    numbers = row.get(f"{protocol}_numbers") or []
    lines = numbers if isinstance(numbers, list | tuple) else [numbers]
    return {**_badge(verdict), "numbers": [_unbroken(str(line)) for line in lines]}


def _unbroken(line: str) -> str:
    """The line, to be broken neither inside an interval nor around an equals sign."""
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


def _grouped(rows: Sequence[dict[str, Any]], groups: Sequence[Group]) -> list[dict[str, Any]]:
    """The groups as the template takes them, each with its rows; those without any are left out."""
    if not groups:
        groups = [Group("claims", "All claims")]
        rows = [{**row, "part": "claims"} for row in rows]
    unknown = {row["part"] for row in rows} - {group.key for group in groups}
    if unknown:
        raise ValueError(
            f"a verdict row's part is {unknown.pop()!r}, which is not one of the groups"
        )
    shown = []
    for group in groups:
        mine = [row for row in rows if row["part"] == group.key]
        if mine:
            tally = [
                f"{line['protocol']}: "
                + ", ".join(f"{each['number']} {each['verdict']}" for each in line["counts"])
                for line in _tally(mine)
                if line["counts"]
            ]
            shown.append({**vars(group), "rows": mine, "tally": tally})
    return shown


def _tally(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """How many claims have each verdict, per protocol."""
    tally = []
    for protocol in PROTOCOLS:
        found = [row[protocol]["verdict"] for row in rows]
        counts = [
            {**_badge(verdict), "number": found.count(verdict)}
            for verdict in VERDICTS
            if verdict in found
        ]
        tally.append({"protocol": protocol, "counts": counts})
    return tally


def _href(name: str, names: Sequence[str]) -> str:
    if name not in names:
        raise ValueError(f"{name!r} is not one of the pages: {', '.join(names) or 'none'}")
    return f"{name}.html"


def _summary(text: str, names: Sequence[str]) -> Markup:
    from markupsafe import Markup

    writer = _Writer(where="the summary", names=names, escape=True)
    return Markup(writer.markdown(text))


def _card(figure: Figure, names: Sequence[str]) -> Markup:
    from markupsafe import Markup

    caption = html.escape(figure.caption)
    if figure.page:
        caption += f' <a href="{_href(figure.page, names)}">More on its page</a>'
    data = base64.b64encode(figure.png).decode("ascii")
    picture = _picture("image/png", data, figure.alt or figure.caption)
    return Markup(_figure(picture, caption))


# --- a notebook's page ----------------------------------------------------------------------------


def _body(page: Page, names: Sequence[str]) -> dict[str, Any]:
    """A notebook as its template takes it: a title and cells of code and HTML."""
    from markupsafe import Markup

    _refuse_unexecuted(page)
    writer = _Writer(where=page.name, names=names, root=page.root)
    cells: list[dict[str, Any]] = []
    for number, cell in enumerate(page.notebook.cells, start=1):
        writer.enter(f"{page.name}: cell {number}", cell)
        code, body = None, ""
        if cell.cell_type == "markdown":
            body = writer.markdown(cell.source)
        elif cell.cell_type == "code" and cell.source.strip():
            code = Markup(_highlight(cell.source))
            body = _outputs(cell, writer)
        if code or body:
            unfolded = OPEN in cell.metadata.get("tags", [])
            last = cells[-1] if cells else None
            if code and last and last["code"] and not last["html"] and last["open"] == unfolded:
                cells.pop()  # cells that show nothing share a fold with the next one
                code = last["code"] + code
            cells.append({"number": number, "code": code, "open": unfolded, "html": Markup(body)})
    if writer.title is None:
        heading = Markup("<h1>{}</h1>").format(page.words)
        cells.insert(0, {"number": 0, "code": None, "open": False, "html": heading})
    # The title stands first, whatever the notebook prepares before it.
    if cells[0]["code"] and not cells[0]["html"] and len(cells) > 1:
        cells[0], cells[1] = cells[1], cells[0]
    contents = writer.contents if len(writer.contents) > 2 else []
    return {
        "href": page.href,
        "title": writer.title or page.words,
        "cells": cells,
        "contents": contents,
    }


def _refuse_unexecuted(page: Page) -> None:
    code = [
        cell for cell in page.notebook.cells if cell.cell_type == "code" and cell.source.strip()
    ]
    if code and all(cell.execution_count is None for cell in code):
        raise ValueError(f"{page.name}: the notebook was not executed")


def _highlight(source: str) -> str:
    from pygments import highlight
    from pygments.formatters import HtmlFormatter
    from pygments.lexers import get_lexer_by_name

    return highlight(source.rstrip(), get_lexer_by_name("ipython3"), HtmlFormatter())


def _outputs(cell: NotebookNode, writer: _Writer) -> str:
    parts, printed = [], ""
    for output in cell.outputs:
        if output.output_type == "error":
            raise ValueError(f"{writer.where}: it ended in {output.ename}: {output.evalue}")
        if output.output_type == "stream":
            printed += output.text if output.name == "stdout" else ""
            continue
        parts += [_printed(printed), _output(output, cell, writer)]
        printed = ""
    return "\n".join(filter(None, [*parts, _printed(printed)]))


def _printed(text: str) -> str:
    from nbconvert.filters import strip_ansi

    text = strip_ansi(text).strip("\n")
    return f'<pre class="printed" tabindex="0">{html.escape(text)}</pre>' if text.strip() else ""


def _output(output: NotebookNode, cell: NotebookNode, writer: _Writer) -> str:
    """The richest form of one output that a page without scripts can show."""
    data = output.data
    if any("widget" in mime for mime in data):
        return ""  # a control without its kernel: nothing to see
    if "text/html" in data:
        return writer.checked(_tables(data["text/html"]))
    if "text/markdown" in data:
        return writer.markdown(data["text/markdown"])
    for mime in ("image/svg+xml", "image/png", "image/jpeg"):
        if mime in data:
            return _output_figure(mime, data[mime], output, cell, writer)
    if "text/latex" in data:
        return f"<p>{writer.formula(data['text/latex'].strip().strip('$'), block=True)}</p>"
    return _printed(data.get("text/plain", ""))


def _output_figure(
    mime: str, data: str, output: NotebookNode, cell: NotebookNode, writer: _Writer
) -> str:
    places = (output.metadata.get(mime, {}), output.metadata, cell.metadata)
    said = {
        key: next((str(place[key]) for place in places if place.get(key)), "")
        for key in ("alt", "caption")
    }
    alt = said["alt"] or said["caption"]
    if not alt:
        alt = f"Figure: {writer.heading or writer.title or writer.where}"
        warnings.warn(
            f"{writer.where}: the figure has no description; "
            "set 'alt' or 'caption' in the metadata of the cell",
            stacklevel=2,
        )
    if mime == "image/svg+xml":
        data = base64.b64encode(data.encode()).decode("ascii")
    ending = "svg" if mime == "image/svg+xml" else mime.partition("/")[2]
    name = re.sub(r"[^a-z0-9]+", "-", f"{writer.where} {writer.heading}".lower()).strip("-")
    tools = (
        f'<p class="tools-of-figure"><a class="save" download="{name}.{ending}" href="#" hidden>'
        f"{ending.upper()}</a></p>"
    )
    return _figure(_picture(mime, data.replace("\n", ""), alt), html.escape(said["caption"]), tools)


def _figure(picture: str, caption: str, tools: str = "") -> str:
    below = f"<figcaption>{caption}</figcaption>" if caption else ""
    return f'<figure class="wide"><div class="frame">{picture}</div>{below}{tools}</figure>'


def _picture(mime: str, data: str, alt: str) -> str:
    size, style = "", ""
    if mime == "image/png":
        width, height = _png_size(base64.b64decode(data))
        size = f' width="{width}" height="{height}"'
        style = ' class="panorama"' if width > 1.5 * height else ""
    return f'<img{style} src="data:{mime};base64,{data}" alt="{html.escape(alt)}"{size}>'


def _png_size(png: bytes) -> tuple[int, int]:
    """The size in CSS pixels: that of the drawing if the file knows it, never above its pixels."""
    if png[:8] != b"\x89PNG\r\n\x1a\n":
        raise ValueError("a figure is not a PNG file")
    width, height = struct.unpack(">II", png[16:24])
    scale = 1.0
    position = png.find(b"pHYs", 0, 4096)
    if position > 0 and png[position + 12] == 1:
        (per_metre,) = struct.unpack(">I", png[position + 4 : position + 8])
        scale = min(1.0, 96 / 0.0254 / per_metre) if per_metre else 1.0
    return round(width * scale), round(height * scale)


def _tables(fragment: str) -> str:
    """HTML whose tables scroll on a narrow screen and whose headers say what they head."""
    from bs4 import BeautifulSoup

    if "<table" not in fragment:
        return fragment
    soup = BeautifulSoup(fragment, "html.parser")
    for style in soup.find_all("style", attrs={"scoped": True}):
        style.decompose()  # pandas' own look
    for table in soup.find_all("table"):
        table.attrs.pop("border", None)
        for header in table.find_all("th"):
            header.attrs.setdefault("scope", "col" if header.find_parent("thead") else "row")
        _align(table)
        frame = soup.new_tag("div", attrs={"class": "scroll", "tabindex": "0", "role": "region"})
        frame.attrs["aria-label"] = "Table"
        table.wrap(frame)
    # The frame must be the cell's own child to be laid out, so bare boxes around it go.
    for frame in soup.find_all("div", class_="scroll"):
        while frame.parent is not None and frame.parent.name == "div" and not frame.parent.attrs:
            frame.parent.unwrap()
    return str(soup).strip()


def _align(table: Any) -> None:
    """Marks the columns of words in a plain table, which read from the left; numbers do not."""
    rows = [row.find_all(["th", "td"], recursive=False) for row in table.find_all("tr")]
    cells = [cell for row in rows for cell in row]
    if len({len(row) for row in rows}) != 1 or any(c.has_attr("colspan") for c in cells):
        return
    for column in zip(*rows, strict=True):
        body = [cell.get_text(strip=True) for cell in column if cell.name == "td"]
        if body and not all(re.fullmatch(_NUMBER, text) for text in body):
            long = ["long"] if max(map(len, body)) > 40 else []
            for cell in column:
                cell["class"] = [*cell.get("class", []), "words", *long]


# --- Markdown and formulas ------------------------------------------------------------------------


@dataclass
class _Writer:
    """Turns the Markdown of one page into HTML, keeping count of its headings."""

    where: str
    names: Sequence[str]
    root: Path | None = None
    escape: bool = False
    title: str | None = None
    heading: str = ""
    attachments: dict[str, Any] = field(default_factory=dict)
    contents: list[dict[str, str]] = field(default_factory=list)
    _level: int = 0
    _ids: set[str] = field(default_factory=set)

    def enter(self, where: str, cell: NotebookNode) -> None:
        self.where, self.attachments = where, cell.get("attachments", {})

    def markdown(self, source: str) -> str:
        from nbconvert.filters.markdown_mistune import MarkdownWithMath

        rendered = MarkdownWithMath(renderer=_renderer()(self)).render(source)
        return self.checked(_tables(rendered)).strip()

    def checked(self, fragment: str) -> str:
        """The fragment, unless it would load or run something."""
        found = foreign(fragment)
        if found:
            raise ValueError(f"{self.where}: the report is self-contained, but this has {found[0]}")
        return fragment

    def formula(self, latex: str, *, block: bool = False) -> str:
        try:
            mathml = to_mathml(latex, block=block)
        except ValueError as error:
            raise ValueError(f"{self.where}: {error}") from None
        return f'<span class="equation" tabindex="0">{mathml}</span>' if block else mathml

    def write_heading(self, text: str, level: int) -> str:
        """A heading whose level follows the one before: one first-level heading, no gaps."""
        plain = html.unescape(re.sub(r"<[^>]*>", "", text)).strip()
        if level == 1 and self._level == 0:
            self.title = plain
        else:
            level = min(max(2, level), max(1, self._level) + 1)
        self._level, self.heading = level, plain
        base = identifier = re.sub(r"\s+", "-", plain)
        number = 1
        while identifier in self._ids:
            number += 1
            identifier = f"{base}-{number}"
        self._ids.add(identifier)
        if level == 2:
            self.contents.append({"id": identifier, "text": plain})
        return f'<h{level} id="{html.escape(identifier)}">{text}</h{level}>\n'

    def link(self, text: str, url: str) -> str | None:
        """A link to a notebook leads to its page; one to another file is only its text."""
        if re.match(r"(https?:|mailto:|#)", url):
            return None
        path, _, anchor = url.partition("#")
        target = Path(path)
        if target.suffix == ".ipynb" and target.stem in self.names:
            anchor = f"#{anchor}" if anchor else ""
            return f'<a href="{html.escape(target.stem + ".html" + anchor)}">{text}</a>'
        return text


@cache
def _renderer() -> type:
    """nbconvert's Markdown renderer, with formulas as MathML and links inside the report."""
    from nbconvert.filters.markdown_mistune import IPythonRenderer

    class Renderer(IPythonRenderer):
        def __init__(self, writer: _Writer) -> None:
            super().__init__(
                escape=writer.escape,
                embed_images=writer.root is not None,
                exclude_anchor_links=True,
                path=str(writer.root or ""),
                attachments=writer.attachments,
            )
            self.writer = writer

        def heading(self, text: str, level: int, **attrs: Any) -> str:
            return self.writer.write_heading(text, level)

        def link(self, text: str, url: str, title: str | None = None) -> str:
            inside = self.writer.link(text, url)
            return super().link(text, url, title) if inside is None else inside

        def block_math(self, body: str) -> str:
            return self.writer.formula(body, block=True)

        def inline_math(self, body: str) -> str:
            return self.writer.formula(body)

        def latex_environment(self, name: str, body: str) -> str:
            latex = f"\\begin{{{name}}}{body}\\end{{{name}}}"
            return self.writer.formula(latex, block=True)

    return Renderer


# What the converter does not know, in words it knows.
_SPELLINGS = (
    (r"\\(begin|end)\{(aligned|equation\*?|gather\*?|gathered)\}", r"\\\1{align*}"),
    (r"\\mathrm\{([A-Za-z ]+)\}", r"\\text{\1}"),
    (r"\\arg(?![A-Za-z])", r"\\operatorname{arg}"),
)


def to_mathml(latex: str, *, block: bool = False) -> str:
    """A formula as MathML, which browsers draw by themselves.

    Raises:
        ValueError: the formula has a command or an environment that the converter does not know,
            or its braces do not match.
    """
    from latex2mathml.converter import convert

    spelled = latex.strip()
    for pattern, replacement in _SPELLINGS:
        spelled = re.sub(pattern, replacement, spelled)
    bare = re.sub(r"\\[{}\\]", "", spelled)
    try:
        if bare.count("{") != bare.count("}"):
            raise ValueError("unmatched braces")
        mathml = convert(spelled, display="block" if block else "inline")
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise ValueError(f"the formula {latex!r} cannot be converted: {reason}") from None
    left = re.search(r"\\[A-Za-z]+|>&<", mathml)
    if left:
        what = left[0].strip("><")
        raise ValueError(f"the formula {latex!r} cannot be converted: unknown {what}")
    return mathml


# --- self-containedness ---------------------------------------------------------------------------

# What text and outputs may hold. Elements and attributes that are not here are refused: a browser
# may load, run or go somewhere for them, today or in a later version.
_HTML = (
    "a abbr article aside b bdi bdo blockquote br caption cite code col colgroup dd del details "
    "dfn div dl dt em figcaption figure h1 h2 h3 h4 h5 h6 hr i img ins kbd li mark ol p pre q s "
    "samp section small span strong style sub summary sup table tbody td tfoot th thead time tr tt "
    "u ul var wbr"
)
_SVG = (
    "circle clipPath defs desc ellipse g line linearGradient marker mask metadata path pattern "
    "polygon polyline radialGradient rect stop style svg symbol text title tspan use a"
)
_MATHML = (
    "math maction menclose merror mfenced mfrac mi mmultiscripts mn mo mover mpadded mphantom "
    "mprescripts mroot mrow ms mspace msqrt mstyle msub msubsup msup mtable mtd mtext mtr munder "
    "munderover none semantics annotation"
)
_ALLOWED = {
    "http://www.w3.org/1999/xhtml": set(_HTML.split()),
    "http://www.w3.org/2000/svg": set(_SVG.split()),
    "http://www.w3.org/1998/Math/MathML": set(_MATHML.split()),
}
_ATTRIBUTES = (
    "abbr align alt border cellpadding cellspacing cite class colspan datetime dir headers height "
    "hidden id label lang name open reversed role rowspan scope scoped span start style tabindex "
    "title translate type valign value width"
)
# Attributes of drawings that may name another part of the drawing, as in `clip-path="url(#a)"`.
_PAINTS = "clip-path fill filter marker-end marker-mid marker-start mask stroke style"
_URL = re.compile(r"(?i)(https?:|mailto:|#|[\w.-]+\.html(#|$)|[\w./-]+$)")
_SENTINEL = "end-of-the-fragment"


def foreign(text: str) -> list[str]:
    """What in this HTML is not allowed in the report, as a browser would read it; empty if nothing.

    Allowed are elements and attributes that neither load nor run nor lead away by themselves.
    """
    from bleach import html5lib_shim

    parser = html5lib_shim.BleachHTMLParser(
        tags=None, strip=False, consume_entities=True, namespaceHTMLElements=True
    )
    with warnings.catch_warnings(action="ignore"):  # of what this parser's own parts deprecate
        root = parser.parseFragment(f'{text}<div id="{_SENTINEL}"></div>')
    found = []
    ends = [child.get("id") for child in root if isinstance(child.tag, str)]
    if _SENTINEL not in ends:
        found.append("something that is not closed")
    for element in root.iter():
        if not isinstance(element.tag, str) or element is root:  # a comment
            continue
        space, _, tag = element.tag.rpartition("}")
        if tag not in _ALLOWED.get(space.lstrip("{"), ()):
            found.append(f"<{tag}>")
        if tag == "style" and _loads("".join(element.itertext())):
            found.append("a style that loads a file")
        for name, value in element.attrib.items():
            name = str(name).rpartition("}")[2].rpartition(":")[2]
            if not _is_allowed(tag, space.endswith("xhtml"), name, value):
                found.append(f"<{tag} {name}={value[:60]!r}>")
    return found


def _is_allowed(tag: str, is_html: bool, name: str, value: str) -> bool:
    """Whether an attribute neither loads nor runs anything."""
    # Browsers skip these in addresses.
    address = re.sub(r"[\t\n\r]", "", value).strip("".join(map(chr, range(33))))
    if name.startswith("on"):
        return False
    if name == "src":
        return tag == "img" and address.lower().startswith("data:image/")
    if name == "href":
        return bool(_URL.match(address)) if tag == "a" else address.startswith("#")
    if name in ("target", "rel"):
        return tag == "a"
    if name in _PAINTS.split() and _loads(value):
        return False
    if name.startswith(("data-", "aria-")) or name in _ATTRIBUTES.split():
        return True
    # The attributes of drawings and formulas say how they look; those that name others are above.
    return not is_html and name not in (
        "attributeName",
        "from",
        "to",
        "values",
        "begin",
        "actiontype",
    )


def _loads(style: str) -> bool:
    """Whether CSS, as a browser reads it, names a file."""
    import tinycss2

    def walk(tokens: Iterable[Any]) -> Iterator[bool]:
        for token in tokens:
            if token.type == "url":
                yield not token.value.lower().startswith(("data:", "#"))
            elif token.type == "at-keyword":
                yield token.lower_value in ("import", "font-face", "namespace")
            elif token.type == "function" and token.lower_name in ("url", "src"):
                strings = [part.value for part in token.arguments if part.type == "string"]
                yield not strings or not strings[0].lower().startswith(("data:", "#"))
            elif token.type == "function" and token.lower_name.endswith("image-set"):
                yield True
            yield from walk(
                getattr(token, "arguments", None) or getattr(token, "content", None) or ()
            )

    return any(walk(tinycss2.parse_component_value_list(style)))
