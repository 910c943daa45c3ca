"""Make the pages: the HTML report of a profile, and the committed pages of published records."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import html
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import nbformat

from experiments import figures, pages
from experiments.analysis import results as analysis
from experiments.analysis.results import Results
from experiments.figures import style
from experiments.paths import ROOT, build_folder
from experiments.records import merge, published
from experiments.records.origin import held_by_commits
from experiments.records.store import checksum, local_store, write_atomically
from experiments.report import (
    canonical,
    charts,
    explorer,
    notebooks,
    parameters,
    public,
    readme,
    summary,
    webpage,
)
from experiments.report.readme import README
from experiments.report.stamp import NOTEBOOKS, Stamp
from experiments.report.summary import Part
from experiments.studies import STUDIES
from experiments.study import Records, Study, config_id, describe
from experiments.verify import checks, kept
from experiments.words import counted

EXPLORER = ROOT / "docs" / "explorer.html"
TITLE = "Adam, reproduced"
SUMMARY = (
    "Does *Adam: A Method for Stochastic Optimization* (Kingma & Ba, arXiv 1412.6980) hold up? "
    "Each claim is judged by a rule, written before the runs unless it says otherwise, under two "
    "protocols: `matched` (settings fitted to the paper's own curves: did the authors' runs look "
    "like this?) and `tuned` (equal trials for every method: does the claim hold when everyone is "
    "tuned?). The numbers are means over seeds with their 95% interval."
)


CHECKED = (
    "Published runs trained again on this machine, next to their records, and new seeds next to "
    "the published ones; `make reproduce MINUTES=N` checks more."
)


class NothingToPublish(ValueError):
    """There are no records of the study at the `paper` profile."""


def build(
    studies: Sequence[Study],
    profile: str,
    data: str = "auto",
    say: Callable[[str], None] = lambda line: None,
) -> Path:
    """Run the pages at a profile, which trains what is missing, and write the report.

    The published report shows the committed pages; a page whose records have changed is run anew.
    A page without a profile shows the same at each, so it is shown as committed, too.

    Args:
        studies: those to report.
        profile: one of their profiles, or "published".
        data: as in `pages.results`.
        say: called with what is being done, one line at a time.

    Returns:
        The overview page, `<build>/<profile>/report/index.html`.

    Raises:
        parameters.NotebookError: a notebook is missing, can't be run, or failed.
    """
    folder = build_folder() / profile
    stamp = Stamp(studies)  # of what is there now
    names = notebooks_of(studies)
    current = {page for page in names if profile == "published" and is_current(page)}
    for page in names:  # before anything is trained
        if page not in current and "profile" not in parameters.declared(page) and is_current(page):
            current.add(page)
    found = [
        pages.existing(study, profile)
        if profile == "published"
        else pages.results(study.name, profile, data)
        for study in studies
    ]
    shown = []
    for number, page in enumerate(names, 1):
        which = f"page {number} of {len(names)}, {page.stem}"
        if page in current:
            say(f"{which}: as committed")
            shown.append(webpage.Page.read(page))
            continue
        say(f"{which}: running it")
        made = folder / "notebooks" / page.name
        _execute(page, made, {"profile": profile, "data": data})
        shown.append(webpage.Page.read(made))
    banner = None
    if any(results.stand_in for results in found):
        banner = "Made from STAND-IN DATA, not from the paper's data sets: no claim is tested."
    checked: dict[str, str] = {}
    parts = summary.parts(found)
    if profile == "published":
        here = kept.here(found)
        checked = kept.by_study(found, here)
        shown = [_with_checks(each, found, here) for each in shown]
        for each in shown:
            made = folder / "notebooks" / f"{each.name}.ipynb"
            write_atomically(made, nbformat.writes(each.notebook).encode())
        for path, text in readme.local(folder, found, parts, checked, here.faults).items():
            write_atomically(path, text.encode())
        others = checks.told_by(kept.from_others())
        checked = kept.briefly(checked)
        checked |= {f"elsewhere, {number}": line for number, line in enumerate(others, 1)}
        if here.faults:
            banner = f"{readme.DISAGREE}: {here.faults[0]}"
    say("the report: verdicts, figures, charts")
    report = webpage.Report(
        title=TITLE,
        summary=SUMMARY,
        verdicts=[row for part in parts for row in _verdict_rows(part)],
        groups=[_group(part) for part in parts],
        tally=summary.tally([row for part in parts for row in part.judged]),
        sources=summary.sources(parts),
        answer=readme.answer(parts),
        picture=summary.picture(parts),
        narrow=summary.picture(parts, width=summary.NARROW),
        charts=charts.data(found, parts),
        library=charts.library(),
        pages=shown,
        figures=[
            webpage.Figure(
                _headline(results),
                readme.caption(results),
                page=results.study.notebook,
                name=results.study.name,
            )
            for results in _headlines(found)
        ],
        provenance=_provenance(found),
        checked=checked,
        banner=banner,
        note=None if profile == "published" else _note(profile),
    )
    index = webpage.build(folder / "report", report)
    if profile == "published":
        stamp.put()
    return index


def _with_checks(page: webpage.Page, found: Sequence[Results], here: checks.Checks) -> webpage.Page:
    """A page with what was checked here of its studies at its end, and what fails at its top."""
    mine = [results for results in found if results.study.notebook == page.name]
    if not mine:
        return page
    notebook = copy.deepcopy(page.notebook)
    rows = [f"| {name} | {line} |" for name, line in kept.by_study(mine, here).items()]
    text = "\n".join(
        (f"### Checked here\n\n{CHECKED}\n", "| study | checked here |", "|---|---|", *rows)
    )
    notebook.cells.append(nbformat.v4.new_markdown_cell(text, id="checked-here"))
    if faults := here.of(*mine).faults:
        loud = "\n".join(f"> - {fault}" for fault in faults)
        text = f"> **{readme.DISAGREE}:**\n>\n{loud}"
        notebook.cells.insert(1, nbformat.v4.new_markdown_cell(text, id="disagreement"))
    return dataclasses.replace(page, notebook=notebook)


def _headlines(found: Sequence[Results]) -> list[Results]:
    """The results whose figures the overview shows: the paper's, or all if there are none."""
    return [results for results in found if results.study.in_paper] or list(found)


