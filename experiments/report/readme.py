"""What the committed pages say about the published records: README, VERDICTS, the figures' page."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from experiments.analysis.claims import Judged
from experiments.analysis.results import Results
from experiments.pages import RESULTS
from experiments.paths import ROOT
from experiments.report import public, summary
from experiments.report.summary import Part
from experiments.study import PROTOCOLS

README = ROOT / "README.md"
CITATION = ROOT / "CITATION.cff"
DISAGREE = "Published records DISAGREE with runs on this machine"
CURVES = " Solid: ours; dashed: the paper's own curves, read off its figure."
HOW_TO_READ = """\
# The verdicts

Every statement of the paper that was judged, grouped by the part of the paper it is in.
`make notebooks` writes this page from the records in this folder; the report shows the same table
with search and filters.

## How to read a row

Every claim is an entry of [`experiments/paper/claims.yaml`](../experiments/paper/claims.yaml): the
paper's words, the statement that is judged, the metric, the rule with its margin and where the
margin comes from. The rules were written before the published runs, after short trial runs; those
written later say so.
Each seed gives one value of the metric; with the same seed, all methods see the same initial
weights and the same batches. The numbers are the mean over seeds and its 95% interval by Student's
t, of logarithms for costs, distances and times over one another, except on the moving objectives
of Section 1. (Until it proved to cover only 90%, ten seeds had a bootstrap interval.)

- **matched**: settings fitted to the paper's digitised curves, or its defaults where it shows none.
  *Did the authors' runs look like this?*
- **tuned**: the same number of trials for every method. *Does the claim hold when everyone is
  tuned?* A row without a `tuned` verdict concerns the matched curves only.
- **reproduced**: the whole interval lies on the right side of the limit; **not reproduced**: on the
  wrong side; **inconclusive**: the interval straddles the limit; **not tested**: stand-in data, a
  shortened profile, fewer than three finished seeds, or a tuned rate at the end of its grid.
- *n = 3; of 10 seeds*: three of ten seeds have trained that far. *Control*: a check of our own
  beside a statement; it is shown, not counted. *The largest of 3 seeds*: a statement of "no" or
  "every" has no interval; its worst seed decides, since one counterexample is enough.
- *Paper*: the same metric computed from the paper's digitised figure, where it has one, and
  whether the statement holds there. *Ours agrees* means that our matched runs and the paper's own
  figure say the same about the statement; it may fail in both.
- *Changes at a margin of*: the margin at which the verdict would change. *On this side from k
  trials on*: with that many trials of each method or more, the median best setting falls on the
  same side.
- Each study has several verdicts. Where Holm's correction for their number, at 5% within a study,
  leaves less than the verdict says, the row says what is left.
"""


def files(text: str, found: Sequence[Results]) -> dict[Path, str]:
    """Every committed text that holds results, made anew: its path and what it says.

    Args:
        text: the present README.
        found: the published results.
    """
    parts = summary.parts(found)
    return {
        README: readme(text, found),
        RESULTS / "VERDICTS.md": verdicts(parts),
        RESULTS / "README.md": gallery(found, parts),
        RESULTS / "verdicts.svg": summary.picture(parts, summary.LIGHT),
        RESULTS / "verdicts-dark.svg": summary.picture(parts, summary.DARK),
    }


def readme(text: str, found: Sequence[Results]) -> str:
    """The README with its badges, its answer and its tables of parts and studies made anew.

    Raises:
        ValueError: it lacks one of the marks between which they stand.
    """
    parts = summary.parts(found)
    text = _between(text, "badges", public.badges(CITATION.read_text(encoding="utf-8")))
    text = _between(text, "answer", answer(parts))
    text = _between(text, "parts", "\n".join(_by_part(parts)))
    return _between(text, "studies", "\n".join(_published(found)))


def local(
    folder: Path,
    found: Sequence[Results],
    parts: Sequence[Part],
    checked: Mapping[str, str],
    faults: Sequence[str],
) -> dict[Path, str]:
    """The summary and the verdicts of a local build, with what was checked here.

    Args:
        folder: where they go; the pages are in its `notebooks`.
        found: the published results.
        parts: the same by part.
        checked: what was checked of each study.
        faults: what disagrees.
    """
    up = os.path.relpath(ROOT, folder)
    loud = [f"> **{DISAGREE}:**", ">", *(f"> - {fault}" for fault in faults), ""] if faults else []
    lines = [
        "# Adam, reproduced: the published results, checked here",
        "",
        *loud,
        answer(parts),
        "",
        *_by_part(parts, checked),
        "",
        *_published(found),
        "",
        "[The report](report/index.html), [all verdicts](VERDICTS.md).",
    ]
    text = verdicts(parts, checked).replace("](../notebooks/", "](notebooks/")
    head, rest = text.split("\n", 1)
    return {
        folder / "README.md": "\n".join(lines) + "\n",
        folder / "VERDICTS.md": "\n".join((head, "", *loud)).rstrip()
        + "\n"
        + rest.replace("](../", f"]({up}/"),
    }


def answer(parts: Sequence[Part]) -> str:
    """Totals, what holds and what does not, as Markdown bullets."""
    rows = [row for part in parts for row in part.judged]
    bullets = [summary.totals(parts)]
    for name, key in (
        ("What holds.", "holds"),
        ("What does not.", "fails"),
        ("May I just use its defaults?", "defaults"),
    ):
        if sentences := summary.said(key, rows):
            bullets.append(f"**{name}** {sentences}")
    return "\n".join(f"- {bullet}" for bullet in bullets)


def caption(results: Results) -> str:
    """Where in the paper a study's figure is, what is drawn, and how far it is."""
    study = results.study
    note = f" Not finished: {results.progress}." if results.missing else ""
    return f"{study.section}: {study.title}." + (CURVES if study.in_paper else "") + note


