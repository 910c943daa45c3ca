"""Records on disk: one JSON file per run, written by atomic rename.

A record holds the run's configuration, its manifest, its metrics per epoch, and a checksum of all
of these. Files that are damaged, or are not what their name says, are reported by name and ignored;
they are never trusted and never deleted. `records/published.py` handles the published records.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import hashlib
import itertools
import json
import math
import os
import platform
import re
import stat
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from experiments.paths import build_folder
from experiments.records import sealed
from experiments.records.locks import NoLocks, lock, same
from experiments.records.origin import Origin
from experiments.study import Records, Run, config_id

FORMAT = 1
STALE = 3600.0  # seconds after which a half-written file is considered abandoned
ROOM = 1 << 20  # bytes that must be free before training starts
LARGEST = 64 << 20  # bytes of a record
DIGEST = 32  # bytes of a SHA-256, with which a checkpoint begins
TRIES = 3  # attempts to write a file whose folder is removed meanwhile
_ID = re.compile("[0-9a-f]{16}")
AGAIN = "; its run will be trained again"  # how the line about a damaged record ends
PARTS = ("config", "status", "diverged_at", "metrics", "manifest")


class DamagedRecord(ValueError):
    """A file is not the record that its name says."""


class Checkpoint(NamedTuple):
    """A stored state.

    Attributes:
        arrays: the variables.
        metrics: the metrics of its passes.
        run: id of the run that stored it: the one being resumed, or a shorter one of its lineage.
        continues: the shorter run, and its number of passes, that `run` itself had continued.
        origin: what trained it so far.
    """

    arrays: list[Any]
    metrics: dict[str, list[float]]
    run: str
    continues: dict[str, Any] | None
    origin: Origin


class Store:
    """The records under one folder.

    Attributes:
        path: the folder; it is made when the first record is written.
        damaged: what was wrong with each file that was ignored, one line each.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._folder = os.path.join(self.path, "")
        self.damaged: list[str] = []
        self._named: set[str] = set()
        self._cache: dict[str, dict[str, Any]] = {}

    def get(self, run_id: str) -> dict[str, Any] | None:
        """The record of a run, or None if there is none to trust."""
        if run_id not in self._cache:
            record = self.read(run_id)
            if record is None:
                return None
            self._cache[run_id] = record
        return self._cache[run_id]

    def read(self, run_id: str) -> dict[str, Any] | None:
        """The same as `get`, but from the disk and without keeping it."""
        path = f"{self._folder}{run_id}.json"  # making a Path would take longer than the look-up
        try:
            return decode(content_of(path, LARGEST), run_id)
        except FileNotFoundError:
            return None
        except (DamagedRecord, OSError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            self._name(f"{path} is ignored: {why}{AGAIN}")
            return None

    def records(self) -> Iterator[tuple[Path, dict[str, Any]]]:
        """Every intact record with its file, one after the other; none is kept in memory."""
        for run_id in self.ids():
            record = self.read(run_id)
            if record is not None:
                yield self._file(run_id), record

    def put(self, record: Mapping[str, Any]) -> None:
        """Write a record and keep it in memory."""
        run_id = self.write(record)
        self._cache[run_id] = decode(content_of(self._file(run_id)), run_id)

    def write(self, record: Mapping[str, Any]) -> str:
        """Write a record and return its id; a damaged file of that name becomes `NAME.damaged`."""
        run_id = config_id(record["config"])
        path = self._file(run_id)
        if os.path.lexists(path) and self.read(run_id) is None:
            _set_aside(path)
        write_atomically(path, encode(record))
        return run_id

    def check_writable(self) -> None:
        """Raise an OSError now, before any training, if records can't be written or claimed.

        Half-written files and unheld locks that killed processes left behind are removed.
        """
        path = self.path / f".writable-{os.getpid()}"
        write_atomically(path, bytes(ROOM))
        try:
            with _open_regular(path, os.O_RDWR) as file:
                lock(file, path)
        except FileNotFoundError:  # the folder was removed meanwhile
            pass
        finally:
            path.unlink(missing_ok=True)
        for left in (*self.path.glob(".new-*"), *self.path.glob("*.lock")):
            if left.suffix == ".lock" and not _ID.fullmatch(left.stem):
                continue
            with contextlib.suppress(OSError), _open_regular(left, os.O_RDWR) as file:
                state = os.fstat(file.fileno())
                stale = state.st_size == 0 if left.suffix == ".lock" else _age(state) > STALE
                if stale and lock(file, left) and same(file, left):
                    left.unlink()

    @contextlib.contextmanager
    def claim(self, name: str) -> Iterator[bool]:
        """Hold a run or a lineage, so that no other process trains it; False if another holds it.

        The lock is the operating system's and ends with the process, however that happens.
        """
        path = self.path / f"{name}.lock"
        while True:
            self.path.mkdir(parents=True, exist_ok=True)
            try:
                file = _open_regular(path, os.O_RDWR | os.O_CREAT)
            except FileNotFoundError:
                if self.path.is_dir():
                    raise
                continue  # the folder was removed meanwhile
            except DamagedRecord as error:
                self._name(f"{path} is no lock: {error}; another command may train the same run")
                yield True
                return
            with file:
                try:
                    held = lock(file, path)
                except NoLocks:
                    _remove(path)
                    raise
                if not held:
                    yield False
                    return
                if not same(file, path):  # its last holder removed it meanwhile
                    continue
                try:
                    yield True
                finally:
                    path.unlink(missing_ok=True)
                return

    def write_failure(self, run: Run, text: str) -> Path:
        """Keep in `ID.failed` what went wrong with a run; returns the file."""
        path = self.path / f"{run.id}.failed"
        write_atomically(path, text.encode("utf-8", "replace"))
        return path

    def drop_failure(self, run: Run) -> None:
        """Forget what went wrong with a run earlier."""
        _remove(self.path / f"{run.id}.failed")

    def save_checkpoint(
        self,
        run: Run,
        arrays: Iterable[Any],
        metrics: Mapping,
        continues: Mapping | None = None,
        origin: Origin = Origin(),  # noqa: B008 (immutable)
    ) -> None:
        """Keep a run's state, for itself or a longer run of its lineage to resume from.

        Args:
            run: whose state it is.
            arrays: its variables.
            metrics: its metrics so far.
            continues: the shorter run that it continued, if any.
            origin: what trained it so far.
        """
        import numpy as np

        facts: dict[str, Any] = {"lineage": run.lineage, "run": run.id, "metrics": metrics}
        facts |= {"continues": continues, **origin._asdict()}
        named = {f"array_{i}": array for i, array in enumerate(arrays)}

        def fill(file: Any) -> None:  # without a copy: a state may be gigabytes
            file.write(bytes(DIGEST))
            np.savez(file, facts=np.array(json.dumps(facts)), **named)
            file.seek(DIGEST)
            digest = _digest(file)
            file.seek(0)
            file.write(digest)

        path = self._checkpoint(run)
        if path.is_dir():
            _set_aside(path)
        write_atomically(path, fill)

    def load_checkpoint(
        self, run: Run, fits: Callable[[list[Any]], bool], backend: str = ""
    ) -> Checkpoint | None:
        """What `save_checkpoint` kept of a run's lineage, or None if there is nothing that fits.

        Args:
            run: the run to resume.
            fits: whether the run can resume from these arrays.
            backend: Keras' backend; a state of another one does not fit. "" takes any.
        """
        path = self._checkpoint(run)
        try:
            found = _checkpoint_in(path, run)
            theirs = found.origin.backend
            other = bool(backend and theirs) and theirs != backend
            if not other and fits(found.arrays):
                return found
            what = "another version of the optimizer or the model"
            problem = f"it is from {f'the backend {theirs}' if other else what}"
        except FileNotFoundError:
            return None
        except (DamagedRecord, OSError, MemoryError) as error:
            problem = "it is too large for the memory" if isinstance(error, MemoryError) else ""
            problem = problem or str(error.strerror if isinstance(error, OSError) else error)
        self._name(f"{path} is ignored: {problem}; its run starts from the beginning")
        return None

    def drop_checkpoint(self, run: Run) -> None:
        """Remove the checkpoint of a run's lineage, once nothing will resume from it."""
        _remove(self._checkpoint(run))

    def ids(self) -> list[str]:
        """The ids of all record files, good or damaged."""
        return sorted(path.stem for path in self.path.glob("*.json") if _ID.fullmatch(path.stem))

    def forget_removed(self) -> int:
        """Forget records whose files somebody has removed meanwhile; returns how many."""
        removed = self._cache.keys() - set(self.ids())
        for run_id in removed:
            del self._cache[run_id]
        return len(removed)

    def foreign_files(self) -> list[str]:
        """A line for each file that looks like a record but isn't named after a run."""
        files = (path for path in self.path.glob("*.json") if not _ID.fullmatch(path.stem))
        return [f"{path} is ignored: it is not named after a run" for path in sorted(files)]

    def _name(self, line: str) -> None:
        if line not in self._named:
            self._named.add(line)
            self.damaged.append(line)

    def _file(self, run_id: str) -> Path:
        return self.path / f"{run_id}.json"

    def _checkpoint(self, run: Run) -> Path:
        return self.path / f"{run.lineage}.checkpoint"


def _age(state: os.stat_result) -> float:
    """Seconds since a file was changed; less than 0 if the clock was set back."""
    return time.time() - state.st_mtime


def _open_regular(path: Path | str, flags: int) -> Any:
    """Open a file without waiting; DamagedRecord if it is something else (a folder, a pipe)."""
    try:
        descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0), 0o644)
    except IsADirectoryError:
        raise DamagedRecord("it is a folder") from None
    except OSError as error:
        if error.errno in (errno.ENXIO, errno.ELOOP):
            raise DamagedRecord("it is not a file") from None
        raise
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        raise DamagedRecord("it is a folder" if stat.S_ISDIR(mode) else "it is not a file")
    return os.fdopen(descriptor, "rb" if flags == os.O_RDONLY else "rb+")


