"""The flow of the code: imports from the rooms below and never in a circle; files of 500 lines."""

from __future__ import annotations

import ast
import graphlib
from pathlib import Path

import pytest

from experiments.paths import ROOT
from experiments.problems.registry import PROBLEMS

# From the bottom up: a room is a folder or a file of `experiments`.
ROOMS = (
    ("options", "words", "randomness", "paths", "bar", "mistakes"),
    ("data", "methods"),
    ("theory",),
    ("problems",),
    ("study", "paper"),
    ("search",),
    ("declarations",),
    ("plan", "studies"),
    ("records",),
    ("training",),
    ("engines",),
    ("analysis",),
    ("figures",),
    ("pages",),
    ("verify",),
    ("report",),
    ("cli",),
    ("__main__",),
)
LINES = 500  # of a file, at most
LONG = {
    "experiments/methods/sfo/optimizer.py": (
        "It is one class, SFO: every part of an iteration reads and changes the same arrays."
    ),
}
RANK = {name: rank for rank, row in enumerate(ROOMS) for name in row}


def module_of(path: Path, root: Path) -> str:
    """The dotted name below `experiments` of a file; a folder's for its `__init__.py`."""
    parts = path.relative_to(root / "experiments").with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def imported(tree: ast.AST, root: Path) -> set[str]:
    """The modules of `experiments` that are imported, at the top or within functions.

    What only a type checker reads is left out.
    """
    found = set()
    queue = [tree]
    while queue:
        node = queue.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            queue += node.orelse
            continue
        queue += ast.iter_child_nodes(node)
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "experiments":
            folder = root / node.module.replace(".", "/")
            for alias in node.names:
                inside = (folder / alias.name).is_dir() or (folder / f"{alias.name}.py").exists()
                found.add(f"{node.module}.{alias.name}" if inside else node.module)
        elif isinstance(node, ast.Import):
            found |= {a.name for a in node.names if a.name.split(".")[0] == "experiments"}
    return {name.removeprefix("experiments").lstrip(".") for name in found} - {""}


def graph(root: Path = ROOT) -> dict[str, set[str]]:
    """What each file of `experiments` imports."""
    found = {
        module_of(path, root): imported(ast.parse(path.read_text(encoding="utf-8")), root)
        for path in (root / "experiments").rglob("*.py")
    }
    if root == ROOT:  # these are imported by their names
        found["problems.registry"] |= {entry.module for entry in PROBLEMS.values()}
    return found


def faults(files: dict[str, set[str]]) -> list[str]:
    """Every import from a room that is not below, and a circle if there is one."""
    room = {name: name.split(".")[0] for name in (*files, *set().union(*files.values()))}
    wrong = [
        f"{name} imports {other}"
        for name, others in files.items()
        for other in others
        if room[name] != room[other] and RANK[room[name]] <= RANK[room[other]]
    ]
    try:
        graphlib.TopologicalSorter(files).prepare()
    except graphlib.CycleError as error:
        wrong.append(" imports ".join(reversed(error.args[1])))
    return wrong


def test_nothing_imports_upwards_or_in_a_circle():
    files = graph()
    assert {name.split(".")[0] for name in files if name} == set(RANK)
    assert len(files) > 60
    del files[""]
    assert faults(files) == []


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("data.files", "from experiments.study import Run", "data.files imports study"),
        (
            "training.loops",
            "def late():\n    from experiments import pages",
            "training.loops imports pages",
        ),
        ("theory.steps", "import experiments.problems", "theory.steps imports problems"),
        ("data.files", "from experiments.methods import sfo", "data.files imports methods.sfo"),
        (
            "figures.style",
            "def late():\n    from experiments.figures import costs",
            "figures.costs imports figures.style",
        ),
        (
            "paper.curves",
            "if TYPE_CHECKING:\n    from experiments import study",
            None,
        ),
    ],
)
def test_a_wrong_import_is_noticed(name, text, fault):
    files = {"figures.costs": {"figures.style"}, name: imported(ast.parse(text), ROOT)}
    found = faults(files)
    assert len(found) == bool(fault)
    assert not fault or fault in found[0]


def test_adam_tf_knows_nothing_of_the_experiments():
    for path in (ROOT / "adam_tf").rglob("*.py"):
        assert not imported(ast.parse(path.read_text(encoding="utf-8")), ROOT), path


def test_no_file_is_long_without_a_reason():
    """Nor is there a reason for a file that is short by now."""
    folders = (ROOT / "adam_tf", ROOT / "experiments")
    lines = {
        path.relative_to(ROOT).as_posix(): path.read_bytes().count(b"\n")
        for folder in folders
        for path in folder.rglob("*.py")
    }
    assert len(lines) > 100
    assert {name for name, number in lines.items() if number > LINES} == set(LONG)


def test_durations_are_of_a_clock_that_nobody_sets():
    """The wall clock says when a record was made, and how old a file of another process is."""
    wall = {"time.time", "time.time_ns", "datetime.now", "datetime.utcnow", "datetime.today"}
    found = {}
    for path in sorted((ROOT / "experiments").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        calls = [ast.unparse(n.func) for n in ast.walk(tree) if isinstance(n, ast.Call)]
        imports = [n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)]
        calls += [f"time.{a.name}" for n in imports if n.module == "time" for a in n.names]
        if count := sum(call in wall for call in calls):
            found[path.relative_to(ROOT).as_posix()] = count
    assert found == {"experiments/records/store.py": 1, "experiments/training/train.py": 2}
