"""Getting a data set: the choice between real data and a stand-in, mirrors, archives.

pooch and requests are imported by `fetch` alone.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.data.arrays import DataError
from experiments.data.catalogue import NONE, File, data_set, stand_in
from experiments.data.files import (
    FETCH,
    BadFileError,
    content_of,
    damage_of,
    refusal,
    root,
    seal_of,
    seal_text,
    status,
    wrong_size,
)
from experiments.options import known

if TYPE_CHECKING:
    import queue


POLICIES = ("auto", "real", "stand-in")
CONNECT_TIMEOUT = 5.0
READ_TIMEOUT = 20.0


class DownloadError(DataError):
    """A missing file could not be downloaded or stored."""


@dataclass(frozen=True)
class Choice:
    """The kind of data to use (a data set's name or its stand-in's) and why."""

    kind: str
    reason: str


def choose(name: str, policy: str, *, download: bool = True) -> Choice:
    """Decide between the data set `name` and its stand-in.

    Args:
        name: a key of `DATASETS`, or `NONE`, which is always there.
        policy: "real" (downloaded if missing; an error if that fails), "stand-in", or "auto" (real
            if it is there or can be downloaded, else the stand-in, with the reason).
        download: with `False`, missing data are reported as to be downloaded; no network is used.

    Raises:
        DataError: a file has the wrong size or, where others are missing, the wrong content;
            under "real", also when the download fails.
    """
    known("data policy", policy, POLICIES)
    if name == NONE:
        return Choice(NONE, "needs no data")
    data_set(name)
    if policy == "stand-in":
        return Choice(stand_in(name), "asked for")
    found = status(name)
    if wrong := [f for f in found if f.state == "wrong size"]:
        raise refusal(
            [BadFileError(f.path, f.file, wrong_size(f.size or 0, f.file)) for f in wrong]
        )
    if all(f.state == "present" for f in found):
        return Choice(name, f"found in {root()}")
    if not download:
        return Choice(name, "missing; will be downloaded")
    try:
        fetch(name)
    except DownloadError as error:
        if policy == "real":
            raise
        return Choice(stand_in(name), str(error))
    return Choice(name, f"downloaded to {root()}")


def fetch(name: str, progress: bool = True) -> list[Path]:
    """Download what the data set `name` lacks, verify all of it, and return the files' paths.

    A damaged file is refused, never replaced. A broken download leaves nothing under the final
    name. With `progress`, standard error shows a bar, or a line per file if it is not a terminal.

    Raises:
        DownloadError: no mirror provided a missing file, or it could not be stored.
        DataError: a file that is there is damaged.
    """
    data, folder = data_set(name), root()
    missing: list[File] = []
    damaged: list[BadFileError] = []
    for file in data.files:
        try:
            content_of(folder, file)
        except BadFileError as error:
            if error.missing:
                missing.append(file)
            else:
                damaged.append(error)
    if damaged:
        raise refusal(damaged)
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
                content_of(folder, archive)
                packed = path
            parts = {file.path: Path(place) / f"part-{n}" for n, file in enumerate(files)}
            with tarfile.open(packed) as tar:
                for info in tar:  # one pass only: finding a member may unpack all before it
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
    except BadFileError as error:
        raise refusal([error]) from error
    except (EOFError, KeyError, tarfile.TarError, zlib.error) as error:
        raise DataError(f"{archive.path} does not hold what it should: {error}") from error
    except OSError as error:
        raise _unwritable(path, error) from error


def _finish(part: Path, file: File, folder: Path) -> None:
    """Give a finished download its final name, unless another process was faster."""
    path = folder / file.path
    data = part.read_bytes()
    mode = path.parent.stat().st_mode & 0o666  # readable by those who can use the folder
    if file.decode:  # a member of a verified archive, so the publisher's, whatever it says
        try:
            decoded = file.decode(data, file.path)
        except DataError as error:
            raise DataError(f"{path} was not written: {error}") from error
        if decoded.sha256 != file.sha256 and decoded.known != file.known:
            raise DataError(f"{path} was not written: it has {decoded.known}, not {file.known}")
        if decoded.sha256 != file.sha256:
            seal = part.with_name("seal")
            seal.write_bytes(seal_text(path, data, file))
            seal.chmod(mode)
            os.replace(seal, seal_of(path))
    elif problem := damage_of(data, file):
        raise DataError(f"{path} was not written: what was downloaded {problem}")
    if path.exists():
        try:
            content_of(folder, file)
        except BadFileError as error:
            raise refusal([error]) from error
        return
    part.chmod(mode)
    os.replace(part, path)


def _unwritable(path: Path, error: OSError) -> DownloadError:
    return DownloadError(
        f"cannot store {path} ({error.strerror or error}): "
        "set ADAM_TF_DATA to a folder that can be written, or place the file there by hand"
    )


class _MirrorError(Exception):
    """Why a mirror did not provide a file, and whether it is down for other files, too."""

    def __init__(self, reason: str, down: bool = False) -> None:
        super().__init__(reason)
        self.down = down


class _Mirrors:
    """The mirrors of some files. All are called at once, so a missing network shows quickly."""

    def __init__(self, files: list[File], folder: Path) -> None:
        """Call them; raise `DownloadError` if none of the first file's mirrors answers."""
        import queue
        import threading
        import time

        import requests  # noqa: F401  # not within the threads' time

        self.folder = folder
        sites = {_site(url): url for file in files for url in file.urls}
        answers: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()
        for site, url in sites.items():
            # Looking up a host name has no timeout of its own: a hanging thread is left behind.
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
        """Download a file from the first mirror that has it.

        Args:
            file: what to download.
            place: the folder to download into.
            progress: as in `fetch`.

        Raises:
            DownloadError: no mirror provides it.
        """
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
        """The error for a file that no mirror provides."""
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

    from experiments.bar import Bar

    terminal, size = sys.stderr.isatty(), file.size or 0
    if progress and not terminal:
        print(f"downloading {file.path} ({size} bytes) from {_site(url)}", file=sys.stderr)

    def stream(url: str, output: str, _: object) -> None:
        # Some servers label a .gz file as compressed in transfer. Take the bytes as they are sent;
        # neither pooch's own downloader nor the usual ways of requests do.
        headers, timeout = {"Accept-Encoding": "identity"}, (CONNECT_TIMEOUT, READ_TIMEOUT)
        with (
            requests.get(url, headers=headers, timeout=timeout, stream=True) as response,
            open(output, "wb") as out,
            Bar(
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
    """The message of the innermost of a chain of network errors, on one line."""
    while inner := error.__cause__ or error.__context__:
        error = inner
    said = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(said).split())
