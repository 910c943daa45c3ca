"""What Sections 2.1, 3, 5 and 7.1 of the paper say about the algorithms, on random gradients."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from adam_tf import Adam, AdaMax, InverseSqrtDecay

# One compiled step per size of problem would be slow: all problems have 3 coordinates.
SIZE = 3
sizes = st.floats(1e-6, 1e6)
signs = st.sampled_from([-1.0, 1.0])
nonzero = st.builds(lambda size, sign: size * sign, sizes, signs)
gradient_lists = st.lists(
    st.lists(nonzero, min_size=SIZE, max_size=SIZE), min_size=1, max_size=12
).map(np.array)
betas = st.floats(0.01, 0.999)
alphas = st.floats(1e-4, 1.0)
few = settings(max_examples=25, deadline=None, derandomize=True)


def steps(optimizer, gradients, compiler=lambda step: step):
    """The movements of a variable; eagerly, since to trace takes longer than a few steps."""
    variable = keras.Variable(np.zeros(np.shape(gradients)[1:]), dtype="float64")
    optimizer.build([variable])
    step = compiler(lambda gradient: optimizer.apply([gradient], [variable]))
    places = [variable.numpy()]
    for gradient in gradients:
        step(tf.constant(gradient, tf.float64))
        places.append(variable.numpy())
    return np.diff(places, axis=0)


def largest_adam_step(t, beta_1, beta_2):
    """max |m_hat / sqrt(v_hat)| over all gradients, by Cauchy and Schwarz, at step t."""
    growth = np.sum((beta_1**2 / beta_2) ** np.arange(t))
    uncorrected = (1 - beta_1) / np.sqrt(1 - beta_2) * np.sqrt(growth)
    return uncorrected * np.sqrt(1 - beta_2**t) / (1 - beta_1**t)


def largest_adamax_step(t, beta_1, beta_2):
    """max |m_hat / u| over all gradients, from |g_i| <= u_t / beta_2^(t-i), at step t."""
    return (1 - beta_1) / (1 - beta_1**t) * np.sum((beta_1 / beta_2) ** np.arange(t))


@few
@given(gradient_lists, alphas, betas, betas)
def test_step_bounds(gradients, alpha, beta_1, beta_2):
    for make, largest in (
        (lambda: Adam(alpha, beta_1, beta_2, epsilon=0.0), largest_adam_step),
        (lambda: AdaMax(alpha, beta_1, beta_2), largest_adamax_step),
    ):
        limits = [alpha * largest(t, beta_1, beta_2) for t in range(1, len(gradients) + 1)]
        moved = np.abs(steps(make(), gradients)).max(axis=1)
        assert (moved <= np.array(limits) * (1 + 1e-9)).all()


@pytest.mark.parametrize(("beta_1", "beta_2"), [(0.9, 0.999), (0.9, 0.95), (0.5, 0.9)])
def test_step_bounds_are_reached(beta_1, beta_2):
    # The paper bounds Adam's step by (1 - beta_1) / sqrt(1 - beta_2) or 1 times alpha, AdaMax's by
    # alpha. Growing gradients exceed Adam's, by the factor 2.3 and 1.16 (second case), gradients
    # that fall by beta_2 a step AdaMax's, by 1.009.
    age = np.arange(400)[::-1, None]
    growing = (beta_1 / beta_2) ** age
    last = steps(Adam(1.0, beta_1, beta_2, epsilon=0.0), growing, tf.function)[-1]
    np.testing.assert_allclose(-last, largest_adam_step(400, beta_1, beta_2), rtol=1e-9)
    papers = (1 - beta_1) / np.sqrt(1 - beta_2)
    assert (-last > 1.1 * max(papers, 1.0)).all()
    falling = beta_2 ** -age.astype(float)
    last = steps(AdaMax(1.0, beta_1, beta_2), falling, tf.function)[-1]
    np.testing.assert_allclose(-last, largest_adamax_step(400, beta_1, beta_2), rtol=1e-9)
    assert (-last > 1.001).all()


@few
@given(st.integers(1, 30), nonzero, betas, betas)
def test_papers_step_bound_holds_for_the_sparsest_gradient(t, gradient, beta_1, beta_2):
    # Section 2.1: "a gradient has been zero at all timesteps except at the current timestep".
    gradients = np.zeros((t, 1))
    gradients[-1] = gradient
    uncorrected = Adam(0.01, beta_1, beta_2, epsilon=0.0, bias_correction=False)
    bound = 0.01 * (1 - beta_1) / np.sqrt(1 - beta_2)
    np.testing.assert_allclose(np.abs(steps(uncorrected, gradients)[-1]), bound, rtol=1e-9)
    if 1 - beta_1 <= np.sqrt(1 - beta_2):
        assert bound <= 0.01
    assert (np.abs(steps(AdaMax(0.01, beta_1, beta_2), gradients)[-1]) <= 0.01 * (1 + 1e-9)).all()


@few
@given(st.lists(nonzero, min_size=1, max_size=6), alphas, betas, betas)
def test_first_step_is_alpha(gradient, alpha, beta_1, beta_2):
    expected = -alpha * np.sign([gradient])
    for optimizer in (Adam(alpha, beta_1, beta_2, epsilon=0.0), AdaMax(alpha, beta_1, beta_2)):
        np.testing.assert_allclose(steps(optimizer, [gradient]), expected, rtol=1e-12)


@few
@given(gradient_lists, st.floats(-9, 9), st.lists(st.floats(-6, 6), min_size=SIZE, max_size=SIZE))
def test_invariance_to_scale_and_diagonal_rescaling(gradients, scale, diagonal):
    factors = 10.0**scale * 10.0 ** np.array(diagonal)
    for make in (lambda: Adam(0.1, epsilon=0.0), lambda: AdaMax(0.1)):
        moved, rescaled = steps(make(), gradients), steps(make(), gradients * factors)
        np.testing.assert_allclose(rescaled, moved, rtol=1e-9, atol=1e-12)


@few
@given(gradient_lists, alphas)
def test_adagrad_is_a_limit(gradients, alpha):
    # Section 5: beta_1 = 0, 1 - beta_2 infinitesimal, alpha_t = alpha / sqrt(t).
    optimizer = Adam(InverseSqrtDecay(alpha), 0.0, 1 - 1e-10, epsilon=0.0)
    adagrad = -alpha * gradients / np.sqrt(np.cumsum(gradients**2, axis=0))
    np.testing.assert_allclose(steps(optimizer, gradients), adagrad, rtol=1e-5, atol=1e-12)


@few
@given(gradient_lists, alphas)
def test_adagrad_needs_the_correction(gradients, alpha):
    # "This direct correspondence does not hold without bias-correction."
    optimizer = Adam(InverseSqrtDecay(alpha), 0.0, 1 - 1e-10, epsilon=0.0, bias_correction=False)
    moved = np.abs(steps(optimizer, gradients)[0])
    np.testing.assert_allclose(moved, alpha / np.sqrt(1e-10), rtol=1e-5)


@few
@given(gradient_lists, alphas, st.floats(0.5, 0.999))
def test_rmsprop_is_uncorrected_adam_without_momentum(gradients, alpha, rho):
    ours = Adam(alpha, 0.0, rho, bias_correction=False, epsilon=0.0)
    v, expected = np.zeros(SIZE), []
    for g in gradients:
        v = rho * v + (1 - rho) * g**2
        expected.append(-alpha * g / np.sqrt(v))
    np.testing.assert_allclose(steps(ours, gradients), expected, rtol=1e-9, atol=1e-12)


def test_momentum_is_on_the_gradient_and_not_on_the_rescaled_gradient():
    # Section 5 on RMSProp with momentum, which Keras has.
    gradients = np.array([[1.0, 1.0, 1.0], [10.0, 0.1, -3.0], [0.1, 10.0, 2.0]])
    adam = steps(Adam(0.1, 0.9, 0.99, bias_correction=False), gradients)
    rmsprop = steps(
        keras.optimizers.RMSprop(0.01, rho=0.99, momentum=0.9, epsilon=1e-20), gradients
    )
    np.testing.assert_allclose(adam[0], rmsprop[0], rtol=1e-5)
    assert (np.abs(adam[1:] / rmsprop[1:] - 1) > 0.01).any()


@few
@given(gradient_lists, st.floats(0.5, 0.999))
def test_adamax_is_the_limit_of_the_p_norm(gradients, beta_2):
    # Section 7.1, in logarithms: v_t = (1 - beta_2^p) sum beta_2^(p(t-i)) |g_i|^p, u = v^(1/p).
    p = 1e6
    t = len(gradients)
    ages = np.arange(t)[::-1, None]
    terms = p * (ages * np.log(beta_2) + np.log(np.abs(gradients)))
    log_v = np.logaddexp.reduce(terms, axis=0) + np.log1p(-np.exp(p * np.log(beta_2)))
    optimizer = AdaMax(0.1, 0.0, beta_2)
    last = steps(optimizer, gradients)[-1]
    expected = -0.1 * gradients[-1] / np.exp(log_v / p)
    np.testing.assert_allclose(last, expected, rtol=1e-5, atol=1e-12)


@pytest.mark.parametrize("t", [1, 2, 5, 30])
def test_corrected_moments_are_unbiased(t):
    # Section 3: E[v_hat_t] = E[g^2] and E[m_hat_t] = E[g] for stationary gradients, from t = 1 on.
    n = 200_000
    gradients = np.random.default_rng(t).normal(0.5, 2.0, (t, n))
    variable = keras.Variable(np.zeros(n), dtype="float64")
    optimizer = Adam(0.001, fused=False)
    for gradient in gradients:
        optimizer.apply([tf.constant(gradient)], [variable])
    found = optimizer.diagnostics(variable)
    for values, mean in ((found.m_hat, 0.5), (found.v_hat, 0.5**2 + 2.0**2)):
        error = np.std(values) / np.sqrt(n)
        assert abs(np.mean(values) - mean) < 5 * error
    # Uncorrected they are off by 1 - beta^t.
    np.testing.assert_allclose(np.mean(found.v) / np.mean(found.v_hat), 1 - 0.999**t, rtol=1e-9)


@pytest.mark.parametrize("make", [Adam, AdaMax])
def test_average_regret_falls_on_an_online_convex_problem(make):
    # Corollary 4.2, on f_t(x) = |x - z_t| with the schedules of Theorem 4.1.
    z = np.random.default_rng(0).uniform(-1, 1, 3000)
    settings = {"beta_1_decay": 1 - 1e-8} if make is Adam else {}
    variable = keras.Variable([2.0], dtype="float64")
    optimizer = make(InverseSqrtDecay(0.5), **settings)
    optimizer.build([variable])

    @tf.function
    def play(target):
        value = tf.abs(variable.value[0] - target)
        optimizer.apply([tf.sign(variable.value - target)], [variable])
        return value

    losses = np.array([play(tf.constant(target, tf.float64)).numpy() for target in z])
    regret = np.cumsum(losses - np.abs(z - np.median(z))) / np.arange(1, z.size + 1)
    assert regret[2999] < regret[299] / 3 < regret[29] / 9
