"""The search by successive halving: who is promoted, when it grows, what it selects."""

from __future__ import annotations

import dataclasses
import math

import made_up
import pytest
from made_up import MadeUp

from experiments import search
from experiments.analysis.results import Results
from experiments.engines.execution import complete
from experiments.engines.runs import Result, RunsFailed
from experiments.paper import curves as digitised
from experiments.plan import plan
from experiments.records.store import Store
from experiments.search import neighbour
from experiments.studies import STUDIES
from experiments.study import Run

BASE = STUDIES["fig2-dropout"]
RUNGS = (8, 40, 200)
PAPER = dataclasses.replace(
    BASE.profile("paper"), rungs=RUNGS, searching=False, rounds=4, seeds=2, stages=()
)
STUDY = dataclasses.replace(BASE, profiles={"paper": PAPER})


def rates(found, arm: str, role: str) -> set[float]:
    """The learning rates that were tried for an arm."""
    tried = (e.run for e in found.entries if (e.role, e.arm) == (role, arm))
    return {run.settings["learning_rate"] for run in tried}


def costing(cost, only=math.inf) -> MadeUp:
    """Records whose cost is a known function of a run, of runs of at most so many passes."""
    return MadeUp(lambda run: None if run.epochs > only else made_up.of_cost(cost(run)))


@pytest.fixture
def found(monkeypatch):
    """A search in which the runs that `study.run` declares have records."""

    def run_search(cost, study=STUDY, only=math.inf):
        records = costing(cost, only)
        make = type(study).run

        def remember(self, *args, **kwargs):
            run = make(self, *args, **kwargs)
            records.train([run])
            return run

        monkeypatch.setattr(type(study), "run", remember)
        return plan(study, "paper", "mnist", records, ("tuned",))

    return run_search


def middle(run: Run) -> float:
    """A valley in the logarithm of the rate: the second rate of each decay is nearest."""
    best = {"constant": -3.5, "sqrt_epoch": -3.0, "sqrt_step": -2.0}[
        run.settings.get("decay", "constant")
    ]
    scale = {"adagrad": 1.5, "rmsprop": 0.0, "sgd_nesterov": 2.0, "adadelta": 3.0, "adam": 0.0}
    off = math.log10(run.settings["learning_rate"]) - best - scale[run.optimizer]
    if run.settings.get("momentum") in (0.9, 0.99) and run.optimizer == "rmsprop":
        off += 1
    if run.settings.get("momentum") == 0.99:
        off += 1
    return abs(off)


def falling(run: Run) -> list[float]:
    return [(0.2 + middle(run)) / (1 + t) for t in range(run.epochs)]


def test_a_third_is_promoted_and_every_arm_has_the_same_numbers(found):
    plan = found(falling)
    runs = {}
    for entry in plan.entries:
        if entry.role == "search":
            runs.setdefault(entry.arm, {}).setdefault(entry.run.epochs, set()).add(entry.trial)
    firsts = {len(by_rung[8]) for by_rung in runs.values()}
    assert len(firsts) == 1
    (number,) = firsts
    assert number >= 12
    for by_rung in runs.values():
        assert by_rung[8] > by_rung[40] > by_rung[200]
        for passes, share in ((40, 3), (200, 9)):
            # Two rankings promote a third each, and may agree; what was added may come on top.
            least = math.ceil(number / share)
            assert least <= len(by_rung[passes]) <= 2 * least + number - 12


def test_the_selected_candidate_is_the_best_at_the_whole_length_and_interior(found):
    plan = found(falling)
    assert plan.on_edge == ()
    for arm, settings in plan.selected.items():
        trials = [e.run for e in plan.entries if (e.role, e.arm) == ("search", arm)]
        last = [run for run in trials if run.epochs == 200]
        assert min(map(middle, trials)) == pytest.approx(
            min(middle(run) for run in last if run.settings == settings)
        )
        rates = {
            run.settings["learning_rate"]
            for run in trials
            if {**run.settings, "learning_rate": 0} == {**settings, "learning_rate": 0}
        }
        assert min(rates) < settings["learning_rate"] < max(rates)


def test_late_winners_are_found_at_the_whole_length(found):
    """A candidate that is third at the first rung and best in the end is selected."""

    def crossing(run: Run) -> list[float]:
        slow = run.settings.get("decay") == "sqrt_epoch"
        speed = 0.02 if slow else 0.012
        return [
            (1 + middle(run)) * (1.05 if slow else 1.0) * math.exp(-speed * t)
            for t in range(run.epochs)
        ]

    plan = found(crossing)
    assert {settings["decay"] for settings in plan.selected.values()} == {"sqrt_epoch"}


def test_the_nearest_is_the_nearest_to_the_papers_curve(found):
    chosen = {"learning_rate": 0.001, "decay": "sqrt_epoch"}

    def like_paper(run: Run) -> list[float]:
        factor = 1.0 if dict(run.settings) == chosen else 0.5 + middle(run) / 10
        paper = digitised.points("fig2a", "Adam")
        return [factor * paper.get(float(t), paper[3.0]) for t in range(run.epochs)]

    plan = found(like_paper)
    assert dict(plan.nearest["Adam"]) == chosen
    assert dict(plan.selected["Adam"]) != chosen


