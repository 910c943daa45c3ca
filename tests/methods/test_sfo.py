"""The Sum-of-Functions Optimizer: its model, its subspace, its rules, and what breaks it."""

from __future__ import annotations

import math
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import optimize, special

from experiments.methods.sfo import SELECTIONS, SFO, curvature, memory, state, subspace
from experiments.methods.sfo import optimizer as iterations


class Quadratics:
    """Convex quadratics with a known common minimum, which none of them has alone.

    Attributes:
        points: theta, value and gradient of every evaluation of each.
    """

    def __init__(self, count: int, size: int, condition: float = 10.0, scale: float = 1.0) -> None:
        rng = np.random.default_rng(0)
        turns = [np.linalg.qr(rng.standard_normal((size, size)))[0] for _ in range(count)]
        spectrum = scale * np.geomspace(1, condition, size)
        self.hessians = [(turn * spectrum) @ turn.T for turn in turns]
        self.pulls = [scale * rng.standard_normal(size) for _ in range(count)]
        self.minimum = np.linalg.solve(sum(self.hessians), sum(self.pulls))
        self.start = rng.standard_normal(size)
        self.points: list[list[tuple[np.ndarray, float, np.ndarray]]] = [[] for _ in range(count)]

    def f_df(self, theta: np.ndarray, i: int) -> tuple[float, np.ndarray]:
        pull = self.hessians[i] @ theta
        value, gradient = theta @ pull / 2 - self.pulls[i] @ theta, pull - self.pulls[i]
        self.points[i].append((theta, value, gradient))
        return value, gradient

    def build(self, seed: int = 0, **settings) -> SFO:
        return SFO(self.f_df, self.start, range(len(self.pulls)), seed=seed, **settings)

    def error(self, theta: np.ndarray) -> float:
        """How far theta is from the minimum, relatively."""
        return float(np.linalg.norm(theta - self.minimum) / np.linalg.norm(self.minimum))

    def excess(self, theta: np.ndarray) -> float:
        """How much the sum is above its minimum, relatively."""
        values = [
            sum(self.f_df(at, i)[0] for i in range(len(self.pulls))) for at in (theta, self.minimum)
        ]
        return (values[0] - values[1]) / abs(values[1])


IDENTITY, SUBSPACE = (6, 12), (6, 60)  # count and size: 14 dimensions, 21 before a collapse


def lifted(optimizer: SFO, coordinates: np.ndarray) -> np.ndarray:
    """Vectors from their coordinates, a column each."""
    return np.stack([optimizer.space.lift(column) for column in coordinates.T], axis=1)


def until_collapse(optimizer: SFO) -> None:
    """Iterate until the next iteration collapses the basis."""
    while optimizer.space.size + 2 <= optimizer.space.room:
        optimizer.step()


# Where it converges


@pytest.mark.parametrize(("count", "size", "passes"), [(6, 1, 8), (6, 12, 24), (20, 100, 22)])
def test_quadratics_are_solved_to_machine_precision(count, size, passes):
    problem = Quadratics(count, size)
    optimizer = problem.build(minimum_step_length=0.0)
    theta = optimizer.run(passes)
    assert problem.error(theta) < 1e-12
    assert optimizer.active.all()
    assert theta is optimizer.theta


def test_the_least_length_of_a_step_is_all_that_keeps_it_from_the_minimum():
    problem = Quadratics(*IDENTITY)
    theta = problem.build().run(24)
    assert 1e-10 < np.linalg.norm(theta - problem.minimum) < 1e-7
    assert problem.excess(theta) < 1e-14


@pytest.mark.parametrize("selection", SELECTIONS)
def test_every_selection_converges(selection):
    problem = Quadratics(*IDENTITY)
    assert problem.error(problem.build(subfunction_selection=selection).run(24)) < 1e-6


class Classes:
    """Logistic regression with an L2 penalty, ten minibatches.

    `noise` drops out half of the features: with masks that stay, or drawn at each evaluation.
    """

    def __init__(self, noise: str = "none", seed: int = 0) -> None:
        rng = np.random.default_rng(0)
        self.examples = rng.standard_normal((400, 20))
        latent = self.examples @ rng.standard_normal(20) + rng.standard_normal(400)
        self.labels = np.sign(latent)
        self.masks = 2.0 * (rng.random(self.examples.shape) > 0.5)
        self.parts = np.array_split(np.arange(400), 10)
        self.noise, self.rng = noise, np.random.default_rng(seed)

    def f_df(self, theta: np.ndarray, part: np.ndarray) -> tuple[float, np.ndarray]:
        examples, labels = self.examples[part], self.labels[part]
        if self.noise == "fixed":
            examples = examples * self.masks[part]
        if self.noise == "fresh":
            examples = examples * 2.0 * (self.rng.random(examples.shape) > 0.5)
        margin = labels * (examples @ theta)
        slope = -labels * special.expit(-margin) / len(labels)
        value = np.logaddexp(0, -margin).mean() + 0.005 * theta @ theta
        return value, examples.T @ slope + 0.01 * theta

    def masked(self, times: int) -> np.ndarray:
        """The examples, the noise applied: once, or with many masks that `f_df` does not see."""
        if self.noise == "none":
            return self.examples
        if self.noise == "fixed":
            return self.examples * self.masks
        rng, examples = np.random.default_rng(9), np.tile(self.examples, (times, 1))
        return examples * 2.0 * (rng.random(examples.shape) > 0.5)

    def optimum(self) -> np.ndarray:
        """The minimum of the mean over all examples, and over the masks, by Newton's method."""
        examples = self.masked(100)
        positive = np.resize(self.labels > 0, len(examples))

        def objective(theta: np.ndarray) -> tuple[float, np.ndarray]:
            score = examples @ theta
            cost = np.logaddexp(0, np.where(positive, -score, score)).mean()
            slope = examples.T @ (special.expit(score) - positive) / len(examples)
            return cost + 0.005 * theta @ theta, slope + 0.01 * theta

        def hessian(theta: np.ndarray) -> np.ndarray:
            chance = special.expit(examples @ theta)
            weighted = examples * (chance * (1 - chance))[:, None]
            return examples.T @ weighted / len(examples) + 0.01 * np.eye(20)

        found = optimize.minimize(
            objective, np.zeros(20), method="trust-exact", jac=True, hess=hessian, tol=1e-11
        )
        assert np.linalg.norm(objective(found.x)[1]) < 1e-10
        return found.x

    def error(self, theta: np.ndarray, optimum: np.ndarray) -> float:
        return float(np.linalg.norm(theta - optimum) / np.linalg.norm(optimum))

    def build(self, seed: int = 0) -> SFO:
        return SFO(self.f_df, np.zeros(20), self.parts, seed=seed, minimum_step_length=1e-12)


