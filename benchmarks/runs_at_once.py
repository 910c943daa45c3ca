"""One run on all cores, or one run per core at once: which trains more steps in a second?

    python benchmarks/runs_at_once.py                     # every model
    python benchmarks/runs_at_once.py --model fig3 --rounds 9

The TensorFlow loop of `training_step.py` in processes of its own: one with as many threads as there
are cores, and as many with one thread each, which start together. The two ways take turns, with
equally many steps in all. A ratio is the median of the rounds' ratios.
"""

from __future__ import annotations

import os
import statistics
import sys
import time

from training_step import MODELS, Contestant, Failed, count, local_data, median_ratio, start

from experiments.cli.parser import Parser
from experiments.training import runtime

LOOP = "TensorFlow loop"


def seconds(runs: list[Contestant], steps: int) -> float:
    """How long the runs take for so many steps each, all started together."""
    clock = time.perf_counter()
    for run in runs:
        run.send("adam", steps)
    for run in runs:
        run.answer()
    return time.perf_counter() - clock


def measure(name: str, rounds: int, cores: int, steps: int | None) -> None:
    """Print the row of a model."""
    model = MODELS[name]
    steps = steps or model.steps
    data = local_data(model.data_set)
    every = [start(LOOP, name, data, 1) for _ in range(cores)]
    shared = start(LOOP, name, data, cores)
    try:
        for run in (*every, shared):
            run.answer()
            run.ask("adam", steps)  # compiles
        apart, together = [], []
        for _ in range(rounds):
            apart.append(seconds(every, steps))
            together.append(seconds([shared], cores * steps))
    finally:
        for run in (*every, shared):
            run.process.kill()
            run.process.communicate()
    rates = [f"{cores * steps / statistics.median(found):.3g}" for found in (together, apart)]
    print(f"| {name} | {' | '.join(rates)} | {median_ratio(together, apart):.2f} |", flush=True)


def main() -> int:
    """Print the table; 1 if a run fails, 2 for bad input."""
    parser = Parser(prog="runs_at_once.py", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", choices=MODELS, help="only this one")
    parser.add_argument("--rounds", type=count, default=5, help="turns of each way")
    parser.add_argument("--steps", type=count, help="steps in a turn of a run")
    options = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    if cores < 2:
        print("runs_at_once.py: it needs two cores or more; there is one", file=sys.stderr)
        return 2
    print(f"{runtime.processor()}; cores: {cores}; rounds: {options.rounds}")
    print(f"load before the start: {os.getloadavg()[0]:.1f}\n")
    columns = ("model", f"steps/s, one run on {cores} cores", f"{cores} runs at once", "gain")
    print("|", " | ".join(columns), "|")
    print("|---" * len(columns) + "|")
    try:
        for name in [options.model] if options.model else MODELS:
            measure(name, options.rounds, cores, options.steps)
    except (Failed, OSError) as error:
        print(f"runs_at_once.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
