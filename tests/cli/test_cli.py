"""The command line: what it refuses and how, what it prints, and how little it imports."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys

import pytest
from commands import run

from experiments import pages, paths, studies
from experiments import plan as planning
from experiments.cli import doctor
from experiments.cli.main import main
from experiments.cli.runs import setting
from experiments.data import catalogue, files
from experiments.records import published as tables
from experiments.records.store import Store, encode
from experiments.study import config_id
from experiments.training import runtime
from experiments.training import train as training

STUDY = "fig1-mnist"
TRY = f"run {STUDY} --arm Adam --profile smoke --data stand-in"


@pytest.fixture(autouse=True)
def _here(build, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")  # of argparse's help


def start(line: str, **options) -> subprocess.Popen:
    command = [sys.executable, "-m", "experiments", *line.split()]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return subprocess.Popen(command, cwd=paths.ROOT, text=True, **pipes)


# --- bad input: exit code 2, one line, the value, what is allowed ---------------------------------


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        ("rnu", ["unknown command 'rnu'", "did you mean run?", "allowed: list, plan, run"]),
        ("zzzzzz", ["unknown command 'zzzzzz': allowed: list, plan, run"]),
        ("", ["COMMAND", "--help"]),
        ("--hlep", ["unknown option '--hlep': did you mean --help"]),
        (
            "plan fig1-mnsit",
            ["unknown study 'fig1-mnsit': did you mean fig1-mnist or ", "? allowed: "],
        ),
        ("run fig1", ["unknown study 'fig1': did you mean fig1-mnist or fig1-imdb? allowed: "]),
        ("run fig1_mnist", ["unknown study 'fig1_mnist': did you mean fig1-mnist"]),
        ("plan --profile smok", ["unknown profile 'smok': did you mean smoke?", "quick, paper"]),
        ("run --profile smok", ["unknown profile 'smok': did you mean smoke?"]),
        ("claims --profile papr", ["unknown profile 'papr': did you mean paper?", "published"]),
        ("report --profile papr", ["unknown profile 'papr': did you mean paper?", "published"]),
        ("plan --protocol tund", ["unknown protocol 'tund': did you mean tuned?", "both"]),
        ("run --protocol tund", ["unknown protocol 'tund': did you mean tuned?"]),
        ("run --engine proceses", ["unknown engine 'proceses': did you mean processes?"]),
        (f"{TRY} --engine cereal", ["unknown engine 'cereal': did you mean serial?"]),
        ("plan --data stnad-in", ["unknown data policy 'stnad-in': did you mean stand-in?"]),
        ("run --data Real", ["unknown data policy 'Real': did you mean real?"]),
        ("claims --profile smoke --data reel", ["unknown data policy 'reel': did you mean real?"]),
        ("data fetsh", ["unknown action 'fetsh': did you mean fetch?", "status, fetch, verify"]),
        ("data verify mnsit", ["unknown data set 'mnsit': did you mean mnist?"]),
        ("data status mnist mnsit", ["unknown data set 'mnsit': did you mean mnist?"]),
        (
            f"{TRY} --set beta_1=0.8 --set beta_1=0.9",
            ["beta_1 is given twice, 0.8 and 0.9; give it once"],
        ),
        (
            f"compare {STUDY}:Adam:seed=0,seed=1 {STUDY}:Adam",
            ["seed is given twice, 0 and 1; give it once"],
        ),
        ("plan --profile smoke --profile paper", ["--profile is given 2 times; give it once"]),
        ("claims --json --json", ["--json is given 2 times; give it once"]),
        ("plan --workers 9999", ["--workers 9999 is too many for this machine: use 1 to "]),
        (f"verify {STUDY} --workers 9999", ["--workers 9999 is too many for this machine"]),
        (
            f"run {STUDY} --profile smoke --engine serial --workers 2",
            ["--engine serial trains in one process; leave out --workers"],
        ),
        ("verify --import a.json b.json", ["--import takes one file", "leave out 'b.json'"]),
        ("verify --import a.json --minutes 3", ["--import trains nothing; leave out --minutes"]),
        ("verify --export a.json --workers 1", ["--export trains nothing; leave out --workers"]),
        ("verify --import a.json --data real", ["--import trains nothing; leave out --data"]),
        (f"claims {STUDY} --data stand-in", ["the published records are of real data; leave it"]),
        (f"export {STUDY} --data stand-in", ["the published records are of real data; leave it"]),
        (f"report {STUDY} --profile published --data stand-in", ["are of real data; leave it out"]),
        (
            f"compare {STUDY}:Adam:role=tund {STUDY}:Adam",
            [
                "unknown role of Adam 'tund': did you mean tuned",
                "allowed: departure, fit, matched, ",
            ],
        ),
        (
            f"compare {STUDY}:Adam:seed=99 {STUDY}:Adam",
            ["unknown seed of Adam '99': ", "allowed: 0, 1, 2, "],
        ),
        (
            f"compare {STUDY}:Adam:role=matched,seed=1000 {STUDY}:Adam",
            ["no run of fig1-mnist has all of these; leave one out"],
        ),
        (
            f"compare {STUDY}:Adam {STUDY}:Adam --profile smoke --data stand-in",
            [
                "such a run is planned, but none is recorded here at profile smoke; "
                "`adam-study run fig1-mnist --profile smoke` trains it"
            ],
        ),
        (
            f"{TRY} --set warmup_steps=10",
            ["adam warms up to a constant rate: use decay=constant, or leave out warmup_steps"],
        ),
        ("data fetch --json", ["--json is for data status alone; leave it out of data fetch"]),
        ("plan --worker 2", ["unknown option of plan '--worker': did you mean --workers?"]),
        ("run --profle=smoke", ["unknown option of run '--profle': did you mean --profile"]),
        ("list --jsn", ["unknown option of list '--jsn': did you mean --json?"]),
        ("claims --json --csv", ["--json and --csv exclude each other"]),
        ("list fig1-mnist", ["list takes no 'fig1-mnist'"]),
        ("doctor x", ["doctor takes no 'x'"]),
        ("run --arm", ["--arm: expected one argument"]),
        ("plan --workers 0", ["--workers: '0' is not valid: use a whole number, 1 to"]),
        ("run --workers -1", ["--workers: '-1' is not valid: use a whole number, 1 to"]),
        (f"{TRY} --workers 0", ["--workers: '0' is not valid"]),
        ("run --workers abc", ["--workers: 'abc' is not valid: use a whole number, 1 to"]),
        ("run --workers 1.5", ["--workers: '1.5' is not valid"]),
        ("run --arm Adam", ["give one study, one --arm and --set K=V"]),
        (f"run {STUDY} --set beta_1=0.8", ["give one study, one --arm and --set K=V"]),
        (f"run {STUDY} --arm adam", ["unknown arm 'adam': did you mean Adam", "SGDNesterov"]),
        (f"{TRY} --set beta_1", ["--set 'beta_1' is not valid: write NAME=VALUE"]),
        (f"{TRY} --set =1", ["--set '=1' is not valid: write NAME=VALUE"]),
        (f"{TRY} --set learning_rat=1", ["'learning_rat': did you mean learning_rate?"]),
        (f"{TRY} --set learning_rate=-1", ["learning_rate=-1 is not valid", "a finite number > 0"]),
        (f"{TRY} --set learning_rate=0", ["learning_rate=0 is not valid", "a finite number > 0"]),
        (f"{TRY} --set learning_rate=nan", ["learning_rate=nan is not valid", "finite number"]),
        (f"{TRY} --set learning_rate=inf", ["learning_rate=inf is not valid", "finite number"]),
        (f"{TRY} --set learning_rate=1{'0' * 400}", ["learning_rate=1000", "not a finite number"]),
        ("run --workers 99999999999999999999999", ["use a whole number, 1 to"]),
        ("run --timeout 0", ["--timeout: '0' is not valid: use seconds, more than 0"]),
        ("run --timeout nan", ["--timeout: 'nan' is not valid"]),
        (f"{TRY} --engine serial --timeout 5", ["--engine serial can't enforce --timeout"]),
        (f"{TRY} --set learning_rate=1e999", ["learning_rate=1e999 is not valid", "finite"]),
        (f"{TRY} --set learning_rate=big", ["learning_rate='big' is not valid", "finite number"]),
        (f"{TRY} --set learning_rate=", ["learning_rate='' is not valid", "finite number"]),
        (f"{TRY} --set learning_rate=true", ["learning_rate=True is not valid", "finite number"]),
        (f"{TRY} --set beta_1=1.0", ["beta_1=1.0 is not valid for adam: use a number in [0, 1)"]),
        (f"{TRY} --set decay=bogus", ["decay='bogus' is not valid", "constant, sqrt_epoch"]),
        (f"{TRY} --set bias_correction=no", ["bias_correction='no'", "True, False"]),
        ("data verify", ["is missing", "data fetch"]),
    ],
)
def test_bad_input_is_answered_in_one_line(line, parts, capfd, build):
    assert run(line) == 2
    out, err = capfd.readouterr()
    assert out.startswith("data folder") or not out
    assert err.startswith("adam-study")
    assert err.count("\n") == 1
    for part in parts:
        assert part in err
    assert not build.exists()


def test_nothing_is_published_yet(monkeypatch, tmp_path, capfd):
    monkeypatch.setattr(pages, "RESULTS", tmp_path)
    assert run("claims") == 2
    assert "nothing is published; use --profile quick" in capfd.readouterr().err
    assert run(f"claims {STUDY}") == 2
    assert "nothing is published for fig1-mnist; use --profile quick" in capfd.readouterr().err


def test_damaged_published_records_are_one_line(monkeypatch, tmp_path, capfd):
    monkeypatch.setattr(pages, "RESULTS", tmp_path)
    (tmp_path / f"{STUDY}.parquet").write_bytes(b"PAR1 and not much else")
    assert run("claims") == 2
    err = capfd.readouterr().err
    assert err.count("\n") == 1
    assert f"{STUDY}.parquet is not a whole Parquet file" in err


def test_a_record_that_can_not_be_read_is_named_and_skipped(monkeypatch, build, capfd):
    def denied(path, most):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("experiments.records.store.content_of", denied)
    assert run(f"plan {STUDY} --profile smoke --data stand-in") == 0
    lines = capfd.readouterr().err.splitlines()
    assert lines
    for line in lines:
        assert line.startswith(f"adam-study: {build}/records/")
        assert line.endswith(".json is ignored: Permission denied; its run will be trained again")


def test_a_build_folder_of_nobody_is_one_line(monkeypatch, capfd):
    monkeypatch.setenv("ADAM_TF_BUILD", "~nosuchuser/x")
    assert run(f"plan {STUDY} --profile smoke --data stand-in") == 2
    assert capfd.readouterr().err == (
        "adam-study: ADAM_TF_BUILD=~nosuchuser/x is not valid: there is no such home folder; "
        "use a whole path\n"
    )


@pytest.mark.parametrize(
    ("closed", "code", "err"),
    [(">&-", 1, "adam-study: standard output is closed; open it\n"), ("2>&-", 0, "")],
)
def test_closed_outputs(closed, code, err):
    command = f"{sys.executable} -m experiments list {closed}"
    done = subprocess.run(command, shell=True, cwd=paths.ROOT, capture_output=True, text=True)
    assert done.returncode == code
    assert done.stderr == err
    assert bool(done.stdout) == (code == 0)


def test_a_terminal_without_unicode_gets_question_marks():
    plain = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "PYTHONIOENCODING": ""}
    done = subprocess.run(
        [sys.executable, "-m", "experiments", "claims", "sec3-bias"],
        cwd=paths.ROOT,
        env={**os.environ, **plain},
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    assert done.stdout.isascii()


def test_a_mistake_in_the_code_is_not_called_bad_input(monkeypatch):
    def broken(*arguments):
        raise KeyError("oops")

    monkeypatch.setattr("experiments.cli.common.show_table", broken)
    with pytest.raises(KeyError):
        run("list")


# --- what is accepted -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        f"plan {STUDY} --profile smoke --data stand-in --json",
        f"plan --profile smoke {STUDY} --data stand-in --json",
        f"plan --profile=smoke --json --data=stand-in {STUDY} {STUDY}",
        f"plan {STUDY} --profile smoke --json {STUDY} --data stand-in",
    ],
)
def test_names_and_options_come_in_any_order(line, capfd):
    assert run(line) == 0
    (entry,) = json.loads(capfd.readouterr().out)
    assert entry["study"] == STUDY
    assert entry["missing"] == 24
    assert entry["later"] == 6
    assert entry["data"] == "mnist-stand-in (asked for)"
    assert entry["roles"]["matched"] == {"runs": 6, "done": 0}


def test_a_plan_says_what_is_missing_and_how_long_it_takes(capfd, build):
    assert run(f"plan {STUDY} --profile smoke --data stand-in --workers 3") == 0
    out, err = capfd.readouterr()
    assert "fig1-mnist, profile smoke, mnist-stand-in (asked for)" in out
    assert "6 runs of the tuned settings once tuning is done" in out
    assert "on 3 processes (from a machine with 2 cores)" in out
    assert not err
    assert not build.exists()


def test_only_the_asked_protocol_is_planned(capfd):
    assert run(f"plan {STUDY} --profile smoke --data stand-in --protocol matched --json") == 0
    (entry,) = json.loads(capfd.readouterr().out)
    assert list(entry["roles"]) == ["matched"]


def test_claims_as_json(capfd):
    assert run("claims --profile smoke --data stand-in --json") == 0
    rows = json.loads(capfd.readouterr().out)
    assert {row["verdict"] for row in rows} == {"not tested"}
    reasons = {row["reason"] for row in rows}
    assert "stand-in data; needs 46 passes, profile smoke has 2" in reasons
    for row in rows:
        if row["data"] != "none" and "passes, profile" in row["reason"]:
            assert row["reason"].startswith("stand-in data; needs ")
    assert all(reasons)  # each says why


def test_what_is_not_tested_takes_one_line_that_says_why(capfd):
    assert run("claims fig1-mnist --profile smoke --data stand-in") == 0
    lines = capfd.readouterr().out.splitlines()
    assert len(lines) == 2
    assert "statements not tested: " in lines[1]
    assert "needs 46 passes, profile smoke has 2" in lines[1]


def test_claims_and_plan_report_damaged_and_foreign_files(capfd, build):
    first = first_run()
    (build / "records").mkdir(parents=True)
    (build / "records" / f"{first.id}.json").write_text("{")
    (build / "records" / "notes.json").write_text("mine")
    for command in ("claims", "plan"):
        assert run(f"{command} {STUDY} --profile smoke --data stand-in") == 0
        err = capfd.readouterr().err
        assert err.count("\n") == 2
        assert f"{first.id}.json is ignored: it is not a whole record" in err
        assert "notes.json is ignored: it is not named after a run" in err


def first_run():
    found = planning.plan(studies.get(STUDY), "smoke", "mnist-stand-in", Store("nowhere"))
    return found.runs()[0]


def test_data_status_without_data(capfd, tmp_path):
    assert run("data") == 0
    out = capfd.readouterr().out
    assert f"data folder: {tmp_path / 'no data'}" in out
    assert "mnist: mnist/train-images-idx3-ubyte.gz: missing" in out
    assert "imdb: aclImdb/test/labeledBow.feat: missing" in out
    assert "`adam-study data fetch`" in out


def test_the_time_of_a_study_that_leaves_its_examples_to_the_default_is_foretold(
    monkeypatch, capfd
):
    study = studies.get(STUDY)
    options = {name: value for name, value in study.options.items() if name != "train_examples"}
    assert options != study.options
    whole = dataclasses.replace(study, options=options)
    monkeypatch.setitem(studies.STUDIES, STUDY, whole)
    assert run(f"plan {STUDY} --profile paper --data stand-in") == 0
    assert "about " in capfd.readouterr().out


def finished(run, seconds: float = 1.0):
    """A record that might be that run's."""
    return {
        "config": run.config(),
        "status": "finished",
        "diverged_at": None,
        "metrics": {name: [0.5] * run.epochs for name in training.METRICS},
        "manifest": {
            "wall_seconds": seconds,
            "started": "2026-01-01T00:00:00+00:00",
            "commit": "0123456789ab",
        },
    }