def content_of(path: Path | str, most: float = math.inf) -> bytes:
    """A file's content; DamagedRecord if it is not a file, or has more bytes than it may."""
    with _open_regular(path, os.O_RDONLY) as file:
        if (size := os.fstat(file.fileno()).st_size) > most:
            raise DamagedRecord(f"it has {size:,} bytes, far too many")
        content: bytes = file.read()
    return content


def _set_aside(path: Path) -> None:
    """Rename whatever is in a file's place to a name that is not taken."""
    for count in itertools.count(1):
        other = path.with_suffix(".damaged" if count == 1 else f".damaged-{count}")
        if not os.path.lexists(other):
            path.rename(other)
            return


def _remove(path: Path) -> None:
    """Remove a file that may not be there; a folder of that name stays."""
    with contextlib.suppress(FileNotFoundError, IsADirectoryError, PermissionError):
        path.unlink()


def _digest(file: Any) -> bytes:
    """The SHA-256 of the rest of a file."""
    digest = hashlib.sha256()
    while chunk := file.read(1 << 20):
        digest.update(chunk)
    return digest.digest()


def _checkpoint_in(path: Path, run: Run) -> Checkpoint:
    """The checkpoint in a file; DamagedRecord unless it is whole and is of the run's lineage."""
    import numpy as np

    with _open_regular(path, os.O_RDONLY) as file:
        if file.read(DIGEST) != _digest(file):
            raise DamagedRecord("it is damaged")
        try:
            with zipfile.ZipFile(file) as parts:  # ours are not packed
                packed = any(part.compress_type != zipfile.ZIP_STORED for part in parts.infolist())
            if packed:
                raise DamagedRecord("it is no checkpoint")
            file.seek(DIGEST)
            with np.load(file, allow_pickle=False) as arrays:
                values = [arrays[f"array_{i}"] for i in range(len(arrays.files) - 1)]
                facts = json.loads(str(arrays["facts"]))
            lineage, found = facts["lineage"], (facts["metrics"], facts["run"], facts["continues"])
            origin = Origin.of(facts)
        except MemoryError:
            raise
        except Exception:  # whatever NumPy, zipfile and JSON raise for bytes that are not theirs
            raise DamagedRecord("it is no checkpoint") from None
    if lineage != run.lineage:
        raise DamagedRecord("it is another run's")
    if not _are_metrics(found[0]) or not found[0].get("training_cost"):
        raise DamagedRecord("it is no checkpoint")
    return Checkpoint(values, *found, origin)


