"""The measurements of Sections 2.1, 3 and 4: against `adam_tf.Adam`, pencil and paper, mistakes."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from experiments.methods import optimizers
from experiments.problems import registry
from experiments.randomness import batch_order, stream
from experiments.theory import adam, bias, failures, games, regression, stepsize, theorem
from experiments.theory.adam import Adam
from experiments.training import runtime

DATA = "mnist-stand-in"
SMALL = {"train_examples": 1_000}
REDDI = {"epsilon": 0.0, "bias_correction": False}
THREE = {**REDDI, "learning_rate": 0.8, "decay": "sqrt_step", "beta_1": 0.0, "beta_2": 0.1}


def rows(measurement, settings, data="", seed=0, batch_size=1, epochs=1, **options):
    """The rows of a measurement, each a dictionary of finite floats with the same names."""
    declared = {each.function: each.options for each in registry.PROBLEMS.values()}
    chosen = declared[measurement.__name__](**options)
    found = list(measurement(data, seed, settings, batch_size, epochs, chosen))
    assert found
    for row in found:
        assert list(row) == list(found[0])
        assert all(type(value) is float and math.isfinite(value) for value in row.values())
    return found


def column(found, name):
    return np.array([row[name] for row in found])


# --- Algorithm 1 ---

STEPS, PASS = 300, 7
CASES = {
    "defaults": {},
    "betas": {"beta_1": 0.5, "beta_2": 0.9},
    "no momentum": {"beta_1": 0.0},
    "large epsilon": {"epsilon": 1e-3},
    "no epsilon": {"epsilon": 0.0},
    "no correction": {"bias_correction": False},
    "decaying beta_1": {"beta_1_decay": 0.9},
    "amsgrad": {"amsgrad": True, "beta_2": 0.9},
    "amsgrad of Reddi": {**REDDI, "amsgrad": True, "beta_2": 0.9},
    "steps": {"decay": "sqrt_step"},
    "passes": {"decay": "sqrt_epoch"},
    "theorem": {"decay": "sqrt_step", "beta_1_decay": 0.99, "epsilon": 0.0},
}


def gradients():
    """Scales from 1e-7 to 1e2, a step of zeros, a spike; a coordinate never, one late."""
    found = np.random.default_rng(0).standard_normal((STEPS, 10)) * 10.0 ** np.arange(-7, 3)
    found[7], found[29] = 0.0, found[29] * 1e3
    found[:, 0], found[:50, 1] = 0.0, 0.0
    return found


@pytest.fixture(scope="module")
def reference():
    """The movements of `adam_tf.Adam` in float64 under settings, each case once."""
    runtime.configure()
    import keras
    import tensorflow as tf

    known = {}

    def moves(case):
        if case not in known:
            settings = {"learning_rate": 0.1, **CASES[case]}
            optimizers.check_settings("adam", settings)
            optimizer = optimizers.build("adam", settings, PASS)
            variable = keras.Variable(np.zeros(10), dtype="float64")
            optimizer.build([variable])

            @tf.function
            def step(gradient):
                optimizer.apply([gradient], [variable])
                return keras.ops.copy(variable.value)

            known[case] = [step(tf.constant(g)).numpy() for g in gradients()]
        return np.array(known[case])

    return moves


def moves_of(make, case):
    adam = make(learning_rate=0.1, **CASES[case], steps_per_epoch=PASS)
    return -np.cumsum([adam.step(g) for g in gradients()], axis=0)


def assert_same_moves(make, case, expected):
    path = np.abs(np.diff(expected, axis=0, prepend=0)).cumsum(axis=0)
    assert (np.abs(moves_of(make, case) - expected) <= 1e-12 * path).all(), case


@pytest.mark.parametrize("case", CASES)
def test_algorithm_1_moves_as_adam_tf(reference, case):
    assert_same_moves(Adam, case, reference(case))


@pytest.mark.parametrize("case", CASES)
def test_a_float_moves_as_an_array_does(case):
    arrays = Adam(learning_rate=0.1, **CASES[case], steps_per_epoch=PASS)
    floats = Adam(learning_rate=0.1, **CASES[case], steps_per_epoch=PASS)
    for g in gradients()[:, 1]:
        assert floats.step(float(g)) == arrays.step(np.array([g]))[0]


def test_a_coordinate_without_a_gradient_stays():
    for settings in ({"epsilon": 0.0}, {"epsilon": 0.0, "amsgrad": True}, {}):
        adam = Adam(learning_rate=0.1, **settings)
        for g in (0.0, 1.0, 0.0):
            assert (adam.step(np.array([0.0, g]))[0], adam.t) == (0.0, adam.t)
        assert Adam(learning_rate=0.1, **settings).step(0.0) == 0.0


class WrongCorrection(Adam):
    @property
    def v_hat(self):
        v = self.v_max if self.amsgrad else self.v
        return v / (1 - self.beta_2 ** (self.t + 1)) if self.bias_correction else v


class SwappedCorrections(Adam):
    @property
    def m_hat(self):
        return self.m / (1 - self.beta_2**self.t)


class AlwaysCorrected(Adam):
    @property
    def m_hat(self):
        return self.m / (1 - self.beta_1**self.t)


class MaximumOfCorrected(Adam):
    @property
    def v_hat(self):
        corrected = self.v / (1 - self.beta_2**self.t)
        self.v_max = np.maximum(self.v_max if self.t > 1 else 0.0, corrected)
        return self.v_max


class LatestMaximum(Adam):
    def observe(self, gradient):
        before = self.v
        super().observe(gradient)
        self.v_max = np.maximum(before, self.v)


class NoMaximum(Adam):
    @property
    def v_hat(self):
        return self.v / (1 - self.beta_2**self.t) if self.bias_correction else self.v


class LateRoot(Adam):
    @property
    def rate(self):
        return self.learning_rate / math.sqrt(self.t + 1)


class StepsForPasses(Adam):
    @property
    def rate(self):
        return self.learning_rate / math.sqrt(self.t)


class LatePass(Adam):
    @property
    def rate(self):
        return self.learning_rate / math.sqrt(self.t // self.steps_per_epoch + 1)


class NoLambda(Adam):
    def observe(self, gradient):
        self.beta_1_decay = 1.0
        super().observe(gradient)


class EarlyLambda(Adam):
    def observe(self, gradient):
        kept = self.beta_1
        self.beta_1 *= self.beta_1_decay
        super().observe(gradient)
        self.beta_1 = kept


class LambdaInCorrection(Adam):
    @property
    def m_hat(self):
        t = self.t
        return self.m / (1 - self.beta_1**t * self.beta_1_decay ** (t * (t - 1) / 2))


class EpsilonInside(Adam):
    @property
    def v_hat(self):
        return super().v_hat + self.epsilon**2


class SwappedBetas(Adam):
    def observe(self, gradient):
        self.beta_1, self.beta_2 = self.beta_2, self.beta_1
        super().observe(gradient)
        self.beta_1, self.beta_2 = self.beta_2, self.beta_1


class UnsquaredGradient(Adam):
    def observe(self, gradient):
        before = self.v
        super().observe(gradient)
        self.v = self.beta_2 * before + (1 - self.beta_2) * np.abs(gradient)


MISTAKES = {
    # mistake: the case that catches it
    WrongCorrection: "defaults",
    SwappedCorrections: "defaults",
    AlwaysCorrected: "no correction",
    MaximumOfCorrected: "amsgrad",
    LatestMaximum: "amsgrad of Reddi",
    NoMaximum: "amsgrad of Reddi",
    LateRoot: "steps",
    StepsForPasses: "passes",
    LatePass: "passes",
    NoLambda: "decaying beta_1",
    EarlyLambda: "decaying beta_1",
    LambdaInCorrection: "decaying beta_1",
    EpsilonInside: "large epsilon",
    SwappedBetas: "defaults",
    UnsquaredGradient: "defaults",
}


@pytest.mark.parametrize("wrong", MISTAKES, ids=lambda wrong: wrong.__name__)
def test_the_comparison_catches(reference, wrong):
    expected = reference(MISTAKES[wrong])
    with pytest.raises(AssertionError):
        assert_same_moves(wrong, MISTAKES[wrong], expected)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"beta_1_decay": 0.0}, r"beta_1_decay=0.0 is not valid for adam: use a number in \(0, 1]"),
        ({"beta_1_decay": 1.5}, r"beta_1_decay=1.5 is not valid for adam: use a number in \(0, 1]"),
        (
            {"beta_1_decay": math.nan},
            r"beta_1_decay=nan is not valid for adam: use a number in \(0, 1]",
        ),
        ({"amsgrad": 1}, "amsgrad=1 is not valid for adam: use one of True, False"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        optimizers.check_settings("adam", {"learning_rate": 0.1, **settings})


def test_recorded_steps_are_ten_a_decade_and_the_last():
    assert adam.recorded_steps(1) == [1]
    assert adam.recorded_steps(12) == [1, 2, 3, 4, 5, 6, 8, 10, 12]
    found = adam.recorded_steps(10_000)
    assert (found[-1], len([t for t in found if 100 < t <= 1_000])) == (10_000, 10)


# --- Logistic regression ---


@pytest.mark.parametrize("examples", [0, 60_001])
def test_impossible_sizes_are_refused(examples):
    with pytest.raises(ValueError, match=f"train_examples={examples} is not valid: use 1 to 60000"):
        regression.load_digits(DATA, examples)


def test_the_gradient_is_that_of_the_cost():
    digits = regression.load_digits(DATA, 50)
    x, y = digits.batch(np.arange(0, 50, 2))
    assert (x.shape, x[:, -1].min(), x.max(), y.shape) == ((25, 785), 1.0, 1.0, (25,))
    rng = np.random.default_rng(0)
    theta = rng.normal(0, 0.1, (785, 10))

    def cost(theta):
        scores = x @ theta
        return np.mean(np.log(np.exp(scores).sum(axis=1)) - scores[np.arange(25), y])

    costs, derivatives = regression.cross_entropy(theta, x, y)
    assert costs.mean() == pytest.approx(cost(theta), rel=1e-12)
    gradient = x.T @ derivatives / 25
    for _ in range(5):
        direction = rng.normal(0, 1, theta.shape)
        numeric = (cost(theta + 1e-5 * direction) - cost(theta - 1e-5 * direction)) / 2e-5
        assert np.sum(gradient * direction) == pytest.approx(numeric, rel=1e-6)
    stacked, _ = regression.cross_entropy(np.stack([theta, 2 * theta]), x, y)
    np.testing.assert_allclose(stacked[1], regression.cross_entropy(2 * theta, x, y)[0], rtol=1e-12)


# --- Section 2.1 ---


def test_the_papers_bound_has_two_regimes():
    assert stepsize.paper_bound(Adam(0.1)) == pytest.approx(0.1 / math.sqrt(0.001))
    assert stepsize.paper_bound(Adam(0.1, beta_2=0.9)) == 1.0


def test_the_sharp_bound_is_the_closed_form_of_adam_tfs_readme():
    for beta_1, beta_2 in ((0.9, 0.999), (0.9, 0.95), (0.0, 0.5)):
        found = stepsize.sharp_bounds(Adam(0.1, beta_1=beta_1, beta_2=beta_2), 30)
        for t in (1, 2, 30):
            growth = sum((beta_1**2 / beta_2) ** k for k in range(t))
            expected = (1 - beta_1) / math.sqrt(1 - beta_2) * math.sqrt(growth)
            expected *= math.sqrt(1 - beta_2**t) / (1 - beta_1**t)
            assert found[t - 1] == pytest.approx(expected, rel=1e-12)
    limit = stepsize.sharp_bounds(Adam(0.1), 20_000)[-1]
    assert limit == pytest.approx(0.1 / math.sqrt(0.001) / math.sqrt(1 - 0.81 / 0.999), rel=1e-8)
    assert limit == pytest.approx(7.27, abs=0.005)
    with pytest.raises(ValueError, match="beta_2=0 is not valid here"):
        stepsize.sharp_bounds(Adam(0.1, beta_2=0.0), 3)


@pytest.mark.parametrize(
    "settings",
    [{}, {"bias_correction": False}, {"beta_1_decay": 0.9}, {"beta_2": 0.85}],
    ids=str,
)
def test_no_gradients_step_further_than_the_sharp_bound(settings):
    rng = np.random.default_rng(1)
    for _ in range(20):
        adam = Adam(1.0, epsilon=0.0, **settings)
        bounds = stepsize.sharp_bounds(adam, 40)
        # The worst ones and others near them.
        worst = stepsize.worst_gradients(adam, 40)[:, None]
        for t, g in enumerate(worst * rng.uniform(0.8, 1.25, (40, 50))):
            assert np.abs(adam.step(g)).max() <= bounds[t] * (1 + 1e-12)
        assert np.abs(adam.step(worst[-1])).max() > 0


@pytest.mark.parametrize(
    "settings", [{}, {"bias_correction": False}, {"beta_1_decay": 0.9}, {"beta_2": 0.85}], ids=str
)
def test_constructed_gradients_reach_the_sharp_bound(settings):
    settings = {"learning_rate": 0.01, "epsilon": 0.0, **settings}
    found = rows(stepsize.constructed_steps, settings, steps=1_000)
    assert column(found, "t").tolist() == adam.recorded_steps(1_000)
    np.testing.assert_allclose(column(found, "growing_over_sharp"), 1.0, rtol=1e-9)
    assert (column(found, "sparse_step") <= column(found, "sharp_bound") * (1 + 1e-12)).all()


def test_a_sparse_gradient_reaches_the_papers_bound_and_growing_ones_exceed_it():
    found = rows(stepsize.constructed_steps, {"learning_rate": 0.001}, steps=10_000)
    first, last = found[0], found[-1]
    assert first["sparse_step"] == pytest.approx(1, abs=1e-7)
    assert first["growing_step"] == pytest.approx(1, abs=1e-7)
    assert last["sparse_over_paper"] == pytest.approx(1, abs=1e-4)
    assert last["growing_over_paper"] == pytest.approx(2.2995, abs=1e-3)
    plain = {"learning_rate": 0.001, "bias_correction": False, "epsilon": 0.0}
    found = rows(stepsize.constructed_steps, plain, steps=100)
    np.testing.assert_allclose(column(found, "sparse_over_paper"), 1.0, rtol=1e-12)


def step_sizes(settings=None, **options):
    settings = {"learning_rate": 0.01, **(settings or {})}
    options = {**SMALL, **options}
    return rows(stepsize.step_sizes, settings, DATA, 5, 100, 3, **options)


def test_step_sizes_are_of_the_training_that_the_studies_do(tmp_path):
    runtime.configure()
    from experiments.records.store import Store
    from experiments.study import Run
    from experiments.training.train import train

    settings = {"learning_rate": 0.01, "decay": "sqrt_epoch"}
    run = Run("mnist_logistic_regression", SMALL, DATA, "adam", settings, 128, 3, 5)
    expected = train(run, Store(tmp_path))["metrics"]["training_cost"]
    found = rows(stepsize.step_sizes, settings, DATA, 5, 128, 3, **SMALL)
    np.testing.assert_allclose(column(found, "training_cost"), expected, rtol=2e-5)


def test_steps_stay_within_the_sharp_bound_and_shrink():
    found = step_sizes()
    first, last = found[0], found[-1]
    # Every first step is alpha, to the rounding of epsilon.
    assert 0.999 < first["largest_over_sharp"] <= 1
    assert 1 <= first["largest_step"] <= first["largest_step_no_epsilon"] * (1 + 1e-6)
    largest = first["largest_over_paper"] * 0.1 / math.sqrt(0.001)
    assert largest == pytest.approx(first["largest_step"])
    for row in found:
        assert row["mean_step"] == pytest.approx(row["mean_snr"], rel=1e-2)
        assert row["largest_over_sharp"] <= 1 + 1e-12
    assert last["mean_snr"] < first["mean_snr"] / 1.5
    assert last["overall_snr"] < first["overall_snr"]
    assert last["training_cost"] < first["training_cost"]


def test_a_long_memory_of_the_first_moment_is_the_other_regime():
    found = step_sizes({"beta_1": 0.9, "beta_2": 0.9})
    assert all(row["largest_over_paper"] == row["largest_step"] for row in found)


def test_rescaled_gradients_give_the_same_training_without_epsilon():
    for scale in (1e-3, 1e3):
        for row in step_sizes(scale=scale):
            assert row["difference_scaled_no_epsilon"] < 1e-9
            assert row["difference_rescaled_no_epsilon"] < 1e-9
            assert row["difference_rescaled"] > 1e-6
    last = step_sizes({"epsilon": 1e-4})[-1]
    assert last["difference_scaled"] > 0.1
    none = step_sizes({"epsilon": 0.0})[-1]
    assert none["difference_scaled"] == none["difference_scaled_no_epsilon"] < 1e-9
    assert none["largest_step"] == none["largest_step_no_epsilon"]


def test_the_copies_are_trained_as_described():
    settings, scale = {"learning_rate": 0.01, "epsilon": 1e-3}, 0.1
    digits = regression.load_digits(DATA, 500)

    def trained(factor):
        adam, theta, steps = Adam(**settings), np.zeros((785, 10)), []
        for which in batch_order(5, 0, 500, 100):
            x, y = digits.batch(which)
            move = adam.step(factor * (x.T @ regression.cross_entropy(theta, x, y)[1]) / 100)
            theta -= move
            steps.append(np.abs(move) / 0.01)
        return theta, steps

    theta, steps = trained(1.0)
    row = step_sizes(settings, scale=scale, train_examples=500)[0]
    assert row["largest_step"] == pytest.approx(np.max(steps), rel=1e-9)
    means = [step[step > 0].mean() for step in steps]
    assert row["mean_step"] == pytest.approx(np.mean(means), rel=1e-9)
    assert row["longer_than_alpha"] == 0 == np.mean(np.array(steps) > 1)
    drawn = stepsize._factors(5, scale, 785)[2]
    assert np.quantile(drawn, [0, 0.5, 1]) == pytest.approx([0.1, 1, 10], rel=0.1)
    for name, factor in (("difference_scaled", scale), ("difference_rescaled", drawn)):
        expected = np.abs(trained(factor)[0] - theta).max() / np.abs(theta).max()
        assert row[name] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("signal", [0.0, 0.5, 0.99, 1.0])
def test_the_mean_step_along_gradients_of_a_known_signal(signal):
    """m_hat is normal around the signal s with the variance (1 - s^2) (1 - beta_1) / (1 + beta_1),
    and v_hat is near 1: the mean of |m_hat| is that of a folded normal distribution."""
    settings = {"learning_rate": 0.001, "epsilon": 0.0}
    found = rows(stepsize.signal_steps, settings, signal=signal, steps=3_000, dimensions=4_000)
    spread = math.sqrt((1 - signal**2) * 0.1 / 1.9)
    expected = signal * math.erf(signal / (math.sqrt(2) * spread)) if spread else 1.0
    expected += (
        spread * math.sqrt(2 / math.pi) * math.exp(-((signal / spread) ** 2) / 2) if spread else 0
    )
    assert found[0]["mean_step"] == pytest.approx(1, rel=1e-12)
    assert found[-1]["mean_step"] == pytest.approx(expected, rel=0.03)
    with pytest.raises(ValueError, match=r"signal=1.1 is not valid for signal_steps: use a number"):
        registry.check_options("signal_steps", {"signal": 1.1})


def test_the_share_of_longer_steps_is_of_the_coordinates_that_have_had_a_gradient():
    digits, adam_, theta = regression.load_digits(DATA, 500), Adam(0.01), np.zeros((785, 10))
    reached, shares = np.zeros((785, 10), bool), []
    for epoch in range(2):
        for which in batch_order(5, epoch, 500, 100):
            x, y = digits.batch(which)
            gradient = x.T @ regression.cross_entropy(theta, x, y)[1] / 100
            move = adam_.step(gradient)
            theta, reached = theta - move, reached | (gradient != 0)
            shares.append(np.sum(np.abs(move) > 0.01) / np.sum(reached))
    found = column(step_sizes(train_examples=500), "longer_than_alpha")
    np.testing.assert_allclose(found[:2], np.reshape(shares, (2, 5)).mean(axis=1))
    assert 0 < found[1] < 1


# --- Section 3 ---


def moment_bias(settings=None, **options):
    settings = {"learning_rate": 0.01, "beta_2": 0.99, **(settings or {})}
    options = {"train_examples": 2_000, "replicates": 20, **options}
    return rows(bias.moment_bias, settings, DATA, 3, 100, 5, **options)


def assert_bias_is_one_minus_beta_to_the_t(found):
    for row in found:
        for name, beta in (("first", 0.9), ("second", 0.99)):
            expected = 1 - beta ** row["t"]
            assert row[f"{name}_expected"] == pytest.approx(expected, rel=1e-9)
            assert 0 < row[f"{name}_error"] < 0.1 * expected
            assert abs(row[name] - expected) < 5 * row[f"{name}_error"]
            assert abs(row[f"{name}_corrected"] - 1) < 5 * row[f"{name}_error"] / expected
            assert row[f"{name}_zeta"] == pytest.approx(row[name] - expected, abs=1e-15)


def test_the_moments_of_stationary_gradients_are_biased_by_one_minus_beta_to_the_t():
    found = moment_bias()
    assert column(found, "t").tolist() == adam.recorded_steps(100)
    assert_bias_is_one_minus_beta_to_the_t(found)
    assert found[0]["second"] < 0.02 < 0.5 < found[-1]["second"]


@pytest.mark.parametrize("beta_2", [0.5, 0.99])
def test_along_the_path_v_averages_the_expected_squares(beta_2):
    """Every batch's gradient at every step, and the weights one by one."""
    settings = {"learning_rate": 0.01, "beta_2": beta_2}
    options = {"train_examples": 500, "parameters": "path"}
    found = rows(bias.moment_bias, settings, DATA, 3, 100, 20, **options)
    digits, batches = regression.load_digits(DATA, 500), batch_order(3, 0, 500, 100)
    adam_, theta, draws = Adam(**settings), np.zeros((785, 10)), stream(3, "draws")
    squares, path = [], {}
    for t in range(1, 101):
        pool = regression.batch_gradients(digits, batches, theta)
        squares.append(np.mean([np.sum(g**2) for g in pool]))
        weights = [(1 - beta_2) * beta_2 ** (t - s) for s in range(1, t + 1)]
        path[t] = np.dot(weights, squares) / (1 - beta_2**t) / squares[-1]
        theta -= adam_.step(pool[draws.integers(5, size=1)]).reshape(785, 10)
    assert max(path.values()) > 1.05
    assert column(found, "second_corrected") == pytest.approx([path[t] for t in column(found, "t")])


