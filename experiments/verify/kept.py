"""Where the checks of published records are kept, and which checks there are."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.analysis.results import Results
from experiments.data import catalogue, files
from experiments.paths import build_folder
from experiments.study import Study
from experiments.training import runtime
from experiments.verify import again
from experiments.verify.checks import PUBLISHED, Checks, Folder, others

NOTHING = "nothing yet"
GET_DATA = "`adam-study data fetch` downloads them; or name their folder, ADAM_TF_DATA=FOLDER"


def folder() -> Path:
    """Where the checks made here are, in a separate folder for each backend."""
    backend = os.environ.get("KERAS_BACKEND") or "tensorflow"
    alone = backend in runtime.BACKENDS and backend != "tensorflow"
    return build_folder() / (f"verify-{backend}" if alone else "verify")


def imported() -> Path:
    """Where the checks of others are."""
    return build_folder() / "verify" / "imported"


def here(found: Sequence[Results]) -> Checks:
    """The checks made here of these studies' published records as they are now."""
    made = Folder(folder() / "checks").all().of(*found)
    records = published_records(found)
    checked = {check.run for check in made.runs}
    return made.valid({run: again.digest(records[run]) for run in checked if run in records})


def from_others() -> list[Checks]:
    """The published checks and the imported ones."""
    return others(PUBLISHED, imported())


def by_study(found: Sequence[Results], made: Checks) -> dict[str, str]:
    """The column *checked here*, by study: what was checked, or why nothing was."""
    lines = {}
    for results in found:
        name, mine = results.study.name, made.of(results)
        if mine:
            lines[name] = str(mine)
        elif data_is_there(results.study):
            lines[name] = NOTHING
        else:
            lines[name] = f"nothing: no real data. {GET_DATA}"
    return lines


def briefly(lines: Mapping[str, str]) -> dict[str, str]:
    """These lines with one row for all studies of which nothing was checked for the same reason.

    Args:
        lines: as `by_study` gives them.

    Returns:
        The rows, in the same order; what studies share comes last.
    """
    shared = Counter(line for line in lines.values() if line.startswith("nothing"))
    rows = {name: line for name, line in lines.items() if shared[line] < 2}
    for line, count in shared.items():
        if count > 1:
            which = "others" if line == NOTHING else "others without data"
            rows[f"all {count} studies" if count == len(lines) else f"{count} {which}"] = line
    return rows


def data_is_there(study: Study) -> bool:
    """Whether the real data of a study are here; nothing is downloaded."""
    return study.data_set == catalogue.NONE or files.available(study.data_set)


def published_records(found: Sequence[Results]) -> dict[str, dict[str, Any]]:
    """The published records of these studies, by run."""
    return {
        run.id: record
        for results in found
        for run in results.plan.runs()
        if (record := results.records.get(run.id)) is not None
    }
