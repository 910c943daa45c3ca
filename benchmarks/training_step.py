"""Milliseconds per training step of every model: this project's loops, PyTorch, optax, Keras' fit.

    python benchmarks/training_step.py                    # a table for each model, one thread
    python benchmarks/training_step.py --model fig2-dropout --rounds 9 --threads 2

The contestants train the same model on the same data in the same batches, each in a process of its
own. They take turns of some steps, so that other load on the machine affects all of them alike;
while one has its turn, the others wait. A ratio is the median of the rounds' ratios.

- TensorFlow loop, JAX loop: what the studies run
  (`experiments/training/loops.py`) with `adam_tf.Adam`;
- PyTorch: eager, with its fused Adam, channels last for convolutions;
- optax: JAX, with the steps of a turn in one `lax.scan` (convolutions on CPUs: a call for each);
- Keras fit: `Model.fit` on arrays, where the model is Sequential.

Processor time tells how many threads were at work, and is what other load disturbs least; the last
three columns are made from it. Adam's share is the part of a step that disappears when a plain
`w -= rate * g`, the least that any training needs, takes its place. The floor is the time for the
products of the step's matrices alone, at the best rate that TensorFlow reaches on matrices of
1024 x 1024 in its turns with as many threads.
Libraries that are not installed are left out.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from experiments.cli.parser import Parser
from experiments.data import catalogue, download, files
from experiments.training import runtime


@dataclass(frozen=True)
class Model:
    """A model as a study trains it.

    Attributes:
        title: its name in the table.
        problem: a key of `experiments.problems.registry.PROBLEMS`.
        data_set: a key of `experiments.data.catalogue.DATASETS`.
        options: the problem's options.
        batch_size: examples in a step.
        steps: steps in a turn, some tenths of a second.
        flops: the products and sums of the step's matrix products, given the mean number of
            different words in a review; derivatives by the examples themselves are not needed.
        sequential: whether Keras' `fit` can train it as it is.
        optax: whether it is written for optax, too.
    """

    title: str
    problem: str
    data_set: str
    options: dict[str, Any]
    batch_size: int
    steps: int
    flops: Callable[[float], float]
    sequential: bool = False
    optax: bool = True


def dense(batch: int, *widths: int) -> float:
    """Operations of one step of dense layers of these widths; the first one's inputs are data."""
    pairs = enumerate(itertools.pairwise(widths))
    return sum(2 * batch * a * b * (2 if i == 0 else 3) for i, (a, b) in pairs)


def convolutions(batch: int, kernel: int, *stages: tuple[int, int, int]) -> float:
    """The same for convolutions, given as (side of the output, channels in, channels out)."""
    return sum(
        2 * batch * side**2 * kernel**2 * a * b * (2 if i == 0 else 3)
        for i, (side, a, b) in enumerate(stages)
    )


