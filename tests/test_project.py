"""The repository agrees with itself: lock, environments, README, notebooks, layers."""

from __future__ import annotations

import ast
import base64
import dataclasses
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from itertools import chain
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import nbformat
import pyarrow.parquet as pq
import pytest
import yaml
from IPython.core.interactiveshell import InteractiveShell
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from PIL import Image

from experiments import pages
from experiments.analysis import ledger
from experiments.cli import parser
from experiments.paths import ROOT
from experiments.records import published
from experiments.report import build as report
from experiments.report import notebooks, parameters, public, readme, summary
from experiments.studies import STUDIES, defaults
from experiments.verify import command as verify

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PUBLISHED = [study for study in STUDIES.values() if pages.published_file(study).exists()]
PAGES = sorted((ROOT / "notebooks").glob("*.ipynb"))
# How many runs of each study nobody has trained yet; of all others every run is published.
UNPUBLISHED = {
    "fig2-dropout": 24,
    "fig2-sfo": 3,
    "fig3": 30,
    "fig4": 324,
}
STUDIED = {study.notebook for study in STUDIES.values()}


def locked() -> dict[str, list[tuple[str, str]]]:
    """The lock: versions and markers by package."""
    found: dict[str, list[tuple[str, str]]] = {}
    for line in (ROOT / "requirements.lock").read_text().splitlines():
        if match := re.match(r"([a-z0-9._-]+)==(\S+)(?: ; (.*?))? \\$", line):
            name, version, marker = match.groups()
            found.setdefault(name, []).append((version, marker or ""))
    return found


def direct() -> list[Requirement]:
    """What the study and its tests ask for."""
    extras = PROJECT["optional-dependencies"]
    return [Requirement(t) for t in (*PROJECT["dependencies"], *extras["study"], *extras["test"])]


def test_the_lock_holds_every_dependency_within_its_bounds():
    versions = locked()
    assert len(versions) > 100
    for requirement in direct():
        found = versions[requirement.name.lower()]
        assert all(requirement.specifier.contains(version) for version, _ in found), requirement


def test_what_the_code_imports_is_declared():
    """A package that another one brings along may leave with it."""
    extras = PROJECT["optional-dependencies"]
    declared = {
        canonicalize_name(Requirement(text).name)
        for text in (*PROJECT["dependencies"], *chain(*extras.values()))
    }
    own = {"adam_tf", "experiments"}
    files = [path for name in own for path in (ROOT / name).rglob("*.py")]
    imported = set()
    for path in files:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                imported.add(node.module.split(".")[0])
    owners = metadata.packages_distributions()
    for name in imported - own - sys.stdlib_module_names:
        found = {canonicalize_name(owner) for owner in owners.get(name, [name])}
        assert found & declared, f"{name} of {sorted(found)}"
    assert {"bs4", "numpy", "tensorflow"} <= imported


def test_the_lock_has_hashes_and_names_no_index():
    text = (ROOT / "requirements.lock").read_text()
    packages = re.split(r"\n(?=[a-z0-9])", text)
    assert all("--hash=sha256:" in package for package in packages)
    assert "://" not in text
    assert "index" not in re.sub(r"#.*", "", text)


def test_conda_gets_the_locked_versions():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    python = next(d for d in environment if str(d).startswith("python="))
    version = python.partition("=")[2]
    markers = {
        "python_version": version,
        "python_full_version": f"{version}.9",
        "sys_platform": "linux",
        "platform_python_implementation": "CPython",
    }
    pins = environment[-1]["pip"]
    assert pins[-1] == "--editable ."
    pinned = dict(pin.split("==") for pin in pins[:-1])
    assert set(pinned) == {requirement.name.lower() for requirement in direct()}
    for name, pin in pinned.items():
        valid = [v for v, m in locked()[name] if not m or Marker(m).evaluate(markers)]
        assert valid == [pin], name


@pytest.fixture(scope="module")
def written() -> dict[Path, str]:
    """What the published records make of the committed texts."""
    text = readme.README.read_text(encoding="utf-8")
    return readme.files(text, [pages.published(study) for study in PUBLISHED])