@pytest.fixture
def published(monkeypatch, tmp_path):
    monkeypatch.setattr(pages, "RESULTS", tmp_path / "results")
    monkeypatch.setattr("experiments.data.files.available", lambda name: True)
    found = [files.FileStatus(f, tmp_path / f.path, "present", f.size) for f in MNIST.files]
    monkeypatch.setattr("experiments.data.download.status", lambda name: found)
    return tmp_path / "results" / f"{STUDY}.parquet"


MNIST = catalogue.DATASETS["mnist"]


def paper_runs():
    return planning.plan(studies.get(STUDY), "paper", "mnist", Store("nowhere")).runs()


def test_an_unfinished_study_is_published_as_such_and_grows(published, build, capfd):
    assert run(f"publish {STUDY}") == 2
    assert "there is nothing to publish" in capfd.readouterr().err
    runs, store = paper_runs(), Store(build / "records")
    store.put(finished(runs[0]))
    assert run(f"publish {STUDY}") == 0
    assert f"{published}: 1 of 333 runs, not finished\n" == capfd.readouterr().out
    # Elsewhere, with other records and without the first: nothing that was published is lost.
    (build / "records" / f"{runs[0].id}.json").unlink()
    store.put(finished(runs[1]))
    assert run(f"publish {STUDY}") == 0
    assert "2 of 333 runs, not finished" in capfd.readouterr().out
    assert sorted(tables.read(published)) == sorted(run.id for run in runs[:2])
    assert run(f"claims {STUDY}") == 0
    out = capfd.readouterr().out
    assert "not finished, 2 of 333 runs" in out
    assert "reproduced\n" not in out


