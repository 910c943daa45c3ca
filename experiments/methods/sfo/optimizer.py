"""The optimizer: which subfunction, whether to believe it, its model, and the step.

One class of more than 500 lines: every part of an iteration reads and changes the same arrays.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import linalg

from experiments.methods.sfo import arguments
from experiments.methods.sfo import state as states
from experiments.methods.sfo.curvature import NEGLIGIBLE, fit_hessian, tells_curvature
from experiments.methods.sfo.memory import available_memory, memory_needed
from experiments.methods.sfo.subspace import Subspace, subspace_size
from experiments.options import known

SELECTIONS = ("distance both", "distance", "single distance", "random", "cyclic")
SMALLEST_STEP_SCALE = 1e-5
CAUTIOUS_EVALUATIONS = 5  # up to here, a subfunction's curvature is a tenth of the usual guess
OUTLIER = 3.0  # standard deviations above the others at which a first value is a failure
EXPLODED = 10.0  # times the change predicted at which a point is too far away to learn from
RETREATS = 10  # how often such a point is drawn back, by a factor of 100 each
RETREAT = 0.01


class Point(NamedTuple):
    """One evaluation of one subfunction.

    Attributes:
        position: coordinates in the subspace.
        value: of the subfunction.
        gradient: of the subfunction, with respect to theta.
        finite: whether both are finite.
    """

    position: np.ndarray
    value: float
    gradient: np.ndarray
    finite: bool


class Spectrum(NamedTuple):
    """The Hessian of the whole model: its eigenvalues, all positive, and its eigenvectors."""

    values: np.ndarray
    vectors: np.ndarray

    def solve(self, vectors: np.ndarray) -> np.ndarray:
        """The inverse Hessian times a vector, or times each column of a matrix."""
        along = self.vectors.T @ vectors
        return self.vectors @ (along.T / self.values).T

    def gain(self, step: np.ndarray) -> float:
        """What a step to the minimum gains: half its squared length in the norm of the Hessian."""
        return float(self.values @ (self.vectors.T @ step) ** 2 / 2)


class SFO:
    r"""The Sum-of-Functions Optimizer: a quasi-Newton method on minibatches.

    It minimizes $F(\theta) = \sum_{i=1}^N f_i(\theta)$, one subfunction $f_i$ per minibatch. Around
    the point $\theta_i$ where $f_i$ was last evaluated, with gradient $g_i$, each active
    subfunction is replaced by a quadratic with a Hessian $H_i$ of its own:

    $$
    F(\theta) \approx \sum_{i\ \text{active}}
        f_i(\theta_i) + g_i^T (\theta - \theta_i)
        + \tfrac12 (\theta - \theta_i)^T H_i (\theta - \theta_i)
    $$

    An iteration evaluates one $f_j$ at $\theta$, fits $H_j$ by BFGS to the last changes of position
    and gradient of $f_j$, and steps to (or, by $\eta$, towards) the minimum of the sum:

    $$
    \theta \leftarrow \theta - \eta\, H^{-1} \sum_{i\ \text{active}}
        \left[ g_i + H_i (\theta - \theta_i) \right],
    \qquad H = \sum_{i\ \text{active}} H_i = \sum_{i\ \text{active}} V_i W_i V_i^T + e_i I
    $$

    $\eta$ is `step_scale`: halved by an iteration that fails, because $f_j$ is not finite or rises
    by more than the model can explain, and drawn back to 1 by the others. An iteration that fails
    also evaluates $f_j$ at the previous point, and continues from the better of the two. Few
    subfunctions are active at the start; another one is activated when the active ones no longer
    agree where to go: their gradients differ by more than their mean can be trusted.

    All of this happens in the subspace of the last positions and gradients. Its orthonormal basis,
    of $K \le \lceil 1.5 (2N + 2) \rceil$ vectors as long as $\theta$, dominates the memory, and
    three to five products with it dominate the time: nine tenths of an iteration apart from `f_df`,
    with 200,000 parameters and $N = 25$. When the basis is full, it collapses to what the model
    needs.

    The method treats changes of a gradient as curvature. Noise that is drawn anew at each
    evaluation, such as dropout, therefore breaks it.

    Args:
        f_df: `(theta, subfunction)` to the value and the gradient of that subfunction, a float and
            a float64 vector as long as theta. It is called with a copy of theta.
        theta: where to start, a vector.
        subfunctions: whatever represents the subfunctions; each is handed to `f_df` as it is.
        seed: of every random choice, a whole number >= 0.
        max_history_terms: how many changes of position and gradient a Hessian is fitted to.
        hessian_init: $e_i$ of the subfunctions that are active at the start.
        initial_active: how many subfunctions are active at the start.
        hessian_max_deviation: largest ratio of the eigenvalues of one $H_i$.
        subfunction_selection: which active subfunction is evaluated. `"distance"` is the one whose
            $(\theta - \theta_i)^T H (\theta - \theta_i)$ is largest, `"single distance"` takes
            $H_i$ in place of $H$, `"distance both"` throws a coin between these two,
            `"random"` draws one, `"cyclic"` takes the one that waited longest. In any case, a
            subfunction that was evaluated less than twice comes first.
        max_gradient_noise: a subfunction becomes active once the variance of the mean gradient is
            this many times its square.
        max_step_length_ratio: how much longer a step may be than the steps so far on average.
        minimum_step_length: the shortest length of a step.

    Attributes:
        theta: the current parameters.
        step_scale: $\eta$.
        active: which subfunctions are active.
        counts: how many points of each subfunction the model has learned from.
        last_values: the value of each subfunction at the last of them, NaN if there is none.
        evaluated: the index of the subfunction of every evaluation.
        values: the value of every evaluation, including rejected ones and those not finite.

    Raises:
        ValueError: when an argument lies outside what is listed above, or when `f_df` returns a
            gradient of another shape.
        MemoryError: when the basis would not fit into the memory that is free.
        FloatingPointError: when a subfunction is finite neither at its first evaluation nor at the
            previous point.

    References:
        Sohl-Dickstein, Poole and Ganguli, [Fast large-scale optimization by unifying stochastic
        gradient and quasi-Newton methods](https://arxiv.org/abs/1311.2115), ICML 2014.

        Kingma and Ba, [Adam: A Method for Stochastic
        Optimization](https://arxiv.org/abs/1412.6980), ICLR 2015, Section 6.2 and Figure 2b.
    """

    def __init__(
        self,
        f_df: Callable[[np.ndarray, Any], tuple[float, np.ndarray]],
        theta: np.ndarray,
        subfunctions: Sequence[Any],
        *,
        seed: int,
        max_history_terms: int = 10,
        hessian_init: float = 1e5,
        initial_active: int = 2,
        hessian_max_deviation: float = 1e8,
        subfunction_selection: str = "distance both",
        max_gradient_noise: float = 1.0,
        max_step_length_ratio: float = 10.0,
        minimum_step_length: float = 1e-8,
    ) -> None:
        """See the class."""
        if not callable(f_df):
            raise ValueError(f"f_df must be a function (theta, subfunction), got {f_df!r}")
        self.f_df = f_df
        self.theta = arguments.vector(theta)
        self.subfunctions = list(subfunctions)
        if not self.subfunctions:
            raise ValueError("subfunctions is empty: give at least one, such as a minibatch")
        self.max_history_terms = arguments.whole("max_history_terms", max_history_terms, 1)
        self.hessian_init = arguments.number("hessian_init", hessian_init, 0, open_end=True)
        self.hessian_max_deviation = arguments.number(
            "hessian_max_deviation", hessian_max_deviation, 1
        )
        self.subfunction_selection = known(
            "subfunction_selection", subfunction_selection, SELECTIONS
        )
        self.max_gradient_noise = arguments.number("max_gradient_noise", max_gradient_noise, 0)
        self.max_step_length_ratio = arguments.number(
            "max_step_length_ratio", max_step_length_ratio, 1
        )
        self.minimum_step_length = arguments.number("minimum_step_length", minimum_step_length, 0)
        initial_active = arguments.whole("initial_active", initial_active, 1)
        self.rng = np.random.Generator(np.random.PCG64(arguments.whole("seed", seed, 0)))

        self._refuse_if_too_large()
        room = subspace_size(len(self.theta), len(self.subfunctions))
        self.space = Subspace(self.theta, room, self.rng)
        self._position = self.space.start
        self._build_model(min(initial_active, len(self.subfunctions)))

    def _refuse_if_too_large(self) -> None:
        parameters, count = len(self.theta), len(self.subfunctions)
        needed = memory_needed(parameters, count, self.max_history_terms)
        free = available_memory()
        if free is not None and needed > free:
            raise MemoryError(
                f"SFO needs {needed / 1e9:.1f} GB for {parameters} parameters and {count} "
                f"subfunctions, {free / 1e9:.1f} GB are free: use fewer, larger subfunctions"
            )

    def _build_model(self, initial_active: int) -> None:
        """The quadratics of all subfunctions, the subspace along the first axis of each array."""
        room, count, terms = self.space.room, len(self.subfunctions), self.max_history_terms
        # A subfunction that is active but not evaluated yet holds theta back where it starts.
        self._positions = np.tile(self._position[:, None], count)
        self._gradients = np.zeros((room, count))
        self._moves = np.zeros((room, count, terms))  # changes of position, the oldest first
        self._changes = np.zeros((room, count, terms))  # changes of the gradient
        self._pairs = np.zeros(count, np.int64)  # how many of these there are
        # H_i is V_i diag(weights_i) V_i^T + isotropic_i I, and a weight may be negative.
        self._axes = np.zeros((room, count, 2 * terms))
        self._weights = np.zeros((count, 2 * terms))
        self._isotropic = np.zeros(count)

        self.active = np.zeros(count, bool)
        self.active[self.rng.choice(count, initial_active, replace=False)] = True
        self._isotropic[self.active] = self.hessian_init
        self.counts = np.zeros(count, np.int64)
        self.last_values = np.full(count, np.nan)
        self._last_turn = np.zeros(count, np.int64)  # when each was evaluated
        self.evaluated: list[int] = []
        self.values: list[float] = []

        self.step_scale = 1.0
        self._improvement = 0.0  # what the last step was to gain
        self._steps = 0
        self._path = 0.0  # length of all steps together
        self._since_growth = 0
        self._latest = -1  # the subfunction that the last step followed

    @property
    def evaluations(self) -> int:
        """How often a subfunction was evaluated."""
        return len(self.values)

    @property
    def nbytes(self) -> int:
        """How many bytes the optimizer's arrays take, including those reserved for later."""
        arrays = [getattr(self, attribute) for attribute in states.ARRAYS.values()]
        arrays += [] if self.space.basis is None else [self.space.basis]
        return sum(array.nbytes for array in arrays)

    def run(self, passes: int) -> np.ndarray:
        """Iterate until `passes` times as many evaluations as there are subfunctions are made.

        Iterations that fail take several evaluations; the last one is finished in any case.

        Args:
            passes: a whole number >= 0.

        Returns:
            the parameters.
        """
        last = self.evaluations + arguments.whole("passes", passes, 0) * len(self.subfunctions)
        while self.evaluations < last:
            self.step()
        return self.theta

    def step(self) -> float:
        """One iteration.

        Returns:
            the value of the subfunction that was evaluated at the point that the step starts from:
            where theta was before, unless the iteration fails and takes back the step before.
        """
        if self.space.full:
            self.space.collapse(self._kept(), self._projected())
        j = self._choose()
        point = self._evaluate(j, self._position)
        failed = self._has_failed(j, point)
        self._adapt_step_scale(failed)
        points = self._recover(j, point) if failed else [point]
        for point in points:
            self._remember(j, point)
        self._position = points[-1].position
        self._fit(j)
        spectrum = self._spectrum()
        step = self._bounded(self._newton_step(spectrum))
        self._improvement = spectrum.gain(step)
        self._move(step)
        self._latest = j
        self._grow(spectrum, failed)
        return points[-1].value

    # Which subfunction

    def _choose(self) -> int:
        """The subfunction to evaluate; one with a single point comes first, then one with none."""
        for few in (self.active & (self.counts == 1), self.active & (self.counts == 0)):
            if few.any():
                return int(self.rng.choice(np.flatnonzero(few)))
        candidates = np.flatnonzero(self.active)
        if self.subfunction_selection == "random":
            return int(self.rng.choice(candidates))
        if self.subfunction_selection == "cyclic":
            return int(candidates[np.argmin(self._last_turn[candidates])])
        distances = self._distances(self._metric())[candidates]
        if distances.max() < NEGLIGIBLE and not self.active.all():
            return self._activate()
        return int(candidates[np.argmax(distances)])

    def _metric(self) -> str:
        if self.subfunction_selection == "distance both":
            return "distance" if self.rng.random() < 0.5 else "single distance"
        return self.subfunction_selection

    def _distances(self, metric: str) -> np.ndarray:
        """How far theta is from where each subfunction was evaluated, squared."""
        away = self._away()
        if metric == "distance":
            return np.sum(away * (self._total_hessian() @ away), axis=0)
        along = self._along(away)
        squares = np.sum(away**2, axis=0)
        return np.sum(self._weights * along**2, axis=1) + self._isotropic * squares

    def _activate(self) -> int:
        """Make a random subfunction active."""
        j = int(self.rng.choice(np.flatnonzero(~self.active)))
        self.active[j] = True
        self._since_growth = 0
        return j

    # Its value, and whether to believe it

    def _evaluate(self, j: int, position: np.ndarray) -> Point:
        theta = self.theta if position is self._position else self.space.lift(position)
        value, gradient = self.f_df(theta.copy(), self.subfunctions[j])
        value, gradient = float(value), np.asarray(gradient, np.float64)
        if gradient.shape != theta.shape:
            raise ValueError(
                f"f_df returned a gradient of shape {gradient.shape}: it must be {theta.shape}"
            )
        self.evaluated.append(j)
        self.values.append(value)
        with np.errstate(over="ignore", invalid="ignore"):
            finite = math.isfinite(value) and math.isfinite(np.dot(gradient, gradient))
        return Point(position, value, gradient, finite)

    def _has_failed(self, j: int, point: Point) -> bool:
        """Whether the last step led to a point where the model is useless."""
        if not point.finite:
            return True
        if not self.counts[j]:
            others = self.last_values[self.counts > 1]
            return len(others) > 1 and point.value > others.mean() + OUTLIER * others.std()
        predicted = self._predict(j, point.position)
        of_the_others = self._improvement - (self.last_values[j] - predicted)
        risen = point.value > self.last_values[j]
        return bool(risen and point.value - predicted > of_the_others)

    def _adapt_step_scale(self, failed: bool) -> None:
        if failed:
            self.step_scale = max(self.step_scale / 2, SMALLEST_STEP_SCALE)
        else:
            self.step_scale += (1 - self.step_scale) / len(self.subfunctions)

    def _recover(self, j: int, point: Point) -> list[Point]:
        """The points to learn from after a failure: this and the previous one, the better last."""
        before = self._point_before(j, point)
        limit = EXPLODED * self._expected_change(j, before, point)
        for _ in range(RETREATS):
            if point.finite and point.value - before.value <= limit:
                break
            there = before.position + RETREAT * (point.position - before.position)
            point = self._evaluate(j, there)
        if not point.finite:
            return [before]
        return [before, point] if point.value < before.value else [point, before]

    def _point_before(self, j: int, point: Point) -> Point:
        """The subfunction where the last step began, or where it was known to be finite."""
        if self._latest >= 0:
            before = self._evaluate(j, self._positions[:, self._latest].copy())
            if before.finite:
                return before
        if self.counts[j]:
            position, gradient = (
                self._positions[:, j].copy(),
                self.space.lift(self._gradients[:, j]),
            )
            return Point(position, float(self.last_values[j]), gradient, True)
        raise FloatingPointError(
            f"subfunction {j} or its gradient is not finite at its first evaluation (the value is "
            f"{point.value}): start where every subfunction is finite"
        )

    def _expected_change(self, j: int, before: Point, point: Point) -> float:
        """How much the subfunction was to change from one point to the other, roughly."""
        if self.counts[j]:
            change = self._predict(j, point.position) - self._predict(j, before.position)
        else:
            change = self._improvement / self.active.sum()
        return max(abs(change), NEGLIGIBLE * abs(before.value), np.finfo(float).tiny)

    # The model of one subfunction

    def _remember(self, j: int, point: Point) -> None:
        """Make `point` the one that the quadratic of subfunction j is built around."""
        gradient = self.space.project(point.gradient)
        if self.counts[j]:
            self._append_pair(
                j, point.position - self._positions[:, j], gradient - self._gradients[:, j]
            )
        self._positions[:, j] = point.position
        self._gradients[:, j] = gradient
        self.last_values[j] = point.value
        self.counts[j] += 1
        self._last_turn[j] = self.evaluations

    def _append_pair(self, j: int, move: np.ndarray, change: np.ndarray) -> None:
        if not tells_curvature(move, change):
            return
        if self._pairs[j] == self.max_history_terms:
            for history in (self._moves, self._changes):
                history[:, j, :-1] = history[:, j, 1:]
            self._pairs[j] -= 1
        self._moves[:, j, self._pairs[j]] = move
        self._changes[:, j, self._pairs[j]] = change
        self._pairs[j] += 1

    def history(self, j: int) -> tuple[np.ndarray, np.ndarray]:
        """The last changes of position and of the gradient of subfunction j, a column each.

        They are coordinates in the subspace, the oldest first. Those of which a collapse has left
        too little are omitted.
        """
        pairs = range(self._pairs[j])
        moves, changes = self._moves[: self.space.size, j], self._changes[: self.space.size, j]
        kept = [a for a in pairs if tells_curvature(moves[:, a], changes[:, a])]
        return moves[:, kept], changes[:, kept]

    def hessian(self, j: int) -> np.ndarray:
        """$H_j$ in the subspace."""
        axes = self._axes[: self.space.size, j]
        return (axes * self._weights[j]) @ axes.T + self._isotropic[j] * np.eye(self.space.size)

    def _fit(self, j: int) -> None:
        """Fit the Hessian of subfunction j to its history."""
        moves, changes = self.history(j)
        self._weights[j] = 0
        self._axes[:, j] = 0
        if not moves.shape[1]:
            self._isotropic[j] = self._typical_curvature()
            return
        isotropic, values, axes = fit_hessian(moves, changes, self.hessian_max_deviation)
        self._isotropic[j] = isotropic
        self._weights[j, : len(values)] = values - isotropic
        self._axes[: self.space.size, j, : len(values)] = axes

    def _typical_curvature(self) -> float:
        """A guess at a subfunction's curvature from those of the others."""
        curvature = np.median(linalg.eigvalsh(self._total_hessian())) / self.active.sum()
        return float(curvature / 10 if self.evaluations <= CAUTIOUS_EVALUATIONS else curvature)

    def _predict(self, j: int, position: np.ndarray) -> float:
        """The value of the quadratic of subfunction j."""
        away = position - self._positions[:, j]
        along = self._axes[:, j].T @ away
        bend = self._weights[j] @ along**2 + self._isotropic[j] * (away @ away)
        return float(self.last_values[j] + self._gradients[:, j] @ away + bend / 2)

    # The model of their sum, and the step

    def _away(self) -> np.ndarray:
        """theta - theta_i of every subfunction, a column each."""
        return (self._position[:, None] - self._positions)[: self.space.size]

    def _along(self, away: np.ndarray) -> np.ndarray:
        """V_i^T (theta - theta_i) of every subfunction, a row each."""
        return np.einsum("kna,kn->na", self._axes[: self.space.size], away)

    def _total_hessian(self) -> np.ndarray:
        axes = self._axes[: self.space.size].reshape(self.space.size, -1)
        curved = (axes * self._weights.ravel()) @ axes.T
        return curved + self._isotropic.sum() * np.eye(self.space.size)

    def _total_gradient(self) -> np.ndarray:
        """The gradient of the model at theta; a subfunction that is not active has none."""
        away = self._away()
        pull = (self._weights * self._along(away)).ravel()
        curved = self._axes[: self.space.size].reshape(self.space.size, -1) @ pull
        return curved + away @ self._isotropic + self._gradients[: self.space.size].sum(axis=1)

    def _spectrum(self) -> Spectrum:
        values, vectors = linalg.eigh(self._total_hessian())
        # Each H_i is positive definite, and so is the sum but for rounding.
        smallest = max(values[-1] * np.finfo(float).eps, np.finfo(float).tiny)
        return Spectrum(np.maximum(values, smallest), vectors)

    def _newton_step(self, spectrum: Spectrum) -> np.ndarray:
        return -self.step_scale * spectrum.solve(self._total_gradient())

    def _bounded(self, step: np.ndarray) -> np.ndarray:
        """The step, neither shorter nor, after the first pass, much longer than allowed."""
        length = np.linalg.norm(step)
        if 0 < length < self.minimum_step_length:
            step = step * (self.minimum_step_length / length)
        elif self._steps and self.evaluations > len(self.subfunctions):
            longest = self.max_step_length_ratio * self._path / self._steps
            if length > longest:
                step = step * (longest / length)
        return step

    def _move(self, step: np.ndarray) -> None:
        self._steps += 1
        self._path += float(np.linalg.norm(step))
        self._position = self._position.copy()
        self._position[: self.space.size] += step
        self.theta = self.space.lift(self._position)

    def _grow(self, spectrum: Spectrum, failed: bool) -> None:
        """Activate one more subfunction if the active ones are known but no longer enough."""
        self._since_growth += 1
        if self.active.all() or (self.counts[self.active] < 2).any():
            return
        waited = self._since_growth > self.active.sum()
        if failed or waited or self._gradient_noise(spectrum) >= self.max_gradient_noise:
            self._activate()

    def _gradient_noise(self, spectrum: Spectrum) -> float:
        """Variance of the mean gradient over its square, both in the norm of H^-1."""
        gradients = self._gradients[: self.space.size, self.active]
        count = gradients.shape[1]
        if count < 2:
            return 0.0
        mean = gradients.mean(axis=1)
        spread = gradients - mean[:, None]
        variance = np.sum(spread * spectrum.solve(spread)) / (count - 1) / count
        square = mean @ spectrum.solve(mean)
        return float(variance / square) if square > 0 else math.inf

    # What a collapse of the subspace keeps

    def _kept(self) -> np.ndarray:
        """What a collapse leaves as it is, as columns of coordinates."""
        known = self.counts > 0
        columns = (self._gradients[:, known], self._positions[:, known], self._position[:, None])
        return np.hstack(columns)[: self.space.size]

    def _projected(self) -> list[np.ndarray]:
        """All arrays of coordinates."""
        return [
            self._position,
            self._positions,
            self._gradients,
            self._moves,
            self._changes,
            self._axes,
        ]

    # Interrupting and resuming

    def state(self) -> dict[str, np.ndarray]:
        """A copy of everything that the iterations change; it takes as much memory as the basis.

        With `restore`, an interrupted run continues exactly as if it had not been interrupted,
        given the same number of threads.
        """
        return states.take(self)

    def restore(self, interrupted: Mapping[str, np.ndarray]) -> None:
        """Go on from a `state` of an optimizer that was built with the same arguments.

        Raises:
            ValueError: when the state is of another problem or history; nothing is changed.
        """
        states.check(self, interrupted)
        states.put(self, interrupted)

    def check(self, interrupted: Mapping[str, np.ndarray]) -> None:
        """Whether `restore` takes this state.

        Raises:
            ValueError: it does not; the message says why.
        """
        states.check(self, interrupted)