@pytest.mark.parametrize("noise", ["none", "fixed"])
def test_logistic_regression_reaches_the_optimum_that_newton_finds(noise):
    problem = Classes(noise)
    assert problem.error(problem.build().run(22), problem.optimum()) < 1e-9


@pytest.mark.parametrize("seed", [0, 1])
def test_noise_that_is_drawn_anew_breaks_it(seed):
    # Section 6.2: SFO "failed to converge on cost functions with stochastic regularization".
    problem = Classes("fresh", seed)
    optimum = problem.optimum()
    assert problem.error(problem.build(seed).run(40), optimum) > 0.2
    # It is not the noise alone: gradient descent gets past it with as many evaluations.
    theta, average = np.zeros(20), np.zeros(20)
    for k in range(400):
        theta = theta - 0.1 * problem.f_df(theta, problem.parts[k % 10])[1]
        average += theta / 200 if k >= 200 else 0
    assert problem.error(average, optimum) < 0.1


def test_a_network_is_trained_faster_than_on_whole_passes():
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((200, 5))
    targets = np.sin(2 * inputs[:, 0]) * inputs[:, 1]

    def f_df(theta: np.ndarray, part: np.ndarray) -> tuple[float, np.ndarray]:
        first, second = theta[:100].reshape(5, 20), theta[100:]
        hidden = np.tanh(inputs[part] @ first)
        error = (hidden @ second - targets[part]) / len(part)
        back = np.outer(error, second) * (1 - hidden**2)
        gradient = np.concatenate([(inputs[part].T @ back).ravel(), hidden.T @ error])
        return float(error @ error) / 2 * len(part), gradient

    start, whole = 0.5 * rng.standard_normal(120), np.arange(200)
    optimizer = SFO(f_df, start, np.split(whole, 10), seed=0)
    costs = [f_df(optimizer.run(10), whole)[0] for _ in range(4)]
    assert costs == sorted(costs, reverse=True)
    assert all(np.linalg.eigvalsh(optimizer.hessian(j))[0] > 0 for j in range(10))
    options = {"maxiter": 40}
    passes = optimize.minimize(f_df, start, (whole,), "L-BFGS-B", jac=True, options=options)
    assert passes.nfev >= 40
    assert costs[-1] < 0.8 * passes.fun < 0.5 * f_df(start, whole)[0]


# The model


def test_the_history_holds_the_last_changes():
    problem = Quadratics(*IDENTITY)
    optimizer = problem.build(max_history_terms=4)
    optimizer.run(8)
    assert optimizer.counts.min() > 5
    for j, points in enumerate(problem.points):
        assert len(points) == optimizer.counts[j]  # no iteration failed: one point each
        last = points[-5:]
        moves, changes = optimizer.history(j)
        expected = np.diff([theta for theta, _, _ in last], axis=0).T
        np.testing.assert_allclose(moves, expected, atol=1e-13)
        expected = np.diff([gradient for _, _, gradient in last], axis=0).T
        np.testing.assert_allclose(changes, expected, atol=1e-13)
        assert optimizer.last_values[j] == points[-1][1]


@pytest.mark.parametrize("shape", [IDENTITY, SUBSPACE])
def test_the_last_change_obeys_the_secant_equation(shape):
    problem = Quadratics(*shape)
    optimizer = problem.build(max_history_terms=4)
    optimizer.run(3)
    for _ in range(40):
        optimizer.step()
        j = optimizer.evaluated[-1]
        moves, changes = optimizer.history(j)
        assert moves.shape[1] > 0
        left, right = optimizer.hessian(j) @ moves[:, -1], changes[:, -1]
        assert np.linalg.norm(left - right) < 1e-9 * np.linalg.norm(right)


