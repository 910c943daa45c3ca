"""Executed notebooks made deterministic for committing."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.records.store import write_atomically
from experiments.report.parameters import INJECTED, KERNEL, NotebookError

if TYPE_CHECKING:
    from nbformat import NotebookNode

MARKER = "papermill-error-cell-tag"

_WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"


def canonical(nb: NotebookNode) -> NotebookNode:
    """A copy of an executed notebook that depends on its content alone.

    Timings, papermill's metadata, widget state, progress on stderr, exact Python versions and
    memory addresses are removed; execution counts run from 1; every cell has an id. The values of
    papermill's injected cell go into the declarations, so that the source shown is the source that
    gave the outputs.

    Args:
        nb: the executed notebook, left as it is.
    """
    import copy

    nb = copy.deepcopy(nb)
    _put_back(nb)
    nb.cells = [c for c in nb.cells if not {MARKER, INJECTED} & set(c.metadata.get("tags", []))]
    count = 0
    for number, cell in enumerate(nb.cells, start=1):
        count = _canonical_cell(cell, number, count)
    for key in ("papermill", "widgets", "signature", "orig_nbformat"):
        nb.metadata.pop(key, None)
    nb.metadata["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": KERNEL}
    nb.metadata["language_info"] = {"name": "python", "pygments_lexer": "ipython3"}
    nb.nbformat, nb.nbformat_minor = 4, 5
    return nb


def _put_back(nb: NotebookNode) -> None:
    """Writes the injected values into the declarations; comments and types stay untouched."""
    cells = {tag: i for i, cell in enumerate(nb.cells) for tag in cell.metadata.get("tags", [])}
    if not {"parameters", INJECTED} <= set(cells):
        return
    injected = nb.cells[cells[INJECTED]].source
    values = {
        target.id: ast.get_source_segment(injected, statement.value)
        for statement in ast.parse(injected).body
        if isinstance(statement, ast.Assign)
        for target in statement.targets
        if isinstance(target, ast.Name)
    }
    cell = nb.cells[cells["parameters"]]
    lines = cell.source.encode().splitlines(keepends=True)  # ast counts columns in bytes
    starts = [sum(map(len, lines[:i])) for i in range(len(lines))]
    source = b"".join(lines)
    for statement in reversed(ast.parse(source).body):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            value, text = statement.value, values.get(statement.target.id)
            if value is None or text is None:
                continue
            assert value.end_lineno is not None
            assert value.end_col_offset is not None
            begin = starts[value.lineno - 1] + value.col_offset
            end = starts[value.end_lineno - 1] + value.end_col_offset
            source = source[:begin] + text.encode() + source[end:]
    cell.source = source.decode()


def _canonical_cell(cell: NotebookNode, number: int, count: int) -> int:
    """Cleans one cell in place; returns the execution count to continue from."""
    cell.setdefault("id", f"cell-{number}")
    for key in ("papermill", "execution", "ExecuteTime"):
        cell.metadata.pop(key, None)
    if not cell.metadata.get("tags", True):
        del cell.metadata["tags"]
    if cell.cell_type != "code":
        return count
    executed = cell.execution_count is not None
    count += executed
    cell.execution_count = count if executed else None
    cell.outputs = _canonical_outputs(cell.outputs)
    for output in cell.outputs:
        if output.output_type == "execute_result":
            output.execution_count = cell.execution_count
    return count


def _canonical_outputs(outputs: Sequence[NotebookNode]) -> list[NotebookNode]:
    """The outputs without stderr and widgets; adjacent prints are joined."""
    kept: list[NotebookNode] = []
    for output in outputs:
        if output.output_type == "stream":
            if output.name == "stderr":
                continue
            if kept and kept[-1].output_type == "stream":
                kept[-1].text += output.text
                continue
        elif _WIDGET_VIEW in output.get("data", {}):
            continue
        text = output.get("data", {}).get("text/plain")
        if text is not None:
            output.data["text/plain"] = re.sub(r" at 0x[0-9a-fA-F]+", " at 0x…", text)
        kept.append(output)
    return kept


def save(nb: NotebookNode, path: Path) -> None:
    """Writes a notebook in one step, in a form that depends on its content alone.

    Raises:
        NotebookError: the notebook is not valid; nothing is written.
    """
    import nbformat

    try:
        nbformat.validate(nb)
    except nbformat.ValidationError as error:
        raise NotebookError(f"{path}: not a valid notebook: {first_line(str(error))}") from None
    text = nbformat.writes(nb, version=nbformat.NO_CONVERT).rstrip("\n") + "\n"
    write_atomically(Path(path), text.encode())


def first_line(text: str) -> str:
    """The first non-empty line of a text."""
    return next((line.strip() for line in text.splitlines() if line.strip()), "")