@pytest.mark.parametrize("wrong", [SwappedBetas, UnsquaredGradient])
def test_the_bias_test_catches(monkeypatch, wrong):
    monkeypatch.setattr(bias, "Adam", wrong)
    with pytest.raises(AssertionError):
        assert_bias_is_one_minus_beta_to_the_t(moment_bias())


def test_with_a_decaying_beta_1_the_papers_correction_is_no_longer_exact():
    found = moment_bias({"beta_1_decay": 0.5})
    product = 1.0
    by_step = {}
    for t in range(1, 101):
        product *= 0.9 * 0.5 ** (t - 1)
        by_step[t] = 1 - product
    for row in found:
        assert row["first_expected"] == pytest.approx(by_step[row["t"]], rel=1e-12)
        assert abs(row["first"] - row["first_expected"]) < 5 * row["first_error"]
    # 1 - 0.9^t divides too much away too late: after 3 steps 0.994 is taken for 0.271.
    assert found[2]["first_corrected"] > 2


def test_moving_parameters_leave_a_zeta():
    found = moment_bias({"learning_rate": 0.05}, parameters="moving")
    assert "second_error" not in found[0]
    assert abs(found[0]["second_zeta"]) < 0.01  # one gradient: of its own step
    # Gradients were larger before: the corrected second moment is too large for today's.
    assert found[-1]["second_corrected"] > 1.2
    assert found[-1]["second_zeta"] > 0.1