def test_the_committed_texts_show_the_published_verdicts(written):
    assert {path.name for path in written} >= {"README.md", "VERDICTS.md", "verdicts.svg"}
    for path, text in written.items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name}: run `make notebooks`"


def test_every_committed_figure_holds_its_numbers_and_its_lines():
    pictures = [path.read_bytes() for path in readme.RESULTS.glob("*.png")]
    for page in PAGES:
        for cell in nbformat.read(page, as_version=4).cells:
            for output in cell.get("outputs", ()):
                if data := output.get("data", {}).get("image/png"):
                    pictures.append(base64.b64decode(data))
    assert len(pictures) > 70
    without = 0
    for picture in pictures:
        texts = Image.open(io.BytesIO(picture)).text
        assert "</svg>" in texts["SVG"]
        if "CSV" in texts:
            assert texts["CSV"].startswith("panel,kind,series,x,y,low,high,value,words\n")
            assert texts["CSV"].count("\n") > 3
        else:
            without += 1
    assert without <= 1, "only Figure 4 after 100 passes has nothing to draw"


def test_badges_wait_for_the_address_and_lead_to_notebook_00():
    """Without a public address there is nothing that Binder or nbviewer could open."""
    citation = readme.CITATION.read_text(encoding="utf-8")
    assert public.badges(citation) == ""
    assert public.badges(citation + "repository-code: https://example.org/a/b\n") == ""
    made = public.badges(citation + "repository-code: https://github.com/ann/adam.git\n")
    colab, binder, viewer = (urlsplit(link) for link in re.findall(r"\)\]\(([^)]+)\)", made))
    assert (binder.netloc, binder.path) == ("mybinder.org", "/v2/gh/ann/adam/main")
    (opened,) = parse_qs(binder.query)["labpath"]
    assert (ROOT / opened).exists()
    assert (viewer.netloc, viewer.path) == ("nbviewer.org", f"/github/ann/adam/blob/main/{opened}")
    assert colab.netloc == "colab.research.google.com"
    assert colab.path == f"/github/ann/adam/blob/main/{opened}"


def test_on_colab_notebook_00_gets_its_checkout(tmp_path):
    """Once there is an address: a cell that does nothing anywhere else, written once."""
    citation = readme.CITATION.read_text(encoding="utf-8")
    page = nbformat.read(ROOT / "notebooks" / public.EXPLAINED, as_version=4)
    before = [cell.id for cell in page.cells]
    public.for_colab(page, citation)
    assert [cell.id for cell in page.cells] == before
    for _ in range(2):
        public.for_colab(page, citation + "repository-code: https://github.com/ann/adam\n")
    assert [cell.id for cell in page.cells] == [before[0], "colab", *before[1:]]
    source = page.cells[1].source
    assert "git clone --quiet --depth 1 https://github.com/ann/adam adam" in source
    shell = InteractiveShell.instance()
    done = shell.run_cell(source)
    InteractiveShell.clear_instance()
    assert done.success
    assert "google.colab" not in sys.modules
    assert Path.cwd() == ROOT


