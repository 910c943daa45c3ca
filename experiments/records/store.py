"""Records on disk: one JSON file per run, written by atomic rename.

A record holds the run's configuration, its manifest and its metrics per epoch, and a checksum over
them. Files that are damaged, or that are not what their name says, are reported by name and
ignored; they are never trusted and never deleted. `records/published.py` has the published ones.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from experiments.paths import build_folder
from experiments.study import Records, Run, config_id

FORMAT = 1
ROOM = 1 << 20  # bytes that must be free before training starts
_ID = re.compile("[0-9a-f]{16}")
PARTS = ("config", "status", "diverged_at", "metrics", "manifest")


class DamagedRecord(ValueError):
    """A file that is not the record its name says."""


class Checkpoint(NamedTuple):
    """A stored state.

    Attributes:
        arrays: the variables.
        metrics: the metrics of its passes.
        run: id of the run that stored it: the one that goes on, or a shorter one of its lineage.
        continues: the run, and its number of passes, that that one itself went on from.
    """

    arrays: list[Any]
    metrics: dict[str, list[float]]
    run: str
    continues: dict[str, Any] | None


class Store:
    """The records under one folder.

    Attributes:
        path: the folder; it is made when the first record is written.
        damaged: what was wrong with each file that was ignored, one line each.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.damaged: list[str] = []
        self._cache: dict[str, dict[str, Any]] = {}

    def get(self, run_id: str) -> dict[str, Any] | None:
        """The record of a run, or None if there is none to trust."""
        if run_id not in self._cache:
            path = self._file(run_id)
            try:
                self._cache[run_id] = decode(path.read_bytes(), run_id)
            except FileNotFoundError:
                return None
            except (DamagedRecord, IsADirectoryError) as error:
                if isinstance(error, IsADirectoryError):
                    error = DamagedRecord("it is a folder")
                line = f"{path} is ignored: {error}; its run will be trained again"
                if line not in self.damaged:
                    self.damaged.append(line)
                return None
        return self._cache[run_id]

    def put(self, record: Mapping[str, Any]) -> None:
        """Write a record. A damaged file of the same name is set aside as `NAME.damaged`."""
        run_id = config_id(record["config"])
        path = self._file(run_id)
        if path.exists() and self.get(run_id) is None:
            path.replace(path.with_suffix(".damaged"))
        write_atomically(path, encode(record))
        self._cache[run_id] = decode(path.read_bytes(), run_id)

    def check_writable(self) -> None:
        """Raise an OSError now, before any training, if records can't be written."""
        path = self.path / f".writable-{os.getpid()}"
        write_atomically(path, bytes(ROOM))
        path.unlink()

    @contextlib.contextmanager
    def claim(self, run_id: str, wait: bool = False) -> Iterator[bool]:
        """Hold a run, so that no other process trains it: yields False if another one does.

        The lock is the operating system's and ends with the process, however that ends.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        path = self.path / f"{run_id}.lock"
        with open(path, "w", encoding="utf-8") as file:
            if not _lock(file, wait):
                yield False
                return
            try:
                yield True
            finally:
                path.unlink(missing_ok=True)

    def save_checkpoint(
        self, run: Run, arrays: Iterable[Any], metrics: Mapping, continues: Mapping | None = None
    ) -> None:
        """Keep a run's state, for itself or for a longer run of its lineage to go on from.

        Args:
            run: whose state it is.
            arrays: its variables.
            metrics: its metrics so far.
            continues: the shorter run that it went on from, if it did.
        """
        import numpy as np

        buffer = io.BytesIO()
        facts = {"lineage": run.lineage, "run": run.id, "continues": continues, "metrics": metrics}
        text = np.array(json.dumps(facts))
        np.savez(buffer, facts=text, **{f"array_{i}": array for i, array in enumerate(arrays)})
        content = buffer.getvalue()
        write_atomically(self._checkpoint(run), hashlib.sha256(content).digest() + content)

    def load_checkpoint(self, run: Run, fits: Callable[[list[Any]], bool]) -> Checkpoint | None:
        """What `save_checkpoint` kept of a run's lineage, or None if there is nothing that fits.

        Args:
            run: whose.
            fits: whether the run can go on from these arrays.
        """
        import numpy as np

        path = self._checkpoint(run)
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
        problem = "it is damaged"
        if hashlib.sha256(content[32:]).digest() == content[:32]:
            with np.load(io.BytesIO(content[32:]), allow_pickle=False) as arrays:
                values = [arrays[f"array_{i}"] for i in range(len(arrays.files) - 1)]
                facts = json.loads(str(arrays["facts"]))
            if facts["lineage"] != run.lineage:
                problem = "it is another run's"
            elif not fits(values):
                problem = "it is of another version of the optimizer or the model"
            else:
                return Checkpoint(values, facts["metrics"], facts["run"], facts["continues"])
        self.damaged.append(f"{path} is ignored: {problem}; its run starts from the beginning")
        return None

    def drop_checkpoint(self, run: Run) -> None:
        """Remove the checkpoint of a run's lineage, once nothing goes on from it."""
        self._checkpoint(run).unlink(missing_ok=True)

    def ids(self) -> list[str]:
        """The ids of all record files, good or damaged."""
        return sorted(path.stem for path in self.path.glob("*.json") if _ID.fullmatch(path.stem))

    def strangers(self) -> list[str]:
        """A line for each file that looks like a record but bears no run's name."""
        files = (path for path in self.path.glob("*.json") if not _ID.fullmatch(path.stem))
        return [f"{path} is ignored: it bears no run's name" for path in sorted(files)]

    def _file(self, run_id: str) -> Path:
        return self.path / f"{run_id}.json"

    def _checkpoint(self, run: Run) -> Path:
        return self.path / f"{run.lineage}.checkpoint"