def test_expectations_are_over_all_batches_at_the_parameters_of_the_step():
    found = rows(
        bias.moment_bias, {"learning_rate": 0.1}, DATA, 0, 500, 1, parameters="moving", **SMALL
    )
    digits = regression.load_digits(DATA, 1_000)
    batches = batch_order(0, 0, 1_000, 500)
    drawn = [int(np.random.default_rng([0, 3, 0]).integers(2, size=1)[0])]
    pool = regression.batch_gradients(digits, batches, np.zeros((785, 10)))
    expected = 0.001 * (pool[drawn[0]] ** 2).sum() / (pool**2).mean(axis=0).sum()
    assert found[0]["second"] == pytest.approx(expected, rel=1e-12)
    assert len(found) == 2


# --- Section 4 ---

# alpha = 1, beta_1 = 0: plain steps g / sqrt(v_hat) / sqrt(t).
PENCIL = {
    "learning_rate": 1.0,
    "decay": "sqrt_step",
    "beta_1": 0.0,
    "beta_2": 0.75,
    "epsilon": 0.0,
}


def test_theorem_on_paper():
    """|theta| from 1/2: points 1/2 and -1/2, gradients 1 and -1, v_hat = 1."""
    first, second = rows(theorem.regret, PENCIL, problem="absolute", scale=1.0, steps=2)
    assert first["regret"] == pytest.approx(0.5)
    assert second["t"] == 2
    assert second["regret"] == pytest.approx(1.0)
    assert second["average_regret"] == pytest.approx(0.5)
    assert second["regret_over_sqrt"] == pytest.approx(1 / math.sqrt(2))
    names = ("g_norm", "g_inf", "d_norm", "d_inf", "sparsity")
    assert [second[name] for name in names] == pytest.approx([1, 1, 1, 1, 1])
    assert second["distance_term"] == pytest.approx(math.sqrt(2) / 2)
    assert second["gradient_term"] == pytest.approx(2 * math.sqrt(2))
    assert second["momentum_term"] == pytest.approx(0.25)
    assert second["bound"] == pytest.approx(3.7855339)
    assert second["regret_over_bound"] == pytest.approx(0.2641636)
    assert "appendix_bound" not in second


