"""The problems by name, with their options.

Each entry of `PROBLEMS` names a function from a data set, a seed and options to a `Problem`. To add
one, write the function and its entry. Keras is imported only when a problem is built.
"""

from __future__ import annotations

import dataclasses
import importlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from experiments.options import known
from experiments.problems.problem import Problem

# The options that are not numbers, with their values.
CHOICES: dict[str, tuple[str, ...]] = {
    "weights": ("glorot_normal", "glorot_uniform", "he_normal", "lecun_normal", "normal_0.01"),
    "padding": ("same", "valid"),
    "whitening": ("zca", "channel", "none"),
    "pixels": ("real", "resampled"),
    "parameters": ("fixed", "moving"),
    "motion": ("rest", "walk", "jumps"),
    "kind": ("three", "online", "stochastic"),
    "bounds": ("clip", "wall"),
    "comparator": ("horizon", "prefix"),
    "frequencies": ("zipf", "equal"),
    "problem": ("logistic", "quadratic", "sparse", "absolute"),
}


# The options that are whole numbers, beside the numbers of examples, with their least values.
WHOLE = {
    "depth": 1,
    "heads": 1,
    "width": 1,
    "context": 1,
    "blocks": 1,
    "shift": 0,
    "classes": 1,
    "dimensions": 1,
}
# Options that every problem has, with their defaults: see the attributes of `Problem`.
COMMON = {"averages": 0.0}


@dataclass(frozen=True)
class Entry:
    """Where a problem is built, and its options with their defaults.

    Attributes:
        module: a module below `experiments`; it is imported when the problem is built.
        function: its function from a data set, a seed and the options to a `Problem`.
        options: the options' defaults.
        measured: whether there is no model to train: the function then yields what is recorded,
            row by row, from a data set, a seed, the optimizer's settings, the batch size, the
            number of epochs and the options.
        keras: whether what is measured needs Keras, which is then set up as for training.
    """

    module: str
    function: str
    options: Mapping[str, Any]
    measured: bool = False
    keras: bool = False


PROBLEMS: dict[str, Entry] = {
    "mnist_logistic_regression": Entry(
        "problems.classifiers",
        "logistic_regression",
        {
            "l2": 0.0,
            "train_examples": 60_000,
            "held_out_examples": 10_000,
            "initial_stddev": 0.0,
        },
    ),
    "imdb_logistic_regression": Entry(
        "problems.classifiers",
        "bag_of_words",
        {"dropout": 0.0, "l2": 0.0, "train_examples": 25_000, "held_out_examples": 25_000},
    ),
    "mnist_multilayer": Entry(
        "problems.classifiers",
        "multilayer",
        {
            "hidden": 1000,
            "input_dropout": 0.0,
            "hidden_dropout": 0.0,
            "l2": 0.0,
            "weights": "glorot_normal",
            "train_examples": 60_000,
            "held_out_examples": 10_000,
        },
    ),
    "cifar10_convolutional": Entry(
        "problems.classifiers",
        "convolutional",
        {
            "input_dropout": 0.0,
            "hidden_dropout": 0.0,
            "l2": 0.0,
            "weights": "normal_0.01",
            "padding": "same",
            "whitening": "zca",
            "floor": 0.01,
            "train_examples": 50_000,
            "held_out_examples": 10_000,
        },
    ),
    "mnist_variational": Entry(
        "problems.autoencoder",
        "variational",
        {
            "hidden": 500,
            "latent": 50,
            "weights": "normal_0.01",
            "pixels": "real",
            "prior": 0.0,
            "train_examples": 50_000,
            "held_out_examples": 10_000,
        },
    ),
    "tinyshakespeare_gpt": Entry(
        "problems.transformer",
        "gpt",
        {
            "depth": 4,
            "heads": 4,
            "width": 128,
            "context": 64,
            "train_examples": 2_400,
            "held_out_examples": 500,
        },
    ),
    "tinyshakespeare_masked": Entry(
        "problems.transformer",
        "masked",
        {
            "depth": 4,
            "heads": 4,
            "width": 128,
            "context": 64,
            "masked_share": 0.15,
            "train_examples": 2_400,
            "held_out_examples": 500,
        },
    ),
    "cifar10_resnet": Entry(
        "problems.resnet",
        "resnet",
        {
            "blocks": 3,
            "width": 16,
            "shift": 4,
            "l2": 0.0,
            "train_examples": 50_000,
            "held_out_examples": 10_000,
        },
    ),
    "mnist_diffusion": Entry(
        "problems.diffusion",
        "diffusion",
        {"width": 32, "train_examples": 6_400, "held_out_examples": 1_000},
    ),
    "imbalance": Entry(
        "problems.imbalance",
        "softmax_regression",
        {
            "classes": 500,
            "dimensions": 100,
            "spread": 1.0,
            "frequencies": "zipf",
            "train_examples": 20_000,
            "held_out_examples": 5_000,
        },
    ),
    "step_sizes": Entry(
        "theory.stepsize", "step_sizes", {"train_examples": 60_000, "scale": 1e-3}, measured=True
    ),
    "constructed_steps": Entry(
        "theory.stepsize", "constructed_steps", {"steps": 10_000}, measured=True
    ),
    "identities": Entry(
        "theory.identities",
        "identities",
        {"steps": 1_000, "dimensions": 100, "forgetting": 1e-8},
        measured=True,
    ),
    "drift": Entry(
        "theory.drift",
        "drift",
        {"motion": "walk", "steps": 10_000, "dimensions": 50, "speed": 0.01, "noise": 1.0},
        measured=True,
    ),
    "optimizer_state": Entry(
        "theory.memory", "optimizer_state", {"largest": 6}, measured=True, keras=True
    ),
    "moment_bias": Entry(
        "theory.bias",
        "moment_bias",
        {"parameters": "fixed", "train_examples": 60_000, "replicates": 32},
        measured=True,
    ),
    "regret": Entry(
        "theory.theorem",
        "regret",
        {
            "problem": "logistic",
            "comparator": "horizon",
            "train_examples": 10_000,
            "l2": 1e-3,
            "steps": 10_000,
            "dimensions": 100,
            "scale": 0.01,
        },
        measured=True,
    ),
    "counterexample": Entry(
        "theory.failures",
        "counterexample",
        {"kind": "three", "bounds": "clip", "c": 3.0, "x_1": 0.0, "steps": 300_000},
        measured=True,
    ),
}


