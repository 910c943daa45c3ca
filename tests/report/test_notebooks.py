"""Notebooks run strictly, and their committed form depends on their content alone."""

import json
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from experiments.report.canonical import canonical, save
from experiments.report.notebooks import NotebookFailed, execute
from experiments.report.parameters import NotebookError, check

PARAMETERS = """\
profile: str = "quick"  # one of smoke, quick
seeds: int = 3
rate: float = 0.5  # β, in bytes
fast: bool = True
ways: list[int] = [
    1,
    2,
]
"""


def make(path: Path, *sources: str, parameters: str = PARAMETERS, kernel: str = "python3") -> Path:
    nb = new_notebook(metadata={"kernelspec": {"name": kernel, "display_name": kernel}})
    tagged = new_code_cell(parameters, metadata={"tags": ["parameters"]})
    nb.cells = [new_markdown_cell("# A page"), tagged, *map(new_code_cell, sources)]
    nbformat.write(nb, path)
    return path


@pytest.fixture
def notebook(tmp_path: Path) -> Path:
    return make(tmp_path / "page.ipynb", "1 + 1")


def test_no_grammar_of_addresses_is_built_to_read_a_notebook():
    """It would take two seconds in every process."""
    assert "jsonschema" in sys.modules  # which nbformat imports, and which would import it
    assert "lark" not in sys.modules


# --- what is refused before anything runs ---------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"profle": "smoke"}, "unknown parameter 'profle': did you mean profile"),
        ({"seed": 1}, "did you mean seeds"),
        ({"zzz": 1}, "unknown parameter 'zzz': allowed: profile, seeds, rate, fast, ways"),
        ({"fast": "false"}, "parameter 'fast' must be bool, got 'false'"),
        ({"fast": 0}, "'fast' must be bool"),
        ({"seeds": True}, "'seeds' must be int, got True"),
        ({"seeds": 3.0}, "'seeds' must be int"),
        ({"rate": "0.1"}, "'rate' must be float"),
        ({"profile": None}, "'profile' must be str"),
        ({"seeds": "many"}, "'seeds' must be int, got 'many'"),
        ({"ways": [1, "b"]}, r"'ways' must be list\[int\]"),
        ({"ways": 1}, r"'ways' must be list\[int\]"),
    ],
)
def test_values_that_papermill_would_accept(notebook, values, message):
    with pytest.raises(NotebookError, match=message) as caught:
        check(notebook, values)
    assert "\n" not in str(caught.value)


def test_values_are_taken_as_declared(notebook):
    assert check(notebook, {"rate": 1, "ways": (3, 4)}) == {"rate": 1.0, "ways": [3, 4]}


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("profile = 'quick'", "line 1: \"profile = 'quick'\" is not a typed declaration"),
        ("seeds: int", "not a typed declaration"),
        ("import os", "not a typed declaration"),
        ("when: date = 1", "the type 'date' is not one of str, int, float, bool, list"),
        ("seeds: int = 'three'", "the default 'three' of 'seeds' is not a literal of type int"),
        ("seeds: int = len('x')", "not a literal of type int"),
        ("a: int = 1\na: int = 2", "'a' is declared more than once"),
        ("a: int = \n", "line 1: invalid syntax"),
    ],
)
def test_declarations_that_are_refused(tmp_path, source, message):
    with pytest.raises(NotebookError, match=message):
        check(make(tmp_path / "page.ipynb", parameters=source), {})


def test_parameters_cell_must_be_there_once(notebook):
    content = json.loads(notebook.read_text())
    content["cells"].append(content["cells"][1])
    notebook.write_text(json.dumps(content))
    with pytest.raises(NotebookError, match=r"exactly one .* found: 2, 4"):
        check(notebook, {})
    for cell in content["cells"]:
        cell["metadata"] = {}
    notebook.write_text(json.dumps(content))
    with pytest.raises(NotebookError, match=r"exactly one .* found: none"):
        check(notebook, {})