def test_regret_on_paper(monkeypatch):
    """(theta - 1)^2 / 2, then (theta - 3)^2 / 2: points 0 and 1, costs 1/2 and 2, optimum 2."""
    by_hand = games.Quadratics(np.ones(1), np.array([[1.0], [3.0]]), np.ones((2, 1)))
    monkeypatch.setattr(theorem, "quadratics", lambda *_, **__: by_hand)
    found = rows(theorem.regret, PENCIL, problem="quadratic")
    assert found[0]["regret"] == pytest.approx(0.0)
    row = found[1]
    assert row["regret"] == pytest.approx(1.5)
    assert (row["g_inf"], row["d_inf"]) == pytest.approx((2.0, 2.0))
    # v_2 = 0.75 * 0.25 + 0.25 * 4, and v_hat_2 is that by 1 - 0.75^2.
    assert row["distance_term"] == pytest.approx(2 * math.sqrt(2 * 1.1875 / 0.4375))
    assert row["gradient_term"] == pytest.approx(4 * math.sqrt(5))
    assert row["momentum_term"] == pytest.approx(2.0)


def test_the_terms_of_the_theorem():
    adam = Adam(0.1, "sqrt_step", beta_1=0.8, beta_2=0.75, beta_1_decay=0.5)
    terms = theorem.theorem_terms(
        adam, coordinates=3, root_sum=2.0, norm_sum=5.0, g_inf=2.0, d_norm=3.0, d_inf=1.0
    )
    gamma = 0.64 / math.sqrt(0.75)
    expected = (9 / 0.04 * 2, 0.1 * 1.8 * 2 / (0.2 * 0.5 * (1 - gamma) ** 2) * 5, 3 / 0.01)
    assert terms == pytest.approx(expected)
    row = theorem.against_theorem(adam, 10.0, terms)
    assert row["bound"] == pytest.approx(sum(expected))
    assert row["regret_over_bound"] == pytest.approx(10 / sum(expected))
    assert row["appendix_bound"] == pytest.approx(sum(expected[:2]) + 3 / 0.04)
    # lambda as in the paper: nothing is said before T is about 1e16.
    vacuous = theorem.theorem_terms(
        Adam(0.001, beta_1_decay=1 - 1e-8),
        coordinates=1, root_sum=1.0, norm_sum=1.0, g_inf=1.0, d_norm=1.0, d_inf=1.0,
    )  # fmt: skip
    assert vacuous[2] > 1e16


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"decay": "constant"}, "decay='constant' is not valid for Theorem 4.1: use sqrt_step"),
        ({"beta_1": 0.9, "beta_2": 0.6}, r"needs beta_1\^2 < sqrt\(beta_2\)"),
        ({"beta_1": 0.9, "beta_2": 0.999}, "needs beta_1_decay < 1"),
    ],
)
def test_settings_outside_the_theorem_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        rows(theorem.regret, {**PENCIL, **change}, problem="absolute")
    assert "bound" not in rows(failures.counterexample, {**PENCIL, **change}, steps=3)[0]
    theorem.check_theorem(Adam(**{**PENCIL, "beta_1": 0.9, "beta_1_decay": 0.9}))


