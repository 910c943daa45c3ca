"""The classifiers of Sections 6.1 to 6.3: logistic regressions, a multilayer and a conv net.

All give logits; the cost is the cross-entropy in nats. Dropout scales what it keeps by
1/(1 - rate), so that evaluation uses the same weights as training. Arguments of the functions that
make a problem: see `registry.Entry.function`.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers, ops

from experiments.data import bags
from experiments.data import cifar10 as cifar10_data
from experiments.data import imdb as imdb_data
from experiments.data import mnist as mnist_data
from experiments.problems.options import BagOfWords, Convolutional, LogisticRegression, Multilayer
from experiments.problems.problem import Problem

CLASSES = 10


def logistic_regression(data: str, seed: int, options: LogisticRegression) -> Problem:
    """Ten classes from 784 pixels in [0, 1]; weights start at N(0, initial_stddev^2), biases at 0.

    The penalty is l2/2 times the squared norm of the weights (not the biases), so that its gradient
    is `l2 * weights`.
    """
    weights = keras.initializers.RandomNormal(stddev=options.initial_stddev, seed=seed)
    model = keras.Sequential(
        [
            keras.Input((784,), dtype="uint8"),
            layers.Rescaling(1 / 255),
            layers.Dense(CLASSES, kernel_initializer=weights),
        ]
    )
    return _mnist(data, model, options.train_examples, options.held_out_examples, options.l2)


def multilayer(data: str, seed: int, options: Multilayer) -> Problem:
    """Ten classes from 784 pixels in [0, 1] through two hidden layers of ReLUs (Section 6.2)."""
    model = keras.Sequential([keras.Input((784,), dtype="uint8"), layers.Rescaling(1 / 255)])
    _add(model, _dropout(options.input_dropout))
    for _ in range(2):
        model.add(
            layers.Dense(options.hidden, "relu", kernel_initializer=initializer(options.weights))
        )
        _add(model, _dropout(options.hidden_dropout))
    model.add(layers.Dense(CLASSES, kernel_initializer=initializer(options.weights)))
    return _mnist(data, model, options.train_examples, options.held_out_examples, options.l2)


def _mnist(
    data: str, model: keras.Model, train_examples: int, held_out_examples: int, l2: float
) -> Problem:
    arrays = mnist_data.load(data)
    n = at_most(train_examples, len(arrays.x_train))
    m = at_most(held_out_examples, len(arrays.x_test), "held_out_examples")
    return Problem(
        model=model,
        train=(_flat(arrays.x_train[:n]), _labels(arrays.y_train[:n])),
        held_out=(_flat(arrays.x_test[:m]), _labels(arrays.y_test[:m])),
        evaluate=classification,
        penalty=weight_decay(model, l2),
    )


def bag_of_words(data: str, seed: int, options: BagOfWords) -> Problem:
    """Two classes from the counts of 10,000 words: multinomial logistic regression, from zero.

    A review is a list of words and their counts; no array is ever 10,000 columns wide.
    """
    reviews = imdb_data.load(data)
    n = at_most(options.train_examples, len(reviews.x_train))
    m = at_most(options.held_out_examples, len(reviews.x_test), "held_out_examples")
    # The reviews are stored by class: take them evenly.
    kept = np.linspace(0, len(reviews.x_train) - 1, n).astype(int)
    held_out = np.linspace(0, len(reviews.x_test) - 1, m).astype(int)
    # Held-out reviews of similar length come together: a batch is cut at its longest.
    lengths = np.count_nonzero(reviews.counts_test[held_out], axis=1)
    held_out = held_out[np.argsort(lengths, kind="stable")]
    words, counts = (keras.Input((None,), dtype=kind) for kind in ("uint16", "uint8"))
    logits = SparseDense(bags.VOCABULARY, 2, options.dropout, name="logits")(words, counts)
    model = keras.Model([words, counts], logits)

    def evaluate(model: Any, words: Any, counts: Any, labels: Any, training: bool) -> Any:
        return classification(model, [words, counts], labels, training)

    test = (reviews.x_test, reviews.counts_test, _labels(reviews.y_test))
    return Problem(
        model=model,
        train=(reviews.x_train[kept], reviews.counts_train[kept], _labels(reviews.y_train[kept])),
        held_out=tuple(array[held_out] for array in test),
        evaluate=evaluate,
        penalty=weight_decay(model, options.l2),
    )


class SparseDense(layers.Layer):
    """A dense layer, from zero, on padded lists of columns and their values, (batch, length) each.

    It gives what `Dense` gives for `Dropout(rate)` of the same rows written out; where these are 0,
    dropout does nothing. A list ends at its first value of 0; the columns after that do not matter.

    Args:
        features: the number of columns.
        units: the number of outputs.
        dropout: the rate.
        **arguments: those of every Keras layer.
    """

    def __init__(self, features: int, units: int, dropout: float, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.kernel = self.add_weight(
            shape=(features, units), initializer="zeros", name="kernel", dtype="float32"
        )
        self.bias = self.add_weight(shape=(units,), initializer="zeros", name="bias")
        self.dropout = layers.Dropout(dropout)

    def call(self, columns: Any, values: Any, training: bool = False) -> Any:
        """The outputs, (batch, units).

        Args:
            columns: indices of the columns, (batch, length).
            values: the values there, of the same shape.
            training: whether dropout is on.
        """
        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            lengths = tf.reduce_sum(tf.cast(tf.cast(values, tf.bool), tf.int32), axis=1)
            longest = tf.reduce_max(lengths)
            columns, values = columns[:, :longest], values[:, :longest]
            if training:
                return self._sparse(columns, values, lengths) + self.bias
        values = self.dropout(ops.cast(values, "float32"), training=training)
        columns = ops.minimum(ops.cast(columns, "int32"), self.kernel.shape[0] - 1)
        rows = ops.take(self.kernel, columns, axis=0)
        return ops.einsum("bl,blu->bu", values, rows) + self.bias

    def _sparse(self, columns: Any, values: Any, lengths: Any) -> Any:
        """The same in training, without the padding: three times faster."""
        import tensorflow as tf

        batch, longest = tf.unstack(tf.shape(values))
        starts = tf.range(batch) * longest
        kept = tf.raw_ops.RaggedRange(
            starts=starts, limits=starts + lengths, deltas=tf.ones_like(starts), Tsplits=tf.int32
        ).rt_dense_values
        column = tf.cast(tf.gather(tf.reshape(columns, [-1]), kept), tf.int64)
        value = tf.cast(tf.gather(tf.reshape(values, [-1]), kept), tf.float32)
        places = tf.stack([tf.cast(kept // longest, tf.int64), column], axis=1)
        shape = (tf.cast(batch, tf.int64), self.kernel.shape[0])
        matrix = tf.SparseTensor(places, self.dropout(value, training=True), shape)
        return tf.sparse.sparse_dense_matmul(matrix, self.kernel.value)


def convolutional(data: str, seed: int, options: Convolutional) -> Problem:
    """The paper's c64-c64-c128-1000 on whitened 32x32 colour images (Section 6.3).

    Three stages of 5x5 convolution, ReLU and 3x3 max-pooling with stride 2, then 1000 ReLUs. With
    `filters` in the first two stages, the third has twice as many; `hidden` are the ReLUs. The
    `padding` is that of the convolutions; with "valid", a single pixel is left for the last pool.
    """
    y_train, y_test = cifar10_data.labels(data)
    x_train, x_test = cifar10_data.whitened(data, options.whitening, options.floor)
    n = at_most(options.train_examples, len(x_train))
    m = at_most(options.held_out_examples, len(x_test), "held_out_examples")
    model = keras.Sequential([keras.Input(x_train.shape[1:])])
    _add(model, _dropout(options.input_dropout))
    for i, filters in enumerate((options.filters, options.filters, 2 * options.filters), 1):
        kernel = initializer(options.weights)
        conv = layers.Conv2D(
            filters, 5, padding=options.padding, activation="relu", kernel_initializer=kernel
        )
        conv.name = f"conv{i}"
        model.add(conv)
        model.add(layers.MaxPooling2D(3, 2, padding="same"))
    model.add(layers.Flatten())
    full = initializer(options.weights)
    model.add(layers.Dense(options.hidden, "relu", kernel_initializer=full, name="full"))
    _add(model, _dropout(options.hidden_dropout))
    model.add(layers.Dense(CLASSES, kernel_initializer=initializer(options.weights), name="logits"))
    return Problem(
        model=model,
        train=(x_train[:n], _labels(y_train[:n])),
        held_out=(x_test[:m], _labels(y_test[:m])),
        evaluate=classification,
        penalty=weight_decay(model, options.l2),
        diagnostics=("second_moment",),
    )


def classification(model: Any, inputs: Any, labels: Any, training: bool) -> tuple[Any, Any]:
    """Cross-entropy in nats and correctness of each example, for a model that gives logits.

    Args:
        model: the model.
        inputs: what it takes, for a batch.
        labels: the right classes, int32 of shape (batch,).
        training: whether dropout is on.

    Returns:
        The costs and, as 0 or 1, the correctness, both float32 of shape (batch,).
    """
    logits = model(inputs, training=training)
    cost = ops.sparse_categorical_crossentropy(labels, logits, from_logits=True)
    correct = ops.equal(ops.cast(ops.argmax(logits, axis=-1), "int32"), labels)
    return cost, ops.cast(correct, "float32")


def weight_decay(model: keras.Model, l2: float) -> Any:
    """The penalty l2/2 times the squared norm of all weights, biases excluded."""
    if not l2:
        return lambda: 0.0
    kernels = [variable for variable in model.trainable_variables if len(variable.shape) > 1]
    return lambda: l2 / 2 * sum(ops.sum(ops.square(kernel)) for kernel in kernels)


def initializer(weights: str) -> keras.Initializer:
    """A new initializer for one of `options.Weights`; biases start at 0."""
    if weights.startswith("normal_"):
        return keras.initializers.RandomNormal(stddev=float(weights.removeprefix("normal_")))
    return keras.initializers.get(weights)


def at_most(examples: int, available: int, name: str = "train_examples") -> int:
    """The number of examples to use, if that many exist.

    Args:
        examples: how many are asked for.
        available: how many there are.
        name: the option's name, for the message.

    Raises:
        ValueError: fewer are available, or none are asked for.
    """
    if not 1 <= examples <= available:
        raise ValueError(f"{name}={examples} is not valid: use 1 to {available}")
    return examples


def _dropout(rate: float) -> list[keras.Layer]:
    return [layers.Dropout(rate)] if rate else []


def _add(model: keras.Sequential, steps: list[keras.Layer]) -> None:
    for step in steps:
        model.add(step)


def _flat(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1)


def _labels(labels: np.ndarray) -> np.ndarray:
    return labels.astype(np.int32)
