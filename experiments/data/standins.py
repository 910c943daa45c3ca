"""Data for those who have neither the real files nor a network: the same shapes, other content.

Every value is computed in integers from the raw output of a bit generator, so that all platforms
and all versions of NumPy make the same data. If you change a value, raise the number in
`catalogue.STAND_INS`.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from experiments.data.arrays import Arrays, DataError, Reviews
from experiments.data.bags import Bags, pad

# SHA-256 of scikit-learn's 1,797 digits and their labels as bytes.
_SOURCE = "87ff0c9e40dc7e2c0e34e7257799c2e3f3aec1a016363bb11cad869ec428a826"
_FINE = 4  # an output pixel is this many pixels of the enlarged originals


def digits() -> Arrays:
    """A stand-in for MNIST: scikit-learn's 8x8 digits, enlarged to 28x28 and jittered.

    Training and test images come from different originals. The originals are the test part of
    "Optical Recognition of Handwritten Digits" (E. Alpaydin, C. Kaynak, UCI, CC BY 4.0).

    Raises:
        DataError: scikit-learn ships other digits than those known here.
    """
    from sklearn.datasets import load_digits

    source = load_digits()
    originals = source.images.astype(np.uint8)
    labels = source.target.astype(np.uint8)
    if hashlib.sha256(originals.tobytes() + labels.tobytes()).hexdigest() != _SOURCE:
        import sklearn

        raise DataError(
            f"scikit-learn {sklearn.__version__} ships other digits than the stand-in is made of: "
            "use the real MNIST or another version of scikit-learn"
        )
    fine = _enlarge(originals)
    test = np.arange(len(fine)) % 6 == 5
    x_train, y_train = _jitter(fine[~test], labels[~test], 60000, seed=1)
    x_test, y_test = _jitter(fine[test], labels[test], 10000, seed=2)
    arrays = Arrays(x_train, y_train, x_test, y_test)
    for array in arrays:
        array.flags.writeable = False
    return arrays


def _enlarge(originals: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Interpolate 8x8 images onto the middle 20x20 of 28x28 pixels, each of 4x4 fine pixels."""
    side = 28 * _FINE
    # In twentieths of an original pixel: the place of each fine pixel and of each original one.
    fine = 2 * (np.arange(side) - 4 * _FINE) - 9
    near = np.maximum(0, 20 - np.abs(fine[:, None] - 20 * np.arange(8)))
    # Integers far below 2**53: exact in float64, in whatever order they are summed.
    weights = near.astype(np.float64)
    total = weights @ originals.astype(np.float64) @ weights.T
    return (total.astype(np.int64) * 255 // (16 * 20 * 20)).astype(np.uint8)


def _jitter(
    fine: NDArray[np.uint8], labels: NDArray[np.uint8], count: int, seed: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw originals; rotate, scale, shear, shift, thicken, dim and speckle each draw."""
    bits = np.random.PCG64(seed)

    def draw(low: int, high: int) -> NDArray[np.int32]:
        values = (bits.random_raw(count) >> np.uint64(32)) % np.uint64(high - low + 1)
        return (values.astype(np.int64) + low).astype(np.int32)[:, None, None]

    side = fine.shape[1]
    which = draw(0, len(fine) - 1)
    # In 256ths: 256 is a scale of 1; rotation and shear are those of small angles.
    turn, shear = draw(-26, 26), draw(-26, 26)
    height, width = draw(232, 280), draw(232, 280)
    down, right = draw(-5, 5), draw(-5, 5)
    threshold, dimmed = draw(70, 110), draw(216, 256)

    images = np.empty((count, 28, 28), np.uint8)
    # Twice the distance of each pixel from the centre; a 256th of it is a 128th fine pixel.
    away = 2 * np.arange(28, dtype=np.int32) - 27
    rows, columns = away[:, None], away[None, :]
    centre = (side - 1) * 64
    step = 500  # small enough for the processor's caches
    for start in range(0, count, step):
        part = slice(start, start + step)
        y = height[part] * rows + (centre + 128 * down[part]) + turn[part] * columns
        x = width[part] * columns + (centre + 128 * right[part]) + (shear - turn)[part] * rows
        y = np.clip(y >> 7, 0, side - 1)
        x = np.clip(x >> 7, 0, side - 1)
        value = fine.ravel()[(which[part] * side + y) * side + x].astype(np.int16)
        value = (value - threshold[part].astype(np.int16)) * np.int16(4)
        ink = np.clip(value, 0, 255).astype(np.uint16)
        ink = ink * dimmed[part].astype(np.uint16) >> 8
        noise = bits.random_raw(ink.size // 8).astype("<u8").view(np.uint8).reshape(ink.shape)
        images[part] = ink - (ink * noise >> 11)
    return images, labels[which[:, 0, 0]]


# Words in a review, by sixteenths of all reviews; this gives about as many different words as IMDB
# has.
_LENGTHS = (15, 58, 76, 91, 107, 113, 117, 129, 147, 161, 183, 209, 237, 283, 344, 455, 1100)
_FINENESS = 20  # a draw has this many bits
_TONE = 5  # eighths by which a tone makes a word more or less frequent, at most


def reviews() -> Reviews:
    """A stand-in for IMDB: words drawn by Zipf's law, some more often in positive reviews.

    Each review is drawn from a mixture of a positive and a negative way of speaking. The shares
    vary from review to review, so that some reviews mislead.
    """
    words = np.arange(10_000, dtype=np.int64)
    weights = 2**50 // ((words + 3) * (words + 2500))
    # Half of the words, not counting the most frequent ones, have a tone.
    raw = np.random.PCG64(3).random_raw(len(words))
    tone = (raw >> np.uint64(32)).astype(np.int64) % _TONE + 1
    tone *= (raw >> np.uint64(62)).astype(np.int64) % 3 - 1
    tone[:20] = 0
    ways = np.stack([_quantiles(weights * (8 - tone)), _quantiles(weights * (8 + tone))])
    x_train, counts_train, y_train = _speak(ways, seed=4)
    x_test, counts_test, y_test = _speak(ways, seed=5)
    arrays = Reviews(x_train, counts_train, y_train, x_test, counts_test, y_test)
    for array in arrays:
        array.flags.writeable = False
    return arrays


def _quantiles(weights: NDArray[np.int64]) -> NDArray[np.uint16]:
    """Which word each of 2**_FINENESS equal shares of the weights belongs to."""
    total = np.cumsum(weights)
    ends = [int(end) * 2**_FINENESS // int(total[-1]) for end in total]
    return np.repeat(np.arange(len(weights), dtype=np.uint16), np.diff(ends, prepend=0))


def _speak(
    ways: NDArray[np.uint16], seed: int
) -> tuple[NDArray[np.uint16], NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw 12,500 positive and as many negative reviews, as `imdb.load` describes them."""
    bits = np.random.PCG64(seed)
    count = 25_000
    y = (np.arange(count) < count // 2).astype(np.uint8)
    raw = bits.random_raw(count)
    table = np.array(_LENGTHS, np.int64)
    place, between = (raw >> np.uint64(60)).astype(np.int64), raw.astype(np.int64) >> 32 & 0xFFFF
    sizes = table[place] + ((table[place + 1] - table[place]) * between >> 16)
    own = 144 + (raw.astype(np.int64) & 0xFFFF) % 97  # of 256 words, those in the review's own way

    lengths, words, counts = [], [], []
    step = 500  # small enough for the processor's caches
    for start in range(0, count, step):
        part = slice(start, start + step)
        row = np.repeat(np.arange(step, dtype=np.uint32), sizes[part])
        drawn = bits.random_raw(len(row))
        share = (drawn >> np.uint64(64 - _FINENESS)).astype(np.int64)
        strange = (drawn & np.uint64(255)).astype(np.int64) >= own[part][row]
        way = y[part][row] ^ strange
        keys = np.sort(
            row << np.uint32(14) | ways.ravel()[way.astype(np.int64) * 2**_FINENESS + share]
        )
        first = np.flatnonzero(np.diff(keys, prepend=np.uint32(2**31)))
        lengths.append(np.bincount(keys[first] >> np.uint32(14), minlength=step))
        words.append((keys[first] & np.uint32(2**14 - 1)).astype(np.uint16))
        counts.append(np.diff(first, append=len(keys)))
    parts = (np.concatenate(part) for part in (lengths, words, counts))
    x, counts_x = pad(Bags(y, *parts))
    return x, counts_x, y


def shapes() -> Arrays:
    """A stand-in for CIFAR-10: ten shapes in other colours, sizes and places in each image."""
    x_train, y_train = _draw(50_000, seed=6)
    x_test, y_test = _draw(10_000, seed=7)
    arrays = Arrays(x_train, y_train, x_test, y_test)
    for array in arrays:
        array.flags.writeable = False
    return arrays


def _draw(count: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw equally many images of each class: a plain shape on a shaded background, with noise."""
    bits = np.random.PCG64(seed)

    def draw(low: int, high: int, *shape: int) -> NDArray[np.int16]:
        raw = bits.random_raw(count * int(np.prod(shape))) >> np.uint64(32)
        values = (raw % np.uint64(high - low + 1)).astype(np.int64) + low
        return values.astype(np.int16).reshape(count, *shape)

    labels = np.empty(count, np.uint8)
    labels[np.argsort(bits.random_raw(count), kind="stable")] = np.arange(count) % 10
    # Places and sizes are in half pixels.
    down, right, size = draw(-12, 12, 1, 1), draw(-12, 12, 1, 1), draw(12, 24, 1, 1)
    lean = draw(-6, 6, 1, 1)  # sixteenths of the distance from the middle
    ground = draw(0, 255, 1, 1, 3)
    colour = (ground + draw(64, 192, 1, 1, 3)) % np.int16(256)  # differs by 64 at least
    shade_down, shade_right = draw(-48, 48, 1, 1, 1), draw(-48, 48, 1, 1, 1)
    grain = draw(16, 96, 1, 1, 1)

    images = np.empty((count, 32, 32, 3), np.uint8)
    away = 2 * np.arange(32, dtype=np.int16) - np.int16(31)
    shaded = away[:, None, None], away[None, :, None]
    step = 100  # small enough for the processor's caches
    for start in range(0, count, step):
        part = slice(start, start + step)
        v = away[:, None] - down[part]
        u = away[None, :] - right[part] + (lean[part] * v >> 4)
        inside = np.empty(u.shape, bool)
        for label in range(10):
            these = labels[part] == label
            inside[these] = _inside(label, u[these], v[these], size[part][these])
        image = np.where(inside[..., None], colour[part], ground[part])
        image += (shade_down[part] * shaded[0] >> 5) + (shade_right[part] * shaded[1] >> 5)
        noise = bits.random_raw(image.size // 8).astype("<u8").view(np.int8).reshape(image.shape)
        image += noise * grain[part] >> 8
        images[part] = np.clip(image, 0, 255)
    return images, labels


def _inside(
    label: int, u: NDArray[np.int16], v: NDArray[np.int16], size: NDArray[np.int16]
) -> NDArray[np.bool_]:
    """Which pixels belong to a shape of this size, u to the right of its middle and v below it."""
    across, along = np.abs(u), np.abs(v)
    square = np.maximum(across, along) <= size
    round_ = u * u + v * v
    match label:
        case 0:  # disc
            return round_ <= size * size
        case 1:  # ring
            return (round_ <= size * size) & (2 * round_ >= size * size)
        case 2:  # square
            return square
        case 3:  # frame
            return square & (3 * np.maximum(across, along) >= 2 * size)
        case 4:  # triangle
            return square & (2 * across <= v + size)
        case 5:  # upright cross
            return square & (4 * np.minimum(across, along) <= size)
        case 6:  # diagonal cross
            return square & (3 * np.abs(across - along) <= size)
        case 7:  # three rows
            return square & ((v + size) * 5 // (2 * size + 1) % 2 == 0)
        case 8:  # three columns
            return square & ((u + size) * 5 // (2 * size + 1) % 2 == 0)
        case _:  # two fields of a chessboard
            return square & ((u < 0) ^ (v < 0))


_SPEECHES = 1_115_394  # characters, as many as Tiny Shakespeare has
_ONSETS = (*"bcdfghjklmnpqrstvwxyz", "ch", "gh", "sh", "st", "th", "wh", "br", "gr", "pl", "")
_CORES = (*"aeiou", "ea", "ee", "io", "ou", "oo")
_CODAS = ("", "", "", "", *"dnrstlm", "nd", "ng", "st", "rt")
_ENDS = (*[""] * 44, *[","] * 8, *["."] * 4, *"!?;:", "'s", "-", "$", "&3")
_NAMES = 60  # speakers
_WORDS = 2_500


def speeches() -> bytes:
    """A stand-in for Tiny Shakespeare: speeches of made-up words, drawn by Zipf's law.

    Each word prefers certain words after it, so that it helps to know more than the last letter.
    """
    bits = np.random.PCG64(8)

    def draw(below: int, *shape: int) -> NDArray[np.int64]:
        raw = bits.random_raw(int(np.prod(shape))) >> np.uint64(32)
        return (raw.astype(np.int64) % below).reshape(shape)

    parts = (_ONSETS, _CORES, _CODAS)
    syllables = np.stack([draw(len(part), _WORDS + _NAMES, 3) for part in parts], axis=-1)
    lengths = draw(3, _WORDS + _NAMES) + 1
    lengths[:50] = 1  # what is frequent is short
    made = [
        "".join(part[i] for syllable in word[:n] for part, i in zip(parts, syllable, strict=True))
        for word, n in zip(syllables.tolist(), lengths.tolist(), strict=True)
    ]
    words, names = made[:_WORDS], [name.upper() for name in made[_WORDS:]]
    zipf = np.cumsum([2**40 // (rank + 3) for rank in range(_WORDS)])

    count = _SPEECHES // 3  # more words than there is room for
    shares = bits.random_raw(count) >> np.uint64(8)
    free = np.searchsorted(zipf, shares.astype(np.int64) % zipf[-1], side="right").tolist()
    liked = draw(12, count).tolist()  # in six cases of twelve, a word that the last one prefers
    ends = draw(len(_ENDS), count).tolist()
    speakers, stops = draw(_NAMES, count).tolist(), draw(40, count).tolist()
    text: list[str] = []
    size, word, fresh, column = 0, 0, True, 0
    for i in range(count):
        word = (word * 7 + liked[i] * 31) % 211 if liked[i] < 6 else free[i]
        if fresh and stops[i] < 12:
            text.append(f"\n\n{names[speakers[i]]}:\n")
            size, column = size + len(text[-1]), 0
        said = (words[word].capitalize() if fresh or not column else words[word]) + _ENDS[ends[i]]
        text.append(("\n" if column > 36 else " " if column else "") + said)
        size += len(text[-1])
        column = len(said) if column > 36 else column + len(text[-1])
        fresh = said[-1:] in (".", "!", "?")
        if size > _SPEECHES:
            break
    return "".join(text).encode("ascii")[:_SPEECHES]