def test_nothing_is_selected_before_the_last_rung_is_whole(found):
    plan = found(falling, only=40)
    assert plan.selected == {}
    assert plan.nearest == {}
    assert not any(entry.role == "tuned" for entry in plan.entries)
    missing = [entry.run for entry in plan.entries if entry.run.epochs == 200]
    assert missing
    assert found(falling, only=0).later > len(BASE.arms) * (4 + 2)


def test_a_best_at_the_end_makes_every_arm_grow(found):
    """Adam's cost falls with the rate: its grid grows upwards as long as it may, and it is said."""

    def runaway(run: Run) -> list[float]:
        cost = falling(run)
        return (
            [c / run.settings["learning_rate"] for c in cost] if run.optimizer == "adam" else cost
        )

    plan = found(runaway)
    assert plan.on_edge == ("Adam",)
    number = {
        arm.name: len({e.trial for e in plan.entries if (e.role, e.arm) == ("search", arm.name)})
        for arm in BASE.arms
    }
    assert set(number.values()) == {12 + PAPER.rounds}
    assert max(rates(plan, "Adam", "search")) > 0.1
    # Even so, every arm is selected among the runs of the whole length.
    for arm, settings in plan.selected.items():
        searched = [e.run for e in plan.entries if (e.role, e.arm) == ("search", arm)]
        assert {run.epochs for run in searched} == set(RUNGS)
        assert settings in [run.settings for run in searched if run.epochs == 200]


def late(run: Run) -> list[float]:
    """Smaller steps are slower and end lower: 3e-4 leads after 40 passes, 1e-4 after 200."""
    if run.optimizer != "adam":
        return falling(run)
    if run.settings.get("decay") != "sqrt_epoch":
        return [1e3 * cost for cost in falling(run)]
    speed = run.settings["learning_rate"] / 1e-4
    return [0.02 * speed + math.exp(-speed * t / 30) for t in range(run.epochs)]


def test_the_neighbours_of_the_selected_candidate_are_judged_at_the_whole_length(found):
    """Added at an edge or dropped at a shorter rung, where they were behind."""
    plan = found(late)
    for arm, settings in plan.selected.items():
        lengths: dict[float, set[int]] = {}
        for entry in plan.entries:
            others = {**entry.run.settings, "learning_rate": settings["learning_rate"]}
            if (entry.role, entry.arm) == ("search", arm) and others == dict(settings):
                rate = entry.run.settings["learning_rate"]
                lengths.setdefault(rate, set()).add(entry.run.epochs)
        for up in (False, True):
            assert lengths[neighbour(settings["learning_rate"], up=up)] == set(RUNGS)
    assert plan.selected["Adam"] == {"learning_rate": 1e-4, "decay": "sqrt_epoch"}
    assert plan.on_edge == ()


@pytest.mark.parametrize("cost", [falling, late])
def test_no_trained_run_ever_leaves_the_plan(cost):
    """Not when a longer rung makes the arms grow: `publish` would take it out of its file."""
    records = costing(cost)
    rounds = 0
    while True:
        found = plan(STUDY, "paper", "mnist", records, ("tuned",))
        assert records.runs.keys() <= {run.id for run in found.runs()}
        missing = found.missing(records)
        assert bool(missing) == bool(found.missing(records) or found.later)
        if not missing:
            break
        rounds += 1
        records.train(missing)
    assert rounds > len(RUNGS)
    assert not found.later
    assert found.selected


def test_the_edge_of_the_other_ranking_does_not_make_a_verdict_wait(found):
    """What is nearest to the paper's curve may be an end; what is selected is not."""

    def apart(run: Run) -> list[float]:
        if run.optimizer != "adam" or run.settings.get("decay") != "constant":
            return falling(run)
        paper = digitised.points("fig2a", "Adam")
        factor = 3 / (1 + run.settings["learning_rate"] / 1e-4)  # the nearest is the largest
        return [(1 + factor) * paper.get(float(t), paper[3.0]) for t in range(run.epochs)]

    plan = found(apart)
    nearest = plan.nearest["Adam"]["learning_rate"]
    tried = [
        e.run.settings["learning_rate"]
        for e in plan.entries
        if (e.role, e.arm) == ("search", "Adam") and e.run.settings["decay"] == "constant"
    ]
    assert nearest == max(tried)
    assert plan.selected["Adam"] != plan.nearest["Adam"]
    assert plan.on_edge == ()


def test_what_follows_a_rung_is_counted_by_its_length(found):
    at_first, at_second = found(falling, only=0), found(falling, only=8)
    assert dict(at_first.promoted) == {40: 5 * 4, 200: 5 * 2}
    assert set(at_second.promoted) == {200}
    assert at_second.promoted[200] >= 5 * 2
    assert found(falling).promoted == {}


def test_a_diverged_candidate_is_never_selected(found):
    def exploding(run: Run) -> list[float]:
        return [math.nan] if middle(run) < 0.1 else falling(run)

    plan = found(exploding)
    for arm, settings in plan.selected.items():
        run = BASE.run(BASE.arm(arm), settings, profile=PAPER, data="mnist", seed=0)
        assert middle(run) >= 0.1


