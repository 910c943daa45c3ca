"""Make the pages: the HTML report of a profile, and the committed pages of the published one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from experiments import pages
from experiments.analysis import claims
from experiments.analysis import results as analysis
from experiments.analysis.results import Results
from experiments.figures import figures
from experiments.records import published
from experiments.records.store import local_store, write_atomically
from experiments.report import explorer, notebooks, webpage
from experiments.studies import STUDIES
from experiments.study import PROTOCOLS, Study
from experiments.training.runtime import ROOT, build_folder

NOTEBOOKS = ROOT / "notebooks"
README = ROOT / "README.md"
EXPLORER = ROOT / "docs" / "explorer.html"
TITLE = "Adam, reproduced"
SUMMARY = (
    "Does *Adam: A Method for Stochastic Optimization* (Kingma & Ba, arXiv 1412.6980) hold up? "
    "Each claim is judged by a rule written before the runs, under two protocols: `matched` "
    "(settings fitted to the paper's own curves: did the authors' runs look like this?) and "
    "`tuned` (equal trials for every method: does the claim hold when everyone is tuned?). The "
    "numbers are means over seeds with their 95% bootstrap interval."
)
CAPTION = "{section}: {title}."
CURVES = " Solid: ours; dashed: the paper's own curves, read off its figure."


class NothingToPublish(ValueError):
    """There are no records of the study at the `paper` profile."""


def build(studies: Sequence[Study], profile: str, data: str = "auto") -> Path:
    """Run the pages at a profile, which trains what is missing, and write the report.

    Returns:
        The overview page, `<build>/<profile>/report/index.html`.

    Raises:
        notebooks.NotebookError: a notebook can't be run, or failed.
    """
    folder = build_folder() / profile
    found = [pages.results(study.name, profile, data) for study in studies]
    executed = []
    for page in notebooks_of(studies):
        executed.append(folder / "notebooks" / page.name)
        _execute(page, executed[-1], {"profile": profile, "data": data})
    stand_in = any(results.stand_in for results in found)
    return webpage.build(
        folder / "report",
        title=TITLE,
        summary=SUMMARY,
        verdicts=[row for results in found for row in _verdict_rows(results)],
        pages=[webpage.Page.read(path) for path in executed],
        figures=[
            webpage.Figure(
                figures.png(figures.main(results)),
                _caption(results),
                page=results.study.notebook,
            )
            for results in found
        ],
        provenance=_provenance(found),
        banner="Made from STAND-IN DATA, not from the paper's data sets: no claim is tested."
        if stand_in
        else None,
        note=None if profile == "published" else _note(profile),
    )


def notebooks_of(studies: Sequence[Study]) -> list[Path]:
    """The pages of these studies and those that belong to no study, in the order of their names."""
    others = {study.notebook for study in STUDIES.values()} - {study.notebook for study in studies}
    return [page for page in sorted(NOTEBOOKS.glob("*.ipynb")) if page.stem not in others]


def _execute(page: Path, output: Path, parameters: Mapping[str, object]) -> None:
    """Run a page with those of the parameters that it declares."""
    declared = notebooks.declared(page)
    notebooks.execute(page, output, {k: v for k, v in parameters.items() if k in declared})


def _note(profile: str) -> str:
    return {
        "smoke": "Profile smoke: seconds of training, to test the machinery. Nothing is concluded.",
        "quick": "Profile quick: fewer examples, passes and seeds, and a coarse grid. The "
        "published report uses profile paper.",
        "paper": "Profile paper: the paper's sizes and epochs, trained on this machine.",
    }[profile]


def _caption(results: Results) -> str:
    study = results.study
    note = f" Not finished: {results.progress}." if results.missing else ""
    caption = CAPTION.format(section=study.section, title=study.title)
    return caption + (CURVES if study.in_paper else "") + note


def _provenance(found: Iterable[Results]) -> dict[str, str]:
    """Where the results come from; values that all studies share stand once."""
    rows: dict[str, list[str]] = {}
    for results in found:
        for key, value in pages.origin(results).items():
            rows.setdefault(key, []).append(value)
    return {key: " | ".join(dict.fromkeys(values)) for key, values in rows.items()}


def _verdict_rows(results: Results) -> list[dict[str, str]]:
    rows = []
    for row in claims.rows([results]):
        shown = {
            "id": row["id"],
            "claim": row["reading"],
            "section": row["section"],
            "page": results.study.notebook,
            **{key: row[key] for p in PROTOCOLS for key in (p, f"{p}_numbers")},
        }
        if row["source"] == "text":
            shown["quotation"] = row["quote"]
        rows.append(shown)
    return rows


def publish(study: Study) -> tuple[Path, str]:
    """Write the `paper` records of a study to `results/`: those trained here and those there.

    A study that is not finished may be published; its pages say so.

    Returns:
        The file, and how many of the runs it holds.

    Raises:
        NothingToPublish: there are no records of real data.
    """
    records = pages.with_published(local_store())
    found = analysis.results(study, pages.PUBLISHED_PROFILE, study.data_set, records)
    kept = [record for run in found.plan.runs() if (record := records.get(run.id))]
    if not kept:
        raise NothingToPublish(
            f"{study.name}: there is nothing to publish; "
            f"`adam-study run {study.name} --profile paper` trains it"
        )
    path = pages.published_file(study)
    published.write(path, kept, found.plan.uses())
    return path, found.progress + (", not finished" if found.missing else "")


def publish_pages() -> list[Path]:
    """Rewrite every committed page from `results/`: notebooks, the README's table and figures."""
    import nbformat

    studies = pages.published_studies()
    written = []
    for source in notebooks_of(studies):
        output = build_folder() / "published" / "notebooks" / source.name
        _execute(source, output, {"profile": "published"})
        notebooks.save(notebooks.canonical(nbformat.read(output, as_version=4)), source)
        written.append(source)
    found = [pages.published(study) for study in studies]
    for results in (each for each in found if each.study.in_paper):
        path = pages.RESULTS / f"{results.study.name}.png"
        made_from = pages.origin(results)["records"]
        write_atomically(path, figures.png(figures.main(results), made_from))
        written.append(path)
    write_atomically(README, readme(README.read_text(), found).encode())
    write_atomically(explorer.FOLDER / "digits.mjs", explorer.digits().encode())
    write_atomically(EXPLORER, webpage.explorer_page(TITLE).encode())
    return [*written, README, EXPLORER]


