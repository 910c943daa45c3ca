"""Softmax regression on classes most of which are rare.

After F. Kunstner et al., Heavy-Tailed Class Imbalance and Why Adam Outperforms Gradient Descent on
Language Models (2024): the frequency of the k-th class is proportional to 1/k. Arguments: see
`registry.Entry.function`.
"""

from __future__ import annotations

import keras
import numpy as np
from keras import layers

from experiments.problems.classifiers import at_most, classification
from experiments.problems.options import Imbalance
from experiments.problems.problem import Problem
from experiments.randomness import stream

EXAMPLES, HELD_OUT = 20_000, 5_000


def softmax_regression(data: str, seed: int, options: Imbalance) -> Problem:
    """`classes` classes, each around a point of its own; the same data for every seed.

    The points are drawn from N(0, 1) in each of the `dimensions`, and the examples of a class
    around its point with the standard deviation `spread`. With the frequencies "zipf", the k-th
    class has a share proportional to 1/k; "equal" is the control. Training starts from zero. After
    each pass, the training cost is measured separately on the half of the examples in the more
    frequent classes and on the half in the less frequent ones.
    """
    n = at_most(options.train_examples, EXAMPLES)
    m = at_most(options.held_out_examples, HELD_OUT, "held_out_examples")
    draw = stream(0, "examples")
    points = draw.standard_normal((options.classes, options.dimensions))
    place = np.arange(1, options.classes + 1)
    share = 1 / place if options.frequencies == "zipf" else np.ones(options.classes)
    ends = np.cumsum(share / share.sum())

    def examples(count: int) -> tuple[np.ndarray, np.ndarray]:
        # Evenly spaced shares, so that every class gets the number of examples it is due.
        labels = np.searchsorted(ends[:-1], (np.arange(count) + 0.5) / count)
        labels = labels[draw.permutation(count)]
        inputs = points[labels] + options.spread * draw.standard_normal((count, options.dimensions))
        return inputs.astype(np.float32), labels.astype(np.int32)

    (x, y), (x_held_out, y_held_out) = examples(n), examples(m)
    order = np.argsort(y, kind="stable")  # the most frequent class first
    model = keras.Sequential(
        [
            keras.Input((options.dimensions,)),
            layers.Dense(options.classes, kernel_initializer="zeros", name="logits"),
        ]
    )
    return Problem(
        model=model,
        train=(x, y),
        held_out=(x_held_out, y_held_out),
        evaluate=classification,
        groups={"frequent": order[: n // 2], "rare": order[n // 2 :]},
    )
