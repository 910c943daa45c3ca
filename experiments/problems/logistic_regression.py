"""Multinomial logistic regression, the convex problem of Section 6.1."""

from __future__ import annotations

import keras
import numpy as np
from keras import ops

from experiments.problems import Problem
from experiments.problems import mnist as mnist_data


def mnist(
    data: str, seed: int, *, l2: float, train_examples: int, initial_stddev: float
) -> Problem:
    """Ten classes from 784 pixels in [0, 1]; weights start at N(0, initial_stddev^2), biases at 0.

    The cost is the cross-entropy in nats; the penalty is l2/2 times the squared norm of the
    weights (not of the biases), so that its gradient is `l2 * weights`.
    """
    arrays = mnist_data.load(data)
    if not 1 <= train_examples <= len(arrays.x_train):
        raise ValueError(
            f"train_examples={train_examples} is not valid: use 1 to {len(arrays.x_train)}"
        )
    weights = keras.initializers.RandomNormal(stddev=initial_stddev, seed=seed)
    model = keras.Sequential(
        [
            keras.Input((784,), dtype="uint8"),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Dense(10, kernel_initializer=weights),
        ]
    )
    kernel = model.trainable_variables[0]
    return Problem(
        model=model,
        train=(_flat(arrays.x_train[:train_examples]), _labels(arrays.y_train[:train_examples])),
        held_out=(_flat(arrays.x_test), _labels(arrays.y_test)),
        evaluate=classification,
        penalty=lambda model: l2 / 2 * ops.sum(ops.square(kernel)),
    )


def classification(model, images, labels, training):  # type: ignore[no-untyped-def]
    """Cross-entropy in nats and correctness of each example, for a model that gives logits."""
    logits = model(images, training=training)
    cost = ops.sparse_categorical_crossentropy(labels, logits, from_logits=True)
    correct = ops.equal(ops.cast(ops.argmax(logits, axis=-1), "int32"), labels)
    return cost, ops.cast(correct, "float32")


def _flat(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1)


def _labels(labels: np.ndarray) -> np.ndarray:
    return labels.astype(np.int32)
