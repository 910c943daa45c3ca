"""What the command line gives to other tools: JSON, CSV, events for TensorBoard, comparisons."""

from __future__ import annotations

import csv
import io
import itertools
import json
import math
import os
import re
import runpy
import sys
import types

import numpy as np
import pandas as pd
import pytest
from commands import run

import adam_study
import adam_tf
from experiments import paths, studies
from experiments.methods import optimizers
from experiments.records.published import Published
from experiments.studies import by_name
from experiments.training import runtime

STUDY = "sec7-logistic"


pytestmark = pytest.mark.usefixtures("build")


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    """The published records, as pandas reads them."""
    return pd.read_parquet(paths.ROOT / "results" / f"{STUDY}.parquet")


def said(capfd, *words: str) -> str:
    assert run(*words) == 0
    return capfd.readouterr().out


# --- verdicts -------------------------------------------------------------------------------------


def test_claims_are_numbers_as_json_and_as_csv(capfd, table):
    rows = json.loads(said(capfd, "claims", STUDY, "--json"))
    read = list(csv.DictReader(io.StringIO(said(capfd, "claims", STUDY, "--csv"))))
    assert [list(row.values()) for row in read] == [
        ["" if value is None else str(value) for value in row.values()] for row in rows
    ]
    assert {(row["study"], row["part"], row["profile"]) for row in rows} == {
        (STUDY, "AdaMax and averaging", "published")
    }
    row = next(r for r in rows if (r["id"], r["protocol"]) == (f"{STUDY}-mean", "tuned"))
    adam = table[table["role"].str.contains("tuned") & (table["arm"] == "Adam")]
    first, last = re.search(r"over passes (\d+)-(\d+)", row["criterion"]).groups()
    adam = adam[adam["pass"].between(int(first), int(last))]
    ratio = np.log(adam["mean held_out_cost"] / adam["last held_out_cost"])
    assert row["value"] == pytest.approx(math.exp(ratio.mean()), rel=1e-12)
    assert row["n"] == adam["seed"].nunique() == 10
    assert row["low"] < row["value"] < row["high"]
    assert (row["unit"], row["rule"]) == ("ratio", "below")
    assert (row["limit_low"], row["limit_high"]) == (None, 1.0)
    flips = {
        "reproduced": (row["high"], row["high"]),
        "not reproduced": (row["low"], row["low"]),
        "inconclusive": (row["low"], row["high"]),
    }
    assert (row["flip_low"], row["flip_high"]) == flips[row["verdict"]]


def test_rules_with_two_limits_and_inconclusive_verdicts_have_two_numbers(capfd):
    names = ("fig1-mnist", "fig3", "fig4", "sec4-regret")
    rows = json.loads(said(capfd, "claims", *names, "--json"))
    within = [row for row in rows if row["rule"] == "within"]
    assert within
    for row in within:
        assert row["limit_low"] * row["limit_high"] == pytest.approx(1)
    undecided = [row for row in rows if row["verdict"] == "inconclusive"]
    assert undecided
    for row in undecided:
        assert row["flip_low"] < row["flip_high"]
        if row["rule"] in ("below", "above"):
            limit = row["limit_high"] if row["rule"] == "below" else row["limit_low"]
            assert row["flip_low"] <= limit <= row["flip_high"]
    assert {row["unit"] for row in rows} == {
        *("ratio", "nats", "log ratio", "share", "slope", "as recorded")
    }
    assert all(row["reason"] for row in rows if row["verdict"] == "not tested")
    assert "NaN" not in json.dumps(rows)


# --- other commands as JSON -----------------------------------------------------------------------


def test_the_studies_as_json(capfd):
    found = json.loads(said(capfd, "list", "--json"))
    assert [each["study"] for each in found] == list(studies.STUDIES)
    first = found[0]
    assert first["arms"][2]["matched"] == {"learning_rate": 0.001, "decay": "sqrt_epoch"}
    assert first["profiles"]["paper"] == {"passes": 46, "seeds": 10}


def test_a_plan_of_several_studies_ends_with_their_sum(capfd):
    names = ["fig1-mnist", "sec7-logistic"]
    line = ["plan", *names, "--profile", "smoke", "--data", "stand-in"]
    each = json.loads(said(capfd, *line, "--json"))
    last = said(capfd, *line, "--workers", "2").splitlines()[-1]
    missing = sum(entry["missing"] + entry["later"] for entry in each)
    assert last.startswith(f"in all 2 studies: {missing} runs are missing, about ")


def test_the_doctor_as_json(capfd, monkeypatch):
    monkeypatch.setattr(runtime, "configure", lambda: None)
    monkeypatch.setattr(runtime, "manifest", lambda: {"devices": ["CPU"], "backend": "none"})
    found = json.loads(said(capfd, "doctor", "--json"))
    assert found["problems"] == []
    assert found["packages"]["keras"]["version"]
    assert found["data"]["mnist"] == ["missing"]
    assert found["records"]["whole"] == 0


