"""Time and memory of one optimizer update, side by side with other implementations.

    python benchmarks/optimizer_step.py                 # a table of times, one thread
    python benchmarks/optimizer_step.py --threads 2
    python benchmarks/optimizer_step.py --memory        # peak memory, one process per contestant

The gradients are given; what is measured is one call that updates all variables, as in a training
step. Contestants take turns within one process, so that other load on the machine affects all of
them alike. A ratio is the median of the rounds' ratios, by processor time of all threads, which
other load disturbs least; the quartiles are by the wall clock.

The same amount of numbers in more and more variables shows what a kernel does with memory:
TensorFlow updates m, then v, then the weights, each over a shard of the variable. When a shard is
larger than the cache, 40 bytes per number come from memory instead of 28. The shards are made by
the number of threads: more threads than cores make them smaller.
PyTorch and optax take part where they are installed.
"""

import argparse
import contextlib
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
    "33.5M in 64": [(512, 1024)] * 64,
    "33.5M in 512": [(64, 1024)] * 512,
    "33.5M in 1024": [(32, 1024)] * 1024,
    "1.2M in 300": [(4000,)] * 300,
}
ROUNDS = {"MLP, 1.8M in 6": 40, "1.2M in 300": 25}  # of the others, 9
THREADS = 1


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

        with contextlib.suppress(RuntimeError):  # another contestant has started TensorFlow
            tf.config.threading.set_intra_op_parallelism_threads(THREADS)
            tf.config.threading.set_inter_op_parallelism_threads(THREADS)
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


