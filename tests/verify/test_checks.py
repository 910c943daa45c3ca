"""Checks add up, are sent and taken in; what is damaged or foreign is refused in one line."""

from __future__ import annotations

import dataclasses
import json
import re

import numpy as np
import pytest
from commands import run

from experiments import pages
from experiments.analysis import claims
from experiments.records.published import Published
from experiments.report import readme, summary
from experiments.studies import STUDIES
from experiments.training import runtime
from experiments.verify import again, checks, ending, kept, sample, seeds

CHECK = again.Check(
    run="0" * 16, record="1" * 16, study="fig1-mnist", role="matched", arm="Adam", seed=0,
    passes=4, published=46, equal=0, largest=2e-7,
)  # fmt: skip
SEED = seeds.Seed("fig1-mnist", "a-claim", "matched", 100, 0.5, 0.4, 0.6, 10, True, False)


pytestmark = pytest.mark.usefixtures("build")


@pytest.fixture(scope="module")
def published():
    return pages.published(STUDIES["fig1-mnist"])


def test_checks_come_back_as_they_were_and_add_up(tmp_path):
    kept = checks.Folder(tmp_path / "checks")
    kept.put(CHECK)
    kept.put(dataclasses.replace(CHECK, passes=9))
    kept.put(CHECK)  # the time was up sooner
    kept.put(SEED)
    found = kept.all()
    assert found.runs == [dataclasses.replace(CHECK, passes=9)]
    assert found.seeds == [SEED]
    assert str(found) == "1 run, 9 passes, largest difference 2e-07; 1 new seed as predicted"
    assert found.valid({CHECK.run: "another"}).runs == []
    assert found.valid({}).seeds == []  # the ledger holds no such claim
    claim = claims.of(STUDIES["fig1-mnist"])[0].id
    known = dataclasses.replace(found, seeds=[dataclasses.replace(SEED, claim=claim)])
    assert known.valid({}).seeds == known.seeds
    assert found.faults == []


def test_a_check_is_of_every_study_that_has_the_run():
    """The convolutional runs of Figure 3 are arms of the study without the first moment, too."""
    fig3, without, other = (
        pages.published(STUDIES[name]) for name in ("fig3", "sec6-first-moment-cnn", "fig1-mnist")
    )
    every = [{run.id for run in each.plan.runs()} for each in (fig3, without, other)]
    shared = min(every[0] & every[1])
    own = min(every[1] - every[0])
    runs = [dataclasses.replace(CHECK, run=shared, study="fig3", fault="of both")]
    runs.append(dataclasses.replace(CHECK, run=own, study="sec6-first-moment-cnn"))
    made = checks.Checks({}, runs, [])
    assert [len(made.of(each).runs) for each in (fig3, without, other)] == [1, 2, 0]
    assert len(made.of(fig3, without).runs) == 2, "the shared one counts once"
    assert made.of(without).faults
    first = sample.items([fig3, without])[0]
    assert first.level == 0
    assert first.run.id in every[0] & every[1], "one run reaches both"


def test_a_disagreement_is_loud(tmp_path):
    kept = checks.Folder(tmp_path / "checks")
    kept.put(dataclasses.replace(CHECK, fault="objective of pass 2 is wrong"))
    found = kept.all()
    assert str(found).startswith("1 DISAGREEMENT; 1 run")
    assert found.faults == [
        "fig1-mnist Adam matched seed 0 (0000000000000000): objective of pass 2 is wrong"
    ]


def test_an_export_is_imported_with_its_machine(tmp_path, published, capsys):
    item = sample.items([published])[0]
    record = published.records.get(item.run.id)
    check = dataclasses.replace(CHECK, run=item.run.id, record=again.digest(record))
    checks.Folder(kept.folder() / "checks").put(check)
    file = tmp_path / "sent.json"
    assert run(f"verify fig1-mnist --export {file}") == 0
    assert "1 run, 4 passes" in capsys.readouterr().out
    assert run(f"verify --import {file}") == 0
    assert "1 run, 4 passes" in capsys.readouterr().out
    (taken,) = checks.others(kept.folder() / "imported")
    assert taken.runs == [check]
    assert set(taken.machine) >= {"processor", "kind", "numpy", "tensorflow", "backend"}
    both = tmp_path / "both.json"
    assert run(f"verify fig1-mnist --import {file} --export {both}") == 0
    assert checks.read(both).runs == [check]
    capsys.readouterr()
    for option in (f"--import {file}", f"--export {both}"):
        assert run(f"verify fig1-mnist --report {option}") == 2
        assert "--report follows training" in capsys.readouterr().err