def test_hessians_approach_the_truth_along_their_history():
    problem = Quadratics(*IDENTITY)
    optimizer = problem.build()
    optimizer.run(10)
    errors = []
    for j, truth in enumerate(problem.hessians):
        moves, _ = optimizer.history(j)
        assert moves.shape[1] >= 5
        modelled = np.sum(moves * (optimizer.hessian(j) @ moves), axis=0)
        errors.append(np.abs(modelled / np.sum(moves * (truth @ moves), axis=0) - 1))
        assert errors[-1][-1] < 1e-9  # along the last move the curvature is exact
    assert np.median(np.concatenate(errors)) < 0.2
    assert max(error.max() for error in errors) < 0.7


def test_a_hessian_is_fitted_as_written():
    # One pair: e = |y| / |s|, and B = e I + y y^T / (y^T s) - e s s^T / |s|^2.
    move, change = np.array([1.0, 0.0]), np.array([3.0, 4.0])
    isotropic, values, axes = curvature.fit_hessian(move[:, None], change[:, None], 1e8)
    assert isotropic == pytest.approx(5)
    expected = 5 * np.eye(2) + np.outer(change, change) / 3 - 5 * np.outer(move, move)
    np.testing.assert_allclose((axes * values) @ axes.T, expected, atol=1e-12)


def test_negative_and_tiny_curvature_is_replaced():
    values = np.array([-4.0, 1e-9, 1.0, 2.0, 3.0])
    np.testing.assert_array_equal(curvature.positive(values, 1e4), [1.5, 1.5, 1.0, 2.0, 3.0])
    np.testing.assert_array_equal(curvature.positive(np.array([-4.0, -1.0]), 1e4), [4.0, 4.0])
    move, change = np.array([[1.0], [0.0]]), np.array([[-2.0], [1.0]])
    assert curvature.fit_hessian(move, change, 1e8)[1].min() > 0


@pytest.mark.parametrize(
    ("move", "change", "told"),
    [
        ([1.0, 0.0], [1.0, 1.0], True),
        ([1.0, 0.0], [-1.0, 1.0], True),
        ([1.0, 0.0], [0.0, 1.0], False),
        ([1e-13, 0.0], [1.0, 0.0], False),
        ([1.0, 0.0], [1e-13, 0.0], False),
    ],
)
def test_which_changes_tell_a_curvature(move, change, told):
    assert curvature.tells_curvature(np.array(move), np.array(change)) == told


def test_a_subfunction_without_history_is_as_curved_as_the_others():
    optimizer = Quadratics(*IDENTITY).build()
    seen = []
    while len(seen) < 6:
        counts, active = optimizer.counts.copy(), optimizer.active.sum()
        curvature = np.linalg.eigvalsh(sum(optimizer.hessian(j) for j in range(6)))
        cautious = 10 if optimizer.evaluations < 5 else 1
        optimizer.step()
        for j in np.flatnonzero((counts == 0) & (optimizer.counts == 1)):
            seen.append(j)
            expected = np.median(curvature) / active / cautious
            assert optimizer._isotropic[j] == pytest.approx(expected)
            assert not optimizer._weights[j].any()


# The step


def test_a_step_is_that_of_newton_on_the_model():
    problem = Quadratics(*IDENTITY)
    optimizer = problem.build()
    optimizer.run(3)
    optimizer.step_scale = 0.5
    position = optimizer.theta
    optimizer.step()
    hessians = [optimizer.hessian(j) for j in range(6)]
    gradient = np.zeros(12)
    for hessian, points in zip(hessians, problem.points, strict=True):
        if points:
            theta, _, slope = points[-1]
            gradient += slope + hessian @ (position - theta)
    expected = -optimizer.step_scale * np.linalg.solve(sum(hessians), gradient)
    assert optimizer.step_scale == 0.5 + 0.5 / 6
    np.testing.assert_allclose(optimizer.theta - position, expected, rtol=1e-9)


def test_steps_are_neither_too_short_nor_too_long():
    problem = Quadratics(*IDENTITY)
    # All are active from the start, and those that are not known yet make the first steps short.
    optimizer = problem.build(initial_active=6, max_step_length_ratio=1.0, minimum_step_length=1e-3)
    lengths: list[float] = []
    clipped = lifted_up = 0
    for _ in range(200):
        evaluations = optimizer.evaluations
        optimizer.step()
        start = optimizer._positions[:, optimizer.evaluated[-1]]  # where a failure leads back to
        length = float(np.linalg.norm(optimizer.theta - start))
        assert length > 1e-3 * (1 - 1e-9)
        lifted_up += length < 1e-3 * (1 + 1e-9)
        if evaluations >= 6:
            longest = np.mean(lengths)
            assert length < longest * (1 + 1e-9)
            clipped += length > longest * (1 - 1e-9)
        lengths.append(length)
    assert clipped > 3
    assert lifted_up > 3


def test_a_flat_sum_is_left_where_it_is():
    optimizer = SFO(lambda theta, i: (0.0, np.zeros(3)), np.ones(3), range(5), seed=0)
    np.testing.assert_array_equal(optimizer.run(3), np.ones(3))
    assert optimizer.active.all()  # at no distance from any active one, others are tried


# Which subfunction


