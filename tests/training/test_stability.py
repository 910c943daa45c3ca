"""What is measured of steps and noise: against NumPy, and without a trace in training."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from scipy import stats

from experiments.records.store import Store
from experiments.study import Run
from experiments.training import runtime, stability, train

RUN = Run(
    problem="mnist_logistic_regression",
    options={"train_examples": 1_000, "held_out_examples": 200},
    data="mnist-stand-in",
    optimizer="sgd_nesterov",
    settings={"learning_rate": 0.05, "momentum": 0.0},
    batch_size=20,
    epochs=2,
    seed=3,
)
NAMES = {
    *("step_signal", "signal_agreement", "step_low_over_high"),
    *("calm_cost", "noisy_cost", "noise_rise"),
}


@pytest.fixture(scope="module", autouse=True)
def _tensorflow():
    runtime.configure()


def measured(run: Run) -> Run:
    return dataclasses.replace(run, options={**run.options, "stability": 1.0})


def multilayer(optimizer: str, settings: dict[str, float]) -> Run:
    options = {"hidden": 8, "hidden_dropout": 0.5, "train_examples": 400, "held_out_examples": 50}
    run = dataclasses.replace(RUN, problem="mnist_multilayer", options=options)
    return dataclasses.replace(run, optimizer=optimizer, settings=settings)


@pytest.mark.parametrize(
    "run",
    [RUN, multilayer("adam", {"learning_rate": 0.01})],
    ids=["logistic regression", "multilayer with dropout"],
)
def test_training_is_the_same_bit_by_bit(tmp_path, run):
    plain, watched = (train.train(each, Store(tmp_path)) for each in (run, measured(run)))
    assert set(watched["metrics"]) - set(plain["metrics"]) == NAMES
    for name, values in plain["metrics"].items():
        if name != "seconds":
            assert watched["metrics"][name] == values


class Line:
    """Least squares with six weights, trained by steps of rate times a power of the gradient."""

    def __init__(self, rate: float, power: float) -> None:
        rng = np.random.default_rng(0)
        self.x, self.y = rng.standard_normal((400, 6)) * 10.0 ** -np.arange(6), np.ones(400)
        self.weights, self.rate, self.power = np.zeros(6), rate, power

    def differentiate(self, batch: np.ndarray) -> tuple[float, float, list[np.ndarray]]:
        x, y = self.x[batch], self.y[batch]
        off = x @ self.weights - y
        return 0.0, 0.0, [2 * x.T @ off / len(x)]

    def train_epoch(self, order: np.ndarray) -> tuple[float, float]:
        for batch in order:
            (g,) = self.differentiate(batch)[2]
            self.weights -= self.rate * np.sign(g) * np.abs(g) ** self.power
        return 0.0, 0.0

    def evaluate(self) -> tuple[float, None]:
        return float(np.square(self.x @ self.weights - self.y).mean()), None


@pytest.mark.parametrize("power", [1.0, 0.0])
def test_the_numbers_are_those_of_numpy(power):
    line = Line(0.1, power)
    order = np.arange(400).reshape(50, 8)

    def restore() -> None:
        line.weights = np.zeros(6)

    class Live:
        """A variable whose value is that of the moment."""

        def __array__(self, dtype=None, copy=None):
            return line.weights.copy()

    found = stability.measure(line, [Live()], restore, order)
    assert set(found) == NAMES
    assert (line.weights == 0).all()
    each = np.array([line.differentiate(batch)[2][0] for batch in order])
    first, last = each[: min(64, 50 - 8)], each[-8:]
    ratio = np.abs(first.mean(axis=0)) / first.std(axis=0, ddof=1)
    halves = [np.abs(h.mean(axis=0)) / h.std(axis=0, ddof=1) for h in (first[::2], first[1::2])]
    agreement = stats.spearmanr(*halves).statistic
    assert found["signal_agreement"] == pytest.approx(agreement, abs=1e-12)
    steps = 0.1 * (np.abs(last) ** power).mean(axis=0)
    expected = stats.spearmanr(steps, ratio).statistic if power else 0.0
    assert found["step_signal"] == pytest.approx(expected, abs=1e-12)
    assert found["step_low_over_high"] == pytest.approx(
        steps[ratio.argmin()] / steps[ratio.argmax()], rel=1e-12
    )
    costs = []
    for batches in (order[: stability.NOISY], order[: stability.NOISY, :2]):
        line.train_epoch(batches)
        costs.append(line.evaluate()[0])
        restore()
    assert [found["calm_cost"], found["noisy_cost"]] == costs
    assert found["noise_rise"] == costs[1] / costs[0]


def test_coordinates_without_noise_do_not_count():
    line = Line(0.1, 1.0)
    line.x[:, 5] = 0.0
    found = stability.measure(line, [line.weights], lambda: None, np.arange(400).reshape(50, 8))
    assert math.isfinite(found["step_low_over_high"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 120}, "stability=1.0 is not valid with 8 batches of 120: it needs 12 "),
        (
            {"batch_size": 2},
            "stability=1.0 is not valid with 500 batches of 2: it needs 12 batches",
        ),
        (
            {"optimizer": "sfo", "settings": {"minibatches": 5}},
            "stability=1.0 is not valid with sfo: its minibatches are fixed",
        ),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_line(tmp_path, change, message):
    with pytest.raises(ValueError, match=message) as error:
        train.train(dataclasses.replace(measured(RUN), **change), Store(tmp_path))
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("calm_too", [False, True])
def test_noisy_steps_alone_never_make_a_run_look_diverged(calm_too):
    """If the calm steps diverge as well, so does the run, and its record says so."""

    class Fragile(Line):
        width = 8

        def train_epoch(self, order):
            self.width = order.shape[1]
            return super().train_epoch(order)

        def evaluate(self):
            diverges = self.width < 8 or calm_too
            return (math.inf, None) if diverges else super().evaluate()

    line, order = Fragile(0.1, 1.0), np.arange(400).reshape(50, 8)
    if calm_too:
        found = stability.measure(line, [line.weights], lambda: None, order)
        assert not math.isfinite(found["calm_cost"])
        return
    with pytest.raises(ValueError, match="20 steps with twice the noise diverge, though the run"):
        stability.measure(line, [line.weights], lambda: None, order)
