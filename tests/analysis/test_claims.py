"""Verdicts follow from records by the written rules, and from nothing else."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pandas as pd
import pytest

from experiments.analysis import claims
from experiments.analysis import results as analysis
from experiments.analysis.claims import INCONCLUSIVE, NOT_REPRODUCED, NOT_TESTED, REPRODUCED
from experiments.analysis.results import Results, distance, interval, paper_curve
from experiments.studies import STUDIES
from experiments.study import Plan, plan

FIG1 = STUDIES["fig1-mnist"]
BY_ID = {claim.id: claim for claim in claims.ledger()}
SIMILAR = BY_ID["fig1-mnist-adam-like-sgd"]
FASTER = BY_ID["fig1-mnist-adam-faster-than-adagrad"]
CURVE = BY_ID["fig1-mnist-adam-curve"]
OPTIMIZERS = {arm.optimizer: arm.name for arm in FIG1.arms}


def shape(arm: str) -> np.ndarray:
    """The paper's curve, with something falling before its first visible pass."""
    paper = paper_curve("fig1L", arm)
    curve = np.interp(np.arange(46), paper.index, paper)
    return curve + np.where(np.arange(46) < paper.index[0], 0.5, 0.0)


class Synthetic:
    """Records whose training cost is a function of arm, role and seed."""

    def __init__(self, curve, diverged=()) -> None:
        self.curve, self.diverged, self.runs = curve, diverged, {}

    def get(self, run_id):
        run = self.runs.get(run_id)
        if run is None:
            return None
        arm = OPTIMIZERS[run.optimizer]
        cost = np.asarray(self.curve(arm, run), float)[: run.epochs]
        status = "diverged" if arm in self.diverged and run.seed < 1000 else "finished"
        cost = cost[:5] if status == "diverged" else cost
        names = ("training_cost", "objective", "held_out_cost", "held_out_accuracy", "seconds")
        return {"status": status, "metrics": {name: list(cost) for name in names}, "manifest": {}}


def results(curve, profile="paper", data="mnist", **options) -> Results:
    records = Synthetic(curve, **options)
    while missing := (found := plan(FIG1, profile, data, records)).missing(records):
        records.runs |= {run.id: run for run in missing}
    return Results(FIG1, profile, data, records, found)


def noisy(scale=lambda arm: 1.0, noise=0.001):
    """The paper's shapes times a scale, with noise per arm and seed; tuning is a valley."""

    def curve(arm, run):
        key = [run.seed, list(OPTIMIZERS.values()).index(arm)]
        wobble = np.random.default_rng(key).normal(0, noise)
        if run.seed >= 1000:  # tuning: an interior best
            rate = run.settings["learning_rate"]
            centre = FIG1.arm(arm).tune["learning_rate"]
            return shape(arm) + abs(np.log10(rate / centre))
        return shape(arm) * scale(arm) * (1 + wobble)

    return curve


def verdict(found: Results, claim: claims.Claim, protocol: str = "matched") -> claims.Verdict:
    return {(v.claim.id, v.protocol): v for v in claims.judge(found)}[claim.id, protocol]


def test_the_papers_own_curves_reproduce_the_paper():
    found = results(noisy())
    for claim in claims.of(FIG1):
        for protocol in claim.protocols:
            assert verdict(found, claim, protocol).verdict == REPRODUCED, (claim.id, protocol)


def test_a_claim_that_fails_is_not_reproduced():
    found = results(noisy(lambda arm: {"AdaGrad": 0.4, "Adam": 1.2}.get(arm, 1.0)))
    for claim in (SIMILAR, FASTER, CURVE):
        assert verdict(found, claim).verdict == NOT_REPRODUCED
    assert verdict(found, FASTER, "tuned").verdict == NOT_REPRODUCED


def test_an_interval_across_the_margin_is_inconclusive():
    at_limit = SIMILAR.limit * np.exp(
        -np.mean(np.log(shape("Adam")[1:] / shape("SGDNesterov")[1:]))
    )
    found = results(noisy(lambda arm: at_limit if arm == "Adam" else 1.0, noise=0.02))
    judged = verdict(found, SIMILAR)
    assert judged.low < SIMILAR.limit < judged.high
    assert judged.verdict == INCONCLUSIVE


