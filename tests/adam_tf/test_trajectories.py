"""Every iterate of Adam and AdaMax against the paper's algorithms in float64 NumPy."""

import keras
import numpy as np
import oracle
import pytest
import tensorflow as tf
from trajectories import (
    ADAM_CASES,
    ADAMAX_CASES,
    GRADIENTS,
    KERNEL_CASES,
    START,
    assert_steps_close,
    iterates,
)

from adam_tf import Adam, AdaMax, InverseSqrtDecay

ADAM_PATHS = pytest.mark.parametrize(
    ("settings", "fused"),
    [
        pytest.param(settings, fused, id=f"{name}, {'plain' if fused is False else 'automatic'}")
        for name, settings in ADAM_CASES.items()
        for fused in ((False, None) if name in KERNEL_CASES else (None,))
    ],
)


@ADAM_PATHS
def test_adam_is_algorithm_1_in_float64(settings, fused):
    optimizer = Adam(0.1, fused=fused, **settings)
    expected = oracle.adam(START, GRADIENTS, 0.1, **settings)
    assert_steps_close(iterates(optimizer), expected, 1e-13)


@pytest.mark.parametrize("fused", [False, None])
@pytest.mark.parametrize("settings", ADAMAX_CASES.values(), ids=ADAMAX_CASES)
def test_adamax_is_algorithm_2_in_float64(settings, fused):
    optimizer = AdaMax(0.1, fused=fused, **settings)
    expected = oracle.adamax(START, GRADIENTS, 0.1, **settings)
    assert_steps_close(iterates(optimizer), expected, 1e-13)


@ADAM_PATHS
def test_adam_in_float32_is_within_a_few_ulp(settings, fused):
    gradients = GRADIENTS.astype("float32")
    start = np.zeros(10)  # so that every bit of a step shows
    optimizer = Adam(0.1, fused=fused, **settings)
    actual = iterates(optimizer, gradients, start, "float32")
    expected = oracle.adam(start, gradients, 0.1, **settings)
    assert_steps_close(actual, expected, 8 * np.finfo("float32").eps, "float32", start)


@pytest.mark.parametrize("fused", [False, None])
@pytest.mark.parametrize("settings", ADAMAX_CASES.values(), ids=ADAMAX_CASES)
def test_adamax_in_float32_is_within_a_few_ulp(settings, fused):
    gradients = GRADIENTS.astype("float32")
    start = np.zeros(10)
    optimizer = AdaMax(0.1, fused=fused, **settings)
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
