"""The command line: `python -m experiments`.

Imports are late: `--help`, `list` and `plan` answer at once, and nothing but training starts
TensorFlow.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from experiments import studies
from experiments.cli import ending
from experiments.cli.parser import ARGUMENTS, MOST_WORKERS, Parser, Version
from experiments.options import known
from experiments.plan import plan as make_plan
from experiments.study import PROTOCOLS, Plan, Records, Run, Study, combinations, describe

if TYPE_CHECKING:
    from experiments.analysis.results import Results
    from experiments.records.store import Store

PROFILES = ("smoke", "quick", "paper")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit code is 0, 1 (it failed), 2 (bad input) or 130 (interrupted)."""
    if arguments is None:
        ending.hear(ending.interrupt)
        if not ending.open_streams():
            print("adam-study: standard output is closed; open it", file=sys.stderr)
            return 1
    try:
        options = _parse(list(sys.argv[1:] if arguments is None else arguments))
        _place_data(options)
        code = options.function(options) or 0
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        print(ending.INTERRUPTED, file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever read our output has gone, for example `head`
        _drop_output()
        return 1
    except ValueError as error:
        print(f"adam-study: {error}", file=sys.stderr)
        from experiments.report.notebooks import NotebookFailed

        return 1 if isinstance(error, NotebookFailed) else 2
    except MemoryError as error:
        what = error or "out of memory; --workers 1 needs the least"
        print(f"adam-study: {what}", file=sys.stderr)
        return 1
    except RuntimeError as error:
        from experiments.engines.runs import RunsFailed

        if not isinstance(error, RunsFailed):
            raise
        for line in error.lines:
            print(f"adam-study: {line}", file=sys.stderr)
        return 1
    except OSError as error:
        file = f"{error.filename}: " if error.filename else ""
        print(f"adam-study: {file}{error.strerror or error}", file=sys.stderr)
        _drop_output()
        return 1


def _drop_output() -> None:
    """Forget output that can't be written, or Python complains about it once more at its end."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parse(arguments: list[str]) -> argparse.Namespace:
    """The command and its options; names may stand before, between and after the options.

    Raises:
        ValueError: an unknown command or option, with the nearest ones.
    """
    if arguments and arguments[0].startswith("-"):
        known("option", arguments[0], ("-h", "--help", "--version"))
    elif arguments:
        known("command", arguments[0], COMMANDS)
    options, rest = _parser().parse_known_args(arguments)
    accepted = COMMANDS[options.command][2]
    flags = [ARGUMENTS[name][0][0] for name in accepted if ARGUMENTS[name][0][0].startswith("-")]
    for text in rest:
        if text.startswith("-"):
            known(f"option of {options.command}", text.partition("=")[0], (*flags, "--help"))
    for names in ("studies", "names", "folders", "runs"):
        if names in accepted:
            getattr(options, names).extend(rest)
            return options
    if rest:
        raise ValueError(f"{options.command} takes no {rest[0]!r}; leave it out")
    return options


def _parser() -> Parser:
    parser = Parser(
        prog="adam-study",
        description="Reproduce the experiments of the Adam paper (arXiv 1412.6980).",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action=Version, help="the version and the commit")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (function, help_text, arguments) in COMMANDS.items():
        command = commands.add_parser(
            name, help=help_text, description=help_text, allow_abbrev=False
        )
        command.set_defaults(function=function)
        for argument in arguments:
            flags, settings = ARGUMENTS[argument]
            command.add_argument(*flags, **settings)
    return parser


def _studies(options: argparse.Namespace) -> list[Study]:
    names = options.studies
    if not names and getattr(options, "profile", None) == "published":
        from experiments import pages

        found = pages.published_studies()
        if not found:
            raise ValueError("nothing is published; use --profile quick")
        return found
    return [studies.get(name) for name in dict.fromkeys(names or studies.STUDIES)]


def _place_data(options: argparse.Namespace) -> None:
    """Take a folder that is given as --data for the place of real data, here and in processes."""
    from pathlib import Path

    from experiments.data.download import POLICIES

    given = getattr(options, "data", None)
    if given is None or given in POLICIES:
        return
    folder = Path(os.path.expanduser(given))
    if not folder.is_dir():
        try:
            known("data policy", given, POLICIES)
        except ValueError as error:
            raise ValueError(f"{error}, or an existing folder") from None
    os.environ["ADAM_TF_DATA"] = str(folder.absolute())
    options.data = "real"


def _console() -> Any:
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 120
    return console


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(*columns, box=box.SIMPLE_HEAD)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console = _console()
    console.print(Text(title, style="bold"))
    console.print(table)


# --- commands -------------------------------------------------------------------------------------


def list_command(options: argparse.Namespace) -> None:
    """Print the studies."""
    if options.json:
        print(json.dumps([_declared(study) for study in studies.STUDIES.values()], indent=1))
        return
    rows = []
    for study in studies.STUDIES.values():
        shown = study.arms if len(study.arms) <= 6 else study.arms[:3]
        arms = ", ".join(arm.name for arm in shown)
        arms += f" and {more} more" if (more := len(study.arms) - len(shown)) else ""
        rows.append((study.name, study.section, study.title, arms))
    _table("Studies", ("study", "of the paper", "what", "arms"), rows)
    print(f"profiles: {', '.join(PROFILES)}; protocols: {', '.join(PROTOCOLS)}")


def _declared(study: Study) -> dict[str, Any]:
    """A study as plain data."""
    return {
        "study": study.name,
        "section": study.section,
        "title": study.title,
        "problem": study.problem,
        "data": study.data_set,
        "page": study.notebook,
        "arms": [
            {"arm": arm.name, "optimizer": arm.optimizer, "matched": dict(arm.matched)}
            for arm in study.arms
        ],
        "profiles": {
            name: {"passes": profile.epochs, "seeds": profile.seeds}
            for name, profile in study.profiles.items()
        },
    }


def plan_command(options: argparse.Namespace) -> None:
    """Print what a run would train, and how long that may take."""
    from experiments.data import download
    from experiments.engines import execution
    from experiments.records.store import local_store

    store, report = local_store(), []
    records = _counted(options, store)
    protocols = _protocols(options)
    workers = options.workers or execution.default_workers()
    for study in _studies(options):
        study.profile(options.profile)
        choice = download.choose(study.data_set, options.data, download=False)
        plan = make_plan(study, options.profile, choice.kind, records, protocols)
        report.append(_planned(study, plan, records, store, workers, choice))
    if options.json:
        print(json.dumps(report, indent=1))
        return
    for entry in report:
        rows = [
            (role, str(counts["runs"]), str(counts["done"]), str(counts["runs"] - counts["done"]))
            for role, counts in entry["roles"].items()
        ]
        title = f"{entry['study']}, profile {options.profile}, {entry['data']}"
        _table(title, ("for", "runs", "done", "missing"), rows)
        if not entry["missing"] + entry["later"]:
            print("nothing is missing")
            continue
        if entry["later"]:
            print(f"and {entry['later']} runs of the tuned settings once tuning is done;")
            print("a grid whose best rate is at its end grows, which adds trials")
        print(f"about {_duration(entry['seconds'])} on {workers} processes ({entry['basis']})")
        if entry["error"]:
            print(f"a run took {entry['error']:.2f} times what its steps predicted")
    if len(report) > 1:
        missing = sum(entry["missing"] + entry["later"] for entry in report)
        seconds = sum(entry["seconds"] for entry in report)
        about = f", about {_duration(seconds)} on {workers} processes" if missing else ""
        print(f"\nin all {len(report)} studies: {missing} runs are missing{about}")
    _report_damage(store)


def _counted(options: argparse.Namespace, store: Store) -> Records:
    """The records whose runs count as done: those made here, and the published ones if asked."""
    if not options.skip_published:
        return store
    from experiments import pages

    return pages.with_published(store)


def _planned(
    study: Study, plan: Plan, records: Records, store: Store, workers: int, choice: Any
) -> dict[str, Any]:
    roles = {}
    for role in dict.fromkeys(entry.role for entry in plan.entries):
        runs = plan.runs(role)
        roles[role] = {"runs": len(runs), "done": len(runs) - len(plan.missing(records, role))}
    missing = plan.missing(records)
    seconds, basis, error = estimate(study, plan, missing, store)
    return {
        "study": study.name,
        "data": choice.kind + (f" ({choice.reason})" if choice.reason else ""),
        "roles": roles,
        "missing": len(missing),
        "later": plan.later,
        "seconds": round(seconds / workers, 1),
        "basis": basis,
        "error": error,
    }


START_SECONDS = 1.5  # of a run: data, model, compilation


def estimate(
    study: Study, plan: Plan, missing: Sequence[Run], store: Store
) -> tuple[float, str, float | None]:
    """Seconds that the missing runs take one by one, what that is based on, and its error.

    Before anything has run, steps are counted and a step takes what it took on the reference
    machine. Afterwards it takes what it took here; the error tells how far off the first way was:
    what the finished runs took, over what it predicted for them.
    """
    import statistics

    def predicted(run: Run) -> float:
        steps = run.epochs
        if not study.measured:
            steps *= run.options["train_examples"] // run.batch_size
        return START_SECONDS + steps * study.step_ms / 1000

    done = [(run, record) for run in plan.runs() if (record := store.get(run.id)) is not None]
    total = sum(map(predicted, missing))
    if missing and plan.later:
        total += plan.later * statistics.mean(map(predicted, plan.runs("matched") or missing))
    whole = [(run, record) for run, record in done if record["status"] == "finished"]
    if not whole:
        return total, "from a machine with 2 cores", None
    ratios = [record["manifest"]["wall_seconds"] / predicted(run) for run, record in whole]
    error = statistics.median(ratios)
    return total * error, f"from {len(done)} runs measured here", round(error, 3)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def run_command(options: argparse.Namespace) -> int:
    """Train what is missing."""
    from experiments.training import runtime

    runtime.backend()  # before any process has started
    if options.set or options.arm:
        return try_command(options)
    from experiments.data import download
    from experiments.engines import execution
    from experiments.records.store import local_store

    chosen = _studies(options)
    for study in chosen:
        study.profile(options.profile)
    known("engine", options.engine, execution.ENGINES)
    protocols = _protocols(options)
    store = local_store()
    records = _counted(options, store)
    failed: list[str] = []
    with execution.ENGINES[options.engine](store.path, _engine_options(options)) as train_all:
        for study in chosen:
            choice = download.choose(study.data_set, options.data)
            _announce(choice)
            try:
                plan = execution.complete(
                    study,
                    options.profile,
                    choice.kind,
                    store,
                    protocols=protocols,
                    records=records,
                    train_all=train_all,
                )
            except execution.RunsFailed as error:
                failed += error.lines
                continue
            done = len(plan.runs()) - len(plan.missing(records))
            where = " and results/" if options.skip_published else ""
            print(
                f"{study.name}: {done} runs done at profile {options.profile}, "
                f"in {store.path}{where}"
            )
            if plan.on_edge:
                print(f"{study.name}: the best rate of {', '.join(plan.on_edge)} ends its grid")
    _report_damage(store)
    if failed:
        raise execution.RunsFailed(failed)
    print(f"next: `{_next(options, 'claims')}` or `{_next(options, 'report')}`")
    return 0


def _next(options: argparse.Namespace, command: str) -> str:
    """The command that shows what was trained."""
    data = [] if options.data == "auto" else ["--data", options.data]
    words = [command, *options.studies, "--profile", options.profile, *data]
    return " ".join(("adam-study", *words))


def _engine_options(options: argparse.Namespace, most: int | None = None) -> Any:
    """How the engine works: `most` is the greatest number of workers that there is work for."""
    from experiments.engines import execution

    if options.timeout is not None and options.engine == "serial":
        raise ValueError("--timeout can't be kept by --engine serial; use --engine processes")
    for flag in ("address", "gpus_per_run"):
        if getattr(options, flag) is not None and options.engine != "ray":
            raise ValueError(f"--{flag.replace('_', '-')} is for --engine ray alone")
    workers = options.workers or execution.default_workers()
    allowed = 16 * (os.cpu_count() or 1)
    if workers > allowed and not options.address:
        raise ValueError(f"--workers {workers} is too many for this machine: use 1 to {allowed}")
    if options.workers is None and most is not None:
        workers = min(workers, most)
    if options.workers is None and options.address:
        workers = MOST_WORKERS  # as many as the cluster takes
    more = {} if options.timeout is None else {"timeout": options.timeout}
    return execution.Options(workers, address=options.address, gpus=options.gpus_per_run, **more)


def try_command(options: argparse.Namespace) -> int:
    """Train one arm with settings of one's own, starting from its matched ones."""
    from experiments.data import download
    from experiments.engines import execution
    from experiments.records.store import local_store

    if len(options.studies) != 1 or not options.arm:
        raise ValueError("--arm and --set try settings: give one study, one --arm and --set K=V")
    study = studies.get(options.studies[0])
    profile, arm = study.profile(options.profile), study.arm(options.arm)
    known("engine", options.engine, execution.ENGINES)
    declared = arm.matched or combinations(arm.grid)[0]
    settings = {**declared, **dict(_setting(text) for text in options.set)}
    choice = download.choose(study.data_set, options.data)
    runs = [
        study.run(arm, settings, profile=profile, data=choice.kind, seed=seed)
        for seed in range(profile.seeds)
    ]
    engine = _engine_options(options, len(runs))
    _announce(choice)
    store = local_store()
    store.check_writable()
    failed = []
    with execution.ENGINES[options.engine](store.path, engine) as train_all:
        for result in train_all(runs):
            store.damaged += result.notes
            if result.failed:
                failed.append(execution.failure(result))
            else:
                print(f"{arm.name} seed {result.run.seed}: {result.end}")
    print(f"{arm.name} with {describe(settings)}; records in {store.path}")
    _report_damage(store)
    if failed:
        raise execution.RunsFailed(failed)
    return 0


def _setting(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise ValueError(f"--set {text!r} is not valid: write NAME=VALUE, as in beta_1=0.8")
    words = {"true": True, "false": False}
    if value.lower() in words:
        return name, words[value.lower()]
    try:
        number = float(value)
    except ValueError:
        return name, value
    if not math.isfinite(number):
        shown = text if len(text) <= 40 else f"{text[:40]}..."
        raise ValueError(f"--set {shown} is not valid: the value is no finite number")
    whole = value.removeprefix("-").isdecimal() and abs(number) < 2**53
    return name, int(value) if whole else number


def _protocols(options: argparse.Namespace) -> tuple[str, ...]:
    if options.protocol == "both":
        return PROTOCOLS
    return (known("protocol", options.protocol, (*PROTOCOLS, "both")),)


def _announce(choice: Any) -> None:
    if choice.kind.endswith("stand-in"):
        print(f"STAND-IN DATA ({choice.kind}): {choice.reason}", file=sys.stderr)
        print("No claim is tested on stand-in data.", file=sys.stderr)


def _report_damage(*stores: Store) -> None:
    lines = [line for store in stores for line in (*store.damaged, *store.strangers())]
    for line in dict.fromkeys(lines):
        print(f"adam-study: {line}", file=sys.stderr)


def claims_command(options: argparse.Namespace) -> None:
    """Print the verdicts from the records that exist."""
    from experiments import pages
    from experiments.records.store import Store

    if options.json and options.csv:
        raise ValueError("--json and --csv exclude each other; leave one out")
    results = [pages.existing(study, options.profile, options.data) for study in _studies(options)]
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
    _report_damage(*(found.records for found in results if isinstance(found.records, Store)))


def print_verdicts(results: Sequence[Results]) -> None:
    """The verdict table in the terminal; what was not tested here takes one line per study."""
    from collections import Counter

    from experiments.analysis import claims

    for result in results:
        rows = []
        reasons: Counter[str] = Counter()
        for row in claims.rows([result]):
            given = [p for p in PROTOCOLS if row[p]]
            if not result.published and {row[p] for p in given} == {claims.NOT_TESTED}:
                reasons[row[f"{given[0]}_numbers"]] += 1
                continue
            cells = (f"{row[p]}\n{row[f'{p}_numbers']}".strip() or "-" for p in PROTOCOLS)
            rows.append((row["section"], row["reading"], row["paper"], *cells))
        title = f"{result.study.name}: {result.label}"
        if rows:
            _table(title, ("section", "statement", "paper", *PROTOCOLS), rows)
        else:
            print(title)
        if reasons:
            why = "; ".join(f"{reason} ({n})" for reason, n in reasons.most_common())
            print(f"  {sum(reasons.values())} statements not tested: {why}")


def report_command(options: argparse.Namespace) -> None:
    """Run the notebooks and build the HTML report."""
    chosen = _studies(options)
    for study in chosen:
        known("profile", options.profile, (*study.profiles, "published"))
    from experiments import pages
    from experiments.report import build as report

    index = report.build(chosen, options.profile, options.data, _say)
    print_verdicts([pages.existing(study, options.profile, options.data) for study in chosen])
    print(f"report: {index}")


def compare_command(options: argparse.Namespace) -> None:
    """Show two runs side by side."""
    from experiments.cli import compare

    if len(options.runs) != 2:
        raise ValueError(f"compare takes two runs, not {len(options.runs)}: {compare.HOW}")
    records = [compare.find(text, options.profile, options.data, _setting) for text in options.runs]
    if options.json:
        print(compare.as_json(records))
        return
    rows, numbers = compare.compared(records)
    heads = ("", *options.runs)
    cells = [(f"{name} ≠" * (a != b) or name, *map(compare.shown, (a, b))) for name, a, b in rows]
    _table("What they are (≠: where they differ)", heads, cells)
    _table(
        "What they recorded, by pass",
        ("metric", "pass", *options.runs, "second / first"),
        [tuple(map(compare.shown, row.values())) for row in numbers],
    )


def export_command(options: argparse.Namespace) -> None:
    """Write records as CSV and for TensorBoard."""
    from pathlib import Path

    from experiments import pages
    from experiments.cli import export
    from experiments.paths import build_folder

    export.check(options.format)
    found = [pages.existing(study, options.profile, options.data) for study in _studies(options)]
    folder = Path(options.to) if options.to else build_folder() / options.profile / "export"
    for line in export.export(found, folder, options.format):
        print(line, flush=True)


def _say(line: str) -> None:
    """What is being done, beside what a command has to say."""
    print(line, file=sys.stderr, flush=True)


def verify_command(options: argparse.Namespace) -> int:
    """Check the published records here; or write, or take in, a file of checks."""
    from pathlib import Path

    from experiments import pages
    from experiments.verify import checks, command

    if options.import_:
        taken = checks.take(Path(options.import_), command.imported())
        print("\n".join(checks.told_by([taken])))
        return 1 if taken.faults else 0
    chosen = [studies.get(name) for name in options.studies] or pages.published_studies()
    if options.export:
        done = command.here([pages.published(study) for study in chosen])
        checks.export(done, Path(options.export))
        print(f"{options.export}: {done}")
        return 0

    def build() -> Path:
        from experiments.report.stamp import Stamp

        stamp = Stamp(chosen)
        if stamp.holds():
            return stamp.index
        from experiments.report import build as report

        return report.build(chosen, "published", say=_say)

    return command.verify(
        chosen,
        minutes=options.minutes,
        data=options.data,
        workers=options.workers,
        report=build if options.report else None,
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
    for study in _studies(options):
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
        raise ValueError("there is nothing to publish; `adam-study run --profile paper` trains it")


def merge_command(options: argparse.Namespace) -> int:
    """Bring records trained elsewhere into the store, or under results/."""
    from pathlib import Path

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


def data_command(options: argparse.Namespace) -> int:
    """Show, fetch or verify the data sets."""
    from experiments.data import catalogue, download, files

    known("action", options.action, ("status", "fetch", "verify"))
    names = [
        known("data set", name, catalogue.DATASETS) for name in options.names or catalogue.DATASETS
    ]
    print(f"data folder: {files.root()}")
    complete = True
    for name in names:
        if options.action == "fetch":
            download.fetch(name)
        if options.action in ("fetch", "verify"):
            files.verify(name)
            print(f"{name}: all files are there and their SHA-256 is right")
            continue
        for status in files.status(name):
            print(f"{name}: {status.file.path}: {status.state}")
        complete &= files.available(name)
    if not complete:
        print("`adam-study data fetch` downloads what is missing")
    return 0


def doctor_command(options: argparse.Namespace) -> int:
    """Print what a bug report needs, and whether anything is wrong."""
    from experiments.cli import doctor

    return doctor.report(options.json)


Command = tuple[Callable[[argparse.Namespace], Any], str, tuple[str, ...]]
COMMON = ("studies", "profile", "data")
COMMANDS: dict[str, Command] = {
    "list": (list_command, "the studies", ("json",)),
    "plan": (
        plan_command,
        "what a run would train, what is done, and how long the rest may take",
        (*COMMON, "protocol", "workers", "skip_published", "json"),
    ),
    "run": (
        run_command,
        "train what is missing; with --arm and --set, try settings of your own",
        (
            *COMMON,
            "protocol",
            "engine",
            "workers",
            "timeout",
            "address",
            "gpus_per_run",
            "skip_published",
            "arm",
            "set",
        ),
    ),
    "claims": (claims_command, "the verdicts", ("studies", "shown_profile", "data", "json", "csv")),
    "compare": (
        compare_command,
        "two runs side by side",
        ("runs", "shown_profile", "data", "json"),
    ),
    "export": (
        export_command,
        "write records as tidy CSV and for TensorBoard",
        ("studies", "shown_profile", "data", "format", "to"),
    ),
    "report": (
        report_command,
        "run the notebooks and build the HTML report; trains what is missing",
        ("studies", "report_profile", "data"),
    ),
    "verify": (
        verify_command,
        "the published verdicts, and a check of them: train published runs again, here",
        ("studies", "minutes", "data", "workers", "report", "export", "import"),
    ),
    "publish": (
        publish_command,
        "publish paper records under results/, finished or not",
        ("studies",),
    ),
    "merge": (
        merge_command,
        "bring records trained elsewhere into the store here, or under results/",
        ("folders", "results"),
    ),
    "notebooks": (notebooks_command, "rewrite notebooks and README from results/", ()),
    "data": (data_command, "show, fetch or verify the data sets", ("action", "names")),
    "doctor": (doctor_command, "versions, devices, data, kernel", ("json",)),
}