def test_the_readme_is_short_and_its_links_lead_somewhere():
    text = readme.README.read_text(encoding="utf-8")
    assert len(re.findall(r"\S*\w\S*", text)) <= 1200

    def headings(path: Path) -> set[str]:
        titles = re.findall(r"^## (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
        return {re.sub(r"[^\w\- ]", "", t.lower()).strip().replace(" ", "-") for t in titles}

    for page in (readme.README, readme.RESULTS / "README.md", readme.RESULTS / "VERDICTS.md"):
        for target in re.findall(r"\]\(([^)]+)\)|(?:src|srcset)=\"([^\"]+)\"", page.read_text()):
            path, _, anchor = "".join(target).partition("#")
            if path.startswith(("https://", "../../actions/")):  # the code host's own pages
                continue
            if path:
                assert (page.parent / path).exists(), f"{page.name}: {path}"
            if anchor and page == readme.README:
                assert anchor in headings(page.parent / path if path else page), anchor


def test_every_sentence_about_findings_names_claims_and_verdicts_that_exist():
    known_claims = {claim.id: claim for claim in ledger.ledger()}
    for key, sentences in summary.findings().items():
        assert key in {*summary.TITLES, "holds", "fails", "defaults"}
        for sentence in sentences:
            assert sentence["if"], sentence
            used = re.findall(r"\{([\w-]+)\.(\w+)(?:%|:share)?\}", sentence["says"])
            assert len(used) == sentence["says"].count("{"), sentence
            for claim, protocol in used:
                assert protocol in " ".join(sentence["if"][claim]).split(), sentence
            for claim, wanted in sentence["if"].items():
                for condition, value in wanted.items():
                    protocol, *words = condition.split()
                    assert protocol in known_claims[claim].protocols, claim
                    if words:
                        assert words in (
                            ["below"],
                            ["above"],
                            ["value", "below"],
                            ["value", "above"],
                        )
                        assert isinstance(value, int | float)
                    else:
                        assert value in summary.KINDS


@pytest.mark.parametrize("study", PUBLISHED, ids=lambda study: study.name)
def test_the_committed_pages_are_those_of_the_published_records(study):
    digest = hashlib.sha256(pages.published_file(study).read_bytes()).hexdigest()
    page = json.loads((ROOT / "notebooks" / f"{study.notebook}.ipynb").read_text())
    shown = json.dumps([cell.get("outputs") for cell in page["cells"]])
    assert digest in shown, "results/ changed: run `make notebooks`"
    judged_there = {name for _, name, _ in defaults.CASES}
    if study.name in judged_there:
        assert digest in (ROOT / "notebooks" / "07_defaults.ipynb").read_text()
    picture = pages.RESULTS / f"{study.name}.png"
    assert picture.exists() == study.in_paper
    if study.in_paper:
        with Image.open(picture) as image:
            assert digest in image.text["Source"], "results/ changed: run `make notebooks`"


@pytest.mark.parametrize("study", PUBLISHED, ids=lambda study: study.name)
def test_a_published_file_holds_the_runs_of_its_plan_and_no_others(study):
    found = pages.published(study)
    planned = {run.id for run in found.plan.runs()}
    missing = {run.id for run in found.plan.missing(found.records)}
    assert set(published.read(pages.published_file(study))) == planned - missing
    assert len(missing) == UNPUBLISHED.get(study.name, 0)


@pytest.mark.parametrize("study", PUBLISHED, ids=lambda study: study.name)
def test_matched_settings_are_the_nearest_tried_and_inside_their_grid(study):
    found = pages.published(study)
    # Where the paper shows no curve, a best rate may end its grid; the claims then say so.
    assert not any(study.arm(name).plotted for name in found.plan.on_edge)
    fit = found.fit()
    fitted = {arm.name for arm in study.arms if arm.fit}
    if not found.plan.missing(found.records, "fit"):
        assert set(fit["arm"] if len(fit) else ()) == fitted
    if found.plan.missing(found.records, "fit") or not len(fit):
        return
    nearest = fit[fit.groupby("arm")["rms"].transform("min") == fit["rms"]]
    assert nearest["chosen"].all()
    for arm in study.arms:
        if arm.fit:
            rates = arm.fit["learning_rate"]
            assert min(rates) < arm.matched["learning_rate"] < max(rates)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_notebooks_are_thin_whole_and_published(path):
    page = json.loads(path.read_text())
    declared = parameters.declared(path)
    if path.stem in STUDIED:
        assert declared["profile"].default == "published"
        assert declared["data"].default == "auto"
    code = [cell for cell in page["cells"] if cell["cell_type"] == "code"]
    for cell in code:
        assert len("".join(cell["source"]).splitlines()) <= 15
        # A page without a study may show an algorithm; it is then what the page is about.
        not_here = ast.ClassDef | ast.FunctionDef if path.stem in STUDIED else ast.ClassDef
        assert not any(
            isinstance(node, not_here) for node in ast.walk(ast.parse("".join(cell["source"])))
        )
        assert not any(o["output_type"] == "error" for o in cell["outputs"])
        assert not any(o.get("name") == "stderr" for o in cell["outputs"])
    assert "provenance" in "".join(code[-1]["source"])
    if path.stem in STUDIED - {study.notebook for study in PUBLISHED}:
        assert not any(cell["outputs"] for cell in code)
        return
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert any("image/png" in o.get("data", {}) for cell in code for o in cell["outputs"])


def test_a_selection_is_counted_by_itself():
    """Studies that were not asked for are neither counted nor called unpublished."""
    (line,) = readme._published([pages.published(STUDIES["sec1-memory"])])
    assert line == "  1 of 1 study is complete."


@pytest.mark.parametrize("study", STUDIES.values(), ids=lambda study: study.name)
def test_every_study_has_its_page(study):
    page = json.loads((ROOT / "notebooks" / f"{study.notebook}.ipynb").read_text())
    text = "".join("".join(cell["source"]) for cell in page["cells"])
    assert f'pages.results("{study.name}", profile, data)' in text


def test_a_report_has_its_studies_pages_after_those_of_no_study(monkeypatch, tmp_path):
    studied = report.notebooks_of([STUDIES["fig4"]])
    assert [page.stem for page in studied if page.stem in STUDIED] == [STUDIES["fig4"].notebook]
    assert {page.stem for page in studied} >= {page.stem for page in PAGES} - STUDIED
    assert studied[0].stem == "00_adam_explained"
    given = {}
    monkeypatch.setattr(notebooks, "execute", lambda page, _, values: given.update({page: values}))
    for page in studied:
        report._execute(page, tmp_path / page.name, {"profile": "smoke", "data": "real"})
    for page, values in given.items():
        assert set(values) == {"profile", "data", "interactive"} & set(parameters.declared(page))
    assert given[studied[0]] == {"interactive": False}


@pytest.mark.parametrize("content", [None, "{}"])
def test_a_page_that_cannot_be_run_is_named_before_anything_is_trained(
    monkeypatch, tmp_path, content
):
    """Not after the pages before it ran."""
    monkeypatch.setattr(report, "NOTEBOOKS", tmp_path)
    monkeypatch.setattr(report, "_execute", None)
    monkeypatch.setattr(pages, "results", None)
    study = dataclasses.replace(STUDIES["fig4"], notebook="fig_4")
    said = "page of fig4 is missing; copy another one, as docs/extending.md says, or correct "
    said += "`notebook` in the study"
    if content:
        (tmp_path / "fig_4.ipynb").write_text(content)
        said = "not a notebook of format 4"
    with pytest.raises(parameters.NotebookError, match=f"fig_4.ipynb: .*{said}$"):
        report.build([study], "smoke")


@pytest.mark.parametrize(
    ("manifest", "seconds"),
    [
        ({"wall_seconds": 50.0}, 50.0),  # data, compilation and evaluation included
        ({"wall_seconds": 12.0, "resumed": True}, 40.0),
        ({"wall_seconds": 12.0, "continues": {"run": "x", "passes": 3}}, 12.0),
        ({"wall_seconds": 5.0, "resumed": True, "continues": {"run": "x", "passes": 3}}, 10.0),
    ],
)
def test_the_training_time_holds_what_came_before_an_interruption(manifest, seconds):
    record = {"metrics": {"seconds": [10.0] * 4}, "manifest": manifest}
    assert pages._training_seconds(record) == seconds


def test_a_page_whose_verdicts_are_others_now_is_not_current(monkeypatch):
    """A rule or its computation has changed, and no record."""
    page = ROOT / "notebooks" / f"{STUDIES['fig4'].notebook}.ipynb"
    assert report.is_current(page)
    judged = pages.verdicts

    def other(*results):
        table = judged(*results)
        table.loc[0, "matched"] = table.loc[0, "matched"].replace("reproduced", "inconclusive")
        return table

    monkeypatch.setattr(pages, "verdicts", other)
    assert not report.is_current(page)


@pytest.mark.parametrize("stale", [None, STUDIES["fig4"].notebook, "00_adam_explained"])
@pytest.mark.parametrize("profile", ["published", "smoke"])
def test_the_report_shows_the_committed_pages_while_they_are_current(
    monkeypatch, tmp_path, profile, stale
):
    """A page of other records, or one without outputs, is run; the others are shown as they are."""
    executed, shown = [], []
    folder = tmp_path / "committed"
    folder.mkdir()
    for path in PAGES:
        text = path.read_text(encoding="utf-8")
        if path.stem == stale and stale in STUDIED:
            files = [pages.published_file(s) for s in STUDIES.values() if s.notebook == stale]
            text = text.replace(hashlib.sha256(files[0].read_bytes()).hexdigest(), "0" * 64)
        page = json.loads(text)
        for cell in page["cells"]:
            if path.stem == stale and stale not in STUDIED and cell["cell_type"] == "code":
                cell["outputs"] = []
        (folder / path.name).write_text(json.dumps(page))
    monkeypatch.setattr(report, "NOTEBOOKS", folder)
    monkeypatch.setenv("ADAM_TF_BUILD", str(tmp_path))
    monkeypatch.setattr(report, "_execute", lambda page, output, _: executed.append(page.stem))

    def read(path):
        shown.append(path)
        return report.webpage.Page(path.stem, nbformat.v4.new_notebook())

    monkeypatch.setattr(report.webpage.Page, "read", read)
    monkeypatch.setattr(report.webpage, "build", lambda *_, **__: tmp_path)
    monkeypatch.setattr(report.figures, "main", lambda results: results)
    monkeypatch.setattr(report.figures, "png", lambda figure: b"")
    monkeypatch.setattr(pages, "results", lambda name, *_: pages.published(STUDIES[name]))
    report.build([STUDIES["fig4"]], profile)
    names = ["00_adam_explained", STUDIES["fig4"].notebook]
    run = {stale} & set(names) | ({names[1]} if profile == "smoke" else set())
    assert executed == [name for name in names if name in run]
    assert [path.stem for path in shown] == names
    assert [path.parent == folder for path in shown] == [name not in run for name in names]


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run make as from a fresh shell, not as a part of the make that may run the tests."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(
        ["make", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True
    )


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        (
            "PROFILE=quik",
            "PROFILE=quik is not valid: use one of verify smoke quick paper published",
        ),
        ("PROFILE=smoke quick", "PROFILE=smoke quick is not valid: use one of verify smoke"),
        ("MINUTES=ten", "MINUTES=ten is not valid: use a number above 0, as in 0.5"),
        ("MINUTES=0", "MINUTES=0 is not valid: use a number above 0"),
        ("MINUTES=-1", "MINUTES=-1 is not valid: use a number above 0"),
        ("MINUTES=1 2", "MINUTES=1 2 is not valid: use a number above 0"),
        ("MINUTES=nan", "MINUTES=nan is not valid: use a number above 0"),
        ("MINUTES=it's", "MINUTES=it's is not valid: use a number above 0"),
        ("DATA=/nowhere", "DATA=/nowhere is not valid: use auto, real, stand-in or an existing"),
        ("DATA=", "DATA= is not valid: use auto, real, stand-in or an existing"),
        ("DATA=auto real", "DATA=auto real is not valid: use auto, real, stand-in or an"),
        ("MINUTE=5", "unknown variable MINUTE: use PROFILE, MINUTES, DATA or PYTHON"),
        ("profile=quick", "unknown variable profile: use PROFILE, MINUTES, DATA or PYTHON"),
        ("DATA=~/nowhere", "DATA=~/nowhere is not valid: use auto, real, stand-in or an"),
    ],
)
def test_bad_variables_are_refused_before_anything_is_made(argument, message):
    refused = make("-n", "reproduce", argument)
    assert refused.returncode == 2
    assert message in refused.stderr
    assert refused.stdout == ""


