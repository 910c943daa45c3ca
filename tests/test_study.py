"""What a study declares, and the runs that follow from it."""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any

import made_up
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import MadeUp

from experiments import study
from experiments.analysis.results import Results
from experiments.methods import optimizers
from experiments.paper import curves as digitised
from experiments.plan import lattice, plan
from experiments.studies import STUDIES
from experiments.study import Profile, Run, final_cost

FIG1 = dataclasses.replace(  # with a profile that these tests can count on
    STUDIES["fig1-mnist"],
    profiles=STUDIES["fig1-mnist"].profiles
    | {"quick": Profile(epochs=46, seeds=3, points_per_decade=2, window=5)},
)
RUN = Run(
    problem="mnist_logistic_regression",
    options={"l2": 1e-4, "train_examples": 60_000},
    data="mnist",
    optimizer="adam",
    settings={"learning_rate": 0.001, "decay": "sqrt_epoch"},
    batch_size=128,
    epochs=46,
    seed=0,
)


ROLES = ("matched", "tuning", "fit", "departure")


def fake(cost) -> MadeUp:
    """Records of runs whose final cost is a function of the run."""

    def make(run: Run):
        end = cost(run)
        return made_up.AT_ONCE if math.isinf(end) else made_up.of_cost([9.0, end])

    return MadeUp(make)


def valley(best: dict[str, float]):
    """Costs with one minimum, at a learning rate that depends on the optimizer."""

    def cost(run: Run) -> float:
        distance = abs(math.log10(run.settings["learning_rate"] / best[run.optimizer]))
        return distance + 0.01 * (run.settings.get("decay") == "constant")

    return cost


def complete(records: MadeUp, profile: str = "quick", **arguments):
    """Train and plan until nothing is missing; every round's plan."""
    plans = [plan(FIG1, profile, "mnist", records, **arguments)]
    while missing := plans[-1].missing(records):
        records.train(missing)
        plans.append(plan(FIG1, profile, "mnist", records, **arguments))
        assert len(plans) < 40
    return plans


def rates(found, arm: str) -> list[float]:
    """The learning rates of an arm's tuning grid, from the smallest."""
    tried = (e.run for e in found.entries if (e.role, e.arm) == ("tuning", arm))
    return sorted({run.settings["learning_rate"] for run in tried})


def trials(found, arm: str) -> set[str]:
    return {e.trial for e in found.entries if e.role == "tuning" and e.arm == arm}


def test_the_id_of_a_published_configuration_stays():
    # A change here orphans every published record: bump NUMERICS instead if numbers changed.
    assert RUN.id == "fa7b730274477b8a"


@pytest.mark.parametrize(
    "change",
    [
        {"options": {"l2": 0.0, "train_examples": 60_000}},
        {"data": "mnist-stand-in"},
        {"optimizer": "adagrad"},
        {"settings": {"learning_rate": 0.001}},
        {"batch_size": 64},
        {"epochs": 45},
        {"seed": 1},
    ],
)
def test_the_id_depends_on_every_field(change):
    assert dataclasses.replace(RUN, **change).id != RUN.id


@pytest.mark.parametrize("part", ["training", "adam", "mnist_logistic_regression"])
def test_a_new_numerics_version_gives_a_new_id(monkeypatch, part):
    before = RUN.id  # a run keeps its id: the others are new runs of the same configuration
    monkeypatch.setitem(study.NUMERICS, part, 2)
    assert dataclasses.replace(RUN).id != before
    monkeypatch.setitem(study.NUMERICS, part, 1)
    assert dataclasses.replace(RUN).id == before


def test_the_id_ignores_the_order_of_settings():
    swapped = dict(reversed(RUN.settings.items()))
    assert dataclasses.replace(RUN, settings=swapped).id == RUN.id


def test_a_configuration_gives_its_run_back():
    assert Run.from_config(RUN.config()) == RUN


@pytest.mark.parametrize("name", STUDIES)
def test_the_declared_settings_are_among_the_fitted_ones(name):
    for arm in STUDIES[name].arms:
        if arm.fit:
            assert arm.plotted
            assert dict(arm.matched) in study.combinations(arm.fit)