MODELS = {
    "fig1-mnist": Model(
        "logistic regression, MNIST",
        "mnist_logistic_regression",
        "mnist",
        {"l2": 1e-4, "train_examples": 60_000},
        128,
        468,
        lambda words: dense(128, 784, 10),
        sequential=True,
    ),
    "fig1-imdb": Model(
        "logistic regression, IMDB, dropout",
        "imdb_logistic_regression",
        "imdb",
        {"dropout": 0.5, "train_examples": 20_480},
        128,
        160,
        lambda words: 2 * 2 * 128 * words * 2,
    ),
    "fig2-dropout": Model(
        "784-1000-1000-10, MNIST, dropout",
        "mnist_multilayer",
        "mnist",
        {"hidden_dropout": 0.5, "train_examples": 20_480},
        128,
        20,
        lambda words: dense(128, 784, 1000, 1000, 10),
        sequential=True,
    ),
    "fig3": Model(
        "c64-c64-c128-1000, CIFAR-10",
        "cifar10_convolutional",
        "cifar10",
        {"whitening": "channel", "train_examples": 5_000},
        128,
        1,
        lambda words: (
            convolutions(128, 5, (32, 3, 64), (16, 64, 64), (8, 64, 128))
            + 3 * 2 * 128 * (4 * 4 * 128 * 1000 + 1000 * 10)
        ),
        sequential=True,
    ),
    "fig4": Model(
        "variational auto-encoder, MNIST",
        "mnist_variational",
        "mnist",
        {"train_examples": 20_000},
        100,
        30,
        lambda words: dense(100, 784, 500, 100) + 3 * 2 * 100 * (50 * 500 + 500 * 784),
    ),
    "gpt": Model(
        "GPT of 4 layers, Tiny Shakespeare",
        "tinyshakespeare_gpt",
        "tinyshakespeare",
        {"train_examples": 2_400},
        12,
        4,
        # Every weight of a dense layer for each letter, and the attention of each to 64.
        lambda words: 3 * 2 * 12 * 64 * (4 * (12 * 128**2 + 2 * 64 * 128) + 65 * 128),
        optax=False,
    ),
    "resnet": Model(
        "ResNet-20, CIFAR-10, flips and shifts",
        "cifar10_resnet",
        "cifar10",
        {"train_examples": 5_000},
        128,
        1,
        lambda words: (
            convolutions(
                128,
                3,
                *((32, 3, 16), *[(32, 16, 16)] * 6),
                *((16, 16, 32), *[(16, 32, 32)] * 5),
                *((8, 32, 64), *[(8, 64, 64)] * 5),
            )
            + 3 * 2 * 128 * 64 * 10
        ),
        optax=False,
    ),
}
# What each contestant needs; all but the last train.
CONTESTANTS = {
    "TensorFlow loop": ("tensorflow",),
    "JAX loop": ("jax",),
    "PyTorch": ("torch",),
    "optax": ("jax", "optax"),
    "Keras fit": ("tensorflow",),
    "products": ("tensorflow",),
}
UPDATES = ("adam", "plain")
BASE = "PyTorch"


class Failed(Exception):
    """A contestant ended; the message is its last line."""


@dataclass
class Contestant:
    """A contestant in its own process, and its seconds per step by update, one for each round."""

    name: str
    process: subprocess.Popen[str]
    cost: float = 0.0
    seconds: dict[str, list[float]] = field(default_factory=lambda: {u: [] for u in UPDATES})
    busy: dict[str, list[float]] = field(default_factory=lambda: {u: [] for u in UPDATES})

    def ask(self, *words: object) -> Any:
        """Send a request and wait for its answer."""
        self.send(*words)
        return self.answer()

    def send(self, *words: object) -> None:
        """Send a request."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended, and `answer` says why
            print(*words, file=self.process.stdin, flush=True)

    def answer(self) -> Any:
        """The next line of its answers."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            assert self.process.stderr is not None
            lines = self.process.stderr.read().split("\n")
            raise Failed(f"{self.name}: {next(filter(None, reversed(lines)), 'it ended')}")
        return json.loads(line)


def start(name: str, model: str, data: str, threads: int) -> Contestant:
    """Start a contestant's process with so many threads, whatever library computes there."""
    limits = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NPROC")
    environment = os.environ | dict.fromkeys(limits, str(threads))
    environment["KERAS_BACKEND"] = "jax" if name == "JAX loop" else "tensorflow"
    environment["XLA_FLAGS"] = f"--xla_cpu_multi_thread_eigen={str(threads > 1).lower()}"
    environment["TF_CPP_MIN_LOG_LEVEL"] = "3"
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    worker = str(Path(__file__).with_name("step_worker.py"))
    command = [sys.executable, worker, name, model, data, str(threads)]
    return Contestant(name, subprocess.Popen(command, text=True, env=environment, **pipes))  # type: ignore[call-overload]


def local_data(data_set: str) -> str:
    """The data set if it is on this machine, else its stand-in."""
    data = download.choose(data_set, "auto", download=False).kind
    found = catalogue.is_stand_in(data) or files.available(data)
    return data if found else catalogue.stand_in(data)


