"""`adam-study verify` from its first line to its last, on machines that need no training."""

from __future__ import annotations

import copy
import dataclasses
import functools
import importlib.util
import itertools
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import threading
import types
from pathlib import Path

import machine
import pytest
from commands import PATIENCE, run, wait_for
from machine import NAMES, Changed, Machine, Part, published, with_records

from experiments import pages, studies, study
from experiments.analysis import claims
from experiments.data import catalogue, download
from experiments.paths import ROOT
from experiments.studies import STUDIES
from experiments.verify import again, checks, command, ending, sample, seeds, workers
from experiments.verify.standing import grounds, standing

CHEAP = "sec2-worst"  # needs no data, and is checked whole in a moment


@pytest.fixture(scope="module")
def found():
    return machine.published()


@pytest.fixture(autouse=True)
def build(tmp_path, monkeypatch):
    """A build folder, and a data folder that looks as if MNIST was there."""
    monkeypatch.setenv("ADAM_TF_BUILD", str(tmp_path / "build"))
    monkeypatch.setenv("ADAM_TF_DATA", str(tmp_path / "data"))
    for file in catalogue.DATASETS["mnist"].files:
        path = tmp_path / "data" / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as content:
            content.truncate(file.size)
    return tmp_path / "build"


@pytest.fixture
def use(monkeypatch):
    """Check on a machine, and maybe other records than the published ones."""

    def use(at: Machine, other=None) -> Machine:
        monkeypatch.setattr(again, "Workers", at)
        if other is not None:
            published = pages.published
            monkeypatch.setattr(
                pages, "published", lambda s: other if s.name == other.study.name else published(s)
            )
        return at

    return use


verify = functools.partial(run, "verify")


def test_an_honest_machine_agrees_and_the_second_time_all_is_done(use, capsys):
    at = use(Machine(off=3e-8))
    assert verify(*NAMES, "--minutes", "1e9") == 0
    out, err = capsys.readouterr()
    assert "Nothing disagrees by more than rounding." in out
    end = out.split("\n\n")[-1].strip().splitlines()
    assert len(end) <= ending.LINES
    assert re.search(r"Checked here: 3\d\d runs of 3\d\d, ", out)
    assert re.search(r"Of (\d+) verdicts, \1 rest on .*, \1 of them on such runs alone", out)
    assert "fig1-mnist AdaGrad matched seed 0: 46 passes of 46, largest difference 3e-08" in err
    runs = [(task.run.id, task.twin) for task in at.tasks]
    assert len(set(runs)) == len(runs)
    at.tasks.clear()
    assert verify(*NAMES, "--minutes", "1e9") == 0
    out, err = capsys.readouterr()
    assert not at.tasks
    assert err == ""
    assert out.index("Checked here already: 3") < out.index(
        "Minutes spent before: 1000000000 of 1e+09."
    )
    assert "Nothing disagrees by more than rounding." in out


@pytest.mark.parametrize("minutes", ["0.5", "8"])
def test_a_budget_is_spent_once_and_more_minutes_go_on(use, capsys, minutes, monkeypatch):
    at = use(Machine())
    ticking = iter(range(10**6))  # every look at the clock takes a second
    monkeypatch.setattr(again.time, "monotonic", lambda: float(next(ticking)))
    assert verify("fig1-mnist", "--minutes", minutes) == 0
    first = {task.run.id for task in at.tasks}
    assert 0 < len(first) < 200
    at.tasks.clear()
    assert verify("fig1-mnist", "--minutes", minutes) == 0
    assert not at.tasks
    assert f"Minutes spent before: {minutes} of {minutes}." in capsys.readouterr().out
    assert verify("fig1-mnist", "--minutes", str(2 * float(minutes))) == 0
    assert at.tasks
    assert not first & {task.run.id for task in at.tasks}
    assert verify(CHEAP, "--minutes", minutes) == 0  # other records, another budget
    assert "spent before" not in capsys.readouterr().out.split("Next:")[-2]


