"""The forms that the paper calls equal, against PyTorch's optimizers and closed forms."""

from __future__ import annotations

import decimal

import numpy as np
import pytest

from experiments.theory import identities
from experiments.theory.adam import Adam
from experiments.theory.options import Identities, Norms
from experiments.theory.stepsize import sharp_bounds

SETTINGS = {"learning_rate": 0.001}


@pytest.fixture(scope="module")
def rows() -> list[dict[str, float]]:
    return list(
        identities.identities("none", 3, SETTINGS, 1, 1, Identities(steps=300, dimensions=20))
    )


def torch_steps(make, gradients: np.ndarray) -> np.ndarray:
    torch = pytest.importorskip("torch")
    theta = torch.zeros(gradients.shape[1], dtype=torch.float64, requires_grad=True)
    optimizer, steps = make(torch, [theta]), []
    for gradient in gradients:
        before = theta.detach().clone()
        theta.grad = torch.tensor(gradient)
        optimizer.step()
        steps.append((before - theta.detach()).numpy())
    return np.array(steps)


def test_the_limit_is_pytorchs_adagrad(rows):
    gradients = identities.gradients(3, 300, 20)
    expected = torch_steps(lambda torch, p: torch.optim.Adagrad(p, lr=0.001, eps=0.0), gradients)
    near = Adam(learning_rate=0.001, decay="sqrt_step", beta_1=0.0, beta_2=1 - 1e-8, epsilon=0.0)
    found = np.array([near.step(g) for g in gradients])
    # PyTorch's parameters add up: a step is known to their last bits only.
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert all(row["adagrad"] < 1e-8 * row["t"] + 1e-7 for row in rows)


def test_adamax_is_pytorchs(rows):
    gradients = identities.gradients(3, 300, 20)
    expected = torch_steps(lambda torch, p: torch.optim.Adamax(p, lr=0.002, eps=0.0), gradients)
    longest = np.maximum.accumulate(np.abs(expected).max(axis=1)) / 0.002
    for row in rows:
        assert row["adamax_step"] == pytest.approx(longest[int(row["t"]) - 1], rel=1e-9)


def test_the_reordered_form_needs_its_own_epsilon(rows):
    assert all(row["reordered"] < 1e-12 for row in rows)
    # At the first step sqrt(1 - beta_2) is 1/31.6: the same epsilon counts 31.6 times as much, and
    # decides over coordinates whose gradients are far below epsilon.
    assert rows[0]["reordered_constant"] > 0.5
    assert rows[0]["reordered_constant"] < 1 - 1 / 31.7


def test_the_first_step_without_correction_is_316_percent(rows):
    """(1 - beta_1) / sqrt(1 - beta_2), exactly."""
    assert rows[0]["uncorrected"] == pytest.approx(0.1 / np.sqrt(0.001), rel=1e-6)
    late = next(row for row in rows if row["t"] == 300)
    # After 300 steps v still has a quarter of its weight, m all of it.
    assert late["uncorrected"] == pytest.approx(1 / np.sqrt(1 - 0.999**300), rel=1e-6)


def test_without_correction_the_limit_is_far_from_adagrad(rows):
    """v is (1 - beta_2) times the sum of squares: steps are 1 / sqrt((1 - beta_2) t) times as long,
    with t from alpha / sqrt(t)."""
    for row in rows:
        assert row["adagrad_uncorrected"] == pytest.approx(1 / np.sqrt(1e-8 * row["t"]), rel=1e-5)


@pytest.mark.parametrize("t", [1, 2, 50, 5_000])
def test_the_longest_step_of_adamax_in_closed_form(t):
    beta = 0.9 / 0.999
    expected = 0.1 * (1 - beta**t) / (1 - beta) / (1 - 0.9**t)
    assert identities.adamax_longest(t, 0.9, 0.999) == pytest.approx(expected, rel=1e-12)


def test_no_gradients_make_adamax_go_further():
    """Random search does not beat the constructed sequence."""
    draws = np.random.default_rng(0).uniform(-1, 1, size=(20_000, 4)) ** 3
    m = u = np.zeros(len(draws))
    for gradient in draws.T:
        m, u = 0.9 * m + 0.1 * gradient, np.maximum(0.999 * u, np.abs(gradient))
    assert np.max(np.abs(m) / (1 - 0.9**4) / u) <= identities.adamax_longest(4, 0.9, 0.999)


def test_at_equality_of_the_condition_steps_can_exceed_alpha():
    assert sharp_bounds(Adam(0.001, beta_1=0.9, beta_2=0.99, epsilon=0.0), 1_000)[-1] > 1.2


def test_the_steps_with_an_lp_norm_are_those_of_the_papers_sum():
    """v_t = (1 - beta_2^p) sum_i beta_2^(p (t - i)) |g_i|^p, in 60 digits, so that nothing
    underflows; AdaMax's u_t is the largest beta_2^(t - i) |g_i|."""
    t, rows = 12, list(identities.norms("none", 3, SETTINGS, 1, 1, Norms(steps=12, dimensions=5)))
    sizes = np.abs(identities.gradients(3, t, 5))
    with decimal.localcontext(prec=60, Emin=-999_999):
        beta = decimal.Decimal("0.999")
        for p in identities.NORMS:
            apart = []
            for coordinate in sizes.T:
                faded = [beta ** (t - 1 - i) * decimal.Decimal(g) for i, g in enumerate(coordinate)]
                root = ((1 - beta**p) * sum(x**p for x in faded)) ** (decimal.Decimal(1) / p)
                apart.append(abs(max(faded) / root - 1))
            assert rows[-1][f"p_{p}"] == pytest.approx(float(max(apart)), rel=1e-9)
            # Of the first step, whatever the gradient.
            first = float((1 - beta**p) ** (decimal.Decimal(-1) / p)) - 1
            assert rows[0][f"p_{p}"] == pytest.approx(first, rel=1e-9)
