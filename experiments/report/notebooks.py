"""Notebooks run headless and strictly, and made deterministic for committing.

papermill runs the cells; this module refuses what papermill lets pass: an unknown parameter, a
missing `parameters` tag, the string "false" for a bool, a foreign kernel, a cell that ends the
notebook early. One notebook runs in one process, for a bounded time, with the interpreter that
called it.
"""

from __future__ import annotations

import argparse
import ast
import json
import math
import os
import re
import reprlib
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from experiments.options import known
from experiments.records.store import write_atomically

if TYPE_CHECKING:
    from nbformat import NotebookNode

KERNEL = "python3"
TYPES: dict[str, type] = {"str": str, "int": int, "float": float, "bool": bool, "list": list}
TIMEOUT = 3600
GRACE = 60  # seconds a worker may take beyond its notebook's time to start up and to clean up

_PROJECT = Path(__file__).resolve().parents[2]
_INJECTED = "injected-parameters"
_MARKER = "papermill-error-cell-tag"
_WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"


class NotebookError(ValueError):
    """A notebook cannot be run as asked; the message is one line."""


class NotebookFailed(NotebookError):
    """A notebook was run and did not come to its end."""


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

    def parse(self, text: str) -> object:
        """The value that a command line's text stands for.

        Raises:
            ValueError: the text is not a literal of the declared type.
        """
        if self.annotation == "str":
            return text
        if self.annotation == "bool":
            return {"true": True, "false": False}.get(text.lower(), text)
        if self.annotation == "float":
            return float(text)
        try:
            return ast.literal_eval(text)
        except (SyntaxError, TypeError, ValueError):
            raise ValueError(text) from None


def _accept(kind: str, value: object) -> object:
    if kind == "float" and type(value) is int:
        return float(value)
    if type(value) is not TYPES[kind]:
        raise ValueError(value)
    return value


# --- what a notebook declares ---------------------------------------------------------------------


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
    if _tagged(content, _INJECTED):
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
    """Whether this has what is read of a cell."""
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
        with warnings.catch_warnings(action="ignore"):  # of escapes that Python does not know
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
        parameter = _declared(notebook, allowed, name)
        try:
            values[name] = parameter.accepts(value)
        except ValueError:
            raise NotebookError(
                f"{notebook}: parameter {name!r} must be {parameter.annotation}, got {value!r}"
            ) from None
    return values


def _declared(notebook: Path, allowed: Mapping[str, Parameter], name: str) -> Parameter:
    try:
        return allowed[known("parameter", name, allowed)]
    except ValueError as error:
        raise NotebookError(f"{notebook}: {error}") from None


# --- running --------------------------------------------------------------------------------------


def execute(
    notebook: Path,
    output: Path,
    parameters: Mapping[str, object] | None = None,
    *,
    timeout: int | None = TIMEOUT,
    cwd: Path | None = None,
) -> None:
    """Runs a notebook headless, in a process of its own, and writes the executed copy.

    The copy appears at `output` in one step and only when every cell came to its end. Otherwise
    what was executed is kept, with the traceback, beside it as `<output stem>.failed.ipynb`. The
    project is importable in the notebook, wherever it runs.

    Args:
        notebook: the notebook, left as it is.
        output: where the executed copy goes; its folder is made.
        parameters: values by declared name.
        timeout: seconds for the whole notebook; None sets no limit.
        cwd: the notebook's working directory, by default the caller's.

    Raises:
        NotebookError: nothing was run: see `check`, or the paths make no sense.
        NotebookFailed: a cell failed, the kernel died or the time ran out.
    """
    notebook, output = Path(notebook), Path(output)
    values = check(notebook, parameters or {})
    if output.suffix != ".ipynb":
        raise NotebookError(f"{output}: the output's name must end in .ipynb")
    if output.resolve() == notebook.resolve():
        raise NotebookError(f"{output}: the output must not replace the notebook it comes from")
    if timeout is not None and timeout <= 0:
        raise NotebookError(f"the timeout must be positive, got {timeout}")
    if cwd is not None and not Path(cwd).is_dir():
        raise NotebookError(f"{cwd}: no such directory to run in")
    output.parent.mkdir(parents=True, exist_ok=True)
    failed = output.with_suffix(".failed.ipynb")
    with tempfile.TemporaryDirectory(prefix=f".{output.stem}-", dir=output.parent) as scratch:
        executed = Path(scratch).resolve() / "executed.ipynb"
        job = {
            "notebook": str(notebook.resolve()),
            "output": str(executed),
            "parameters": values,
            "timeout": timeout,
            "cwd": str(cwd) if cwd else None,
        }
        problem = _in_worker(job, executed.with_name("result.json"))
        if problem is None:
            os.replace(executed, output)
            failed.unlink(missing_ok=True)
            return
        kept = ""
        if executed.exists():
            os.replace(executed, failed)
            kept = f" (kept: {failed})"
    raise NotebookFailed(f"{notebook}: {problem}{kept}")


