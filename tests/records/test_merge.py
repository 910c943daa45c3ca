"""Records trained elsewhere: each is judged, none is overwritten, conflicts are named."""

from __future__ import annotations

import copy
import itertools
import shutil

import pytest

from experiments import pages, studies
from experiments import plan as planning
from experiments.cli.main import main
from experiments.records import published as tables
from experiments.records import store as stores
from experiments.records.store import Store
from experiments.report import build as report
from experiments.study import FIRST_TUNING_SEED
from experiments.training import train as training

STUDY = studies.get("fig1-mnist")
RUNS = planning.plan(STUDY, "paper", "mnist", Store("nowhere")).runs()[:6]


def finished(run, cost: float = 0.5, seconds: float = 1.0) -> dict:
    """A record that might be that run's."""
    metrics = {name: [cost + run.seed / 1e3] * run.epochs for name in training.METRICS}
    return {
        "config": run.config(),
        "status": "finished",
        "diverged_at": None,
        "metrics": metrics | {"seconds": [seconds] * run.epochs},
        "manifest": {"wall_seconds": seconds, "commit": "0123456789ab"},
    }


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """The local build and results folders, and two of contributors, all empty."""
    monkeypatch.setenv("ADAM_TF_BUILD", str(tmp_path / "build"))
    monkeypatch.setattr(pages, "RESULTS", tmp_path / "results")
    return tmp_path


def filled(folder, runs, **changes) -> Store:
    store = Store(folder)
    for run in runs:
        store.put(finished(run, **changes))
    return store


def merge(*arguments) -> int:
    return main(["merge", *map(str, arguments)])