@pytest.mark.parametrize("name", ["plain", "a folder", 'it\'s  "here"', "a;b & c"])
@pytest.mark.parametrize("start", ["", "~/"])
def test_the_data_may_lie_in_any_folder(tmp_path, monkeypatch, name, start):
    (tmp_path / name).mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    shown = make("-n", "-p", "reproduce", f"DATA={start or f'{tmp_path}/'}{name}")
    assert shown.returncode == 0, shown.stderr
    assert f"ADAM_TF_DATA := {tmp_path / name}\n" in shown.stdout
    assert "verify --minutes 10 --data real" in shown.stdout


def test_every_make_target_has_its_line_of_help():
    text = (ROOT / "Makefile").read_text()
    targets = re.search(r"\.PHONY: (.*)", text)[1].split()
    shown = make()
    assert shown.returncode == 0
    for target in targets:
        assert re.search(rf"^ *make {target}\b", shown.stdout, re.MULTILINE), target
    for variable in ("PROFILE", "MINUTES", "DATA"):
        assert variable in shown.stdout
    assert shown.stderr == ""


def test_the_minutes_of_a_check_are_the_same_wherever_they_are_promised():
    minutes = f"{verify.MINUTES:g}"
    readme_text = " ".join((ROOT / "README.md").read_text().split())
    commands = (ROOT / "docs" / "command-line.md").read_text()
    assert re.search(r"^MINUTES \?= (\S+)$", (ROOT / "Makefile").read_text(), re.M)[1] == minutes
    assert re.search(r"`make reproduce` \| [^|]* \| (\d+) minutes", readme_text)[1] == minutes
    assert re.search(r"`--minutes` \((\d+)\)", commands)[1] == minutes
    _, flag = parser.ARGUMENTS["minutes"]
    assert "default" not in flag  # so that `verify` can tell what was given; it takes MINUTES
    assert flag["help"].endswith(f"(default {minutes})")


