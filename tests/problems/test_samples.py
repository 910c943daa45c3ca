"""What a diffusion model draws, and the reading of it."""

import base64
import dataclasses
import math

import numpy as np
import pytest

from experiments.data import mnist
from experiments.problems import samples
from experiments.records.store import Store
from experiments.training.train import train
from tests.problems.test_architectures import tiny

SIDE = 16
REAL = mnist.KINDS[1]


class Knows:
    """The perfect model of a single image: it finds all noise that was mixed in."""

    input_shape = ((None, SIDE, SIDE, 1), (None, 1))

    def __init__(self, image: np.ndarray) -> None:
        self.image, self.times = image, []

    def predict_on_batch(self, inputs):
        noisy, time = inputs
        assert noisy.dtype == time.dtype == np.float32
        self.times.append(time[0, 0])
        angle = time[:, :, None, None] * math.pi / 2
        return (noisy - np.cos(angle) * self.image) / np.sin(angle)


@pytest.fixture(scope="module")
def digits():
    return mnist.shrink(mnist.load(REAL).x_test[:200])[..., 0]


def test_the_perfect_model_of_an_image_draws_it(digits):
    image = digits[7].astype(np.float32) / 127.5 - 1
    model = Knows(image[..., None])
    found = samples.draw(model, 3)
    assert found.dtype == np.uint8
    np.testing.assert_allclose(found.astype(int), np.broadcast_to(digits[7], (3, 16, 16)), atol=1)
    assert len(model.times) == samples.STEPS
    assert model.times == sorted(model.times, reverse=True)


def test_the_sampler_of_a_normal_distribution_draws_it(monkeypatch):
    """For pixels that are N(m, s^2) the best guess of the noise is known, and so is the result.

    The spread is right in the limit of many steps; with few, images are drawn too much alike.
    """
    m, s = -0.2, 0.1
    monkeypatch.setattr(samples, "STEPS", 1_000)

    class Normal:
        input_shape = ((None, SIDE, SIDE, 1), (None, 1))

        def predict_on_batch(self, inputs):
            noisy, time = inputs
            cos, sin = (f(time[:, :, None, None] * math.pi / 2) for f in (np.cos, np.sin))
            return sin * (noisy - cos * m) / (cos**2 * s**2 + sin**2)

    found = samples.draw(Normal(), 100) / 127.5 - 1
    assert found.mean() == pytest.approx(m, abs=0.01)
    assert found.std() == pytest.approx(s, rel=0.1)
    neighbours = np.corrcoef(found[:, :, 1:].ravel(), found[:, :, :-1].ravel())[0, 1]
    assert abs(neighbours) < 0.02


def test_a_model_that_is_lost_draws_something():
    class Lost(Knows):
        def predict_on_batch(self, inputs):
            return np.full_like(inputs[0], np.nan)

    assert samples.draw(Lost(np.zeros(1)), 2).shape == (2, SIDE, SIDE)


def test_digits_are_read_and_what_is_made_of_them_is_not(digits):
    assert samples.share_read(digits, REAL) > 0.7
    others = samples.no_digits(digits, seed=3)
    assert samples.share_read(others, REAL) < 0.35
    noise = np.random.default_rng(0).integers(0, 256, (50, SIDE, SIDE), dtype=np.uint8)
    for never in (noise, np.zeros_like(noise), np.full_like(noise, 255)):
        assert samples.share_read(never, REAL) < 0.1
    # A background that is not quite black is no obstacle.
    assert samples.share_read(np.maximum(digits, 40), REAL) == samples.share_read(digits, REAL)


def test_what_is_made_of_digits(digits):
    found = samples.no_digits(digits, seed=0)
    assert (found.dtype, found.shape) == (np.uint8, digits.shape)
    again, other = samples.no_digits(digits, seed=0), samples.no_digits(digits, seed=1)
    np.testing.assert_array_equal(found, again)
    assert (found != other).any()
    left, upper = found[:25], found[25:50]
    np.testing.assert_array_equal(left[:, :, :8], digits[:25, :, :8])
    np.testing.assert_array_equal(upper[:, :8], digits[25:50, :8])
    assert (left[:, :, 8:] != digits[:25, :, 8:]).any()
    assert (upper[:, 8:] != digits[25:50, 8:]).any()
    # Quarters change places, and none is lost.
    moved, before = (
        images.reshape(-1, 2, 8, 2, 8).sum(axis=(2, 4)).reshape(-1, 4)
        for images in (found[150:].astype(int), digits[150:].astype(int))
    )
    np.testing.assert_array_equal(np.sort(moved), np.sort(before))
    assert (moved != before).any()


def test_a_picture_holds_the_first_images(digits):
    text = samples.picture(digits)
    assert base64.b64decode(text).startswith(b"\x89PNG")
    np.testing.assert_array_equal(samples.pixels(text), digits[: samples.SHOWN])


def test_a_run_records_how_much_can_be_read_and_keeps_a_picture(tmp_path):
    run = tiny("mnist_diffusion")
    more = dataclasses.replace(run, options={**run.options, "drawn": 12})
    plain, drawn = (train(each, Store(tmp_path)) for each in (run, more))
    assert "drawn" not in plain["manifest"]
    assert samples.pixels(drawn["manifest"]["drawn"]).shape == (samples.SHOWN, SIDE, SIDE)
    for name in ("read_as_digits", "real_read_as_digits"):
        assert name not in plain["metrics"]
        shares = drawn["metrics"][name]
        assert len(shares) == len(drawn["metrics"]["training_cost"])
        assert all(0 <= share <= 1 for share in shares)
    assert min(drawn["metrics"]["real_read_as_digits"]) > 0.5
    assert max(drawn["metrics"]["read_as_digits"]) < 0.5, "it has not learnt anything yet"
    for name in ("training_cost", "held_out_cost"):  # drawing does not change how it trains
        assert plain["metrics"][name] == drawn["metrics"][name]