def content(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*") if path.is_file()}


def test_two_contributors_make_the_study_that_one_would_have_made(folders, capfd):
    """In every order and form: record files, build folders, checkouts, published tables."""
    whole = filled(folders / "whole", RUNS)
    report.publish(STUDY, whole)
    expected = (folders / "results" / "fig1-mnist.parquet").read_bytes()
    shutil.rmtree(folders / "results")
    filled(folders / "ann" / "records", RUNS[:4])
    # Bob has one run that Ann has too; his machine took longer over it, which is no conflict.
    bob = filled(folders / "bob" / "build" / "records", RUNS[4:])
    bob.put(finished(RUNS[3], seconds=9.0))
    for order in itertools.permutations(("ann", "bob")):
        assert merge(*(folders / name for name in order)) == 0
        out, err = capfd.readouterr()
        assert err == ""
        counts = {"ann": (4, 0), "bob": (2, 1)} if order[0] == "ann" else {"bob": (3, 0)}
        for name, (taken, there) in counts.items():
            were = "was" if there == 1 else "were"
            line = f"{folders / name}: {taken} records taken, {there} {were} here already\n"
            assert line in out
        merged = content(folders / "build" / "records")
        for run in (run for run in RUNS if run != RUNS[3]):
            assert merged[f"{run.id}.json"] == (whole.path / f"{run.id}.json").read_bytes()
        assert set(merged) == set(content(whole.path))
        assert main(["publish", STUDY.name]) == 0
        if order[0] == "ann":
            assert (folders / "results" / "fig1-mnist.parquet").read_bytes() == expected
        capfd.readouterr()
        assert merge(*(folders / name for name in order)) == 0  # once more: nothing changes
        assert "0 records taken" in capfd.readouterr().out
        assert content(folders / "build" / "records") == merged
        shutil.rmtree(folders / "build")
        shutil.rmtree(folders / "results")
    # The same under results/: Ann's table and Bob's records; nothing goes to the store.
    report.publish(STUDY, Store(folders / "ann" / "records"))
    (folders / "results").rename(folders / "ann" / "results")
    shutil.rmtree(folders / "ann" / "records")
    assert merge("--results", folders / "ann", folders / "bob") == 0
    out = capfd.readouterr().out
    assert out.endswith("results/fig1-mnist.parquet: 6 of 333 runs, not finished\n")
    assert (folders / "results" / "fig1-mnist.parquet").read_bytes() == expected
    assert not (folders / "build").exists()


@pytest.mark.parametrize("results", [False, True])
def test_conflicts_are_named_and_what_is_here_stays(folders, capfd, results):
    here = filled(folders / "build" / "records", RUNS[:2])
    if results:
        report.publish(STUDY, here)
    before = content(folders / ("results" if results else "build/records"))
    other = filled(folders / "other", RUNS[1:3], cost=0.25)
    diverged = finished(RUNS[0]) | {"status": "diverged", "diverged_at": 1}
    diverged["metrics"] = {name: values[:1] for name, values in diverged["metrics"].items()}
    other.put(diverged)
    filled(folders / "third", RUNS[2:3], cost=0.125)
    options = ["--results"] if results else []
    assert merge(*options, folders / "other", folders / "third") == 1
    out, err = capfd.readouterr()
    where = here.path if not results else folders / "results"
    cost = 0.25 + RUNS[1].seed / 1e3
    assert f"{other.path}: 1 record taken, 0 were here already, 2 not taken" in out
    for run, reason in (
        (RUNS[0], f"{other.path / RUNS[0].id}.json: conflict over run {RUNS[0].id} ("),
        (RUNS[0], "status 'diverged', not 'finished'; the one in"),
        (RUNS[1], f"training_cost of pass 0 is {cost!r}, not {cost + 0.25!r}; the one in {where}"),
        (RUNS[2], f"{folders / 'third' / RUNS[2].id}.json: conflict over run"),
    ):
        assert reason in err, run
    assert err.count("\n") == 3
    if not results:
        after = content(here.path)
        assert {name: after[name] for name in before} == before
        assert len(after) == 3
    found = tables.read(folders / "results" / "fig1-mnist.parquet") if results else here
    assert found.get(RUNS[1].id)["metrics"] == finished(RUNS[1])["metrics"]


def spoilt(change) -> dict:
    record = copy.deepcopy(finished(RUNS[0]))
    change(record)
    return record


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (spoilt(lambda r: r["config"].update(problem="mnist")), "no run that this version knows"),
        (spoilt(lambda r: r["config"].update(data="mnits")), "unknown data set 'mnits'"),
        (spoilt(lambda r: r["config"].update(data_fingerprint="0")), "its data_fingerprint is '0'"),
        (spoilt(lambda r: r["config"]["numerics"].update(training=0)), "its numerics is {"),
        (spoilt(lambda r: r["config"].update(more=1)), "its configuration is not that of a run"),
        (spoilt(lambda r: r["config"]["settings"].update(learning_rate=-1)), "learning_rate=-1"),
        (spoilt(lambda r: r["config"]["options"].update(depth=3)), "'depth'"),
        (spoilt(lambda r: r["config"].update(epochs=3)), "passes, not 3"),
        (spoilt(lambda r: r.update(status="diverged", diverged_at=3)), "passes, not 3"),
        (spoilt(lambda r: r["metrics"].pop("training_cost")), "it has 0 passes, not"),
    ],
)
def test_a_record_of_no_run_is_not_taken(folders, capfd, record, reason):
    Store(folders / "other").put(record)
    assert merge(folders / "other") == 1
    err = capfd.readouterr().err
    assert reason in err
    assert err.startswith(f"adam-study: {folders / 'other'}")
    assert err.count("\n") == 1
    assert not Store(folders / "build" / "records").ids()


def test_damaged_foreign_and_unfinished_files_stay_where_they_are(folders, capfd):
    other = filled(folders / "other", RUNS[:2])
    path = other.path / f"{RUNS[0].id}.json"
    path.write_bytes(path.read_bytes().replace(b"0.5", b"0.6"))
    (other.path / f"{RUNS[2].id}.json").mkdir()
    (other.path / "copy of a record.json").write_text("{}")
    (other.path / "fig1.parquet").write_text("PAR1")
    other.save_checkpoint(RUNS[3], [], {"training_cost": [1.0]})
    before = content(other.path)
    assert merge(other.path) == 1
    out, err = capfd.readouterr()
    assert "1 record taken, 0 were here already, 4 not taken" in out
    assert f"{path} is ignored: its checksum does not fit its content\n" in err
    assert f"{RUNS[2].id}.json is ignored: it is a folder\n" in err
    assert "copy of a record.json is ignored: it is not named after a run\n" in err
    assert f"{other.path / 'fig1.parquet'} is not a whole Parquet file" in err
    assert err.count("\n") == 4
    assert content(other.path) == before
    assert [p.name for p in (folders / "build" / "records").iterdir()] == [f"{RUNS[1].id}.json"]


@pytest.mark.parametrize("commit", ["0123456789ab+", "unknown", "0123456789ab; unknown"])
def test_records_of_changed_code_are_not_published(folders, capfd, commit):
    record = finished(RUNS[0])
    record["manifest"]["commit"] = commit
    Store(folders / "other").put(record)
    filled(folders / "other", RUNS[1:2])
    assert merge("--results", folders / "other") == 1
    assert "it was trained by code that no commit holds" in capfd.readouterr().err
    assert list(tables.read(folders / "results" / "fig1-mnist.parquet")) == [RUNS[1].id]


