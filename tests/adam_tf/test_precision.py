"""Narrow variables train, and extreme gradients do what the documentation says."""

import math

import keras
import numpy as np
import oracle
import pytest
import tensorflow as tf

from adam_tf import Adam, AdaMax

DTYPES = ["float64", "float32", "bfloat16", "float16"]
BOTH = pytest.mark.parametrize(
    ("make", "reference"), [(Adam, oracle.adam), (AdaMax, oracle.adamax)], ids=["adam", "adamax"]
)
COMPILED = pytest.mark.parametrize("jit", [False, True], ids=["graph", "xla"])


def last(optimizer, gradients, dtype, start=1.0, jit=False):
    variable = keras.Variable(np.full(np.shape(gradients[0]), start), dtype=dtype)
    optimizer.build([variable])

    def step(gradient):
        optimizer.apply([gradient], [variable])

    compiled = tf.function(step, jit_compile=jit)
    for gradient in gradients:
        compiled(tf.cast(tf.constant(gradient, tf.float64), dtype))
    return tf.cast(variable.value, tf.float64).numpy()


@BOTH
@COMPILED
@pytest.mark.parametrize("dtype", DTYPES)
def test_small_steps_are_not_rounded_away(make, reference, dtype, jit):
    # 200 steps of 0.001 near 1, where bfloat16 numbers are 0.004 apart.
    gradients = np.full((200, 3), [1.0, -0.01, 100.0])
    expected = reference(np.ones(3), gradients, 0.001)[-1]
    spacing = {
        "bfloat16": 2.0**-8,
        "float16": 2.0**-11,
        "float32": 200 * 2.0**-24,
        "float64": 1e-12,
    }
    found = last(make(0.001), gradients, dtype, jit=jit)
    np.testing.assert_allclose(found, expected, rtol=0, atol=spacing[dtype])


@BOTH
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [1e-4, 1e3])
def test_first_step_is_alpha_in_every_dtype(make, reference, dtype, scale):
    found = last(make(0.25), [np.array([scale, -scale])], dtype)
    np.testing.assert_allclose(found, [0.75, 1.25], rtol=1e-3)


@BOTH
@COMPILED
@pytest.mark.parametrize("dtype", DTYPES)
def test_zero_gradients_do_not_move(make, reference, dtype, jit):
    np.testing.assert_array_equal(last(make(0.1), np.zeros((3, 2)), dtype, jit=jit), [1.0, 1.0])
    # Without epsilon too.
    if make is Adam:
        found = last(Adam(0.1, epsilon=0.0), np.zeros((3, 2)), dtype, jit=jit)
        np.testing.assert_array_equal(found, [1.0, 1.0])


@COMPILED
@pytest.mark.parametrize("fused", [False, None])
def test_tiny_gradients(jit, fused):
    # Far below epsilon Algorithm 1 moves by alpha 1e-30 / (1e-30 + 1e-8), AdaMax by alpha.
    tiny = np.full((2, 2), 1e-30)
    found = last(Adam(0.1, fused=fused), tiny, "float32", 0.0, jit)
    np.testing.assert_allclose(found, -2e-23, rtol=1e-3)
    found = last(AdaMax(0.1, fused=fused), tiny, "float32", 0.0, jit)
    np.testing.assert_allclose(found, -0.2, rtol=1e-6)


@COMPILED
@pytest.mark.parametrize("gradient", [1e-17, 3e-18, 1e-19, 1e-21, 1e-24])
@pytest.mark.parametrize("epsilon", [0.0, 1e-30])
def test_gradients_whose_squares_vanish_never_make_a_step_beyond_alpha(jit, gradient, epsilon):
    """Without an epsilon to speak of, a first moment over a second of 0 would be infinite."""
    found = last(Adam(0.1, epsilon=epsilon), np.full((1, 2), gradient), "float32", 0.0, jit)
    assert (np.abs(found) <= 0.11).all()
    if gradient >= 1e-17:
        np.testing.assert_allclose(found, -0.1, rtol=0.01)
    if gradient <= 1e-21:
        np.testing.assert_array_equal(found, 0.0)


@COMPILED
@pytest.mark.parametrize("fused", [False, None])
def test_huge_gradients(jit, fused):
    huge = np.full((2, 2), 1e30)
    # The square of 1e30 is infinite in float32: Adam says so by NaN instead of standing still.
    assert np.isnan(last(Adam(0.1, fused=fused), huge, "float32", 0.0, jit)).all()
    # float64 holds it, and AdaMax has no square.
    found = last(Adam(0.1, fused=fused), huge, "float64", 0.0, jit)
    np.testing.assert_allclose(found, -0.2, rtol=1e-7)
    found = last(AdaMax(0.1, fused=fused), huge, "float32", 0.0, jit)
    np.testing.assert_allclose(found, -0.2, rtol=1e-6)


