"""Train one run and return its record.

A run is a pure function of its configuration (`experiments.randomness`), so a resumed run repeats
the interrupted one bit by bit. An epoch is one compiled call (`experiments.training.loops`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from importlib import metadata
from typing import TYPE_CHECKING, Any

import numpy as np
import threadpoolctl

from experiments.methods import optimizers
from experiments.problems import registry as problems
from experiments.problems.problem import Problem
from experiments.randomness import batch_order, steps_per_epoch, stream
from experiments.records.origin import Origin
from experiments.records.store import Store
from experiments.study import Run
from experiments.training import diagnostics, loops, runtime, stability, twins
from experiments.training.diagnostics import METRICS

if TYPE_CHECKING:
    from experiments.methods.sfo import SFO

CHECKPOINT_SECONDS = 10.0


def _reset_noise(model: Any, seed: int, epoch: int) -> None:
    """Start the epoch's dropout masks and latent draws from (seed, epoch)."""
    noise = stream(seed, "noise", epoch)
    for variable in model.non_trainable_variables:
        if variable.path.endswith("seed_generator_state"):
            variable.assign(noise.integers(2**31, size=2))


class ModelState:
    """The state that a run resumes from: variables of its model, its optimizer and its averages."""

    checkpoint_factor = 1.0  # how many times longer to wait before the next checkpoint

    def __init__(self, variables: list[Any]) -> None:
        self.variables = variables

    def fits(self, arrays: list[np.ndarray]) -> bool:
        """Whether `restore` takes these arrays; other code may have stored them."""
        ours = [tuple(variable.shape) for variable in self.variables]
        return ours == [array.shape for array in arrays]

    def arrays(self) -> list[np.ndarray]:
        """The state, to be stored."""
        return [np.asarray(variable) for variable in self.variables]

    def restore(self, arrays: list[np.ndarray]) -> None:
        """Resume from a stored state."""
        for variable, array in zip(self.variables, arrays, strict=True):
            variable.assign(array)


class SFOState(ModelState):
    """The same for the Sum-of-Functions Optimizer, whose state grows and may be gigabytes."""

    checkpoint_factor = 12.0

    def __init__(self, variables: list[Any], sfo: SFO) -> None:
        super().__init__(variables)
        self.sfo, self.names = sfo, sorted(sfo.state())

    def fits(self, arrays: list[np.ndarray]) -> bool:
        """The same for the model's variables and the optimizer's state."""
        own = len(self.variables)
        if len(arrays) != own + len(self.names) or not super().fits(arrays[:own]):
            return False
        try:
            self.sfo.check(self._state(arrays))
        except ValueError:
            return False
        return True

    def arrays(self) -> list[np.ndarray]:
        """The model's variables, then the optimizer's state by name."""
        found = self.sfo.state()
        return [*super().arrays(), *(found[name] for name in self.names)]

    def restore(self, arrays: list[np.ndarray]) -> None:
        """Resume from a stored state."""
        super().restore(arrays[: len(self.variables)])
        self.sfo.restore(self._state(arrays))

    def _state(self, arrays: list[np.ndarray]) -> dict[str, np.ndarray]:
        return dict(zip(self.names, arrays[len(self.variables) :], strict=True))


def _all_finite(row: Mapping[str, float | None]) -> bool:
    """Whether no number of a pass is infinite or NaN; what was not measured is None."""
    return all(value is None or math.isfinite(value) for value in row.values())


def _costs(problem: Problem, compiled: loops.Loops, seed: int, epoch: int) -> dict[str, float]:
    """Costs without dropout of the parameters as they are; the same latent draws every time."""
    numbers: dict[str, float] = {}
    for name in ("training", "held_out"):
        _reset_noise(problem.model, seed, epoch)
        cost, accuracy = compiled.evaluate(f"{name}_sample")
        numbers[f"{name}_cost"] = cost
        if accuracy is not None:
            numbers[f"{name}_accuracy"] = accuracy
    return numbers