def chunked_update(shapes: Shapes) -> Update:
    """TensorFlow's kernel on moments of 65536 numbers each, and the changes added to the weights.

    No variable of TensorFlow can be a view of another, so the kernel cannot reach a part of one.
    """
    import tensorflow as tf

    weights = [tf.Variable(a) for a in arrays(shapes, 0)]
    gradients = [tf.constant(a) for a in arrays(shapes, 1)]
    sizes = [[65536] * (n // 65536) + [n % 65536] * bool(n % 65536) for n in map(np.prod, shapes)]
    state = [[[tf.Variable(tf.zeros(n)) for n in part] for _ in range(3)] for part in sizes]
    scalars = {"beta1_power": 0.0, "beta2_power": 0.0, "lr": 0.001, "beta1": 0.9, "beta2": 0.999}

    @tf.function(autograph=False)
    def step() -> None:
        for weight, gradient, part, (change, m, v) in zip(
            weights, gradients, sizes, state, strict=True
        ):
            pieces = tf.split(tf.reshape(gradient, [-1]), part)
            for c, m_i, v_i, piece in zip(change, m, v, pieces, strict=True):
                c.assign(tf.zeros_like(piece))
                handles = {"var": c.handle, "m": m_i.handle, "v": v_i.handle}
                tf.raw_ops.ResourceApplyAdam(**handles, **scalars, epsilon=1e-8, grad=piece)
            changes = tf.concat([c.read_value() for c in change], 0)
            weight.assign_add(tf.reshape(changes, weight.shape))

    return lambda: (step(), weights[-1][0].numpy())


def torch_update(shapes: Shapes) -> Update:
    """PyTorch's fused kernel."""
    import torch

    torch.set_num_threads(THREADS)
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
    sources = np.array_split(np.zeros(14 * size(shapes), "uint8"), THREADS)
    targets = [source.copy() for source in sources]
    pool = ThreadPoolExecutor(THREADS)
    return lambda: list(pool.map(np.copyto, targets, sources))


CONTESTANTS: dict[str, Callable[[Shapes], Update]] = {
    "keras graph": keras_update(keras_adam, jit=False),
    "keras XLA": keras_update(keras_adam, jit=True),
    "adam_tf plain": keras_update(our_adam(False), jit=False),
    "adam_tf plain XLA": keras_update(our_adam(False), jit=True),
    "adam_tf": keras_update(our_adam(None), jit=False),
    "kernel in chunks": chunked_update,
    "torch fused": torch_update,
    "optax jit": optax_update,
    "memory copy": copy_update,
}
NEEDS = {"torch fused": "torch", "optax jit": "optax"}


def present() -> list[str]:
    """The contestants whose library is installed."""
    return [name for name in CONTESTANTS if name not in NEEDS or find_spec(NEEDS[name])]


def limit(threads: int) -> None:
    """Let each library compute in so many threads."""
    global THREADS
    THREADS = threads
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NPROC"):
        os.environ[name] = str(threads)
    os.environ["XLA_FLAGS"] = f"--xla_cpu_multi_thread_eigen={str(threads > 1).lower()}"


def machine() -> str:
    """What the numbers were measured on."""
    from importlib.metadata import version

    libraries = [n for n in ("tensorflow", "keras", "torch", "jax", "optax") if find_spec(n)]
    versions = ", ".join(f"{name} {version(name)}" for name in libraries)
    lines = Path("/proc/cpuinfo").read_text().splitlines() if sys.platform == "linux" else []
    cpu = next((line.split(": ")[1] for line in lines if "model name" in line), platform.machine())
    return f"{os.cpu_count()} cores, {cpu}; Python {platform.python_version()}, {versions}"


def compare_times(problem: str, names: list[str], rounds: int | None) -> None:
    """Print one table row per contestant."""
    updates = {name: CONTESTANTS[name](PROBLEMS[problem]) for name in names}
    wall: dict[str, list[float]] = {name: [] for name in names}
    busy: dict[str, list[float]] = {name: [] for name in names}
    for update in updates.values():
        update()
        update()
    for _ in range(rounds or ROUNDS.get(problem, 9)):
        for name, update in updates.items():
            start, processor = time.perf_counter(), time.process_time()
            update()
            busy[name].append(1e3 * (time.process_time() - processor))
            wall[name].append(1e3 * (time.perf_counter() - start))
    for name in names:
        low, middle, high = statistics.quantiles(wall[name], n=4)
        spent = statistics.median(busy[name])
        ratios = [
            f"{statistics.median(a / b for a, b in zip(busy[name], busy[other], strict=True)):.2f}"
            if other in busy
            else "-"
            for other in ("keras graph", "keras XLA", "torch fused", "memory copy")
        ]
        row = [problem, name, f"{spent:.2f}", f"{1e6 * spent / size(PROBLEMS[problem]):.2f}"]
        row += [f"{middle:.2f}", f"{low:.2f} to {high:.2f}", *ratios]
        print("| " + " | ".join(row) + " |", flush=True)


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
    parser.add_argument("--contestants", nargs="+", choices=CONTESTANTS, help="only these")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, help="turns of each contestant")
    parser.add_argument("--only", choices=CONTESTANTS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    problems = [arguments.problem] if arguments.problem else list(PROBLEMS)
    if arguments.only:
        print(peak_memory(problems[0], arguments.only))
        return
    limit(arguments.threads)
    print(f"{machine()}; threads: {THREADS}; load before the start: {os.getloadavg()[0]:.1f}")
    print()
    if arguments.memory:
        problem = arguments.problem or "33.5M in 2"
        print("| problem | contestant | peak, bytes per parameter |\n|---|---|---|")
        for name in [n for n in present() if n != "memory copy"]:
            command = [sys.executable, __file__, "--problem", problem, "--only", name]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            print(f"| {problem} | {name} | {float(done.stdout.split()[-1]):.1f} |")
        return
    columns = ["problem", "contestant", "processor ms", "ns per number", "wall ms", "quartiles"]
    columns += ["/ keras graph", "/ keras XLA", "/ torch fused", "/ memory copy"]
    print("|", " | ".join(columns), "|\n" + "|---" * len(columns) + "|")
    names = [n for n in present() if n in (arguments.contestants or CONTESTANTS)]
    for problem in problems:
        compare_times(problem, names, arguments.rounds)


if __name__ == "__main__":
    main()
