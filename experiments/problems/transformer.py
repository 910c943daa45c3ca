"""Two transformers on Tiny Shakespeare, letter by letter: a decoder (GPT) and a masked encoder.

Both are the same stack of blocks: layer norm and attention, then layer norm and two dense layers
with GELU, each half added to its input; no biases, no dropout; the output shares its weights with
the embedding (A. Radford et al., Language Models are Unsupervised Multitask Learners, 2019).
Weights start at N(0, 0.02^2), those that lead back into the sum at N(0, 0.02^2 / (2 depth)).

The examples are all windows of the text, which overlap. A pass draws `train_examples` new ones,
none of them twice: it is a number of steps, not the whole text. The held-out windows, evenly spaced
over the held-out text, do not overlap. Arguments: see `registry.Entry.function`.
"""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from experiments.data import shakespeare
from experiments.problems.classifiers import at_most
from experiments.problems.options import GPT, Masked
from experiments.problems.problem import Problem

STDDEV = 0.02
FAR = -1e9  # added to the score of what must not be seen


def gpt(data: str, seed: int, options: GPT) -> Problem:
    """Predict each letter from those before it in a window of `context` letters.

    The cost of a window is the mean over its letters, in nats; so is the validation loss.
    """
    text = shakespeare.load(data)
    size = len(text.alphabet)
    train, held_out = (
        shakespeare.windows(part, options.context + 1) for part in (text.train, text.held_out)
    )
    logits = transformer(
        size, size, options.depth, options.heads, options.width, options.context, causal=True
    )

    def evaluate(model: Any, window: Any, training: bool) -> tuple[Any, None]:
        letters = ops.cast(window, "int32")
        found = model(letters[:, :-1], training=training)
        costs = ops.sparse_categorical_crossentropy(letters[:, 1:], found, from_logits=True)
        return ops.mean(costs, axis=1), None

    held_out = _spaced(held_out, options.context, options.held_out_examples)
    return _problem(logits, evaluate, train, held_out, options.train_examples)


def masked(data: str, seed: int, options: Masked) -> Problem:
    """Predict the letters at hidden places of a window from all others, on either side.

    Each time a window is seen, a fixed number of its places is drawn: `masked_share` of them,
    rounded. The cost is the mean over these places alone, in nats per letter.

    Raises:
        ValueError: `masked_share` hides no letter or all of them.
    """
    text = shakespeare.load(data)
    size = len(text.alphabet)
    train, held_out = (
        shakespeare.windows(part, options.context) for part in (text.train, text.held_out)
    )
    context = options.context
    hidden = round(options.masked_share * context)
    if not 1 <= hidden < context:
        raise ValueError(
            f"masked_share={options.masked_share} is not valid: it hides {hidden} of {context} "
            f"letters; use {1 / context:g} to {1 - 1 / context:g}"
        )
    letters = keras.Input((context,), dtype="int32")
    places, shown = Hide(hidden, size, name="hide")(letters)
    # One more token: the sign that stands where a letter is hidden.
    logits = transformer(
        size + 1, size, options.depth, options.heads, options.width, context, causal=False
    )
    model = keras.Model(letters, [places, logits([shown, places])])

    def evaluate(model: Any, window: Any, training: bool) -> tuple[Any, None]:
        letters = ops.cast(window, "int32")
        places, found = model(letters, training=training)
        wanted = ops.take_along_axis(letters, places, axis=1)
        costs = ops.sparse_categorical_crossentropy(wanted, found, from_logits=True)
        return ops.mean(costs, axis=1), None

    held_out = _spaced(held_out, context, options.held_out_examples)
    return _problem(model, evaluate, train, held_out, options.train_examples)


def _problem(
    model: keras.Model, evaluate: Any, train: np.ndarray, held_out: np.ndarray, train_examples: int
) -> Problem:
    return Problem(
        model=model,
        train=(train,),
        held_out=(held_out,),
        evaluate=evaluate,
        pass_examples=at_most(train_examples, len(train)),
    )