@pytest.mark.parametrize("selection", ["distance", "single distance", "distance both"])
def test_the_most_distant_subfunction_is_chosen(selection):
    problem = Quadratics(*IDENTITY)
    optimizer = problem.build(subfunction_selection=selection, minimum_step_length=1e-3)
    optimizer.run(4)
    assert optimizer.active.all()
    agreed = {"distance": 0, "single distance": 0}
    for _ in range(60):
        hessians = [optimizer.hessian(j) for j in range(6)]
        away = [optimizer.theta - points[-1][0] for points in problem.points]
        farthest = {
            "distance": np.argmax([d @ sum(hessians) @ d for d in away]),
            "single distance": np.argmax([d @ h @ d for d, h in zip(away, hessians, strict=True)]),
        }
        evaluations = optimizer.evaluations
        optimizer.step()
        chosen = optimizer.evaluated[evaluations]
        assert chosen in farthest.values()
        for name, j in farthest.items():
            agreed[name] += chosen == j
    for name, times in agreed.items():
        assert (times == 60) == (name == selection)


def test_a_cycle_takes_each_in_turn():
    optimizer = Quadratics(*IDENTITY).build(subfunction_selection="cyclic")
    optimizer.run(6)
    first = optimizer.evaluations
    for _ in range(18):
        optimizer.step()
    turns = np.array(optimizer.evaluated[first:]).reshape(3, 6)
    assert sorted(turns[0]) == list(range(6))
    assert (turns == turns[0]).all()


@pytest.mark.parametrize("initial", [1, 2, 4, 9])
@pytest.mark.parametrize("selection", ["distance both", "random", "cyclic"])
def test_subfunctions_become_active_one_by_one(initial, selection):
    optimizer = Quadratics(*IDENTITY).build(initial_active=initial, subfunction_selection=selection)
    assert optimizer.active.sum() == min(initial, 6)
    for _ in range(60):
        active, counts, evaluations = (
            optimizer.active.copy(),
            optimizer.counts.copy(),
            optimizer.evaluations,
        )
        optimizer.step()
        chosen = optimizer.evaluated[evaluations]
        assert active[chosen]
        if (active & (counts < 2)).any():  # these come first, and one that is half known before all
            assert counts[chosen] == (1 if (active & (counts == 1)).any() else 0)
        new = np.flatnonzero(optimizer.active & ~active)
        assert (optimizer.active | ~active).all()
        assert len(new) <= 1
        if len(new):
            assert (optimizer.counts[active] >= 2).all()
    assert optimizer.active.all()


def growth(optimizer: SFO) -> list[int]:
    """After how many steps each subfunction became active, from the last one on."""
    steps, gaps = 0, []
    while not optimizer.active.all():
        active = optimizer.active.sum()
        optimizer.step()
        steps += 1
        if optimizer.active.sum() > active:
            gaps.append(steps)
            steps = 0
    return gaps


def test_growth_waits_while_the_gradients_agree(monkeypatch):
    monkeypatch.setattr(SFO, "_gradient_noise", lambda self, spectrum: 0.0)
    assert growth(Quadratics(*IDENTITY).build())[1:] == [4, 5, 6]
    monkeypatch.setattr(SFO, "_gradient_noise", lambda self, spectrum: 1.0)
    assert growth(Quadratics(*IDENTITY).build()) == [4, 2, 2, 2]
    assert growth(Quadratics(*IDENTITY).build(max_gradient_noise=1.1))[1:] == [4, 5, 6]


def test_a_failure_lets_the_active_ones_grow(monkeypatch):
    monkeypatch.setattr(SFO, "_gradient_noise", lambda self, spectrum: 0.0)
    optimizer = Quadratics(*IDENTITY).build()
    while optimizer.active.sum() == 2:
        optimizer.step()
    for _ in range(2):  # the third is known, and nobody else is due
        optimizer.step()
    assert (optimizer.active.sum(), optimizer._since_growth) == (3, 2)
    monkeypatch.setattr(SFO, "_has_failed", lambda self, j, point: True)
    optimizer.step()
    assert optimizer.active.sum() == 4


def test_the_noise_of_the_gradients():
    problem = Quadratics(*IDENTITY)
    optimizer = problem.build()
    optimizer.run(3)
    gradients = [points[-1][2] for points in problem.points if points]
    assert len(gradients) == optimizer.active.sum() > 2
    inverse = np.linalg.inv(sum(optimizer.hessian(j) for j in range(6)))
    mean = np.mean(gradients, axis=0)
    variance = sum((g - mean) @ inverse @ (g - mean) for g in gradients) / (len(gradients) - 1)
    expected = variance / len(gradients) / (mean @ inverse @ mean)
    assert optimizer._gradient_noise(optimizer._spectrum()) == pytest.approx(expected)


# The subspace


def test_how_large_the_subspace_is():
    assert subspace.subspace_size(60, 6) == 21
    assert subspace.subspace_size(1_796_010, 25) == 78
    assert subspace.subspace_size(20, 6) == 20
    assert subspace.subspace_size(3, 6) == 3
    assert Quadratics(*IDENTITY).build().space.basis is None  # the identity is not stored


def test_the_basis_stays_orthonormal_and_holds_the_model():
    problem = Quadratics(*SUBSPACE, condition=1e4, scale=1e3)
    optimizer = problem.build()
    sizes = []
    for _ in range(150):
        optimizer.step()
        sizes.append(optimizer.space.size)
        basis = optimizer.space.basis[: optimizer.space.size]
        assert np.abs(basis @ basis.T - np.eye(optimizer.space.size)).max() < 1e-12
        j = optimizer.evaluated[-1]
        gradient = optimizer.space.lift(optimizer._gradients[:, j])
        truth = next(
            slope for _, value, slope in problem.points[j] if value == optimizer.last_values[j]
        )
        np.testing.assert_allclose(gradient, truth, atol=1e-11 * np.linalg.norm(truth))
    assert max(sizes) <= optimizer.space.room == 21
    assert np.sum(np.diff(sizes) < 0) >= 10