def test_published_runs_that_leave_the_file_are_counted(published, build, capfd):
    planned = paper_runs()[0]
    store = Store(build / "records")
    store.put(finished(planned))
    assert run(f"publish {STUDY}") == 0
    capfd.readouterr()
    there = tables.read(published)
    other = finished(dataclasses.replace(planned, settings={"learning_rate": 0.0123}))
    everything = [*there.values(), other]
    uses = {config_id(record["config"]): ("AdaGrad", "tuned") for record in everything}
    tables.write(published, everything, uses)
    assert run(f"publish {STUDY}") == 0
    left = "; 1 published run is not in its plan now, and no longer in the file"
    assert f"1 of 333 runs, not finished{left}\n" in capfd.readouterr().out
    assert sorted(tables.read(published)) == [planned.id]


@pytest.mark.parametrize(
    ("arguments", "before"),
    [
        (("verify", "--export", ""), "--export"),
        (("merge", ""), "merge"),
        (("plan", STUDY, "--data", ""), "--data"),
        (("plan", STUDY, "--data="), "--data"),
        (("run", "--engine", "ray", "--address", ""), "--address"),
    ],
)
def test_an_empty_argument_is_no_choice(arguments, before, capfd):
    assert main(arguments) == 2
    said = f"there is nothing after {before}; give a value or leave it out"
    assert said in capfd.readouterr().err


