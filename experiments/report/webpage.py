"""The report: self-contained HTML pages that open offline, from verdicts, figures and notebooks.

Every page contains its own style and pictures, runs no script and loads nothing: its formulas are
MathML, and a content security policy in the page tells the browser so. The pages depend on the
arguments alone; no clock is read.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.records.store import write_atomically
from experiments.report import explorer
from experiments.report.cells import body_of, framed, image_of, tools_of
from experiments.report.contained import foreign
from experiments.report.prose import Writer, address_of

if TYPE_CHECKING:
    from markupsafe import Markup
    from nbformat import NotebookNode

# A symbol and words beside the colour: no verdict depends on seeing colours.
VERDICTS = {"reproduced": "✓", "not reproduced": "✗", "inconclusive": "?", "not tested": "–"}
PROTOCOLS = ("matched", "tuned")
EXPLORER = "explorer.html"
CHARTS = "charts.html"

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
        where: its place in the paper.
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
        caption: one or two sentences of plain text below it.
        page: the name of the page it comes from, if any.
        alt: what the picture shows, in words for readers who cannot see it; by default the caption.
        name: of the files that it is saved as, without their ending; by default the page's.
    """

    png: bytes
    caption: str
    page: str | None = None
    alt: str = ""
    name: str = ""


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
        library: the source of Plotly, which draws these charts.

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
    for name, text in rendered.items():
        write_atomically(out / name, text.encode())
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
    """The report's files, from name to text; arguments as in `build`."""
    names = [page.name for page in pages]
    if len(set(names)) < len(names):
        raise ValueError(f"two pages have the same name: {names}")
    environment = _environment()
    bodies = [body_of(page, names) for page in pages]
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
            **_scripts(*([_own("overview.js")] if rows else []), _own("save.js")),
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
        "href": address_of(str(page), names) if page else None,
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


def _grouped(rows: Sequence[dict[str, Any]], groups: Sequence[Group]) -> list[dict[str, Any]]:
    """The groups as the template takes them, each with its rows; empty groups are left out."""
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
    picture = image_of("image/png", data, figure.alt or figure.caption)
    name = figure.name or re.sub(r"[^a-z0-9]+", "-", (figure.page or "figure").lower())
    return Markup(framed(picture, caption, tools_of(name, "image/png", data)))