@pytest.mark.parametrize("name", STUDIES)
def test_every_study_has_the_three_profiles(name):
    assert list(STUDIES[name].profiles) == ["smoke", "quick", "paper"]
    assert STUDIES[name].profiles["paper"].seeds >= 3


@pytest.mark.parametrize("name", STUDIES)
def test_every_arm_has_the_same_number_of_trials(name):
    counts = {
        math.prod(len(v) for k, v in arm.tune.items() if k != "learning_rate")
        for arm in STUDIES[name].arms
        if arm.tune
    }
    assert len(counts) <= 1
    for arm in STUDIES[name].arms:
        if arm.batch_size:  # what was not asked at the defaults is only tuned
            assert arm.tune
            assert not any((arm.matched, arm.grid, arm.fit))
            continue
        assert bool(arm.matched) != bool(arm.grid)
        assert arm.matched or not (arm.tune or arm.fit)
        tunable = "learning_rate" in arm.matched and arm.name != "Adam+dropout"
        assert bool(arm.tune) == tunable or name != "fig2-sfo"


@pytest.mark.parametrize("name", STUDIES)
def test_every_declared_run_is_valid(name):
    for profile in STUDIES[name].profiles:
        found = plan(STUDIES[name], profile, STUDIES[name].data_set, {})
        assert found.runs()
        measured = STUDIES[name].measured
        assert measured or all("train_examples" in run.options for run in found.runs())
        assert all(Run.from_config(run.config()) == run for run in found.runs()[:3])


@pytest.mark.parametrize("name", STUDIES)
def test_every_plotted_arm_has_its_curve_and_no_other_has(name):
    for panel, arm in itertools.product(STUDIES[name].panels, STUDIES[name].arms):
        curves = [f"{n}ep/{arm.name}" for n in (10, 100)] if arm.grid else [arm.name]
        in_paper = any(digitised.shows(panel.name, curve) for curve in curves)
        assert in_paper == arm.plotted, (panel.name, arm.name)


VARIANTS = dataclasses.replace(
    FIG1,
    arms=(
        dataclasses.replace(FIG1.arms[2], name="Adam+dropout", options={"initial_stddev": 0.5}),
        FIG1.arms[2],
    ),
    departures=(),
)


def test_an_arm_is_its_method_in_a_variant_of_the_problem():
    noisy, clean = VARIANTS.arms
    assert (noisy.method, noisy.variant, clean.method, clean.variant) == (
        "Adam",
        "dropout",
        "Adam",
        "",
    )
    found = plan(VARIANTS, "quick", "mnist", {})
    options = {e.arm: e.run.options for e in found.entries}
    assert options["Adam+dropout"] == {**options["Adam"], "initial_stddev": 0.5}


@pytest.mark.parametrize(
    ("study", "arm", "expected"),
    [
        ("fig1-mnist", "Adam", dict(FIG1.arm("Adam").matched)),
        ("fig2-sfo-cost", "SFO/50", {"minibatches": 50}),
        ("batches-gpt", "SGD+batches of 4", {"learning_rate": 0.1, "momentum": 0.0}),
    ],
)
def test_an_arms_declared_settings_are_whole(study, arm, expected):
    """What a user's own settings are laid over: SGD must not get momentum by default."""
    assert STUDIES[study].arm(arm).declared == expected


@pytest.mark.parametrize("name", STUDIES)
def test_every_arm_can_be_run_as_declared(name):
    study = STUDIES[name]
    for arm in study.arms:
        run = study.run(arm, arm.declared, profile=study.profile("smoke"), data="none", seed=0)
        assert set(arm.tune) <= set(run.settings)


def test_an_arm_may_have_batches_of_its_own_size():
    arm = dataclasses.replace(VARIANTS.arms[1], batch_size=4)
    study = dataclasses.replace(VARIANTS, arms=(VARIANTS.arms[0], arm))
    found = plan(study, "quick", "mnist", {})
    sizes = {entry.arm: entry.run.batch_size for entry in found.entries}
    assert sizes == {"Adam+dropout": VARIANTS.batch_size, "Adam": 4}
    for arm in STUDIES["batches-gpt"].arms:
        assert arm.variant == f"batches of {arm.batch_size}"


