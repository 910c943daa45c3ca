"""Markdown and formulas as HTML."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.report.contained import foreign

if TYPE_CHECKING:
    from nbformat import NotebookNode


_NUMBER = r"[-−+±]?[\d.,]*\d(e[-−+]?\d+)?\s?%?|[-−+]?(inf|nan|∞)|NaN|None|[-–—]?"


def address_of(name: str, names: Sequence[str]) -> str:
    """The address of a page.

    Args:
        name: the page's.
        names: of all pages.

    Raises:
        ValueError: it is not one of these.
    """
    if name not in names:
        raise ValueError(f"{name!r} is not one of the pages: {', '.join(names) or 'none'}")
    return f"{name}.html"


@dataclass
class Writer:
    """Turns the Markdown of one page into HTML, keeping count of its headings."""

    where: str
    names: Sequence[str]
    root: Path | None = None
    escape: bool = False
    title: str | None = None
    heading: str = ""
    attachments: dict[str, Any] = field(default_factory=dict)
    contents: list[dict[str, Any]] = field(default_factory=list)
    _level: int = 0
    _parts: bool = False  # whether further first-level headings divide the page
    _ids: set[str] = field(default_factory=set)

    def enter(self, where: str, cell: NotebookNode) -> None:
        """Go on to the next cell, which messages call `where`."""
        self.where, self.attachments = where, cell.get("attachments", {})

    def markdown(self, source: str) -> str:
        """The HTML of Markdown with formulas.

        Raises:
            ValueError: see `checked` and `formula`.
        """
        from nbconvert.filters.markdown_mistune import MarkdownWithMath

        rendered = MarkdownWithMath(renderer=_renderer()(self)).render(source)
        return self.checked(tables(rendered)).strip()

    def checked(self, fragment: str) -> str:
        """The fragment itself, if it may stand in a page.

        Args:
            fragment: HTML.

        Raises:
            ValueError: it would load or run something.
        """
        found = foreign(fragment)
        if found:
            raise ValueError(f"{self.where}: the report is self-contained, but this has {found[0]}")
        return fragment

    def formula(self, latex: str, *, block: bool = False) -> str:
        """A formula as MathML.

        Args:
            latex: the formula.
            block: whether it stands on a line of its own.

        Raises:
            ValueError: it can't be converted, see `to_mathml`; the message names its place.
        """
        try:
            mathml = to_mathml(latex, block=block)
        except ValueError as error:
            raise ValueError(f"{self.where}: {error}") from None
        return f'<span class="equation" tabindex="0">{mathml}</span>' if block else mathml

    def write_heading(self, text: str, level: int) -> str:
        """A heading whose level follows the one before: one first-level heading, no gaps.

        Where further first-level headings divide a page, all that follow are a level deeper.
        """
        plain = html.unescape(re.sub(r"<[^>]*>", "", text)).strip()
        if level == 1 and self._level == 0:
            self.title = plain
        else:
            self._parts |= level == 1
            level = min(max(2, level + self._parts), max(1, self._level) + 1)
        self._level, self.heading = level, plain
        base = identifier = re.sub(r"\s+", "-", plain)
        number = 1
        while identifier in self._ids:
            number += 1
            identifier = f"{base}-{number}"
        self._ids.add(identifier)
        if level == 2 or (level == 3 and self._parts):
            self.contents.append({"id": identifier, "text": plain, "level": level})
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
        def __init__(self, writer: Writer) -> None:
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


def _code(soup: Any, table: Any) -> None:
    """Names in backticks as code, which a data frame writes as they are."""
    for text in table.find_all(string=re.compile("`[^`]+`")):
        if text.find_parent("code"):
            continue
        parts = re.split("`([^`]+)`", text)
        for k in range(1, len(parts), 2):
            name = soup.new_tag("code")
            name.string = parts[k]
            parts[k] = name
        text.replace_with(*filter(None, parts))


def tables(fragment: str) -> str:
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
        _label(table)
        _code(soup, table)
        frame = soup.new_tag("div", attrs={"class": "scroll", "tabindex": "0", "role": "region"})
        frame.attrs["aria-label"] = "Table"
        table.wrap(frame)
    # The frame must be the cell's own child to be laid out, so bare boxes around it go.
    for frame in soup.find_all("div", class_="scroll"):
        while frame.parent is not None and frame.parent.name == "div" and not frame.parent.attrs:
            frame.parent.unwrap()
    return str(soup).strip()


def _label(table: Any) -> None:
    """Turns a table with columns of sentences into cards on a phone: each cell names its column."""
    heads = [cell.get_text(" ", strip=True) for cell in table.select("thead tr:last-child > *")]
    if not table.select("td.long"):
        return
    for row in table.select("tbody tr"):
        cells = row.find_all(["th", "td"], recursive=False)
        if len(cells) != len(heads):
            return
        for cell, head in zip(cells, heads, strict=True):
            if cell.name == "td" and head:
                cell["data-label"] = head
    table["class"] = [*table.get("class", []), "cards"]


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
