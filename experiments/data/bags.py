"""Bags of words: how `labeledBow.feat` is read, and what its values are."""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from experiments.data.arrays import DataError, Decoded

VOCABULARY = 10_000  # the most frequent words, which come first in imdb.vocab
PADDING = VOCABULARY  # fills the ends of the rows
POSITIVE = 7  # stars out of ten from which on a review is positive
_DIGITS = 9  # no number has more

# What each byte of a .feat file is.
_DIGIT, _SPACE, _COLON, _NEWLINE, _FOREIGN = range(5)
_CLASSES = np.full(256, _FOREIGN, np.uint8)
_CLASSES[list(b"0123456789")] = _DIGIT
_CLASSES[list(b" :\n")] = _SPACE, _COLON, _NEWLINE


class Bags(NamedTuple):
    """Bags of words: review i has the next `lengths[i]` of the `words`, with their `counts`."""

    ratings: NDArray[np.uint8]
    lengths: NDArray[np.int64]
    words: NDArray[np.uint16]
    counts: NDArray[np.int64]


def pad(bags: Bags) -> tuple[NDArray[np.uint16], NDArray[np.uint8]]:
    """The words and their counts in rows, as `imdb.load` describes them."""
    shape = (len(bags.lengths), int(bags.lengths.max(initial=0)))
    filled = np.arange(shape[1]) < bags.lengths[:, None]
    words = np.full(shape, PADDING, np.uint16)
    words[filled] = bags.words
    counts = np.zeros(shape, np.uint8)
    counts[filled] = np.minimum(bags.counts, 255)
    return words, counts


def decode_bags(data: bytes, source: str) -> Decoded:
    """The reviews of a .feat file and the SHA-256 of all their values, whatever the file's form.

    Known of every form is how many reviews have each rating, in two blocks: the positive reviews
    and the others.
    """
    bags = parse_bags(data, source)
    digest = hashlib.sha256(f"{len(bags.ratings)} {len(bags.words)}\n".encode())
    arrays: tuple[NDArray[Any], ...] = bags
    for array, form in zip(arrays, ("u1", "<u2", "<u2", "<u4"), strict=True):
        digest.update(array.astype(form).tobytes())
    turns = np.flatnonzero(np.diff(bags.ratings >= POSITIVE)) + 1
    known = "; ".join(
        " ".join(f"{n}x{rating}" for rating, n in enumerate(np.bincount(block)) if n)
        for block in np.split(bags.ratings, turns[:2])
    )
    return Decoded(bags, digest.hexdigest(), known)


def parse_bags(data: bytes, source: str) -> Bags:
    """The reviews in `data`, a .feat file: `rating word:count word:count ...` on each line.

    Words from `VOCABULARY` on are left out, so that a file that never had them gives the same.

    Raises:
        DataError: `data` is not such a file; the message names `source`.
    """

    def refuse(where: int | np.int64, problem: str) -> DataError:
        line = data.count(b"\n", 0, int(where)) + 1
        return DataError(f"{source} is not a list of word counts: line {line} {problem}")

    if not data.endswith(b"\n"):
        data += b"\n"
    characters = np.frombuffer(data, np.uint8)
    classes = _CLASSES[characters]
    if (foreign := classes == _FOREIGN).any():
        where = foreign.argmax()
        raise refuse(where, f"holds the byte 0x{characters[where]:02x}")
    ends = np.flatnonzero(classes)  # of the numbers: each is followed by one separator
    digits = np.diff(ends, prepend=-1) - 1
    after = classes[ends]
    before = np.concatenate([np.array([_NEWLINE], np.uint8), after[:-1]])
    # A space is followed by a word, a word by a colon; the rating and counts by a space or the end.
    if (wrong := (digits == 0) | ((before == _SPACE) != (after == _COLON))).any():
        raise refuse(ends[wrong.argmax()], "is not `rating word:count word:count ...`")
    if (wrong := digits > _DIGITS).any():
        raise refuse(ends[wrong.argmax()], f"holds a number of more than {_DIGITS} digits")
    numbers = (characters[ends - 1] - ord("0")).astype(np.int64)
    longer = np.arange(len(ends))
    for digit in range(1, int(digits.max())):
        longer = longer[digits[longer] > digit]
        numbers[longer] += (characters[ends[longer] - 1 - digit] - ord("0")) * np.int64(10**digit)

    first, is_word = before == _NEWLINE, after == _COLON
    ratings = numbers[first]
    if (wrong := (ratings < 1) | (ratings > 10)).any():
        raise refuse(ends[first][wrong.argmax()], "has a rating that is not 1 to 10")
    places = ends[is_word]
    words, counts = numbers[is_word], numbers[before == _COLON]
    if not counts.all():
        raise refuse(places[counts.argmin()], "counts a word 0 times")
    starts = before[np.flatnonzero(is_word) - 1] == _NEWLINE  # the words right after the ratings
    if (wrong := (np.diff(words, prepend=0) <= 0) & ~starts).any():
        raise refuse(places[wrong.argmax()], "has words that do not ascend")
    review = np.cumsum(first)[is_word] - 1
    kept = words < VOCABULARY
    lengths = np.bincount(review[kept], minlength=len(ratings))
    return Bags(ratings.astype(np.uint8), lengths, words[kept].astype(np.uint16), counts[kept])