EARLY = 6  # of the runs that the sample begins with


@pytest.mark.parametrize("off", [0.0, 3e-8])
@pytest.mark.parametrize("k", range(EARLY))
def test_a_record_changed_by_one_part_in_ten_thousand_is_named(use, found, capsys, off, k):
    """Of one number of one pass, on this machine and on one that rounds otherwise."""
    results = found["fig1-mnist"]
    item = sample.items([results])[k]
    metric = ("training_cost", "objective", "held_out_cost")[k % 3]
    i = k % item.passes
    changed = with_records(results, Changed(results.records, item.run.id, metric, i))
    use(Machine(off=off), changed)
    assert verify("fig1-mnist", "--minutes", "1") == 1
    out, err = capsys.readouterr()
    named = f"{item.words} ({item.run.id}): {metric} of pass {i + 1} is "
    assert re.search(rf"1 DISAGREEMENT:\n  {re.escape(named)}", out)
    assert "0.0001" in out or "1.0e-04" in out
    assert f"{item.words}: DISAGREES" in err
    assert "Checked here: " in out  # the rest was checked all the same
    assert len(out.split("\n\n")[-1].strip().splitlines()) <= ending.LINES


def test_a_measurement_changed_by_one_part_in_ten_thousand_is_named(use, found, capsys):
    results = found[CHEAP]
    item = sample.items([results])[0]
    record = results.records.get(item.run.id)
    metric = max(record["metrics"], key=lambda name: abs(record["metrics"][name][0]))
    use(Machine(), with_records(results, Changed(results.records, item.run.id, metric, 0)))
    assert verify(CHEAP) == 1
    assert f"{metric} of row 1 is " in capsys.readouterr().out


def test_ctrl_c_loses_nothing(use, capsys, build):
    def stop(task, record):
        if len(at.tasks) == 4:
            raise KeyboardInterrupt
        return record

    at = use(Machine(spoil=stop))
    assert verify("fig1-mnist") == 130
    assert "interrupted; finished runs are kept" in capsys.readouterr().err
    kept = {path.stem for path in (build / "verify" / "checks").glob("*.json")}
    assert kept < {task.run.id for task in at.tasks}
    assert len(kept) == 3
    at.spoil = None
    assert verify("fig1-mnist", "--minutes", "0.2") == 0
    out = capsys.readouterr().out
    assert "Checked here already: 3 runs" in out
    again_ = [task.run.id for task in at.tasks[4:]]
    assert not kept & set(again_)
    assert again_[0] == at.tasks[3].run.id  # the one that was under way


