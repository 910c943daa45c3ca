"""The problems by name, with their options.

Each entry of `PROBLEMS` names a function from a data set, a seed and options to a `Problem`. To add
a problem, write the function, the class of its options and the entry. Keras is imported only when a
problem is built.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from experiments.options import check_value, declared, known
from experiments.problems import options as trained
from experiments.problems.problem import Problem
from experiments.theory import options as measured


@dataclass(frozen=True)
class Entry:
    """Where a problem is built, and the class of its options.

    Attributes:
        module: a module below `experiments`; it is imported when the problem is built.
        function: its function `(data, seed, options)` to a `Problem`: `data` is a data set or its
            stand-in ("mnist", "mnist-stand-in"), `options` is an object of the class below, and
            `seed` is for initial parameters drawn without Keras's global seed, which decides all
            others (see `build`).
        options: what may be given, with the defaults: a class of `problems.options`, or of
            `theory.options`.
        measured: whether there is no model to train. The function
            `(data, seed, settings, batch_size, epochs, options)` then yields what is recorded, row
            by row: `settings` are the optimizer's, `batch_size` is in examples and `epochs` is the
            number of passes. Some measurements ignore some of these.
        keras: whether what is measured needs Keras, which is then set up as for training.
    """

    module: str
    function: str
    options: Callable[..., Any]
    measured: bool = False
    keras: bool = False


PROBLEMS: dict[str, Entry] = {
    "mnist_logistic_regression": Entry(
        "problems.classifiers", "logistic_regression", trained.LogisticRegression
    ),
    "imdb_logistic_regression": Entry("problems.classifiers", "bag_of_words", trained.BagOfWords),
    "mnist_multilayer": Entry("problems.classifiers", "multilayer", trained.Multilayer),
    "cifar10_convolutional": Entry("problems.classifiers", "convolutional", trained.Convolutional),
    "mnist_variational": Entry("problems.autoencoder", "variational", trained.Variational),
    "tinyshakespeare_gpt": Entry("problems.transformer", "gpt", trained.GPT),
    "tinyshakespeare_masked": Entry("problems.transformer", "masked", trained.Masked),
    "cifar10_resnet": Entry("problems.resnet", "resnet", trained.ResNet),
    "mnist_diffusion": Entry("problems.diffusion", "diffusion", trained.Diffusion),
    "imbalance": Entry("problems.imbalance", "softmax_regression", trained.Imbalance),
    "step_sizes": Entry("theory.stepsize", "step_sizes", measured.StepSizes, measured=True),
    "constructed_steps": Entry(
        "theory.stepsize", "constructed_steps", measured.ConstructedSteps, measured=True
    ),
    "signal_steps": Entry("theory.stepsize", "signal_steps", measured.SignalSteps, measured=True),
    "identities": Entry("theory.identities", "identities", measured.Identities, measured=True),
    "norms": Entry("theory.identities", "norms", measured.Norms, measured=True),
    "drift": Entry("theory.drift", "drift", measured.Drift, measured=True),
    "optimizer_state": Entry(
        "theory.memory", "optimizer_state", measured.OptimizerState, measured=True, keras=True
    ),
    "moment_bias": Entry("theory.bias", "moment_bias", measured.MomentBias, measured=True),
    "regret": Entry("theory.theorem", "regret", measured.Regret, measured=True),
    "counterexample": Entry(
        "theory.failures", "counterexample", measured.Counterexample, measured=True
    ),
}


def build(name: str, data: str, given: Mapping[str, Any], seed: int) -> Problem:
    """The problem `name` on a data set.

    Initial parameters follow Keras's global seed: the caller sets it first, with
    `keras.utils.set_random_seed`.

    Args:
        name: a key of `PROBLEMS`.
        data: the data set, or its stand-in.
        given: the options; those left out have their defaults.
        seed: of an initializer with a seed of its own; of all problems only
            `mnist_logistic_regression` has one.
    """
    entry = PROBLEMS[name]
    module = importlib.import_module(f"experiments.{entry.module}")
    chosen = entry.options(**given)
    problem: Problem = getattr(module, entry.function)(data, seed, chosen)
    return dataclasses.replace(
        problem, averages=bool(chosen.averages), stability=bool(chosen.stability)
    )


def measure(run: Any) -> Iterator[dict[str, float]]:
    """What is measured by an `experiments.study.Run`, row by row; see `Entry.measured`."""
    entry = PROBLEMS[run.problem]
    module = importlib.import_module(f"experiments.{entry.module}")
    function: Callable[..., Iterator[dict[str, float]]] = getattr(module, entry.function)
    chosen = entry.options(**run.options)
    return function(run.data, run.seed, run.settings, run.batch_size, run.epochs, chosen)


def check_options(name: str, given: Mapping[str, Any]) -> None:
    """Raise a ValueError of one line if an option is unknown or its value can't be right."""
    signature = PROBLEMS[known("problem", name, PROBLEMS)].options
    for key, value in given.items():
        known(f"option of {name}", key, declared(signature))
        check_value(name, key, value, signature)
