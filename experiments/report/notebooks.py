"""Notebooks run headless and strictly.

papermill runs the cells; this module refuses what papermill lets pass: a foreign kernel, a cell
that ends the notebook early, and what `experiments.report.parameters` refuses. One notebook runs in
one process, for a bounded time, with the interpreter that called it.
"""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from experiments.paths import ROOT
from experiments.report.canonical import MARKER, first_line
from experiments.report.parameters import INJECTED, KERNEL, NotebookError, check

TIMEOUT = 3600
GRACE = 60  # seconds beyond its notebook's time that a worker may take to start and to clean up


class NotebookFailed(NotebookError):
    """A notebook was run and did not reach its end."""


def execute(
    notebook: Path,
    output: Path,
    parameters: Mapping[str, object] | None = None,
    *,
    timeout: int | None = TIMEOUT,
) -> None:
    """Runs a notebook headless, in a process of its own, and writes the executed copy.

    The copy appears at `output` in one step, and only if every cell finished. Otherwise what was
    executed is kept beside it, with the traceback, as `<output stem>.failed.ipynb`. The notebook
    runs in the caller's working directory and can import the project wherever that is.

    Args:
        notebook: the notebook, left as it is.
        output: where the executed copy goes; its folder is made.
        parameters: values by declared name.
        timeout: seconds for the whole notebook; None sets no limit.

    Raises:
        NotebookError: nothing was run (see `check`), or the paths make no sense.
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
    output.parent.mkdir(parents=True, exist_ok=True)
    failed = output.with_suffix(".failed.ipynb")
    with tempfile.TemporaryDirectory(prefix=f".{output.stem}-", dir=output.parent) as scratch:
        executed = Path(scratch).resolve() / "executed.ipynb"
        job = {
            "notebook": str(notebook.resolve()),
            "output": str(executed),
            "parameters": values,
            "timeout": timeout,
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
    """Do the job in a fresh process; returns what went wrong, or None."""
    job = {**job, "result": str(result)}
    # Only a terminal shows the progress bar; otherwise the worker's output is kept for a crash.
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
    """Lets an interrupted worker shut its kernel down, then makes sure that it has ended."""
    process.terminate()
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()


def _environment(folder: Path) -> dict[str, str]:
    """The caller's environment, adapted to a kernel whose outputs are kept.

    The user's start-up files and IPython settings are ignored; IPython writes its own to `folder`.
    """
    env = dict(os.environ)
    env.pop("MPLBACKEND", None)  # it would suppress the inline figures
    env.pop("PYTHONSTARTUP", None)
    env["IPYTHONDIR"] = str(folder / "ipython")
    env.setdefault("PYTHONHASHSEED", "0")
    paths = [str(ROOT), *filter(None, [env.get("PYTHONPATH")])]
    env["PYTHONPATH"] = os.pathsep.join(paths)
    return env


def _worker() -> None:
    """Runs the job on stdin and leaves its result in the file that the job names."""
    job = json.load(sys.stdin)
    problem = _run(job)
    Path(job["result"]).write_text(json.dumps({"problem": problem}), encoding="utf-8")


def _run(job: Mapping[str, Any]) -> str | None:
    """Run the job here; returns what went wrong, or None."""
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
            reason = f"the kernel failed: {first_line(f'{type(error).__name__}: {error}')}"
            reason += _last_words(log)
    return _problem(output, reason)


def _literal(path: str) -> str:
    """A path escaped so that papermill, which fills in braces, leaves it as it is."""
    return path.replace("{", "{{").replace("}", "}}")


def _remaining(deadline: float) -> int | None:
    left = deadline - time.monotonic()
    return None if math.isinf(left) else max(1, math.ceil(left))


@contextmanager
def _kernel(log: Path) -> Iterator[type]:
    """A kernel manager that knows one kernel: the interpreter running now.

    Installed kernel specifications are not consulted: one named `python3` may start another
    environment's Python. What the process prints outside of cells goes to the log, and whatever it
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
    """The last line that a kernel printed before it died, if any (for example, an import error)."""
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n") if log.exists() else []
    return "".join(f": {line.strip()}" for line in [line for line in lines if line.strip()][-1:])


def _problem(executed: Path, reason: str) -> str | None:
    """The failure that the executed notebook shows, in one line; `reason` is what else is known."""
    if not executed.exists():
        return reason or "nothing was executed"
    cells = [
        cell
        for cell in json.loads(executed.read_text(encoding="utf-8"))["cells"]
        if not {MARKER, INJECTED} & set(cell["metadata"].get("tags", []))
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
                return f"cell {number} failed: {first_line(output['ename'] + _said(output))}"
    return None


def _said(output: Mapping[str, Any]) -> str:
    return f": {output['evalue'].strip()}" if output["evalue"].strip() else ""