def test_sigkill_loses_nothing(use, capsys, build):
    environment = {**os.environ, "SECONDS": "0.3", "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, machine.__file__, "verify", CHEAP],
        env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    folder = build / "verify" / "checks"
    try:
        wait_for(lambda: process.poll() is not None or len(list(folder.glob("*.json"))) >= 3)
        assert process.poll() is None
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(PATIENCE)
    before = checks.Folder(folder).all()
    assert before.damaged == []
    assert len(before.runs) >= 3
    at = use(Machine())
    assert verify(CHEAP) == 0
    assert f"Checked here already: {len(before.runs)} runs" in capsys.readouterr().out
    trained = {task.run.id for task in at.tasks}
    assert trained.isdisjoint(check.run for check in before.runs)
    assert len(checks.Folder(folder).all().runs) == 12


def test_two_at_once_is_refused(use, capsys):
    use(Machine())
    with command._alone():
        assert verify(CHEAP) == 2
    assert capsys.readouterr().err.count("another `verify` is at work") == 1


def no_network(name, **_):
    raise download.DownloadError(f"{name} can't be downloaded")


def test_half_of_the_data_checks_half(use, capsys, monkeypatch):
    at = use(Machine())
    monkeypatch.setattr(download, "fetch", no_network)
    monkeypatch.setattr(command, "_exercise", lambda chosen, workers: tried.extend(chosen) or 0)
    tried = []
    assert verify("fig1-imdb", CHEAP) == 0
    out, err = capsys.readouterr()
    assert [each.name for each in tried] == ["fig1-imdb"]
    assert {task.run.problem for task in at.tasks} == {"constructed_steps"}
    assert re.search(r"fig1-imdb +matched: \d+ reproduced", out)  # published verdicts all the same
    assert re.search(r"No real data of imdb \(.*\): its published records are shown", err)
    assert "`adam-study data fetch`" in err
    assert "ADAM_TF_DATA=FOLDER" in err
    assert "nothing: no real data: fig1-imdb" in out
    assert f"  {CHEAP} " in out


def test_no_data_checks_nothing_and_tries_the_machinery(use, tmp_path, capsys, monkeypatch):
    at = use(Machine())
    monkeypatch.setenv("ADAM_TF_DATA", str(tmp_path / "nowhere"))
    monkeypatch.setattr(download, "fetch", no_network)
    made = at.train
    real = next(run for run in pages.published(studies.get("fig1-mnist")).plan.runs())

    def train(task):  # a run on stand-ins has no record to look up
        return {**made(dataclasses.replace(task, run=real)), "config": task.run.config()}

    monkeypatch.setattr(at, "train", train)
    assert verify("fig1-mnist") == 0
    out, err = capsys.readouterr()
    assert "STAND-IN DATA: 1 tiny run of profile smoke trained twice" in err
    assert "every number equal to the last bit" in err
    assert "Nothing was checked. `adam-study data fetch`" in out
    assert "nothing: no real data: fig1-mnist" in out
    count = len(at.tasks)
    assert verify("fig1-mnist") == 0
    assert len(at.tasks) == count  # the machinery was tried


def test_a_training_that_fails_is_told_and_ends_in_1(use, tmp_path, capsys, monkeypatch):
    """Of stand-ins, which have no record; and of a new seed."""
    at = use(Machine())

    def train(task):
        if task.run.data != "mnist" or task.run.seed >= seeds.FIRST_SEED:
            raise ValueError("out of memory")
        return whole(task)

    whole = at.train
    monkeypatch.setattr(at, "train", train)
    assert verify(CHEAP) == 1
    assert re.search(r"new seed 100: FAILED: ValueError: out of memory", capsys.readouterr().err)
    monkeypatch.setenv("ADAM_TF_DATA", str(tmp_path / "nowhere"))
    monkeypatch.setattr(download, "fetch", no_network)
    assert verify("fig1-mnist") == 1
    err = capsys.readouterr().err
    assert "fig1-mnist: ValueError: out of memory" in err
    assert "equal to the last bit" not in err


@pytest.mark.parametrize("name", STUDIES)
def test_the_machinery_is_tried_for_a_study_of_any_kind(monkeypatch, capsys, name):
    """Whether its arms are matched, a grid, or only tuned."""
    tried = []
    monkeypatch.setattr(again, "train_again", lambda items, *_, **__: tried.extend(items) or ())
    command._exercise([STUDIES[name]], 1)
    assert [item.study for item in tried] == [name, name]  # twice, to compare
    assert {item.run.data for item in tried} == {catalogue.stand_in(STUDIES[name].data_set)}


def test_data_of_the_wrong_size_are_refused_after_the_verdicts(use, tmp_path, capsys):
    use(Machine())
    file = catalogue.DATASETS["mnist"].files[0]
    with (tmp_path / "data" / file.path).open("ab") as content:
        content.write(b"more")
    assert verify("fig1-mnist") == 2
    out, err = capsys.readouterr()
    assert "\n  fig1-mnist matched: " in out
    assert file.path in err
    assert err.count("\n") == 1


def test_damaged_data_accuse_no_record(use, capsys, build):
    """Files of the right size: each run fails, with the reason."""

    def damaged(task, record):
        raise ValueError("mnist/train-images is damaged; remove it")

    at = use(Machine(spoil=damaged))
    assert verify("fig1-mnist", "--minutes", "0.1") == 1
    out, err = capsys.readouterr()
    assert "DISAGREE" not in out + err
    assert "runs could not be trained:\n  fig1-mnist " in out
    assert "mnist/train-images is damaged; remove it" in out
    at.spoil = None  # mended: they are trained with the next minutes
    assert verify("fig1-mnist", "--minutes", "1e9") == 0
    assert "could not be trained" not in capsys.readouterr().out.split("\n\n")[-1]


def test_an_unfinished_study_is_checked_as_far_as_it_is_there(use, found, capsys):
    results = found["fig1-mnist"]
    part = with_records(results, Part(results.records, lambda run_id: run_id < "8"))
    at = use(Machine(), part)
    assert verify("fig1-mnist", "--minutes", "1") == 0
    out = capsys.readouterr().out
    assert re.search(r"fig1-mnist .* \(not finished: \d+ of \d+ runs\)", out)
    old = [task.run for task in at.tasks if task.run.seed < 100 or task.run.seed >= 1000]
    whole = {run.lineage: run.id for run in results.plan.runs()}
    assert old
    assert all(whole[run.lineage] < "8" for run in old)


def test_records_of_older_numerics_are_not_compared(use, capsys, monkeypatch):
    at = use(Machine())
    monkeypatch.setitem(study.NUMERICS, "training", 2)
    assert verify(CHEAP) == 0
    out = capsys.readouterr().out
    assert not [task for task in at.tasks if task.run.seed < seeds_from()]
    assert f"{CHEAP}: 12 records of older numerics can't be checked; train them again" in out
    assert "DISAGREE" not in out


def seeds_from() -> int:
    from experiments.verify import seeds

    return seeds.FIRST_SEED


def test_each_backend_has_its_own_checks(use, capsys, build, monkeypatch):
    use(Machine())  # which trains nothing, so that JAX need not be there
    installed = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: name == "jax" or installed(name, *rest)
    )
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    assert verify(CHEAP) == 0
    assert list((build / "verify-jax" / "checks").glob("*.json"))
    assert not (build / "verify").exists()
    monkeypatch.setenv("KERAS_BACKEND", "theano")
    assert verify(CHEAP) == 2
    assert "KERAS_BACKEND=theano" in capsys.readouterr().err