ONLINE = {"learning_rate": 0.5, "decay": "sqrt_step", "beta_1_decay": 0.99, "epsilon": 0.0}


@pytest.mark.parametrize("problem", ["quadratic", "sparse"])
def test_regret_is_within_the_bound_and_of_order_sqrt_on_benign_problems(problem):
    found = rows(theorem.regret, ONLINE, seed=1, problem=problem, steps=3_000, dimensions=30)
    assert (column(found, "regret_over_bound") < 1).all()
    assert (column(found, "regret_over_appendix_bound") < 1).all()
    late = [row for row in found if row["t"] >= 100]
    assert late[-1]["average_regret"] < late[0]["average_regret"] / 3
    assert max(column(late, "regret_over_sqrt")) < 2 * min(column(late, "regret_over_sqrt"))


def test_sparse_gradients_make_the_theorems_sums_smaller():
    dense, sparse = (
        rows(theorem.regret, ONLINE, problem=problem, steps=1_000)[-1]
        for problem in ("quadratic", "sparse")
    )
    assert sparse["sparsity"] < dense["sparsity"] / 2 < 0.5
    assert sparse["gradient_term"] < dense["gradient_term"] / 2


def test_the_printed_bound_fails_for_small_gradients():
    """Its second term is to the square of their scale, the regret is not."""
    found = {
        scale: rows(theorem.regret, {**PENCIL, "beta_2": 0.999}, problem="absolute", scale=scale)
        for scale in (1e-3, 1e-2, 1.0)
    }
    for scale, expected in ((1e-3, 1.872), (1e-2, 1.220), (1.0, 0.031)):
        last = found[scale][-1]
        assert last["regret_over_bound"] == pytest.approx(expected, abs=5e-3)
        assert last["regret"] == pytest.approx(scale * math.sqrt(last["t"]), rel=0.01)
        assert last["regret"] < sum(
            (last["distance_term"], last["gradient_term"] / scale, last["momentum_term"])
        )