@BOTH
@COMPILED
@pytest.mark.parametrize("fused", [False, None])
@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_gradients_that_are_not_finite_show(make, reference, value, jit, fused):
    gradients = np.ones((4, 3))
    gradients[1, 1] = value
    found = last(make(0.1, fused=fused), gradients, "float32", jit=jit)
    assert np.isnan(found[1])


@pytest.mark.parametrize(("make", "dtype"), [(Adam, "bfloat16"), (AdaMax, "float16")])
def test_narrow_model_trains_under_fit(make, dtype):
    keras.utils.set_random_seed(0)
    x = np.random.default_rng(0).standard_normal((64, 4))
    layers = [keras.layers.Dense(8, "tanh", dtype=dtype), keras.layers.Dense(1, dtype=dtype)]
    model = keras.Sequential([keras.Input((4,)), *layers])
    model.compile(make(0.004), "mse", jit_compile=False)
    losses = model.fit(x, x[:, :1], batch_size=16, epochs=30, verbose=0).history["loss"]
    assert losses[-1] < losses[0] / 4


@BOTH
@COMPILED
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("by", ["assign", "constraint"])
def test_what_rounding_took_is_not_given_to_a_weight_that_was_set(make, reference, dtype, jit, by):
    variable = keras.Variable(np.ones(3), dtype=dtype)
    optimizer = make(3e-4)
    optimizer.build([variable])
    gradient = tf.cast([1.0, -1.0, 1.0], dtype)
    if by == "constraint":
        variable.constraint = lambda v: v * 0 + 2.0**-10
    # Each function is traced anew, and the second one sees no constraint.
    tf.function(lambda: optimizer.apply([gradient], [variable]), jit_compile=jit)()
    if by == "assign":
        variable.assign([2.0**-10] * 3)
    variable.constraint = None
    optimizer.learning_rate = 0.0
    tf.function(lambda: optimizer.apply([gradient], [variable]), jit_compile=jit)()
    np.testing.assert_array_equal(tf.cast(variable.value, tf.float64).numpy(), 2.0**-10)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_what_rounding_took_is_not_given_to_an_average_that_was_set(dtype):
    variable = keras.Variable(np.ones(3), dtype=dtype)
    optimizer = Adam(0.1, use_ema=True, ema_momentum=0.999)
    for _ in range(2):  # the average is 1e-4 away from a number of this dtype
        optimizer.apply([tf.cast(tf.ones(3), dtype)], [variable])
    optimizer.ema_momentum = 1.0
    optimizer.averages[0].assign([2.0**-12] * 3)
    optimizer.apply([tf.cast(tf.ones(3), dtype)], [variable])
    found = tf.cast(optimizer.averages[0].value, tf.float64).numpy()
    np.testing.assert_array_equal(found, 2.0**-12)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_what_rounding_took_always_counts_for_its_own_weight(dtype):
    """Half a unit in the last place is the most that rounding takes, next to powers of 2 too."""
    from adam_tf.arithmetic import with_remainder

    rng = np.random.default_rng(0)
    exponents = rng.uniform(-14, 14, 100_000)
    numbers = np.float32(rng.choice([-1, 1], 100_000) * 2.0**exponents)
    powers = np.float32(2.0) ** np.arange(-14, 15, dtype="float32")
    near = np.float32([f * p for p in powers for f in (1 - 2.0**-12, 1 + 2.0**-9, 1 + 2.0**-12, 1)])
    tiny = np.float32(2.0**-25 * np.linspace(0, 8, 97))
    wide = np.concatenate([numbers, near, tiny])
    rounded = tf.cast(wide, dtype)
    kept = wide - tf.cast(rounded, tf.float32)
    np.testing.assert_array_equal(with_remainder(rounded, kept).numpy(), wide)


def test_amsgrad_takes_gradients_whose_sum_of_squares_is_infinite():
    gradients = np.full((2, 16384), 5e17)  # 16384 times 2.5e35 is more than float32 holds
    for start in (0.0, 1.0):
        optimizer = Adam(0.1, amsgrad=True, fused=True)
        found = last(optimizer, gradients, "float32", start)
        np.testing.assert_allclose(found, start - 0.2, rtol=1e-5)


@pytest.mark.parametrize("beside", [0, 9], ids=["alone", "joined"])
def test_amsgrad_makes_only_a_coordinate_nan(beside):
    variables = [keras.Variable(np.zeros(3), dtype="float32") for _ in range(1 + beside)]
    optimizer = Adam(0.1, amsgrad=True, fused=True)
    optimizer.build(variables)
    assert bool(optimizer._slots[0].joined) == bool(beside)
    for step in range(1, 4):
        gradients = [tf.ones(3) for _ in variables]
        if step == 1:
            gradients[0] = tf.constant([1.0, 1e25, -1.0])
        optimizer.apply(gradients, variables)
        assert np.isnan(variables[0].numpy()).tolist() == [False, True, False]
        np.testing.assert_allclose(variables[0].numpy()[0], -0.1 * step, rtol=1e-5)
        for variable in variables[1:]:
            np.testing.assert_allclose(variable.numpy(), -0.1 * step, rtol=1e-5)
