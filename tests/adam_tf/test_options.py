"""Moments in bfloat16 and cautious steps: on any backend."""

import keras
import numpy as np
import pytest
from keras import ops

from adam_tf import Adam, AdaMax

# Keras reads its variables through an __array__ without `copy`.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
BOTH = pytest.mark.parametrize("make", [Adam, AdaMax])


def numbers(variable):
    return ops.convert_to_numpy(ops.cast(variable.value, "float32"))


def walk(optimizer, gradients):
    """Where a variable goes from 0 under the gradients, step by step."""
    theta = keras.Variable(np.zeros(gradients.shape[1:]), dtype="float32")
    places = []
    for gradient in gradients:
        optimizer.apply([ops.convert_to_tensor(gradient, "float32")], [theta])
        places.append(numbers(theta).copy())
    return np.array(places, "float64")


GRADIENTS = np.random.default_rng(0).normal(1.0, 1.0, (120, 2000)).astype("float32")


@BOTH
def test_bfloat16_moments_are_right_on_average(make):
    exact = walk(make(0.01), GRADIENTS)
    rounded = walk(make(0.01, moments="bfloat16"), GRADIENTS)
    moved = np.abs(exact[-1]).mean()
    # Each step is off by up to 2^-8 of each moment, at random.
    error = rounded[-1] - exact[-1]
    assert 1e-6 < np.abs(error).mean() < 0.01 * moved
    # No bias: over 2000 coordinates the mean error is that of a sample.
    assert abs(error.mean()) < 4 * error.std() / np.sqrt(error.size)


def test_a_second_moment_that_grows_slowly_does_grow():
    # To the nearest, 0.1% of what is missing is soon rounded away for good.
    optimizer = Adam(0.01, moments="bfloat16")
    theta = keras.Variable(np.zeros(500), dtype="float32")
    for _ in range(200):
        optimizer.apply([ops.ones(500)], [theta])
    (v,) = (numbers(x) for x in optimizer.variables if x.path.endswith("velocity"))
    assert v.mean() == pytest.approx(1 - 0.999**200, rel=0.01)


@BOTH
def test_bfloat16_moments_are_kept_as_such_and_the_same_again(make):
    optimizers = [make(0.01, moments="bfloat16") for _ in range(2)]
    first, again = (walk(optimizer, GRADIENTS[:5]) for optimizer in optimizers)
    np.testing.assert_array_equal(first, again)
    dtypes = [keras.backend.standardize_dtype(v.dtype) for v in optimizers[0].variables[2:]]
    assert dtypes == ["bfloat16", "bfloat16"]
    # Neither two steps nor two moments share their noise.
    assert len({tuple(step) for step in np.diff(first, axis=0).round(9)}) == 4


def test_rounding_keeps_what_bfloat16_has_and_meets_both_neighbours():
    from adam_tf.arithmetic import Seed
    from adam_tf.backend import backend

    def rounded(x, step=1):
        optimizer = Adam()
        made = optimizer._rounded(ops.convert_to_tensor(x), Seed(ops.full((), step, "int32"), 0))
        return ops.convert_to_numpy(ops.cast(made, "float32"))

    kept = np.array([0, 1, -1.5, 2.0**-126, -(2.0**100), np.inf, -np.inf, np.nan], "float32")
    np.testing.assert_array_equal(rounded(kept), kept)
    low, high = 1.0, 1.0 + 2**-7
    for sign in (1, -1):
        x = np.full(20000, sign * (low + 0.3 * (high - low)), "float32")
        found = rounded(x, step=3)
        assert set(np.abs(found)) == {np.float32(low), np.float32(high)}
        assert np.mean(np.abs(found) == np.float32(high)) == pytest.approx(0.3, abs=0.015)
    ones = backend.to_bfloat16(ops.ones(3), ops.zeros(3, "int32"))
    assert ops.convert_to_numpy(ops.cast(ones, "float32")).tolist() == [1.0, 1.0, 1.0]


@BOTH
def test_cautious_steps_are_those_of_the_paper(make):
    cautious, plain = make(0.1, cautious=True), make(0.1)
    theta, twin = (keras.Variable(np.zeros(6), dtype="float32") for _ in range(2))
    gradients = np.array([[1, -2, 3, 1, 1, 0], [-0.1, -2, -0.1, 1, -0.1, 0]], "float32")
    for gradient in gradients:
        before, twin_before = numbers(theta), numbers(twin)
        for optimizer, variable in ((cautious, theta), (plain, twin)):
            optimizer.apply([ops.convert_to_tensor(gradient)], [variable])
        u = twin_before - numbers(twin)
        phi = u * gradient > 0
        wanted = u * phi * u.size / (phi.sum() + 1)
        np.testing.assert_allclose(before - numbers(theta), wanted, rtol=1e-5, atol=1e-8)
    assert phi.sum() == 2  # of the second step


@BOTH
@pytest.mark.parametrize(("size", "share"), [(1, 1 / 2), (3, 3 / 4)])
def test_cautious_steps_of_numbers_that_all_agree(make, size, share):
    theta = keras.Variable(np.zeros(size), dtype="float32")
    make(0.1, cautious=True).apply([ops.ones(size)], [theta])
    np.testing.assert_allclose(numbers(theta), -0.1 * share, rtol=1e-5)


def test_cautious_where_products_underflow():
    theta = keras.Variable(np.zeros(2), dtype="float32")
    optimizer = Adam(1e-20, cautious=True)
    optimizer.apply([ops.convert_to_tensor(np.array([1e-16, -1e-16], "float32"))], [theta])
    assert (numbers(theta) != 0).all()


@BOTH
def test_options_that_exclude_each_other(make):
    with pytest.raises(ValueError, match="moments must be None or 'bfloat16', got 'float16'"):
        make(moments="float16")
    with pytest.raises(ValueError, match="cautious must be True or False, got 1"):
        make(cautious=1)
    with pytest.raises(ValueError, match="amsgrad=True must go without moments='bfloat16'"):
        Adam(amsgrad=True, moments="bfloat16")
    optimizer, theta = make(cautious=True), keras.Variable([1.0], dtype="float32")
    optimizer.apply([ops.ones(1)], [theta])
    with pytest.raises(ValueError, match="with cautious=True it depends on the gradient too"):
        optimizer.diagnostics(theta)
    if keras.backend.backend() != "jax":
        with pytest.raises(ValueError, match="divide_state=True needs the jax backend"):
            make(divide_state=True)
    else:
        with pytest.raises(ValueError, match=r"needs keras\.distribution\.set_distribution"):
            make(divide_state=True).build([theta])
    if keras.backend.backend() == "tensorflow":
        for options, said in (
            ({"cautious": True}, r"cautious=True: .*; use fused=None"),
            ({"moments": "bfloat16"}, r"moments='bfloat16': .*; use fused=None"),
        ):
            with pytest.raises(ValueError, match=f"^fused=True must go without {said}"):
                make(fused=True, **options)


def test_options_are_kept():
    for options in ({"cautious": True}, {"moments": "bfloat16"}):
        config = Adam(**options).get_config()
        assert Adam.from_config(config).get_config() == config
        assert options.items() <= config.items()
