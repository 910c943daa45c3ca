"""The options of the problems with a model: what each may be, and their defaults.

A problem's function takes an object of its class. Keras is not imported here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from experiments.options import AtLeastZero, BelowOne, Count, Interval, Positive

Weights = Literal["glorot_normal", "he_normal", "normal_0.01"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of every problem with a model.

    Attributes:
        averages: 1 where the averages of Section 7.2 are kept and measured after each pass.
        stability: 1 where steps are compared with the noise of the gradient after each pass.
        train_examples: training examples of a pass.
        held_out_examples: examples that training never sees.
    """

    averages: AtLeastZero = 0.0
    stability: AtLeastZero = 0.0
    train_examples: Count
    held_out_examples: Count


@dataclass(frozen=True, kw_only=True)
class LogisticRegression(Options):
    """Of `mnist_logistic_regression`."""

    l2: AtLeastZero = 0.0
    train_examples: Count = 60_000
    held_out_examples: Count = 10_000
    initial_stddev: AtLeastZero = 0.0


@dataclass(frozen=True, kw_only=True)
class BagOfWords(Options):
    """Of `imdb_logistic_regression`."""

    dropout: BelowOne = 0.0
    l2: AtLeastZero = 0.0
    train_examples: Count = 25_000
    held_out_examples: Count = 25_000


@dataclass(frozen=True, kw_only=True)
class Multilayer(Options):
    """Of `mnist_multilayer`."""

    hidden: Count = 1000
    input_dropout: BelowOne = 0.0
    hidden_dropout: BelowOne = 0.0
    l2: AtLeastZero = 0.0
    weights: Weights = "glorot_normal"
    train_examples: Count = 60_000
    held_out_examples: Count = 10_000


@dataclass(frozen=True, kw_only=True)
class Convolutional(Options):
    """Of `cifar10_convolutional`."""

    filters: Count = 64
    hidden: Count = 1000
    input_dropout: BelowOne = 0.0
    hidden_dropout: BelowOne = 0.0
    l2: AtLeastZero = 0.0
    weights: Weights = "normal_0.01"
    padding: Literal["same", "valid"] = "same"
    whitening: Literal["zca", "channel", "none"] = "zca"
    floor: Positive = 0.01
    train_examples: Count = 50_000
    held_out_examples: Count = 10_000


@dataclass(frozen=True, kw_only=True)
class Variational(Options):
    """Of `mnist_variational`.

    Attributes:
        pixels: the grey values as they are, not drawn as black or white; there is no other choice,
            but the name is part of its runs' ids.
    """

    hidden: Count = 500
    latent: Count = 50
    weights: Weights = "normal_0.01"
    pixels: Literal["real"] = "real"
    prior: AtLeastZero = 0.0
    train_examples: Count = 50_000
    held_out_examples: Count = 10_000


@dataclass(frozen=True, kw_only=True)
class GPT(Options):
    """Of `tinyshakespeare_gpt`."""

    depth: Count = 4
    heads: Count = 4
    width: Count = 128
    context: Count = 64
    train_examples: Count = 2_400
    held_out_examples: Count = 500


@dataclass(frozen=True, kw_only=True)
class Masked(GPT):
    """Of `tinyshakespeare_masked`."""

    masked_share: BelowOne = 0.15


@dataclass(frozen=True, kw_only=True)
class ResNet(Options):
    """Of `cifar10_resnet`.

    Attributes:
        side: pixels of an image in each direction; 16 takes means of 2x2 pixels.
    """

    side: Literal[32, 16] = 32
    blocks: Count = 3
    width: Count = 16
    shift: Annotated[int, Interval(0, whole=True)] = 4
    l2: AtLeastZero = 0.0
    train_examples: Count = 50_000
    held_out_examples: Count = 10_000


@dataclass(frozen=True, kw_only=True)
class Diffusion(Options):
    """Of `mnist_diffusion`.

    Attributes:
        drawn: images that the model draws after each pass, to be read by a classifier.
    """

    width: Count = 32
    drawn: Annotated[int, Interval(0, whole=True)] = 0
    train_examples: Count = 6_400
    held_out_examples: Count = 1_000


@dataclass(frozen=True, kw_only=True)
class Imbalance(Options):
    """Of `imbalance`."""

    classes: Count = 500
    dimensions: Count = 100
    spread: AtLeastZero = 1.0
    frequencies: Literal["zipf", "equal"] = "zipf"
    train_examples: Count = 20_000
    held_out_examples: Count = 5_000