def test_a_gradient_almost_in_the_subspace_leaves_the_basis_orthonormal():
    optimizer = Quadratics(*SUBSPACE).build()
    until_collapse(optimizer)
    basis = optimizer.space.basis[: optimizer.space.size]
    rng = np.random.default_rng(0)
    gradient = 1e6 * rng.standard_normal(len(basis)) @ basis + 1e-5 * rng.standard_normal(60)
    coordinates = optimizer.space.project(gradient)
    assert optimizer.space.size == len(basis) + 1
    basis = optimizer.space.basis[: optimizer.space.size]
    assert np.abs(basis @ basis.T - np.eye(len(basis))).max() < 1e-12
    np.testing.assert_allclose(optimizer.space.lift(coordinates), gradient, rtol=1e-12)


def test_a_collapse_keeps_the_model():
    problem = Quadratics(*SUBSPACE)
    optimizer = problem.build()
    optimizer.run(4)
    until_collapse(optimizer)
    assert optimizer.active.all()
    # As if rounding had worn the basis.
    rng = np.random.default_rng(0)
    optimizer.space.basis += 1e-9 * rng.standard_normal(optimizer.space.basis.shape)

    def model() -> list[np.ndarray]:
        away = optimizer._away()
        bends = [np.sum(away * (optimizer.hessian(j) @ away), axis=0) for j in range(6)]
        points = (lifted(optimizer, c) for c in (optimizer._positions, optimizer._gradients))
        return [optimizer.space.lift(optimizer._position), *points, *bends]

    before, moves = model(), lifted(optimizer, optimizer._moves[:, 3])
    optimizer.space.collapse(optimizer._kept(), optimizer._projected())
    assert optimizer.space.size == 13
    for old, new in zip(before[:3], model()[:3], strict=True):
        np.testing.assert_allclose(new, old, atol=1e-12 * np.abs(old).max())
    # Of lengths the collapse makes true ones, where the worn basis was a little off.
    for old, new in zip(before[3:], model()[3:], strict=True):
        np.testing.assert_allclose(new, old, rtol=1e-6)
    basis = optimizer.space.basis[:13]
    assert np.abs(basis @ basis.T - np.eye(13)).max() < 1e-12
    np.testing.assert_allclose(
        lifted(optimizer, optimizer._moves[:, 3]), basis.T @ (basis @ moves), atol=1e-12
    )
    for coordinates in optimizer._projected():
        assert not coordinates[13:].any()


@pytest.mark.parametrize("shape", [IDENTITY, SUBSPACE])
def test_it_starts_at_zero_and_with_one_subfunction(shape):
    problem = Quadratics(*shape)
    problem.start = np.zeros(shape[1])
    assert problem.error(problem.build().run(24)) < 1e-6
    problem = Quadratics(1, shape[1], condition=3.0)
    assert problem.error(problem.build().run(40)) < 1e-6  # though moves repeat each other


# Failures


class Cliff(Quadratics):
    """Quadratics that cannot be evaluated far from zero, or rise like a wall there."""

    def __init__(self, kind: str) -> None:
        super().__init__(*IDENTITY)
        self.kind = kind
        self.fallen = 0

    def f_df(self, theta: np.ndarray, i: int) -> tuple[float, np.ndarray]:
        assert np.isfinite(theta).all()
        value, gradient = super().f_df(theta, i)
        beyond = float(np.linalg.norm(theta)) - 10
        if beyond <= 0:
            return value, gradient
        self.fallen += 1
        if self.kind == "nan":
            return math.nan, np.full(12, math.nan)
        if self.kind == "infinite":
            return math.inf, gradient
        if self.kind == "gradient":
            return value, np.where(np.arange(12) == 3, -math.inf, gradient)
        slope = 2e9 * beyond * theta / np.linalg.norm(theta)
        return value + 1e9 * beyond**2, gradient + slope


def first_failure(kind: str) -> tuple[Cliff, SFO]:
    """The first step is far too long; the second finds out."""
    problem = Cliff(kind)
    optimizer = problem.build(hessian_init=1e-3)
    optimizer.step()
    assert optimizer.step_scale == 1
    assert np.linalg.norm(optimizer.theta) > 100
    return problem, optimizer


@pytest.mark.parametrize("kind", ["nan", "infinite", "gradient", "wall"])
def test_a_failed_step_is_taken_back(kind):
    problem, optimizer = first_failure(kind)
    j = optimizer.evaluated[0]
    value = optimizer.step()
    assert problem.fallen >= 1
    assert set(optimizer.evaluated) == {j}
    assert optimizer.step_scale == 0.5
    # The better of where it was and where it was drawn back to, in the history the other.
    kept = [v for at, v, _ in problem.points[j] if np.linalg.norm(at) <= 10]
    assert value == optimizer.last_values[j] == min(kept)
    moves, changes = optimizer.history(j)
    assert np.all(np.linalg.norm(changes, axis=0) < 20 * np.linalg.norm(moves, axis=0))
    for _ in range(200):
        optimizer.step()
        assert np.isfinite(optimizer.theta).all()
        assert np.isfinite(optimizer.last_values[optimizer.counts > 0]).all()
    assert problem.error(optimizer.theta) < 1e-6
    assert optimizer.step_scale > 0.9


