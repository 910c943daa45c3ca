"""The forms of data in memory, and the error for data that cannot be had."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class DataError(ValueError):
    """A data set's files are missing or damaged; the message says which and what to do."""


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


class Text(NamedTuple):
    """A text in memory: the place of each of its letters in `alphabet`; read-only."""

    train: NDArray[np.uint8]
    held_out: NDArray[np.uint8]
    alphabet: str


class Decoded(NamedTuple):
    """What a file says, the SHA-256 of that, and, in words, what is known of every form of it."""

    value: Any
    sha256: str
    known: str = ""
