"""How work grows with the number of records: counted, not timed. `tests/README.md` has times."""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections import Counter

import pytest

from experiments import pages, studies
from experiments import study as declared
from experiments.cli.main import main
from experiments.plan import plan
from experiments.records import merge, published, store
from experiments.records.store import Store
from experiments.report import charts, summary
from experiments.study import config_id
from experiments.training import train as training

NAME = "fig1-mnist"


def record_of(run) -> dict:
    cost = 0.1 + run.settings["learning_rate"] + run.seed / 1e6
    return {
        "config": run.config(),
        "status": "finished",
        "diverged_at": None,
        "metrics": {name: [cost] * run.epochs for name in training.METRICS},
        "manifest": {"wall_seconds": 0.5, "started": "2026-01-01T00:00:00+00:00"},
    }


class Counting:
    """Counts the ids that are computed, the files that are opened, the folders that are listed."""

    def __init__(self, monkeypatch) -> None:
        self.found: Counter[str] = Counter()
        encoder, opened, scandir = declared._CANONICAL, store._open_regular, os.scandir

        class Encoder:
            @staticmethod
            def encode(config):
                self.found["ids"] += 1
                return encoder.encode(config)

        def open_regular(path, flags):
            self.found["files"] += 1
            return opened(path, flags)

        def listed(path="."):
            self.found["folders"] += 1
            return scandir(path)

        monkeypatch.setattr(declared, "_CANONICAL", Encoder)
        monkeypatch.setattr(store, "_open_regular", open_regular)
        monkeypatch.setattr(os, "scandir", listed)

    def of(self, function) -> Counter[str]:
        """What a call takes."""
        self.found.clear()
        function()
        return Counter(self.found)


@pytest.fixture
def counting(monkeypatch, tmp_path) -> Counting:
    monkeypatch.setenv("ADAM_TF_BUILD", str(tmp_path / "build"))
    return Counting(monkeypatch)


@pytest.fixture
def here(tmp_path) -> Store:
    return Store(tmp_path / "build" / "records")


def with_seeds(monkeypatch, seeds: int) -> None:
    """The study with so many seeds: three runs each."""
    study = studies.STUDIES[NAME]
    smoke = dataclasses.replace(study.profiles["smoke"], seeds=seeds)
    larger = dataclasses.replace(study, profiles={**study.profiles, "smoke": smoke})
    monkeypatch.setitem(studies.STUDIES, NAME, larger)


def runs_of(*protocols: str, records=None) -> list:
    study, found = studies.STUDIES[NAME], records or Store("nowhere")
    return plan(study, "smoke", "mnist-stand-in", found, protocols or ("matched",)).runs()


LINE = [NAME, "--profile", "smoke", "--data", "stand-in"]


def test_planning_computes_each_id_once_and_looks_for_each_record_a_few_times(
    counting, monkeypatch, capfd
):
    found = {}
    for seeds in (20, 80):
        with_seeds(monkeypatch, seeds)
        found[seeds] = counting.of(lambda: main(["plan", *LINE, "--protocol", "matched"]))
        assert f"{3 * seeds}" in capfd.readouterr().out
    grown = found[80] - found[20]
    assert grown["ids"] == 3 * 60
    assert grown["files"] <= 4 * 3 * 60
    assert found[80]["folders"] == found[20]["folders"] <= 2


def test_records_of_other_studies_are_listed_and_not_read(counting, here, monkeypatch, capfd):
    for run in runs_of():
        here.write(record_of(run))

    def shown() -> None:
        for command in (["plan", *LINE, "--json"], ["claims", *LINE]):
            assert main(command) == 0
        results = pages.existing(studies.get(NAME), "smoke", "stand-in")
        parts = summary.parts([results])
        charts.data([results], parts)
        pages.origin(results)

    alone = counting.of(shown)
    for i in range(300):
        (here.path / f"{i:016x}.json").write_bytes(b"not to be read")
    assert counting.of(shown) == alone
    assert alone["files"] > len(runs_of())
    assert "ignored" not in capfd.readouterr().err


def test_all_records_are_read_once_each(counting, here, monkeypatch):
    """What `doctor` does."""
    for seeds in (20, 60):
        with_seeds(monkeypatch, seeds)
        for run in runs_of():
            here.write(record_of(run))
        found = counting.of(lambda: list(Store(here.path).records()))
        assert found == {"files": 3 * seeds, "ids": 3 * seeds, "folders": 1}


def test_merging_takes_as_much_for_each_record(counting, here, tmp_path, monkeypatch):
    found = {}
    for seeds in (10, 40):
        with_seeds(monkeypatch, seeds)
        theirs = Store(tmp_path / f"theirs-{seeds}")
        for run in runs_of():
            theirs.write(record_of(run))
        target = Store(tmp_path / f"ours-{seeds}")
        found[seeds] = counting.of(lambda: list(merge.into_store([theirs.path], target)))  # noqa: B023
        assert len(target.ids()) == 3 * seeds
    grown = found[40] - found[10]
    assert grown["files"] / (3 * 30) <= 4  # theirs, the lock, and a look for ours
    assert grown["ids"] / (3 * 30) <= 8
    assert found[40]["folders"] == found[10]["folders"]


def test_a_published_table_is_read_once_however_many_records_are_asked_for(tmp_path, monkeypatch):
    with_seeds(monkeypatch, 30)
    records = [record_of(run) for run in runs_of()]
    published.write(tmp_path / f"{NAME}.parquet", records, {})
    reads, opened = [], published._open
    monkeypatch.setattr(published, "_open", lambda *given: reads.append(given) or opened(*given))
    for source, record in itertools.product([published.Published(tmp_path)] * 2, records):
        assert source.get(config_id(record["config"]))["metrics"] == record["metrics"]
    assert len(reads) == 2  # the ids, then all
