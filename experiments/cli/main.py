"""The command line: `python -m experiments`.

Imports are late, so that `--help`, `list` and `plan` answer at once and only training starts
TensorFlow.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from experiments.cli import common, ending, results, runs
from experiments.cli.parser import ARGUMENTS, Parser, Version
from experiments.options import known


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit code: 0, 1 (failed), 2 (bad input) or 130 (interrupted)."""
    if arguments is None:
        ending.handle_signals(ending.interrupt)
        if not ending.open_streams():
            print("adam-study: standard output is closed; open it", file=sys.stderr)
            return 1
    try:
        options = _parse(list(sys.argv[1:] if arguments is None else arguments))
        common.place_data(options)
        code = options.function(options) or 0
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        print(ending.INTERRUPTED, file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever read our output has gone, for example `head`
        _drop_output()
        return 1
    except ValueError as error:
        print(f"adam-study: {error}", file=sys.stderr)
        from experiments.report.notebooks import NotebookFailed

        return 1 if isinstance(error, NotebookFailed) else 2
    except MemoryError as error:
        name = next(iter(sys.argv[1:] if arguments is None else arguments), "")
        takes = COMMANDS[name][2] if name in COMMANDS else ()
        fewer = "; --workers 1 needs the least" if "workers" in takes else ""
        print(f"adam-study: {str(error) or f'out of memory{fewer}'}", file=sys.stderr)
        return 1
    except RuntimeError as error:
        from experiments.engines.runs import RunsFailed

        if not isinstance(error, RunsFailed):
            raise
        for line in error.lines:
            print(f"adam-study: {line}", file=sys.stderr)
        return 1
    except OSError as error:
        file = f"{error.filename}: " if error.filename else ""
        print(f"adam-study: {file}{error.strerror or error}", file=sys.stderr)
        _drop_output()
        return 1


def _drop_output() -> None:
    """Drop output that can't be written, or Python complains about it again when it exits."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parse(arguments: list[str]) -> argparse.Namespace:
    """The command and its options; names may come before, between and after the options.

    Raises:
        ValueError: an unknown command or option, with the nearest ones.
    """
    if arguments and arguments[0].startswith("-"):
        known("option", arguments[0], ("-h", "--help", "--version"))
    elif arguments:
        known("command", arguments[0], COMMANDS)
    options, rest = _parser().parse_known_args(arguments)
    for before, text in itertools.pairwise(arguments):  # of a shell variable that is not set
        if not text or (text.startswith("--") and text.endswith("=")):
            where = text.removesuffix("=") or before
            raise ValueError(f"there is nothing after {where}; give a value or leave it out")
    given = Counter(text.partition("=")[0] for text in arguments if text.startswith("--"))
    for flag, number in given.items():
        if number > 1 and flag not in ("--set", "--"):
            raise ValueError(f"{flag} is given {number} times; give it once")
    accepted = COMMANDS[options.command][2]
    flags = [ARGUMENTS[name][0][0] for name in accepted if ARGUMENTS[name][0][0].startswith("-")]
    for text in rest:
        if text.startswith("-"):
            known(f"option of {options.command}", text.partition("=")[0], (*flags, "--help"))
    for names in ("studies", "names", "folders", "runs"):
        if names in accepted:
            getattr(options, names).extend(rest)
            return options
    if rest:
        raise ValueError(f"{options.command} takes no {rest[0]!r}; leave it out")
    return options


def _parser() -> Parser:
    parser = Parser(
        prog="adam-study",
        description="Reproduce the experiments of the Adam paper (arXiv 1412.6980).",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action=Version, help="the version and the commit")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (function, help_text, arguments) in COMMANDS.items():
        command = commands.add_parser(
            name, help=help_text, description=help_text, allow_abbrev=False
        )
        command.set_defaults(function=function)
        for argument in arguments:
            flags, settings = ARGUMENTS[argument]
            command.add_argument(*flags, **settings)
    return parser


def data_command(options: argparse.Namespace) -> None:
    """Show, fetch or verify the data sets.

    Raises:
        ValueError: an unknown action or data set, or --json with an action that prints none.
        DataError: a file is missing or damaged, can't be looked at or can't be downloaded.
    """
    from experiments.data import catalogue, download, files

    known("action", options.action, ("status", "fetch", "verify"))
    names = [
        known("data set", name, catalogue.DATASETS) for name in options.names or catalogue.DATASETS
    ]
    if options.action == "status":
        _data_status(names, options.json)
        return
    if options.json:
        raise ValueError(f"--json is for data status alone; leave it out of data {options.action}")
    print(f"data folder: {files.root()}")
    for name in names:
        if options.action == "fetch":
            download.fetch(name)
        files.verify(name)
        print(f"{name}: all files are there and match their SHA-256")


def _data_status(names: Sequence[str], as_json: bool) -> None:
    """Print where these data sets come from, on what terms, and which of their files are there."""
    from experiments.data import catalogue, files

    shown: list[dict[str, Any]] = [
        {
            "data": name,
            "citation": catalogue.DATASETS[name].citation,
            "licence": catalogue.DATASETS[name].licence,
            "files": {found.file.path: found.state for found in files.status(name)},
        }
        for name in names
    ]
    if as_json:
        print(json.dumps({"folder": str(files.root()), "data_sets": shown}, indent=1))
        return
    print(f"data folder: {files.root()}")
    for each in shown:
        print(f"{each['data']}: {each['citation']}; licence: {each['licence']}")
        for path, state in each["files"].items():
            print(f"{each['data']}: {path}: {state}")
    if not all(map(files.available, names)):
        print("`adam-study data fetch` downloads what is missing")


def doctor_command(options: argparse.Namespace) -> int:
    """Print what a bug report needs, and whether anything is wrong."""
    from experiments.cli import doctor

    return doctor.report(options.json)


Command = tuple[Callable[[argparse.Namespace], Any], str, tuple[str, ...]]
COMMON = ("studies", "profile", "data")
COMMANDS: dict[str, Command] = {
    "list": (runs.list_command, "the studies", ("json",)),
    "plan": (
        runs.plan_command,
        "what a run would train, what is done, and how long the rest may take",
        (*COMMON, "protocol", "workers", "skip_published", "json"),
    ),
    "run": (
        runs.run_command,
        "train what is missing; with --arm and --set, try settings of your own",
        (
            *COMMON,
            "protocol",
            "engine",
            "workers",
            "timeout",
            "address",
            "gpus_per_run",
            "skip_published",
            "arm",
            "set",
        ),
    ),
    "claims": (
        results.claims_command,
        "the verdicts",
        ("studies", "shown_profile", "data", "json", "csv"),
    ),
    "compare": (
        results.compare_command,
        "two runs side by side",
        ("runs", "shown_profile", "data", "json"),
    ),
    "export": (
        results.export_command,
        "write records as tidy CSV and for TensorBoard",
        ("studies", "shown_profile", "data", "format", "to"),
    ),
    "report": (
        results.report_command,
        "run the notebooks and build the HTML report; trains what is missing",
        ("studies", "report_profile", "data"),
    ),
    "verify": (
        results.verify_command,
        "the published verdicts, and a check of them: train published runs again, here",
        ("studies", "minutes", "data", "workers", "report", "export", "import"),
    ),
    "publish": (
        results.publish_command,
        "publish paper records under results/, finished or not",
        ("studies",),
    ),
    "merge": (
        results.merge_command,
        "bring records trained elsewhere into the store here, or under results/",
        ("folders", "results"),
    ),
    "notebooks": (results.notebooks_command, "rewrite notebooks and README from results/", ()),
    "data": (data_command, "show, fetch or verify the data sets", ("action", "names", "json")),
    "doctor": (doctor_command, "versions, devices, data, kernel", ("json",)),
}
