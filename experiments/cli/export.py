"""Records for other tools: tidy CSV files, and event files for TensorBoard."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from experiments.analysis.results import Results
from experiments.options import known
from experiments.records.store import write_atomically
from experiments.report import numbers
from experiments.study import Entry, describe
from experiments.training.runtime import silence
from experiments.words import counted

FORMATS = ("both", "csv", "tensorboard")
ROLES = ("matched", "tuned", "grid")  # what is reported; trials are in the CSV files alone


def export(found: Iterable[Results], folder: Path, form: str) -> Iterator[str]:
    """Write the results, and yield what was written, a line for each study and kind.

    `folder/csv/` gets the verdicts and a table for each study, a row per run and pass;
    `folder/tensorboard/STUDY/ROLE/ARM/seed-N/` gets the events of each reported run.

    Args:
        found: the results.
        folder: where to write; made if missing.
        form: one of `FORMATS`.
    """
    import pandas as pd

    found = list(found)
    if form in ("both", "csv"):
        table = pd.DataFrame(numbers.verdicts(found))
        yield _csv(table, folder / "csv" / "verdicts.csv")
        for results in found:
            yield _csv(results.passes(), folder / "csv" / f"{results.study.name}.csv")
    if form in ("both", "tensorboard"):
        for results in found:
            place = folder / "tensorboard" / results.study.name
            runs = sum(_events(results, entry, place) for entry in results.plan.entries)
            yield f"{place}: {counted(runs, 'run')}"
        yield f"to see them: tensorboard --logdir {folder / 'tensorboard'}"


def check(form: str) -> str:
    """Refuse an unknown format."""
    return known("format", form, FORMATS)


def _csv(table: Any, path: Path) -> str:
    write_atomically(path, table.to_csv(index=False, lineterminator="\n").encode())
    return f"{path}: {counted(len(table), 'row')}"


def _events(results: Results, entry: Entry, place: Path) -> bool:
    """Write the events of a reported run that has a record: one event per pass.

    A grid has a folder for each setting. An event's time is when its pass ended, so that
    TensorBoard can also show costs by time. Whatever an earlier export wrote is replaced.
    """
    record = results.records.get(entry.run.id)
    if record is None or entry.role not in ROLES or not record["metrics"]:
        return False
    with silence():
        import tensorflow as tf

    summary, event = tf.compat.v1.Summary, tf.compat.v1.Event
    parts = [entry.role, entry.arm]
    if entry.role == "grid":
        parts.append(describe(entry.run.settings))
    length = () if entry.run.epochs == _longest(results) else (f"{entry.run.epochs}-passes",)
    folder = place.joinpath(*map(_name, (*parts, *length, f"seed-{entry.run.seed}")))
    for old in folder.glob("events.out.tfevents.*"):
        old.unlink()
    names, columns = zip(*record["metrics"].items(), strict=True)
    rows = list(zip(*columns, strict=True))
    seconds = itertools.accumulate(record["metrics"].get("seconds", [0.0] * len(rows)))
    start = datetime.fromisoformat(record["manifest"]["started"]).timestamp()
    with tf.Graph().as_default(), tf.compat.v1.summary.FileWriter(str(folder)) as writer:
        for step, (row, passed) in enumerate(zip(rows, seconds, strict=True)):
            values = [
                summary.Value(tag=name.replace(" ", "/"), simple_value=value)
                for name, value in zip(names, row, strict=True)
            ]
            writer.add_event(
                event(wall_time=start + passed, step=step, summary=summary(value=values))
            )
    return True


def _longest(results: Results) -> int:
    return max(entry.run.epochs for entry in results.plan.entries if entry.role in ROLES)


def _name(text: str) -> str:
    """A name for a folder on any system."""
    return re.sub(r"[^\w.=+-]+", "_", text)
