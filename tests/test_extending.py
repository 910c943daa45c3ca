"""What docs/extending.md says, done in a copy of the project: from a new method to the report."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from experiments.paths import ROOT

TEXT = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
METHOD, OPTIONS, PROBLEM, ENTRY, STUDY, PAGE = (text for kind, text in BLOCKS if kind == "python")
(CLAIM,) = (text for kind, text in BLOCKS if kind == "yaml")
# All commands in one process, which starts TensorFlow once.
DRIVER = """\
import contextlib, io, json, sys
from experiments.cli.main import main
said = {}
for line in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        code = main(line)
    said[" ".join(line[:2])] = code, out.getvalue()
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Path:
    """A copy of the project with Nadam and its study added as the page says."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("experiments", "adam_tf"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    experiments = folder / "experiments"
    add(experiments / "methods" / "optimizers.py", METHOD)
    add(experiments / "problems" / "options.py", OPTIONS)
    (experiments / "problems" / "least_squares.py").write_text(PROBLEM)
    add(experiments / "problems" / "registry.py", ENTRY)
    add(experiments / "paper" / "claims.yaml", CLAIM)
    (experiments / "studies" / "nadam.py").write_text(STUDY)
    (experiments / "studies" / "squares.py").write_text(of_squares(STUDY))
    registry = folder / "experiments" / "studies" / "__init__.py"
    text = registry.read_text()
    assert text.count("    fig4,\n") == text.count("        *sec7.STUDIES,\n") == 1
    text = text.replace("    fig4,\n", "    fig4,\n    nadam,\n    squares,\n")
    text = text.replace(
        "        *sec7.STUDIES,\n",
        "        *sec7.STUDIES,\n        nadam.STUDY,\n        squares.STUDY,\n",
    )
    registry.write_text(text)
    page = nbformat.v4.new_notebook()
    page.metadata["kernelspec"] = {
        "display_name": "Python 3",
        "language": "python",
        "name": "python3",
    }
    parameters = nbformat.v4.new_code_cell('profile: str = "published"\ndata: str = "auto"')
    parameters.metadata["tags"] = ["parameters"]
    heading = nbformat.v4.new_markdown_cell("# Nadam beside Adam")
    page.cells = [heading, parameters, nbformat.v4.new_code_cell(PAGE)]
    (folder / "notebooks").mkdir()
    nbformat.write(page, folder / "notebooks" / "nadam.ipynb")
    return folder


def of_squares(study: str) -> str:
    """The study with the three lines changed that the page names, and a name of its own."""
    for old, new in (
        ('name="nadam-mnist"', 'name="nadam-squares"'),
        ('problem="mnist_logistic_regression"', 'problem="least_squares"'),
        ('options={"l2": 1e-4, "train_examples": 60_000}', "options={}"),
        ('data_set="mnist"', 'data_set="none"'),
    ):
        assert study.count(old) == 1
        assert "name=" in old or f"`{new}`" in TEXT
        study = study.replace(old, new)
    return study


def add(path: Path, text: str) -> None:
    path.write_text(f"{path.read_text(encoding='utf-8')}\n\n{text}", encoding="utf-8")


def test_a_method_and_a_study_go_from_list_to_report(copy):
    lines = [text for kind, text in BLOCKS if not kind]
    commands = [shlex.split(line)[1:] for text in lines for line in text.splitlines()]
    assert [command[0] for command in commands] == ["list", "plan", "run", "claims", "report"]
    commands = [
        [*words, *["--data", "stand-in"][: 2 * ("nadam-mnist" in words)]] for words in commands
    ]
    commands[2] += ["--engine", "serial"]
    commands[3] += ["--json"]
    commands.append(["run", "nadam-squares", "--profile", "smoke", "--engine", "serial"])
    build = copy / "build"
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, json.dumps(commands)],
        cwd=copy,
        env={**os.environ, "PYTHONPATH": str(copy), "ADAM_TF_BUILD": str(build)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    said = json.loads(done.stdout.splitlines()[-1])
    assert {code for code, _ in said.values()} == {0}
    assert "nadam-mnist" in said["list"][1]
    assert "runs of the tuned settings once tuning is done" in said["plan nadam-mnist"][1]
    assert "nadam-mnist: 10 runs done at profile smoke" in said["run nadam-mnist"][1]
    assert "nadam-squares: 10 runs done" in said["run nadam-squares"][1]
    rows = json.loads(said["claims nadam-mnist"][1])
    assert {row["id"] for row in rows} == {"nadam-like-adam"}
    assert {row["verdict"] for row in rows} == {"not tested"}
    assert all(row["reason"].startswith("stand-in data") for row in rows)
    report = build / "smoke" / "report"
    index = (report / "index.html").read_text(encoding="utf-8")
    assert "Nadam and Adam: logistic regression on MNIST" in index
    assert "STAND-IN DATA" in index
    assert "Figure 1" not in index
    assert "<img" in (report / "nadam.html").read_text(encoding="utf-8")
    assert '"arm":"Nadam"' in (report / "charts.html").read_text(encoding="utf-8")