def test_what_no_study_plans_stays_out_of_results(folders, capfd):
    run = STUDY.run(
        STUDY.arm("Adam"),
        {"learning_rate": 0.123},
        profile=STUDY.profile("paper"),
        data="mnist",
        seed=FIRST_TUNING_SEED - 1,
    )
    filled(folders / "other", [run])
    assert merge("--results", folders / "other") == 0
    assert "1 record is of no run that is planned at profile paper" in capfd.readouterr().out
    assert not (folders / "results").exists()
    assert merge(folders / "other") == 0  # a store takes runs of one's own
    assert Store(folders / "build" / "records").ids() == [run.id]


def test_runs_that_follow_from_others_are_taken_with_them(folders, capfd, monkeypatch):
    """Tuned runs are planned once all trials are there; without them nothing asks for them."""
    monkeypatch.setattr(pages, "PUBLISHED_PROFILE", "smoke")
    records: dict[str, dict] = {}
    while missing := (found := planning.plan(STUDY, "smoke", "mnist", records)).missing(records):
        records |= {run.id: finished(run) for run in missing}
    tuned = {run.id for run in found.runs("tuned")} - {run.id for run in found.runs("matched")}
    ann, bob = folders / "ann", folders / "bob"
    filled(ann, [run for run in found.runs() if run.id in tuned])
    filled(bob, [run for run in found.runs() if run.id not in tuned])
    assert merge("--results", ann) == 0
    said = "some runs, such as tuned ones, are planned only once others are there: merge the"
    assert said in capfd.readouterr().out
    assert merge("--results", bob) == 0
    file = folders / "results" / "fig1-mnist.parquet"
    assert tables.read(file).keys() == records.keys() - tuned
    assert merge("--results", ann, bob) == 0
    assert tables.read(file).keys() == records.keys()


def test_folders_that_can_not_be_merged(folders, capfd):
    filled(folders / "build" / "records", RUNS[:1])
    (folders / "empty").mkdir()
    link = folders / "link"
    link.symlink_to(folders / "build")
    filled(folders / "good", RUNS[1:2])
    for name, reason in (
        ("empty", "holds no records"),
        ("nowhere", "is not a folder"),
        ("build", "is where the records would go"),
        ("link", "is where the records would go"),
    ):
        assert merge(folders / "good", folders / name) == 2
        err = capfd.readouterr().err
        assert f"{folders / name} {reason}" in err
        assert err.count("\n") == 1
    assert merge() == 2
    assert "merge needs a folder" in capfd.readouterr().err
    assert len(Store(folders / "build" / "records").ids()) == 1


def test_a_merge_that_is_cut_short_is_finished_by_the_next(folders, monkeypatch, capfd):
    filled(folders / "other", RUNS)
    write, written = stores.write_atomically, []

    def interrupted(path, content):
        if path.suffix == ".json":
            if len(written) == 3:
                raise KeyboardInterrupt
            written.append(path)
        write(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(stores, "write_atomically", interrupted)
        assert merge(folders / "other") == 130
    records = folders / "build" / "records"
    assert sorted(path.name for path in records.iterdir()) == sorted(p.name for p in written)
    assert merge(folders / "other") == 0
    assert "3 records taken, 3 were here already" in capfd.readouterr().out
    assert content(records) == content(folders / "other")


def test_a_run_that_is_being_trained_here_is_left_alone(folders, capfd):
    filled(folders / "other", RUNS[:2])
    store = Store(folders / "build" / "records")
    with store.claim(RUNS[0].lineage):
        assert merge(folders / "other") == 1
    assert f"run {RUNS[0].id} (" in (err := capfd.readouterr().err)
    assert "is being trained here now; merge it again later" in err
    assert store.ids() == [RUNS[1].id]


def test_publishing_other_numbers_over_published_ones_is_said(folders, capfd):
    report.publish(STUDY, filled(folders / "before", RUNS[:2]))
    filled(folders / "build" / "records", RUNS[1:2], cost=0.25)
    assert main(["publish", STUDY.name]) == 0
    err = capfd.readouterr().err
    assert f"fig1-mnist: run {RUNS[1].id} was published with other numbers: training_cost" in err
    assert err.count("\n") == 1