def test_a_machine_that_computes_as_an_older_one_says_so(monkeypatch):
    """Its check shows another rounding, and must not pass for another processor."""
    for name in runtime.OLDER:
        monkeypatch.delenv(name, raising=False)
    assert "older" not in checks.machine()["kind"]
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "SSE41")
    assert checks.machine()["kind"].endswith("older one: ONEDNN_MAX_CPU_ISA=SSE41")


def test_published_checks_are_of_the_published_records_and_agree():
    """By this kind of processor, and with its libraries computing as an older kind does."""
    found = checks.others(checks.PUBLISHED)
    assert [line for each in found for line in each.damaged] == []
    assert len({each.machine["kind"] for each in found}) == len(found) >= 2
    assert sum("older" in each.machine["kind"] for each in found) == 1
    records = Published(pages.RESULTS)
    for each in found:
        assert len(each.runs) >= 9
        assert each.faults == each.failures == []
        for check in each.runs:
            record = records.get(check.run)
            assert record is None or again.digest(record) == check.record, check
        # Rounding shows, or there was nothing to tell from a disagreement.
        assert 1e-9 < max(check.largest for check in each.runs) < 1e-6


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text[: len(text) // 2],
        lambda text: text.replace("2e-07", "2e-09"),
        lambda text: "[" * 100_000,
        lambda text: "[]",
        lambda text: json.dumps({**json.loads(text), "format": 2}),
    ],
)
def test_a_damaged_file_is_refused_in_one_line(tmp_path, capsys, spoil):
    file = tmp_path / "sent.json"
    checks.export(checks.Checks(runs=[CHECK]), file)
    file.write_text(spoil(file.read_text()))
    assert run(f"verify --import {file}") == 2
    error = capsys.readouterr().err
    assert str(file) in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("minutes", ["-1", "0", "nan", "inf", "soon"])
def test_an_impossible_time_is_refused(minutes, capsys):
    assert run(f"verify --minutes={minutes}") == 2
    assert f"'{minutes}' is not valid: use a number above 0" in capsys.readouterr().err


def test_the_sample_has_every_study_method_and_protocol(published):
    items = sample.items([published])
    runs = [(item.run.id, item.passes) for item in items]
    assert len(set(runs)) == len(runs)
    assert items == sample.items([published])
    assert [item.level for item in items] == sorted(item.level for item in items)
    early = [item for item in items if item.level <= 3]
    assert {(i.role, i.arm) for i in early} == {
        (role, arm.name) for role in ("matched", "tuned") for arm in published.study.arms
    }
    assert all(item.passes <= item.run.epochs for item in items)


def test_what_is_checked_is_not_trained_again(published):
    items = sample.items([published])
    first = items[0]
    rest = sample.items([published], [(first.run.id, first.passes)])
    assert [item.run.id for item in rest if item.passes <= first.passes].count(first.run.id) == 0
    assert len(rest) == len(items) - 1


@pytest.mark.parametrize("log", [False, True])
def test_the_prediction_interval_holds_as_often_as_it_says(log):
    random = np.random.default_rng(7)
    values = random.normal(1.0, 0.1, size=(4_000, 6))
    values = np.exp(values) if log else values
    hits = 0
    for *seen, new in values:
        low, high = seeds.predicted(np.array(seen), 0.95, log)
        hits += low <= new <= high
    assert hits / len(values) == pytest.approx(0.95, abs=0.012)


def test_a_new_seed_is_judged_by_the_claims_own_metric(published):
    """Seed 3's published runs, as if they were new."""
    first = sorted({entry.run.seed for entry in published.plan.entries})[3]

    class AsNew:
        def get(self, run_id):
            for (entry, _), (old, _) in zip(
                seeds.entries(published, seeds.FIRST_SEED),
                seeds.entries(published, first),
                strict=True,
            ):
                if entry.run.id == run_id:
                    return published.records.get(old.run.id)
            return None

    found = seeds.judge(published, AsNew())
    assert len(found) >= 5
    assert {seed.seed for seed in found} == {seeds.FIRST_SEED}
    assert not any(seed.far for seed in found)


def test_a_new_seed_of_half_a_grid_is_not_judged():
    """The best of a few step sizes says nothing of the best of all."""
    found = pages.published(STUDIES["fig4"])
    wanted = [entry for entry, _ in seeds.entries(found, seeds.FIRST_SEED)]
    first = min(entry.run.seed for entry in found.plan.entries)
    like = {
        entry.run.id: found.records.get(dataclasses.replace(entry.run, seed=first).id)
        for entry in wanted
    }
    some = {entry.run.id for entry in wanted if entry.run.settings["learning_rate"] < 1e-4}
    assert 0 < len(some) < len(wanted)
    judged = seeds.judge(found, {key: value for key, value in like.items() if key in some})
    whole = seeds.judge(found, like)
    grids = {seed.claim for seed in whole}
    assert {"fig4-never-worse-best-10", "fig4-best-10"} & grids
    assert not {seed.claim for seed in judged} & {"fig4-never-worse-best-10", "fig4-best-10"}


