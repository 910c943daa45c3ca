"""Records that were trained elsewhere, brought into a store or under `results/`.

A folder may hold record files (`ID.json`) or published tables (`*.parquet`), or be a build folder
or a checkout that has them. Every record must pass the same checks as one that is read here, and
belong to a run that this version of the code and the data would plan. A record that is already here
stays; if another one has different numbers, both are reported. Checkpoints of unfinished runs stay
where they are.
"""

from __future__ import annotations

import itertools
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from experiments.methods import optimizers
from experiments.problems import registry as problems
from experiments.records import published
from experiments.records.origin import held_by_commits
from experiments.records.store import AGAIN, DamagedRecord, Store, Together
from experiments.study import Records, Run, config_id, describe
from experiments.words import counted

PLACES = (".", "records", "results", "build/records")  # where a folder may hold records
# Measurements that differ between machines, and often between two trainings on the same one.
NOT_COMPARED = (
    "seconds",
    "gradient_seconds",
    "optimizer_mb",
    "optimum_error",  # how well a minimum was found, which is itself rounding
)
Record = dict[str, Any]


@dataclass
class Merged:
    """What became of the records of one folder.

    Attributes:
        folder: the folder.
        taken: how many are new here.
        there: how many were here already, with the same numbers.
        problems: a line for each that was not taken, and for each file that holds no record.
    """

    folder: Path
    taken: int = 0
    there: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def line(self) -> str:
        """The counts in words."""
        left = f", {len(self.problems)} not taken" if self.problems else ""
        taken, there = counted(self.taken, "record"), counted(self.there, "was", "were")
        return f"{self.folder}: {taken} taken, {there} here already{left}"


class Collected(Together):
    """Records in memory, beside published ones; where both have a run, the published one counts."""

    def __init__(self, there: Records) -> None:
        self.new: dict[str, Record] = {}
        super().__init__(there, self.new)


def into_store(folders: Sequence[Path], store: Store) -> Iterator[Merged]:
    """Bring the records of folders into a store, one by one, each whole or not at all.

    Raises:
        ValueError: a folder holds no records, or is the store itself; nothing is taken.
        OSError: a record can't be written.
    """
    found = [(folder, _places(folder, store.path)) for folder in folders]
    store.check_writable()
    for folder, places in found:
        merged = Merged(folder)
        for path, record in _records(places, merged.problems):
            run = Run.from_config(record["config"])
            with store.claim(run.lineage) as claimed:
                if not claimed:
                    merged.problems.append(
                        f"{path}: {_words(run)} is being trained here now; merge it again later"
                    )
                    continue
                there = store.read(run.id)
                if there is None:
                    store.write(record)
                _count(merged, there, record, path, store.path)
        yield merged


def into_memory(folders: Sequence[Path], collected: Collected, where: Path) -> Iterator[Merged]:
    """Collect the records of folders, to be published beside the others.

    Records of code that no commit holds can't be published, and are not taken.

    Args:
        folders: where the records are.
        collected: takes the records.
        where: the folder that they will be published in.

    Raises:
        ValueError: a folder holds no records, or is the one they would go to.
    """
    for folder, places in [(folder, _places(folder, where)) for folder in folders]:
        merged = Merged(folder)
        for path, record in _records(places, merged.problems):
            run_id = config_id(record["config"])
            if not held_by_commits(record["manifest"].get("commit")):
                merged.problems.append(f"{path}: it was trained by code that no commit holds")
                continue
            there = collected.get(run_id)
            if there is None:
                collected.new[run_id] = record
            _count(merged, there, record, path, where)
        yield merged


def _count(merged: Merged, there: Mapping | None, record: Mapping, path: Path, where: Path) -> None:
    """Count a record as new, as equal to the existing one, or as a conflict with it."""
    if there is None:
        merged.taken += 1
    elif difference := differing(there, record):
        words = _words(Run.from_config(record["config"]))
        merged.problems.append(
            f"{path}: conflict over {words}: {difference}; the one in {where} stays"
        )
    else:
        merged.there += 1


def differing(there: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """The first number in which two records of a run differ, in words; "" if none does.

    Times and memory are left out.
    """
    for part in ("status", "diverged_at"):
        if there[part] != other[part]:
            return f"{part} {other[part]!r}, not {there[part]!r}"
    for name in dict.fromkeys((*there["metrics"], *other["metrics"])):
        old, new = there["metrics"].get(name), other["metrics"].get(name)
        if name in NOT_COMPARED or old == new:
            continue
        if old is None or new is None:
            return f"only one has {name}"
        if len(old) != len(new):
            return f"{counted(len(new), 'pass', 'passes')}, not {len(old)}"
        i = next(i for i, (a, b) in enumerate(zip(old, new, strict=True)) if a != b)
        return f"{name} of pass {i} is {new[i]!r}, not {old[i]!r}"
    return ""


def check(record: Mapping[str, Any]) -> None:
    """Raise DamagedRecord unless a record is that of a run as it would be planned here."""
    config = record["config"]
    try:
        run = Run.from_config(config)
        problems.check_options(run.problem, run.options)
        settings = optimizers.check_settings(run.optimizer, run.settings)
        ours = run.config()
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise DamagedRecord(
            f"it belongs to no run that this version knows ({reason[:200]})"
        ) from None
    for part in ("data_fingerprint", "numerics"):
        if ours[part] != config.get(part):
            theirs = reprlib.repr(config.get(part))
            raise DamagedRecord(f"its {part} is {theirs}, not {ours[part]!r}")
    if ours != config or dict(settings) != dict(run.settings):
        raise DamagedRecord("its configuration is not that of a run")
    if problems.PROBLEMS[run.problem].measured:
        return
    passes = len(record["metrics"].get("training_cost", ()))
    expected = run.epochs if record["status"] == "finished" else record["diverged_at"]
    if passes != expected:
        raise DamagedRecord(f"it has {counted(passes, 'pass', 'passes')}, not {expected}")


def _places(folder: Path, target: Path) -> list[Path]:
    """The folders with records in or under a given one."""
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder; give one that holds records")
    places = [
        place
        for place in dict.fromkeys((folder / name).resolve() for name in PLACES)
        if Store(place).ids() or any(place.glob("*.parquet"))
    ]
    if not places:
        raise ValueError(
            f"{folder} holds no records; give a folder of ID.json or of published *.parquet files, "
            "a build folder or a checkout"
        )
    if target.resolve() in places:
        raise ValueError(f"{folder} is where the records would go; give another folder")
    return places


def _records(places: Sequence[Path], wrong: list[str]) -> Iterator[tuple[Path, Record]]:
    """Every record there that passes all checks, with its file; `wrong` gets a line per other."""
    for place in places:
        store = Store(place)
        files: Iterator[tuple[Path, Record]] = store.records()
        for path, record in itertools.chain(files, _published(place, wrong)):
            try:
                check(record)
            except DamagedRecord as error:
                run_id = "" if path.suffix == ".json" else f" run {config_id(record['config'])}:"
                wrong.append(f"{path}:{run_id} {error}")
                continue
            yield path, record
        wrong += (line.removesuffix(AGAIN) for line in (*store.damaged, *store.foreign_files()))


def _published(place: Path, wrong: list[str]) -> Iterator[tuple[Path, Record]]:
    for path in sorted(place.glob("*.parquet")):
        try:
            records = published.read(path)
        except ValueError as error:
            wrong.append(str(error).removesuffix("; restore it"))
            continue
        yield from zip(itertools.repeat(path), records.values(), strict=False)


def _words(run: Run) -> str:
    return f"run {run.id} ({run.optimizer} {describe(run.settings)}, seed {run.seed})"
