"""The optimizer's share of a training step: adam_tf.Adam beside keras.optimizers.Adam.

    python benchmarks/optimizer_share.py                # every model, one thread
    python benchmarks/optimizer_share.py --model gpt --rounds 9

Each model is trained in two ways: by the studies' compiled loop (`experiments/training/loops.py`)
and by `Model.fit` on arrays; with either Adam, and with a plain `w -= rate * g`, the least that any
training needs. All take turns of some steps within one process, so that other load on the machine
affects all of them alike. Times are processor times, which other load disturbs least.

- *share*: the processor time of the update alone, for given gradients of the model's variables, as
  a part of the step's. The update runs many times within one call, as it does in the loop.
- *against plain*: the part of a step that goes when the plain update takes Adam's place: the median
  of the rounds. It is a difference of two large numbers, and noisy where a step is long.
- *step / keras*: the step with `adam_tf.Adam` over that with `keras.optimizers.Adam`, the median of
  the rounds' ratios.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import training_step
from step_worker import RATE, Plain

from experiments.cli.parser import Parser
from experiments.training import runtime

UPDATES = ("adam_tf", "keras", "plain")
MODELS = ("fig1-mnist", "gpt", "resnet")
Turn = Callable[[np.ndarray], object]  # trains on batches given by their indices, (steps, batch)


def optimizer(update: str, ours: Any) -> Any:
    """One of `UPDATES`; `ours` is what the plain one is outside Keras' loop, or None."""
    import keras

    from adam_tf import Adam

    if update == "plain":
        return ours or keras.optimizers.SGD(RATE)
    return Adam(RATE) if update == "adam_tf" else keras.optimizers.Adam(RATE)


def problem(model: training_step.Model, data: str) -> Any:
    """The problem with its first weights."""
    import keras

    from experiments.problems import registry

    keras.utils.set_random_seed(0)
    return registry.build(model.problem, data, model.options, seed=0)


def loop(model: training_step.Model, data: str, update: str) -> Turn:
    """The studies' loop."""
    from experiments.training import loops

    made, chosen = problem(model, data), optimizer(update, Plain())
    if update != "plain":
        chosen.build(made.model.trainable_variables)
    return loops.compile_loops(made, chosen).train_epoch


def fit(model: training_step.Model, data: str, update: str) -> Turn:
    """Keras' loop, on arrays."""
    import keras

    made = problem(model, data)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    made.model.compile(optimizer(update, None), loss, jit_compile=False)
    if len(made.train) == 2:
        x, y = made.train
    else:  # windows of letters: each from those before it
        windows = made.train[0].astype("int32")
        x, y = windows[:, :-1], windows[:, 1:]

    def turn(order: np.ndarray) -> object:
        rows = order.ravel()
        return made.model.fit(x[rows], y[rows], batch_size=order.shape[1], verbose=0)

    return turn


def alone(model: training_step.Model, data: str, update: str) -> Turn:
    """As many updates as there are batches, by the same gradients, in one call."""
    import tensorflow as tf

    variables = problem(model, data).model.trainable_variables
    chosen = optimizer(update, Plain())
    if update != "plain":
        chosen.build(variables)
    rng = np.random.default_rng(0)
    gradients = [tf.constant(rng.standard_normal(v.shape), v.dtype) for v in variables]

    @tf.function(autograph=False)
    def run(steps: Any) -> Any:
        def step(i: Any) -> Any:
            chosen.apply(gradients, variables)
            return (i + 1,)

        return tf.while_loop(lambda i: i < steps, step, (0,))

    return lambda order: run(tf.constant(len(order)))[0].numpy()


WAYS = {"loop": loop, "fit": fit, "update alone": alone}


def measure(name: str, rounds: int) -> None:
    """Print the rows of a model."""
    model = training_step.MODELS[name]
    data = training_step.local_data(model.data_set)
    turns = {(way, u): make(model, data, u) for way, make in WAYS.items() for u in UPDATES}
    available = model.options["train_examples"]
    steps = min(model.steps, available // model.batch_size)
    draws = np.random.default_rng(0)

    def order(way: str) -> np.ndarray:
        n = max(steps, 20) if way == "update alone" else steps
        return np.resize(draws.permutation(available), (n, model.batch_size)).astype(np.int32)

    for (way, _), turn in turns.items():
        turn(order(way))  # compiles
    busy: dict[tuple[str, str], list[float]] = {key: [] for key in turns}
    for _ in range(rounds):
        for (way, update), turn in turns.items():
            batches = order(way)
            start = time.process_time()
            turn(batches)
            busy[way, update].append(1e3 * (time.process_time() - start) / len(batches))
    for way in ("loop", "fit"):
        row = [model.title, way]
        for update in UPDATES[:2]:
            step, spent, plain = busy[way, update], busy["update alone", update], busy[way, "plain"]
            row += [f"{statistics.median(step):.3g}", f"{statistics.median(spent):.3g}"]
            row += [
                f"{training_step.median_ratio(spent, step):.1%}",
                f"{1 - training_step.median_ratio(plain, step):.1%}",
            ]
        row.append(f"{training_step.median_ratio(busy[way, 'adam_tf'], busy[way, 'keras']):.3f}")
        print("|", " | ".join(row), "|", flush=True)


def main() -> int:
    """Print the table; 2 for bad input."""
    parser = Parser(prog="optimizer_share.py", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", choices=MODELS, help="only this one")
    parser.add_argument("--rounds", type=training_step.count, default=7, help="turns of each")
    options = parser.parse_args()
    os.environ["KERAS_BACKEND"] = "tensorflow"
    runtime.configure(1)
    versions = ", ".join(f"{n} {v}" for n, v in training_step.libraries().items())
    print(f"{runtime.processor()}; one thread; rounds: {options.rounds}; {versions}")
    print(f"load before the start: {os.getloadavg()[0]:.1f}\n")
    columns = ["model", "way"]
    for library in ("adam_tf", "keras"):
        columns += [f"{library}: step, ms", "update, ms", "share", "against plain"]
    columns.append("step / keras")
    print("|", " | ".join(columns), "|\n" + "|---" * len(columns) + "|")
    for name in [options.model] if options.model else MODELS:
        measure(name, options.rounds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
