"""The arguments of the command line, and a parser whose errors are one line."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

MOST_WORKERS = 10_000  # of a cluster; this machine takes far fewer


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Print the message and exit with 2."""
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")

    def print_help(self, file: Any = None) -> None:
        """Print the help; argparse keeps silent about a pipe that is closed or a full disk."""
        print(self.format_help(), end="", file=file, flush=True)


class Version(argparse.Action):
    """Prints the version, and the commit where there is one."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str) -> None:
        """See `argparse.Action`; the arguments are those of `add_argument`."""
        super().__init__(option_strings, dest, nargs=0, default=argparse.SUPPRESS, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *rest: Any) -> None:
        """Print and end."""
        import importlib.metadata

        from experiments.training.runtime import commit

        version = importlib.metadata.version("adam-reproduced")
        print(f"{parser.prog} {version} (commit {commit()})", flush=True)
        parser.exit()


def _count(text: str) -> int:
    """A number of processes."""
    if not text.isdecimal() or len(text) > 9 or not 1 <= int(text) <= MOST_WORKERS:
        shown = text if len(text) <= 20 else f"{text[:20]}..."
        raise argparse.ArgumentTypeError(
            f"{shown!r} is not valid: use a whole number, 1 to {MOST_WORKERS}"
        )
    return int(text)


def _number(low: float, high: float, use: str, *, low_too: bool = False) -> Callable[[str], float]:
    """A function from text to a number between two bounds; `use` says which are allowed."""

    def read(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not (low < number <= high or (low_too and number == low)):
            raise argparse.ArgumentTypeError(f"{text!r} is not valid: use {use}")
        return number

    return read


_share = _number(0, 1, "0 to 1, as in 0.25", low_too=True)
_minutes = _number(0, sys.float_info.max, "a number above 0, as in 0.5")
_seconds = _number(0, 1e9, "seconds, more than 0")


def _argument(*flags: str, **settings: Any) -> tuple[tuple[str, ...], dict[str, Any]]:
    """What `add_argument` takes."""
    return flags, settings


def _profile(default: str, choices: str) -> tuple[tuple[str, ...], dict[str, Any]]:
    return _argument("--profile", default=default, help=choices)


ARGUMENTS: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "studies": _argument(
        "studies", nargs="*", metavar="STUDY", help="studies by name (default: all)"
    ),
    "profile": _profile("quick", "smoke, quick (default) or paper"),
    "shown_profile": _profile("published", "published (default), smoke, quick or paper"),
    "report_profile": _profile("quick", "smoke, quick (default), paper or published"),
    "data": _argument(
        "--data",
        default="auto",
        help="auto (default: real data, stand-ins without a network), real, stand-in, or the "
        "folder that holds the data sets",
    ),
    "protocol": _argument("--protocol", default="both", help="matched, tuned or both (default)"),
    "engine": _argument("--engine", default="processes", help="processes (default), serial or ray"),
    "workers": _argument(
        "--workers", type=_count, metavar="N", help="processes to use (default: one per core)"
    ),
    "timeout": _argument(
        "--timeout",
        type=_seconds,
        metavar="SECONDS",
        help="give up on a run that takes longer (default: 86400, a day)",
    ),
    "address": _argument(
        "--address",
        help="of a Ray cluster: auto, HOST:PORT or ray://HOST:PORT (default: Ray on this machine)",
    ),
    "gpus_per_run": _argument(
        "--gpus-per-run",
        type=_share,
        metavar="SHARE",
        help="of a GPU, on Ray: with 0.25 four runs share one and its memory, with 0 none has any "
        "(default: 1 where the cluster has any)",
    ),
    "skip_published": _argument(
        "--skip-published", action="store_true", help="count the runs under results/ as done"
    ),
    "arm": _argument("--arm", metavar="NAME", help="the arm to try settings on"),
    "set": _argument(
        "--set",
        action="append",
        default=[],
        metavar="K=V",
        help="a setting to try, for example learning_rate=0.01; repeatable",
    ),
    "json": _argument("--json", action="store_true", help="print JSON"),
    "csv": _argument("--csv", action="store_true", help="print CSV"),
    "runs": _argument(
        "runs", nargs="*", metavar="RUN", help="an id, STUDY:ARM or STUDY:ARM:NAME=VALUE,..."
    ),
    "format": _argument(
        "--format", default="both", metavar="KIND", help="csv, tensorboard or both (default)"
    ),
    "to": _argument("--to", metavar="FOLDER", help="where to (default: build/PROFILE/export)"),
    "minutes": _argument(
        "--minutes",
        type=_minutes,
        metavar="N",
        help="how long to train in all, earlier commands included (default 10)",
    ),
    "report": _argument(
        "--report", action="store_true", help="build the report of the published records too"
    ),
    "export": _argument(
        "--export", metavar="FILE", help="train nothing; write what was checked here to a file"
    ),
    "import": _argument(
        "--import", metavar="FILE", dest="import_", help="show and keep the checks of others"
    ),
    "action": _argument(
        "action",
        nargs="?",
        default="status",
        metavar="ACTION",
        help="status (default), fetch or verify",
    ),
    "folders": _argument(
        "folders",
        nargs="*",
        metavar="FOLDER",
        help="with records: ID.json files or published tables, a build folder, a checkout",
    ),
    "results": _argument(
        "--results", action="store_true", help="under results/, beside what is published"
    ),
    "names": _argument(
        "names", nargs="*", metavar="DATA_SET", help="data sets by name (default: all)"
    ),
}