@pytest.mark.parametrize("other", ["0123456789ab+", "0123456789ab+; 0123456789ab", "unknown"])
def test_runs_of_a_modified_tree_are_not_published(published, build, capfd, other):
    runs, store = paper_runs(), Store(build / "records")
    for run_, commit in zip(runs, ("0123456789ab; ba9876543210", other), strict=False):
        record = finished(run_)
        store.put({**record, "manifest": {**record["manifest"], "commit": commit}})
    assert run(f"publish {STUDY}") == 2
    err = capfd.readouterr().err
    assert f"{STUDY}: 1 run was trained by code that no commit holds: {runs[1].id} (" in err
    assert err.count("\n") == 1
    assert not published.exists()
    # One published before this rule keeps nothing else from being published.
    modified = store.get(runs[1].id)
    tables.write(published, [modified], {})
    assert run(f"publish {STUDY}") == 0
    assert sorted(tables.read(published)) == sorted(run.id for run in runs[:2])
    # Trained again with another result, it is refused as any other.
    doubled = {name: [2 * value for value in row] for name, row in modified["metrics"].items()}
    store.put({**modified, "metrics": doubled})
    before = published.read_bytes()
    assert run(f"publish {STUDY}") == 2
    assert runs[1].id in capfd.readouterr().err
    assert published.read_bytes() == before