def test_a_verdict_rests_on_the_runs_that_it_reads(found):
    """Of each protocol's own arms, and of no other."""
    results = found["fig1-mnist"]
    read = grounds(results)
    assert {protocol for _, protocol in read} == {"matched", "tuned"}
    by_id = {}
    for entry in results.plan.entries:
        by_id.setdefault(entry.run.id, set()).add((entry.role, entry.arm))
    runs = read["fig1-mnist-adam-like-sgd", "matched"]
    assert len(runs) == 20
    assert set.union(*(by_id[run] for run in runs)) >= {
        ("matched", "Adam"),
        ("matched", "SGDNesterov"),
    }
    assert all(("matched", "AdaGrad") not in by_id[run] for run in runs)
    everything = set().union(*read.values())
    assert standing([results], everything) == (len(read),) * 3
    assert standing([results], []) == (len(read), 0, 0)
    beyond = pages.published(STUDIES["defaults-imbalance-zipf"])
    judged = [v for v in claims.judge(beyond) if v.judged and v.claim.source == "practice"]
    assert standing([beyond], []) == (len(judged), 0, 0)
    assert len(judged) > 0
    _, some, whole = standing([results], runs)
    assert whole >= 1
    assert some > whole


def test_the_budget_outlives_damage_and_knows_its_records(tmp_path):
    records = tmp_path / "study.parquet"
    records.write_bytes(b"one")
    budget = checks.Budget(tmp_path / "spent", [records])
    budget.keep(12.5)
    assert checks.Budget(tmp_path / "spent", [records]).spent == 12.5
    budget.path.write_text("{")
    assert checks.Budget(tmp_path / "spent", [records]).spent == 0.0
    budget.keep(12.5)
    records.write_bytes(b"two")
    assert checks.Budget(tmp_path / "spent", [records]).spent == 0.0