def test_stages_train_every_reported_run_to_shorter_lengths_first():
    size = dataclasses.replace(FIG1.profiles["quick"], stages=(4,))
    staged = dataclasses.replace(FIG1, profiles={"quick": size})
    records = fake(valley({"adam": 0.003, "adagrad": 0.3, "sgd_nesterov": 0.1}))
    first = plan(staged, "quick", "mnist", records)
    assert first.later == 3 * size.seeds * 2
    found = records.complete(staged, "quick", "mnist")
    for role in ("matched", "tuned"):
        for arm in staged.arms:
            runs = [e.run for e in found.entries if (e.role, e.arm) == (role, arm.name)]
            assert [(run.epochs, run.seed) for run in runs] == [
                (epochs, seed) for epochs in (4, size.epochs) for seed in range(size.seeds)
            ]
    assert {e.run.epochs for e in found.entries if e.role == "tuning"} == {size.epochs}


def test_fewer_seeds_may_be_trained_to_the_full_length():
    size = dataclasses.replace(FIG1.profiles["quick"], stages=(4,), seeds=3, whole_seeds=2)
    staged = dataclasses.replace(FIG1, profiles={"quick": size})
    records = fake(valley({"adam": 0.003, "adagrad": 0.3, "sgd_nesterov": 0.1}))
    assert plan(staged, "quick", "mnist", records).later == 3 * (3 + 2)
    found = records.complete(staged, "quick", "mnist")
    for role in ("matched", "tuned"):
        for arm in staged.arms:
            runs = [e.run for e in found.entries if (e.role, e.arm) == (role, arm.name)]
            expected = [(4, 0), (4, 1), (4, 2), (size.epochs, 0), (size.epochs, 1)]
            assert [(run.epochs, run.seed) for run in runs] == expected
    assert [size.seeds_to(passes) for passes in (1, 4, 5, size.epochs)] == [3, 3, 2, 2]
    assert "2 seeds (3 up to pass 4)" in Results(staged, "quick", "mnist", records, found).label
    whole = dataclasses.replace(size, whole_seeds=None)
    assert [whole.seeds_to(passes) for passes in (1, 5)] == [3, 3]


def test_tuning_and_fitting_may_take_fewer_passes():
    size = dataclasses.replace(FIG1.profiles["paper"], tuning_epochs=7, fit_epochs=5)
    short = dataclasses.replace(FIG1, profiles={"paper": size})
    found = plan(short, "paper", "mnist", {})
    epochs = {role: {e.run.epochs for e in found.entries if e.role == role} for role in ROLES}
    assert epochs == {"matched": {46}, "tuning": {7}, "fit": {5}, "departure": {5}}


def test_a_grid_trains_every_setting_a_seed_at_a_time():
    fig4 = STUDIES["fig4"]
    found = plan(fig4, "paper", "mnist", {})
    assert {entry.role for entry in found.entries} == {"grid"}
    assert not found.selected
    assert found.later == 0
    runs = [(e.run.epochs, e.run.seed) for e in found.entries]
    assert runs == sorted(runs)
    assert len(found.runs()) == 2 * 3 * 12 * 9
    settings = {tuple(e.run.settings.values()) for e in found.entries}
    assert len(settings) == 12 * 9
    smoke = plan(fig4, "smoke", "mnist", {})
    assert {e.run.settings["learning_rate"] for e in smoke.entries} == {1e-3}
    assert len(smoke.runs()) == 12


def test_a_grid_grows_no_more_often_than_its_profile_allows():
    size = dataclasses.replace(FIG1.profiles["smoke"], rounds=1)
    bounded = dataclasses.replace(FIG1, profiles={"smoke": size})
    records = fake(lambda run: run.settings["learning_rate"])
    found = records.complete(bounded, "smoke", "mnist")
    assert len(rates(found, "Adam")) == size.window + 1
    assert set(found.on_edge) == {arm.name for arm in FIG1.arms}


def test_the_grid_starts_centred_and_waits_for_its_records():
    found = plan(FIG1, "quick", "mnist", {})
    assert rates(found, "Adam") == [0.0001, 0.0003162, 0.001, 0.003162, 0.01]
    assert found.selected == {}
    assert found.later == 3 * FIG1.profiles["quick"].seeds
    assert {entry.role for entry in found.entries} == {"matched", "tuning"}