def _lock(file: Any, wait: bool) -> bool:
    try:
        import fcntl
    except ImportError:  # no such locks on Windows: two commands may train the same run twice
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True


def checksum(record: Mapping[str, Any]) -> str:
    """The SHA-256 of a record's content, as canonical JSON."""
    body = {"format": FORMAT, **{part: record[part] for part in PARTS}}
    return hashlib.sha256(json.dumps(body, sort_keys=True, allow_nan=False).encode()).hexdigest()


def encode(record: Mapping[str, Any]) -> bytes:
    """A record as JSON with a checksum. Floats are written so that they read back bit by bit."""
    body = {"format": FORMAT, **{part: record[part] for part in PARTS}}
    whole = {**body, "checksum": checksum(record)}
    return json.dumps(whole, allow_nan=False, indent=1).encode()


def decode(content: bytes, run_id: str) -> dict[str, Any]:
    """The record in `content`; raises DamagedRecord unless it is whole and is that run's."""
    try:
        record = json.loads(content)
        checksum = record.pop("checksum")
        text = json.dumps(record, sort_keys=True, allow_nan=False)
        found = record["format"], config_id(record["config"])
    except (ValueError, KeyError, TypeError, AttributeError):
        raise DamagedRecord("it is not a whole record") from None
    if hashlib.sha256(text.encode()).hexdigest() != checksum:
        raise DamagedRecord("its checksum does not fit its content")
    if found[0] != FORMAT:
        raise DamagedRecord(f"its format is {found[0]!r}, not {FORMAT}")
    if found[1] != run_id:
        raise DamagedRecord(f"it is the record of run {found[1]}")
    return record


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file whole or not at all; errors name the file."""
    temporary = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".new-", delete=False) as file:
            temporary = file.name
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        if isinstance(error, OSError):
            raise OSError(error.errno, f"cannot write {path}: {error.strerror}") from error
        raise


def local_store() -> Store:
    """The records trained here."""
    return Store(build_folder() / "records")


class Together:
    """Several sources of records as one; the first that has a record gives it."""

    def __init__(self, *sources: Records) -> None:
        self.sources = sources

    def get(self, run_id: str) -> dict[str, Any] | None:
        """The record of a run, or None if no source has it."""
        found = (source.get(run_id) for source in self.sources)
        return next((record for record in found if record is not None), None)