def test_files_that_are_refused(tmp_path):
    with pytest.raises(NotebookError, match="no such notebook"):
        check(tmp_path / "none.ipynb", {})
    for text, message in [("{", "not valid JSON"), ("[]", "not a notebook of format 4")]:
        (tmp_path / "bad.ipynb").write_text(text)
        with pytest.raises(NotebookError, match=message):
            check(tmp_path / "bad.ipynb", {})
    with pytest.raises(NotebookError, match="its kernel is 'ir'; allowed is 'python3'"):
        check(make(tmp_path / "r.ipynb", kernel="ir"), {})


def test_paths_and_limits_that_make_no_sense(notebook, tmp_path):
    with pytest.raises(NotebookError, match="must not replace"):
        execute(notebook, notebook)
    with pytest.raises(NotebookError, match="must end in"):
        execute(notebook, tmp_path / "out.html")
    with pytest.raises(NotebookError, match="must be positive"):
        execute(notebook, tmp_path / "out.ipynb", timeout=0)


# --- running --------------------------------------------------------------------------------------


def test_a_run_from_another_folder(tmp_path, monkeypatch, capfd):
    """One kernel start answers many questions."""
    folder = tmp_path / "with {braces}"
    folder.mkdir()
    foreign = tmp_path / "jupyter" / "kernels" / "python3"  # a python3 of another environment
    foreign.mkdir(parents=True)
    (foreign / "kernel.json").write_text(
        json.dumps({"argv": ["/nowhere/python"], "display_name": "x", "language": "python"})
    )
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    monkeypatch.setenv("MPLBACKEND", "agg")
    source = make(
        folder / "page.ipynb",
        "import os, sys\nprint('progress', file=sys.stderr)\nprint('one')",
        "import experiments\n"
        "machine = [sys.executable, os.getcwd(), os.environ.get('MPLBACKEND')]\n"
        "[profile, seeds, rate, fast, ways, *machine]",
    )
    output = folder / "out" / "page.ipynb"
    stale = output.with_suffix(".failed.ipynb")
    stale.parent.mkdir()
    stale.touch()
    monkeypatch.chdir(tmp_path)
    before = source.read_bytes()
    execute(source, output, {"fast": False, "ways": [5], "rate": 1, "profile": "sm\"k'"})

    assert capfd.readouterr() == ("", "")  # quiet
    assert source.read_bytes() == before
    assert [path.name for path in output.parent.iterdir()] == ["page.ipynb"]
    nb = nbformat.read(output, as_version=4)
    seen = eval(nb.cells[-1].outputs[0].data["text/plain"])
    assert seen[:-1] == ["sm\"k'", 3, 1.0, False, [5], sys.executable, str(tmp_path)]
    assert seen[-1].startswith("module://matplotlib_inline")

    clean = canonical(nb)
    assert [cell.get("execution_count") for cell in clean.cells] == [None, 1, 2, 3]
    assert [output.text for output in clean.cells[2].outputs] == ["one\n"]
    assert clean.cells[1].source == (
        'profile: str = "sm\\"k\'"  # one of smoke, quick\n'
        "seeds: int = 3\nrate: float = 1.0  # β, in bytes\n"
        "fast: bool = False\nways: list[int] = [5]\n"
    )
    with pytest.raises(NotebookError, match="executed copy"):
        check(output, {})


def test_a_failing_cell_is_named_and_kept(tmp_path):
    source = make(tmp_path / "page.ipynb", "1", "raise KeyError('first\\nsecond')", "2")
    output = tmp_path / "out.ipynb"
    output.write_text("the last good run")
    with pytest.raises(NotebookFailed) as caught:
        execute(source, output, {"seeds": 4})
    assert str(caught.value).startswith(f"{source}: cell 4 failed: KeyError: 'first\\nsecond'")
    assert "\n" not in str(caught.value)
    assert output.read_text() == "the last good run"
    kept = nbformat.read(tmp_path / "out.failed.ipynb", as_version=4)
    assert any(o.output_type == "error" for cell in kept.cells for o in cell.get("outputs", []))


