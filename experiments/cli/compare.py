"""Two runs side by side: what differs in their settings, and what they recorded."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from experiments import pages, studies
from experiments.cli.runs import once
from experiments.options import known
from experiments.records.published import Published
from experiments.records.store import local_store
from experiments.study import Entry, Run

HOW = (
    "write the id of a run (four or more of its digits), or STUDY:ARM or STUDY:ARM:NAME=VALUE,..., "
    "as in fig1-mnist:Adam:seed=1"
)
ORDER = ("matched", "tuned", "grid", "departure", "fit", "tuning", "search")
Record = Mapping[str, Any]
Read = Callable[[str], tuple[str, Any]]


def find(text: str, profile: str, data: str, read: Read) -> Record:
    """The record that a text names.

    Args:
        text: see `HOW`.
        profile: where to look for runs named by study and arm.
        data: the same.
        read: turns NAME=VALUE into a name and a value.

    Raises:
        ValueError: it names no run, or several ids begin with it.
    """
    if re.fullmatch("[0-9a-f]{4,16}", text):
        return _by_id(text)
    name, *rest = text.split(":")
    if not rest or len(rest) > 2 or not rest[0]:
        raise ValueError(f"{text!r} names no run: {HOW}")
    study = studies.get(name)
    arm = study.arm(rest[0])
    wanted = once(read(pair) for pair in rest[1].split(",")) if len(rest) == 2 else {}
    results = pages.existing(study, profile, data)
    planned = [entry for entry in results.plan.entries if entry.arm == arm.name]
    values: dict[str, set[Any]] = {}
    for entry in planned:
        for key, value in _facts(entry).items():
            values.setdefault(key, set()).add(value)
    for key, value in wanted.items():
        there = values[known(f"setting of {arm.name}", key, sorted(values))]
        if value not in there:
            known(f"{key} of {arm.name}", str(value), [str(each) for each in sorted(there)])
    fitting = [
        entry
        for entry in planned
        if all(_facts(entry).get(key) == value for key, value in wanted.items())
    ]
    if not fitting:
        raise ValueError(f"{text}: no run of {name} has all of these; leave one out")
    fitting = [entry for entry in fitting if results.records.get(entry.run.id) is not None]
    if not fitting:
        train = f"`adam-study run {name} --profile {'paper' if results.published else profile}`"
        where = "published" if results.published else f"recorded here at profile {profile}"
        raise ValueError(f"{text}: such a run is planned, but none is {where}; {train} trains it")
    best = min(fitting, key=lambda e: (ORDER.index(e.role), e.run.seed, -e.run.epochs))
    record = results.records.get(best.run.id)
    assert record is not None
    return record


def _facts(entry: Entry) -> dict[str, Any]:
    run = entry.run
    return {**run.settings, "seed": run.seed, "epochs": run.epochs, "role": entry.role}


def _by_id(text: str) -> Record:
    published, store = Published(pages.RESULTS), local_store()
    ids = sorted({i for i in (*store.ids(), *published.ids()) if i.startswith(text)})
    if not ids:
        raise ValueError(f"no run's id begins with {text}: {HOW}")
    if len(ids) > 1:
        raise ValueError(f"several ids begin with {text}: {', '.join(ids[:5])}; give more digits")
    record = store.get(ids[0]) or published.get(ids[0])
    if record is None:
        raise ValueError(f"the record of run {ids[0]} is damaged")
    return record


def facts(record: Record) -> dict[str, Any]:
    """What a run is, by name."""
    return {**Run.from_config(record["config"]).facts(), "status": record["status"]}


def compared(records: Sequence[Record]) -> tuple[list[tuple[str, Any, Any]], list[dict[str, Any]]]:
    """The facts of two runs, name by name; and what both recorded, at passes that both have."""
    first, second = (facts(record) for record in records)
    rows = [(name, first.get(name), second.get(name)) for name in {**first, **second}]
    a, b = (record["metrics"] for record in records)
    numbers = []
    for name in (name for name in a if name in b):
        last = min(len(a[name]), len(b[name])) - 1
        for step in sorted({0, round(last / 4), round(last / 2), last}) if last >= 0 else ():
            pair = a[name][step], b[name][step]
            ratio = pair[1] / pair[0] if pair[0] else math.nan
            numbers.append(
                {
                    "metric": name,
                    "pass": step,
                    "first": pair[0],
                    "second": pair[1],
                    "ratio": ratio if math.isfinite(ratio) else None,
                }
            )
    return rows, numbers


def as_json(records: Sequence[Record]) -> str:
    """The comparison as JSON."""
    rows, numbers = compared(records)
    about = [{name: pair[k] for name, *pair in rows} for k in (0, 1)]
    differs = [name for name, a, b in rows if a != b and name != "run"]
    return json.dumps({"runs": about, "differ_in": differs, "metrics": numbers}, indent=1)


def shown(value: Any) -> str:
    """A setting or a number in a cell."""
    if value is None:
        return "-"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
