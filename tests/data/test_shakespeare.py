"""Tiny Shakespeare and its stand-in."""

from __future__ import annotations

import hashlib
import itertools
import zlib
from pathlib import Path

import numpy as np
import pytest
from originals import REAL, needs, put

from experiments.data import catalogue, download, files, shakespeare, standins
from experiments.data.arrays import DataError, Text

real_text = needs("tinyshakespeare")
PATH = "tinyshakespeare/input.txt"
ALPHABET = "\n !$&',-.3:;?ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


pytestmark = pytest.mark.usefixtures("uncached")


def read_back(text: Text) -> str:
    return "".join(text.alphabet[i] for part in (text.train, text.held_out) for i in part)


def test_encode():
    text = shakespeare.encode(b"to be, or not to be\n")
    assert text.alphabet == "\n ,benort"
    assert read_back(text) == "to be, or not to be\n"
    assert (len(text.train), len(text.held_out)) == (18, 2)
    assert (text.train.dtype, text.train.flags.writeable) == (np.uint8, False)


@real_text
def test_the_text_is_that_of_its_publisher(real):
    files.verify("tinyshakespeare")
    text = shakespeare.load()
    assert (len(text.train), len(text.held_out)) == (1_003_854, 111_540)
    assert text.alphabet == ALPHABET
    whole = read_back(text)
    assert whole.startswith("First Citizen:\nBefore we proceed any further, hear me speak.\n")
    assert whole.encode() == (Path(REAL or "") / PATH).read_bytes()
    assert shakespeare.load("tinyshakespeare") is text, "loaded twice"


@real_text
@pytest.mark.parametrize("damage", ["truncated", "flipped"])
def test_a_damaged_text_is_refused(folder, damage):
    content = bytearray((Path(REAL or "") / PATH).read_bytes())
    if damage == "truncated":
        del content[1_000_000:]
    else:
        content[1_000_000] ^= 1
    put(folder, PATH, bytes(content))
    problem = "truncated: 1000000 bytes" if damage == "truncated" else "damaged: its SHA-256"
    with pytest.raises(DataError, match=rf"input.txt is {problem}") as error:
        shakespeare.load()
    assert "\n" not in str(error.value)
    assert files.available("tinyshakespeare") == (damage == "flipped"), "a look at the size alone"
    with pytest.raises(DataError, match=rf"input.txt is {problem}"):
        files.verify("tinyshakespeare")


def test_another_text_is_refused_though_a_stand_in_could_be_had(folder):
    put(folder, PATH, b"Enter a ghost.\n")
    with pytest.raises(DataError, match=r"input.txt is truncated: 15 bytes instead of 1115394"):
        download.choose("tinyshakespeare", "auto")


def test_without_a_network_the_stand_in_takes_its_place(monkeypatch):
    def refused(name: str) -> None:
        raise download.DownloadError("no network")

    monkeypatch.setattr(download, "fetch", refused)
    choice = download.choose("tinyshakespeare", "auto")
    assert (choice.kind, choice.reason) == ("tinyshakespeare-stand-in", "no network")


# --- The stand-in ------------------------------------------------------------------------------


def entropies(text: Text) -> list[float]:
    """Of a letter, of one after the letter before, and of one after two, nats."""
    x, n = text.train.astype(int), len(text.alphabet)
    found = [0.0]
    for order in range(3):
        place = sum(x[i : len(x) - order + i] * n ** (order - i) for i in range(order + 1))
        share = np.bincount(place) / len(place)
        found.append(float(-np.sum(share[share > 0] * np.log(share[share > 0]))))
    return [after - before for before, after in itertools.pairwise(found)]


def test_stand_in_looks_like_the_text():
    text = shakespeare.load("tinyshakespeare-stand-in")
    assert (len(text.train), len(text.held_out)) == (1_003_854, 111_540)
    assert text.alphabet == ALPHABET
    for found, theirs in zip(entropies(text), (3.31, 2.45, 1.90), strict=True):
        assert 0.9 * theirs < found < 1.1 * theirs
    # More than two letters before are worth knowing, but do not tell everything.
    packed = len(zlib.compress(text.train.tobytes(), 9)) / len(text.train) * 8 * np.log(2)
    assert 1.5 < packed < 2.2  # the text: 2.16
    held_out = read_back(text)[-len(text.held_out) :].split()
    assert len(set(held_out)) > 3_000


def test_stand_in_is_the_same_everywhere():
    """Other values need another number in `catalogue.STAND_INS`."""
    content = hashlib.sha256(standins.speeches()).hexdigest()
    kind = catalogue.STAND_INS["tinyshakespeare-stand-in"]
    assert (kind, content[:16]) == ("speeches-1", "9c13a6a100c80f79")
