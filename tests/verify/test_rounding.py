"""What counts as rounding: a changed record is found, another processor's rounding is not."""

from __future__ import annotations

import copy
import dataclasses

import keras
import numpy as np
import pytest
from keras import ops

from experiments import pages
from experiments.methods import optimizers
from experiments.records.store import Store
from experiments.studies import STUDIES
from experiments.study import Run
from experiments.training import runtime
from experiments.training.train import train
from experiments.verify import rounding, sample

RUN = Run(
    problem="mnist_logistic_regression",
    options={"l2": 1e-2, "train_examples": 1_280},
    data="mnist-stand-in",
    optimizer="adam",
    settings={"learning_rate": 0.001},
    batch_size=128,
    epochs=4,
    seed=3,
)
RANDOM = np.random.default_rng(0)


def made(costs, held_out=None, diverged_at=None):
    costs = list(costs)
    metrics = {
        "training_cost": costs,
        "objective": [cost + 0.01 for cost in costs],
        "held_out_cost": list(held_out or (cost + 0.1 for cost in costs)),
        "held_out_accuracy": [0.9] * len(costs),
        "seconds": [1.0] * len(costs),
    }
    return {"metrics": metrics, "diverged_at": diverged_at}


def nudged(record, relative):
    """As another processor would round: everything a little off."""
    other = copy.deepcopy(record)
    for name in rounding.COSTS:
        values = other["metrics"][name]
        values[:] = [v * (1 + relative * RANDOM.choice([-1, 1])) for v in values]
    return other


COSTS = [0.9, 0.5, 0.4, 0.3]


def test_what_is_no_longer_recorded_is_missed():
    record = made(COSTS)
    record["metrics"]["step_signal"] = [0.1] * 4
    assert rounding.compare(RUN, record, made(COSTS)).fault == "it does not record step_signal here"
    ended = made([], diverged_at=0)  # which records its costs only, and diverges, which is worse
    assert "diverges in pass 1 here" in rounding.compare(RUN, record, ended).fault


def test_equal_bits_agree():
    found = rounding.compare(RUN, made(COSTS), made(COSTS))
    assert (found.passes, found.equal, found.largest, found.fault) == (4, 4, 0.0, "")


@pytest.mark.parametrize("name", rounding.COSTS)
@pytest.mark.parametrize("i", range(4))
def test_a_record_changed_in_one_pass_is_found_and_named(name, i):
    """By one part in ten thousand, where the machine rounds as the record's did: no doubt."""
    record = made(COSTS)
    record["metrics"][name][i] *= 1.0001
    found = rounding.compare(RUN, record, made(COSTS))
    assert found.fault.startswith(f"{name} of pass {i + 1} is ")
    assert not found.doubtful
    assert found.equal == 3


@pytest.mark.parametrize("i", range(4))
def test_it_is_found_on_another_processor_too(i):
    """In a convex problem, where rounding alone changes every number."""
    record = nudged(made(COSTS), 1e-7)
    record["metrics"]["training_cost"][i] *= 1.0001
    twins = [nudged(made(COSTS), 3e-7) for _ in range(2)]
    assert rounding.compare(RUN, record, made(COSTS)).doubtful
    found = rounding.compare(RUN, record, made(COSTS), twins)
    assert f"training_cost of pass {i + 1}" in found.fault


@pytest.mark.parametrize("relative", [1e-9, 1e-8, 5e-7])
def test_rounding_is_no_disagreement_and_needs_no_twins(relative):
    found = rounding.compare(RUN, nudged(made(COSTS), relative), made(COSTS))
    assert found.fault == ""
    assert not found.doubtful
    assert 0 < found.largest < 1e-6