def measure(run: Run) -> dict[str, Any]:
    """The record of a run that measures instead of training: its rows as metrics."""
    if problems.PROBLEMS[run.problem].keras:
        runtime.configure()  # else the next run in this process would find Keras set up otherwise
    runtime.commit()  # of the code as it is loaded, whatever is edited while it measures
    started, clock = datetime.now(UTC), time.perf_counter()
    metrics: dict[str, list[float]] = {}
    with threadpoolctl.threadpool_limits(1):
        for row in problems.measure(run):
            for name, value in row.items():
                metrics.setdefault(name, []).append(value)
    return _record(run, metrics, None, runtime.numpy_manifest(), started, clock)


def train(
    run: Run,
    store: Store,
    on_epoch: Callable[[int], None] | None = None,
    *,
    keep: bool = False,
    go_on: Callable[[], bool] = lambda: True,
    twin: int = 0,
) -> dict[str, Any]:
    """Train `run` to its end, from its lineage's checkpoint if there is one; return its record.

    A run that continues a shorter one of its lineage has the same numbers as one trained from the
    beginning. Its record names the shorter run under `continues`.

    Args:
        run: what to train.
        store: holds the checkpoints; the caller stores the record.
        on_epoch: called with the number of epochs done, after each.
        keep: whether to keep the last state for a longer run to continue.
        go_on: asked after each epoch; if it returns False, the record ends there.
        twin: if not 0, the number of a twin, whose weights are off by one unit in the last place
            after every step (`experiments.training.twins`). Its record is not the run's.

    Raises:
        ValueError: options or settings that do not fit together or the data.
    """
    if problems.PROBLEMS[run.problem].measured:
        return measure(run)
    runtime.configure()
    import keras

    from experiments.training.averages import Averages

    origin = Origin(keras.backend.backend(), (runtime.processor_kind(),), (runtime.commit(),))
    keras.backend.clear_session(free_memory=False)  # its garbage collection takes half a short run
    keras.utils.set_random_seed(int(stream(run.seed, "weights").integers(2**31)))
    started, clock = datetime.now(UTC), time.perf_counter()
    problem = problems.build(run.problem, run.data, run.options, run.seed)
    steps = steps_per_epoch(problem.examples, run.batch_size)
    optimizer = optimizers.build(run.optimizer, run.settings, steps)
    if twin and run.optimizer == "sfo":
        twins.shake(problem.model.trainable_variables, twin)
    elif twin:
        optimizer = twins.Shaken(optimizer, twin)
    averages = Averages(problem.model.trainable_variables) if problem.averages else None
    if averages and loops.statistics(problem.model):
        raise ValueError(
            f"averages=1.0 is not valid with {run.problem}: its batch norms' statistics are those "
            "of the last weights"
        )
    state: ModelState | SFOState
    if run.optimizer == "sfo":
        if averages:
            raise ValueError("averages=1.0 is not valid with sfo: its steps are not averaged")
        if problem.stability:
            raise ValueError("stability=1.0 is not valid with sfo: its minibatches are fixed")
        steps = run.settings["minibatches"]
        if steps > len(problem.train[0]):
            raise ValueError(f"minibatches={steps} exceeds {len(problem.train[0])} examples")
        parts = batch_order(run.seed, 0, len(problem.train[0]), len(problem.train[0]) // steps)
        compiled, optimizer = loops.sum_of_functions(problem, optimizer, parts[:steps], run.seed)
        state = SFOState(problem.model.variables, optimizer)
    else:
        optimizer.build(problem.model.trainable_variables)
        compiled = loops.compile_loops(problem, optimizer, averages)
        extra = averages.variables if averages else []
        state = ModelState([*problem.model.variables, *optimizer.variables, *extra])
    first_batch = np.arange(run.batch_size, dtype=np.int32)

    metrics: dict[str, list[float]] = {}
    continues = None
    resumed = store.load_checkpoint(run, state.fits, origin.backend)
    if resumed is not None:
        origin = origin.after(resumed.origin)
        metrics, continues = resumed.metrics, resumed.continues
        state.restore(resumed.arrays)
        if resumed.run != run.id:
            continues = {"run": resumed.run, "passes": len(metrics["training_cost"])}
    begun = len(metrics.get("training_cost", ()))
    if begun > run.epochs:  # the checkpoint is a longer run's, of which this one is the beginning
        metrics, keep = {name: values[: run.epochs] for name, values in metrics.items()}, False
    saved = time.perf_counter()
    diverged_at, drawn = None, ""
    if problem.draws and begun == run.epochs:  # no pass is left, after which it would be drawn
        drawn = problem.draws()[1]
    for epoch in range(begun, run.epochs):
        lap = time.perf_counter()
        _reset_noise(problem.model, run.seed, epoch)
        order = batch_order(run.seed, epoch, len(problem.train[0]), run.batch_size)[:steps]
        cost, objective = compiled.train_epoch(order)
        seconds = time.perf_counter() - lap
        row: dict[str, float | None] = {"training_cost": cost, "objective": objective}
        row["held_out_cost"], row["held_out_accuracy"] = compiled.evaluate()
        row["seconds"] = seconds
        for name in problem.groups:
            row[f"training_cost {name}"], _ = compiled.evaluate(name)
        if problem.diagnostics:
            _, _, found = compiled.differentiate(first_batch)
            row |= diagnostics.measure(problem.diagnostics, problem.model, optimizer, found)
        if problem.stability and _all_finite(row):
            arrays = [array.copy() for array in state.arrays()]
            row |= stability.measure(
                compiled,
                problem.model.trainable_variables,
                partial(state.restore, arrays),
                batch_order(run.seed, epoch + 1, len(problem.train[0]), run.batch_size)[:steps],
            )
        if averages:
            row |= averages.measure(partial(_costs, problem, compiled, run.seed, epoch))
        row |= compiled.facts()
        if not _all_finite(row):
            diverged_at = epoch
            break
        numbers = {name: value for name, value in row.items() if value is not None}
        if problem.draws:
            about, drawn = problem.draws()
            numbers |= about
        for name, value in numbers.items():
            metrics.setdefault(name, []).append(value)
        if on_epoch:
            on_epoch(epoch + 1)
        if not go_on():
            break
        if (
            time.perf_counter() - saved > state.checkpoint_factor * CHECKPOINT_SECONDS
            and epoch + 1 < run.epochs
        ):
            store.save_checkpoint(run, state.arrays(), metrics, continues, origin)
            saved = time.perf_counter()
    if keep and diverged_at is None and begun < run.epochs:
        store.save_checkpoint(run, state.arrays(), metrics, continues, origin)
    if not metrics:
        metrics = {name: [] for name in METRICS}
    manifest = runtime.manifest()
    manifest |= {"steps_per_epoch": steps, "resumed": resumed is not None, **origin.manifest()}
    if drawn:
        manifest |= {"drawn": drawn, "scikit_learn": metadata.version("scikit-learn")}
    if continues:
        manifest["continues"] = continues
    return _record(run, metrics, diverged_at, manifest, started, clock)


def _record(
    run: Run,
    metrics: dict[str, list[float]],
    diverged_at: int | None,
    manifest: dict[str, Any],
    started: datetime,
    clock: float,
) -> dict[str, Any]:
    """A run with its metrics and the circumstances in which they were made."""
    return {
        "config": run.config(),
        "status": "finished" if diverged_at is None else "diverged",
        "diverged_at": diverged_at,
        "metrics": metrics,
        "manifest": {
            **manifest,
            "started": started.isoformat(timespec="seconds"),
            "wall_seconds": round(time.perf_counter() - clock, 3),
            "peak_memory_mb": round(runtime.peak_memory_mb()),
        },
    }
