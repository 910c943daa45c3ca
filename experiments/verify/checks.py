"""Checks as files: those made here, those that others sent, and the published ones.

A check made here is one small JSON file in the build folder, written by atomic rename, so that
coverage adds up over any number of interrupted commands. `export` combines them into one file, with
the machine and its versions; `imported` and `results/checks/` hold such files.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from experiments.analysis.ledger import ledger
from experiments.analysis.results import Results
from experiments.pages import RESULTS
from experiments.records import sealed
from experiments.records.store import LARGEST, content_of, write_atomically
from experiments.training import runtime
from experiments.verify.again import Check
from experiments.verify.seeds import Seed
from experiments.words import counted

FORMAT = 1
PUBLISHED = RESULTS / "checks"
KINDS: dict[str, type[Check] | type[Seed]] = {"run": Check, "seed": Seed}
TYPES = {"str": str, "int": int, "float": float, "bool": bool}


@dataclass
class Checks:
    """The checks of one machine.

    Attributes:
        machine: its processor and versions, in words by name.
        runs: published runs that were trained again.
        seeds: new seeds of claims.
        damaged: what was wrong with each file that was ignored, one line each.
    """

    machine: dict[str, str] = field(default_factory=dict)
    runs: list[Check] = field(default_factory=list)
    seeds: list[Seed] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)

    @property
    def faults(self) -> list[str]:
        """Whatever disagrees, by name."""
        runs = [check.named for check in self.runs if check.fault and not check.failed]
        return runs + [str(seed) for seed in self.seeds if seed.far]

    @property
    def failures(self) -> list[str]:
        """The runs that could not be trained, by name."""
        return [check.named for check in self.runs if check.failed]

    def of(self, *found: Results) -> Checks:
        """The checks of some studies, and those of runs that they share with others."""
        studies = {results.study.name for results in found}
        shared = {run.id for results in found for run in results.plan.runs()}
        return dataclasses.replace(
            self,
            runs=[check for check in self.runs if check.study in studies or check.run in shared],
            seeds=[check for check in self.seeds if check.study in studies],
        )

    def valid(self, digests: Mapping[str, str]) -> Checks:
        """The checks without those of records that have changed since; `digests` are by run id.

        Nor are there new seeds of claims that the ledger no longer holds.
        """
        claims = {claim.id for claim in ledger()}
        return dataclasses.replace(
            self,
            runs=[check for check in self.runs if digests.get(check.run) == check.record],
            seeds=[check for check in self.seeds if check.claim in claims],
        )

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self.runs or self.seeds)

    def __str__(self) -> str:
        """In one line: what was trained, and how far it is from the records."""
        trained = [check for check in self.runs if not check.failed]
        parts = []
        if trained:
            passes = sum(check.passes for check in trained)
            text = f"{counted(len(trained), 'run')}, {counted(passes, 'pass', 'passes')}"
            if sum(check.equal for check in trained) == passes:
                text += ", every number equal to the last bit"
            else:
                text += f", largest difference {max(check.largest for check in trained):.0e}"
            parts.append(text)
        if self.seeds:
            inside = sum(seed.inside for seed in self.seeds)
            total = len(self.seeds)
            seeds = counted(len({seed.seed for seed in self.seeds}), "new seed")
            metrics = counted(total, "metric")
            where = "as predicted" if inside == total else f"as predicted for {inside} of {metrics}"
            parts.append(f"{seeds} {where}")
        if self.failures:
            parts.append(f"{counted(len(self.failures), 'run')} could not be trained")
        if self.faults:
            parts.insert(0, f"{counted(len(self.faults), 'DISAGREEMENT', 'DISAGREEMENTS')}")
        return "; ".join(parts) or "nothing"


def machine() -> dict[str, str]:
    """This machine, as far as it matters for rounding."""
    versions = {"python": platform.python_version()}
    for name in ("numpy", "keras", "tensorflow", "jax"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return {
        "processor": runtime.processor(),
        "kind": runtime.processor_kind(),
        "system": f"{platform.system()} {platform.machine()}",
        "backend": os.environ.get("KERAS_BACKEND", "tensorflow"),
        **versions,
    }


class Folder:
    """The checks made here."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def put(self, check: Check | Seed) -> None:
        """Keep a check; one of more passes replaces one of fewer."""
        kind = "run" if isinstance(check, Check) else "seed"
        name = check.run if isinstance(check, Check) else check.name
        if isinstance(check, Check) and not check.fault:
            with contextlib.suppress(OSError, ValueError):
                before = _opened((self.path / f"{name}.json").read_bytes())
                if before["record"] == check.record and before["passes"] > check.passes:
                    return
        body = {"kind": kind, **dataclasses.asdict(check)}
        write_atomically(self.path / f"{name}.json", _sealed(body))

    def all(self) -> Checks:
        """What was checked here so far."""
        found = Checks()
        for path in sorted(self.path.glob("*.json")):
            try:
                body = _opened(path.read_bytes())
                _add(found, str(body.pop("kind", None)), body)
            except (OSError, ValueError) as error:
                found.damaged.append(f"{path} is ignored: {error}")
        return found


