"""The data sets' files: where they are, and whether they are intact."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from experiments.data.arrays import DataError
from experiments.data.catalogue import DATASETS, File, data_set, digest

FETCH = "`adam-study data fetch`"


@dataclass(frozen=True)
class FileStatus:
    """What is in a file's place, judged by its size alone (that of an empty file is wrong)."""

    file: File
    path: Path
    state: Literal["present", "missing", "wrong size"]
    size: int | None


def root() -> Path:
    """The folder of all data: `ADAM_TF_DATA` if set, else the user's cache folder.

    Raises:
        DataError: that is not a folder, or the home folder is unknown.
    """
    if given := os.environ.get("ADAM_TF_DATA"):
        folder = _expand(given).absolute()
    else:
        folder = _cache() / "adam_tf"
    if os.path.lexists(folder) and not os.path.isdir(folder):
        given = "ADAM_TF_DATA" if given else "the data folder"
        raise DataError(f"{given} is {folder}, which is not a folder: set ADAM_TF_DATA to a folder")
    return folder


def _cache() -> Path:
    xdg = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(xdg):  # the XDG specification says to ignore a relative one
        return Path(xdg)
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or _expand("~/AppData/Local"))
    return _expand("~/Library/Caches" if sys.platform == "darwin" else "~/.cache")


def _expand(path: str) -> Path:
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise DataError(
            f"the home folder in {path} is unknown: set ADAM_TF_DATA to a folder for the data"
        ) from error


def status(name: str) -> list[FileStatus]:
    """What is in the place of each file of the data set `name`; checks sizes, not contents."""
    folder = root()
    return [_status(folder, file) for file in data_set(name).files]


def _status(folder: Path, file: File) -> FileStatus:
    path = folder / file.path
    try:
        size = path.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        if path.is_symlink():
            raise DataError(f"{path} is a broken link: repair or delete it") from None
        return FileStatus(file, path, "missing", None)
    except OSError as error:
        raise DataError(
            f"cannot access {path} ({error.strerror or error}): set ADAM_TF_DATA to a folder that "
            "you can read"
        ) from error
    right = size == file.size or (file.size is None and size > 0)
    return FileStatus(file, path, "present" if right else "wrong size", size)


def available(name: str) -> bool:
    """Whether all files of the data set `name` are there with the right sizes."""
    return all(found.state == "present" for found in status(name))


def verify(name: str) -> None:
    """Check every byte of the data set `name`; raise `DataError` naming each bad file."""
    folder, problems = root(), []
    for file in data_set(name).files:
        try:
            content_of(folder, file, unpack=True)
        except BadFileError as error:
            problems.append(error)
    if problems:
        raise refusal(problems)


def read(file: File) -> bytes:
    """The verified content of `file`, unpacked if its name ends in .gz.

    Raises:
        DataError: it is missing, damaged or cannot be read.
    """
    try:
        return content_of(root(), file, unpack=True).data
    except BadFileError as error:
        raise refusal([error]) from error


def decoded(file: File) -> Any:
    """What `file.decode` finds in the file's verified content.

    Raises:
        DataError: it is missing, damaged or cannot be read.
    """
    try:
        return content_of(root(), file).value
    except BadFileError as error:
        raise refusal([error]) from error


CHUNK = 1 << 20
LARGEST = 256 << 20  # bytes that a file of the data sets may unpack to, and several times more


class BadFileError(Exception):
    """What is wrong with one file.

    Args:
        path: where the file is.
        file: the file.
        problem: what is wrong, to follow the path in a sentence.
        missing: whether the file is not there at all.
    """

    def __init__(self, path: Path, file: File, problem: str, missing: bool = False) -> None:
        super().__init__(f"{path} {problem}")
        self.path, self.file, self.missing = path, file, missing


class _Content(NamedTuple):
    """A file's verified bytes, and what its `decode` finds in them."""

    data: bytes
    value: Any = None


