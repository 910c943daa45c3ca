"""An executed notebook as the body of a page."""

from __future__ import annotations

import base64
import html
import re
import struct
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from experiments.report.prose import Writer, tables

if TYPE_CHECKING:
    from nbformat import NotebookNode

    from experiments.report.webpage import Page

OPEN = "open"  # the tag of a cell whose code is part of the text; other code is folded
LARGE = 600  # CSS pixels of a picture's width beyond which a phone shows it in parts
RECORDS = "Provenance"  # the heading under which a page names the records it was made from


def body_of(page: Page, names: Sequence[str]) -> dict[str, Any]:
    """A notebook as its template takes it: a title and cells of code and HTML."""
    from markupsafe import Markup

    _refuse_unexecuted(page)
    writer = Writer(where=page.name, names=names, root=page.root)
    records = _has_records(page.notebook)
    cells: list[dict[str, Any]] = []
    for number, cell in enumerate(page.notebook.cells, start=1):
        writer.enter(f"{page.name}: cell {number}", cell)
        code, body = None, ""
        if cell.cell_type == "markdown":
            body = writer.markdown(cell.source)
        elif cell.cell_type == "code" and cell.source.strip():
            code = Markup(_highlight(cell.source))
            links = [("code", f"#code-{number}")]
            if records:
                links.append(("records", f"#{RECORDS}"))
            body = _outputs(cell, writer, links)
        if code or body:
            unfolded = OPEN in cell.metadata.get("tags", [])
            last = cells[-1] if cells else None
            if code and last and last["code"] and not last["html"] and last["open"] == unfolded:
                cells.pop()  # cells without outputs share a fold with the next one
                code = last["code"] + code
            cells.append({"number": number, "code": code, "open": unfolded, "html": Markup(body)})
    if writer.title is None:
        heading = Markup("<h1>{}</h1>").format(page.words)
        cells.insert(0, {"number": 0, "code": None, "open": False, "html": heading})
    # The title comes first, whatever the notebook prepares before it.
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


def _has_records(notebook: NotebookNode) -> bool:
    heading = re.compile(rf"^#+ {RECORDS}$", re.MULTILINE)
    text = (cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    return any(heading.search(source) for source in text)


def _highlight(source: str) -> str:
    from pygments import highlight
    from pygments.formatters import HtmlFormatter
    from pygments.lexers import get_lexer_by_name

    return highlight(source.rstrip(), get_lexer_by_name("ipython3"), HtmlFormatter())


def _outputs(cell: NotebookNode, writer: Writer, links: Sequence[tuple[str, str]]) -> str:
    parts, printed = [], ""
    for output in cell.outputs:
        if output.output_type == "error":
            raise ValueError(f"{writer.where}: it ended in {output.ename}: {output.evalue}")
        if output.output_type == "stream":
            printed += output.text if output.name == "stdout" else ""
            continue
        parts += [_printed(printed), _output(output, cell, writer, links)]
        printed = ""
    return "\n".join(filter(None, [*parts, _printed(printed)]))


def _printed(text: str) -> str:
    from nbconvert.filters import strip_ansi

    text = strip_ansi(text).strip("\n")
    return f'<pre class="printed" tabindex="0">{html.escape(text)}</pre>' if text.strip() else ""


def _output(
    output: NotebookNode, cell: NotebookNode, writer: Writer, links: Sequence[tuple[str, str]]
) -> str:
    """The richest form of one output that a page can show without running the output's scripts."""
    data = output.data
    if any("widget" in mime for mime in data):
        return ""  # a control without its kernel: nothing to see
    if "text/html" in data:
        return writer.checked(tables(data["text/html"]))
    if "text/markdown" in data:
        return writer.markdown(data["text/markdown"])
    for mime in ("image/svg+xml", "image/png", "image/jpeg"):
        if mime in data:
            return _output_figure(mime, data[mime], output, cell, writer, links)
    if "text/latex" in data:
        return f"<p>{writer.formula(data['text/latex'].strip().strip('$'), block=True)}</p>"
    return _printed(data.get("text/plain", ""))


def _output_figure(
    mime: str,
    data: str,
    output: NotebookNode,
    cell: NotebookNode,
    writer: Writer,
    links: Sequence[tuple[str, str]],
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
    data = data.replace("\n", "")
    name = re.sub(r"[^a-z0-9]+", "-", f"{writer.where} {writer.heading}".lower()).strip("-")
    tools = tools_of(name, mime, data, links)
    return framed(image_of(mime, data, alt), html.escape(said["caption"]), tools)


def tools_of(name: str, mime: str, data: str, links: Sequence[tuple[str, str]] = ()) -> str:
    """What can be saved of a picture, and where it comes from.

    Args:
        name: of the files, without the extension.
        mime: the picture's type.
        data: the picture in base64. Its texts `SVG` and `CSV` can be saved too; a script of the
            page reads them from it.
        links: words and addresses.
    """
    kinds = ["SVG" if mime == "image/svg+xml" else mime.partition("/")[2].upper()]
    if mime == "image/png":
        picture = base64.b64decode(data)
        kinds += [kind for kind in ("SVG", "CSV") if b"iTXt%s\0" % kind.encode() in picture]
    saved = [
        f'<a class="save" download="{name}.{kind.lower()}" href="#" aria-label="save as {kind}" '
        f"hidden>{kind}</a>"
        for kind in kinds
    ]
    led = [f'<a href="{html.escape(address)}">{words}</a>' for words, address in links]
    return f'<p class="tools-of-figure">{" ".join([*saved, *led])}</p>'


def framed(picture: str, caption: str, tools: str = "") -> str:
    """A picture with its caption and tools below it.

    Args:
        picture: as HTML.
        caption: as HTML; "" for none.
        tools: as from `tools_of`.
    """
    below = f"<figcaption>{caption}</figcaption>" if caption else ""
    return f'<figure class="wide"><div class="frame">{picture}</div>{below}{tools}</figure>'


def image_of(mime: str, data: str, alt: str) -> str:
    """A picture as part of the page itself.

    Args:
        mime: the picture's type.
        data: the picture in base64.
        alt: what it shows, in words.
    """
    size, style = "", ""
    if mime == "image/png":
        width, height = _png_size(base64.b64decode(data))
        size = f' width="{width}" height="{height}"'
        size += f' style="--width: {width}px"' if width > LARGE else ""
        classes = ["panorama"] * (width > 1.5 * height) + ["large"] * (width > LARGE)
        style = f' class="{" ".join(classes)}"' if classes else ""
    return f'<img{style} src="data:{mime};base64,{data}" alt="{html.escape(alt)}"{size}>'


def _png_size(png: bytes) -> tuple[int, int]:
    """The size in CSS pixels: that of the drawing if the file knows it, never above its pixels."""
    if png[:8] != b"\x89PNG\r\n\x1a\n":
        raise ValueError("a figure is not a PNG file")
    width, height = struct.unpack(">II", png[16:24])
    scale, position = 1.0, 8
    while position + 8 <= len(png):  # chunk by chunk: a figure's numbers and lines may come first
        length, kind = struct.unpack(">I4s", png[position : position + 8])
        if kind == b"pHYs" and png[position + 16] == 1:
            (per_metre,) = struct.unpack(">I", png[position + 8 : position + 12])
            scale = min(1.0, 96 / 0.0254 / per_metre) if per_metre else 1.0
        position += 12 + length
    return round(width * scale), round(height * scale)