def test_the_scale_of_steps_recovers_and_has_a_floor(monkeypatch):
    optimizer = Quadratics(*IDENTITY).build()
    optimizer.run(1)
    monkeypatch.setattr(SFO, "_has_failed", lambda self, j, point: True)
    for _ in range(3):
        scale = optimizer.step_scale
        optimizer.step()
        assert optimizer.step_scale == scale / 2
    optimizer.run(8)
    assert optimizer.step_scale == 1e-5
    monkeypatch.setattr(SFO, "_has_failed", lambda self, j, point: False)
    optimizer.step()
    assert optimizer.step_scale == pytest.approx(1e-5 * 5 / 6 + 1 / 6)


def test_what_counts_as_a_failure():
    problem = Quadratics(*IDENTITY)
    optimizer = problem.build()
    optimizer.run(3)
    j = int(np.flatnonzero(optimizer.counts > 1)[0])
    position, gradient = optimizer._position, np.zeros(12)
    last, predicted = optimizer.last_values[j], optimizer._predict(j, position)
    away = position - optimizer._positions[:, j]
    expected = last + optimizer._gradients[:, j] @ away + away @ optimizer.hessian(j) @ away / 2
    assert predicted == pytest.approx(expected)

    def fails(subfunction: int, value: float, finite: bool = True) -> bool:
        return optimizer._has_failed(
            subfunction, iterations.Point(position, value, gradient, finite)
        )

    # It rose, and above what it was to be by more than the others were to fall.
    optimizer._improvement = 0.25 + last - predicted
    above = max(predicted + 0.25, last)
    assert not fails(j, above - 1e-9)
    assert fails(j, above + 1e-9)
    assert fails(j, above - 1e-9, finite=False)
    optimizer._improvement = -100.0
    assert not fails(j, last - 1e-9)  # it fell
    # At its first evaluation a subfunction is compared with the others.
    known = optimizer.last_values[optimizer.counts > 1]
    optimizer.counts[j], known = 0, np.delete(known, 0)
    above = known.mean() + 3 * known.std()
    assert fails(j, above + 1e-9)
    assert not fails(j, above - 1e-9)


def test_an_evaluation_that_is_never_finite_is_told():
    def f_df(theta: np.ndarray, i: int) -> tuple[float, np.ndarray]:
        return math.nan, theta

    with pytest.raises(FloatingPointError, match=r"^subfunction \d .* not finite .* is nan\)"):
        SFO(f_df, np.ones(2), range(3), seed=0).run(1)


def test_a_later_subfunction_that_is_never_finite_is_told():
    problem = Quadratics(*IDENTITY)
    first = np.flatnonzero(problem.build().active)

    def f_df(theta: np.ndarray, i: int) -> tuple[float, np.ndarray]:
        value, gradient = problem.f_df(theta, i)
        return (value if i in first else math.inf), gradient

    optimizer = SFO(f_df, problem.start, range(6), seed=0)
    with pytest.raises(FloatingPointError, match="not finite at its first evaluation"):
        optimizer.run(5)
    assert np.isfinite(optimizer.theta).all()


def test_it_goes_back_to_where_it_was_finite():
    problem = Quadratics(*SUBSPACE)
    broken = False

    def f_df(theta: np.ndarray, i: int) -> tuple[float, np.ndarray]:
        value, gradient = problem.f_df(theta, i)
        return (math.nan if broken else value), gradient

    optimizer = SFO(f_df, problem.start, range(6), seed=0)
    optimizer.run(4)
    broken = True
    for _ in range(30):
        known = optimizer.last_values.copy()
        value = optimizer.step()
        assert value in known
        assert np.isfinite(optimizer.theta).all()
    broken = False
    assert problem.error(optimizer.run(30)) < 1e-6


# Traces, seeds, interruptions


def test_every_evaluation_is_on_record():
    problem = Cliff("nan")
    optimizer = problem.build(hessian_init=1e-3)
    values = []
    while optimizer.evaluations < 30:
        start = optimizer.evaluations
        value = optimizer.step()
        assert value in optimizer.values[start:]
        values.append(value)
    assert optimizer.evaluations == sum(map(len, problem.points))
    assert np.isfinite(values).all()
    assert np.isnan(optimizer.values).any()
    for i in range(6):
        mine = [v for j, v in zip(optimizer.evaluated, optimizer.values, strict=True) if j == i]
        assert len(mine) == len(problem.points[i])
    before = optimizer.evaluations
    optimizer.run(2)
    assert 12 <= optimizer.evaluations - before < 24


def test_the_caller_may_change_what_it_gets():
    problem = Quadratics(*SUBSPACE)
    start = problem.start.copy()

    def careless(theta: np.ndarray, i: int) -> tuple[float, np.ndarray]:
        value, gradient = problem.f_df(theta.copy(), i)
        theta[:] = math.nan
        return value, gradient

    optimizer = SFO(careless, start, range(6), seed=0)
    start[:] = math.nan
    np.testing.assert_array_equal(optimizer.run(5), problem.build().run(5))