def test_tuning_selects_the_best_and_reports_it_on_fresh_seeds():
    records = fake(valley({"adam": 0.003, "adagrad": 0.3, "sgd_nesterov": 0.1}))
    found = complete(records)[-1]
    assert found.selected["Adam"] == {"learning_rate": 0.003162, "decay": "sqrt_epoch"}
    assert found.selected["AdaGrad"] == {"learning_rate": 0.3162, "decay": "sqrt_epoch"}
    assert found.on_edge == ()
    seeds = {
        role: {e.run.seed for e in found.entries if e.role == role} for role in ("tuning", "tuned")
    }
    assert seeds["tuned"] == set(range(FIG1.profiles["quick"].seeds))
    assert not seeds["tuned"] & seeds["tuning"]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-6, 2), min_size=3, max_size=3))
def test_grids_grow_alike_until_every_best_is_interior(exponents):
    names = ("adam", "adagrad", "sgd_nesterov")
    records = fake(valley({n: 10**e for n, e in zip(names, exponents, strict=True)}))
    for found in complete(records, "smoke"):
        assert len({len(trials(found, arm.name)) for arm in FIG1.arms}) == 1
    assert found.on_edge == ()
    for arm in FIG1.arms:
        low, *_, high = rates(found, arm.name)
        assert low < found.selected[arm.name]["learning_rate"] < high


def test_a_grid_that_never_ends_is_reported_as_on_its_edge():
    records = fake(lambda run: run.settings["learning_rate"])  # smaller is always better
    found = complete(records, "smoke")[-1]
    assert set(found.on_edge) == {arm.name for arm in FIG1.arms}
    smoke = FIG1.profiles["smoke"]
    assert len(rates(found, "Adam")) == smoke.window + smoke.rounds


def test_a_diverged_trial_is_the_worst():
    def cost(run: Run) -> float:
        return math.inf if run.settings["learning_rate"] > 0.02 else -run.settings["learning_rate"]

    found = complete(fake(cost), "smoke")[-1]
    assert all(chosen["learning_rate"] == 0.01 for chosen in found.selected.values())


def test_trials_are_scored_by_their_mean_over_tuning_seeds():
    # At one seed 0.001 wins by far; on average 0.003162 does.
    def cost(run: Run) -> float:
        rate = run.settings["learning_rate"]
        if rate == 0.001:
            return 0.0 if run.seed == study.FIRST_TUNING_SEED else 1.0
        return 0.5 + abs(math.log10(rate / 0.003162))

    found = complete(fake(cost), "paper", protocols=("tuned",))[-1]
    assert found.selected["Adam"]["learning_rate"] == 0.003162


def test_the_fit_and_the_departures_belong_to_the_paper_profile_alone():
    roles = {
        profile: {e.role for e in plan(FIG1, profile, "mnist", {}).entries}
        for profile in FIG1.profiles
    }
    assert {"fit", "departure"} <= roles["paper"]
    assert roles["quick"] == roles["smoke"] == {"matched", "tuning"}


def test_only_the_asked_protocol_is_planned():
    records: dict[str, Any] = {}
    assert {e.role for e in plan(FIG1, "quick", "mnist", records, ["matched"]).entries} == {
        "matched"
    }
    assert {e.role for e in plan(FIG1, "quick", "mnist", records, ["tuned"]).entries} == {"tuning"}


def test_equal_runs_are_planned_once():
    found = plan(FIG1, "paper", "mnist", {})
    assert len(found.runs()) < len(found.entries)
    assert len({run.id for run in found.runs()}) == len(found.runs())


@given(st.integers(-40, 10), st.integers(1, 8))
def test_the_lattice_is_logarithmic(k, density):
    assert lattice(k + density, density) == pytest.approx(10 * lattice(k, density), rel=1e-3)


