"""The variational auto-encoder of Section 6.4, after Kingma & Welling (2013).

Arguments: see `registry.Entry.function`.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops

from experiments.data import mnist as mnist_data
from experiments.problems.classifiers import at_most, initializer
from experiments.problems.options import Variational
from experiments.problems.problem import Problem


class Sample(layers.Layer):
    """Draws z from N(mean, exp(log_variance)) so that gradients pass through both."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.seed_generator = keras.random.SeedGenerator()

    def call(self, mean: Any, log_variance: Any) -> Any:
        """One draw per example."""
        noise = keras.random.normal(ops.shape(mean), seed=self.seed_generator)
        return mean + ops.exp(log_variance / 2) * noise


def variational(data: str, seed: int, options: Variational) -> Problem:
    """A VAE of MNIST: one hidden softplus layer each way, Gaussian latents, Bernoulli pixels.

    The cost of an example is minus its variational bound, in nats: the divergence of the
    posterior over the latents from N(0, 1) plus the cross-entropy of the pixels, from one draw.
    The penalty is `prior` times -log N(weights; 0, 1) without its constant, per training example.
    """
    arrays = mnist_data.load(data)
    n = at_most(options.train_examples, len(arrays.x_train))
    m = at_most(options.held_out_examples, len(arrays.x_test), "held_out_examples")

    def dense(units: int, name: str, activation: str | None = None) -> layers.Layer:
        kernel = initializer(options.weights)
        return layers.Dense(units, activation, kernel_initializer=kernel, name=name)

    images = keras.Input((784,), dtype="uint8")
    target = layers.Rescaling(1 / 255)(images)
    code = dense(options.hidden, "encoder", "softplus")(target)
    mean = dense(options.latent, "mean")(code)
    log_variance = dense(options.latent, "log_variance")(code)
    drawn = Sample()(mean, log_variance)
    logits = dense(784, "pixels")(dense(options.hidden, "decoder", "softplus")(drawn))
    model = keras.Model(images, [target, mean, log_variance, logits])

    def evaluate(model: Any, images: Any, training: bool) -> tuple[Any, None]:
        target, mean, log_variance, logits = model(images, training=training)
        divergence = ops.exp(log_variance) + ops.square(mean) - 1 - log_variance
        pixel_cost = ops.softplus(logits) - target * logits
        return ops.sum(divergence, axis=1) / 2 + ops.sum(pixel_cost, axis=1), None

    variables = model.trainable_variables

    def penalty() -> Any:
        if not options.prior:
            return 0.0
        return (
            options.prior / (2 * n) * sum(ops.sum(ops.square(variable)) for variable in variables)
        )

    return Problem(
        model=model,
        train=(arrays.x_train[:n].reshape(n, -1),),
        held_out=(arrays.x_test[:m].reshape(m, -1),),
        evaluate=evaluate,
        penalty=penalty,
        diagnostics=("gradient_sparsity",),
    )