def test_the_hooks_before_a_commit_are_those_of_make_lint():
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    hooks = [hook["entry"] for repository in config["repos"] for hook in repository["hooks"]]
    lint = re.search(r"^lint:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert hooks == [line.strip().replace("$(BIN)", ".venv/bin") for line in lint[1].splitlines()]


def test_the_development_container_has_the_python_of_the_environments():
    container = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text())
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    assert container["image"].replace(":", "=") in environment
    assert container["postCreateCommand"] == "make env"


def test_what_is_slow_is_named_by_files_that_are_there(pytestconfig):
    """A file that is renamed must not slip into `make check`."""
    conftest = pytestconfig.pluginmanager.get_plugin(str(ROOT / "tests" / "conftest.py"))
    for marked in (conftest.SLOW, conftest.E2E):
        for folder, names in marked.items():
            place = ROOT / "tests" if folder == "tests" else ROOT / "tests" / folder
            assert [name for name in names if not (place / name).exists()] == []


def test_no_data_set_is_committed():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    bad = re.compile(r"ubyte|data_batch|labeledBow|input\.txt|\.pkl$|\.pickle$")
    assert not [name for name in listed.stdout.splitlines() if bad.search(name)]


@pytest.mark.parametrize("name", ["verdicts.svg", "verdicts-dark.svg"])
def test_every_line_of_the_picture_has_a_mark(name):
    text = (ROOT / "results" / name).read_text(encoding="utf-8")
    lines = re.findall(r'<text x="\d+" y="(\d+)"[^>]*>(?:matched|tuned)</text>', text)
    marks = set(re.findall(r"translate\(\d+ (\d+)\)", text))
    assert len(lines) > 10
    assert {str(int(y) - 16) for y in lines} <= marks


def test_every_record_names_a_commit_of_this_history():
    """Or nobody could look up the code that made it."""

    def git(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True)

    if git("rev-parse", "--is-shallow-repository").stdout.strip() != "false":
        pytest.skip("the history is not here")
    for path in sorted((ROOT / "results").glob("*.parquet")):
        named = {
            part.rstrip("+")
            for text in pq.read_table(path, columns=["manifest.commit"])[0].unique().to_pylist()
            for part in text.split("; ")
        }
        for commit in named:
            found = git("merge-base", "--is-ancestor", commit, "HEAD")
            assert found.returncode == 0, f"{path.name} names {commit}"
