"""IMDB: 25,000 + 25,000 film reviews as counts of their words (Section 6.1, Figure 1, right)."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from experiments.data.arrays import DataError, Reviews
from experiments.data.bags import POSITIVE, pad
from experiments.data.catalogue import DATASETS, stand_in
from experiments.data.files import decoded
from experiments.options import known

KINDS = ("imdb", stand_in("imdb"))
_REVIEWS = 25_000


def load(kind: str = "imdb") -> Reviews:
    """The reviews as rows of words and their counts, as the publisher splits them; read-only, kept.

    Row i of `x_train` holds the words of review i, ascending from 0 (the most frequent), and after
    them `PADDING`; `counts_train` says how often each occurs (255 if more often) and is 0 at the
    padding. `y_train` is 1 for a positive review, 0 for a negative one. All positive reviews come
    first.

    Args:
        kind: "imdb", or "imdb-stand-in" for drawn reviews.

    Raises:
        DataError: a file is missing or damaged.
    """
    return _load(known("data set", kind, KINDS))


@functools.lru_cache(maxsize=len(KINDS))
def _load(kind: str) -> Reviews:
    if kind != "imdb":
        from experiments.data import standins

        return standins.reviews()
    parts: list[NDArray[np.uint16] | NDArray[np.uint8]] = []
    for file in DATASETS["imdb"].files[1:]:
        bags = decoded(file)
        if len(bags.ratings) != _REVIEWS:
            raise DataError(f"{file.path} holds {len(bags.ratings)} reviews, not {_REVIEWS}")
        parts += (*pad(bags), (bags.ratings >= POSITIVE).astype(np.uint8))
    for part in parts:
        part.flags.writeable = False
    return Reviews(*parts)  # type: ignore[arg-type]