def _headline(results: Results) -> bytes:
    """The figure of a study: the published one, unless its records have changed."""
    made_from = pages.origin(results).get("records") if results.published else None
    committed = pages.RESULTS / f"{results.study.name}.png"
    if made_from and style.source(committed) == made_from:
        return committed.read_bytes()
    return figures.png(figures.main(results))


def notebooks_of(studies: Sequence[Study]) -> list[Path]:
    """The pages of these studies, and those that belong to no study, ordered by name.

    Raises:
        parameters.NotebookError: a study's page is missing.
    """
    for study in studies:
        if not (page := NOTEBOOKS / f"{study.notebook}.ipynb").exists():
            raise parameters.NotebookError(
                f"{page}: the page of {study.name} is missing; copy another one, as "
                "docs/extending.md says, or correct `notebook` in the study"
            )
    others = {study.notebook for study in STUDIES.values()} - {study.notebook for study in studies}
    return [page for page in sorted(NOTEBOOKS.glob("*.ipynb")) if page.stem not in others]


def is_current(page: Path) -> bool:
    """Whether a committed page has its outputs: of the records and by the rules of now."""
    cells = nbformat.read(page, as_version=4).cells
    code = [cell for cell in cells if cell.cell_type == "code"]
    shown = html.unescape(json.dumps([cell.outputs for cell in code], ensure_ascii=False))
    studies = [study for study in pages.published_studies() if study.notebook == page.stem]
    told = [
        hashlib.sha256(pages.published_file(study).read_bytes()).hexdigest() for study in studies
    ]
    if studies:
        verdicts = pages.verdicts(*(pages.existing(study, "published") for study in studies))
        told += map(str, verdicts.to_numpy().ravel())
    return any(cell.outputs for cell in code) and all(text in shown for text in told)


def _execute(page: Path, output: Path, values: Mapping[str, object]) -> None:
    """Run a page with those parameters that it declares; there is nobody to move sliders."""
    declared = parameters.declared(page)
    values = {**values, "interactive": False}
    notebooks.execute(page, output, {k: v for k, v in values.items() if k in declared})


def _note(profile: str) -> str:
    return {
        "smoke": "Profile smoke: seconds of training, to test the machinery. Nothing is concluded.",
        "quick": "Profile quick: fewer examples, passes and seeds, smaller networks, and a coarse "
        "grid. The published report uses profile paper.",
        "paper": "Profile paper: the paper's sizes and epochs, trained on this machine.",
    }[profile]


def _provenance(found: Iterable[Results]) -> dict[str, str]:
    """Where the results come from; values that all studies share are given once."""
    rows: dict[str, list[str]] = {}
    for results in found:
        for key, value in pages.origin(results).items():
            rows.setdefault(key, []).append(value)
    return {key: " | ".join(dict.fromkeys(values)) for key, values in rows.items()}


def _group(part: Part) -> webpage.Group:
    """A part as the overview takes it."""
    lines = summary.by_protocol(part.judged)
    return webpage.Group(part.key, part.title, part.where, summary.finding(part), lines)


def _verdict_rows(part: Part) -> list[webpage.Row]:
    """The claims of a part as the overview takes them."""
    rows = []
    for row in part.judged:
        claim = row.claim
        paper = f"; the paper's figure: {row.paper}" if row.paper else ""
        results = {
            protocol: webpage.Result(verdict.verdict, verdict.details)
            for protocol, verdict in row.verdicts.items()
        }
        rows.append(
            webpage.Row(
                id=claim.id,
                claim=claim.reading,
                section=claim.section,
                part=part.key,
                page=row.study.notebook,
                results=results,
                about=f"{row.study.title}. Holds if: {claim.criterion}{paper}",
                quotation=claim.quote if claim.source == "text" else "",
            )
        )
    return rows