def test_a_verdict_shows_its_numbers():
    judged = verdict(results(noisy()), FASTER)
    assert judged.n == 10
    assert judged.low <= judged.value <= judged.high
    assert judged.numbers == (f"{judged.value:.4f} [{judged.low:.4f}, {judged.high:.4f}], n = 10")


def test_stand_in_data_tests_nothing():
    judged = claims.judge(results(noisy(), data="mnist-stand-in"))
    assert {v.verdict for v in judged} == {NOT_TESTED, ""}
    assert all("stand-in data" in v.reason for v in judged if v.verdict)


def test_a_shortened_profile_tests_nothing():
    judged = claims.judge(results(noisy(), profile="smoke"))
    assert {v.verdict for v in judged} == {NOT_TESTED, ""}


def test_unfinished_runs_test_nothing():
    records = Synthetic(noisy())
    found = Results(FIG1, "paper", "mnist", records, plan(FIG1, "paper", "mnist", records))
    assert {v.verdict for v in claims.judge(found)} == {NOT_TESTED, ""}
    assert verdict(found, FASTER).reason == "its runs are not finished"


def test_a_best_rate_on_the_edge_of_its_grid_tests_nothing():
    found = results(noisy())
    edge = dataclasses.replace(found.plan, on_edge=("Adam",))
    judged = dataclasses.replace(found, plan=edge)
    assert verdict(judged, FASTER, "tuned").verdict == NOT_TESTED
    assert verdict(judged, FASTER, "matched").verdict == REPRODUCED
    sgd = BY_ID["fig1-mnist-sgd-faster-than-adagrad"]
    assert verdict(judged, sgd, "tuned").verdict == REPRODUCED


@pytest.mark.filterwarnings("error")
def test_a_method_that_diverges_reproduces_nothing_good_about_it():
    found = results(noisy(), diverged=("Adam",))
    assert verdict(found, FASTER).verdict == NOT_REPRODUCED
    assert verdict(found, SIMILAR).verdict == NOT_REPRODUCED


@pytest.mark.parametrize(
    ("rule", "limit", "low", "high", "expected"),
    [
        ("below", 0.95, 0.5, 0.94, REPRODUCED),
        ("below", 0.95, 0.95, 0.99, NOT_REPRODUCED),
        ("below", 0.95, 0.94, 0.96, INCONCLUSIVE),
        ("below", 0.95, 0.94, 0.95, INCONCLUSIVE),
        ("above", 0.5, 0.51, 0.9, REPRODUCED),
        ("above", 0.5, 0.1, 0.5, NOT_REPRODUCED),
        ("above", 0.5, 0.5, 0.6, INCONCLUSIVE),
        ("within", 1.25, 0.8, 1.25, REPRODUCED),
        ("within", 1.25, 0.79, 1.0, INCONCLUSIVE),
        ("within", 1.25, 1.0, 1.26, INCONCLUSIVE),
        ("within", 1.25, 1.26, 1.3, NOT_REPRODUCED),
        ("within", 1.25, 0.7, 0.79, NOT_REPRODUCED),
        ("within", 1.25, 0.7, 1.3, INCONCLUSIVE),
    ],
)
def test_the_decision_rules(rule, limit, low, high, expected):
    claim = dataclasses.replace(SIMILAR, rule=rule, limit=limit)
    assert claims.decide(claim, low, high) == expected


def test_the_metrics_on_curves_with_known_answers():
    ratio = claims.metric(FASTER, "matched", results(lambda arm, run: shape(arm)))
    np.testing.assert_allclose(ratio, 0.497, atol=0.001)
    assert len(ratio) == 10

    def shifted(arm, run):
        curve = shape(arm)
        if run.seed == 1:
            curve[20] += 0.03
            curve[1] += 9.0  # before the window
        return curve

    found = claims.metric(CURVE, "matched", results(shifted))
    np.testing.assert_allclose(found, [0.0, 0.03] + 8 * [0.0], atol=1e-12)


