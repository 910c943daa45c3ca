"""Every iterate of Adam and AdaMax against the paper's algorithms in float64 NumPy."""

import keras
import numpy as np
import oracle
import pytest
import tensorflow as tf

from adam_tf import Adam, AdaMax, InverseSqrtDecay

START = np.linspace(-1.0, 1.0, 10)
GRADIENTS = oracle.mixed_gradients()

ADAM_CASES = {
    "defaults": {},
    "betas": {"beta_1": 0.5, "beta_2": 0.9},
    "no momentum": {"beta_1": 0.0},
    "no memory": {"beta_2": 0.0},
    "long memory": {"beta_2": 1 - 1e-6},
    "large epsilon": {"epsilon": 1e-3},
    "hat": {"epsilon_form": "hat", "epsilon": 1e-7},
    "no correction": {"bias_correction": False},
    "no correction, hat": {"bias_correction": False, "epsilon_form": "hat"},
    "amsgrad": {"amsgrad": True, "beta_2": 0.9},
    "amsgrad, hat": {"amsgrad": True, "beta_2": 0.9, "epsilon_form": "hat"},
    "amsgrad, no correction": {"amsgrad": True, "beta_2": 0.9, "bias_correction": False},
    "decaying beta_1": {"beta_1_decay": 0.9},
    "decaying beta_1, hat": {"beta_1_decay": 0.99, "epsilon_form": "hat"},
}
ADAMAX_CASES = {
    "defaults": {},
    "betas": {"beta_1": 0.5, "beta_2": 0.9},
    "no momentum": {"beta_1": 0.0},
    "short memory": {"beta_2": 0.5},
}


def iterates(optimizer, gradients=GRADIENTS, start=START, dtype="float64"):
    """Every value of a variable that starts at `start` and receives `gradients`."""
    variable = keras.Variable(start, dtype=dtype)
    optimizer.build([variable])

    @tf.function
    def step(gradient):
        optimizer.apply([gradient], [variable])
        return tf.identity(variable.value)

    gradients = np.asarray(gradients, dtype)
    return np.stack([step(tf.constant(gradient)).numpy() for gradient in gradients])


def assert_steps_close(actual, expected, rtol, dtype="float64", start=START):
    """Movements from the start agree to `rtol` of their size, plus the rounding of the variable."""
    unit = np.finfo(dtype).eps
    moved, expected_moved = actual - start, expected - start
    # Each of t additions rounds by at most half a unit of the larger operand.
    t = np.arange(1, len(actual) + 1)[:, None]
    size = np.maximum(np.abs(start), np.abs(expected).max(0))
    path = np.abs(np.diff(expected, axis=0, prepend=start[None])).cumsum(0)
    error = np.abs(moved - expected_moved)
    limit = rtol * path + t * unit * size
    worst = np.unravel_index(np.argmax(error - limit), error.shape)
    assert (error <= limit).all(), (worst, error[worst], limit[worst])


@pytest.mark.parametrize("settings", ADAM_CASES.values(), ids=ADAM_CASES)
def test_adam_is_algorithm_1_in_float64(settings):
    optimizer = Adam(0.1, **settings)
    expected = oracle.adam(START, GRADIENTS, 0.1, **settings)
    assert_steps_close(iterates(optimizer), expected, 1e-13)


@pytest.mark.parametrize("settings", ADAMAX_CASES.values(), ids=ADAMAX_CASES)
def test_adamax_is_algorithm_2_in_float64(settings):
    optimizer = AdaMax(0.1, **settings)
    expected = oracle.adamax(START, GRADIENTS, 0.1, **settings)
    assert_steps_close(iterates(optimizer), expected, 1e-13)


@pytest.mark.parametrize("settings", ADAM_CASES.values(), ids=ADAM_CASES)
def test_adam_in_float32_is_within_a_few_ulp(settings):
    gradients = GRADIENTS.astype("float32")
    start = np.zeros(10)  # so that every bit of a step shows
    optimizer = Adam(0.1, **settings)
    actual = iterates(optimizer, gradients, start, "float32")
    expected = oracle.adam(start, gradients, 0.1, **settings)
    assert_steps_close(actual, expected, 8 * np.finfo("float32").eps, "float32", start)


@pytest.mark.parametrize("settings", ADAMAX_CASES.values(), ids=ADAMAX_CASES)
def test_adamax_in_float32_is_within_a_few_ulp(settings):
    gradients = GRADIENTS.astype("float32")
    start = np.zeros(10)
    optimizer = AdaMax(0.1, **settings)
    actual = iterates(optimizer, gradients, start, "float32")
    expected = oracle.adamax(start, gradients, 0.1, **settings)
    assert_steps_close(actual, expected, 8 * np.finfo("float32").eps, "float32", start)


@pytest.mark.parametrize("make", [Adam, AdaMax])
@pytest.mark.parametrize("steps_per_epoch", [None, 7])
def test_decaying_step_size(make, steps_per_epoch):
    optimizer = make(InverseSqrtDecay(0.1, steps_per_epoch))
    reference = oracle.adam if make is Adam else oracle.adamax

    def alpha(t):
        return 0.1 / np.sqrt(t if steps_per_epoch is None else 1 + (t - 1) // steps_per_epoch)

    expected = reference(START, GRADIENTS, alpha)
    assert_steps_close(iterates(optimizer), expected, 1e-13)


@pytest.mark.parametrize(("make", "default"), [(Adam, 0.001), (AdaMax, 0.002)])
def test_defaults_are_the_papers(make, default):
    reference = oracle.adam if make is Adam else oracle.adamax
    expected = reference(START, GRADIENTS, default)
    assert_steps_close(iterates(make()), expected, 1e-13)


@pytest.mark.parametrize("make", [Adam, AdaMax])
@pytest.mark.parametrize("t", [10**4, 2**24 + 1, 10**7])
def test_late_steps(make, t):
    # The state after t - 1 steps with gradient 1 is known in closed form.
    variable = keras.Variable([0.0], dtype="float64")
    optimizer = make(0.1)
    optimizer.build([variable])
    optimizer.iterations.assign(t - 1)
    _, _, m, second = optimizer.variables
    m.assign([-np.expm1((t - 1) * np.log(0.9))])
    second.assign([-np.expm1((t - 1) * np.log(0.999)) if make is Adam else 1.0])
    optimizer.apply([tf.constant([1.0], tf.float64)], [variable])
    epsilon = 1e-8 if make is Adam else 0.0
    np.testing.assert_allclose(variable.numpy(), [-0.1 / (1 + epsilon)], rtol=1e-12)


def test_a_coordinate_without_gradient_never_moves():
    gradients = np.zeros((50, 10))
    for optimizer in (Adam(0.1), Adam(0.1, amsgrad=True), AdaMax(0.1)):
        np.testing.assert_array_equal(iterates(optimizer, gradients)[-1], START)
