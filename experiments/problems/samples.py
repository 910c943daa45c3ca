"""What a diffusion model draws, and how much of it can be read.

The images come from noise by the ancestral sampler of J. Ho, A. Jain, P. Abbeel: Denoising
Diffusion Probabilistic Models (2020), along the path that `diffusion` trains on: at time t an image
is cos(pi t / 2) x + sin(pi t / 2) noise. The reader is a small scikit-learn network. It has
an eleventh class for images made of digits that are no digits themselves; without it, noise would
be read as one of the ten.
"""

from __future__ import annotations

import base64
import functools
import io
import itertools
import math
import warnings
from typing import Any

import numpy as np
import threadpoolctl

from experiments.data import mnist

STEPS = 25
FIRST = 0.98  # the time from which noise is taken away; at 1 nothing of an image is left
KNOWN = 20_000  # training examples, the last ones, that the reader learns from
FAINT = 64  # grey levels (of 255) below which the reader sees black
NO_DIGIT = 10
SHOWN = 10  # images in a picture


def draw(unet: Any, count: int) -> np.ndarray:
    """`count` images that a model draws, (count, side, side), uint8.

    Args:
        unet: from noisy images, (batch, side, side, 1) with values from -1 to 1, and their times,
            (batch, 1), to the noise in them.
        count: how many. All models begin with the same noise and add the same.
    """
    noise = np.random.default_rng(0)
    shape = (count, *unet.input_shape[0][1:])
    x = noise.standard_normal(shape)
    times = np.linspace(FIRST, 0.0, STEPS + 1)
    for time, later in itertools.pairwise(times):
        angle, after = time * math.pi / 2, later * math.pi / 2
        inputs = [x.astype(np.float32), np.full((count, 1), time, np.float32)]
        found = np.nan_to_num(unet.predict_on_batch(inputs), nan=0.0)
        image = np.clip((x - math.sin(angle) * found) / math.cos(angle), -1.0, 1.0)
        # The distribution at the earlier time, given the image and x (their equations 6 and 7).
        kept = math.cos(angle) / math.cos(after)
        added = math.sin(angle) ** 2 - (kept * math.sin(after)) ** 2
        mean = kept * math.sin(after) ** 2 * x + math.cos(after) * added * image
        spread = math.sqrt(added) * math.sin(after) / math.sin(angle)
        x = mean / math.sin(angle) ** 2 + spread * noise.standard_normal(shape)
    return np.rint((np.clip(x[..., 0], -1.0, 1.0) + 1.0) * 127.5).astype(np.uint8)


def share_read(images: np.ndarray, data: str) -> float:
    """The share of images, (n, side, side) and uint8, that are read as one of the ten digits.

    Args:
        images: what to read.
        data: the data set, or its stand-in, whose digits the reader has learnt.
    """
    with threadpoolctl.threadpool_limits(1):
        return float(np.mean(_reader(data, images.shape[1:]).predict(_seen(images)) != NO_DIGIT))


def picture(images: np.ndarray) -> str:
    """The first `SHOWN` images side by side: a PNG in base64."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.concatenate(images[:SHOWN], axis=1)).save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


def pixels(picture: str) -> np.ndarray:
    """The inverse of `picture`: (images, side, side), uint8."""
    from PIL import Image

    row = np.asarray(Image.open(io.BytesIO(base64.b64decode(picture))))
    return np.stack(np.split(row, row.shape[1] // row.shape[0], axis=1))


def no_digits(images: np.ndarray, seed: int) -> np.ndarray:
    """As many images that are no digits, made of digits: a quarter of each kind.

    They are the halves of two digits side by side or one above the other, the means of two,
    digits in noise, and digits whose quarters are put in a random order: in one of 24, and where
    equal quarters change places, the digit is unchanged; halves and means of two digits of one
    class may look like that digit. Such images teach the reader caution.
    """
    draws = np.random.default_rng(seed)
    halves, means, noisy, quarters = np.array_split(images, 4)
    other = draws.permutation(images)
    joined, middle, half = halves.copy(), len(halves) // 2, images.shape[1] // 2
    joined[:middle, :, half:] = other[:middle, :, half:]
    joined[middle:, half:] = other[middle : len(halves), half:]
    averaged = ((means.astype(np.uint16) + other[-len(means) :]) // 2).astype(np.uint8)
    share = draws.uniform(0.2, 1.0, (len(noisy), 1, 1))
    spoilt = (1 - share) * noisy + share * draws.normal(127.5, 127.5, noisy.shape)
    parts = quarters.reshape(-1, 2, half, 2, half).swapaxes(2, 3).reshape(-1, 4, half, half)
    places = draws.permuted(np.tile(np.arange(4), (len(parts), 1)), axis=1)
    parts = np.take_along_axis(parts, places[:, :, None, None], axis=1)
    moved = parts.reshape(-1, 2, 2, half, half).swapaxes(2, 3).reshape(quarters.shape)
    noise = np.rint(np.clip(spoilt, 0, 255)).astype(np.uint8)
    return np.concatenate([joined, averaged, noise, moved])


@functools.lru_cache(maxsize=4)
def _reader(data: str, shape: tuple[int, int]) -> Any:
    """The fitted network, for images of a shape; eight seconds on real data."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    arrays = mnist.load(data)
    digits, labels = mnist.shrink(arrays.x_train[-KNOWN:])[..., 0], arrays.y_train[-KNOWN:]
    assert digits.shape[1:] == shape
    others = no_digits(digits, seed=0)
    reader = MLPClassifier((256,), batch_size=200, max_iter=12, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # twelve passes are enough
        reader.fit(
            _seen(np.concatenate([digits, others])), np.r_[labels, np.full(len(others), NO_DIGIT)]
        )
    return reader


def _seen(images: np.ndarray) -> np.ndarray:
    return np.where(images < FAINT, 0, images).reshape(len(images), -1) / 255.0