class Budget:
    """The time that was spent on these records here, kept across interruptions.

    Time spent on other records, or on older ones, does not count.
    """

    def __init__(self, folder: Path, records: Iterable[Path]) -> None:
        """`records` are the files of the published records."""
        digest = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(records)))
        self.path = folder / f"{digest.hexdigest()[:16]}.json"
        self.spent = 0.0
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            spent = float(_opened(self.path.read_bytes())["seconds"])
            self.spent = spent if spent > 0 else 0.0

    def keep(self, seconds: float) -> None:
        """Store how much has been spent in all."""
        self.spent = seconds
        write_atomically(self.path, _sealed({"seconds": round(seconds, 1)}))


def export(checks: Checks, path: Path) -> None:
    """Write the checks made here as one file, to be sent to others."""
    body = {
        "format": FORMAT,
        "machine": machine(),
        "runs": [dataclasses.asdict(check) for check in checks.runs],
        "seeds": [dataclasses.asdict(seed) for seed in checks.seeds],
    }
    write_atomically(path, _sealed(body))


def read(path: Path) -> Checks:
    """The checks in a file that `export` wrote.

    Raises:
        ValueError: the file is not one, or is damaged.
        OSError: it can't be read.
    """
    if not path.exists():
        raise ValueError(f"{path} does not exist: give a file that --export wrote")
    try:
        body = _opened(content_of(path, LARGEST))
        if body.get("format") != FORMAT:
            raise ValueError(f"its format is {body.get('format')!r}, not {FORMAT}")
        found = Checks({str(k): str(v) for k, v in dict(body["machine"]).items()})
        for kind, name in (("run", "runs"), ("seed", "seeds")):
            for each in body[name]:
                _add(found, kind, each)
    except (KeyError, TypeError, AttributeError):
        raise ValueError(f"{path} is not a file of checks") from None
    except ValueError as error:
        raise ValueError(f"{path} can't be used: {error}") from None
    return found


def take(path: Path, folder: Path) -> Checks:
    """Read a file of checks and keep a copy among the imported ones."""
    found = read(path)
    content = content_of(path, LARGEST)
    write_atomically(folder / f"{hashlib.sha256(content).hexdigest()[:16]}.json", content)
    return found


def others(*folders: Path) -> list[Checks]:
    """The files of checks in these folders; damaged ones are reported, not trusted."""
    found = []
    for path in (path for folder in folders for path in sorted(folder.glob("*.json"))):
        try:
            found.append(read(path))
        except (OSError, ValueError) as error:
            found.append(Checks(damaged=[f"{path} is ignored: {error}"]))
    return found


def _add(found: Checks, kind: str, body: Any) -> None:
    cls = KINDS.get(kind)
    if cls is None:
        raise ValueError(f"it holds a check of kind {kind!r}")
    types = {f.name: TYPES[str(f.type)] for f in dataclasses.fields(cls)}
    if not isinstance(body, dict) or set(body) != set(types):
        raise ValueError("a check in it lacks fields or has too many")
    for name, value in body.items():
        right = isinstance(value, int | float) if types[name] is float else False
        if not right and type(value) is not types[name]:
            raise ValueError(f"a check in it has {name}={value!r}")
    check = cls(**body)
    (found.runs if isinstance(check, Check) else found.seeds).append(check)  # type: ignore[arg-type]


def _sealed(body: Mapping[str, Any]) -> bytes:
    return sealed.seal(body, finite=False)  # a difference may be infinite


def _opened(content: bytes) -> dict[str, Any]:
    try:
        body, fits = sealed.unseal(content, finite=False)
    except ValueError:
        raise ValueError("it is not a whole file of checks") from None
    if not fits:
        raise ValueError("its checksum does not fit its content")
    return body


def told_by(found: Sequence[Checks]) -> list[str]:
    """What others have checked, a line for each machine."""
    return [
        f"{each.machine.get('processor', '?')} ({each.machine.get('kind', '?')}): {each}"
        for each in found
        if each.machine
    ]