def test_the_papers_value_is_the_same_metric_on_its_own_curves():
    assert claims.of_paper(SIMILAR, FIG1.panel) == pytest.approx(0.961, abs=0.001)
    assert claims.of_paper(FASTER, FIG1.panel) == pytest.approx(0.497, abs=0.001)
    assert np.isnan(claims.of_paper(CURVE, FIG1.panel))
    imdb = STUDIES["fig1-imdb"].panel
    large = BY_ID["fig1-imdb-adagrad-faster-than-sgd"]
    assert claims.of_paper(large, imdb) == pytest.approx(0.659, abs=0.001)
    assert np.isnan(claims.of_paper(BY_ID["fig1-imdb-adagrad-faster-than-sgd-clean"], imdb))


def test_every_claim_of_the_ledger_can_be_judged():
    assert len(BY_ID) == len(claims.ledger())
    for claim in claims.ledger():
        study = STUDIES[claim.study]
        assert set(claim.arms) <= {arm.name for arm in study.arms}
        assert claim.protocols
        assert set(claim.protocols) <= {"matched", "tuned"}
        first, last = claim.passes
        assert 0 <= first <= last < study.profiles["paper"].epochs or (study.measured, last) == (
            True,
            -1,
        )
        assert claim.metric.startswith("recorded_") == bool(claim.recorded)
        assert claim.source in ("text", "figure")
        assert claim.criterion
        assert claim.why


@pytest.mark.parametrize(
    "line", ["metric: speed", "rule: over", "arms: [Adam]\n  metric: cost_ratio", "colour: red"]
)
def test_a_malformed_claim_is_refused_by_name(tmp_path, monkeypatch, line):
    text = claims.LEDGER.read_text()
    first = text[: text.index("\n\n- id:", text.index("- id:"))]
    key = line.split(":")[0]
    kept = [row for row in first.splitlines() if not row.strip().startswith(f"{key}:")]
    path = tmp_path / "claims.yaml"
    path.write_text("\n".join(kept) + f"\n  {line}\n")
    monkeypatch.setattr(claims, "LEDGER", path)
    with pytest.raises(ValueError, match="fig1-mnist-adam-like-sgd"):
        claims.ledger.__wrapped__()


def test_intervals_cover_the_mean_about_as_often_as_they_say():
    values = np.random.default_rng(0).normal(1.0, 0.1, size=(10, 400))
    _, low, high = interval(values)
    covered = np.mean((low <= 1.0) & (high >= 1.0))
    assert 0.87 <= covered <= 0.98


@pytest.mark.parametrize("n", [2, 3, 5, 10])
def test_intervals_do_not_depend_on_rounding(monkeypatch, n):
    """Numbers in another unit are rounded otherwise, as they are on another processor."""
    values = np.random.default_rng(5).normal(size=(n, 200))

    def largest_difference() -> float:
        scaled = analysis.interval(0.3 * values)
        return max(
            np.abs(a / 0.3 - b).max()
            for a, b in zip(scaled, analysis.interval(values), strict=True)
        )

    assert largest_difference() < 1e-11
    if n in (3, 5):
        monkeypatch.setattr(analysis, "_summable", lambda values: values)
        assert largest_difference() > 1e-3


def test_intervals_are_the_same_each_time():
    values = np.random.default_rng(1).normal(size=(5, 3))
    for a, b in zip(interval(values), interval(values), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    "values", [[2.0, 2.0, 2.0], [2.0], [np.inf, 2.0], [0.1 + 1e-17, 0.1]], ids=str
)
def test_without_a_finite_spread_the_interval_is_the_mean(values):
    mean, low, high = interval(np.array(values))
    assert mean == low == high