def test_a_late_learning_rate_is_seen_in_the_regret(monkeypatch):
    right = rows(theorem.regret, PENCIL, problem="absolute", scale=1.0, steps=2)[1]["distance_term"]
    monkeypatch.setattr(theorem, "Adam", LateRoot)
    wrong = rows(theorem.regret, PENCIL, problem="absolute", scale=1.0, steps=2)[1]["distance_term"]
    assert wrong != pytest.approx(right, rel=1e-3)


@pytest.fixture(scope="module")
def logistic():
    return theorem._logistic(DATA, 2, 50, 2, 500, 1e-2)


def problems_of(logistic):
    yield games.quadratics(0, 50, 5, sparse=False), 1e-2
    yield games.quadratics(0, 50, 5, sparse=True), 1e-2
    yield games.Absolute(2.0, np.ones(1), 50), 1e-2
    yield logistic, 1e-2


def test_no_fixed_point_is_better_in_hindsight(logistic):
    rng = np.random.default_rng(0)
    for problem, size in problems_of(logistic):
        best, error = problem.optimum()
        least = problem.costs(best).sum()
        assert 0 <= error <= problem.steps * games.OPTIMUM_TOLERANCE
        for _ in range(20):
            other = best + size * rng.standard_normal(best.shape)
            assert problem.costs(other).sum() > least


def test_costs_are_those_that_are_played_and_gradients_theirs(logistic):
    rng = np.random.default_rng(0)
    for problem, _ in problems_of(logistic):
        theta = rng.normal(0.1, 0.1, problem.start.shape)
        costs = problem.costs(theta)
        assert costs.shape == (problem.steps,)
        for t in (1, 2, 7):
            cost, gradient = problem.play(t, theta)
            assert cost == pytest.approx(costs[t - 1], rel=1e-12)
            direction = rng.standard_normal(theta.shape)
            ahead, behind = (problem.play(t, theta + s * 1e-6 * direction)[0] for s in (1, -1))
            assert gradient @ direction == pytest.approx((ahead - behind) / 2e-6, rel=1e-4)


