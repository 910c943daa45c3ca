"""Time and memory of one optimizer update, side by side with other implementations.

    python benchmarks/optimizer_step.py                 # a table of times
    python benchmarks/optimizer_step.py --memory        # peak memory, one process per contestant

The gradients are given; what is measured is one call that updates all variables, as a training
step makes it. Contestants take turns within one process, so that what else the machine does hits
all of them alike; the medians of all rounds are compared, with the quartiles as their spread.
PyTorch and optax take part where they are installed.
"""

import argparse
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

Shapes = list[tuple[int, ...]]
Update = Callable[[], object]

PROBLEMS: dict[str, Shapes] = {
    "MLP, 1.8M in 6": [(784, 1000), (1000,), (1000, 1000), (1000,), (1000, 10), (10,)],
    "33.5M in 2": [(4096, 4096), (4096, 4096)],
    "1.2M in 300": [(4000,)] * 300,
}
ROUNDS = {"MLP, 1.8M in 6": 40, "33.5M in 2": 9, "1.2M in 300": 25}


def size(shapes: Shapes) -> int:
    """Number of parameters."""
    return sum(int(np.prod(shape)) for shape in shapes)


def arrays(shapes: Shapes, seed: int) -> list[np.ndarray]:
    """Normal numbers of the given shapes."""
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape, dtype="float32") for shape in shapes]


def keras_update(make: Callable[[], object], jit: bool) -> Callable[[Shapes], Update]:
    """A contestant with Keras' interface, compiled by TensorFlow."""

    def prepare(shapes: Shapes) -> Update:
        import keras
        import tensorflow as tf

        variables = [keras.Variable(a) for a in arrays(shapes, 0)]
        gradients = [tf.constant(a) for a in arrays(shapes, 1)]
        optimizer = make()
        optimizer.build(variables)
        step = tf.function(lambda: optimizer.apply(gradients, variables), jit_compile=jit)

        def update() -> None:
            step()
            optimizer.iterations.numpy()  # the call has returned, and so has the work

        return update

    return prepare


def keras_adam() -> object:
    """Keras' own."""
    import keras

    return keras.optimizers.Adam()


def our_adam(fused: bool | None) -> Callable[[], object]:
    """Ours, on either path."""

    def make() -> object:
        from adam_tf import Adam

        return Adam(fused=fused)

    return make


def torch_update(shapes: Shapes) -> Update:
    """PyTorch's fused kernel."""
    import torch

    parameters = [torch.nn.Parameter(torch.from_numpy(a)) for a in arrays(shapes, 0)]
    for parameter, gradient in zip(parameters, arrays(shapes, 1), strict=True):
        parameter.grad = torch.from_numpy(gradient)
    return torch.optim.Adam(parameters, fused=True).step


def optax_update(shapes: Shapes) -> Update:
    """Optax under jit, with its buffers donated."""
    import jax
    import optax

    gradients = [jax.numpy.asarray(a) for a in arrays(shapes, 1)]
    parameters = [jax.numpy.asarray(a) for a in arrays(shapes, 0)]
    optimizer = optax.adam(0.001)
    state = optimizer.init(parameters)

    def step(parameters, state, gradients):  # type: ignore[no-untyped-def]
        updates, state = optimizer.update(gradients, state, parameters)
        return optax.apply_updates(parameters, updates), state

    compiled = jax.jit(step, donate_argnums=(0, 1))
    held = [parameters, state]

    def update() -> None:
        held[:] = compiled(*held, gradients)
        jax.block_until_ready(held)

    return update


def copy_update(shapes: Shapes) -> Update:
    """The limit: gradient and three states read, three states written, 28 bytes per parameter."""
    workers = os.cpu_count() or 1
    sources = np.array_split(np.zeros(14 * size(shapes), "uint8"), workers)
    targets = [source.copy() for source in sources]
    pool = ThreadPoolExecutor(workers)
    return lambda: list(pool.map(np.copyto, targets, sources))