def test_the_distance_to_the_paper_counts_common_passes_only():
    paper = paper_curve("fig1L", "AdaGrad")  # visible from pass 6
    curve = shape("AdaGrad")
    assert distance(FIG1.panel, "AdaGrad", curve) == (0.0, 0.0)
    assert distance(FIG1.panel, "AdaGrad", curve + 0.01) == pytest.approx((0.01, 0.01))
    assert np.isnan(distance(FIG1.panel, "AdaGrad", curve[:4])).all()
    assert distance(FIG1.panel, "AdaGrad", None) == (np.inf, np.inf)
    log = dataclasses.replace(FIG1.panel, log=True)
    assert distance(log, "AdaGrad", curve * np.e) == pytest.approx((1.0, 1.0))
    assert paper.index[0] == 6


def test_four_passes_of_figure_3_are_fitted_by_all_four():
    panel = STUDIES["fig3"].panel
    curve = paper_curve(panel.name, "Adam").to_numpy()[:4]
    assert distance(panel, "Adam", curve * [np.e, 1, 1, np.e]) == pytest.approx((0.5**0.5, 1.0))
    late = dataclasses.replace(panel, first=3)
    assert distance(late, "Adam", curve * [np.e, 1, 1, 1]) == (0.0, 0.0)


def test_an_unknown_curve_is_refused():
    with pytest.raises(ValueError, match="no curve 'Lion' in panel 'fig1L'"):
        paper_curve("fig1L", "Lion")


def test_tables_hold_every_run_and_pass():
    found = results(noisy())
    assert len(found.table("matched")) == 3 * 10 * 46
    assert set(found.curves("tuned")["n"]) == {10}
    assert list(found.matrix("matched", "Adam").index) == list(range(10))
    selected = found.selected()
    assert selected["best is interior"].all()
    assert selected["trials"].nunique() == 1
    fit = found.fit(best=2)
    assert len(fit) == 6
    assert fit.groupby("arm")["rms"].apply(lambda r: r.is_monotonic_increasing).all()
    departures = found.departures()
    assert len(departures) == len(FIG1.departures)
    alternatives = found.alternatives()
    declared = sum(len(departure.alternatives) for departure in FIG1.departures)
    assert len(alternatives) == declared + alternatives["arm"].nunique()
    assert (alternatives[alternatives["with"] == "as chosen"]["distance"] < 0.01).all()
    assert not analysis.results(FIG1, "paper", "mnist", Synthetic(noisy())).plan.selected


@pytest.mark.filterwarnings("error")
def test_a_cost_of_exactly_zero_is_infinitely_far_below():
    found = results(noisy(lambda arm: 0.0 if arm == "Adam" else 1.0))
    judged = verdict(found, FASTER)
    assert (judged.verdict, judged.value) == (REPRODUCED, 0.0)


def test_a_seed_that_diverges_at_once_counts_as_diverged():
    found = results(noisy())
    first = next(e.run.id for e in found.plan.entries if (e.role, e.arm) == ("matched", "Adam"))
    record = found.records.get(first)
    empty = {"status": "diverged", "metrics": {name: [] for name in record["metrics"]}}
    get = found.records.get
    found.records.get = lambda run_id: empty if run_id == first else get(run_id)
    assert np.isinf(found.matrix("matched", "Adam").loc[0]).all()
    assert len(found.matrix("matched", "Adam")) == 10
    assert verdict(found, FASTER).verdict == NOT_REPRODUCED


def test_an_empty_store_gives_empty_tables():
    records = Synthetic(noisy())
    found = Results(FIG1, "quick", "mnist", records, Plan((), 0, {}, {}, ()))
    assert found.table("matched").empty
    assert found.curves("tuned").empty
    assert found.trials().empty
    assert found.fit().empty
    assert found.alternatives().empty


# --- unfinished studies ---------------------------------------------------------------------------


class Part:
    """Some of the records of another source."""

    def __init__(self, records, keep) -> None:
        self.records, self.keep = records, keep

    def get(self, run_id):
        run = self.records.runs.get(run_id)
        return self.records.get(run_id) if run is not None and self.keep(run) else None


def partly(found: Results, keep) -> Results:
    return dataclasses.replace(found, records=Part(found.records, keep))