def test_the_mean_of_the_logistic_costs(logistic):
    theta = np.random.default_rng(0).normal(0, 0.1, logistic.start.shape)
    value, gradient = logistic.mean(theta)
    assert value == pytest.approx(logistic.costs(theta).mean(), rel=1e-12)
    steps = range(1, logistic.steps + 1)
    played = np.mean([logistic.play(t, theta)[1] for t in steps], axis=0)
    np.testing.assert_allclose(gradient, played, rtol=1e-9, atol=1e-15)


def test_the_optimum_does_not_depend_on_where_the_search_begins(logistic):
    from scipy.optimize import minimize

    best, error = logistic.optimum()
    gradient = logistic.mean(best)[1]
    assert logistic.steps == 20
    assert error == pytest.approx(20 * gradient @ gradient / (2 * logistic.l2))
    start = np.random.default_rng(0).normal(0, 0.1, best.shape)
    options = {"maxiter": 5_000, "maxfun": 9_000, "gtol": 1e-8, "ftol": 0}
    other = minimize(logistic.mean, start, jac=True, method="L-BFGS-B", options=options).x
    np.testing.assert_allclose(other, best, atol=1e-4)


def test_an_optimum_that_is_not_found_is_refused(logistic, monkeypatch):
    monkeypatch.setattr(games, "OPTIMUM_TOLERANCE", 1e-300)
    with pytest.raises(ValueError, match=r"the optimum in hindsight is off by .*: use a larger l2"):
        logistic.optimum()


def test_regret_of_logistic_regression():
    settings = {**ONLINE, "learning_rate": 0.05}
    options = {"train_examples": 500, "l2": 1e-2, "problem": "logistic"}
    found = rows(theorem.regret, settings, DATA, 2, 50, 20, **options)
    assert found[-1]["t"] == 200
    assert (column(found, "regret_over_bound") < 1).all()
    assert 0 < found[-1]["average_regret"] < found[5]["average_regret"] / 3
    assert found[-1]["optimum_error"] < 1e-4 * found[-1]["regret"]
    per_step = column(found, "regret_over_sqrt")
    assert per_step[-1] < per_step.max()


# --- Reddi, Kale and Kumar ---


def test_counterexample_on_paper():
    """c = 3, alpha = 1/2: v = 8.1, then 1.71; the steps are g / sqrt(v) / 2 / sqrt(t)."""
    settings = {**THREE, "learning_rate": 0.5}
    found = rows(failures.counterexample, settings, steps=3)
    x_2 = -0.5 * 3 / math.sqrt(8.1)
    x_3 = x_2 + 0.5 / math.sqrt(2) / math.sqrt(1.71)
    assert column(found, "x")[:2] == pytest.approx([x_2, x_3])
    assert found[1]["average_regret"] == pytest.approx((3 - (x_2 + 1)) / 2)
    assert found[2]["average_regret"] == pytest.approx((3 - (x_2 + 1) - (x_3 + 1)) / 3)
    assert found[2]["expected_regret"] == pytest.approx((3 + x_2 + x_3) / 9)
    # D is from x_2 to 0 and reaches to the optimum -1: 1.
    assert found[1]["distance_term"] == pytest.approx(math.sqrt(2 * 1.71))
    assert found[1]["gradient_term"] == pytest.approx(0.5 * 3 / math.sqrt(0.9) * math.sqrt(10))
    assert found[1]["momentum_term"] == pytest.approx(3 * math.sqrt(0.9))


def test_the_wall_pushes_back():
    settings = {**THREE, "learning_rate": 0.5}
    found = rows(failures.counterexample, settings, x_1=2.0, bounds="wall", steps=2)
    v = 0.9 * 25
    x_2 = 2 - 0.5 * 5 / math.sqrt(v)
    assert found[0]["x"] == pytest.approx(x_2)
    assert found[0]["average_regret"] == pytest.approx(3 * 3 + 2)
    root = math.sqrt(0.9)
    assert found[1]["gradient_term"] == pytest.approx(0.5 * 5 / root * math.sqrt(25 + 1))
    v = 0.1 * v + 0.9  # beyond the wall the falling slope is 1
    assert found[1]["x"] == pytest.approx(x_2 - 0.5 / math.sqrt(2) / math.sqrt(v))
    clipped = rows(failures.counterexample, {**settings, "learning_rate": 50.0}, steps=2)
    assert column(clipped, "x").tolist() == [-1.0, 1.0]


def test_slopes():
    three = list(itertools.islice(failures.slopes("three", 0, 5), 6))
    assert three == [5, -1, -1, 5, -1, -1]
    online = list(itertools.islice(failures.slopes("online", 0, 5), 202))
    assert (online[0], online[101], sum(online)) == (1010, 1010, 20)
    drawn = np.array(list(itertools.islice(failures.slopes("stochastic", 0, 5), 100_000)))
    assert set(drawn) == {1010, -10}
    assert np.mean(drawn == 1010) == pytest.approx(0.01, abs=0.0015)


REDDI_KINDS = {
    "three": ({**THREE, "learning_rate": 0.5}, 10_000),
    "online": (
        {**REDDI, "learning_rate": 0.5, "decay": "sqrt_step", "beta_1": 0.9, "beta_2": 0.99},
        200_000,
    ),
    "stochastic": (
        {**REDDI, "learning_rate": 2.0, "decay": "sqrt_step", "beta_1": 0.9, "beta_2": 0.99},
        400_000,
    ),
}


