"""What a search has found: its table against the definitions, its figure against its records."""

from __future__ import annotations

import math

import made_up
import numpy as np
import pytest
from test_search import STUDY, falling, middle

from experiments import figures
from experiments.analysis import searched
from experiments.analysis.results import Results
from experiments.figures import drawn
from experiments.figures.style import shades
from experiments.paper.curves import points
from experiments.plan import Plan
from experiments.studies import STUDIES
from experiments.words import in_words


@pytest.fixture(scope="module")
def results() -> Results:
    """A complete search in which one candidate diverges after three passes."""

    def make(run):
        costs = falling(run)
        if run.settings["learning_rate"] == 100.0:
            return made_up.record({"training_cost": costs[:3]}, diverged=True)
        return made_up.of_cost(costs)

    return made_up.results(STUDY, make, "paper", "mnist")


def whole(results: Results, arm: str) -> dict:
    """By settings in words, the candidates' runs of all passes."""
    entries = [e for e in results.plan.entries if (e.role, e.arm) == ("search", arm)]
    return {in_words(e.run.settings): e.run for e in entries if e.run.epochs == 200}


def test_the_table_ranks_what_trained_to_the_end(results):
    table = searched.table(results)
    assert list(table["arm"].unique()) == sorted(arm.name for arm in STUDY.arms)
    for arm, mine in table.groupby("arm"):
        runs = whole(results, arm)
        assert set(mine["settings"]) == set(runs)
        assert mine["cost"].is_monotonic_increasing
        paper = points("fig2a", arm)
        for row in mine.to_dict("records"):
            start = 0.2 + middle(runs[row["settings"]])
            passes = np.arange(190, 200)  # the last twentieth
            assert row["cost"] == pytest.approx(np.exp(np.mean(np.log(start / (1 + passes)))))
            shared = [x for x in paper if STUDY.panel.first <= x < 200 and x == int(x)]
            gaps = np.array([math.log(start / (1 + x)) - math.log(paper[x]) for x in shared])
            assert row["rms"] == pytest.approx(math.sqrt(np.mean(gaps**2)))
            assert row["largest"] == pytest.approx(np.abs(gaps).max())
            assert row["seeds"] == 1


def test_a_candidate_is_followed_as_far_as_it_was_trained(results):
    table = searched.candidates(results)
    trained = {}
    for entry in results.plan.entries:
        if entry.role == "search":
            key = entry.arm, entry.trial
            trained[key] = max(trained.get(key, 0), entry.run.epochs)
    for key, trial in table.groupby(["arm", "trial"]):
        assert set(trial["epochs"]) == {trained.pop(key)}
        diverged = "learning_rate=100.0" in key[1]
        assert len(trial) == (3 if diverged else trial["epochs"].iloc[0])
        assert set(trial["status"]) == {"diverged" if diverged else "finished"}
    assert not trained


def test_the_figure_shows_every_candidate_over_the_papers_curve(results):
    figure = figures.search(results)
    numbers = drawn.table(figure)
    assert list(numbers["panel"].unique()) == [arm.method for arm in STUDY.arms]
    for arm, panel in numbers.groupby("panel"):
        runs = whole(results, arm)
        paper = panel[panel["series"] == "the paper's curve"]
        assert dict(zip(paper["x"], paper["y"], strict=True)) == pytest.approx(points("fig2a", arm))
        assert set(panel["series"]) >= set(runs)
        for words, run in runs.items():
            line = panel[panel["series"] == words]
            assert line["y"].tolist() == pytest.approx(falling(run))
    tried = {(e.arm, e.trial) for e in results.plan.entries if e.role == "search"}
    dropped = len(tried) - sum(len(whole(results, arm.name)) for arm in STUDY.arms)
    text = " ".join(figure._supxlabel.get_text().split())
    assert f"Of 1 tuning seed; grey: {dropped} candidates that ended earlier." in text


def test_before_any_run_the_figure_says_so():
    none = Results(STUDY, "paper", "mnist", made_up.MadeUp(falling), Plan((), 0, {}, ()))
    assert searched.table(none).empty
    texts = [text.get_text() for axis in figures.search(none).axes for text in axis.texts]
    assert texts == ["no runs yet"] * len(STUDY.arms)


def test_shades_run_from_dark_to_light():
    assert shades("#d55e00", 1) == ["#d55e00"]
    assert shades("#d55e00", 0) == []
    found = [sum(shade) for shade in shades("#d55e00", 4)]
    assert found == sorted(found)
    assert len(set(found)) == 4


def test_a_profile_without_a_search_says_so():
    study = STUDIES["fig2-dropout"]
    smoke = Results(study, "smoke", "mnist", made_up.MadeUp(falling), Plan((), 0, {}, ()))
    assert searched.table(smoke).empty
    (axis,) = figures.search(smoke).axes
    assert [text.get_text() for text in axis.texts] == ["The search is not part of this profile."]