def test_the_version_is_one_everywhere(capfd):
    assert said(capfd, "--version").startswith(f"adam-study {adam_tf.__version__} (commit ")
    citation = (paths.ROOT / "CITATION.cff").read_text()
    assert f"\nversion: {adam_tf.__version__}\n" in citation


# --- export ---------------------------------------------------------------------------------------


def test_export_writes_what_is_recorded(capfd, table, tmp_path):
    import tensorflow as tf

    out = said(capfd, "export", STUDY, "--to", str(tmp_path / "out"))
    assert f"tensorboard --logdir {tmp_path / 'out' / 'tensorboard'}\n" in out
    written = pd.read_csv(tmp_path / "out" / "csv" / f"{STUDY}.csv")
    one = written.drop_duplicates(["run", "pass"]).set_index(["run", "pass"]).sort_index()
    theirs = table.set_index(["run", "pass"]).sort_index()
    assert len(one) == len(theirs)
    for name in ("training_cost", "held_out_accuracy", "settings.learning_rate", "seed"):
        assert (one[name].to_numpy() == theirs[name].to_numpy()).all()
    verdicts = pd.read_csv(tmp_path / "out" / "csv" / "verdicts.csv")
    assert set(verdicts["study"]) == {STUDY}

    reported = table[table["role"].str.contains("matched|tuned")]
    folders = list((tmp_path / "out" / "tensorboard" / STUDY).glob("*/*/seed-*"))
    runs = reported.drop_duplicates("run")["role"].str.split("; ").explode()
    assert len(folders) == runs.isin(("matched", "tuned")).sum()
    (path,) = (tmp_path / "out/tensorboard" / STUDY / "tuned/AdaMax/seed-2").glob("events*")
    run_ = reported[(reported["arm"] == "AdaMax") & reported["role"].str.contains("tuned")]
    run_ = run_[run_["seed"] == 2].sort_values("pass")
    events = [
        tf.compat.v1.Event.FromString(raw.numpy()) for raw in tf.data.TFRecordDataset(str(path))
    ]
    events = [event for event in events if event.summary.value]
    assert [event.step for event in events] == run_["pass"].tolist()
    costs = [v.simple_value for e in events for v in e.summary.value if v.tag == "training_cost"]
    assert np.array_equal(np.float32(costs), np.float32(run_["training_cost"]))
    assert "mean/held_out_cost" in {value.tag for value in events[0].summary.value}
    times = np.diff([event.wall_time for event in events])
    assert times == pytest.approx(run_["seconds"].to_numpy()[1:], abs=1e-6)


def test_an_unknown_format_is_refused(capfd):
    assert run("export", STUDY, "--format", "cvs") == 2
    assert "unknown format 'cvs': did you mean csv?" in capfd.readouterr().err


# --- compare --------------------------------------------------------------------------------------


def test_runs_are_compared_by_id_and_by_settings(capfd, table):
    seed = table[table["role"].str.contains("tuned") & (table["seed"] == 3)]
    ids = dict(zip(seed["arm"], seed["run"], strict=True))
    by_id = said(capfd, "compare", ids["Adam"][:10], ids["AdaMax"], "--json")
    words = [f"{STUDY}:{arm}:role=tuned,seed=3" for arm in ("Adam", "AdaMax")]
    assert json.loads(by_id) == json.loads(said(capfd, "compare", *words, "--json"))
    found = json.loads(by_id)
    assert [about["run"] for about in found["runs"]] == [ids["Adam"], ids["AdaMax"]]
    assert "optimizer" in found["differ_in"]
    assert not {"seed", "problem", "l2"} & set(found["differ_in"])
    last = [row for row in found["metrics"] if row["metric"] == "training_cost"][-1]
    for name, arm in (("first", "Adam"), ("second", "AdaMax")):
        cost = seed[seed["arm"] == arm].sort_values("pass")["training_cost"].iloc[-1]
        assert last[name] == cost
    assert last["ratio"] == last["second"] / last["first"]
    text = said(capfd, "compare", *words)
    assert "optimizer ≠" in text
    assert "seed ≠" not in text


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["fig1-mnist:Adam"], "compare takes two runs, not 1"),
        (["fig1-mnist:Adam:seed"] * 2, "adam-study: 'seed' is not valid: write NAME=VALUE"),
        (["zz", "zz"], "'zz' names no run: write the id of a run"),
        (["0000000000000000", "zz"], "no run's id begins with 0000000000000000"),
        (["fig1-mnsit:Adam", "zz"], "unknown study 'fig1-mnsit': did you mean fig1-mnist"),
        (["fig1-mnist:Adan", "zz"], "unknown arm 'Adan': did you mean Adam"),
        (["fig1-mnist:Adam:sed=1", "zz"], "unknown setting of Adam 'sed': did you mean seed?"),
        (["fig1-mnist:Adam:seed=99", "zz"], "unknown seed of Adam '99': did you mean 9? allowed:"),
    ],
)
def test_what_names_no_run_is_one_line(words, part, capfd):
    assert run("compare", *words) == 2
    err = capfd.readouterr().err
    assert err.count("\n") == 1
    assert part in err


