"""The user's command, from nothing to the report, on the smallest profile."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from commands import COARSE

from experiments import pages
from experiments.data import catalogue, files
from experiments.paths import ROOT
from experiments.report import notebooks
from experiments.studies import STUDIES

# The command line, with one training for each model and what is measured of it: what differs in its
# method, its sizes or its seed takes the numbers of the first. Compiling the others would take ten
# times as long; that every published method trains, `test_published_again` knows.
ONE_OF_A_KIND = """
import sys
from experiments.cli.main import main
from experiments.training import train as training

train, first = training.train, {}

def kind(run):
    options = {
        name: value > 0 if isinstance(value, (int, float)) else value
        for name, value in run.options.items()
    }
    method = run.optimizer if run.optimizer in ("adam", "sfo") else "other"
    return repr((run.problem, method, run.data, run.epochs, sorted(options.items())))

def once(run, *rest, **options):
    if kind(run) not in first:
        first[kind(run)] = train(run, *rest, **options)
    return {**first[kind(run)], "config": run.config()}

training.train = once
sys.exit(main())
"""


def study(
    build: Path, *arguments: str, program: Sequence[str] = ("-m", "experiments"), **more: str
) -> subprocess.CompletedProcess[str]:
    """Run the command line with its own build folder and no real data in reach."""
    own = {"ADAM_TF_BUILD": str(build), "ADAM_TF_DATA": str(build / "data"), **more}
    command = [sys.executable, *program, *arguments]
    return subprocess.run(
        command, cwd=ROOT, env=os.environ | own, capture_output=True, text=True, timeout=3000
    )


@pytest.fixture(autouse=True)
def _coarse(tmp_path_factory, monkeypatch) -> None:
    """Nothing here looks at pixels: the processes that a test starts draw few of them."""
    hook = tmp_path_factory.mktemp("coarse")
    (hook / "sitecustomize.py").write_text(COARSE)
    monkeypatch.setenv("PYTHONPATH", str(hook), prepend=os.pathsep)


def snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        path.name: (path.stat().st_mtime_ns, path.read_bytes())
        for path in folder.iterdir()
        if path.is_file()
    }


def test_reproduce_on_stand_in_data(tmp_path):
    options = ("fig4", "--profile", "smoke", "--data", "stand-in")
    ran = study(tmp_path, "run", *options)
    assert ran.returncode == 0, ran.stderr
    assert "STAND-IN DATA" in ran.stderr
    assert "Traceback" not in ran.stderr
    lines = [line for line in ran.stderr.splitlines() if re.match(r"fig\S+ \d+/\d+ ", line)]
    records = snapshot(tmp_path / "records")
    assert len(lines) == len([name for name in records if name.endswith(".json")]) > 10

    lost = min(name for name in records if name.endswith(".json"))
    (tmp_path / "records" / lost).unlink()
    made = study(tmp_path, "report", *options)
    assert made.returncode == 0, made.stderr
    trained = snapshot(tmp_path / "records")  # what is missing, and nothing else
    assert trained.keys() == records.keys()
    assert {name for name in records if trained[name] != records[name]} <= {lost}
    records = trained
    index = tmp_path / "smoke" / "report" / "index.html"
    assert f"report: {index}" in made.stdout
    assert "not tested" in made.stdout
    assert "reproduced\n" not in made.stdout
    for page in (index, index.with_name("04_fig4_bias_correction.html")):
        assert "STAND-IN DATA" in page.read_text()
    html = index.read_text()
    assert "not-tested" in html
    assert not re.search(r'class="badge (not-)?reproduced"', html)

    judged = study(tmp_path, "claims", "fig4", "--profile", "smoke")  # with --data auto
    assert "STAND-IN DATA, 1,000 training examples, 2 passes" in judged.stdout
    assert "not finished" not in judged.stdout

    again = study(tmp_path, "run", *options)
    assert again.returncode == 0
    assert not re.search(r"^fig\S+ \d+/", again.stderr, re.MULTILINE)
    assert snapshot(tmp_path / "records") == records


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A build folder with every study trained on real data, by one command."""
    if not all(map(files.available, catalogue.DATASETS)):
        pytest.skip("ADAM_TF_DATA lacks data sets")
    build = tmp_path_factory.mktemp("real")
    options = ("--profile", "smoke", "--data", "real", "--engine", "serial")
    program = ("-c", ONE_OF_A_KIND)
    ran = study(build, "run", *options, program=program, ADAM_TF_DATA=str(files.root()))
    assert ran.returncode == 0, ran.stderr
    assert "STAND-IN" not in ran.stderr
    return build


@pytest.mark.parametrize("page", sorted({study.notebook for study in STUDIES.values()}))
def test_notebooks_run_on_real_data(tmp_path, monkeypatch, trained, page):
    monkeypatch.setenv("ADAM_TF_BUILD", str(trained))
    records = snapshot(trained / "records")
    output = tmp_path / f"{page}.ipynb"
    notebooks.execute(ROOT / "notebooks" / output.name, output, {"profile": "smoke"})
    assert "STAND-IN" not in output.read_text()
    assert re.search("profile smoke: (MNIST|CIFAR10)", output.read_text())
    assert snapshot(trained / "records") == records


@pytest.mark.skipif(
    not list(pages.RESULTS.glob("*.parquet")), reason="results/ holds no published records"
)
def test_the_published_report_trains_nothing(tmp_path):
    made = study(tmp_path, "report", "--profile", "published")
    assert made.returncode == 0, made.stderr
    assert not (tmp_path / "records").exists()
    html = (tmp_path / "published" / "report" / "index.html").read_text()
    assert "STAND-IN" not in html
    assert re.search(r'class="badge reproduced"', html)
    assert re.search(r'class="badge not-reproduced"', html)