def _are_metrics(found: Any) -> bool:
    """Whether these are lists of finite numbers, all of one length, by name."""
    if not isinstance(found, dict) or not all(
        isinstance(values, list) for values in found.values()
    ):
        return False
    numbers = (
        type(value) in (int, float) and abs(value) < math.inf
        for values in found.values()
        for value in values
    )
    return len({len(values) for values in found.values()}) <= 1 and all(numbers)


def checksum(record: Mapping[str, Any]) -> str:
    """The SHA-256 of a record's content, as canonical JSON."""
    return sealed.digest_of(_body(record))


def encode(record: Mapping[str, Any]) -> bytes:
    """A record as a sealed JSON object."""
    return sealed.seal(_body(record))


def _body(record: Mapping[str, Any]) -> dict[str, Any]:
    """What of a record is stored."""
    return {"format": FORMAT, **{part: record[part] for part in PARTS}}


def decode(content: bytes, run_id: str) -> dict[str, Any]:
    """The record in `content`; raises DamagedRecord unless it is whole and is that run's."""
    try:
        record, fits = sealed.unseal(content)
        found = record["format"], config_id(record["config"])
        whole = (
            set(record) == {"format", *PARTS}
            and isinstance(record["config"], dict)
            and _are_metrics(record["metrics"])
            and record["status"] in ("finished", "diverged")
            and (type(record["diverged_at"]) is int) == (record["status"] == "diverged")
            and math.isfinite(record["manifest"]["wall_seconds"])
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError):
        raise DamagedRecord("it is not a whole record") from None
    if not fits:
        raise DamagedRecord("its checksum does not fit its content")
    if found[0] != FORMAT:
        raise DamagedRecord(f"its format is {found[0]!r}, not {FORMAT}")
    if found[1] != run_id:
        raise DamagedRecord(f"it is the record of run {found[1]}")
    if not whole:
        raise DamagedRecord("its parts are not those of a record")
    return record