def test_endings_that_are_no_exceptions(tmp_path):
    """A dead kernel, too little time, and sys.exit, which papermill takes for success."""
    output = tmp_path / "out.ipynb"
    for source, timeout, message in [
        ("import os; os.abort()", 60, "cell 3: the kernel died"),
        ("import sys; sys.exit(0)", 60, "cell 3 failed: SystemExit: 0"),
        ("import time; time.sleep(60)", 3, "cell 3: out of time after 3 s"),
    ]:
        with pytest.raises(NotebookFailed, match=message):
            execute(make(tmp_path / "page.ipynb", source, "2"), output, timeout=timeout)
    assert not output.exists()
    assert (tmp_path / "out.failed.ipynb").exists()
    assert len(list(tmp_path.iterdir())) == 2


# --- committing -----------------------------------------------------------------------------------


def executed(run: int) -> nbformat.NotebookNode:
    """The same notebook as one run and as another leave it."""
    stream, widget = "stream", {"application/vnd.jupyter.widget-view+json": {"model_id": str(run)}}
    cell = new_code_cell(
        "x",
        id="kept",
        execution_count=7 * run,
        metadata={
            "papermill": {"duration": run},
            "execution": {"iopub.status.busy": str(run)},
            "tags": [],
        },
    )
    prints = ["a", "b\n"] if run == 1 else ["ab\n"]
    cell.outputs = [
        *(new_output(stream, name="stdout", text=text) for text in prints),
        new_output(stream, name="stderr", text=f"{run}%"),
        new_output("display_data", data=widget),
        new_output("execute_result", {"text/plain": f"<f at 0x7f{run}a>"}, execution_count=7 * run),
    ]
    nb = new_notebook(cells=[new_markdown_cell("text", id="text"), cell])
    nb.metadata = {
        "kernelspec": {"name": "python3", "display_name": f"env {run}", "language": "python"},
        "language_info": {"name": "python", "version": f"3.11.{run}"},
        "papermill": {"duration": run},
        "widgets": {"state": run},
        "title": "kept",
    }
    return nbformat.from_dict(nb)


def test_two_runs_of_the_same_content_are_byte_equal(tmp_path):
    first, second = (canonical(executed(run)) for run in (1, 2))
    save(first, tmp_path / "deep" / "1.ipynb")
    save(second, tmp_path / "2.ipynb")
    written = (tmp_path / "2.ipynb").read_bytes()
    assert (tmp_path / "deep" / "1.ipynb").read_bytes() == written
    assert written.endswith(b"}\n")
    assert first.metadata.title == "kept"
    assert first.cells[1].metadata == {}
    assert first.cells[1].id == "kept"
    save(canonical(nbformat.read(tmp_path / "2.ipynb", as_version=4)), tmp_path / "2.ipynb")
    assert (tmp_path / "2.ipynb").read_bytes() == written


def test_an_invalid_notebook_is_not_written(tmp_path):
    nb = canonical(executed(1))
    nb.cells[0].cell_type = "poem"
    with pytest.raises(NotebookError, match="not a valid notebook"):
        save(nb, tmp_path / "bad.ipynb")
    assert not list(tmp_path.iterdir())


def test_the_users_start_up_files_stay_out(tmp_path, monkeypatch):
    home = tmp_path / "ipython"
    startup = home / "profile_default" / "startup" / "00.py"
    startup.parent.mkdir(parents=True)
    startup.write_text("import pandas; pandas.set_option('display.precision', 1); leaked = 1")
    (tmp_path / "start.py").write_text("leaked = 2")
    monkeypatch.setenv("IPYTHONDIR", str(home))
    monkeypatch.setenv("PYTHONSTARTUP", str(tmp_path / "start.py"))
    source = "import pandas\nprint('leaked' in globals(), pandas.get_option('display.precision'))"
    execute(make(tmp_path / "page.ipynb", source), tmp_path / "done.ipynb")
    done = nbformat.read(tmp_path / "done.ipynb", 4)
    assert done.cells[-1].outputs[0].text == "False 6\n"