def test_a_claim_is_judged_by_the_seeds_that_are_there():
    found = partly(results(noisy()), lambda run: run.seed < 4)
    judged = verdict(found, FASTER)
    assert judged.verdict == REPRODUCED
    assert judged.n == 4
    assert judged.numbers.endswith("n = 4; of 10 seeds")
    found = partly(results(noisy()), lambda run: run.seed < 2)
    assert verdict(found, FASTER).verdict == NOT_TESTED
    assert verdict(found, FASTER).reason == "fewer than 3 seeds"
    one = verdict(partly(results(noisy()), lambda run: run.seed < 1), FASTER)
    assert one.numbers == f"{one.value:.4f}, n = 1; fewer than 3 seeds"  # no interval


def test_only_seeds_that_both_methods_have_are_compared():
    found = partly(results(noisy()), lambda run: run.seed < 9 or run.optimizer == "adam")
    assert verdict(found, FASTER).n == 9
    assert verdict(found, CURVE).n == 10


def test_an_unfinished_study_says_so():
    whole = results(noisy())
    assert whole.missing == 0
    assert "not finished" not in whole.label
    found = partly(whole, lambda run: run.seed < 4)
    assert 0 < found.missing < len(found.plan.runs())
    assert f"not finished, {found.progress}" in found.label
    assert set(found.curves("matched")["n"]) == {4}


def staged() -> Results:
    """Every seed to pass 3, the first two to the end."""
    size = dataclasses.replace(FIG1.profiles["paper"], stages=(4,))
    study = dataclasses.replace(FIG1, profiles={"paper": size})
    records = Synthetic(noisy())
    while missing := (found := plan(study, "paper", "mnist", records)).missing(records):
        records.runs |= {run.id: run for run in missing}
    whole = Results(study, "paper", "mnist", records, found)
    return partly(whole, lambda run: run.seed < 2 or run.epochs == 4 or run.seed >= 1000)


def test_a_seed_counts_as_far_as_its_longest_run():
    found = staged()
    matrix = found.matrix("matched", "Adam")
    assert matrix.loc[:, :3].notna().all(axis=None)
    assert list(matrix.index[matrix[45].notna()]) == [0, 1]
    curves = found.curves("matched")
    n = curves[curves["arm"] == "Adam"].set_index("pass")["n"]
    assert set(n.loc[:3]) == {10}
    assert set(n.loc[4:]) == {2}
    early = dataclasses.replace(FASTER, passes=(1, 3), limit=5.0)
    assert len(claims.metric(early, "matched", found)) == 10
    assert len(claims.metric(FASTER, "matched", found)) == 2


# --- grids ----------------------------------------------------------------------------------------

FIG4 = STUDIES["fig4"]
WORSE, BEST, REGRET, BEST_REGRET, SPARSER = (
    BY_ID[f"fig4-{name}"]
    for name in ("unstable-10", "best-10", "never-worse-10", "never-worse-best-10", "sparser")
)


def of_grid(loss, seeds=range(3)) -> Results:
    """Figure 4 after 10 passes, with a loss that is a function of arm, step size and seed."""

    class Losses:
        def get(self, run_id):
            entry = entries[run_id]
            if entry.run.seed not in seeds or entry.run.epochs != 10:
                return None
            value = loss(entry.arm, entry.run.settings["learning_rate"], entry.run.seed)
            if np.isinf(value):
                return {"status": "diverged", "metrics": {"training_cost": [200.0]}}
            support = list(np.linspace(0.2, 0.1, 10))
            metrics = {"training_cost": [300.0] * 9 + [value], "gradient_support": support}
            return {"status": "finished", "metrics": metrics}

    found = plan(FIG4, "paper", "mnist", Synthetic(None))
    entries = {entry.run.id: entry for entry in found.entries}
    return Results(FIG4, "paper", "mnist", Losses(), found)


def bowl(arm: str, rate: float, seed: int) -> float:
    """Best at 1e-3; uncorrected runs are worse, and diverge at large steps."""
    loss = 105 + 5 * np.log10(rate / 1e-3) ** 2 + 0.01 * seed
    if arm.endswith("nocorr"):
        return np.inf if rate > 5e-3 else loss + 0.5 + 10 * ("0.9999" in arm)
    return loss + 0.2 * ("b2=0.99/" in arm)


