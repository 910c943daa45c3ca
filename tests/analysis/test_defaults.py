"""Regret, valleys and one rate for all, from records made up."""

from __future__ import annotations

import dataclasses
import inspect
import math
from typing import Any

import made_up
import numpy as np
import pytest
from made_up import MadeUp

from experiments.analysis import claims, defaults, ledger
from experiments.analysis.claims import NOT_REPRODUCED, NOT_TESTED, REPRODUCED
from experiments.analysis.defaults import Case
from experiments.analysis.metrics import METRICS
from experiments.analysis.results import Results
from experiments.plan import plan
from experiments.studies import STUDIES
from experiments.studies import defaults as declared
from experiments.study import Run, Study

STUDY = STUDIES["defaults-imbalance-zipf"]
OTHER = STUDIES["defaults-imbalance-equal"]
CENTRE = {arm.optimizer: arm.tune["learning_rate"] for arm in STUDY.arms}


def costing(excess: Any) -> made_up.Make:
    """Records whose cost falls from 3 to 1 plus the size of `excess` of a run."""

    def make(run: Run) -> dict[str, Any]:
        end = 1 + excess(run)
        if math.isinf(end):
            return made_up.AT_ONCE
        return made_up.of_cost(np.linspace(3, end, run.epochs).tolist())

    return make


def results(excess: Any, study: Study = STUDY) -> Results:
    return made_up.results(study, costing(excess))


def away(run: Run) -> float:
    """Decades between a run's rate and a method's best one, which is half a decade above."""
    return abs(math.log10(run.settings["learning_rate"] / CENTRE[run.optimizer]) - 0.5)


def excess(run: Run) -> float:
    """Adam's best is best; each other method is 0.2 behind; a decade away costs 0.4."""
    return 0.4 * round(2 * away(run)) / 2 + 0.2 * (run.optimizer != "adam")


def metric(claim: str, found: Results) -> np.ndarray:
    (entry,) = (c for c in ledger.of(STUDY) if c.id == f"defaults-imbalance-zipf-{claim}")
    return METRICS[entry.metric].compute(entry, "matched", found)


def case(excess: Any, study: Study = STUDY, variant: str = "") -> Case:
    return Case(study.title, results(excess, study), variant)


def test_regret_is_a_share_of_the_way_from_the_lowest_first_cost_to_the_lowest_last():
    assert defaults.regret(1.5, [[3, 1], [4, 1.5]]) == pytest.approx(0.25)
    assert defaults.regret(1.0, [[3, 1], [4, 1.5]]) == 0
    assert defaults.regret(3.0, [[3, 1], [4, 3.0]]) == 1
    # A run that explodes and is the best in the end does not make the way longer.
    assert defaults.regret(1.5, [[1000, 1], [3, 1.5]]) == pytest.approx(0.25)
    assert defaults.regret(math.inf, [[3, 1], [math.inf]]) == math.inf
    assert math.isnan(defaults.regret(2.0, [[1, 2.0], [2, 3.0]]))
    assert defaults.regret(1.5, [[9, 3, 1], [9, 4, 1.5], [math.inf]], 1) == pytest.approx(0.25)


def test_where_the_way_down_starts():
    """Adam's default costs 1.2 where the best costs 1; in 24 equal steps the best came from 3."""
    found = defaults.starts(results(excess))
    assert found["cost"] == pytest.approx((1.2, 1.2, 1.2))
    assert found["first pass"] == pytest.approx(3 * (0.2 / 2,))
    assert found["second pass"] == pytest.approx(3 * (0.2 / (2 - 2 / 24),))
    unfinished = results(excess)
    unfinished.records.runs.clear()
    assert defaults.starts(unfinished) == {}


def test_regret_of_defaults_and_of_best_rates():
    table = defaults.regret_table(results(excess)).set_index(["arm", "protocol"])
    # The best run is Adam's at half a decade above its default: from 3 to 1.
    assert table.loc[("Adam", "tuned"), "mean"] == pytest.approx(0)
    assert table.loc[("Adam", "matched"), "mean"] == pytest.approx(0.2 / 2)
    assert table.loc[("AdaGrad", "tuned"), "mean"] == pytest.approx(0.2 / 2)
    assert table.loc[("AdaGrad", "matched"), "mean"] == pytest.approx(0.4 / 2)
    assert set(table["n"]) == {5}
    assert len(table) == 2 * len(STUDY.arms)
    for protocol, expected in (("matched", 0.1), ("tuned", 0)):
        shown = defaults.at_defaults(case(excess), protocol).set_index("method")
        assert shown.loc["Adam", "mean"] == pytest.approx(expected)


