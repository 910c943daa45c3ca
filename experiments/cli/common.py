"""What several commands share: the choice of studies and protocols, tables, remarks."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from experiments import studies
from experiments.options import known
from experiments.study import PROTOCOLS, Study

if TYPE_CHECKING:
    from experiments.records.store import Store


def chosen_studies(options: argparse.Namespace) -> list[Study]:
    """The named studies; if none is named, all of them, or all that are published.

    Raises:
        ValueError: an unknown study, or profile "published" and nothing is published.
    """
    names = options.studies
    if not names and getattr(options, "profile", None) == "published":
        from experiments import pages

        found = pages.published_studies()
        if not found:
            raise ValueError("nothing is published; use --profile quick")
        return found
    return [studies.get(name) for name in dict.fromkeys(names or studies.STUDIES)]


def place_data(options: argparse.Namespace) -> None:
    """Use a folder given as --data for the real data, here and in child processes.

    Raises:
        ValueError: --data is neither a policy nor an existing folder.
    """
    from pathlib import Path

    from experiments.data.download import POLICIES

    given = getattr(options, "data", None)
    if given is None or given in POLICIES:
        return
    folder = Path(os.path.expanduser(given))
    if not folder.is_dir():
        try:
            known("data policy", given, POLICIES)
        except ValueError as error:
            raise ValueError(f"{error}, or an existing folder") from None
    os.environ["ADAM_TF_DATA"] = str(folder.absolute())
    options.data, options.data_folder = "real", given


def _console() -> Any:
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 120
    return console


def show_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table.

    Args:
        title: printed above it.
        columns: the heads.
        rows: each a cell of text per column.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(*columns, box=box.SIMPLE_HEAD)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console = _console()
    console.print(Text(title, style="bold"))
    console.print(table)


def chosen_workers(options: argparse.Namespace) -> int:
    """How many processes --workers means; by default one per core.

    Raises:
        ValueError: this machine can't hold so many.
    """
    from experiments.engines import execution

    allowed = 16 * (os.cpu_count() or 1)
    if (options.workers or 0) > allowed and not getattr(options, "address", None):
        raise ValueError(
            f"--workers {options.workers} is too many for this machine: use 1 to {allowed}"
        )
    return options.workers or execution.default_workers()


def chosen_protocols(options: argparse.Namespace) -> tuple[str, ...]:
    """The protocols that --protocol means."""
    if options.protocol == "both":
        return PROTOCOLS
    return (known("protocol", options.protocol, (*PROTOCOLS, "both")),)


def announce(choice: Any) -> None:
    """Say on standard error that the data are stand-ins, if they are."""
    if choice.kind.endswith("stand-in"):
        print(f"STAND-IN DATA ({choice.kind}): {choice.reason}", file=sys.stderr)
        print("No claim is tested on stand-in data.", file=sys.stderr)


def report_damage(*stores: Store) -> None:
    """Say on standard error which records of these stores were damaged."""
    lines = [line for store in stores for line in (*store.damaged, *store.foreign_files())]
    for line in dict.fromkeys(lines):
        print(f"adam-study: {line}", file=sys.stderr)


def say(line: str) -> None:
    """Print what is being done, apart from a command's own output."""
    print(line, file=sys.stderr, flush=True)
