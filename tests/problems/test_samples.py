"""What a diffusion model draws, and the reading of it."""

import base64
import dataclasses
import itertools
import math
from importlib import metadata

import numpy as np
import pytest

from experiments.data import mnist
from experiments.problems import samples
from experiments.records.store import Store
from experiments.training.train import train
from tests.problems.test_architectures import tiny

SIDE = 16
STAND_IN = mnist.KINDS[1]


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
    return mnist.shrink(mnist.load(STAND_IN).x_test[:200])[..., 0]


def test_the_perfect_model_of_an_image_draws_it(digits):
    image = digits[7].astype(np.float32) / 127.5 - 1
    model = Knows(image[..., None])
    found = samples.draw(model, 3)
    assert found.dtype == np.uint8
    np.testing.assert_allclose(found.astype(int), np.broadcast_to(digits[7], (3, 16, 16)), atol=1)
    assert len(model.times) == samples.STEPS
    assert model.times == sorted(model.times, reverse=True)


class Normal:
    """The best guess of the noise where pixels are N(m, s^2)."""

    input_shape = Knows.input_shape
    m, s = -0.2, 0.1

    def predict_on_batch(self, inputs):
        noisy, time = inputs
        cos, sin = (f(time[:, :, None, None] * math.pi / 2) for f in (np.cos, np.sin))
        return sin * (noisy - cos * self.m) / (cos**2 * self.s**2 + sin**2)


def exactly(steps: int) -> tuple[float, float]:
    """Mean and deviation of what `Normal` draws: every step is linear and adds normal noise.

    A step multiplies two normal densities of the earlier image: that of the later one, given it,
    and that given the guess of the clean one.
    """
    m, s, mean, variance = Normal.m, Normal.s, 0.0, 1.0
    for time, after in itertools.pairwise(np.linspace(0.98, 0, steps + 1) * math.pi / 2):
        # The guess is `a + b x`.
        b = math.cos(time) * s**2 / (math.cos(time) ** 2 * s**2 + math.sin(time) ** 2)
        a = m - b * math.cos(time) * m
        if after == 0:
            return a + b * mean, b * math.sqrt(variance)
        kept = math.cos(time) / math.cos(after)
        forward, own = 1 / (1 - kept**2), 1 / math.sin(after) ** 2
        precision = kept**2 * forward + own
        slope = (kept * forward + own * math.cos(after) * b) / precision
        mean = slope * mean + own * math.cos(after) * a / precision
        variance = slope**2 * variance + 1 / precision
    raise AssertionError("it never ends")


def test_the_sampler_draws_what_its_equations_say():
    found = samples.draw(Normal(), 200) / 127.5 - 1
    mean, deviation = exactly(25)
    assert deviation == pytest.approx(0.0703, abs=1e-4)
    assert found.mean() == pytest.approx(mean, abs=0.002)
    assert found.std() == pytest.approx(deviation, rel=0.02)
    neighbours = np.corrcoef(found[:, :, 1:].ravel(), found[:, :, :-1].ravel())[0, 1]
    assert abs(neighbours) < 0.02


def test_with_many_steps_it_draws_the_distribution_itself(monkeypatch):
    """With few, images are drawn too much alike."""
    monkeypatch.setattr(samples, "STEPS", 1_000)
    found = samples.draw(Normal(), 100) / 127.5 - 1
    assert found.mean() == pytest.approx(Normal.m, abs=0.01)
    assert found.std() == pytest.approx(Normal.s, rel=0.1)


def test_a_model_that_is_lost_draws_something():
    """Guesses of an image are cut off at black and white, so that nothing grows."""
    largest = []

    class Lost(Knows):
        def predict_on_batch(self, inputs):
            largest.append(np.abs(inputs[0]).max())
            return np.full_like(inputs[0], np.nan)

    assert samples.draw(Lost(np.zeros(1)), 2).shape == (2, SIDE, SIDE)
    assert max(largest) < 6


def test_digits_are_read_and_what_is_made_of_them_is_not(digits):
    assert samples.share_read(digits, STAND_IN) > 0.75
    others = samples.no_digits(digits, seed=3)
    assert samples.share_read(others, STAND_IN) < 0.15
    noise = np.random.default_rng(0).integers(0, 256, (50, SIDE, SIDE), dtype=np.uint8)
    for never in (noise, np.zeros_like(noise), np.full_like(noise, 255)):
        assert samples.share_read(never, STAND_IN) < 0.1
    # A background that is not quite black is no obstacle.
    assert samples.share_read(np.maximum(digits, 40), STAND_IN) == samples.share_read(
        digits, STAND_IN
    )


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


def test_a_run_with_no_pass_left_has_its_picture_too(tmp_path):
    run = tiny("mnist_diffusion")
    run = dataclasses.replace(run, options={**run.options, "drawn": 3})
    first, again = (train(run, Store(tmp_path), keep=True) for _ in range(2))
    assert again["manifest"]["resumed"]
    assert first["manifest"]["drawn"] == again["manifest"]["drawn"]
    assert first["manifest"]["scikit_learn"] == metadata.version("scikit-learn")


def test_a_pass_that_diverged_leaves_no_picture(tmp_path):
    run = tiny("mnist_diffusion", "sgd_nesterov", learning_rate=1e12)
    run = dataclasses.replace(run, options={**run.options, "drawn": 3})
    record = train(run, Store(tmp_path))
    assert (record["status"], record["diverged_at"]) == ("diverged", 0)
    assert "drawn" not in record["manifest"]