def test_a_grid_reads_the_loss_of_the_pass_that_is_asked_for():
    table = of_grid(bowl).grid(9)
    assert len(table) == 3 * 12 * 9
    one = table[(table["arm"] == "b1=0/b2=0.999/biascorr") & (table["seed"] == 2)]
    assert one.set_index("learning_rate")["loss"].loc[1e-3] == pytest.approx(105.02)
    gone = table[(table["arm"] == "b1=0/b2=0.999/nocorr") & (table["learning_rate"] == 0.1)]
    assert np.isinf(gone["loss"]).all()
    assert np.isfinite(of_grid(bowl).grid(5)["loss"]).sum() == 3 * (12 * 9 - 6 * 3)
    assert of_grid(bowl).grid(99)["loss"].isna().sum() == 0


def test_the_metrics_of_a_grid():
    found = of_grid(bowl)
    judged = {claim.id: verdict(found, claim) for claim in claims.of(FIG4)}
    assert judged[WORSE.id].value == 1.0
    assert judged[BEST.id].value == pytest.approx(-0.2)
    assert judged[REGRET.id].value == pytest.approx(-0.3)
    assert judged[BEST_REGRET.id].value == pytest.approx(-0.3)
    assert judged[SPARSER.id].value == pytest.approx(0.5)
    for claim in (WORSE, BEST, REGRET, BEST_REGRET, SPARSER):
        assert judged[claim.id].verdict == REPRODUCED
        assert judged[claim.id].n == 3
    assert judged["fig4-best-100"].verdict == NOT_TESTED


def test_one_setting_that_is_worse_with_correction_is_found():
    def one(arm, rate, seed):
        worse = arm == "b1=0.9/b2=0.9999/biascorr" and rate == 3e-4
        return bowl(arm, rate, seed) + 20 * worse

    found = of_grid(one)
    assert verdict(found, REGRET).verdict == NOT_REPRODUCED
    assert verdict(found, REGRET).value == pytest.approx(20 - 10.5)
    assert verdict(found, BEST_REGRET).verdict == REPRODUCED


def test_corrected_runs_that_alone_diverge_are_infinitely_worse():
    def one(arm, rate, seed):
        alone = arm == "b1=0/b2=0.99/biascorr" and rate == 1e-4
        return np.inf if alone else bowl(arm, rate, seed)

    judged = verdict(of_grid(one), REGRET)
    assert (judged.verdict, judged.value) == (NOT_REPRODUCED, np.inf)


def test_a_seed_without_all_its_settings_is_left_out():
    found = of_grid(bowl, seeds=(0, 2))
    assert verdict(found, REGRET).verdict == NOT_TESTED
    assert verdict(found, REGRET).n == 2


# --- the second moment, and trials ----------------------------------------------------------------


@pytest.mark.parametrize(("share", "expected"), [(0.7, REPRODUCED), (0.2, NOT_REPRODUCED)])
def test_the_share_of_vanished_second_moments_is_judged(share, expected):
    fig3 = STUDIES["fig3"]

    class Shares:
        def get(self, run_id):
            run = runs[run_id]
            below = [0.0] * 6 + [share + 0.01 * run.seed] * (run.epochs - 6)
            return {
                "status": "finished",
                "metrics": {"training_cost": [1.0] * run.epochs, "below_epsilon all": below},
            }

    found = plan(fig3, "paper", "cifar10", Synthetic(None), ["matched"])
    runs = {entry.run.id: entry.run for entry in found.entries}
    judged = verdict(Results(fig3, "paper", "cifar10", Shares(), found), BY_ID["fig3-v-vanishes"])
    assert judged.value == pytest.approx(share + 0.01)
    assert judged.verdict == expected


def test_the_best_of_k_trials_is_that_of_all_draws():
    costs = [3.0, 1.0, np.inf, 2.0, 7.0]
    found = analysis.best_of(costs).set_index("k")
    for k in range(1, 6):
        lowest = sorted(min(draw) for draw in itertools.combinations(costs, k))
        places = [int(np.ceil(q * len(lowest) - 1e-9)) - 1 for q in (0.25, 0.5, 0.75)]
        assert list(found.loc[k, ["low", "median", "high"]]) == [lowest[i] for i in places]