@pytest.mark.parametrize("shape", [IDENTITY, SUBSPACE])
def test_a_seed_decides_everything(shape):
    thetas = [Quadratics(*shape).build(seed).run(6) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(thetas[0], thetas[1])
    assert (thetas[0] != thetas[2]).any()


@pytest.mark.parametrize("steps", [0, 1, 2, 7, 16, 45])
@pytest.mark.parametrize("shape", [IDENTITY, SUBSPACE])
def test_an_interrupted_run_goes_on_bit_for_bit(tmp_path, shape, steps):
    through = Quadratics(*shape).build()
    for _ in range(steps):
        through.step()
    resumed = Quadratics(*shape).build(seed=5)
    resumed.run(2)
    np.savez(tmp_path / "state.npz", **through.state())
    with np.load(tmp_path / "state.npz", allow_pickle=False) as state:
        resumed.restore(state)
    for _ in range(40):
        assert through.step() == resumed.step()
    ours, theirs = through.state(), resumed.state()
    assert ours.keys() == theirs.keys()
    for name, array in ours.items():
        np.testing.assert_array_equal(theirs[name], array, strict=True)


def test_a_state_is_a_copy():
    optimizer = Quadratics(*SUBSPACE).build()
    optimizer.run(2)
    state = optimizer.state()
    copy = {name: array.copy() for name, array in state.items()}
    optimizer.run(6)
    for name, array in state.items():
        np.testing.assert_array_equal(array, copy[name])
    optimizer.restore(state)
    optimizer.run(6)
    for name, array in state.items():
        np.testing.assert_array_equal(array, copy[name])


@pytest.mark.parametrize(
    ("other", "name"), [((6, 13), "theta"), ((7, 12), "active"), ((6, 60), "theta")]
)
def test_a_state_of_another_problem_is_refused(other, name):
    state = Quadratics(*other).build().state()
    with pytest.raises(ValueError, match=f"^the state's {name} has shape .* is needed"):
        Quadratics(*IDENTITY).build().restore(state)
    state.pop("reals")
    with pytest.raises(ValueError, match=r"^this is not the state .* lacks reals$"):
        Quadratics(*IDENTITY).build().restore(state)
    state = Quadratics(*IDENTITY).build(max_history_terms=3).state()
    with pytest.raises(ValueError, match=r"^the state's moves has shape"):
        Quadratics(*IDENTITY).build().restore(state)


# Memory and arguments


def test_the_memory_that_is_needed():
    assert 1.12e9 < memory.memory_needed(1_796_010, 25) < 1.3e9
    assert 4.3e9 < memory.memory_needed(1_796_010, 100) < 4.6e9
    assert memory.memory_needed(10, 25) < 1e6  # the identity needs no basis
    pulls = np.random.default_rng(0).standard_normal((5, 50_000))
    gradient = np.empty(50_000)

    def f_df(theta: np.ndarray, i: int) -> tuple[float, np.ndarray]:
        np.subtract(theta, pulls[i], out=gradient)
        return float(gradient @ gradient) / 2, gradient

    tracemalloc.start()
    try:
        SFO(f_df, np.ones(50_000), range(5), seed=0).run(6)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    needed = memory.memory_needed(50_000, 5)
    assert 0.7 * needed < peak <= needed


def test_a_basis_that_does_not_fit_is_refused(monkeypatch):
    problem = Quadratics(*SUBSPACE)
    needed = memory.memory_needed(60, 6)
    monkeypatch.setattr(iterations, "available_memory", lambda: needed - 1)
    with pytest.raises(MemoryError, match=r"^SFO needs .* GB for 60 parameters .* are free: use"):
        problem.build()
    for free in (needed, None):
        monkeypatch.setattr(iterations, "available_memory", lambda free=free: free)
        problem.build()


def test_the_memory_that_is_free(monkeypatch):
    assert memory.available_memory() is None or memory.available_memory() > 1e6

    def missing(name: str, **kwargs: object) -> None:
        raise FileNotFoundError(name)

    monkeypatch.setattr("builtins.open", missing)
    assert memory.available_memory() is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"f_df": 3}, "f_df must be a function (theta, subfunction), got 3"),
        ({"theta": np.ones((2, 3))}, "theta must be a vector, got the shape (2, 3): flatten it"),
        ({"theta": []}, "theta must be a vector, got the shape (0,): flatten it"),
        ({"theta": [1, math.nan]}, "theta must be finite, theta[1] is nan"),
        ({"subfunctions": []}, "subfunctions is empty: give at least one, such as a minibatch"),
        ({"seed": -1}, "seed must be a whole number >= 0, got -1"),
        ({"max_history_terms": 0}, "max_history_terms must be a whole number >= 1, got 0"),
        ({"max_history_terms": 2.5}, "max_history_terms must be a whole number >= 1, got 2.5"),
        ({"initial_active": True}, "initial_active must be a whole number >= 1, got True"),
        ({"hessian_init": 0}, "hessian_init must be a finite number > 0, got 0"),
        (
            {"hessian_max_deviation": 0.5},
            "hessian_max_deviation must be a finite number >= 1, got 0.5",
        ),
        ({"max_gradient_noise": -1}, "max_gradient_noise must be a finite number >= 0, got -1"),
        (
            {"max_step_length_ratio": math.inf},
            "max_step_length_ratio must be a finite number >= 1, got inf",
        ),
        (
            {"minimum_step_length": "short"},
            "minimum_step_length must be a finite number >= 0, got 'short'",
        ),
        (
            {"subfunction_selection": "randm"},
            "unknown subfunction_selection 'randm': did you mean random? "
            f"allowed: {', '.join(SELECTIONS)}",
        ),
    ],
)
def test_bad_arguments_are_told_in_one_line(arguments, message):
    defaults = {"f_df": lambda theta, i: (0.0, theta), "theta": np.ones(3), "subfunctions": "ab"}
    given = {"seed": 0, **defaults, **arguments}
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the whole message is compared)
        SFO(given.pop("f_df"), given.pop("theta"), given.pop("subfunctions"), **given)
    assert str(caught.value) == message


