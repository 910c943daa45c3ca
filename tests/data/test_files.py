"""The data layer: files, downloads, archives; MNIST and its stand-in."""

from __future__ import annotations

import dataclasses
import errno
import gzip
import hashlib
import http.server
import io
import os
import socket
import struct
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from originals import REAL, needs, one_line, put

from experiments.data import catalogue, download, files, mnist, standins
from experiments.data.arrays import DataError, Decoded
from experiments.data.catalogue import DATASETS, DataSet, File
from experiments.data.download import Choice, DownloadError

real_mnist = needs("mnist")


def described(path: str, content: bytes, *urls: str) -> File:
    return File(path, len(content), hashlib.sha256(content).hexdigest(), urls)


A = gzip.compress(b"first " * 1000, mtime=0)
B = b"second " * 30000
# What a mirror calls a file, where that is not its name.
MIRRORED_AS = {"tinyshakespeare/input.txt": "shakespeare.txt"}
TOY = (described("toy/a.gz", A), described("toy/b", B))


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def use(monkeypatch, *toy: File, archive: File | None = None) -> None:
    data = DataSet("toy", "nobody", "none", toy, archive)
    monkeypatch.setitem(DATASETS, "toy", data)


@pytest.fixture
def toy(monkeypatch):
    use(monkeypatch, *TOY)


def contents(folder: Path) -> dict[str, bytes]:
    """All files below a folder, hidden and unfinished ones included."""
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


class Server:
    """A web server on this machine: `pages` maps paths to (status, headers, body)."""

    def __init__(self) -> None:
        self.pages: dict[str, tuple[int, dict[str, str], bytes]] = {}
        self.asked: list[str] = []
        pages, asked = self.pages, self.asked

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                asked.append(self.path)
                status, headers, body = pages.get(self.path, (404, {}, b"no"))
                self.send_response(status)
                for key, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(key, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.01,))
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.http.server_port}"

    def serve(self, path: str, body: bytes, status: int = 200, **headers: str) -> str:
        self.pages[path] = (status, {k.replace("_", "-"): v for k, v in headers.items()}, body)
        return self.url + path

    def close(self) -> None:
        self.http.shutdown()
        self.thread.join()
        self.http.server_close()


@pytest.fixture
def server():
    server = Server()
    yield server
    server.close()


second_server = server