def _in_worker(job: Mapping[str, object], result: Path) -> str | None:
    """What went wrong when a fresh process did the job, or None."""
    job = {**job, "result": str(result)}
    # Only a terminal sees the progress bar; otherwise the worker's words are kept for a crash.
    stderr = None if sys.stderr.isatty() else subprocess.PIPE
    command = [
        sys.executable,
        "-P",
        "-c",
        "from experiments.report.notebooks import _worker; _worker()",
    ]
    timeout = job["timeout"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stderr=stderr, env=_environment(result.parent), text=True
    ) as process:
        try:
            limit = float(timeout) + GRACE if isinstance(timeout, int | float) else None
            _, words = process.communicate(json.dumps(job), timeout=limit)
        except subprocess.TimeoutExpired:
            process.kill()
            return f"out of time after {timeout} s; its process did not stop by itself"
        except BaseException:
            _stop(process)
            raise
    if result.exists():
        return json.loads(result.read_text(encoding="utf-8"))["problem"]
    last = (words or "").strip().splitlines()[-1:]
    return f"its process ended with {process.returncode}" + "".join(f": {line}" for line in last)


def _stop(process: subprocess.Popen[str]) -> None:
    """Lets an interrupted worker shut its kernel down, then makes sure."""
    process.terminate()
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()


def _environment(folder: Path) -> dict[str, str]:
    """The caller's environment, made fit for a kernel whose outputs are kept.

    The user's start-up files and IPython settings stay out; IPython writes its own to `folder`.
    """
    env = dict(os.environ)
    env.pop("MPLBACKEND", None)  # would silence the inline figures
    env.pop("PYTHONSTARTUP", None)
    env["IPYTHONDIR"] = str(folder / "ipython")
    env.setdefault("PYTHONHASHSEED", "0")
    paths = [str(_PROJECT), *filter(None, [env.get("PYTHONPATH")])]
    env["PYTHONPATH"] = os.pathsep.join(paths)
    return env


def _worker() -> None:
    """Runs the job on stdin and leaves its result in the file that the job names."""
    job = json.load(sys.stdin)
    problem = _run(job)
    Path(job["result"]).write_text(json.dumps({"problem": problem}), encoding="utf-8")


def _run(job: Mapping[str, Any]) -> str | None:
    """What went wrong, or None."""
    import logging

    import papermill
    from nbclient.exceptions import CellTimeoutError, DeadKernelError

    logging.getLogger("papermill").setLevel(logging.CRITICAL)
    logging.getLogger("traitlets").setLevel(logging.CRITICAL)
    output = Path(job["output"])
    log = output.with_name("kernel.log")
    deadline = time.monotonic() + (job["timeout"] or math.inf)
    reason = ""
    with _kernel(log) as manager:
        try:
            papermill.execute_notebook(
                _literal(job["notebook"]),
                _literal(job["output"]),
                job["parameters"],
                kernel_name=KERNEL,
                language="python",
                progress_bar=sys.stderr.isatty(),
                cwd=job["cwd"],
                kernel_manager_class=manager,
                force_raise_errors=True,
                iopub_timeout=GRACE,
                timeout_func=lambda cell: _remaining(deadline),
            )
        except papermill.PapermillExecutionError:
            pass  # the notebook tells
        except CellTimeoutError:
            reason = f"out of time after {job['timeout']} s"
        except DeadKernelError:
            reason = "the kernel died"
        except Exception as error:
            reason = f"the kernel failed: {_first_line(f'{type(error).__name__}: {error}')}"
            reason += _last_words(log)
    return _problem(output, reason)


def _literal(path: str) -> str:
    """A path that papermill, which fills braces in, leaves as it is."""
    return path.replace("{", "{{").replace("}", "}}")


def _remaining(deadline: float) -> int | None:
    left = deadline - time.monotonic()
    return None if math.isinf(left) else max(1, math.ceil(left))


@contextmanager
def _kernel(log: Path) -> Iterator[type]:
    """A kernel manager that knows one kernel: the interpreter running now.

    Installed kernel specifications are not consulted: one named `python3` may start another
    environment's Python. What the process says outside of cells goes to the log, and whatever it
    started dies with it.
    """
    from jupyter_client.kernelspec import KernelSpecManager
    from jupyter_client.manager import AsyncKernelManager
    from traitlets import default

    groups = []

    class ThisInterpreter(AsyncKernelManager):
        @default("kernel_spec_manager")
        def _only_the_native_kernel(self) -> KernelSpecManager:
            return KernelSpecManager(kernel_dirs=[])

        async def start_kernel(self, **options: Any) -> None:  # type: ignore[override]
            with log.open("w", encoding="utf-8") as file:
                await AsyncKernelManager.start_kernel(self, stdout=file, stderr=file, **options)
            groups.append(getattr(self.provisioner, "pgid", None))

    try:
        yield ThisInterpreter
    finally:
        for group in filter(None, groups):
            with suppress(OSError):
                os.killpg(group, signal.SIGKILL)