def test_a_chaotic_run_is_held_to_its_order_of_magnitude():
    now, twins = made([1697.0, 384.0]), [made([1640.0, 380.0]), made([1720.0, 391.0])]
    for factor, fault in ((0.94, ""), (3.0, ""), (30.0, "pass 1"), (1 / 30, "pass 1")):
        record = made([1697.0 * factor, 384.0 * factor])
        assert rounding.compare(RUN, record, now).doubtful
        found = rounding.compare(RUN, record, now, twins)
        assert fault in found.fault if fault else not found.fault
        assert found.chaotic == 2


def test_fates_are_compared_within_the_passes_that_were_trained():
    ends, goes_on = made(COSTS[:2], diverged_at=2), made(COSTS)
    assert not rounding.compare(RUN, ends, made(COSTS[:2])).fault  # not trained that far
    assert not rounding.compare(RUN, ends, ends).fault
    assert rounding.compare(RUN, ends, goes_on).doubtful
    found = rounding.compare(RUN, ends, goes_on, [goes_on, goes_on])
    assert "does not diverge here and diverges in pass 3" in found.fault
    assert not rounding.compare(RUN, ends, goes_on, [goes_on, ends]).fault  # twins differ as well


def test_a_network_has_its_usual_growth_and_a_backend_its_own_rounding():
    network = dataclasses.replace(RUN, problem="mnist_multilayer")
    record = nudged(made(COSTS), 3e-3)
    assert not rounding.compare(network, record, made(COSTS)).doubtful
    assert rounding.compare(RUN, record, made(COSTS)).doubtful
    record = nudged(made(COSTS), 4e-5)
    assert rounding.compare(RUN, record, made(COSTS)).doubtful
    assert not rounding.compare(RUN, record, made(COSTS), same_backend=False).doubtful


@pytest.mark.parametrize(
    ("problem", "options", "drawn"),
    [
        ("mnist_logistic_regression", {}, False),
        ("mnist_logistic_regression", {"initial_stddev": 0.1}, True),
        ("imdb_logistic_regression", {}, False),
        ("imdb_logistic_regression", {"dropout": 0.5}, True),
        ("imbalance", {}, False),
        ("mnist_multilayer", {}, True),
        ("mnist_variational", {}, True),
        ("cifar10_convolutional", {}, True),
        ("regret", {}, False),
    ],
)
def test_another_backend_draws_other_numbers(problem, options, drawn):
    run = dataclasses.replace(RUN, problem=problem, options=options)
    assert rounding.draws(run) == drawn
    tensorflow, numpy = ({"manifest": {"backend": name}} for name in ("tensorflow", "numpy"))
    assert sample.comparable(run, tensorflow, "tensorflow")
    assert sample.comparable(run, tensorflow, "jax") != drawn
    if problem == "regret":
        assert sample.comparable(run, numpy, "jax")


# --- wrong Adams ----------------------------------------------------------------------------------

# The mistakes of tests/adam_tf/test_mutations.py that show in a run's costs. Those of options that
# these runs lack do not; nor does what changes less than another processor's rounding: the learning
# rate or the betas rounded to float32, and where or how large an epsilon of 1e-8 is (1e-6 to 2e-5).
MISTAKES = (
    "no bias correction",
    "no correction of m",
    "no correction of v",
    "correction with t + 1",
    "epsilon inside the root",
    "betas swapped",
    "beta_2 = 0.99",
    "beta_1 = 0.95",
    "centred second moment",
    "Nesterov",
    "moments of the previous step",
)


