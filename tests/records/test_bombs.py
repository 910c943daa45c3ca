"""Small files that unpack to far more than they should: refused before memory fills."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from experiments.data import files
from experiments.data.arrays import DataError
from experiments.data.catalogue import File
from experiments.records import merge, published
from experiments.records.store import Store
from experiments.study import Run
from experiments.verify import checks

ROOM = 24 << 20  # bytes that a refusal may take
RUN = Run("p", {}, "none", "adam", {}, 1, 3, 0)


@pytest.fixture
def small():
    """Fail if the test makes Python or Arrow hold much at any moment."""
    pool = pyarrow.default_memory_pool()
    before = pool.max_memory()
    tracemalloc.start()
    yield
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < ROOM
    assert pool.max_memory() <= max(before, ROOM)


@pytest.mark.usefixtures("small")
def test_a_packed_checkpoint(tmp_path):
    """Its hash is right: whoever packed it knew how."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as parts:
        for name in ("facts", "array_0"):
            with parts.open(f"{name}.npy", "w") as part:
                np.lib.format.write_array_header_1_0(
                    part, {"descr": "|u1", "fortran_order": False, "shape": (100 << 20,)}
                )
                for _ in range(100):
                    part.write(bytes(1 << 20))
    packed = content.getvalue()
    assert len(packed) < 1 << 20
    path = tmp_path / f"{RUN.lineage}.checkpoint"
    path.write_bytes(hashlib.sha256(packed).digest() + packed)
    records = Store(tmp_path)
    assert records.load_checkpoint(RUN, lambda arrays: True) is None
    assert records.damaged == [
        f"{path} is ignored: it is no checkpoint; its run starts from the beginning"
    ]


@pytest.mark.usefixtures("small")
def test_files_that_say_they_are_huge(tmp_path, monkeypatch):
    """They have holes, and take no room on the disk."""
    folder = tmp_path / "records"
    folder.mkdir()
    for name in ("0" * 16, "1" * 16):
        (folder / f"{name}.json").touch()
        os.truncate(folder / f"{name}.json", 50 << 30)
    records = Store(folder)
    assert records.get("0" * 16) is None
    assert list(records.records()) == []
    assert [line.split(": ")[1] for line in records.damaged] == [
        "it has 53,687,091,200 bytes, far too many; its run will be trained again"
    ] * 2
    (merged,) = merge.into_store([folder], Store(tmp_path / "mine"))
    assert len(merged.problems) == 2
    with pytest.raises(ValueError, match="can't be used: it has 53,687,091,200 bytes"):
        checks.read(folder / f"{'0' * 16}.json")

    def never(data, source):
        raise AssertionError

    monkeypatch.setenv("ADAM_TF_DATA", str(tmp_path))
    for file in (File("a.gz", 10, "0" * 64), File("b.feat", None, "0" * 64, decode=never)):
        (tmp_path / file.path).touch()
        os.truncate(tmp_path / file.path, 50 << 30)
        with pytest.raises(DataError, match=f"{file.path} is not the original: it has 53687091200"):
            files.read(file)


def test_a_file_of_checks_that_is_none_is_one_line(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero"), tmp_path):
        with pytest.raises(ValueError, match=f"{path} can't be used: it is (not a file|a folder)"):
            checks.read(path)


def text(values, indices):
    return pyarrow.DictionaryArray.from_arrays(pyarrow.array(indices, pyarrow.int32()), values)


MANY = 300_000
BOMBS = {
    "a table of few values and many rows": lambda: {"run": text(["0" * 16], np.zeros(MANY, int))},
    "a number that repeats": lambda: {"run": ["0" * 16] * MANY, "training_cost": np.zeros(MANY)},
    "a long text in every row": lambda: {
        "run": text(["0" * 16], np.zeros(2000, int)),
        "settings.x": text(["a" * 200_000], np.zeros(2000, int)),
    },
    "a text that is packed well": lambda: {"run": ["0" * 16], "settings.x": ["a" * (8 << 20)]},
    "lists": lambda: {"run": ["0" * 16], "training_cost": [[0.0] * 1000]},
}


@pytest.mark.parametrize("kind", BOMBS)
def test_published_tables(kind, tmp_path):
    path = tmp_path / "study.parquet"
    table = pyarrow.table(BOMBS[kind]())
    about = {"table": published.TABLE, "json": json.dumps([])}
    pyarrow.parquet.write_table(
        table.replace_schema_metadata(about), path, compression="zstd", compression_level=19
    )
    del table
    pool = pyarrow.default_memory_pool()
    before = pool.max_memory()
    unpacks = r"it unpacks to [\d,]+ bytes, of [\d,]+|is of a type that no record has"
    for read in (published.read, lambda path: published.Published(path.parent).get("0" * 16)):
        with pytest.raises(ValueError, match=rf"does not hold records \(.*({unpacks})\); restore"):
            read(path)
    assert pool.max_memory() <= max(before, ROOM)
