"""The commands that show, check and publish records."""

from __future__ import annotations

import argparse
import csv
import functools
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from experiments import studies
from experiments.cli import common
from experiments.options import known
from experiments.study import PROTOCOLS
from experiments.words import counted

if TYPE_CHECKING:
    from experiments.analysis.results import Results


def claims_command(options: argparse.Namespace) -> None:
    """Print the verdicts from the records that exist."""
    from experiments import pages
    from experiments.records.store import Store

    check_data(options)
    if options.json and options.csv:
        raise ValueError("--json and --csv exclude each other; leave one out")
    results = [
        pages.existing(study, options.profile, options.data)
        for study in common.chosen_studies(options)
    ]
    if options.json or options.csv:
        from experiments.report import numbers

        rows = numbers.verdicts(results)
        if options.json:
            print(json.dumps(rows, indent=1, ensure_ascii=False))
        elif rows:  # a study may have no claims
            writer = csv.DictWriter(sys.stdout, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    else:
        print_verdicts(results)
    common.report_damage(*(found.records for found in results if isinstance(found.records, Store)))


def check_data(options: argparse.Namespace) -> None:
    """Refuse stand-in data for the published records, which were all made from real data."""
    if options.profile == "published" and options.data == "stand-in":
        raise ValueError(
            "--data stand-in: the published records are of real data; leave it out, or give "
            "--profile smoke, quick or paper"
        )


def print_verdicts(results: Sequence[Results]) -> None:
    """Print the verdict table; claims that were not tested here take one line per study."""
    from collections import Counter

    from experiments.analysis import claims

    for result in results:
        rows = []
        reasons: Counter[str] = Counter()
        for row in claims.by_claim(result):
            given = [verdict for verdict in row.verdicts.values() if verdict.verdict]
            if not result.published and {v.verdict for v in given} == {claims.NOT_TESTED}:
                reasons[given[0].numbers] += 1
                continue
            both = (row.verdicts[protocol] for protocol in PROTOCOLS)
            cells = (f"{v.verdict}\n{v.numbers}".strip() or "-" for v in both)
            rows.append((row.claim.section, row.claim.reading, row.paper, *cells))
        title = f"{result.study.name}: {result.label}"
        if rows:
            common.show_table(title, ("section", "statement", "paper", *PROTOCOLS), rows)
        else:
            print(title)
        if reasons:
            why = "; ".join(f"{reason} ({n})" for reason, n in reasons.most_common())
            print(f"  {counted(sum(reasons.values()), 'statement')} not tested: {why}")


def report_command(options: argparse.Namespace) -> None:
    """Run the notebooks and build the HTML report."""
    check_data(options)
    chosen = common.chosen_studies(options)
    for study in chosen:
        known("profile", options.profile, (*study.profiles, "published"))
    from experiments import pages
    from experiments.report import build as report

    index = report.build(chosen, options.profile, options.data, common.say)
    print_verdicts([pages.existing(study, options.profile, options.data) for study in chosen])
    print(f"report: {index}")


def compare_command(options: argparse.Namespace) -> None:
    """Show two runs side by side."""
    from experiments.cli import compare
    from experiments.cli.runs import setting

    check_data(options)
    if len(options.runs) != 2:
        raise ValueError(f"compare takes two runs, not {len(options.runs)}: {compare.HOW}")
    given = functools.partial(setting, flag="")
    records = [compare.find(text, options.profile, options.data, given) for text in options.runs]
    if options.json:
        print(compare.as_json(records))
        return
    rows, numbers = compare.compared(records)
    heads = ("", *options.runs)
    cells = [(f"{name} ≠" * (a != b) or name, *map(compare.shown, (a, b))) for name, a, b in rows]
    common.show_table("What they are (≠: where they differ)", heads, cells)
    common.show_table(
        "What they recorded, by pass",
        ("metric", "pass", *options.runs, "second / first"),
        [tuple(map(compare.shown, row.values())) for row in numbers],
    )


def export_command(options: argparse.Namespace) -> None:
    """Write records as CSV and for TensorBoard."""
    from experiments import pages
    from experiments.cli import export
    from experiments.paths import build_folder

    check_data(options)
    export.check(options.format)
    found = [
        pages.existing(study, options.profile, options.data)
        for study in common.chosen_studies(options)
    ]
    folder = Path(options.to) if options.to else build_folder() / options.profile / "export"
    for line in export.export(found, folder, options.format):
        print(line, flush=True)


def verify_command(options: argparse.Namespace) -> int:
    """Check the published records here; or export, or import, a file of checks."""
    from experiments import pages
    from experiments.verify import checks, command, kept

    if options.report and (options.import_ or options.export):
        raise ValueError("--report follows training; leave it out with --import and --export")
    _check_verify(options)
    code = 0
    if options.import_:
        taken = checks.take(Path(options.import_), kept.imported())
        print("\n".join(checks.told_by([taken])))
        code = 1 if taken.faults else 0
        if not options.export:
            return code
    chosen = [studies.get(name) for name in options.studies] or pages.published_studies()
    if options.export:
        done = kept.here([pages.published(study) for study in chosen])
        checks.export(done, Path(options.export))
        print(f"{options.export}: {done}")
        return code

    def build() -> Path:
        from experiments.report.stamp import Stamp

        stamp = Stamp(chosen)
        if stamp.holds():
            return stamp.index
        from experiments.report import build as report

        return report.build(chosen, "published", say=common.say)

    return command.verify(
        chosen,
        minutes=options.minutes or command.MINUTES,
        data=options.data,
        workers=common.chosen_workers(options),
        report=build if options.report else None,
    )


def _check_verify(options: argparse.Namespace) -> None:
    """Refuse what a line of `verify` would ignore, and studies that it can't verify."""
    from experiments import pages

    if options.import_ or options.export:
        flag = "--import" if options.import_ else "--export"
        data = None if options.data == "auto" else options.data
        ignored = {"minutes": options.minutes, "workers": options.workers, "data": data}
        for name, given in ignored.items():
            if given is not None:
                raise ValueError(f"{flag} trains nothing; leave out --{name}")
    if options.import_ and options.studies and not options.export:
        raise ValueError(
            f"--import takes one file, and all that it holds; leave out {options.studies[0]!r}"
        )
    for name in options.studies:
        if not pages.published_file(studies.get(name)).exists():
            shown = ", ".join(study.name for study in pages.published_studies())
            raise ValueError(
                f"nothing is published for {name}, so there is nothing to verify; published: "
                f"{shown or 'nothing'}"
            )


def notebooks_command(options: argparse.Namespace) -> None:
    """Write the notebooks, figures and README table that show the published records."""
    from experiments.report import build as report

    for path in report.publish_pages():
        print(path)


def publish_command(options: argparse.Namespace) -> None:
    """Publish the complete records of studies under results/."""
    from experiments.report import build as report

    published = False
    for study in common.chosen_studies(options):
        try:
            replaced = report.replaced(study)
            path, progress = report.publish(study)
        except report.NothingToPublish as error:
            if options.studies:
                raise
            print(error)
            continue
        print(f"{path}: {progress}")
        for line in replaced:
            print(f"adam-study: {line}", file=sys.stderr)
        published = True
    if not published:
        raise ValueError(
            "there is nothing to publish; `adam-study run --profile paper` trains the runs"
        )


def merge_command(options: argparse.Namespace) -> int:
    """Bring records trained elsewhere into the store, or under results/."""
    from experiments import pages
    from experiments.records import merge
    from experiments.records.published import Published
    from experiments.records.store import local_store

    folders = [Path(name) for name in options.folders]
    if not folders:
        raise ValueError("merge needs a folder: give one that holds records")
    store, left = local_store(), []
    collected = merge.Collected(Published(pages.RESULTS))
    found = (
        merge.into_memory(folders, collected, pages.RESULTS)
        if options.results
        else merge.into_store(folders, store)
    )
    for merged in found:
        print(merged.line, flush=True)
        left += merged.problems
    if options.results:
        from experiments.report import build as report

        for line in report.publish_collected(collected):
            print(line)
    for line in (*left, *store.damaged):
        print(f"adam-study: {line}", file=sys.stderr)
    return 1 if left else 0