@pytest.mark.parametrize(
    ("record", "cost"),
    [
        (None, None),
        ({"status": "diverged", "metrics": {"training_cost": [1.0]}}, math.inf),
        ({"status": "finished", "metrics": {"training_cost": [1.0, 0.5]}}, 0.5),
    ],
)
def test_final_cost(record, cost):
    assert final_cost(record) == cost


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        (
            {"learning_rat": 0.1},
            "unknown parameter of adam 'learning_rat': did you mean learning_rate",
        ),
        (
            {"learning_rate": -0.1},
            "learning_rate=-0.1 is not valid for adam: use a finite number > 0",
        ),
        ({"learning_rate": 0}, "learning_rate=0 is not valid"),
        (
            {"learning_rate": math.nan},
            "learning_rate=nan is not valid for adam: use a finite number",
        ),
        ({"learning_rate": math.inf}, "use a finite number"),
        ({"learning_rate": True}, "use a finite number"),
        ({"learning_rate": "fast"}, "learning_rate='fast' is not valid"),
        (
            {"learning_rate": 0.1, "beta_1": 1.0},
            r"beta_1=1.0 is not valid for adam: use .* \[0, 1\)",
        ),
        ({"learning_rate": 0.1, "beta_2": -0.1}, r"beta_2=-0.1 .* \[0, 1\)"),
        ({"learning_rate": 0.1, "epsilon": -1e-8}, "epsilon=-1e-08 is not valid"),
        (
            {"learning_rate": 0.1, "decay": "sqrt"},
            "decay='sqrt' .* constant, sqrt_epoch, sqrt_step",
        ),
        ({"learning_rate": 0.1, "bias_correction": 1}, "bias_correction=1 .* True, False"),
        ({"beta_1": 0.9}, "adam needs a learning_rate"),
        (
            {"learning_rate": 0.1, "warmup_steps": 0.5},
            "warmup_steps=0.5 .* number, 0 or more",
        ),
        ({"learning_rate": 0.1, "warmup_steps": -1}, "warmup_steps=-1 .* number, 0 or more"),
        ({"learning_rate": 0.1, "warmup": 9}, "'warmup': did you mean warmup_steps"),
        (
            {"learning_rate": 0.1, "warmup_steps": 9, "decay": "sqrt_step"},
            "adam warms up to a constant rate: use decay=constant, or leave out warmup_steps",
        ),
    ],
)
def test_bad_settings_are_refused_in_one_line(chosen, message):
    with pytest.raises(ValueError, match=message) as caught:
        optimizers.check_settings("adam", chosen)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: FIG1.arm("Adm"), "unknown arm 'Adm': did you mean Adam"),
        (lambda: FIG1.profile("quik"), "unknown profile 'quik': did you mean quick"),
        (lambda: plan(FIG1, "papr", "mnist", {}), "unknown profile 'papr'"),
        (lambda: optimizers.check_settings("adma", {}), "unknown optimizer 'adma': did you mean"),
    ],
)
def test_unknown_names_are_refused_with_the_nearest(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_options_of_a_problem_are_checked():
    arm, profile = FIG1.arms[0], FIG1.profiles["smoke"]
    settings = {"learning_rate": 0.1}
    for options, message in (
        ({"l3": 1.0}, "unknown option of mnist_logistic_regression 'l3': did you mean l2"),
        ({"l2": -1.0}, "l2=-1.0 is not valid"),
        ({"l2": math.nan}, "l2=nan is not valid"),
    ):
        with pytest.raises(ValueError, match=message):
            FIG1.run(arm, settings, profile=profile, data="mnist", seed=0, options=options)
    fig3 = STUDIES["fig3"]
    for options, message in (
        ({"whitening": "pca"}, "whitening='pca' is not valid .* use one of zca, channel, none"),
        ({"padding": 1}, "padding=1 is not valid"),
        ({"hidden_dropout": 1.0}, r"hidden_dropout=1.0 is not valid .* \[0, 1\)"),
    ):
        arm, profile = fig3.arms[0], dataclasses.replace(fig3.profiles["smoke"], options={})
        with pytest.raises(ValueError, match=message):
            fig3.run(arm, settings, profile=profile, data="cifar10", seed=0, options=options)
    arm, profile = FIG1.arms[0], FIG1.profiles["smoke"]
    for options, message in (({"l2": -2.0}, "l2=-2.0 is not valid"),):
        with pytest.raises(ValueError, match=message):
            FIG1.run(arm, settings, profile=profile, data="mnist", seed=0, options=options)
