"""What loading has in common: unknown kinds, missing files, stand-ins that need nothing."""

from __future__ import annotations

import socket
import time

import pytest
from originals import one_line

from experiments.data import cifar10, download, imdb, mnist, shakespeare
from experiments.data.arrays import DataError

pytestmark = pytest.mark.usefixtures("uncached")

MODULES = {"mnist": mnist, "imdb": imdb, "cifar10": cifar10, "tinyshakespeare": shakespeare}
MISSING = {
    "mnist": r"train-images-idx3-ubyte.gz is missing: run",
    "imdb": r"train/labeledBow.feat is missing: run .*aclImdb_v1",
    "cifar10": r"data_batch_1 is missing: run .*cifar-10-python.tar.gz",
    "tinyshakespeare": r"tinyshakespeare/input.txt is missing: run",
}


@pytest.mark.parametrize("name", MODULES)
def test_unknown_kind(name):
    with pytest.raises(ValueError, match=f"{name}-stand-in"):
        MODULES[name].load(f"{name}-standin")


@pytest.mark.parametrize("name", MODULES)
def test_load_names_what_is_missing(name):
    with pytest.raises(DataError, match=MISSING[name]) as error:
        MODULES[name].load()
    assert one_line(error)


@pytest.mark.parametrize("name", MODULES)
def test_stand_in_needs_no_file_and_no_network(name, folder, monkeypatch):
    monkeypatch.setattr(socket, "socket", None)
    monkeypatch.setattr(download, "fetch", None)
    start = time.process_time()
    MODULES[name].load(f"{name}-stand-in")
    limit = 20 if name == "cifar10" else 10
    assert time.process_time() - start < limit, "one core needs about 2 s for CIFAR-10, 1 s else"
    assert not folder.exists()