def test_all_studies_are_published_but_those_without_runs(published, build, capfd):
    assert run("publish") == 2
    err = capfd.readouterr().err
    assert err.startswith("adam-study: there is nothing to publish; `adam-study run")
    assert err.count("\n") == 1
    Store(build / "records").put(finished(paper_runs()[0]))
    assert run("publish") == 0
    lines = capfd.readouterr().out.splitlines()
    assert f"{published}: 1 of 333 runs, not finished" in lines
    assert sum("there is nothing to publish" in line for line in lines) == len(lines) - 1
    assert len(lines) == len(studies.STUDIES)


def test_published_runs_are_trained_again_unless_told_otherwise(published, monkeypatch, capfd):
    runs = planning.plan(studies.get(STUDY), "smoke", "mnist", Store("nowhere")).runs()
    tables.write(published, [finished(runs[0]), finished(runs[1])], {})
    trained = []

    def train(run, store, on_epoch=None, keep=False):
        trained.append(run.id)
        return finished(run)

    monkeypatch.setattr(training, "train", train)
    asked = f"{STUDY} --profile smoke --data real --protocol matched"
    for option, done in (("--skip-published", 2), ("", 0)):
        assert run(f"plan {asked} --json {option}") == 0
        (entry,) = json.loads(capfd.readouterr().out)
        assert entry["roles"]["matched"] == {"runs": 6, "done": done}
        assert entry["missing"] == 6 - done
        assert entry["basis"] == "from a machine with 2 cores"  # others' times are not ours
    line = f"run {asked} --engine serial"
    assert run(f"{line} --skip-published") == 0
    said = capfd.readouterr().out
    assert "6 runs done at profile smoke" in said
    done, following = said.splitlines()[-2:]
    assert done.endswith(" and results/")
    assert following == (
        f"next: `adam-study claims {STUDY} --profile smoke --data real` or "
        f"`adam-study report {STUDY} --profile smoke --data real`"
    )
    elsewhere = files.root().parent / "my data"
    elsewhere.mkdir()
    monkeypatch.setenv("ADAM_TF_DATA", str(files.root()))  # put back at the end
    words = [*line.replace("--data real", "").split(), "--skip-published", "--data", str(elsewhere)]
    assert main(words) == 0
    assert f"--data '{elsewhere}'`" in capfd.readouterr().out.splitlines()[-1]
    assert len(trained) == 4
    assert not {runs[0].id, runs[1].id} & set(trained)
    assert run(line) == 0
    assert {runs[0].id, runs[1].id} <= set(trained)
    capfd.readouterr()


