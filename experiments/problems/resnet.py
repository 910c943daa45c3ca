"""ResNet-20 for CIFAR-10 (He et al., Deep Residual Learning for Image Recognition, 2015).

Arguments: see `registry.Entry.function`.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers, ops

from experiments.data import cifar10
from experiments.data.images import halve
from experiments.problems.classifiers import CLASSES, at_most, classification, weight_decay
from experiments.problems.options import ResNet
from experiments.problems.problem import Problem


def resnet(data: str, seed: int, options: ResNet) -> Problem:
    """Three stages of `blocks` residual blocks with `width`, 2 and 4 times as many filters.

    Three blocks of 16 make ResNet-20. Shortcuts have no weights: where a stage begins, they take
    every second pixel and pad with zeros (the paper's option A). Batch norm has the paper's decay
    of 0.9; the weights are He's normal ones. In training, an image is flipped at random and moved
    by up to `shift` pixels each way over a background of the mean colour; a shift of 0 leaves
    images as they are. A `side` of 16 halves the images in both directions.
    """
    arrays = cifar10.load(data)
    n = at_most(options.train_examples, len(arrays.x_train))
    m = at_most(options.held_out_examples, len(arrays.x_test), "held_out_examples")
    train, held_out = arrays.x_train[:n], arrays.x_test[:m]
    if options.side < train.shape[1]:
        train, held_out = halve(train), halve(held_out)
    mean, stddev = _colours(train)
    images = keras.Input((options.side, options.side, 3), dtype="uint8")
    x = layers.Normalization(mean=mean, variance=stddev**2, name="normalize")(images)
    x = FlipAndShift(options.shift, name="flip_and_shift")(x) if options.shift else x
    x = _convolve(x, options.width, 1, "first")
    for stage in range(3):
        for block in range(options.blocks):
            x = _block(
                x, options.width * 2**stage, 2 if stage and not block else 1, f"{stage}_{block}"
            )
    x = layers.GlobalAveragePooling2D()(x)
    logits = layers.Dense(CLASSES, kernel_initializer="he_normal", name="logits")(x)
    model = keras.Model(images, logits)
    return Problem(
        model=model,
        train=(train, arrays.y_train[:n].astype(np.int32)),
        held_out=(held_out, arrays.y_test[:m].astype(np.int32)),
        evaluate=classification,
        penalty=weight_decay(model, options.l2),
    )


def _colours(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation of each colour, from integer sums, whose order does not matter."""
    counts = np.stack([np.bincount(images[..., i].ravel(), minlength=256) for i in range(3)])
    values = np.arange(256)
    mean = counts @ values / counts.sum(axis=1)
    return mean, np.sqrt(np.maximum(counts @ values**2 / counts.sum(axis=1) - mean**2, 1.0))


def _convolve(x: Any, filters: int, stride: int, name: str, activate: bool = True) -> Any:
    x = layers.Conv2D(
        filters,
        3,
        stride,
        padding="same",
        use_bias=False,
        kernel_initializer="he_normal",
        name=f"conv{name}",
    )(x)
    x = layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"norm{name}")(x)
    return layers.ReLU()(x) if activate else x


def _block(x: Any, filters: int, stride: int, name: str) -> Any:
    shortcut = x
    if stride > 1:
        missing = filters - x.shape[-1]
        thinned = x[:, ::stride, ::stride]
        sides = (missing // 2, missing - missing // 2)
        shortcut = ops.pad(thinned, ((0, 0), (0, 0), (0, 0), sides))
    inner = _convolve(x, filters, stride, f"{name}a")
    return layers.ReLU()(_convolve(inner, filters, 1, f"{name}b", activate=False) + shortcut)


class FlipAndShift(layers.Layer):
    """In training, mirrors each image with probability 1/2 and moves it by up to `shift` pixels."""

    def __init__(self, shift: int, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.shift = shift
        self.seed_generator = keras.random.SeedGenerator()

    def call(self, images: Any, training: bool = False) -> Any:
        """Images of the same shape; what is moved in from outside is 0."""
        if not training:
            return images
        height, width, colours = images.shape[1:]
        around = self.shift
        draws = keras.random.uniform((ops.shape(images)[0], 3), seed=self.seed_generator)
        moved = ops.cast(ops.floor(draws[:, :2] * (2 * around + 1)), "int32")
        rows = np.arange(height, dtype=np.int32)[None] + moved[:, :1]
        columns = np.arange(width, dtype=np.int32)[None]
        columns = ops.where(draws[:, 2:] < 0.5, columns, width - 1 - columns) + moved[:, 1:]
        border = ((0, 0), (around, around), (around, around), (0, 0))
        padded = ops.pad(images, border)
        padded = ops.reshape(padded, (-1, (height + 2 * around) * (width + 2 * around), colours))
        places = rows[:, :, None] * (width + 2 * around) + columns[:, None, :]
        places = ops.reshape(places, (-1, height * width, 1))
        found = ops.take_along_axis(padded, places, axis=1)
        return ops.reshape(found, (-1, height, width, colours))