CONTESTANTS: dict[str, Callable[[Shapes], Update]] = {
    "keras graph": keras_update(keras_adam, jit=False),
    "keras XLA": keras_update(keras_adam, jit=True),
    "adam_tf plain": keras_update(our_adam(False), jit=False),
    "adam_tf plain XLA": keras_update(our_adam(False), jit=True),
    "adam_tf": keras_update(our_adam(None), jit=False),
    "torch fused": torch_update,
    "optax jit": optax_update,
    "memory copy": copy_update,
}
NEEDS = {"torch fused": "torch", "optax jit": "optax"}


def present() -> list[str]:
    """The contestants whose library is installed."""
    return [name for name in CONTESTANTS if name not in NEEDS or find_spec(NEEDS[name])]


def machine() -> str:
    """What the numbers were measured on."""
    from importlib.metadata import version

    libraries = [n for n in ("tensorflow", "keras", "torch", "jax", "optax") if find_spec(n)]
    versions = ", ".join(f"{name} {version(name)}" for name in libraries)
    lines = Path("/proc/cpuinfo").read_text().splitlines() if sys.platform == "linux" else []
    cpu = next((line.split(": ")[1] for line in lines if "model name" in line), platform.machine())
    return f"{os.cpu_count()} cores, {cpu}; Python {platform.python_version()}, {versions}"


def compare_times(problem: str, names: list[str]) -> None:
    """Print one table row per contestant."""
    updates = {name: CONTESTANTS[name](PROBLEMS[problem]) for name in names}
    times: dict[str, list[float]] = {name: [] for name in names}
    for update in updates.values():
        update()
        update()
    for _ in range(ROUNDS[problem]):
        for name, update in updates.items():
            start = time.perf_counter()
            update()
            times[name].append(1e3 * (time.perf_counter() - start))
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, values in times.items():
        low, _, high = statistics.quantiles(values, n=4)
        relative = [
            f"{medians[name] / medians[other]:.2f}" if other in medians else "-"
            for other in ("keras graph", "keras XLA", "torch fused")
        ]
        row = [problem, name, f"{medians[name]:.2f}", f"{low:.2f} to {high:.2f}"]
        print("| " + " | ".join([*row, f"{min(values):.2f}", *relative]) + " |", flush=True)


def peak_memory(problem: str, name: str) -> float:
    """Bytes per parameter that three updates need beyond what importing needs."""

    def peak() -> int:
        unit = 1 if sys.platform == "darwin" else 1024
        return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    CONTESTANTS[name]([(2,)])()  # imports and starts the library
    before = peak()
    update = CONTESTANTS[name](PROBLEMS[problem])
    for _ in range(3):
        update()
    return (peak() - before) / size(PROBLEMS[problem])


def main() -> None:
    """Read the command line and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--memory", action="store_true", help="peak memory instead of time")
    parser.add_argument("--problem", choices=PROBLEMS, help="only this one")
    parser.add_argument("--only", choices=CONTESTANTS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    problems = [arguments.problem] if arguments.problem else list(PROBLEMS)
    if arguments.only:
        print(peak_memory(problems[0], arguments.only))
        return
    print(machine())
    print()
    if arguments.memory:
        problem = arguments.problem or "33.5M in 2"
        print("| problem | contestant | peak, bytes per parameter |\n|---|---|---|")
        for name in [n for n in present() if n != "memory copy"]:
            command = [sys.executable, __file__, "--problem", problem, "--only", name]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            print(f"| {problem} | {name} | {float(done.stdout.split()[-1]):.1f} |")
        return
    print("| problem | contestant | ms, median | quartiles | fastest | / keras graph |", end="")
    print(" / keras XLA | / torch fused |\n|---|---|---|---|---|---|---|---|")
    for problem in problems:
        compare_times(problem, present())


if __name__ == "__main__":
    main()