def test_a_plan_predicts_by_steps_and_tells_its_error(build, capfd):
    line = f"plan {STUDY} --profile paper --data stand-in --protocol matched --workers 2"
    assert run(f"{line} --json") == 0
    (before,) = json.loads(capfd.readouterr().out)
    assert before["error"] is None
    steps, step_ms = 46 * (60_000 // 128), studies.get(STUDY).step_ms
    each = 1.5 + steps * step_ms / 1000
    assert before["seconds"] == pytest.approx(before["missing"] * each / 2, rel=0.02)
    runs = planning.plan(studies.get(STUDY), "paper", "mnist-stand-in", Store("nowhere")).runs()
    Store(build / "records").put(finished(runs[0], seconds=2 * each))
    assert run(f"{line} --json") == 0
    (after,) = json.loads(capfd.readouterr().out)
    assert after["error"] == pytest.approx(2.0, rel=1e-3)
    assert after["seconds"] == pytest.approx(2 * before["seconds"], rel=0.02)
    assert after["basis"] == "from 1 run measured here"
    diverged = {"status": "diverged", "diverged_at": 1}  # its time says little: it stopped early
    Store(build / "records").put({**finished(runs[1], seconds=0.1), **diverged})
    assert run(f"{line} --json") == 0
    (with_diverged,) = json.loads(capfd.readouterr().out)
    assert with_diverged["missing"] == after["missing"] - 1
    assert with_diverged["error"] == after["error"]
    assert with_diverged["basis"] == "from 1 run measured here"
    assert run(line) == 0
    assert "a run took 2.00 times what its steps predicted" in capfd.readouterr().out


def test_the_status_of_the_data_says_whose_they_are_and_on_what_terms(capfd):
    assert run("data status mnist imdb") == 0
    said = capfd.readouterr().out.splitlines()
    assert said[0] == f"data folder: {files.root()}"
    assert [line for line in said if "licence" in line] == [
        "mnist: Y. LeCun, C. Cortes, C. J. C. Burges: The MNIST database of handwritten digits; "
        "licence: CC BY-SA 3.0",
        "imdb: A. L. Maas et al.: Learning Word Vectors for Sentiment Analysis (ACL 2011); "
        "licence: none is stated; free for research, to be cited",
    ]
    assert "mnist: mnist/train-images-idx3-ubyte.gz: missing" in said
    assert said[-1] == "`adam-study data fetch` downloads what is missing"
    assert run("data --json") == 0
    found = json.loads(capfd.readouterr().out)
    assert found["folder"] == str(files.root())
    assert [each["data"] for each in found["data_sets"]] == list(catalogue.DATASETS)
    for each in found["data_sets"]:
        data = catalogue.DATASETS[each["data"]]
        assert (each["citation"], each["licence"]) == (data.citation, data.licence)
        assert each["files"] == {file.path: "missing" for file in data.files}


def test_a_plan_says_what_a_complete_search_found_nearest_to_the_papers_curves(
    build, monkeypatch, capfd
):
    nearest = {"Adam": {"learning_rate": 0.003, "decay": "sqrt_epoch"}}

    def searched(*arguments):
        return dataclasses.replace(planning.plan(*arguments), nearest=nearest)

    line = f"plan {STUDY} --profile smoke --data stand-in"
    assert run(f"{line} --json") == 0
    assert json.loads(capfd.readouterr().out)[0]["nearest"] == {}
    assert run(line) == 0
    assert "nearest to" not in capfd.readouterr().out
    monkeypatch.setattr("experiments.cli.runs.make_plan", searched)
    assert run(f"{line} --json") == 0
    assert json.loads(capfd.readouterr().out)[0]["nearest"] == nearest
    assert run(line) == 0
    said = "nearest to the paper's curve of Adam: learning_rate=0.003, decay=sqrt_epoch"
    assert said in capfd.readouterr().out.splitlines()


def test_settings_are_read_as_numbers_words_and_truth():
    texts = ("a=1", "a=1e-3", "a=True", "a=false", "a=sqrt_epoch", "a=b=c")
    values = [setting(text)[1] for text in texts]
    assert values == [1, 0.001, True, False, "sqrt_epoch", "b=c"]
    assert [type(value) for value in values] == [int, float, bool, bool, str, str]


def test_what_was_tried_is_shown_even_when_it_diverged(monkeypatch, capfd, build):
    def train(run, store, on_epoch=None, keep=False):
        metrics = {name: [0.5] for name in training.METRICS}
        return {
            "config": run.config(),
            "status": "diverged" if run.seed else "finished",
            "diverged_at": 1 if run.seed else None,
            "metrics": metrics,
            "manifest": {"wall_seconds": 1.0},
        }

    monkeypatch.setattr(training, "train", train)
    assert run(f"{TRY} --engine serial --set learning_rate=0.5") == 0
    out, err = capfd.readouterr()
    ids = [path.stem for path in (build / "records").glob("*.json")]
    for line in ("Adam seed 0: cost 0.5000, run ", "Adam seed 1: diverged in pass 1, run "):
        assert out.partition(line)[2].split()[0] in ids
    assert "learning_rate=0.5, decay=sqrt_epoch" in out
    assert "STAND-IN DATA" in err
    record = json.loads(sorted((build / "records").glob("*.json"))[0].read_text())
    assert record["config"]["settings"] == {"learning_rate": 0.5, "decay": "sqrt_epoch"}


@pytest.mark.parametrize("flag", ["--protocol tuned", "--skip-published"])
def test_what_says_nothing_of_settings_of_your_own_is_refused(flag, capfd):
    assert run(f"{TRY} {flag}") == 2
    err = capfd.readouterr().err
    assert err == (
        f"adam-study: {flag} is for whole studies; leave it out, or leave out --arm and --set\n"
    )


def test_code_that_no_commit_holds_is_said_before_training(monkeypatch, capfd, build):
    """`publish` refuses its runs, which may have taken days."""
    commits = (("0123456789ab+", "paper", 1), ("unknown", "paper", 1), ("0123456789ab", "paper", 0))
    for commit, profile, said in (*commits, ("unknown", "smoke", 0)):
        monkeypatch.setattr(runtime, "commit", lambda commit=commit: commit)
        for more in ("--skip-published", "--arm methods"):
            assert run(f"run sec1-memory --profile {profile} {more} --engine serial") == 0
            assert capfd.readouterr().err.count("no commit holds this code") == said


def test_doctor_names_damaged_records(monkeypatch, capfd, build):
    monkeypatch.setattr(runtime, "configure", lambda: None)
    monkeypatch.setattr(runtime, "manifest", lambda: {"devices": ["CPU"], "backend": "none"})
    planned = first_run()
    record = {
        "config": planned.config(),
        "status": "finished",
        "diverged_at": None,
        "metrics": {"training_cost": [0.5]},
        "manifest": {"wall_seconds": 1.0},
    }
    folder = build / "records"
    folder.mkdir(parents=True)
    (folder / f"{planned.id}.json").write_bytes(encode(record))
    assert doctor.report() == 0
    assert f"records: 1 in {folder}\nnothing is wrong\n" in capfd.readouterr().out
    (folder / "0123456789abcdef.json").write_bytes(encode(record))
    assert run("doctor") == 1
    out = capfd.readouterr().out
    assert f"0123456789abcdef.json is ignored: it is the record of run {planned.id}" in out
    assert out.endswith("problems: 1\n")


# --- the process: imports, pipes ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "heavy"),
    [
        ("--help", "tensorflow keras numpy pandas scipy matplotlib rich"),
        ("claims --help", "tensorflow keras numpy pandas scipy matplotlib rich"),
        ("rnu", "tensorflow keras numpy pandas scipy matplotlib rich"),
        ("list", "tensorflow keras numpy pandas scipy matplotlib"),
        ("plan --profile paper --data stand-in", "tensorflow keras numpy pandas scipy matplotlib"),
        ("claims --profile smoke --data stand-in", "tensorflow keras matplotlib"),
    ],
)
def test_commands_import_little(line, heavy):
    code = (
        "import sys\nfrom experiments.cli.main import main\n"
        f"try: main({line.split()!r})\nexcept SystemExit: pass\n"
        f"print('imported:', *set(sys.modules) & set({heavy.split()!r}))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=paths.ROOT, capture_output=True, text=True)
    assert done.stdout.endswith("imported:\n"), done.stdout + done.stderr


@pytest.mark.parametrize(
    "line", ["--help", "list", "plan --profile smoke --data stand-in --json", "data"]
)
@pytest.mark.parametrize("wait", [True, False])
def test_a_closed_pipe_is_no_fault(line, wait):
    process = start(line, bufsize=1)
    if wait:
        process.stdout.read(1)
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    assert process.wait() in (0, 1)
    assert not err


@pytest.mark.parametrize("line", ["--help", "--version", "run --help", "list"])
def test_a_pipe_that_was_closed_before_is_no_fault(line):
    reader, writer = os.pipe()
    os.close(reader)
    process = start(line, stdout=writer)
    os.close(writer)
    _, err = process.communicate()
    assert (process.returncode, err) == (1, "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
@pytest.mark.parametrize("line", ["--help", "list", "plan --profile smoke --data stand-in --json"])
def test_output_that_cannot_be_written_is_one_line(line):
    with open("/dev/full", "w") as full:
        process = start(line, stdout=full)
        _, err = process.communicate()
    assert process.returncode == 1
    assert err == "adam-study: No space left on device\n"


def test_a_study_that_is_not_published_is_not_verified(monkeypatch, capfd):
    monkeypatch.setattr(pages, "published_file", lambda study: paths.ROOT / "no" / study.name)
    assert run(f"verify {STUDY}") == 2
    assert capfd.readouterr().err == (
        "adam-study: nothing is published for fig1-mnist, so there is nothing to verify; "
        "published: nothing\n"
    )


def test_no_number_of_processes_makes_a_plan_quicker_than_its_longest_run(monkeypatch):
    """And more processes than cores gain nothing."""
    from experiments.cli.runs import estimate
    from experiments.engines import execution

    study = studies.get(STUDY)
    store = Store(paths.build_folder() / "records")
    plan = planning.plan(study, "paper", "mnist", store, ("matched",))
    one = plan.runs("matched")[:1]
    none_later = dataclasses.replace(plan, later=0, promoted={})
    monkeypatch.setattr(execution, "default_workers", lambda: 4)
    alone = estimate(study, none_later, one, store, 1)[0]
    assert alone > 1
    assert estimate(study, none_later, one, store, 4)[0] == alone
    eight = plan.runs("matched")[:8]
    assert len(eight) == 8
    whole = estimate(study, none_later, eight, store, 1)[0]
    assert estimate(study, none_later, eight, store, 4)[0] == pytest.approx(whole / 4)
    assert estimate(study, none_later, eight, store, 64)[0] == pytest.approx(whole / 4)