def readme(text: str, found: Sequence[Results]) -> str:
    """The README with its verdicts, its figures and its table of studies made anew."""
    shown = []
    for results in (each for each in found if each.study.in_paper):
        name, notebook = results.study.name, results.study.notebook
        shown += [
            f"![{results.study.title}](results/{name}.png)",
            "",
            f"*{_caption(results)} Page: [{notebook}](notebooks/{notebook}.ipynb).*",
            "",
        ]
    text = _between(text, "verdicts", "\n".join([*_summary(found), "", *_tables(found)]).rstrip())
    text = _between(text, "figures", "\n".join(shown).rstrip())
    return _between(text, "studies", "\n".join(_published(found)))


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(cells) + " |" for cells in lines]


def _summary(found: Sequence[Results]) -> list[str]:
    """How many statements of each study hold, a row for each study."""
    rows = []
    for results in found:
        judged = claims.rows([results])
        counts = [_counts([row[p] for row in judged if row[p]]) for p in PROTOCOLS]
        title = f"[{results.study.title}](notebooks/{results.study.notebook}.ipynb)"
        rows.append([results.study.section, title, *counts])
    return _table(["Of the paper", "Study", *PROTOCOLS], rows)


def _counts(verdicts: Sequence[str]) -> str:
    """Verdicts in numbers: "3 reproduced, 1 not reproduced"."""
    kinds = (claims.REPRODUCED, claims.NOT_REPRODUCED, claims.INCONCLUSIVE, claims.NOT_TESTED)
    counted = ((verdicts.count(kind), kind) for kind in kinds)
    return ", ".join(f"{n} {kind}" for n, kind in counted if n) or "-"


def _tables(found: Sequence[Results]) -> list[str]:
    """Every statement with its verdicts and its numbers, a table for each study."""
    parts = []
    for results in found:
        rows = claims.rows([results])
        protocols = [p for p in PROTOCOLS if any(row[p] for row in rows)]
        cells = []
        for row in rows:
            judged = [
                f"**{row[p]}**<br>{row[f'{p}_numbers']}".removesuffix("<br>") if row[p] else "-"
                for p in protocols
            ]
            cells.append([row["section"], row["reading"], row["paper"], *judged])
        title = f"{results.study.section}: {results.study.title}"
        parts += [f"<details><summary><b>{title}</b></summary>", ""]
        parts += _table(["Section", "Statement", "Paper", *protocols], cells)
        parts += ["", "</details>", ""]
    return parts


def _published(found: Sequence[Results]) -> list[str]:
    """Every study, and how far its published records are."""
    by_name = {results.study.name: results for results in found}
    rows = []
    for study in STUDIES.values():
        results = by_name.get(study.name)
        state = "not yet" if results is None else results.progress if results.missing else "whole"
        rows.append([study.section, study.title, f"`{study.name}`", state])
    return _table(["Of the paper", "What", "Study", "Published"], rows)


def _between(text: str, name: str, content: str) -> str:
    """The text with what stands between the two marks of that name replaced."""
    start, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    if start not in text or end not in text:
        raise ValueError(f"{README.name} lacks the lines {start} and {end}; restore them")
    before, after = text.split(start)[0], text.split(end)[1]
    return f"{before}{start}\n{content}\n{end}{after}"