PAPERS = STUDIES["fig3"]


def test_on_the_papers_problems_the_tuning_trials_answer(monkeypatch):
    def falls(run: Run) -> float:
        """Adam is best at 0.0003, ten times as large costs 0.8; with dropout all cost 0.5 more."""
        rate = abs(math.log10(run.settings["learning_rate"] / 0.00031623))
        return 0.8 * round(2 * rate) / 2 + 0.5 * (run.options["hidden_dropout"] > 0)

    monkeypatch.setattr(declared, "RATES", {"Adam": 0.001, "SGDNesterov": 0.02})
    for variant in ("", "dropout"):
        found = defaults.at_defaults(case(falls, PAPERS, variant)).set_index("method")
        # From 3 (3.0 in every first pass) to 1 (or 1.5): half a decade off costs 0.4.
        assert found.loc["Adam", "mean"] == pytest.approx(0.4 / (1.5 if variant else 2))
        assert math.isnan(found.loc["Adam", "low"])
        assert list(found.index) == ["Adam"]  # 0.02 is on no grid, and AdaGrad has no default here
        best = defaults.at_defaults(case(falls, PAPERS, variant), "tuned")
        assert set(best["method"]) == {"Adam", "AdaGrad", "SGDNesterov"}
        assert best["mean"].min() == pytest.approx(0)


def test_the_metrics_of_the_ledger_read_the_same():
    found = results(excess)
    assert metric("best-of-all", found) == pytest.approx(np.full(5, 0.1))
    assert metric("own-best", found) == pytest.approx(np.full(5, 0.1))
    assert metric("sgd-tuned", found) == pytest.approx(np.zeros(5))


def test_a_grid_that_ends_at_its_best_rate_leaves_no_verdict_on_a_default():
    """What any method's longer grid would reach may be lower than all that was reached."""
    found = results(excess)
    edge = dataclasses.replace(found, plan=dataclasses.replace(found.plan, on_edge=("RMSProp",)))
    for each, expected in ((found, {REPRODUCED, NOT_REPRODUCED}), (edge, {NOT_TESTED})):
        judged = [v for v in claims.judge(each) if METRICS[v.claim.metric].of_all and v.verdict]
        assert len(judged) == 3
        assert {v.verdict for v in judged} == expected
    assert {v.reason for v in judged} == {"the best learning rate is an end of its grid"}


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


def test_while_grids_grow_nothing_counts():
    """The best rate so far may be the end of a grid, and the lowest cost is not known yet."""

    def far(run: Run) -> float:  # the best rate is beyond the end of the first grids
        return 0.1 * abs(math.log10(run.settings["learning_rate"] / CENTRE[run.optimizer]) - 1.5)

    whole = case(far)
    records = MadeUp(costing(far), plan(STUDY, "paper", STUDY.data_set, {}).runs())
    found = plan(STUDY, "paper", STUDY.data_set, records)
    growing = Case("growing", Results(STUDY, "paper", STUDY.data_set, records, found))
    assert found.missing(records), "the grids grow"
    assert growing.trials == growing.regrets == {}
    assert defaults.one_rate([whole, growing]).equals(defaults.one_rate([whole]))
    assert defaults.valley(growing).empty


def test_only_constant_step_sizes_count():
    def decaying(run: Run) -> float:
        return 0.4 if run.settings["decay"] == "constant" else 0

    costs = case(decaying, STUDIES["fig1-mnist"]).trials
    assert {round(each[-1], 6) for rates in costs.values() for each in rates.values()} == {1.4}
    assert set(costs) == {"AdaGrad", "SGDNesterov", "Adam"}


