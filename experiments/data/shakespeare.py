"""Tiny Shakespeare: a megabyte of his plays, letter by letter."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from experiments.data.arrays import Text
from experiments.data.catalogue import DATASETS, stand_in
from experiments.data.files import read
from experiments.options import known

KINDS = ("tinyshakespeare", stand_in("tinyshakespeare"))


def load(kind: str = "tinyshakespeare") -> Text:
    """The text as the places of its letters in the alphabet; read-only, kept.

    The alphabet is every character that occurs, in the order of their codes. The first nine tenths
    are for training, the last tenth is held out, as is usual for this text.

    Args:
        kind: "tinyshakespeare", or "tinyshakespeare-stand-in" for drawn speeches.

    Raises:
        DataError: the file is missing or damaged.
    """
    return _load(known("data set", kind, KINDS))


@functools.lru_cache(maxsize=len(KINDS))
def _load(kind: str) -> Text:
    if kind == "tinyshakespeare":
        return encode(read(DATASETS["tinyshakespeare"].files[0]))
    from experiments.data import standins

    return encode(standins.speeches())


def encode(data: bytes) -> Text:
    """The letters of a text of single-byte characters, split as `load` describes."""
    codes, places = np.unique(np.frombuffer(data, np.uint8), return_inverse=True)
    letters = places.astype(np.uint8)
    letters.flags.writeable = False
    end = len(letters) * 9 // 10
    return Text(letters[:end], letters[end:], codes.tobytes().decode("ascii"))


def windows(letters: NDArray[np.uint8], length: int) -> NDArray[np.uint8]:
    """Every run of `length` letters, a row for each first letter; a view.

    Raises:
        ValueError: the text is shorter.
    """
    if length > len(letters):
        raise ValueError(f"{length} letters at a time are too many: a text has {len(letters)}")
    return np.lib.stride_tricks.sliding_window_view(letters, length)
