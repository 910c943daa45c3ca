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
PAGE = """\
from experiments import figures, pages

results = pages.results("nadam-mnist", profile, data)
pages.show(figures.curves(results), "Training cost of Nadam and Adam by pass")
"""
# All commands in one process, which starts TensorFlow once.
DRIVER = """\
import contextlib, io, json, sys
from experiments.cli.main import main
said = {}
for line in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        code = main(line)
    said[line[0]] = code, out.getvalue()
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Path:
    """A copy of the project with Nadam and its study added as the page says."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("experiments", "adam_tf"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    method, study = (text for kind, text in BLOCKS if kind == "python")
    (claim,) = (text for kind, text in BLOCKS if kind == "yaml")
    add(folder / "experiments" / "methods" / "optimizers.py", method)
    add(folder / "experiments" / "paper" / "claims.yaml", claim)
    (folder / "experiments" / "studies" / "nadam.py").write_text(study)
    registry = folder / "experiments" / "studies" / "__init__.py"
    text = registry.read_text()
    assert text.count("    fig4,\n") == text.count("        *sec7.STUDIES,\n") == 1
    text = text.replace("    fig4,\n", "    fig4,\n    nadam,\n")
    text = text.replace(
        "        *sec7.STUDIES,\n", "        *sec7.STUDIES,\n        nadam.STUDY,\n"
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
    assert "runs of the tuned settings once tuning is done" in said["plan"][1]
    assert "nadam-mnist: 10 runs done at profile smoke" in said["run"][1]
    rows = json.loads(said["claims"][1])
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