def content_of(folder: Path, file: File, unpack: bool = False) -> _Content:
    """The verified content of a file.

    Args:
        folder: the data folder.
        file: the file.
        unpack: whether to unpack a .gz file.

    Raises:
        BadFileError: it is missing, damaged or cannot be read.
    """
    found = _status(folder, file)
    path = found.path
    if found.state == "missing":
        raise BadFileError(path, file, "is missing", missing=True)
    if found.size is not None and found.size > LARGEST:
        size = f"{found.size} bytes, more than {LARGEST}"
        raise BadFileError(path, file, f"is not the original: it has {size}")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadFileError(path, file, f"cannot be read ({error.strerror or error})") from error
    if found.state == "wrong size":
        raise BadFileError(path, file, wrong_size(found.size or 0, file, data))
    if file.decode:
        try:
            value, actual, known = file.decode(data, file.path)
        except DataError as error:
            raise BadFileError(path, file, f"is damaged: {error}") from error
        if actual != file.sha256 and known != file.known:
            raise BadFileError(path, file, f"is damaged: it has {known}, not {file.known}")
        if actual != file.sha256 and not _sealed(path, data, file):
            problem = f"is damaged: the SHA-256 of its values is {actual}, not {file.sha256}"
            raise BadFileError(path, file, problem)
        return _Content(data, value)
    if problem := damage_of(data, file):
        raise BadFileError(path, file, problem)
    if unpack and file.path.endswith(".gz"):
        import gzip
        import zlib

        try:
            return _Content(gzip.decompress(data))
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise BadFileError(path, file, f"does not unpack to its end ({error})") from error
    return _Content(data)


def damage_of(data: bytes, file: File) -> str:
    """What is wrong with a file's bytes, which must be the publisher's; "" if nothing is."""
    if len(data) != file.size:
        return wrong_size(len(data), file, data)
    if (actual := digest(data)) != file.sha256:
        return f"is damaged: its SHA-256 is {actual}, not {file.sha256}"
    return ""


def seal_of(path: Path) -> Path:
    """Where to keep the SHA-256 of an original that is verified by its archive; see `File`."""
    return path.with_name(path.name + ".sha256")


def _sealed(path: Path, data: bytes, file: File) -> bool:
    """Whether `fetch` took the bytes from the publisher's archive."""
    try:
        seal = seal_of(path).read_bytes()
    except OSError:
        return False
    return seal == seal_text(path, data, file)


def seal_text(path: Path, data: bytes, file: File) -> bytes:
    """What a seal says: the file's SHA-256 as `sha256sum` writes it, then that of its archive.

    Args:
        path: where the file is.
        data: its bytes.
        file: the file.
    """
    archive = _archive(file)
    origin = f"{archive.sha256}  {archive.path}\n" if archive else ""
    return f"{digest(data)}  {path.name}\n{origin}".encode()


def wrong_size(size: int, file: File, data: bytes = b"") -> str:
    """What is wrong with a file of the wrong size, in words.

    Args:
        size: in bytes.
        file: the file.
        data: its bytes, which may tell more.
    """
    if file.size is None:
        return "is empty"
    sizes = f"{size} bytes instead of {file.size}"
    if file.path.endswith(".gz") and data:
        if not data.startswith(b"\x1f\x8b"):
            return f"is not the original: {sizes}; it is not packed by gzip, perhaps unpacked"
        if _unpacks(data):
            return f"is not the original: {sizes}; it is whole, but was packed again"
    return f"is {'truncated' if size < file.size else 'not the original'}: {sizes}"


def _unpacks(data: bytes) -> bool:
    """Whether gzip's data are intact; what they unpack to may be huge and is not kept."""
    import gzip
    import io
    import zlib

    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
            for _ in range(LARGEST // CHUNK):
                if not file.read(CHUNK):
                    return True
    except (EOFError, gzip.BadGzipFile, zlib.error):
        pass
    return False


def refusal(problems: list[BadFileError]) -> DataError:
    """One error for all bad files, with what to do about them."""
    listed = "; ".join(map(str, problems))
    if all(problem.missing for problem in problems):
        advice = f"run {FETCH}"
    else:
        advice = f"delete what is damaged and run {FETCH}"
    if archive := _archive(problems[0].file):
        advice += f", with the publisher's {archive.path} in {root()} where there is no network"
    elif os.environ.get("ADAM_TF_DATA"):
        folders = " and ".join(sorted({str(problem.path.parent) for problem in problems}))
        advice += f", or place the publisher's originals in {folders}"
    return DataError(f"{listed}: {advice}")


def _archive(file: File) -> File | None:
    """The archive that holds `file`."""
    return next((data.archive for data in DATASETS.values() if file in data.files), None)