def test_an_ambiguous_id_names_the_runs(capfd):
    ids = sorted(Published(paths.ROOT / "results").ids())
    first = next(a[:4] for a, b in itertools.pairwise(ids) if a[:4] == b[:4])
    assert run("compare", first, first) == 2
    assert f"several ids begin with {first}: {first}" in capfd.readouterr().err


# --- names and data -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("lr=0.1", "use learning_rate"),
        ("alpha=0.1", "use learning_rate"),
        ("betas=0.9", "use beta_1 and beta_2"),
        ("eps=1e-8", "use epsilon"),
        ("beta1=0.9", "use beta_1"),
    ],
)
def test_settings_under_other_names(given, meant, capfd):
    line = ["run", "fig1-mnist", "--arm", "Adam", "--profile", "smoke", "--data", "stand-in"]
    assert run(*line, "--set", given) == 2
    name = given.partition("=")[0]
    assert capfd.readouterr().err == f"adam-study: unknown parameter of adam {name!r}: {meant}\n"


def test_other_names_are_those_of_the_optimizers():
    assert adam_tf.validation.OTHER_NAMES == optimizers.OTHER_NAMES


def test_a_folder_is_taken_for_the_data(tmp_path, capfd, monkeypatch):
    folder = tmp_path / "my data"
    folder.mkdir()
    line = ["plan", "fig1-mnist", "--profile", "smoke", "--json", "--data"]
    (entry,) = json.loads(said(capfd, *line, str(folder)))
    assert entry["data"] == "mnist (missing; will be downloaded)"
    assert said(capfd, "data").startswith(f"data folder: {folder}\n")
    monkeypatch.chdir(tmp_path)
    said(capfd, *line, "./my data")
    assert said(capfd, "data").startswith(f"data folder: {folder}\n")
    assert run(*line, str(tmp_path / "none")) == 2
    err = capfd.readouterr().err
    assert "none': allowed: auto, real, stand-in, or an existing folder" in err


# --- a copied study -------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX")
def test_a_table_that_does_not_fit_on_the_disk_leaves_the_one_before(tmp_path):
    import resource

    from experiments.cli import export

    path = tmp_path / "csv" / "verdicts.csv"
    export._csv(pd.DataFrame({"n": [1]}), path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(OSError, match=r"cannot write .*verdicts\.csv: File too large"):
            export._csv(pd.DataFrame({"n": range(10_000)}), path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_text() == "n\n1\n"
    assert os.listdir(path.parent) == ["verdicts.csv"]


def test_a_copy_must_have_a_name_and_a_section_of_its_own():
    import dataclasses

    study = studies.get("fig1-mnist")
    with pytest.raises(ValueError, match="two studies are called 'fig1-mnist'"):
        by_name((study, study))
    copy = dataclasses.replace(study, name="mine")
    with pytest.raises(ValueError, match=r"mine says that it is 'Section 6\.1, Figure 1 \(left\)'"):
        by_name((study, copy))
    own = dataclasses.replace(copy, section="Not in the paper")
    assert list(by_name((study, own))) == ["fig1-mnist", "mine"]


@pytest.mark.parametrize("start", ["adam-study", "python -m experiments"])
def test_studies_that_cannot_be_told_apart_end_every_command_in_one_line(start, monkeypatch, capfd):
    """They are compared when they are imported."""

    def fails(name):
        raise ValueError("two studies are called 'mine': give one another name")

    module = types.ModuleType("experiments.cli.main")
    module.__getattr__ = fails
    monkeypatch.setitem(sys.modules, "experiments.cli.main", module)
    if start == "adam-study":
        assert adam_study.main() == 2
    else:
        with pytest.raises(SystemExit, match="2"):
            runpy.run_module("experiments", run_name="imported")
    assert capfd.readouterr().err == (
        "adam-study: two studies are called 'mine': give one another name\n"
    )


def test_a_copy_has_nothing_published(monkeypatch, capfd):
    import dataclasses

    from experiments import pages

    study = dataclasses.replace(studies.get("fig1-mnist"), name="mine", section="Not in the paper")
    copy = dataclasses.replace(study, batch_size=64)  # other runs
    monkeypatch.setitem(studies.STUDIES, "mine", copy)
    assert run("claims", "mine") == 2
    assert "nothing is published for mine; use --profile quick" in capfd.readouterr().err
    assert pages.published(copy).label.startswith("nothing published, profile paper: ")
    assert said(capfd, "claims", "mine", "--profile", "smoke", "--csv") == ""
    assert said(capfd, "claims", "mine", "--profile", "smoke", "--json") == "[]\n"


def test_settings_of_your_own_are_laid_over_what_an_arm_tunes(capfd, tmp_path, monkeypatch):
    """An arm that is only tuned keeps its momentum of 0."""
    monkeypatch.setenv("ADAM_TF_BUILD", str(tmp_path))
    line = ["run", "batches-gpt", "--arm", "SGD+batches of 4", "--profile", "smoke"]
    shown = said(
        capfd, *line, "--data", "stand-in", "--engine", "serial", "--set", "learning_rate=0.2"
    )
    assert "with learning_rate=0.2, momentum=0.0; records in" in shown
