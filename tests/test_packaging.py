"""What `pip install .` ships: the optimizers, and a command that says where the study is."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from experiments.paths import ROOT


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """A wheel of the files that are under version control."""
    folder = tmp_path_factory.mktemp("wheel")
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    for name in tracked.stdout.decode().split("\0"):
        if name and not name.startswith(("results/", "notebooks/")) and (ROOT / name).exists():
            (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / "source" / name).write_bytes((ROOT / name).read_bytes())
    build = ["wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    command = [sys.executable, "-m", "pip", *build, "--wheel-dir", folder, folder / "source"]
    subprocess.run(command, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


def test_the_optimizers_alone_are_shipped(wheel):
    with zipfile.ZipFile(wheel) as file:
        names = file.namelist()
        about = file.read(next(n for n in names if n.endswith("METADATA"))).decode()
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {
        "adam_tf",
        "adam_study.py",
    }
    sources = {path.relative_to(ROOT).as_posix() for path in (ROOT / "adam_tf").rglob("*.py")}
    assert sources | {"adam_tf/py.typed"} <= set(names)
    for field in ("Author: ", "License-Expression: MIT", "Project-URL: Paper, ", "Classifier: "):
        assert f"\n{field}" in about


def test_without_a_checkout_the_command_says_where_the_study_is(wheel):
    code = "import sys; sys.path += sys.argv[1:]; import adam_study as a; sys.exit(a.main())"
    isolated = [sys.executable, "-I", "-S", "-c", code, str(wheel)]
    done = subprocess.run(isolated, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("adam-study: only the optimizers, adam_tf, are installed here; ")
    assert done.stderr.count("\n") == 1