def test_little_time_is_not_spent_on_what_is_dear(found):
    """In two minutes, many studies rather than two long passes."""
    names = ("fig3", "stability-resnet", "fig1-mnist", "sec2-worst")
    everything = [pages.published(STUDIES[name]) for name in names]
    items = sample.in_order(sample.items(everything), 2, 120.0)
    assert [item.study for item in items if item.level == 0] == [
        *("sec2-worst", "fig1-mnist", "stability-resnet", "fig3")
    ]
    assert items[0].study == "sec2-worst"
    enough = sample.in_order(sample.items(everything), 2, 480.0)
    assert [item.study for item in enough[:2]] == ["fig3", "stability-resnet"]


@pytest.mark.parametrize("workers", [1, 2])
def test_the_sample_reaches_every_study_in_the_default_time(workers):
    """By the records' own times; the convolutional network first where it has a process."""
    everything = [pages.published(each) for each in pages.published_studies()]
    items = sample.in_order(sample.items(everything), workers, 60 * command.MINUTES)
    first = [item for item in items if item.level == 0]
    runs = {item.run.id for item in first}
    for found in everything:
        assert runs & {run.id for run in found.plan.runs()}, found.study.name
    assert len({(item.run.id, item.passes) for item in items}) == len(items)
    assert {item.run.optimizer for item in items if item.level <= 1} >= {"sfo", "adam", "adamax"}
    dear = [item for item in first if item.seconds > sample.DEAR]
    dearest = max(dear, key=lambda item: item.seconds)
    assert dearest.study == "fig3"
    assert (items[0] is dearest) == (workers > 1)
    if workers > 1:
        assert items[: len(dear)] == sorted(dear, key=lambda item: -item.seconds)
    shares = [0.0] * workers
    for item in items:
        i = shares.index(min(shares))
        if item.level < workers:
            assert shares[i] + item.seconds <= 60 * command.MINUTES, item.words
        shares[i] += item.seconds
    for item in items:
        if item.level < sample.LAST and item.run.optimizer == "sfo":
            assert item.passes == 1 or item.level > 3


def test_a_first_pass_that_cannot_end_in_time_makes_room(monkeypatch, found):
    """On a slow machine: another run that takes less is checked instead."""
    results = found["fig1-mnist"]
    items = sample.items([results])[:3]
    dear = dataclasses.replace(items[0], passes=1, seconds=100.0)
    clock = [0.0]
    monkeypatch.setattr(again.time, "monotonic", lambda: clock[0])

    class Slow(Machine):
        given_up = ()

        def give_up(self, key):
            self.given_up += (key,)
            self.waiting = [task for task in self.waiting if task.key != key]

        @property
        def free(self):
            return 2 - len(self.waiting)

        def events(self, seconds):
            clock[0] += 10.0
            if self.waiting[-1].key == (1, 0):
                return []  # the dear one goes on and on
            event = super().events(0)[0]
            event.record["manifest"]["wall_seconds"] = 10.0 * items[1].seconds
            return [event]

    at = Slow()
    monkeypatch.setattr(again, "Workers", at)
    monkeypatch.setattr(again, "SURE", items[1].seconds)
    made = list(
        again.train_again([dear, *items[1:]], results.records, Path("x"), workers=2, seconds=300.0)
    )
    assert at.given_up == ((1, 0),)
    assert {check.run for check in made} == {item.run.id for item in items[1:]}