class Hide(layers.Layer):
    """Draws `hidden` places of each row and puts `sign` there.

    Args:
        hidden: how many places.
        sign: the token that hides a letter.
        **arguments: those of every Keras layer.
    """

    def __init__(self, hidden: int, sign: int, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.hidden, self.sign = hidden, sign
        self.seed_generator = keras.random.SeedGenerator()

    def call(self, letters: Any) -> tuple[Any, Any]:
        """The places, (batch, hidden), and the letters with these hidden."""
        draw = keras.random.uniform(ops.shape(letters), seed=self.seed_generator)
        largest, places = ops.top_k(draw, self.hidden)
        return places, ops.where(draw >= largest[:, -1:], self.sign, letters)


def transformer(
    tokens: int, outputs: int, depth: int, heads: int, width: int, context: int, *, causal: bool
) -> keras.Model:
    """The stack: from tokens, (batch, context), to logits at each place.

    Args:
        tokens: how many different ones there are.
        outputs: how many of them there are logits for.
        depth: number of blocks.
        heads: of each attention.
        width: of the sum that runs through the blocks; a multiple of `heads`.
        context: tokens in a window.
        causal: whether a place attends only to those up to it. If not, the model's second input
            lists the places that logits are wanted for.

    Raises:
        ValueError: `width` is not a multiple of `heads`.
    """
    if width % heads:
        raise ValueError(f"heads={heads} is not valid: width={width} is not a multiple of it")
    letters = keras.Input((context,), dtype="int32", name="letters")
    embedding = layers.ReversibleEmbedding(
        tokens, width, embeddings_initializer=_normal(STDDEV), name="embedding"
    )
    x = Positions(context, width, name="positions")(embedding(letters))
    for i in range(1, depth + 1):
        x = x + _attention(_norm(x, f"norm{i}a"), heads, width, context, causal, depth, i)
        inner = _dense(4 * width, f"expand{i}", "gelu")(_norm(x, f"norm{i}b"))
        x = x + _dense(width, f"contract{i}", stddev=STDDEV / math.sqrt(2 * depth))(inner)
    inputs = [letters]
    if not causal:
        places = keras.Input((None,), dtype="int32", name="places")
        x = ops.take_along_axis(x, places[:, :, None], axis=1)
        inputs.append(places)
    logits = embedding(_norm(x, "norm"), reverse=True)[..., :outputs]
    return keras.Model(inputs if len(inputs) > 1 else letters, logits, name="transformer")


class Positions(layers.Layer):
    """Adds a learned vector for each place.

    Args:
        context: the number of places.
        width: of each vector.
        **arguments: those of every Keras layer.
    """

    def __init__(self, context: int, width: int, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.vectors = self.add_weight(
            shape=(context, width), initializer=_normal(STDDEV), name="vectors"
        )

    def call(self, x: Any) -> Any:
        """The sum."""
        return x + self.vectors


def _attention(
    x: Any, heads: int, width: int, context: int, causal: bool, depth: int, i: int
) -> Any:
    """Scaled dot-product attention of every place to all places, or to those up to it."""
    part = width // heads
    joined = ops.reshape(_dense(3 * width, f"attend{i}")(x), (-1, context, 3, heads, part))
    query, key, value = ops.unstack(ops.transpose(joined, (2, 0, 3, 1, 4)), 3)
    scores = ops.matmul(query * part**-0.5, ops.swapaxes(key, -1, -2))
    if causal:
        scores = scores + np.triu(np.full((context, context), FAR, np.float32), 1)
    seen = ops.matmul(ops.softmax(scores), value)
    seen = ops.reshape(ops.transpose(seen, (0, 2, 1, 3)), (-1, context, width))
    return _dense(width, f"project{i}", stddev=STDDEV / math.sqrt(2 * depth))(seen)


def _dense(
    units: int, name: str, activation: str | None = None, stddev: float = STDDEV
) -> layers.Layer:
    return layers.Dense(
        units, activation, use_bias=False, kernel_initializer=_normal(stddev), name=name
    )


def _norm(x: Any, name: str) -> Any:
    return layers.LayerNormalization(epsilon=1e-5, center=False, name=name)(x)


def _normal(stddev: float) -> keras.Initializer:
    return keras.initializers.RandomNormal(stddev=stddev)


def _spaced(found: np.ndarray, context: int, count: int) -> np.ndarray:
    """`count` windows, evenly spaced, such that no letter is to be guessed twice."""
    apart = found[::context]
    kept = at_most(count, len(apart), "held_out_examples")
    return apart[np.arange(kept) * len(apart) // kept]
