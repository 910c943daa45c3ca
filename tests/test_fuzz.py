"""Every parser takes mutated files: it reads them, or refuses them in one line that names the file.

The suite tries a few hundred seeded mutations of each; `make fuzz` tries them for minutes, new ones
every time, and prints how many of each there were.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import random
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import yaml

from experiments.analysis import ledger
from experiments.cli import main as cli
from experiments.cli.runs import setting
from experiments.data import bags, cifar10, files, mnist
from experiments.data.arrays import DataError
from experiments.data.catalogue import DATASETS
from experiments.paths import ROOT
from experiments.records import published, store
from experiments.records.store import DamagedRecord
from experiments.report import parameters
from experiments.study import config_id
from experiments.verify import checks

TRIES = 200
SECONDS = 10.0  # that one mutation may take, however busy or full the process is


@dataclass(frozen=True)
class Target:
    """A parser under attack.

    Attributes:
        seeds: well-formed inputs, which are mutated.
        parse: reads one from a file; raises a `refusal` or takes it.
        refusal: what it may raise.
        words: what mutations insert, beside bits of other seeds.
        names: whether the message must name the file.
    """

    seeds: Callable[[], Sequence[bytes]]
    parse: Callable[[Path], object]
    refusal: type[Exception]
    words: tuple[bytes, ...] = ()
    names: bool = True


def records() -> list[bytes]:
    found = [record for path in RESULTS for record in published.read(path).values()]
    return sorted(map(store.encode, found), key=len)[:20:4]


RESULTS = sorted((ROOT / "results").glob("*.parquet"))[:3]


def parse_record(path: Path) -> object:
    """A record whose checksum has been made right again: the checks behind it must hold."""
    content = path.read_bytes()
    try:
        record = json.loads(content)
        record["checksum"] = store.checksum(record)
        run_id = config_id(record["config"])
        content = json.dumps(record).encode()
    except (ValueError, KeyError, TypeError, RecursionError, AttributeError):
        run_id = "0" * 16
    found = store.decode(content, run_id)
    from experiments.records import merge

    merge.check(found)
    return found


def pages() -> list[bytes]:
    """Notebooks: their first cells and their metadata."""
    found = []
    for path in sorted((ROOT / "notebooks").glob("*.ipynb"))[:4]:
        content = json.loads(path.read_text(encoding="utf-8"))
        for cell in content["cells"]:
            cell.pop("outputs", None)
        content["cells"] = content["cells"][:6]
        found.append(json.dumps(content, indent=1).encode())
    return found


def batches() -> list[bytes]:
    """Batches of CIFAR-10 as Python 2 wrote them, of one and two images."""

    def text(value: bytes) -> bytes:
        return b"U" + bytes([len(value)]) + value + b"q\x05"

    found = []
    for n in (1, 2):
        head = b"\x80\x02}q\x01(" + text(b"labels") + b"]q\x02(" + b"K\x03" * n + b"e"
        array = b"cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        state = b"(K\x01K" + bytes([n]) + b"M\x00\x0c\x86cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R"
        state += b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
        pixels = b"T" + struct.pack("<i", 3072 * n) + bytes(3072 * n)
        found.append(head + text(b"data") + array + state + pixels + b"tbu.")
    return found


def archives() -> list[bytes]:
    """IDX files."""
    arrays = [np.arange(24, dtype=np.uint8).reshape(shape) for shape in ((24,), (2, 3, 4))]
    return [
        b"\0\0\x08" + bytes([a.ndim]) + struct.pack(f">{a.ndim}I", *a.shape) + a.tobytes()
        for a in arrays
    ]


FEAT = DATASETS["imdb"].files[1]


def seals() -> list[bytes]:
    return [files.seal_text(Path("labeledBow.feat"), b"9 0:1\n", FEAT)]


def parse_seal(path: Path) -> object:
    """A mutated seal is worth nothing."""
    seal = files.seal_of(path.with_name("labeledBow.feat"))
    seal.write_bytes(path.read_bytes())
    try:
        if not files._sealed(path.with_name("labeledBow.feat"), b"9 0:1\n", FEAT):
            raise DataError(f"{path} seals nothing")
        assert path.read_bytes() in seals()
    finally:
        seal.unlink()


def parse_options(path: Path) -> object:
    """A command line, an argument a line; nothing is run."""
    arguments = path.read_bytes().decode("utf-8", "replace").splitlines()
    said = io.StringIO()
    with redirect_stderr(said), redirect_stdout(io.StringIO()):
        try:
            options = cli._parse(arguments)
        except SystemExit as ended:
            if ended.code == 0:
                return None
            assert said.getvalue().startswith("adam-study")
            raise ValueError(said.getvalue().removesuffix("\n")) from None
    for text in getattr(options, "set", None) or ():
        setting(text)
    return options


OPTIONS = (
    b"run\nfig1-mnist\n--profile\nsmoke\n--arm\nAdam\n--set\nlearning_rate=0.1\n--set\nbeta_1=1e-3",
    b"plan\n--workers\n2\n--protocol\nmatched\n--json",
    b"run\n--engine\nray\n--address\nauto\n--gpus-per-run\n0.5\n--timeout\n60",
    b"verify\n--minutes\n0.5\n--import\nfile",
    b"merge\n--results\nfolder",
    b"data\nverify\nmnist",
)


def parquets() -> list[bytes]:
    """A small published table."""
    path = Path(tempfile.mkdtemp()) / "study.parquet"
    found = list(published.read(RESULTS[0]).values())[:3]
    published.write(path, found, {})
    return [path.read_bytes()]


def sealed_checks() -> list[bytes]:
    return [path.read_bytes() for path in sorted((ROOT / "results" / "checks").glob("*.json"))]


YAML = (
    b"{",
    b"[",
    b"*a",
    b"&a ",
    b"!!python/object:os.system",
    b"? ",
    b"2001-99-99",
    b".nan",
    b"|",
)
JSON = (b"{", b"[", b"]", b"null", b"-1e999", b"NaN", b'"\\ud800"', b"[" * 5000, b"9" * 5000, b"{}")
PICKLE = (b"r\xff\xff\xff\x0f", b"j\x01\0\0\0", b"2", b"\x86", b"(", b"cos\nsystem\n", b"R", b"b")
TARGETS = {
    "claims.yaml": Target(
        lambda: ledger_entries(),
        lambda path: ledger.parse(path.read_bytes(), str(path)),
        ValueError,
        (*YAML, b"limit:", b"passes: [1]", b"rule: between", b"arms: 3", b"id: 7"),
    ),
    "notebook": Target(
        pages,
        lambda path: parameters.check(path, {}),
        parameters.NotebookError,
        (*JSON, b"profile: list[int] = [", b"(" * 300, b"\\u0000", b"x: int = 9**9**9", b"def f"),
    ),
    "CIFAR batch": Target(
        batches, lambda path: cifar10.parse_batch(path.read_bytes(), str(path)), DataError, PICKLE
    ),
    "IDX file": Target(
        archives,
        lambda path: mnist.parse_idx(path.read_bytes(), str(path)),
        DataError,
        (b"\0\0\x08\xff", b"\0" * 300, b"\xff" * 300, b"\0\0\x08\x40" + b"\0\0\0\1" * 64),
    ),
    "word counts": Target(
        lambda: [b"9 0:9 1:1 9999:2\n1 2:300 3:1\n10\n"],
        lambda path: bags.parse_bags(path.read_bytes(), str(path)),
        DataError,
        (b" ", b"\n", b":", b"0", b"9" * 9, b"9" * 30, b"-1", b"\r"),
    ),
    "record": Target(records, parse_record, DamagedRecord, JSON, names=False),
    "published table": Target(parquets, published.read, ValueError, (b"PAR1", b"\0" * 8)),
    "checks": Target(sealed_checks, checks.read, ValueError, JSON, names=False),
    "seal": Target(seals, parse_seal, DataError, (b"0", b" ", b"\n")),
    "options": Target(
        lambda: OPTIONS,
        parse_options,
        ValueError,
        (b"--set\n", b"--", b"-", b"=", b"\n", b"1e999", b"9" * 400, b"\0", b"\xff", b"--help"),
        names=False,
    ),
}


def ledger_entries() -> list[bytes]:
    """A few claims, two a file, so that most mutations hit something."""
    entries = yaml.safe_load(ledger.LEDGER.read_text(encoding="utf-8"))
    return [yaml.safe_dump(entries[i : i + 2]).encode() for i in range(0, len(entries), 8)]


def mutated(seeds: Sequence[bytes], words: Sequence[bytes], draw: random.Random) -> bytes:
    """One of the seeds, damaged in one to four places."""
    content = bytearray(draw.choice(seeds))
    for _ in range(draw.choice((1, 1, 2, 4))):
        at = draw.randrange(len(content) + 1)
        end = min(len(content), at + draw.choice((1, 2, 8, 64, 512)))
        match draw.randrange(6):
            case 0 if content:
                content[min(at, len(content) - 1)] ^= 1 << draw.randrange(8)
            case 1:
                del content[at:end]
            case 2:
                content[at:at] = content[at:end] * draw.choice((1, 2, 50))
            case 3:
                content[at:end] = draw.choice(words or (b"\0",))
            case 4:
                other = draw.choice(seeds)
                start = draw.randrange(len(other) + 1)
                content[at:end] = other[start : start + end - at]
            case 5:
                content[at:at] = draw.choice(words or (b"\xff",))
    return bytes(content)


def attack(name: str, path: Path, content: bytes) -> str:
    """ "accepted" or "refused"; an AssertionError if the parser does anything else."""
    target = TARGETS[name]
    path.write_bytes(content)
    started = time.process_time()
    text = ""
    try:
        target.parse(path)
    except target.refusal as error:
        text = str(error)
        if not text or "\n" in text or len(text) > 2000 or (target.names and str(path) not in text):
            raise AssertionError(f"not one line that names the file: {text[:300]!r}") from error
    seconds = time.process_time() - started
    assert seconds < SECONDS, f"{seconds:.1f} s for {content[:200]!r}"
    return "refused" if text else "accepted"


@pytest.mark.parametrize("name", TARGETS)
def test_mutations_are_read_or_refused_in_one_line(name, tmp_path):
    seeds = TARGETS[name].seeds()
    path = tmp_path / "mutated.ipynb"
    for seed in seeds:
        if name not in ("record", "checks"):  # other runs than planned now, other machines
            assert attack(name, path, seed) == "accepted"
    draw = random.Random(name)
    found = Counter(
        attack(name, path, mutated(seeds, TARGETS[name].words, draw)) for _ in range(TRIES)
    )
    assert found["refused"] > TRIES / 20  # else the mutations hit nothing


BOMB = b"\x80\x02}q\0(U\x06labels](" + b"(" * 40 + b"K\x01" + b"\x86" * 40 + b"eu."


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("CIFAR batch", b"\x80\x02r\xff\xff\xff\x0f."),  # memory for 2**28 names
        ("CIFAR batch", b"\x80\x02K\x01" + b"q\x01h\x01\x86" * 60 + b"."),  # a tuple of 2**60
        ("CIFAR batch", b"\x80\x02K\x01" + b"2\x86" * 60 + b"."),
        ("CIFAR batch", pickle.dumps([[0] * 3] * 3, protocol=4)),
        ("CIFAR batch", BOMB),
        ("IDX file", b"\0\0\x08\x41" + b"\0\0\0\1" * 65 + b"x"),
        ("IDX file", b"\0\0\x08\x03" + b"\0\0\0\0" + b"\xff" * 8),
        ("claims.yaml", b"- " * 5000),
        ("claims.yaml", b"[" * 3000),
        ("claims.yaml", b"a: &a [x,x]\n" + b"b: &b [*a,*a]\n" * 3),
        ("claims.yaml", b"- {id: x, 2001-99-99: 1}"),
        ("claims.yaml", b"- 3"),
        ("claims.yaml", b"\xff\xfe\x00"),
        ("claims.yaml", b""),
        ("notebook", b"[" * 200_000),
        ("notebook", b'{"nbformat": ' + b"9" * 5000 + b"}"),
        ("notebook", b'{"nbformat": 4, "metadata": {"kernelspec": []}, "cells": []}'),
        ("notebook", b'{"nbformat": 4, "metadata": {}, "cells": [3]}'),
        ("record", b"[" * 200_000),
        ("checks", b"[" * 200_000),
    ],
)
def test_inputs_that_are_small_and_ask_for_much(name, content, tmp_path):
    assert attack(name, tmp_path / "mutated.ipynb", content) == "refused"


def main(minutes: float) -> int:
    """Attack all parsers for so long, with new mutations; 1 if one of them gave way."""
    seed = int.from_bytes(os.urandom(4))
    draw = random.Random(seed)
    print(f"seed {seed}")
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mutated.ipynb"
        for name, target in TARGETS.items():
            seeds, counts = target.seeds(), Counter[str]()
            end = time.monotonic() + 60 * minutes / len(TARGETS)
            while time.monotonic() < end:
                content = mutated(seeds, target.words, draw)
                try:
                    counts[attack(name, path, content)] += 1
                except Exception as error:
                    counts["wrong"] += 1
                    failed = 1
                    kept = Path(tempfile.gettempdir()) / f"fuzz-{name.replace(' ', '-')}-{seed}"
                    kept.write_bytes(content)
                    print(f"{name}: {type(error).__name__}: {str(error)[:200]} ({kept})")
            print(
                f"{name:16} {sum(counts.values()):8,} inputs, {counts['accepted']:7,} accepted, "
                f"{counts['refused']:7,} refused in one line, {counts['wrong']} wrong",
                flush=True,
            )
    return failed


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]) if len(sys.argv) > 1 else 2.0))