@pytest.mark.parametrize(("megabytes", "large"), [(800, False), (1_151, False), (800, True)])
def test_a_worker_does_not_grow_with_its_runs(found, megabytes, large):
    """One that holds too much, or has trained a large run, makes room for a fresh process."""
    task = workers.Task("key", found["fig1-mnist"].plan.runs()[0], 0, Path("x"), large)
    ended = []

    class Process:
        def kill(self):
            ended.append("killed")

        def join(self):
            ended.append("joined")

    with workers.Workers(1) as crew:
        ours, theirs = multiprocessing.Pipe()
        crew._workers.append(workers._Worker(Process(), ours, task, used=True))
        theirs.send((workers.Event(task, record={"metrics": {}}), float(megabytes)))
        (event,) = crew.events(5.0)
        assert event.last
        assert crew.free == 1
        replaced = large or megabytes > workers.LARGEST_MB
        assert ended == ["killed", "joined"] * replaced
        assert len(crew._workers) == 1 - replaced


@pytest.mark.parametrize(
    ("code", "how"),
    [
        (7, "its process ended with exit code 7"),
        (-9, "its process was killed (SIGKILL, out of memory? --workers 1 needs the least)"),
        (-11, "its process was killed (SIGSEGV)"),
    ],
)
def test_how_a_worker_ended_is_said(found, code, how):
    task = workers.Task("key", found["fig1-mnist"].plan.runs()[0], 0, Path("x"))
    process = types.SimpleNamespace(exitcode=code, kill=lambda: None, join=lambda *_: None)
    with workers.Workers(1) as crew:
        ours, theirs = multiprocessing.Pipe()
        crew._workers.append(workers._Worker(process, ours, task, used=True))
        theirs.close()
        (event,) = crew.events(5.0)
        assert event.error == how
        assert not crew._workers


@pytest.mark.parametrize("late", [False, True])
def test_twins_settle_a_doubt_although_the_time_is_up(monkeypatch, late):
    """They train to their end: one that stopped early would excuse any difference."""
    results = published()["fig1-mnist"]
    items = [item for item in sample.items([results]) if item.passes > 3 and not item.level]
    item, record = items[0], results.records.get(items[0].run.id)
    wrong = copy.deepcopy(record)
    for name in ("training_cost", "objective", "held_out_cost"):
        wrong["metrics"][name] = [1.5 * value for value in record["metrics"][name]]
    machine = Machine(off=1e-8)
    monkeypatch.setattr(again, "Workers", machine)
    if late:
        monkeypatch.setattr(again, "DOUBT_SECONDS", 0.0)
    tick = item.seconds + 1  # for every look at the clock
    ticking = itertools.count(0.0, tick)
    monkeypatch.setattr(again.time, "monotonic", lambda: next(ticking))
    records = types.SimpleNamespace(get=lambda run_id: wrong)
    # It starts in time, and its end comes before it has twins.
    (check,) = again.train_again([item], records, Path("x"), workers=1, seconds=2.5 * tick)
    assert machine.stopped == {(1, 0)}
    if not late:
        assert "apart where rounding leaves" in check.fault
        assert check.twins
        assert not check.failed
    else:
        assert check.fault == again.UNDECIDED
        assert check.failed  # which is asked again the next time


def test_a_worker_in_a_long_pass_is_asked_to_stop_without_waiting_for_it():
    """It reads nothing before its pass ends; asked again and again, the command would hang."""
    ours, theirs = multiprocessing.Pipe()
    crew = workers.Workers(1)
    long = workers.Task(1, None, 0, Path(), False)
    crew._workers.append(workers._Worker(process=None, pipe=ours, task=long))
    asking = threading.Thread(target=lambda: [crew.stop(1) for _ in range(20_000)], daemon=True)
    asking.start()
    asking.join(PATIENCE)
    assert not asking.is_alive()
    assert theirs.recv() is None
    assert not theirs.poll()
    crew._workers[0].task = None
    another = workers.Task(2, None, 0, Path(), False)  # which is asked anew
    crew.start(another)
    assert theirs.recv() == another
    crew.stop(1)  # which has ended
    crew.stop(2)
    assert theirs.recv() is None
    assert not theirs.poll()