def write_atomically(path: Path, content: bytes | Callable[[Any], None]) -> None:
    """Write a file whole or not at all; errors name it. `content` may be a function that writes."""
    for tried in itertools.count(1):
        try:
            _write(path, content)
        except FileNotFoundError:  # its folder, or all that is in it, was removed meanwhile
            if tried == TRIES:
                raise
        else:
            return


def _write(path: Path, content: bytes | Callable[[Any], None]) -> None:
    temporary = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            dir=path.parent, prefix=_half_written(os.getpid()), delete=False
        ) as file:
            temporary = file.name
            with contextlib.suppress(NoLocks):
                lock(file, path)  # so that no sweep removes it, whatever the clock says
            if callable(content):
                content(file)
            else:
                file.write(content)
            file.flush()
            os.fsync(file.fileno())
        # Readable by those who can use the folder: a temporary file is private to its creator.
        os.chmod(temporary, path.parent.stat().st_mode & 0o666)
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        if isinstance(error, OSError):
            raise OSError(error.errno, f"cannot write {path}: {error.strerror}") from error
        raise


def _half_written(process: int) -> str:
    """The start of the names of files that a process of this machine is writing."""
    return f".new-{platform.node()}-{process}-"


def sweep_after(process: int, folder: Path) -> None:
    """Remove what a process that has ended left half written in a folder."""
    for path in folder.glob(f"{glob.escape(_half_written(process))}*"):
        _remove(path)


def local_store() -> Store:
    """The records trained here."""
    return Store(build_folder() / "records")


class Together:
    """Several sources of records as one; the first source that has a record provides it."""

    def __init__(self, *sources: Records) -> None:
        self.sources = sources

    def get(self, run_id: str) -> dict[str, Any] | None:
        """The record of a run, or None if no source has it."""
        found = (source.get(run_id) for source in self.sources)
        return next((record for record in found if record is not None), None)