class Wrong(keras.optimizers.Optimizer):
    """Algorithm 1 with a mistake; names as in tests/adam_tf/test_mutations.py."""

    def __init__(self, learning_rate, mistake):
        super().__init__(learning_rate=learning_rate)
        self.mistake = mistake

    def build(self, variables):
        super().build(variables)
        self.m = [self.add_variable_from_reference(v, "m") for v in variables]
        self.v = [self.add_variable_from_reference(v, "v") for v in variables]

    def update_step(self, g, variable, learning_rate):
        i, is_ = self._get_variable_index(variable), self.mistake
        t = ops.cast(self.iterations + 1, "float32")
        late = t + 1 if is_ == "correction with t + 1" else t
        beta_1 = {"betas swapped": 0.999, "beta_1 = 0.95": 0.95}.get(is_, 0.9)
        beta_2 = {"betas swapped": 0.9, "beta_2 = 0.99": 0.99}.get(is_, 0.999)
        old_m, old_v = ops.copy(self.m[i]), ops.copy(self.v[i])
        m = beta_1 * old_m + (1 - beta_1) * g
        v = beta_2 * old_v + (1 - beta_2) * ops.square(g - m if "centred" in is_ else g)
        self.m[i].assign(m)
        self.v[i].assign(v)
        if is_ == "moments of the previous step":
            m, v = old_m, old_v
        if is_ == "Nesterov":
            m = beta_1 * m + (1 - beta_1) * g
        if is_ not in ("no bias correction", "no correction of m"):
            m = m / (1 - beta_1**late)
        if is_ not in ("no bias correction", "no correction of v"):
            v = v / (1 - beta_2**late)
        inside = is_ == "epsilon inside the root"
        step = m / (ops.sqrt(v + 1e-8) if inside else ops.sqrt(v) + 1e-8)
        variable.assign_sub(ops.cast(learning_rate, "float32") * step)


def sampled() -> Run:
    """The first Adam that `make reproduce` trains again, on fewer examples and for two passes."""
    items = sample.items([pages.published(STUDIES["fig1-mnist"])])
    item = next(item for item in items if item.run.optimizer == "adam")
    assert item.level == 1  # which the default time holds: see test_command.py
    few = {**item.run.options, "train_examples": 1_280, "held_out_examples": 500}
    return dataclasses.replace(item.run, data="mnist-stand-in", options=few, epochs=2)


@pytest.fixture(scope="module")
def right(tmp_path_factory):
    """The run, its record, and those of its twins."""
    runtime.configure()
    folder, run = tmp_path_factory.mktemp("right"), sampled()
    return run, [train(run, Store(folder / str(twin)), twin=twin) for twin in (0, 1, 2)]


def test_twins_stay_near_a_regular_run_and_are_never_it(right):
    run, (record, *twins) = right
    for twin in twins:
        found = rounding.compare(run, record, twin)
        assert 0 < found.largest < 2e-6
        assert found.fault == ""


@pytest.mark.parametrize("mistake", ["none", *MISTAKES])
def test_a_wrong_adam_is_found(right, mistake, tmp_path, monkeypatch):
    run, (record, *_) = right
    monkeypatch.setattr(
        "experiments.methods.optimizers.build",
        lambda name, settings, steps: Wrong(
            optimizers.schedule(settings["learning_rate"], settings["decay"], steps), mistake
        ),
    )
    again = train(run, Store(tmp_path))
    twins = [nudged(again, 2e-6) for _ in range(2)]  # farther than twins of this run are
    found = rounding.compare(run, record, again, twins)
    assert bool(found.fault) == (mistake != "none"), found


@pytest.mark.parametrize("name", rounding.COARSE)
@pytest.mark.parametrize(("times", "wrong"), [(0, False), (0.9, False), (1.1, True), (-1.1, True)])
def test_a_few_drawn_images_may_change_sides(name, times, wrong):
    """Where weights differ by rounding alone; shares of thousands of examples are held to 1e-3."""
    run = dataclasses.replace(RUN, problem="mnist_diffusion", options={"train_examples": 9_600})
    record, again = nudged(made(COSTS), 1e-9), made(COSTS)
    off = times * {"read_as_digits": 0.1, "real_read_as_digits": 0.02}[name]
    record["metrics"][name], again["metrics"][name] = [0.3] * 4, [0.3 + off] * 4
    found = rounding.compare(run, record, again, [again, again])
    assert bool(found.fault) == wrong
    again["metrics"][name] = [0.3] * 4
    again["metrics"]["held_out_accuracy"] = [0.9 + off] * 4
    assert bool(rounding.compare(run, record, again, [again, again]).fault) == (times != 0)
