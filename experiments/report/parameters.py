"""What a notebook declares: its typed `parameters` cell, and the values that fit it.

papermill accepts an unknown parameter, a missing `parameters` tag or the string "false" for a bool;
these are refused here.
"""

from __future__ import annotations

import ast
import json
import re
import reprlib
import textwrap
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.options import known

KERNEL = "python3"
INJECTED = "injected-parameters"
TYPES: dict[str, type] = {"str": str, "int": int, "float": float, "bool": bool, "list": list}


class NotebookError(ValueError):
    """A notebook cannot be run as requested; the message is one line."""


@dataclass(frozen=True)
class Parameter:
    """One typed declaration of a notebook's `parameters` cell."""

    name: str
    annotation: str
    default: object

    def accepts(self, value: object) -> object:
        """The value as this parameter takes it (an int as a float, a tuple as a list).

        Raises:
            ValueError: the value is of another type.
        """
        kind, _, item = self.annotation.rstrip("]").partition("[")
        if kind == "list":
            if not isinstance(value, list | tuple):
                raise ValueError(value)
            return [_accept(item, entry) for entry in value] if item else list(value)
        return _accept(kind, value)


def _accept(kind: str, value: object) -> object:
    if kind == "float" and type(value) is int:
        return float(value)
    if type(value) is not TYPES[kind]:
        raise ValueError(value)
    return value


def declared(notebook: Path) -> dict[str, Parameter]:
    """The parameters that a notebook declares, by name, in its order.

    Raises:
        NotebookError: the file is missing or is no notebook; its kernel is not `python3`; its
            `parameters` cell is missing, repeated or holds anything but typed declarations.
    """
    content = _read(notebook)
    kernel = content["metadata"].get("kernelspec", {}).get("name")
    if kernel != KERNEL:
        shown = reprlib.repr(kernel)
        raise NotebookError(f"{notebook}: its kernel is {shown}; allowed is {KERNEL!r}")
    if _tagged(content, INJECTED):
        raise NotebookError(f"{notebook}: it is an executed copy (it has injected parameters)")
    cells = _tagged(content, "parameters")
    if len(cells) != 1:
        found = ", ".join(map(str, cells)) or "none"
        raise NotebookError(
            f"{notebook}: exactly one code cell must be tagged 'parameters'; found: {found}"
        )
    where = f"{notebook}: cell {cells[0]} (parameters)"
    return _declarations("".join(content["cells"][cells[0] - 1].get("source", "")), where)


def _read(notebook: Path) -> dict[str, Any]:
    try:
        if notebook.exists() and not notebook.is_file():
            raise NotebookError(f"{notebook}: not a file")
        content = json.loads(notebook.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise NotebookError(f"{notebook}: no such notebook") from None
    except (OSError, UnicodeDecodeError) as error:
        raise NotebookError(f"{notebook}: cannot be read: {error}") from None
    except (ValueError, RecursionError) as error:  # JSON's own errors are ValueErrors
        if isinstance(error, NotebookError):
            raise
        raise NotebookError(f"{notebook}: not valid JSON: {error}") from None
    if (
        not isinstance(content, dict)
        or content.get("nbformat") != 4
        or not isinstance(content.get("cells"), list)
        or not all(map(_is_cell, content["cells"]))
        or not isinstance(content.get("metadata"), dict)
        or not isinstance(content["metadata"].get("kernelspec", {}), dict)
    ):
        raise NotebookError(f"{notebook}: not a notebook of format 4")
    return content


def _is_cell(cell: object) -> bool:
    """Whether this has all parts of a cell that are read."""
    if not isinstance(cell, dict) or not isinstance(cell.get("cell_type"), str):
        return False
    metadata, source = cell.get("metadata", {}), cell.get("source", "")
    return (
        isinstance(metadata, dict)
        and isinstance(metadata.get("tags", []), list)
        and (
            isinstance(source, str)
            or (isinstance(source, list) and all(isinstance(line, str) for line in source))
        )
    )


def _tagged(content: Mapping[str, Any], tag: str) -> list[int]:
    """The numbers, from 1, of the code cells that carry a tag."""
    return [
        number
        for number, cell in enumerate(content["cells"], start=1)
        if cell["cell_type"] == "code" and tag in cell.get("metadata", {}).get("tags", [])
    ]


def _declarations(source: str, where: str) -> dict[str, Parameter]:
    try:
        with warnings.catch_warnings(action="ignore"):  # about escapes that Python does not know
            body = ast.parse(source).body
    except SyntaxError as error:
        raise NotebookError(f"{where}: line {error.lineno}: {error.msg}") from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise NotebookError(f"{where}: not Python: {error or type(error).__name__}") from None
    parameters = [_declaration(line, f"{where}: line {line.lineno}") for line in body]
    names = [parameter.name for parameter in parameters]
    for name in names:
        if names.count(name) > 1:
            raise NotebookError(f"{where}: {name!r} is declared more than once")
    return dict(zip(names, parameters, strict=True))


def _declaration(statement: ast.stmt, where: str) -> Parameter:
    if not (
        isinstance(statement, ast.AnnAssign)
        and isinstance(statement.target, ast.Name)
        and statement.value is not None
    ):
        raise NotebookError(
            f"{where}: {_shown(statement)!r} is not a typed declaration, "
            "such as `profile: str = 'quick'`"
        )
    annotation = _shown(statement.annotation)
    allowed = r"(list\[)?(str|int|float|bool)(?(1)\])|list"
    if not re.fullmatch(allowed, annotation):
        raise NotebookError(
            f"{where}: the type {annotation!r} is not one of {', '.join(TYPES)} or a list of them"
        )
    name = statement.target.id
    try:
        default = ast.literal_eval(statement.value)
        return Parameter(name, annotation, Parameter(name, annotation, None).accepts(default))
    except (TypeError, ValueError, RecursionError, MemoryError, SyntaxError):
        value = _shown(statement.value)
        raise NotebookError(
            f"{where}: the default {value} of {name!r} is not a literal of type {annotation}"
        ) from None


def _shown(node: ast.AST) -> str:
    """Code in one line that is not too long."""
    try:
        return textwrap.shorten(ast.unparse(node), 200)
    except RecursionError:
        return "..."


def check(notebook: Path, parameters: Mapping[str, object]) -> dict[str, object]:
    """The values as the notebook takes them; nothing is run.

    Raises:
        NotebookError: see `declared`; or a name is unknown; or a value has the wrong type.
    """
    allowed = declared(notebook)
    values: dict[str, object] = {}
    for name, value in parameters.items():
        try:
            parameter = allowed[known("parameter", name, allowed)]
        except ValueError as error:
            raise NotebookError(f"{notebook}: {error}") from None
        try:
            values[name] = parameter.accepts(value)
        except ValueError:
            raise NotebookError(
                f"{notebook}: parameter {name!r} must be {parameter.annotation}, got {value!r}"
            ) from None
    return values
