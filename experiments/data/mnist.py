"""MNIST: 60,000 + 10,000 handwritten digits (Sections 6.1 and 6.2)."""

from __future__ import annotations

import functools
import math

import numpy as np
from numpy.typing import NDArray

from experiments.data.arrays import Arrays, DataError
from experiments.data.catalogue import DATASETS, stand_in
from experiments.data.files import read
from experiments.data.images import halve
from experiments.options import known

DIMENSIONS = 3  # of the publisher's files, at most
KINDS = ("mnist", stand_in("mnist"))


def load(kind: str = "mnist") -> Arrays:
    """The images (n, 28, 28) and labels (n,) as the publisher splits them; read-only, kept.

    Args:
        kind: "mnist", or "mnist-stand-in" for enlarged and jittered digits of scikit-learn.

    Raises:
        DataError: a file is missing or damaged.
    """
    return _load(known("data set", kind, KINDS))


@functools.lru_cache(maxsize=len(KINDS))
def _load(kind: str) -> Arrays:
    if kind != "mnist":
        from experiments.data import standins

        return standins.digits()
    shapes = ((60000, 28, 28), (60000,), (10000, 28, 28), (10000,))
    files = DATASETS["mnist"].files
    parts = [parse_idx(read(file), file.path) for file in files]
    for part, shape, file in zip(parts, shapes, files, strict=True):
        if part.shape != shape:
            raise DataError(f"{file.path} holds an array of shape {part.shape}, not {shape}")
    return Arrays(*parts)


def shrink(images: np.ndarray) -> np.ndarray:
    """28x28 to 16x16: the rounded means of 2x2 pixels, within a border of one pixel."""
    return np.pad(halve(images), ((0, 0), (1, 1), (1, 1)))[..., None]


def parse_idx(data: bytes, source: str) -> NDArray[np.uint8]:
    """The read-only array in `data`, an unpacked IDX file of unsigned bytes.

    Raises:
        DataError: `data` is not such a file; the message names `source`.
    """

    def refuse(problem: str) -> DataError:
        return DataError(f"{source} is not an IDX file of unsigned bytes: {problem}")

    if len(data) < 4:
        raise refuse(f"it has {len(data)} bytes, too few for a header")
    if data[:3] != b"\x00\x00\x08" or data[3] == 0:
        raise refuse(f"it begins with 0x{data[:4].hex()}, not 0x000008 and a number of dimensions")
    start = 4 + 4 * data[3]
    if data[3] > DIMENSIONS:
        raise refuse(f"it has {data[3]} dimensions, more than {DIMENSIONS}")
    if len(data) < start:
        raise refuse(f"it ends within its header, after {len(data)} of {start} bytes")
    shape = tuple(int(n) for n in np.frombuffer(data, ">u4", count=data[3], offset=4))
    size = start + math.prod(shape)
    if len(data) != size:
        raise refuse(f"it has {len(data)} bytes, but its header {shape} asks for {size}")
    try:
        return np.frombuffer(data, np.uint8, offset=start).reshape(shape)
    except ValueError:  # it has no elements, but would otherwise be too large
        raise refuse(f"its header {shape} is no shape of an array") from None