def test_a_misplaced_file_of_checks_is_named(tmp_path, capsys):
    """An exported file in the place of a single check, and one that is not there."""
    folder = checks.Folder(tmp_path / "checks")
    checks.export(checks.Checks({}, [CHECK]), tmp_path / "checks" / "exported.json")
    (damaged,) = folder.all().damaged
    assert "exported.json is ignored" in damaged
    assert run(f"verify --import {tmp_path / 'nosuch.json'}") == 2
    assert "nosuch.json does not exist: give a file that --export wrote" in capsys.readouterr().err


@pytest.mark.parametrize(("spread", "judged"), [(0.0, False), (1e-6, True)])
def test_a_bound_that_all_seeds_touch_predicts_no_new_seed(published, monkeypatch, spread, judged):
    """A regret of exactly 0 in five seeds says only that one method was ahead in all five."""
    claim = next(c for c in claims.of(published.study) if c.metric == "cost_ratio")
    seen = np.array([1.0, 1.0, 1.0, 1.0, 1.0 + spread])

    def compute(claim, protocol, results):
        return seen if results is published else np.array([1.01])

    metric = dataclasses.replace(seeds.METRICS["cost_ratio"], compute=compute)
    monkeypatch.setitem(seeds.METRICS, "cost_ratio", metric)
    entry, _ = seeds.entries(published, seeds.FIRST_SEED)[0]
    fresh = {entry.run.id: published.records.get(published.plan.entries[0].run.id)}
    found = [seed for seed in seeds.judge(published, fresh) if seed.claim == claim.id]
    assert bool(found) == judged
    assert all(seed.far for seed in found)


def test_the_end_is_short_whatever_disagrees(published):
    """With every study checked, faults, failures and a report, all that counts is there."""
    names = [f"study-{i}" for i in range(20)]
    found = [
        dataclasses.replace(published, study=dataclasses.replace(published.study, name=name))
        for name in names
    ]
    runs = [
        dataclasses.replace(CHECK, run=f"{i:016x}", study=name, fault=fault, failed=failed)
        for i, name in enumerate(names)
        for fault, failed in (("", False), ("objective of pass 2 is wrong", False), ("no", True))
    ]
    lines = ending.end(
        found,
        [],
        checks.Checks(runs=runs),
        {},
        60.0,
        (900.0, 450.0),
        kept.folder() / "index.html",
        8.0,
    )
    text = "\n".join(lines)
    assert len(lines) <= ending.LINES
    assert "20 DISAGREEMENTS:\n  study-0 " in text
    assert "20 runs could not be trained:\n  study-0 " in text
    assert text.count("more, in") == 2
    assert "more studies: " in text
    assert lines[-2].startswith("report: ")
    assert lines[-1].startswith("Next: ")


def test_all_passes_are_all_of_them_also_where_runs_diverge():
    found = pages.published(STUDIES["batches-gpt"])
    records = kept.published_records([found])
    runs = []
    for run_id, record in records.items():
        passes = len(record["metrics"]["training_cost"]) + (record["diverged_at"] is not None)
        runs.append(dataclasses.replace(CHECK, run=run_id, passes=passes, published=passes))
    assert any(record["diverged_at"] is not None for record in records.values())
    done = checks.Checks(runs=runs)
    text = "\n".join(ending.end([found], [], done, {}, 1.0, (1.0, 1.0), None, 8.0))
    assert f"{len(runs)} runs of {len(runs)}, " in text
    assert "(100.0%)" in text


def test_what_could_not_be_trained_is_no_disagreement():
    found = checks.Checks(runs=[dataclasses.replace(CHECK, fault="no memory", failed=True)])
    assert found.faults == []
    assert len(found.failures) == 1
    assert str(found) == "1 run could not be trained"


def test_the_end_counts_the_papers_statements_as_the_readme_does():
    found = [pages.published(study) for study in pages.published_studies()]
    judged = [verdict for results in found for verdict in claims.judge(results)]
    said = ending.end(found, judged, checks.Checks(), {}, 1.0, (1.0, 1.0), None, 8.0)[0]
    answer = readme.answer(summary.parts(found))
    for protocol in ("matched", "tuned"):
        counts = re.search(rf"{protocol}: ([^;.]*)", said)[1]
        number = {kind: int(n) for n, kind in re.findall(r"(\d+) ([a-z ]+)", counts)}
        tested = sum(number.values()) - number["not tested"]
        words = "hold with *matched* settings" if protocol == "matched" else "with *tuned* ones"
        assert f"**{number['reproduced']} of {tested}** {words}" in answer