def verdicts(parts: Sequence[Part], checked: Mapping[str, str] | None = None) -> str:
    """The page of all verdicts, a table for each part of the paper; with what was checked here."""
    lines = [HOW_TO_READ]
    for part in parts:
        lines += [f"## {part.where}: {part.title}", "", summary.finding(part), ""]
        studies = dict.fromkeys(row.study.name for row in part.judged)
        for name in studies:
            rows = [row for row in part.judged if row.study.name == name]
            study = rows[0].study
            page = f"../notebooks/{study.notebook}.ipynb"
            lines += [f"**{study.title}** ([page]({page}))", ""]
            lines += [f"*Checked here:* {checked.get(name)}", ""] if checked else []
            protocols = [p for p in PROTOCOLS if any(row.verdicts[p].verdict for row in rows)]
            head = ["Section", "Statement", "Paper", *protocols]
            lines += _table(head, [_cells(row, protocols) for row in rows])
            lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _cells(row: Judged, protocols: Iterable[str]) -> list[str]:
    judged = [
        "<br>".join((f"**{verdict.verdict}**", *verdict.details))
        if (verdict := row.verdicts[protocol]).verdict
        else "-"
        for protocol in protocols
    ]
    return [row.claim.section, row.claim.reading.replace("|", "\\|"), row.paper, *judged]


def gallery(found: Sequence[Results], parts: Sequence[Part]) -> str:
    """The page of the figures, each with what was found."""
    finding = {row.study.name: summary.finding(part) for part in parts for row in part.judged}
    lines = [
        "# The figures",
        "",
        "The paper's figures, drawn from the published records in this folder. The verdicts behind",
        "them are in [VERDICTS.md](VERDICTS.md); `make notebooks` writes both.",
        "",
        "Each picture, here and in the notebooks, holds its own numbers and lines as text, which",
        "the report can save and Pillow can read:",
        "",
        "```python",
        "from PIL import Image",
        "",
        'numbers = Image.open("results/fig3.png").text["CSV"]  # and "SVG"',
        "```",
        "",
    ]
    for results in (each for each in found if each.study.in_paper):
        name, notebook = results.study.name, results.study.notebook
        lines += [
            f"## {results.study.section}: {results.study.title}",
            "",
            finding.get(name, ""),
            "",
            f"![{results.study.title}]({name}.png)",
            "",
            f"*{caption(results)} [The whole page](../notebooks/{notebook}.ipynb).*",
            "",
        ]
    return "\n".join(lines).rstrip() + "\n"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(cells) + " |" for cells in lines]


def _by_part(parts: Sequence[Part], checked: Mapping[str, str] | None = None) -> list[str]:
    """What was found, a row for each part of the paper; with what was checked here."""
    rows = []
    for part in parts:
        notebook = part.judged[0].study.notebook
        where = f"[{part.title}](notebooks/{notebook}.ipynb)<br>{part.where}"
        held = []
        for protocol in PROTOCOLS:
            counts = summary.count(part.judged, protocol)
            tested = sum(counts.values()) - counts["not tested"]
            held.append(f"{counts['reproduced']} of {tested}" if tested else "-")
        rows.append([where, summary.finding(part), *held])
        if checked is not None:
            names = dict.fromkeys(row.study.name for row in part.judged)
            rows[-1].append("<br>".join(f"{name}: {checked.get(name)}" for name in names))
    head = ["Part of the paper", "What was found", *PROTOCOLS]
    return _table(head + (["checked here"] if checked is not None else []), rows)


def _published(found: Sequence[Results]) -> list[str]:
    """How far the published records of these studies are; others, such as new ones, don't count."""
    states: dict[str, list[str]] = {}
    for results in found:
        state = f"{results.progress}" if results.missing else "complete"
        states.setdefault(state, []).append(f"`{results.study.name}`")
    complete = len(states.pop("complete", []))
    rest = "; ".join(f"{', '.join(names)} ({state})" for state, names in states.items())
    rest = f"; the others: {rest}" if rest else ""
    are = "study is" if len(found) == 1 else "studies are"
    return [f"  {complete} of {len(found)} {are} complete{rest}."]


def _between(text: str, name: str, content: str) -> str:
    """The text with what stands between the two marks of that name replaced."""
    start, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    if start not in text or end not in text:
        raise ValueError(f"{README.name} lacks the lines {start} and {end}; restore them")
    before, after = text.split(start)[0], text.split(end)[1]
    return f"{before}{start}\n{content}\n{end}{after}"
