"""What `diagnostics` reports is what the step did."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from trajectories import ADAM_CASES, ADAMAX_CASES, GRADIENTS, START

from adam_tf import Adam, AdaMax, InverseSqrtDecay

SETTINGS = {f"adam {name}": (Adam, case) for name, case in ADAM_CASES.items()}
SETTINGS |= {f"adamax {name}": (AdaMax, case) for name, case in ADAMAX_CASES.items()}


@pytest.mark.parametrize(("make", "settings"), SETTINGS.values(), ids=SETTINGS)
def test_step_is_the_movement(make, settings):
    optimizer = make(InverseSqrtDecay(0.1), **settings)
    variable = keras.Variable(START, dtype="float64")
    for gradient in GRADIENTS[:9]:
        before = variable.numpy()
        optimizer.apply([tf.constant(gradient)], [variable])
        found = optimizer.diagnostics(variable)
        rounding = 1e-15 * max(1.0, np.abs(before).max())
        moved = before - variable.numpy()
        np.testing.assert_allclose(moved, found.step, rtol=1e-9, atol=rounding)


@pytest.mark.parametrize("fused", [False, None])
def test_moments_in_float32(fused):
    optimizer = Adam(0.1, fused=fused)
    variable = keras.Variable([1.0, 1.0, 1.0])
    for gradient in ([3.0, 0.0, 4.0], [3.0, 0.0, -4.0]):
        optimizer.apply([tf.constant(gradient)], [variable])
    found = optimizer.diagnostics(variable)
    np.testing.assert_allclose(found.m, [0.57, 0.0, -0.04], rtol=1e-5)
    np.testing.assert_allclose(found.v_hat, [9.0, 0.0, 16.0], rtol=1e-6)
    np.testing.assert_allclose(found.m_hat, [3.0, 0.0, -0.04 / 0.19], rtol=1e-5)
    np.testing.assert_allclose(found.snr, [1.0, 0.0, -0.01 / 0.19], rtol=1e-5)
    assert found.step.dtype == np.float64


def test_with_accumulated_gradients():
    optimizer = Adam(InverseSqrtDecay(0.1), gradient_accumulation_steps=2)
    variable = keras.Variable([1.0])
    for _ in range(4):
        before = variable.numpy()
        optimizer.apply([tf.constant([1.0])], [variable])
    step = optimizer.diagnostics(variable).step
    np.testing.assert_allclose(before - variable.numpy(), step, rtol=1e-5)


@pytest.mark.parametrize("make", [Adam, AdaMax])
def test_refused(make):
    variable = keras.Variable([1.0], name="theta")
    optimizer = make()
    with pytest.raises(ValueError, match="built with, got 'theta'"):
        optimizer.diagnostics(variable)
    optimizer.build([variable])
    with pytest.raises(ValueError, match="there has been none yet"):
        optimizer.diagnostics(variable)
    with pytest.raises(ValueError, match="built with, got 'other'"):
        optimizer.diagnostics(keras.Variable([1.0], name="other"))


@pytest.mark.parametrize("epsilon", [0.0, 1e-30])
def test_where_nothing_moves_there_is_no_step(epsilon):
    # The square of 1e-24 is 0 in float32.
    optimizer, variable = Adam(0.1, epsilon=epsilon), keras.Variable([1.0, 1.0])
    optimizer.apply([tf.constant([1e-24, 1.0])], [variable])
    found = optimizer.diagnostics(variable)
    np.testing.assert_allclose(1 - variable.numpy(), [0.0, 0.1], rtol=1e-5)
    np.testing.assert_allclose(found.step, [0.0, 0.1], rtol=1e-6)
    np.testing.assert_allclose(found.snr, [0.0, 1.0], rtol=1e-6)


def test_of_lazy_rows_it_is_what_they_would_have_lost():
    optimizer, variable = Adam(0.1, sparse="lazy"), keras.Variable(np.ones((2, 1)))
    rows = [tf.IndexedSlices(tf.ones((1, 1)), tf.constant([i])) for i in (0, 1)]
    for gradient in rows:
        optimizer.apply([gradient], [variable])
    step = optimizer.diagnostics(variable).step
    # Row 0 was named in the first step only; its m is 0.1 and its v 0.001.
    expected = 0.1 * (0.1 / (1 - 0.9**2)) / np.sqrt(0.001 / (1 - 0.999**2))
    np.testing.assert_allclose(step, expected, rtol=1e-5)