@pytest.fixture
def nobody():
    """The address of a port that refuses connections."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


# --- The table ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DATASETS)
def test_every_data_set_is_described_completely(name):
    data = DATASETS[name]
    assert data.name == name
    assert data.citation
    assert data.licence
    for file in (*data.files, *([data.archive] if data.archive else [])):
        assert (file.size is None) == (file.decode is not None)
        assert file.size is None or file.size > 0
        assert len(file.sha256) == 64
        assert set(file.sha256) <= set("0123456789abcdef")
        assert not Path(file.path).is_absolute()
    for file in [data.archive] if data.archive else data.files:
        assert len(set(file.urls)) >= 2, "a mirror is down sooner or later"
        names = {Path(file.path).name, MIRRORED_AS.get(file.path)}
        assert all(url.rpartition("/")[2] in names for url in file.urls)
    assert catalogue.stand_in(name) in catalogue.STAND_INS


def test_data_sets_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        DATASETS["mnist"].name = "other"  # type: ignore[misc]


def test_fingerprints_are_stable():
    # They are part of the run ids: a change here sets all records aside.
    assert catalogue.fingerprint("mnist") == DATASETS["mnist"].fingerprint == "e9200ba420443779"
    assert catalogue.fingerprint("mnist-stand-in") == "stand-in-digits-1"
    assert catalogue.fingerprint("imdb") == "7def6082e482855d"
    assert catalogue.fingerprint("imdb-stand-in") == "stand-in-reviews-1"
    assert catalogue.fingerprint("cifar10") == "2e2ad08bbdbba01d"
    assert catalogue.fingerprint("cifar10-stand-in") == "stand-in-shapes-1"
    assert catalogue.fingerprint("tinyshakespeare") == "681e82c1ad2f513b"
    assert catalogue.fingerprint("tinyshakespeare-stand-in") == "stand-in-speeches-1"


def test_fingerprint_follows_the_content():
    data = DATASETS["mnist"]
    changed = dataclasses.replace(data.files[0], sha256="0" * 64)
    other = dataclasses.replace(data, files=(changed, *data.files[1:]))
    assert other.fingerprint != data.fingerprint
    moved = dataclasses.replace(data.files[0], urls=("http://elsewhere",))
    same = dataclasses.replace(data, files=(moved, *data.files[1:]))
    assert same.fingerprint == data.fingerprint


@pytest.mark.parametrize(
    "call",
    [catalogue.fingerprint, files.status, files.verify, download.fetch, catalogue.is_stand_in],
)
def test_unknown_data_set(call):
    with pytest.raises(ValueError, match=r"unknown data set 'mnits'.*mnist"):
        call("mnits")


def test_is_stand_in():
    assert catalogue.is_stand_in("mnist-stand-in")
    assert not catalogue.is_stand_in("mnist")


def test_import_and_planning_load_no_heavy_module(tmp_path):
    code = (
        "import sys\n"
        "from experiments.data import catalogue, download, files\n"
        "for name in catalogue.DATASETS:\n"
        "    assert download.choose(name, 'auto', download=False).reason.startswith('missing')\n"
        "    catalogue.fingerprint(name), files.status(name)\n"
        "print({'numpy', 'pooch', 'requests', 'sklearn', 'tqdm', 'keras'} & set(sys.modules))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "ADAM_TF_DATA": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.strip() == "set()"


# --- The folder --------------------------------------------------------------------------------


def test_root_is_the_variable(monkeypatch, tmp_path):
    monkeypatch.setenv("ADAM_TF_DATA", str(tmp_path))
    assert files.root() == tmp_path


def test_root_expands_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.setenv("ADAM_TF_DATA", "~/data")
    assert files.root() == tmp_path / "data"


def test_root_is_absolute(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ADAM_TF_DATA", "data")
    assert files.root() == tmp_path / "data"


def test_root_refuses_a_file(monkeypatch, tmp_path):
    monkeypatch.setenv("ADAM_TF_DATA", str(put(tmp_path, "file", b"")))
    with pytest.raises(DataError, match=r"ADAM_TF_DATA is .*file, which is not a folder"):
        files.root()


@pytest.mark.parametrize("unset", [None, ""])
@pytest.mark.parametrize(
    ("platform", "variables", "expected"),
    [
        ("linux", {}, "{home}/.cache/adam_tf"),
        ("linux", {"XDG_CACHE_HOME": "{home}/xdg"}, "{home}/xdg/adam_tf"),
        ("linux", {"XDG_CACHE_HOME": "relative"}, "{home}/.cache/adam_tf"),
        ("darwin", {}, "{home}/Library/Caches/adam_tf"),
        ("win32", {"LOCALAPPDATA": "{home}/local"}, "{home}/local/adam_tf"),
        ("win32", {}, "{home}/AppData/Local/adam_tf"),
    ],
)
def test_root_is_the_cache_folder(monkeypatch, tmp_path, unset, platform, variables, expected):
    if unset is None:
        monkeypatch.delenv("ADAM_TF_DATA")
    else:
        monkeypatch.setenv("ADAM_TF_DATA", unset)
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value.format(home=tmp_path))
    assert files.root() == Path(expected.format(home=tmp_path))


def test_root_without_a_home_says_what_to_set(monkeypatch):
    monkeypatch.setenv("ADAM_TF_DATA", "~no-such-user-here/data")
    with pytest.raises(DataError, match="set ADAM_TF_DATA"):
        files.root()


def test_a_folder_that_cannot_be_looked_at(toy, folder):
    folder.mkdir()
    (folder / "toy").symlink_to(folder / "toy")  # as another user's home
    with pytest.raises(DataError, match=r"cannot access .*: set ADAM_TF_DATA to a folder"):
        files.status("toy")


# --- What is there -----------------------------------------------------------------------------


def test_status(toy, folder):
    assert [f.state for f in files.status("toy")] == ["missing", "missing"]
    assert not files.available("toy")
    put(folder, "toy/a.gz", A)
    put(folder, "toy/b", B[:-1])
    first, second = files.status("toy")
    assert (first.state, first.size, first.file.size) == ("present", len(A), len(A))
    assert first.path == folder / "toy/a.gz"
    assert (second.state, second.size) == ("wrong size", len(B) - 1)
    assert not files.available("toy")
    put(folder, "toy/b", B)
    assert files.available("toy")


def test_status_where_a_file_takes_the_folders_place(toy, folder):
    put(folder, "toy", b"")
    assert [f.state for f in files.status("toy")] == ["missing", "missing"]


def test_a_broken_link_is_named(toy, folder):
    (folder / "toy").mkdir(parents=True)
    (folder / "toy/b").symlink_to(folder / "nowhere")
    with pytest.raises(DataError, match=r"toy/b is a broken link"):
        files.status("toy")
    with pytest.raises(DataError, match=r"toy/b is a broken link"):
        download.choose("toy", "auto")


def test_links_are_followed(toy, folder, tmp_path):
    put(folder, "toy/a.gz", A)
    (folder / "toy/b").symlink_to(put(tmp_path, "store/b", B))
    files.verify("toy")


def test_verify_accepts_the_originals(toy, folder):
    put(folder, "toy/a.gz", A)
    put(folder, "toy/b", B)
    files.verify("toy")


def test_verify_names_every_bad_file(toy, folder):
    flipped = bytes([A[0], A[1] ^ 1]) + A[2:]
    put(folder, "toy/a.gz", flipped)
    put(folder, "toy/b", B[:7])
    with pytest.raises(DataError) as error:
        files.verify("toy")
    text = one_line(error)
    actual = hashlib.sha256(flipped).hexdigest()
    assert f"{folder}/toy/a.gz is damaged: its SHA-256 is {actual}, not {TOY[0].sha256}" in text
    assert f"{folder}/toy/b is truncated: 7 bytes instead of {len(B)}" in text
    assert "delete what is damaged and run `adam-study data fetch`" in text
    assert f"place the publisher's originals in {folder}/toy" in text


def test_verify_names_missing_files(toy, folder, monkeypatch, tmp_path):
    put(folder, "toy/a.gz", A)
    with pytest.raises(DataError) as error:
        files.verify("toy")
    text = one_line(error)
    assert f"{folder}/toy/b is missing: run `adam-study data fetch`" in text
    assert "a.gz" not in text
    assert "delete" not in text
    monkeypatch.delenv("ADAM_TF_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(DataError) as error:
        files.verify("toy")
    assert one_line(error).endswith("toy/b is missing: run `adam-study data fetch`")


def test_verify_recognises_an_unpacked_file(toy, folder):
    put(folder, "toy/a.gz", gzip.decompress(A))
    put(folder, "toy/b", B)
    with pytest.raises(DataError, match=r"6000 bytes instead of \d+; it is not packed by gzip"):
        files.verify("toy")


@pytest.mark.parametrize("level", [1, 9])
def test_verify_recognises_a_file_that_was_packed_anew(toy, folder, level):
    data = gzip.compress(gzip.decompress(A), level, mtime=1) + gzip.compress(b"")
    assert len(data) != len(A)
    put(folder, "toy/a.gz", data)
    put(folder, "toy/b", B)
    message = f"is not the original: {len(data)} bytes instead of {len(A)}; it is whole, but was"
    with pytest.raises(DataError, match=message):
        files.verify("toy")


def test_verify_recognises_a_cut_archive(toy, folder):
    put(folder, "toy/a.gz", A[:-20])
    put(folder, "toy/b", B)
    with pytest.raises(DataError, match=f"a.gz is truncated: {len(A) - 20} bytes instead of"):
        files.verify("toy")


def test_verify_unpacks_to_the_end(folder, monkeypatch):
    # The hash is that of the cut file: only unpacking can tell.
    use(monkeypatch, described("toy/a.gz", A[:-9]))
    put(folder, "toy/a.gz", A[:-9])
    with pytest.raises(DataError, match=r"toy/a.gz does not unpack to its end"):
        files.verify("toy")


def test_an_unreadable_file_is_named(toy, folder, monkeypatch):
    put(folder, "toy/a.gz", A)
    put(folder, "toy/b", B)

    def refuse(path):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(DataError, match=r"toy/b cannot be read \(Permission denied\)"):
        files.verify("toy")


# --- Downloads ---------------------------------------------------------------------------------


def serve_toy(server: Server, monkeypatch, *mirrors: str) -> None:
    """The toy data set at the server, and before it at other addresses."""
    toy = []
    for file, content in zip(TOY, (A, B), strict=True):
        urls = (*(f"{mirror}/{file.path}" for mirror in mirrors), f"{server.url}/{file.path}")
        server.serve(f"/{file.path}", content)
        toy.append(dataclasses.replace(file, urls=urls))
    use(monkeypatch, *toy)


def test_fetch(server, folder, monkeypatch, capfd):
    serve_toy(server, monkeypatch)
    assert download.fetch("toy") == [folder / "toy/a.gz", folder / "toy/b"]
    assert contents(folder) == {"toy/a.gz": A, "toy/b": B}
    out, err = capfd.readouterr()
    assert out == ""
    # No terminal: a line for each file.
    assert [line.split()[:2] for line in err.splitlines()] == [
        ["downloading", "toy/a.gz"],
        ["downloading", "toy/b"],
    ]
    assert len(server.asked) == 2
    download.fetch("toy")
    assert len(server.asked) == 2


def test_fetch_is_silent_when_asked(server, folder, monkeypatch, capfd):
    serve_toy(server, monkeypatch)
    download.fetch("toy", progress=False)
    assert capfd.readouterr() == ("", "")


def test_fetch_shows_a_bar_on_a_terminal(server, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    serve_toy(server, monkeypatch)
    monkeypatch.setattr(sys, "stderr", Terminal())
    download.fetch("toy")
    shown = sys.stderr.getvalue()
    assert "toy/b: 100%" in shown
    assert "downloading" not in shown


def test_fetch_only_what_is_missing(server, folder, monkeypatch):
    serve_toy(server, monkeypatch)
    kept = put(folder, "toy/a.gz", A)
    os.utime(kept, (1, 1))
    download.fetch("toy", progress=False)
    assert server.asked == ["/toy/b"]
    assert kept.stat().st_mtime == 1


def test_fetched_files_are_as_readable_as_their_folder(server, folder, monkeypatch):
    serve_toy(server, monkeypatch)
    (folder / "toy").mkdir(parents=True)
    (folder / "toy").chmod(0o755)
    paths = download.fetch("toy", progress=False)
    assert [path.stat().st_mode & 0o777 for path in paths] == [0o644, 0o644]


@pytest.mark.parametrize("damaged", [A[:-1], A[:-1] + b"x", A + b"x", b""])
def test_fetch_refuses_to_replace_a_damaged_file(server, folder, monkeypatch, damaged):
    serve_toy(server, monkeypatch)
    put(folder, "toy/a.gz", damaged)
    with pytest.raises(DataError, match=r"toy/a.gz is ") as error:
        download.fetch("toy")
    assert not isinstance(error.value, DownloadError)
    one_line(error)
    assert contents(folder) == {"toy/a.gz": damaged}
    assert server.asked == []


def test_fetch_takes_files_as_they_are_sent(server, folder, monkeypatch):
    """Some servers declare a .gz file as a compressed transfer of an unpacked one."""
    serve_toy(server, monkeypatch)
    server.serve("/toy/a.gz", A, Content_Encoding="x-gzip")
    download.fetch("toy", progress=False)
    assert contents(folder)["toy/a.gz"] == A


def test_fetch_follows_redirections(server, folder, monkeypatch):
    serve_toy(server, monkeypatch)
    server.serve("/moved", A)
    server.serve("/toy/a.gz", b"", status=302, Location="/moved")
    download.fetch("toy", progress=False)
    assert contents(folder)["toy/a.gz"] == A


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({"body": B[:-1] + b"x"}, "another file, its SHA-256 differs"),
        ({"body": B + b"x"}, f"another file, longer than {len(B)} bytes"),
        ({"body": B[:1000]}, f"broke off after 1000 of {len(B)} bytes"),
        ({"body": B[:1000], "Content_Length": str(len(B))}, "1000 bytes read"),
        ({"body": b"no", "status": 404}, "HTTP 404 Not Found"),
        ({"body": b"no", "status": 503}, "HTTP 503 Service Unavailable"),
        ({"body": b"<html>log in</html>"}, f"broke off after 19 of {len(B)} bytes"),
    ],
)
def test_the_next_mirror_is_tried(server, second_server, folder, monkeypatch, answer, reason):
    good = second_server.serve("/b", B)
    bad = server.serve("/b", **answer)
    use(monkeypatch, described("toy/b", B, bad, good))
    download.fetch("toy", progress=False)
    assert contents(folder) == {"toy/b": B}
    assert (server.asked, second_server.asked) == (["/b"], ["/b"])

    (folder / "toy/b").unlink()
    use(monkeypatch, described("toy/b", B, bad))
    with pytest.raises(DownloadError) as error:
        download.fetch("toy", progress=False)
    text = one_line(error)
    assert "cannot download toy/b" in text
    assert reason in text
    assert f"place the file by hand at {folder}/toy/b" in text
    assert contents(folder) == {}


def test_a_refused_connection(server, nobody, folder, monkeypatch):
    serve_toy(server, monkeypatch, nobody)
    download.fetch("toy", progress=False)
    assert files.available("toy")


def test_no_mirror_answers(nobody, folder, monkeypatch):
    use(monkeypatch, described("toy/a.gz", A, f"{nobody}/a"), described("toy/b", B, f"{nobody}/b"))
    with pytest.raises(DownloadError, match=r"toy/a.gz.*Connection refused") as error:
        download.fetch("toy")
    assert "toy/b" not in one_line(error)
    assert not folder.exists(), "a failed download made a folder"


def test_no_mirror_is_known(folder, toy):
    with pytest.raises(DownloadError, match="no mirror is known"):
        download.fetch("toy")


def test_no_network_is_noticed_quickly(monkeypatch):
    """Looking up a name or connecting may hang for minutes."""
    monkeypatch.setattr(download, "CONNECT_TIMEOUT", 0.2)
    hang = threading.Event()

    def call(*_, **__):
        hang.wait(20)
        raise TimeoutError("timed out")

    monkeypatch.setattr(socket, "create_connection", call)
    start = time.monotonic()
    try:
        with pytest.raises(DownloadError, match=r"no answer within 0.2 s"):
            download.fetch("mnist")
        assert time.monotonic() - start < 3
    finally:
        hang.set()


def test_one_hanging_mirror_does_not_stop_the_others(server, folder, monkeypatch):
    monkeypatch.setattr(download, "CONNECT_TIMEOUT", 0.3)
    hang = threading.Event()
    connect = socket.create_connection

    def call(address, *args, **kwargs):
        if address[0] == "127.0.0.2":
            hang.wait(20)
            raise TimeoutError("timed out")
        return connect(address, *args, **kwargs)

    monkeypatch.setattr(socket, "create_connection", call)
    serve_toy(server, monkeypatch, "http://127.0.0.2:9")
    try:
        download.fetch("toy", progress=False)
    finally:
        hang.set()
    assert files.available("toy")


def test_a_mirror_that_falls_silent_is_given_up(server, folder, monkeypatch):
    monkeypatch.setattr(download, "READ_TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        serve_toy(server, monkeypatch, f"http://127.0.0.1:{mute.getsockname()[1]}")
        start = time.monotonic()
        download.fetch("toy", progress=False)
        assert time.monotonic() - start < 3
    assert files.available("toy")


def test_a_proxy_is_called_in_the_mirrors_place(server, folder, monkeypatch):
    monkeypatch.setenv("http_proxy", server.url)
    monkeypatch.setenv("no_proxy", "")
    url = "http://mirror.invalid/b"
    server.serve(url, B)
    use(monkeypatch, described("toy/b", B, url))
    download.fetch("toy", progress=False)
    assert contents(folder) == {"toy/b": B}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk(server, second_server, folder, monkeypatch):
    import contextlib

    import pooch.core

    @contextlib.contextmanager
    def full(path=None):
        yield "/dev/full"

    monkeypatch.setattr(pooch.core, "temporary_file", full)
    use(
        monkeypatch,
        described("toy/b", B, server.serve("/b", B), second_server.serve("/b", B)),
    )
    with pytest.raises(DownloadError) as error:
        download.fetch("toy", progress=False)
    text = one_line(error)
    assert f"cannot store {folder}/toy/b (No space left on device)" in text
    assert "set ADAM_TF_DATA" in text
    assert second_server.asked == [], "another mirror does not empty the disk"
    assert contents(folder) == {}


def test_a_read_only_folder(server, folder, monkeypatch):
    serve_toy(server, monkeypatch)
    (folder / "toy").mkdir(parents=True)

    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(tempfile, "mkdtemp", refuse)
    with pytest.raises(DownloadError, match=r"cannot store .*toy/a.gz \(Permission denied\)"):
        download.fetch("toy")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="all folders obey this user")
def test_a_folder_without_write_permission(server, folder, monkeypatch):
    serve_toy(server, monkeypatch)
    (folder / "toy").mkdir(parents=True)
    (folder / "toy").chmod(0o555)
    with pytest.raises(DownloadError, match=r"cannot store .*toy/a.gz \(Permission denied\)"):
        download.fetch("toy")


def test_a_file_in_the_folders_place(server, folder, monkeypatch):
    serve_toy(server, monkeypatch)
    put(folder, "toy", b"mine")
    with pytest.raises(DownloadError, match=r"cannot store .*toy/a.gz"):
        download.fetch("toy")
    assert contents(folder) == {"toy": b"mine"}


@pytest.mark.parametrize("content", [B, B[:-1] + b"x"])
def test_another_process_is_faster(server, folder, monkeypatch, content):
    """A file that appears during the download is kept, and refused if it is damaged."""
    serve_toy(server, monkeypatch)
    original = download._download

    def slow(file, url, place, progress):
        part = original(file, url, place, progress)
        if file.path == "toy/b":
            put(folder, "toy/b", content)
        return part

    monkeypatch.setattr(download, "_download", slow)
    if content == B:
        download.fetch("toy", progress=False)
    else:
        with pytest.raises(DataError, match="toy/b is damaged"):
            download.fetch("toy", progress=False)
    assert contents(folder) == {"toy/a.gz": A, "toy/b": content}


def test_an_interruption_leaves_nothing(server, folder, monkeypatch):
    import pooch

    def interrupt(*_, path, **__):
        (Path(path) / "part").write_bytes(b"half")
        raise KeyboardInterrupt

    serve_toy(server, monkeypatch)
    monkeypatch.setattr(pooch, "retrieve", interrupt)
    with pytest.raises(KeyboardInterrupt):
        download.fetch("toy", progress=False)
    assert contents(folder) == {}


# --- Data sets that come in an archive ---------------------------------------------------------


def tar(**members: bytes) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(f"toy/{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return packed.getvalue()


@pytest.mark.parametrize("by_hand", [False, True])
def test_fetch_from_an_archive(server, folder, monkeypatch, by_hand):
    packed = tar(readme=b"not wanted", **{"a.gz": A, "b": B})
    archive = described("toy.tar.gz", packed, server.serve("/toy.tar.gz", packed))
    use(monkeypatch, *TOY, archive=archive)
    kept = put(folder, "toy/a.gz", A)
    os.utime(kept, (1, 1))
    if by_hand:
        put(folder, "toy.tar.gz", packed)
    assert download.fetch("toy", progress=False) == [folder / "toy/a.gz", folder / "toy/b"]
    expected = {"toy/a.gz": A, "toy/b": B} | ({"toy.tar.gz": packed} if by_hand else {})
    assert contents(folder) == expected
    assert kept.stat().st_mtime == 1
    assert len(server.asked) == (not by_hand)


@pytest.mark.parametrize(
    "content",
    [
        tar(b=B),
        tar(b=B[:-1], **{"a.gz": A}),
        tar(b=B, **{"a.gz": A})[:-20],
        b"no archive",
        b"",
    ],
)
def test_a_wrong_archive(server, folder, monkeypatch, content):
    archive = described("toy.tar.gz", content, server.serve("/toy.tar.gz", content))
    use(monkeypatch, *TOY, archive=archive)
    with pytest.raises(DataError, match=r"toy.tar.gz does not hold|toy/b was not written"):
        download.fetch("toy", progress=False)
    assert set(contents(folder)) <= {"toy/a.gz"}


def test_a_damaged_archive_is_refused(server, folder, monkeypatch):
    packed = tar(b=B, **{"a.gz": A})
    archive = described("toy.tar.gz", packed, server.serve("/toy.tar.gz", packed))
    use(monkeypatch, *TOY, archive=archive)
    put(folder, "toy.tar.gz", packed[:-1])
    with pytest.raises(DataError, match=r"toy.tar.gz is truncated"):
        download.fetch("toy", progress=False)
    assert contents(folder) == {"toy.tar.gz": packed[:-1]}
    assert server.asked == []


# --- Files that say the same in several forms ---------------------------------------------------


def numbers(data: bytes, source: str) -> Decoded:
    """A set of numbers, of which only those below 100 count."""
    try:
        found = sorted(int(word) for word in data.split() if int(word) < 100)
    except ValueError as error:
        raise DataError(f"{source} holds no numbers") from error
    return Decoded(found, hashlib.sha256(str(found).encode()).hexdigest())


PINNED = File("toy/n", None, numbers(b"1 2 3", "").sha256, decode=numbers)
ORIGINAL = b"1 2 4 105\n"  # the publisher's, which differs from what is pinned


@pytest.mark.parametrize("form", [b"1 2 3", b"3\n2\n1\n", b"2 3 105 1"])
def test_any_form_of_the_same_content(folder, monkeypatch, form):
    use(monkeypatch, PINNED)
    assert [f.state for f in files.status("toy")] == ["missing"]
    put(folder, "toy/n", form)
    (found,) = files.status("toy")
    assert (found.state, found.size, found.file.size) == ("present", len(form), None)
    files.verify("toy")
    assert download.fetch("toy") == [folder / "toy/n"]
    assert files.decoded(PINNED) == [1, 2, 3]
    assert files.read(PINNED) == form
    assert download.choose("toy", "real").kind == "toy"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"1 2", "damaged: the SHA-256 of its values is [0-9a-f]{64}, not " + PINNED.sha256),
        (ORIGINAL, "damaged: the SHA-256 of its values is [0-9a-f]{64}, not [0-9a-f]{64}"),
        (b"1 2 x", "damaged: toy/n holds no numbers"),
        (b"", "empty"),
    ],
)
def test_another_content_is_refused(folder, monkeypatch, content, problem):
    archive = File("toy.tar.gz", 1, "0" * 64)
    use(monkeypatch, PINNED, archive=archive)
    put(folder, "toy/n", content)
    advice = f"the publisher's toy.tar.gz in {folder}"
    for call in (files.verify, download.fetch, lambda _: files.decoded(PINNED)):
        with pytest.raises(DataError, match=rf"toy/n is {problem}: delete.*{advice}") as error:
            call("toy")
        one_line(error)
    assert contents(folder) == {"toy/n": content}


def test_an_empty_file_is_not_there(folder, monkeypatch):
    use(monkeypatch, PINNED)
    put(folder, "toy/n", b"")
    assert [f.state for f in files.status("toy")] == ["wrong size"]
    with pytest.raises(DataError, match="toy/n is empty: delete"):
        download.choose("toy", "auto")


def test_a_missing_file_of_an_archive(folder, monkeypatch):
    use(monkeypatch, PINNED, archive=File("toy.tar.gz", 1, "0" * 64))
    with pytest.raises(DataError) as error:
        files.verify("toy")
    assert one_line(error) == (
        f"{folder}/toy/n is missing: run `adam-study data fetch`, with the publisher's "
        f"toy.tar.gz in {folder} where there is no network"
    )


def test_the_archive_tells_the_publishers_original(server, folder, monkeypatch):
    packed = tar(n=ORIGINAL)
    archive = described("toy.tar.gz", packed, server.serve("/toy.tar.gz", packed))
    use(monkeypatch, PINNED, archive=archive)
    (folder / "toy").mkdir(parents=True)
    (folder / "toy").chmod(0o755)
    download.fetch("toy", progress=False)
    own = f"{hashlib.sha256(ORIGINAL).hexdigest()}  n\n".encode()  # what `sha256sum n` prints
    seal = own + f"{archive.sha256}  toy.tar.gz\n".encode()
    assert contents(folder) == {"toy/n": ORIGINAL, "toy/n.sha256": seal}
    assert {path.stat().st_mode & 0o777 for path in (folder / "toy").iterdir()} == {0o644}
    files.verify("toy")
    download.fetch("toy")
    assert files.decoded(PINNED) == [1, 2, 4]

    put(folder, "toy/n", ORIGINAL[:-2])
    with pytest.raises(DataError, match="toy/n is damaged"):
        files.verify("toy")
    put(folder, "toy/n", ORIGINAL)
    for other in (own, seal[:-9], seal.replace(archive.sha256.encode(), b"0" * 64)):
        put(folder, "toy/n.sha256", other)
        with pytest.raises(DataError, match="toy/n is damaged"):
            files.verify("toy")


def test_pinned_content_from_an_archive_needs_no_seal(server, folder, monkeypatch):
    packed = tar(n=b"3 2 1 200")
    use(
        monkeypatch,
        PINNED,
        archive=described("toy.tar.gz", packed, server.serve("/toy.tar.gz", packed)),
    )
    download.fetch("toy", progress=False)
    assert contents(folder) == {"toy/n": b"3 2 1 200"}
    files.verify("toy")


def test_an_archive_of_something_else(server, folder, monkeypatch):
    packed = tar(n=b"one two three")
    use(
        monkeypatch,
        PINNED,
        archive=described("toy.tar.gz", packed, server.serve("/toy.tar.gz", packed)),
    )
    with pytest.raises(DataError, match="toy/n was not written: toy/n holds no numbers") as error:
        download.fetch("toy", progress=False)
    one_line(error)
    assert contents(folder) == {}


# --- Real data or the stand-in -----------------------------------------------------------------


@pytest.fixture
def forbidden(monkeypatch):
    """No call may reach the network."""

    def refuse(*_, **__):
        raise AssertionError("the network was used")

    monkeypatch.setattr(download, "fetch", refuse)


def test_choose_the_stand_in(toy, folder, forbidden):
    put(folder, "toy/a.gz", b"damaged, but nobody asked")
    assert download.choose("toy", "stand-in") == Choice("toy-stand-in", "asked for")


@pytest.mark.parametrize("policy", ["auto", "real"])
def test_choose_what_is_there(toy, folder, forbidden, policy):
    put(folder, "toy/a.gz", A)
    put(folder, "toy/b", B)
    assert download.choose("toy", policy) == Choice("toy", f"found in {folder}")


@pytest.mark.parametrize("policy", ["auto", "real"])
def test_choose_without_downloading(toy, folder, forbidden, policy):
    put(folder, "toy/a.gz", A)
    choice = download.choose("toy", policy, download=False)
    assert choice == Choice("toy", "missing; will be downloaded")
    assert contents(folder) == {"toy/a.gz": A}


@pytest.mark.parametrize("policy", ["auto", "real"])
def test_choose_downloads(server, folder, monkeypatch, policy):
    serve_toy(server, monkeypatch)
    assert download.choose("toy", policy) == Choice("toy", f"downloaded to {folder}")
    assert files.available("toy")


def test_choose_auto_falls_back_with_the_reason(nobody, folder, monkeypatch):
    use(monkeypatch, described("toy/b", B, f"{nobody}/b"))
    choice = download.choose("toy", "auto")
    assert choice.kind == "toy-stand-in"
    assert "cannot download toy/b" in choice.reason
    assert "Connection refused" in choice.reason
    with pytest.raises(DownloadError, match="cannot download toy/b"):
        download.choose("toy", "real")


@pytest.mark.parametrize("policy", ["auto", "real"])
@pytest.mark.parametrize("try_it", [True, False])
def test_choose_refuses_a_truncated_file(toy, folder, forbidden, policy, try_it):
    put(folder, "toy/b", B[:5])
    with pytest.raises(DataError, match="toy/b is truncated: 5 bytes instead of") as error:
        download.choose("toy", policy, download=try_it)
    one_line(error)


def test_choose_auto_refuses_a_damaged_file_beside_a_missing_one(nobody, folder, monkeypatch):
    use(monkeypatch, TOY[0], described("toy/b", B, f"{nobody}/b"))
    put(folder, "toy/a.gz", A[:-1] + b"x")
    with pytest.raises(DataError, match=r"toy/a.gz is damaged"):
        download.choose("toy", "auto")


@pytest.mark.parametrize("policy", ["Real", "", "fake"])
def test_unknown_policy(policy):
    with pytest.raises(ValueError, match=r"auto, real, stand-in") as error:
        download.choose("mnist", policy)
    assert repr(policy) in str(error.value)


# --- IDX files ---------------------------------------------------------------------------------


def idx(shape: tuple[int, ...], body: bytes, magic: int = 0x0800) -> bytes:
    return struct.pack(f">I{len(shape)}I", magic + len(shape), *shape) + body


def test_parse_idx():
    array = mnist.parse_idx(idx((2, 3), bytes(range(6))), "x")
    assert array.dtype == np.uint8
    assert array.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert not array.flags.writeable


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "0 bytes, too few"),
        (b"\x00\x00\x08", "3 bytes, too few"),
        (idx((4,), bytes(4), magic=0x0D00), "begins with 0x00000d01"),
        (b"\x1f\x8b\x08\x00" + bytes(20), "begins with 0x1f8b0800"),
        (b"\x00\x00\x08\x00", "begins with 0x00000800"),
        (idx((2, 3), b"")[:-1], "within its header, after 11 of 12 bytes"),
        (idx((2, 3), bytes(5)), r"17 bytes, but its header \(2, 3\) asks for 18"),
        (idx((2, 3), bytes(7)), r"19 bytes, but its header \(2, 3\) asks for 18"),
        (idx((2**31, 2**31, 4), bytes(12)), "asks for 18446744073709551632"),
    ],
)
def test_parse_idx_refuses(data, problem):
    with pytest.raises(DataError, match=problem) as error:
        mnist.parse_idx(data, "some-file")
    assert one_line(error).startswith("some-file is not an IDX file")


def test_a_file_that_unpacks_to_far_too_much_is_not_kept_in_memory(monkeypatch):
    import gzip
    import tracemalloc

    monkeypatch.setattr(files, "CHUNK", 1 << 16)
    monkeypatch.setattr(files, "LARGEST", 1 << 22)
    small, bomb = gzip.compress(bytes(1 << 20)), gzip.compress(bytes(1 << 25))
    tracemalloc.start()
    try:
        assert files._unpacks(small)
        assert not files._unpacks(bomb)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


# --- MNIST -------------------------------------------------------------------------------------

SHAPES = [(60000, 28, 28), (60000,), (10000, 28, 28), (10000,)]


@real_mnist
def test_mnist_is_that_of_its_publisher(real, uncached):
    files.verify("mnist")
    arrays = mnist.load()
    assert [array.shape for array in arrays] == SHAPES
    assert all(array.dtype == np.uint8 and not array.flags.writeable for array in arrays)
    assert arrays.y_train[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert arrays.y_test[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    counts = np.bincount(arrays.y_train).tolist()
    assert counts == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert arrays.x_train.mean() / 255 == pytest.approx(0.1307, abs=1e-4)
    assert mnist.load("mnist") is arrays, "loaded twice"


@real_mnist
@pytest.mark.parametrize("damage", ["truncated", "flipped"])
def test_damaged_mnist_is_refused(uncached, folder, damage):
    for file in DATASETS["mnist"].files:
        content = bytearray((Path(REAL or "") / file.path).read_bytes())
        if "t10k-images" in file.path and damage == "truncated":
            del content[100000:]
        elif "t10k-images" in file.path:
            content[100000] ^= 1
        put(folder, file.path, bytes(content))
    problem = "truncated: 100000 bytes" if damage == "truncated" else "damaged: its SHA-256"
    with pytest.raises(DataError, match=rf"t10k-images-idx3-ubyte.gz is {problem}") as error:
        mnist.load()
    assert "train-images" not in one_line(error)


# --- The stand-in ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def digits():
    return mnist.load("mnist-stand-in")


def test_stand_in_looks_like_mnist(digits):
    assert [array.shape for array in digits] == SHAPES
    assert all(array.dtype == np.uint8 and not array.flags.writeable for array in digits)
    assert mnist.load("mnist-stand-in") is digits
    for images, labels in ((digits.x_train, digits.y_train), (digits.x_test, digits.y_test)):
        share = np.bincount(labels, minlength=10) / len(labels)
        assert len(share) == 10
        assert 0.07 < share.min() < share.max() < 0.13
        assert 0.17 < np.count_nonzero(images) / images.size < 0.22  # MNIST: 0.19
        assert 150 < images[images > 0].mean() < 200  # MNIST: 174
        assert images.any(axis=(1, 2)).all(), "an empty image"
        assert not images[:, [0, -1], :].any(), "ink at the upper or lower edge"


def test_stand_in_is_the_same_everywhere(digits):
    """Other values need another number in `catalogue.STAND_INS`."""
    content = hashlib.sha256(b"".join(array.tobytes() for array in digits)).hexdigest()
    assert (catalogue.STAND_INS["mnist-stand-in"], content[:16]) == ("digits-1", "34baaf32e57a3416")


def test_stand_in_images_differ(digits):
    for images in (digits.x_train, digits.x_test):
        assert len({image.tobytes() for image in images}) == len(images)


def test_stand_in_test_images_have_other_originals(monkeypatch):
    """Mark each original by its index instead of jittering it."""
    drawn = []

    def keep(fine, labels, count, seed):
        drawn.append({image.tobytes() for image in fine})
        return np.zeros((1, 28, 28), np.uint8), np.zeros(1, np.uint8)

    monkeypatch.setattr(standins, "_jitter", keep)
    standins.digits()
    train, test = drawn
    assert len(train) + len(test) == 1797
    assert not train & test


def test_stand_in_labels_match_the_images(digits):
    """The mean image of each class is nearer to its own class among the test means."""
    train, test = (
        np.array([x[y == digit].mean(axis=0).ravel() for digit in range(10)])
        for x, y in ((digits.x_train, digits.y_train), (digits.x_test, digits.y_test))
    )
    distance = np.linalg.norm(train[:, None] - test[None], axis=-1)
    assert distance.argmin(axis=1).tolist() == list(range(10))


def test_stand_in_can_be_learned_but_not_trivially(digits):
    """Logistic regression by Adam, three passes over 12,000 images: a cost like MNIST's."""
    x = digits.x_train[:12000].reshape(-1, 784).astype(np.float32) / 255
    y = np.eye(10, dtype=np.float32)[digits.y_train[:12000]]
    w, m, v = (np.zeros((784, 10), np.float32) for _ in range(3))
    t = 0
    costs = []
    for _ in range(3):
        cost = 0.0
        for i in range(0, len(x), 100):
            z = x[i : i + 100] @ w
            p = np.exp(z - z.max(axis=1, keepdims=True))
            p /= p.sum(axis=1, keepdims=True)
            cost -= np.log((p * y[i : i + 100]).sum(axis=1)).sum()
            g = x[i : i + 100].T @ (p - y[i : i + 100]) / 100
            t += 1
            m += 0.1 * (g - m)
            v += 0.001 * (g * g - v)
            w -= 0.005 * m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        costs.append(cost / len(x))
    assert 0.1 < costs[-1] < 0.5
    assert costs[-1] < costs[0] < np.log(10)


def test_stand_in_refuses_other_originals(monkeypatch):
    monkeypatch.setattr(standins, "_SOURCE", "0" * 64)
    with pytest.raises(DataError, match=r"scikit-learn \S+ ships other digits"):
        standins.digits()