def publish(study: Study, records: Records | None = None) -> tuple[Path, str]:
    """Write the `paper` records of a study to `results/`: those trained here and those there.

    A study that is not finished may be published; its pages say so. No run of code that no commit
    holds is added; one that was published before this rule stays until it is trained again.

    Args:
        study: the study.
        records: its records; by default those of the local store, then those in `results/`.

    Returns:
        The file, and how many of the runs it holds; and how many left it, if the plan has dropped
        some, as it drops tuned settings while the grid of a new arm is not trained.

    Raises:
        NothingToPublish: there are no records of real data.
        ValueError: some runs would be new and were trained by code that no commit holds.
    """
    records = records or pages.with_published(local_store())
    found = analysis.results(study, pages.PUBLISHED_PROFILE, study.data_set, records)
    kept = [record for run in found.plan.runs() if (record := records.get(run.id))]
    if not kept:
        raise NothingToPublish(
            f"{study.name}: there is nothing to publish; "
            f"`adam-study run {study.name} --profile paper` trains it"
        )
    path = pages.published_file(study)
    there = published.read(path) if path.exists() else {}
    unchanged = {checksum(record) for record in there.values()}
    modified = [
        record
        for record in kept
        if not held_by_commits(record["manifest"].get("commit"))
        and checksum(record) not in unchanged
    ]
    if modified:
        named = "; ".join(
            f"{config_id(config)} ({config['optimizer']} {describe(config['settings'])}, "
            f"seed {config['seed']})"
            for config in (record["config"] for record in modified)
        )
        what = counted(len(modified), "run was", "runs were")
        raise ValueError(
            f"{study.name}: {what} trained by code that no commit holds: "
            f"{named}; commit it, remove such records and train their runs again"
        )
    published.write(path, kept, found.plan.uses())
    progress = found.progress + (", not finished" if found.missing else "")
    if gone := len(there.keys() - {config_id(record["config"]) for record in kept}):
        what = counted(gone, "published run is", "published runs are")
        progress += f"; {what} not in its plan now, and no longer in the file"
    return path, progress


def publish_collected(collected: merge.Collected) -> Iterator[str]:
    """Publish what was merged, one line of text for each study with a run among the new records."""
    waiting = set(collected.new)
    for study in STUDIES.values():
        found = analysis.results(study, pages.PUBLISHED_PROFILE, study.data_set, collected)
        new = collected.new.keys() & {run.id for run in found.plan.runs()}
        if new:
            path, progress = publish(study, collected)
            yield f"{path}: {progress}"
            waiting -= new
    if waiting:
        yield (
            f"{counted(len(waiting), 'record is', 'records are')} of no run that is planned at "
            f"profile {pages.PUBLISHED_PROFILE} and not taken; some runs, such as tuned ones, are "
            "planned only once others are there: merge the folders of both in one command"
        )


def replaced(study: Study) -> list[str]:
    """A line for each published run of a study that was trained here with different numbers."""
    path, here = pages.published_file(study), local_store()
    there = published.read(path) if path.exists() else {}
    pairs = ((run_id, record, here.get(run_id)) for run_id, record in there.items())
    return [
        f"{study.name}: run {run_id} was published with other numbers: {difference}"
        for run_id, old, new in pairs
        if new and (difference := merge.differing(old, new))
    ]


def publish_pages() -> list[Path]:
    """Rewrite every committed page from `results/`: notebooks, the README's table and figures."""
    studies = pages.published_studies()
    written = []
    explained = nbformat.read(NOTEBOOKS / public.EXPLAINED, as_version=4)
    public.for_colab(explained, readme.CITATION.read_text(encoding="utf-8"))
    canonical.save(explained, NOTEBOOKS / public.EXPLAINED)
    for source in notebooks_of(studies):
        output = build_folder() / "published" / "notebooks" / source.name
        _execute(source, output, {"profile": "published"})
        canonical.save(canonical.canonical(nbformat.read(output, as_version=4)), source)
        written.append(source)
    found = [pages.published(study) for study in studies]
    for results in (each for each in found if each.study.in_paper):
        path = pages.RESULTS / f"{results.study.name}.png"
        made_from = pages.origin(results)["records"]
        write_atomically(path, figures.png(figures.main(results), made_from))
        written.append(path)
    for path, content in readme.files(README.read_text(encoding="utf-8"), found).items():
        write_atomically(path, content.encode())
        written.append(path)
    write_atomically(explorer.FOLDER / "digits.mjs", explorer.digits().encode())
    write_atomically(EXPLORER, webpage.explorer_page(TITLE).encode())
    return [*written, EXPLORER]
