"""The step sizes of Theorem 4.1 and Section 6.1."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from adam_tf import Adam, InverseSqrtDecay

STEPS = [0, 1, 2, 99, 2**24, 2**24 + 1, 2**24 + 2, 10**9 - 1, 10**9]


@pytest.mark.parametrize("steps_per_epoch", [None, 1, 3, 390, 2**24 + 1])
@pytest.mark.parametrize("as_tensor", [int, tf.constant, np.int64, tf.Variable])
def test_exact_at_every_step(steps_per_epoch, as_tensor):
    schedule = InverseSqrtDecay(0.3, steps_per_epoch)
    for step in STEPS:
        t = 1 + step // (steps_per_epoch or 1)
        assert float(schedule(as_tensor(step))) == 0.3 / np.sqrt(t)


@pytest.mark.parametrize("steps_per_epoch", [None, 5])
def test_same_in_a_graph_and_under_xla(steps_per_epoch):
    schedule = InverseSqrtDecay(0.3, steps_per_epoch)
    for step in STEPS:
        for jit in (False, True):
            compiled = tf.function(schedule, jit_compile=jit)
            np.testing.assert_allclose(
                compiled(tf.constant(step, tf.int64)), schedule(step), rtol=4e-16
            )


def test_first_epoch_has_the_initial_rate():
    schedule = InverseSqrtDecay(0.1, steps_per_epoch=4)
    rates = [float(schedule(step)) for step in range(9)]
    assert rates == [0.1] * 4 + [0.1 / np.sqrt(2)] * 4 + [0.1 / np.sqrt(3)]


def test_serialization():
    schedule = InverseSqrtDecay(0.1, steps_per_epoch=4)
    optimizer = keras.optimizers.SGD(schedule)
    copy = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert copy._learning_rate.get_config() == schedule.get_config()
    assert InverseSqrtDecay.from_config(schedule.get_config())(8) == schedule(8)


def test_drives_a_keras_optimizer():
    optimizer = keras.optimizers.SGD(InverseSqrtDecay(0.1))
    variable = keras.Variable([1.0])
    for _ in range(2):
        optimizer.apply([tf.constant([1.0])], [variable])
    np.testing.assert_allclose(variable.numpy(), [1 - 0.1 - 0.1 / np.sqrt(2)], rtol=1e-6)


@pytest.mark.parametrize("rate", [InverseSqrtDecay(0.1), InverseSqrtDecay(0.1, 2)])
def test_a_counter_of_32_bits_that_has_run_over_is_at_its_end(rate):
    """As on JAX, whose counters have 32 bits."""
    optimizer, variable = Adam(rate), keras.Variable([1.0])
    optimizer.build([variable])
    optimizer._iterations = keras.Variable(2**31 - 1, dtype="int32")
    final = 0.1 / np.sqrt(2**31 if rate.steps_per_epoch is None else 2**30)
    for _ in range(3):
        np.testing.assert_allclose(float(optimizer.learning_rate), final, rtol=1e-6)
        optimizer.apply([tf.constant([1.0])], [variable])
    assert int(optimizer.iterations) < 0
    assert np.isfinite(variable.numpy()).all()
    assert np.isfinite(optimizer.diagnostics(variable).step).all()
