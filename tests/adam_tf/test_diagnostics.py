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
    with pytest.raises(ValueError, match="there was none yet"):
        optimizer.diagnostics(variable)
    with pytest.raises(ValueError, match="built with, got 'other'"):
        optimizer.diagnostics(keras.Variable([1.0], name="other"))
