"""A diffusion model of MNIST: a small U-Net that predicts noise.

After J. Ho, A. Jain, P. Abbeel: Denoising Diffusion Probabilistic Models (2020), with the cosine
schedule of A. Nichol, P. Dhariwal: Improved Denoising Diffusion Probabilistic Models (2021) in
continuous time: at time t in [0, 1) an image is cos(pi t / 2) x + sin(pi t / 2) noise. Arguments:
see `registry.Entry.function`.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from experiments.data import mnist
from experiments.problems import samples
from experiments.problems.classifiers import at_most
from experiments.problems.options import Diffusion
from experiments.problems.problem import Problem

SIDE = 16


def diffusion(data: str, seed: int, options: Diffusion) -> Problem:
    """Predict the noise in a 16x16 image with a U-Net of `width` channels, double at half size.

    The cost of an image is the mean squared error of the noise over its pixels, for one time and
    one draw of the noise whenever the image is seen. A pass draws `train_examples` of the 60,000
    images, so it is a number of steps. After each pass the model draws `drawn` images, and a
    classifier reads them.

    Raises:
        ValueError: there are fewer examples than asked.
    """
    arrays = mnist.load(data)
    train, held_out = (mnist.shrink(images) for images in (arrays.x_train, arrays.x_test))
    m = at_most(options.held_out_examples, len(held_out), "held_out_examples")
    images = keras.Input((SIDE, SIDE, 1), dtype="uint8")
    noisy, time, noise = Spoil(name="spoil")(layers.Rescaling(1 / 127.5, -1.0)(images))
    model = keras.Model(images, [noise, unet(options.width)([noisy, time])])

    def evaluate(model: Any, images: Any, training: bool) -> tuple[Any, None]:
        noise, found = model(images, training=training)
        return ops.mean(ops.square(noise - found), axis=(1, 2, 3)), None

    return Problem(
        model=model,
        train=(train,),
        held_out=(held_out[:m],),
        evaluate=evaluate,
        pass_examples=at_most(options.train_examples, len(train)),
        draws=partial(_drawn, model, options.drawn, data, held_out[:m]) if options.drawn else None,
    )


def _drawn(
    model: keras.Model, count: int, data: str, real: np.ndarray
) -> tuple[dict[str, float], str]:
    """The shares read as digits of what the model draws and, as a control, of real digits."""
    images = samples.draw(model.get_layer("unet"), count)
    shares = {
        "read_as_digits": samples.share_read(images, data),
        "real_read_as_digits": samples.share_read(real[..., 0], data),
    }
    return shares, samples.picture(images)


class Spoil(layers.Layer):
    """Draws a time and noise for each image and mixes the two."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.seed_generator = keras.random.SeedGenerator()

    def call(self, images: Any) -> tuple[Any, Any, Any]:
        """The noisy images, their times (batch, 1), and the noise."""
        time = keras.random.uniform((ops.shape(images)[0], 1), seed=self.seed_generator)
        noise = keras.random.normal(ops.shape(images), seed=self.seed_generator)
        angle = time[:, :, None, None] * (math.pi / 2)
        return ops.cos(angle) * images + ops.sin(angle) * noise, time, noise


def unet(width: int) -> keras.Model:
    """From noisy images and their times to the noise."""
    noisy, time = keras.Input((SIDE, SIDE, 1)), keras.Input((1,))
    # Sines of twelve frequencies, of which the highest is a thousand times the lowest.
    angles = time * (2 * math.pi * np.geomspace(0.25, 250, 12, dtype=np.float32))[None]
    code = ops.concatenate([ops.sin(angles), ops.cos(angles)], axis=-1)
    code = layers.Dense(4 * width, "silu", name="time")(code)
    fine = _residual(_conv(noisy, width, "in"), code, width, "fine")
    coarse = _conv(fine, 2 * width, "down", stride=2)
    coarse = _residual(_residual(coarse, code, 2 * width, "middle1"), code, 2 * width, "middle2")
    up = _conv(layers.UpSampling2D(2)(coarse), width, "up")
    # A convolution joins the two branches.
    joined = _conv(ops.concatenate([up, fine], axis=-1), width, "join")
    last = ops.silu(_norm(_residual(joined, code, width, "last"), "norm"))
    # Norms take away how bright an image is as a whole, so the last layer sees the image, too.
    last = ops.concatenate([last, noisy], axis=-1)
    return keras.Model([noisy, time], _conv(last, 1, "out"), name="unet")


def _residual(x: Any, code: Any, width: int, name: str) -> Any:
    """Two convolutions with the time in between, added to the input."""
    inner = _conv(ops.silu(_norm(x, f"{name}_norm1")), width, f"{name}_conv1")
    inner = inner + layers.Dense(width, name=f"{name}_time")(code)[:, None, None]
    return x + _conv(ops.silu(_norm(inner, f"{name}_norm2")), width, f"{name}_conv2")


def _norm(x: Any, name: str) -> Any:
    # Over all channels: one group for each would hide which of them are large.
    return layers.GroupNormalization(1, epsilon=1e-5, name=name)(x)


def _conv(x: Any, width: int, name: str, stride: int = 1) -> Any:
    return layers.Conv2D(width, 3, stride, padding="same", name=name)(x)