def measure(name: str, rounds: int, threads: int, steps: int | None) -> None:
    """Print the rows of a model."""
    model = MODELS[name]
    steps = min(steps or model.steps, model.options["train_examples"] // model.batch_size)
    data = local_data(model.data_set)
    wanted = [
        contestant
        for contestant, needs in CONTESTANTS.items()
        if all(map(find_spec, needs))
        and (contestant != "Keras fit" or model.sequential)
        and (contestant != "optax" or model.optax)
    ]
    contestants = [start(contestant, name, data, threads) for contestant in wanted]
    try:
        *trained, products = contestants
        words = [each.answer() for each in contestants][-1]  # all have started
        for each in trained:
            each.cost = each.ask("adam", steps)["cost"]  # compiles
            each.ask("plain", steps)
        for _ in range(rounds):
            for each in contestants:
                for update in UPDATES:
                    found = each.ask(update, steps)
                    each.seconds[update].append(found["seconds"] / steps)
                    each.busy[update].append(found["busy"] / steps)
    finally:
        for each in contestants:
            each.process.kill()
            each.process.communicate()
    flops, rate = model.flops(words), 1 / min(map(min, products.busy.values()))
    floor = 1e3 * flops / rate
    print(f"\n{model.title} ({name}, {data}), batch {model.batch_size}: ", end="")
    print(f"{flops / 1e6:.4g} million operations, {rate / 1e9:.0f} G/s of processor time, ", end="")
    print(f"floor {floor:.3g} ms\n")
    columns = ("contestant", "ms per step", "range", f"/ {BASE}", "processor ms", f"/ {BASE}")
    columns += ("Adam's share", "/ floor", "cost, first turn")
    print("|", " | ".join(columns), "|")
    print("|---" * len(columns) + "|")
    base = next((each for each in trained if each.name == BASE), None)
    for each in trained:
        adam, busy = each.seconds["adam"], each.busy["adam"]
        ratios = ["-", "-"]
        if base is not None:
            pairs = ((adam, base.seconds["adam"]), (busy, base.busy["adam"]))
            ratios = [f"{median_ratio(*pair):.2f}" for pair in pairs]
        row = (
            each.name,
            f"{1e3 * statistics.median(adam):.3g}",
            f"{1e3 * min(adam):.3g} to {1e3 * max(adam):.3g}",
            ratios[0],
            f"{1e3 * statistics.median(busy):.3g}",
            ratios[1],
            f"{max(0.0, 1 - median_ratio(each.busy['plain'], busy)):.0%}",
            f"{1e3 * statistics.median(busy) / floor:.3g}",
            f"{each.cost:.4g}",
        )
        print("|", " | ".join(row), "|", flush=True)


def median_ratio(first: list[float], second: list[float]) -> float:
    """The median of the rounds' ratios."""
    return statistics.median(a / b for a, b in zip(first, second, strict=True))


def count(text: str) -> int:
    """A whole number of at least one."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not valid: use a whole number, 1 or more")
    return int(text)


def main() -> int:
    """Print the tables; 1 if a contestant fails, 2 for bad input."""
    parser = Parser(prog="training_step.py", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", choices=MODELS, help="only this one")
    parser.add_argument("--rounds", type=count, default=5, help="turns of each contestant")
    parser.add_argument("--threads", type=int, choices=(1, 2), default=1)
    parser.add_argument("--steps", type=count, help="steps in a turn")
    options = parser.parse_args()
    if find_spec("tensorflow") is None:
        parser.error("it needs TensorFlow")
    missing = {n for needs in CONTESTANTS.values() for n in needs if not find_spec(n)}
    versions = ", ".join(f"{n} {v}" for n, v in libraries().items())
    print(
        f"{runtime.processor()}; threads: {options.threads}; rounds: {options.rounds}; {versions}"
    )
    print(f"load before the start: {os.getloadavg()[0]:.1f}")
    for contestant, needs in CONTESTANTS.items():
        if lacking := missing & set(needs):
            print(f"left out: {contestant} ({', '.join(sorted(lacking))} not installed)")
    try:
        for name in [options.model] if options.model else MODELS:
            measure(name, options.rounds, options.threads, options.steps)
    except (Failed, OSError) as error:
        print(f"training_step.py: {error}", file=sys.stderr)
        return 1
    except ValueError as error:
        print(f"training_step.py: {error}", file=sys.stderr)
        return 2
    return 0


def libraries() -> dict[str, str]:
    """Versions of what is installed."""
    from importlib.metadata import version

    names = ("tensorflow", "keras", "torch", "jax", "optax", "numpy")
    return {name: version(name) for name in names if find_spec(name)}


if __name__ == "__main__":
    sys.exit(main())