def _last_words(log: Path) -> str:
    """The last line that a kernel said on its way down, if any (an import error, say)."""
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n") if log.exists() else []
    return "".join(f": {line.strip()}" for line in [line for line in lines if line.strip()][-1:])


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "")


def _problem(executed: Path, reason: str) -> str | None:
    """The failure that the executed notebook shows, in one line; `reason` is what else is known."""
    if not executed.exists():
        return reason or "nothing was executed"
    cells = [
        cell
        for cell in json.loads(executed.read_text(encoding="utf-8"))["cells"]
        if not {_MARKER, _INJECTED} & set(cell["metadata"].get("tags", []))
    ]
    started = [
        n
        for n, cell in enumerate(cells, start=1)
        if cell["metadata"].get("papermill", {}).get("start_time")
    ]
    if reason:
        return f"cell {started[-1]}: {reason}" if started else reason
    for number, cell in enumerate(cells, start=1):
        for output in cell.get("outputs", []):
            if output["output_type"] == "error":
                return f"cell {number} failed: {_first_line(output['ename'] + _said(output))}"
    return None


def _said(output: Mapping[str, Any]) -> str:
    return f": {output['evalue'].strip()}" if output["evalue"].strip() else ""


# --- committing -----------------------------------------------------------------------------------


def canonical(
    nb: NotebookNode, *, parameters: Literal["executed", "declared"] = "executed"
) -> NotebookNode:
    """A copy of an executed notebook that depends on its content alone.

    Timings, papermill's metadata, widget state, progress on stderr, exact Python versions and
    memory addresses go; execution counts run from 1; every cell has an id.

    Args:
        nb: the executed notebook, left as it is.
        parameters: papermill's injected cell goes in any case. `executed` writes its values into
            the declarations, so that the source shown is the source that gave the outputs;
            `declared` leaves the declarations as they are.
    """
    import copy

    nb = copy.deepcopy(nb)
    if parameters == "executed":
        _put_back(nb)
    nb.cells = [c for c in nb.cells if not {_MARKER, _INJECTED} & set(c.metadata.get("tags", []))]
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
    """Writes the injected values into the declarations, comments and types untouched."""
    cells = {tag: i for i, cell in enumerate(nb.cells) for tag in cell.metadata.get("tags", [])}
    if not {"parameters", _INJECTED} <= set(cells):
        return
    injected = nb.cells[cells[_INJECTED]].source
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
    """Cleans one cell in place; the execution count to go on from."""
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
    """The outputs without stderr and widgets, neighbouring prints joined."""
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
        NotebookError: it is not a valid notebook; nothing is written.
    """
    import nbformat

    try:
        nbformat.validate(nb)
    except nbformat.ValidationError as error:
        raise NotebookError(f"{path}: not a valid notebook: {_first_line(str(error))}") from None
    text = nbformat.writes(nb, version=nbformat.NO_CONVERT).rstrip("\n") + "\n"
    write_atomically(Path(path), text.encode())


# --- the command line -----------------------------------------------------------------------------


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one notebook; 0: done, 1: the notebook failed, 2: nothing could be run."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.report.notebooks", description=__doc__
    )
    parser.add_argument("notebook", type=Path, help="the notebook to run")
    parser.add_argument("output", type=Path, help="where the executed copy goes")
    parser.add_argument(
        "-p",
        dest="parameters",
        nargs=2,
        action="append",
        default=[],
        metavar=("NAME", "VALUE"),
        help="a declared parameter; the value is read as its declared type",
    )
    parser.add_argument("--timeout", type=int, default=TIMEOUT, metavar="SECONDS")
    parser.add_argument("--cwd", type=Path, help="the notebook's working directory")
    options = parser.parse_args(argv)
    try:
        values = _parse(options.notebook, options.parameters)
        execute(options.notebook, options.output, values, timeout=options.timeout, cwd=options.cwd)
    except NotebookError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1 if isinstance(error, NotebookFailed) else 2
    return 0


def _parse(notebook: Path, pairs: Sequence[Sequence[str]]) -> dict[str, object]:
    allowed = declared(notebook)
    values: dict[str, object] = {}
    for name, text in pairs:
        parameter = _declared(notebook, allowed, name)
        if name in values:
            raise NotebookError(f"{notebook}: parameter {name!r} is given more than once")
        try:
            values[name] = parameter.accepts(parameter.parse(text))
        except ValueError:
            raise NotebookError(
                f"{notebook}: parameter {name!r} must be {parameter.annotation}, got {text!r}"
            ) from None
    return values


if __name__ == "__main__":
    sys.exit(main())