@pytest.mark.parametrize("kind", REDDI_KINDS)
def test_adam_goes_to_the_worst_point_and_amsgrad_to_the_best(kind):
    settings, steps = REDDI_KINDS[kind]
    mean_slope = failures.KINDS[kind](3.0)
    adam = rows(failures.counterexample, settings, kind=kind, steps=steps)
    assert adam[-1]["x"] > 0.9
    assert adam[-1]["expected_regret"] > 0.9 * 2 * mean_slope
    amsgrad = rows(failures.counterexample, {**settings, "amsgrad": True}, kind=kind, steps=steps)
    assert amsgrad[-1]["x"] < -0.8
    assert amsgrad[-1]["expected_regret"] < 0.5 * adam[-1]["expected_regret"]


@pytest.mark.parametrize("bounds", ["clip", "wall"])
def test_the_theorems_inequality_is_violated(bounds):
    adam = rows(failures.counterexample, THREE, bounds=bounds, steps=20_000)
    ratio, t = column(adam, "regret_over_bound"), column(adam, "t")
    assert (ratio[t <= 100] < 1).all()
    assert (ratio[t >= 1_500] > 1).all()
    assert ratio[-1] > 4
    assert abs(adam[-1]["x"] - 1) < 0.02
    amsgrad = rows(failures.counterexample, {**THREE, "amsgrad": True}, bounds=bounds, steps=20_000)
    assert (column(amsgrad, "regret_over_bound") < 1).all()
    assert abs(amsgrad[-1]["x"] + 1) < 0.02


@pytest.mark.parametrize("wrong", [LatestMaximum, NoMaximum])
def test_amsgrad_needs_its_maximum(monkeypatch, wrong):
    monkeypatch.setattr(failures, "Adam", wrong)
    found = rows(failures.counterexample, {**THREE, "amsgrad": True}, steps=3_000)
    assert found[-1]["x"] > -0.5


# --- All of them ---

MEASUREMENTS = {
    "step_sizes": (stepsize.step_sizes, {"learning_rate": 0.01}, 100, SMALL),
    "moment_bias": (bias.moment_bias, {"learning_rate": 0.01}, 100, SMALL),
    "moment_bias in training": (
        bias.moment_bias,
        {"learning_rate": 0.01},
        100,
        {**SMALL, "parameters": "moving"},
    ),
    "regret": (theorem.regret, ONLINE, 50, {"train_examples": 200, "l2": 1e-2}),
    "regret, sparse": (theorem.regret, ONLINE, 1, {"problem": "sparse", "steps": 100}),
    "counterexample": (
        failures.counterexample,
        {**THREE, "learning_rate": 0.01},
        1,
        {"kind": "stochastic", "steps": 1_000},
    ),
}


@pytest.mark.parametrize("name", MEASUREMENTS)
def test_numbers_depend_on_the_seed_alone(name):
    measurement, settings, batch_size, options = MEASUREMENTS[name]
    first, again, other = (
        rows(measurement, settings, DATA, seed, batch_size, 1, **options) for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


@pytest.mark.parametrize(
    ("name", "option", "allowed"),
    [
        ("moment_bias", {"parameters": "fix"}, "fixed, moving, path"),
        ("drift", {"start": "one"}, "zero, optimum"),
        ("regret", {"problem": "quadratics"}, "logistic, quadratic, sparse, absolute"),
        ("counterexample", {"kind": "tree"}, "three, online, stochastic"),
        ("counterexample", {"bounds": "walls"}, "clip, wall"),
    ],
)
def test_unknown_options_are_refused(name, option, allowed):
    with pytest.raises(ValueError, match=f"is not valid for {name}: use one of {allowed}$"):
        registry.check_options(name, option)


def test_an_unknown_decay_is_refused():
    with pytest.raises(ValueError, match="unknown decay 'sqrt'"):
        rows(stepsize.constructed_steps, {"learning_rate": 0.1, "decay": "sqrt"})


def one_step(monkeypatch, curvature, target):
    """The first row of Theorem 4.1 on one quadratic function, from a start at zero."""
    game = games.Quadratics(np.array(curvature), np.array([target]), np.ones((1, len(target))))
    monkeypatch.setattr(theorem, "quadratics", lambda *_, **__: game)
    return rows(theorem.regret, PENCIL, problem="quadratic")[0]


def test_the_terms_of_the_bound_in_two_coordinates(monkeypatch):
    """Gradients -3 and -4, a box of 3 by 1: which norms and sums each term takes."""
    row = one_step(monkeypatch, [1.0, 4.0], [3.0, 1.0])
    assert (row["g_norm"], row["g_inf"]) == pytest.approx((5, 4))
    assert (row["d_norm"], row["d_inf"]) == pytest.approx((math.sqrt(10), 3))
    terms = [row[name] for name in ("distance_term", "gradient_term", "momentum_term")]
    assert terms == pytest.approx([35, 56, 18])


def test_the_box_of_iterates_ends_before_the_step(monkeypatch):
    assert one_step(monkeypatch, [1.0], [0.5])["d_inf"] == pytest.approx(0.5)


@pytest.mark.parametrize(("kind", "period"), [("three", 3), ("online", 101)])
def test_mean_slopes_are_those_of_the_functions(kind, period):
    cycle = list(itertools.islice(failures.slopes(kind, 0, 3.0), period))
    assert failures.KINDS[kind](3.0) == pytest.approx(np.mean(cycle))


def test_the_mean_slope_of_the_random_functions():
    assert failures.KINDS["stochastic"](3.0) == pytest.approx(0.01 * 1010 - 0.99 * 10)
