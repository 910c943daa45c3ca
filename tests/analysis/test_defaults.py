"""Regret, valleys and one rate for all, from records made up."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from experiments.analysis import defaults, ledger
from experiments.analysis.metrics import METRICS
from experiments.analysis.results import Results
from experiments.plan import plan
from experiments.studies import STUDIES
from experiments.studies import defaults as declared
from experiments.study import Run, Study

STUDY = STUDIES["defaults-imbalance-zipf"]
OTHER = STUDIES["defaults-imbalance-equal"]
CENTRE = {arm.optimizer: arm.tune["learning_rate"] for arm in STUDY.arms}


class Made:
    """Records whose cost falls from 3 to 1 plus the size of `excess` of a run."""

    def __init__(self, excess: Any) -> None:
        self.excess, self.runs = excess, {}

    def get(self, run_id: str) -> dict[str, Any] | None:
        run = self.runs.get(run_id)
        if run is None:
            return None
        end = 1 + self.excess(run)
        if math.isinf(end):
            return {"status": "diverged", "metrics": {"training_cost": []}, "manifest": {}}
        costs = np.linspace(3, end, run.epochs).tolist()
        return {"status": "finished", "metrics": {"training_cost": costs}, "manifest": {}}


def results(excess: Any, study: Study = STUDY) -> Results:
    records = Made(excess)
    while missing := (found := plan(study, "paper", study.data_set, records)).missing(records):
        records.runs |= {run.id: run for run in missing}
    return Results(study, "paper", study.data_set, records, found)


def away(run: Run) -> float:
    """Decades between a run's rate and a method's best one, which is half a decade above."""
    return abs(math.log10(run.settings["learning_rate"] / CENTRE[run.optimizer]) - 0.5)


def excess(run: Run) -> float:
    """Adam's best is best; each other method is 0.2 behind; a decade away costs 0.4."""
    return 0.4 * round(2 * away(run)) / 2 + 0.2 * (run.optimizer != "adam")


def metric(claim: str, found: Results) -> np.ndarray:
    (entry,) = (c for c in ledger.of(STUDY) if c.id == f"defaults-imbalance-zipf-{claim}")
    return METRICS[entry.metric].compute(entry, "matched", found)


def test_regret_is_a_share_of_the_best_runs_way_down():
    table = defaults.regret_table(results(excess)).set_index(["arm", "protocol"])
    # The best run is Adam's at half a decade above its default: from 3 to 1.
    assert table.loc[("Adam", "tuned"), "mean"] == pytest.approx(0)
    assert table.loc[("Adam", "matched"), "mean"] == pytest.approx(0.2 / 2)
    assert table.loc[("AdaGrad", "tuned"), "mean"] == pytest.approx(0.2 / 2)
    assert table.loc[("AdaGrad", "matched"), "mean"] == pytest.approx(0.4 / 2)
    assert set(table["n"]) == {5}
    assert len(table) == 2 * len(STUDY.arms)


def test_the_metrics_of_the_ledger_read_the_same():
    found = results(excess)
    assert metric("best-of-all", found) == pytest.approx(np.full(5, 0.1))
    assert metric("own-best", found) == pytest.approx(np.full(5, 0.1))
    assert metric("sgd-tuned", found) == pytest.approx(np.zeros(5))


def test_a_default_that_diverges_has_infinite_regret():
    def wild(run: Run) -> float:
        reported = run.optimizer == "adam" and run.seed < 1000
        default = run.settings["learning_rate"] == CENTRE["adam"]
        return math.inf if reported and default else excess(run)

    found = results(wild)
    table = defaults.regret_table(found).set_index(["arm", "protocol"])
    assert table.loc[("Adam", "matched"), "mean"] == math.inf
    assert table.loc[("AdaMax", "matched"), "mean"] == pytest.approx(0.2)
    assert (metric("own-best", found) == math.inf).all()


def test_without_all_runs_there_is_no_regret():
    found = results(excess)
    lacking = next(e.run.id for e in found.plan.entries if (e.role, e.arm) == ("tuned", "RMSProp"))
    del found.records.runs[lacking]
    assert len(metric("best-of-all", found)) == 4
    assert set(defaults.regret_table(found)["n"]) == {4}


def test_the_width_of_the_valley():
    table = defaults.valley(results(excess)).set_index("arm")
    # Costs of Adam's rates, by half decades from its best: 1, 1.2, 1.4, ...
    rates = table.loc["Adam", "rates"]
    assert table.loc["Adam", "best"] == pytest.approx(0.003162)
    assert table.loc["Adam", "within 5%"] == pytest.approx(1 / rates)
    assert table.loc["Adam", "within 20%"] == pytest.approx(3 / rates)
    # AdaGrad: 1.2, 1.4, 1.6: a step away is within 17%.
    assert table.loc["AdaGrad", "within 20%"] == pytest.approx(3 / table.loc["AdaGrad", "rates"])
    beyond = table["ten times the best rate"].dropna()
    assert all(value == pytest.approx(1.4) for name, value in beyond.items() if name == "Adam")


def test_one_rate_for_all_is_the_one_with_the_smallest_worst_regret():
    def other(run: Run) -> float:
        # On the second problem every method's best rate is its default.
        return 0.4 * round(2 * abs(away(run) - 0.5)) / 2 if away(run) <= 0.5 else excess(run) + 0.4

    found = [results(excess), results(other, OTHER)]
    table = defaults.one_rate(found)
    adam = table[table["arm"] == "Adam"].set_index("rate")
    alone = defaults.trials(found[0])["Adam"]
    for rate, row in adam.iterrows():
        first = (alone[rate][-1] - 1) / 2
        assert row["worst"] >= first - 1e-9
    chosen = table[table["smallest"]]
    assert set(chosen["arm"]) == {arm.name for arm in STUDY.arms}
    assert (chosen["worst"] == table.groupby("arm")["worst"].transform("min")[chosen.index]).all()


def test_every_method_is_given_as_many_rates_and_its_own_default():
    for study in declared.STUDIES:
        assert study.arms is declared.ARMS
        grid = plan(study, "paper", study.data_set, Made(excess)).grid
        assert len({len(rates) for rates in grid.values()}) == 1
        for arm in study.arms:
            assert any(
                math.isclose(rate, arm.matched["learning_rate"], rel_tol=0.6)
                for rate in grid[arm.name]
            )
    assert set(declared.DEFAULTS) == {arm.name for arm in declared.ARMS}