# --- what is recorded beside the costs ------------------------------------------------------------


class Rows:
    """Results whose metrics are given: two seeds, as many rows as there are."""

    study = STUDIES["sec2-steps"]

    def __init__(self, **metrics) -> None:
        self.metrics = metrics

    def matrix(self, role, arm, metric="training_cost"):
        values = self.metrics[metric]
        return pd.DataFrame(values if isinstance(values, list) else values[arm])


def recorded(metric: str, *names: str, passes=(0, -1), **metrics) -> list[float]:
    claim = dataclasses.replace(
        BY_ID["sec2-steps-scale"], metric=metric, recorded=names, passes=passes
    )
    return claims.metric(claim, "matched", Rows(**metrics)).tolist()


def test_the_metrics_of_what_is_recorded():
    a, b = [[1.0, 4.0, 2.0], [3.0, 3.0, 9.0]], [[2.0, 2.0, 2.0], [1.0, 3.0, 9.0]]
    assert recorded("recorded_largest", "a", a=a) == [4, 9]
    assert recorded("recorded_largest", "a", passes=(0, 1), a=a) == [4, 3]
    assert recorded("recorded_last", "a", a=a) == [2, 9]
    assert recorded("recorded_last", "a", passes=(0, 0), a=a) == [1, 3]
    assert recorded("recorded_change", "a", a=a) == [2, 3]
    assert recorded("recorded_off", "a", a=a) == [3, 8]
    ratio = recorded("recorded_ratio", "a", "b", passes=(1, 2), a=a, b=b)
    assert ratio == pytest.approx([np.sqrt(2 * 1), 1])


def test_a_rate_is_the_slope_over_the_last_tenfold():
    t = np.array([1.0, 10.0, 100.0, 300.0, 1000.0])
    regret = np.where(t < 100, 7.0, t**-0.5)  # what comes before does not count
    found = recorded("recorded_rate", "a", a=[list(regret), list(t**-0.25)], t=[list(t)] * 2)
    assert found == pytest.approx([-0.5, -0.25])


def test_growth_with_the_number_of_minibatches_is_a_slope():
    claim = BY_ID["fig2-sfo-cost-memory"]
    memory = {f"SFO/{n}": [[0.0, 3.0 * n, 3.0 * n]] * 2 for n in (25, 50, 100, 200)}

    class Costs(Rows):
        study = STUDIES["fig2-sfo-cost"]

    assert claims.metric(claim, "matched", Costs(optimizer_mb=memory)) == pytest.approx([1, 1])
    square = {arm: [[0.0, n[0][1] ** 2, n[0][1] ** 2]] * 2 for arm, n in memory.items()}
    assert claims.metric(claim, "matched", Costs(optimizer_mb=square)) == pytest.approx([2, 2])


def test_time_is_taken_to_where_the_other_ends():
    claim = BY_ID["fig2-sfo-less-time"]
    costs = {"Adam": [[4.0, 2.0, 1.0], [4.0, 3.9, 3.8]], "SFO": [[9.0, 5.0, 2.0], [9.0, 5.0, 3.0]]}
    seconds = {"Adam": [[1.0, 1.0, 1.0]] * 2, "SFO": [[5.0, 5.0, 10.0]] * 2}

    class Timed(Rows):
        study = STUDIES["fig2-sfo"]

    found = claims.metric(claim, "matched", Timed(training_cost=costs, seconds=seconds))
    assert found.tolist() == [2 / 20, np.inf]


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(5, 10, REPRODUCED), (4, 4.9, NOT_REPRODUCED), (11, 12, NOT_REPRODUCED), (4, 6, INCONCLUSIVE)],
)
def test_a_metric_between_two_limits(low, high, expected):
    claim = BY_ID["fig2-sfo-cost-iteration-25"]
    assert claims.decide(claim, low, high) == expected
    assert "within [5, 10]" in claim.criterion
