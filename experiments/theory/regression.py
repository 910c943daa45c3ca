"""Logistic regression on MNIST by hand: examples, cost, gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.data import mnist
from experiments.theory.adam import Array

CLASSES = 10


@dataclass(frozen=True)
class Digits:
    """Training examples of MNIST: images (n, 784) of bytes and labels (n,)."""

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]

    def batch(self, which: Any) -> tuple[Array, NDArray[np.uint8]]:
        """The inputs (n, 785) of some examples, pixels in [0, 1] and a 1, and their labels."""
        images = self.images[which]
        x = np.ones((len(images), images.shape[1] + 1))
        np.divide(images, 255.0, out=x[:, :-1])
        return x, self.labels[which]


def load_digits(data: str, examples: int) -> Digits:
    """The first training examples of a data set.

    Raises:
        ValueError: there are not that many.
    """
    arrays = mnist.load(data)
    n = int(examples)
    if not 0 < n <= len(arrays.x_train):
        raise ValueError(f"train_examples={examples} is not valid: use 1 to {len(arrays.x_train)}")
    return Digits(arrays.x_train[:n].reshape(n, -1), arrays.y_train[:n])


def cross_entropy(theta: Array, x: Array, y: NDArray[np.uint8]) -> tuple[Array, Array]:
    """The cost of each example in nats, and its derivatives by the example's scores.

    With p = softmax(x theta), the cost is -log p_y and its derivatives are p - onehot(y). The
    gradient of the mean cost is `x.T @ derivatives / n`.

    Args:
        theta: the parameters (785, 10), or a stack of them, (..., 785, 10).
        x: inputs, (n, 785).
        y: labels, (n,).

    Returns:
        The costs, (..., n), and the derivatives, (..., n, 10).
    """
    scores = x @ theta
    scores -= scores.max(axis=-1, keepdims=True)
    scores -= np.log(np.exp(scores).sum(axis=-1, keepdims=True))
    rows = np.arange(len(y))
    costs = -scores[..., rows, y]
    derivatives = np.exp(scores)
    derivatives[..., rows, y] -= 1
    return costs, derivatives


def batch_gradients(digits: Digits, batches: NDArray[np.int32], theta: Array) -> Array:
    """The gradient of each batch's mean cost, (batches, coordinates).

    Args:
        digits: the examples.
        batches: their indices, (batches, batch_size).
        theta: the parameters, (785, 10).
    """
    gradients = np.empty((len(batches), theta.size))
    for i, which in enumerate(batches):
        x, y = digits.batch(which)
        gradients[i] = (x.T @ cross_entropy(theta, x, y)[1] / len(y)).ravel()
    return gradients