def test_shortened_runs_are_those_that_longer_ones_may_continue(found):
    plan = found(falling)
    for entry in plan.entries:
        shorter = entry.role != "tuning" and entry.run.epochs < 200
        assert (entry.run.id in plan.shortened) == shorter, entry


@pytest.mark.parametrize(
    ("rate", "up", "down"), [(0.1, 0.3, 0.03), (0.3, 1.0, 0.1), (1.0, 3.0, 0.3), (3e-5, 1e-4, 1e-5)]
)
def test_the_ladder(rate, up, down):
    assert neighbour(rate, up=True) == up
    assert neighbour(rate, up=False) == down
    assert neighbour(up, up=False) == rate


def test_a_rate_off_the_ladder_is_refused():
    with pytest.raises(ValueError, match=r"learning_rate=0\.002 is not on the ladder"):
        neighbour(0.002, up=True)


def test_unequal_numbers_of_candidates_are_refused():
    arms = (dataclasses.replace(BASE.arms[0], search=BASE.arms[0].search[:1]), *BASE.arms[1:])
    study = dataclasses.replace(STUDY, arms=arms)
    with pytest.raises(ValueError, match=r"enter unequal numbers .*: AdaGrad 4, RMSProp 12"):
        plan(study, "paper", "mnist", costing(falling), ("tuned",))


def test_the_cost_of_a_rung_is_that_of_its_last_passes():
    assert search.final_cost([5.0] * 7 + [2.0]) == pytest.approx(2.0)
    costs = [1.0] * 190 + [0.5, 0.125] * 5
    assert search.final_cost(costs) == pytest.approx(0.25)


def test_while_a_search_is_under_way_the_grid_selects(found):
    profile = dataclasses.replace(PAPER, searching=True)
    study = dataclasses.replace(BASE, profiles={"paper": profile})
    both = found(falling, study)
    search_alone = found(falling)
    grid_alone = found(
        falling,
        dataclasses.replace(BASE, profiles={"paper": dataclasses.replace(profile, rungs=())}),
    )
    assert both.selected == grid_alone.selected != search_alone.selected
    assert both.on_edge == grid_alone.on_edge
    assert both.runs("search") == search_alone.runs("search")
    assert both.runs("tuning") == grid_alone.runs("tuning")
    assert both.runs("tuned") == grid_alone.runs("tuned")
    begun = found(falling, study, only=5)
    assert begun.selected == {}
    assert begun.later > grid_alone.later


def test_once_a_search_is_complete_the_grid_stays(found):
    """It shows what constant step sizes reach; the search alone selects, and is counted."""
    complete = found(falling)
    profile = dataclasses.replace(PAPER, rungs=())
    grid = found(falling, dataclasses.replace(BASE, profiles={"paper": profile}))
    assert complete.runs("tuning") == grid.runs("tuning") != []
    assert complete.selected != grid.selected
    costs = costing(falling)
    costs.train(complete.runs())
    results = Results(STUDY, "paper", "mnist", costs, complete)
    searched = {e.trial for e in complete.entries if (e.role, e.arm) == ("search", "Adam")}
    assert set(results.selected()["trials"]) == {len(searched)}
    assert len(searched) >= 12
    sizes = {arm.name: len(rates(grid, arm.name, "tuning")) for arm in BASE.arms}
    assert dict(results.best_of().groupby("arm")["k"].max()) == sizes
    assert {arm.name: len(results.tried(arm.name, 5, 9)) for arm in BASE.arms} == sizes


@pytest.mark.parametrize("failing", [False, True])
def test_the_runs_of_a_search_come_before_those_that_do_not_wait_for_it(tmp_path, failing):
    """Otherwise runs of 200 passes at settings that are being replaced keep processes for hours."""
    profile = dataclasses.replace(PAPER, searching=True)
    study = dataclasses.replace(BASE, profiles={"paper": profile})
    store, records, rounds = Store(tmp_path), costing(falling), []

    def train_all(runs, keep, on_pass):
        rounds.append({run.id for run in runs})
        for number, run in enumerate(runs):
            if fails := failing and len(rounds) == 1 and number == 0:
                broken.append(run)
            else:
                records.train([run])
            yield Result(run, "", failed=fails)

    broken = []
    if failing:
        with pytest.raises(RunsFailed):
            complete(study, "paper", "mnist", store, records=records, train_all=train_all)
        after = plan(study, "paper", "mnist", records)
        assert after.missing(records) == broken, "the others were trained all the same"
    else:
        after = complete(study, "paper", "mnist", store, records=records, train_all=train_all)
        searched = {run.id for run in after.runs("search")}
        kinds = [
            "search" if ids <= searched else "mixed" if ids & searched else "other"
            for ids in rounds
        ]
        number = kinds.count("search")
        assert number >= len(RUNGS)
        assert kinds == ["search"] * number + ["other"] * (len(kinds) - number)
        assert kinds[-1] == "other"
        assert after.missing(records) == []