def build(name: str, data: str, options: Mapping[str, Any], seed: int) -> Problem:
    """The problem `name` on a data set, with initial parameters decided by `seed`."""
    entry = PROBLEMS[name]
    module = importlib.import_module(f"experiments.{entry.module}")
    own = {key: value for key, value in options.items() if key not in COMMON}
    problem: Problem = getattr(module, entry.function)(data, seed, **{**entry.options, **own})
    return dataclasses.replace(problem, averages=bool(options.get("averages")))


def measure(run: Any) -> Iterator[dict[str, float]]:
    """What is measured by an `experiments.study.Run`, row by row; see `Entry.measured`."""
    entry = PROBLEMS[run.problem]
    module = importlib.import_module(f"experiments.{entry.module}")
    options = {**entry.options, **run.options}
    function: Callable[..., Iterator[dict[str, float]]] = getattr(module, entry.function)
    return function(run.data, run.seed, run.settings, run.batch_size, run.epochs, **options)


def check_options(name: str, options: Mapping[str, Any]) -> None:
    """Raise a ValueError of one line if an option is unknown or its value can't be right."""
    own = PROBLEMS[known("problem", name, PROBLEMS)].options
    for key, value in options.items():
        if key not in own and key not in COMMON:
            known(f"option of {name}", key, {**own, **COMMON})
        if key in CHOICES:
            if value not in CHOICES[key]:
                allowed = ", ".join(CHOICES[key])
                raise ValueError(f"{key}={value!r} is not valid for {name}: use one of {allowed}")
            continue
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not math.isfinite(value) or value < 0:
            raise ValueError(f"{key}={value!r} is not valid for {name}: use a number >= 0")
        if key in WHOLE and (value != int(value) or value < WHOLE[key]):
            allowed = f"a whole number, {WHOLE[key]} or more"
            raise ValueError(f"{key}={value!r} is not valid for {name}: use {allowed}")
        if key.endswith("dropout") and value >= 1:
            raise ValueError(f"{key}={value!r} is not valid for {name}: use a number in [0, 1)")