def test_a_gradient_of_another_shape_is_told():
    optimizer = SFO(lambda theta, i: (0.0, theta[:2]), np.ones(3), "ab", seed=0)
    with pytest.raises(ValueError, match=r"gradient of shape \(2,\): it must be \(3,\)$"):
        optimizer.step()
    with pytest.raises(ValueError, match=r"^passes must be a whole number >= 0, got -1$"):
        optimizer.run(-1)


# Small errors, each of which a test finds


def variants(
    tmp_path: Path,
) -> dict[str, tuple[Callable[[pytest.MonkeyPatch], None], Callable[[], None]]]:
    """What to change in the method, and the test that fails then."""
    correction, usual = curvature.secant_correction, SFO._recover

    def put(name: str, value: object, owner: object = SFO) -> Callable[[pytest.MonkeyPatch], None]:
        return lambda patch: patch.setattr(owner, name, value)

    def without(index: int) -> Callable[[SFO], list[np.ndarray]]:
        projected = SFO._projected
        return lambda self: [a for i, a in enumerate(projected(self)) if i != index]

    def forget_newest(self: SFO, j: int, move: np.ndarray, change: np.ndarray) -> None:
        if self._pairs[j] < self.max_history_terms:
            self._moves[:, j, self._pairs[j]] = move
            self._changes[:, j, self._pairs[j]] = change
            self._pairs[j] += 1

    def no_halving(self: SFO, failed: bool) -> None:
        self.step_scale += (1 - self.step_scale) / len(self.subfunctions)

    def keep_positions(self: SFO) -> np.ndarray:
        known = self.counts > 0
        return np.hstack([self._positions[:, known], self._position[:, None]])[: self.space.size]

    def own_curvature(self: SFO) -> float:
        return float(np.mean(self._isotropic[self.active]))

    def solved() -> None:
        test_quadratics_are_solved_to_machine_precision(*IDENTITY, 24)

    def taken_back() -> None:
        test_a_failed_step_is_taken_back("wall")

    secant = test_the_last_change_obeys_the_secant_equation
    return {
        "no Hessian is fitted": (put("_fit", lambda self, j: None), solved),
        "no subfunction becomes active": (put("_grow", lambda *arguments: None), solved),
        "all become active at once": (
            put("_grow", lambda self, *arguments: self.active.fill(True)),
            lambda: test_subfunctions_become_active_one_by_one(2, "random"),
        ),
        "the secant correction has the wrong sign": (
            put("secant_correction", lambda *pair: -correction(*pair), curvature),
            lambda: secant(IDENTITY),
        ),
        "the history keeps the oldest": (
            put("_append_pair", forget_newest),
            test_the_history_holds_the_last_changes,
        ),
        "negative curvature stays": (
            put("positive", lambda values, _: values, curvature),
            test_negative_and_tiny_curvature_is_replaced,
        ),
        "new subfunctions are as curved as the mean e": (
            put("_typical_curvature", own_curvature),
            test_a_subfunction_without_history_is_as_curved_as_the_others,
        ),
        "a collapse forgets to project positions": (
            put("_projected", without(1)),
            test_a_collapse_keeps_the_model,
        ),
        "a collapse forgets to project Hessians": (
            put("_projected", without(5)),
            test_a_collapse_keeps_the_model,
        ),
        "a collapse forgets the gradients": (
            put("_kept", keep_positions),
            test_a_collapse_keeps_the_model,
        ),
        "a failure does not halve the steps": (put("_adapt_step_scale", no_halving), taken_back),
        "a failure goes on from the worse point": (
            put("_recover", lambda self, *failure: usual(self, *failure)[::-1]),
            taken_back,
        ),
        "a point beyond the wall is learned from": (put("RETREATS", 0, iterations), taken_back),
        "nothing is a failure": (put("_has_failed", lambda self, j, point: False), taken_back),
        "the gradients of the others are not moved to theta": (
            put("_away", lambda self: np.zeros((self.space.size, len(self.counts)))),
            test_a_step_is_that_of_newton_on_the_model,
        ),
        "the state forgets the random generator": (
            put("unpack", lambda generator, words: None, state),
            lambda: test_an_interrupted_run_goes_on_bit_for_bit(tmp_path, IDENTITY, 7),
        ),
    }


@pytest.mark.parametrize("name", variants(Path()))
def test_a_wrong_variant_is_found(monkeypatch, tmp_path, name):
    change, criterion = variants(tmp_path)[name]
    change(monkeypatch)
    with pytest.raises(AssertionError):
        criterion()