def test_the_width_of_the_valley():
    table = defaults.valley(case(excess)).set_index("method")
    # Five rates; the best is the fourth. The regrets from it: 0.3, 0.2, 0.1, 0, 0.1.
    for method in ("Adam", "AdaGrad"):
        assert table.loc[method, "best"] == pytest.approx(
            10**0.5 * CENTRE[method.lower()], rel=1e-3
        )
        assert table.loc[method, "rates"] == 5
        assert table.loc[method, "within 5%"] == pytest.approx(1 / 5)
        assert table.loc[method, "within 20%"] == pytest.approx(4 / 5)
        assert math.isnan(table.loc[method, "ten times the best rate"])


def test_ten_times_the_best_rate():
    def symmetric(run: Run) -> float:
        """The default is best, down to a cost of exactly 0; a decade away costs 0.4."""
        away = abs(math.log10(run.settings["learning_rate"] / CENTRE[run.optimizer]))
        return 0.4 * round(2 * away) / 2 - 1

    table = defaults.valley(case(symmetric)).set_index("method")
    assert table.loc["Adam", "best"] == pytest.approx(CENTRE["adam"])
    assert table.loc["Adam", "ten times the best rate"] == pytest.approx(0.4 / 3)
    assert table.loc["Adam", "within 20%"] == 1


def test_one_rate_for_all_is_the_one_with_the_smallest_worst_regret():
    def other(run: Run) -> float:
        """On the second problem every method's best rate is a decade above that of the first."""
        return abs(away(run) - 1) * 0.8

    cases = [case(excess), case(other, OTHER)]
    table = defaults.one_rate(cases)
    adam = table[table["method"] == "Adam"].set_index("rate")
    grids = [each.trials["Adam"] for each in cases]
    shared = {float(f"{rate:.3g}") for rate in grids[0]} & {float(f"{r:.3g}") for r in grids[1]}
    assert set(adam.index) == shared
    assert set(adam["problems"]) == {2}
    for rate, row in adam.iterrows():
        each = [
            next(costs[-1] for r, costs in grid.items() if math.isclose(r, rate, rel_tol=0.01))
            for grid in grids
        ]
        assert row["worst"] == pytest.approx(max((cost - 1) / 2 for cost in each), abs=1e-3)
        assert row["problem"] in {STUDY.title, OTHER.title}
    chosen = table[table["smallest"]]
    assert set(chosen["method"]) == {arm.name for arm in STUDY.arms}


def test_a_method_is_judged_on_the_problems_where_it_was_tuned():
    table = defaults.one_rate([case(excess), case(excess, PAPERS)])
    assert set(table[table["method"] == "AdamW"]["problems"]) == {1}
    assert set(table[table["method"] == "Adam"]["problems"]) == {2}


def test_every_method_is_given_as_many_rates_and_its_own_default():
    for study in declared.STUDIES:
        assert study.arms is declared.ARMS
        entries = plan(study, "paper", study.data_set, {}).entries
        grid = {
            arm.name: {
                e.run.settings["learning_rate"]
                for e in entries
                if (e.role, e.arm) == ("tuning", arm.name)
            }
            for arm in study.arms
        }
        assert len({len(rates) for rates in grid.values()}) == 1
        for arm in study.arms:
            assert any(
                math.isclose(rate, arm.matched["learning_rate"], rel_tol=0.6)
                for rate in grid[arm.name]
            )


def test_the_libraries_defaults_are_as_stated():
    import keras

    def default(optimizer: Any, name: str) -> Any:
        return inspect.signature(optimizer.__init__).parameters[name].default

    rates = {name: settings for name, (_, settings, _) in declared.METHODS.items()}
    assert rates["RMSProp"]["learning_rate"] == default(keras.optimizers.RMSprop, "learning_rate")
    assert default(keras.optimizers.RMSprop, "rho") == 0.9
    assert default(keras.optimizers.RMSprop, "momentum") == 0
    assert rates["AdaGrad"]["learning_rate"] == default(keras.optimizers.Adagrad, "learning_rate")
    assert rates["SGDNesterov"]["learning_rate"] == default(keras.optimizers.SGD, "learning_rate")
    assert default(keras.optimizers.SGD, "momentum") == 0
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    assert rates["AdamW"]["learning_rate"] == default(torch.optim.AdamW, "lr")
    assert rates["AdamW"]["weight_decay"] == default(torch.optim.AdamW, "weight_decay")
    assert default(torch.optim.AdamW, "betas") == (0.9, 0.999)
    assert default(torch.optim.Adagrad, "lr") == 0.01
