"""The commands that list, plan and train runs: list, plan, run."""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import shlex
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from experiments import studies
from experiments.cli import common
from experiments.cli.parser import MOST_WORKERS
from experiments.declarations import PROFILES
from experiments.options import known
from experiments.plan import START_SECONDS
from experiments.plan import plan as make_plan
from experiments.records.origin import held_by_commits
from experiments.study import PROTOCOLS, Plan, Records, Run, Study, describe
from experiments.words import counted

if TYPE_CHECKING:
    from experiments.records.store import Store


def list_command(options: argparse.Namespace) -> None:
    """Print the studies."""
    every = [studies.get(name) for name in studies.STUDIES]
    if options.json:
        print(json.dumps([_declared(study) for study in every], indent=1))
        return
    rows = []
    for study in every:
        shown = study.arms if len(study.arms) <= 6 else study.arms[:3]
        arms = ", ".join(arm.name for arm in shown)
        arms += f" and {more} more" if (more := len(study.arms) - len(shown)) else ""
        rows.append((study.name, study.section, study.title, arms))
    common.show_table("Studies", ("study", "of the paper", "what", "arms"), rows)
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
    from experiments.records.store import local_store

    store, report = local_store(), []
    records = _counted(options, store)
    protocols = common.chosen_protocols(options)
    workers = common.chosen_workers(options)
    for study in common.chosen_studies(options):
        study.profile(options.profile)
        choice = download.choose(study.data_set, options.data, download=False)
        plan = make_plan(study, options.profile, choice.kind, records, protocols)
        report.append(_planned(study, plan, records, store, workers, choice))
    if options.json:
        print(json.dumps(report, indent=1))
        return
    processes = counted(workers, "process", "processes")
    for entry in report:
        rows = [
            (role, str(counts["runs"]), str(counts["done"]), str(counts["runs"] - counts["done"]))
            for role, counts in entry["roles"].items()
        ]
        title = f"{entry['study']}, profile {options.profile}, {entry['data']}"
        common.show_table(title, ("for", "runs", "done", "missing"), rows)
        for name, settings in entry["nearest"].items():
            print(f"nearest to the paper's curve of {name}: {describe(settings)}")
        if not entry["missing"] + entry["later"]:
            print("nothing is missing")
            continue
        if entry["promoted"]:
            print(f"and {counted(entry['promoted'], 'run')} or more of the search's longer rungs;")
        if tuned := entry["later"] - entry["promoted"]:
            print(f"and {counted(tuned, 'run')} of the tuned settings once tuning is done;")
        if entry["later"]:
            print("a grid whose best rate is at its end grows, which adds trials")
        print(f"about {_duration(entry['seconds'])} on {processes} ({entry['basis']})")
        if entry["error"]:
            print(f"a run took {entry['error']:.2f} times what its steps predicted")
    if len(report) > 1:
        missing = sum(entry["missing"] + entry["later"] for entry in report)
        seconds = sum(entry["seconds"] for entry in report)
        about = f", about {_duration(seconds)} on {processes}" if missing else ""
        runs = counted(missing, "run is", "runs are")
        print(f"\nin all {len(report)} studies: {runs} missing{about}")
    common.report_damage(store)


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
    seconds, basis, error = estimate(study, plan, missing, store, workers)
    return {
        "study": study.name,
        "data": choice.kind + (f" ({choice.reason})" if choice.reason else ""),
        "roles": roles,
        "missing": len(missing),
        "later": plan.later,
        "promoted": sum(plan.promoted.values()),
        "nearest": {name: dict(settings) for name, settings in plan.nearest.items()},
        "seconds": round(seconds, 1),
        "basis": basis,
        "error": error,
    }


def estimate(
    study: Study, plan: Plan, missing: Sequence[Run], store: Store, workers: int
) -> tuple[float, str, float | None]:
    """Seconds that the missing runs take, what that is based on, and its error.

    More processes than this machine has cores gain nothing, and no number of them makes a plan
    quicker than its longest run and the longest of those that can only follow.

    Before anything has run, the estimate is the number of steps times the time of a step on the
    reference machine. Afterwards it is corrected by the error of that first estimate: the time that
    the finished runs took here, over the time predicted for them.

    Args:
        study: the study.
        plan: its runs.
        missing: those without a record.
        store: the records made here.
        workers: the processes that train them.

    Returns:
        The seconds, the basis in words, and the error; None before anything has run.
    """
    import statistics

    from experiments.engines.execution import default_workers
    from experiments.problems.registry import PROBLEMS

    def predicted(run: Run) -> float:
        steps = run.epochs
        if not study.measured:
            options = PROBLEMS[run.problem].options(**run.options)  # with the defaults
            steps *= options.train_examples // run.batch_size
        return START_SECONDS + steps * study.step_ms / 1000

    done = [(run, record) for run in plan.runs() if (record := store.get(run.id)) is not None]
    total, longest = sum(map(predicted, missing)), max(map(predicted, missing), default=0.0)
    if missing and plan.later:
        tuned = plan.later - sum(plan.promoted.values())
        after = [(tuned, statistics.mean(map(predicted, plan.runs("matched") or missing)))]
        for passes, number in plan.promoted.items():
            after.append((number, predicted(dataclasses.replace(missing[0], epochs=passes))))
        total += sum(number * each for number, each in after)
        longest += sum(each for number, each in after if number)
    total = max(total / min(workers, default_workers()), longest)
    whole = [(run, record) for run, record in done if record["status"] == "finished"]
    if not whole:
        return total, "from a machine with 2 cores", None
    ratios = [record["manifest"]["wall_seconds"] / predicted(run) for run, record in whole]
    error = statistics.median(ratios)
    return total * error, f"from {counted(len(whole), 'run')} measured here", round(error, 3)


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
    from experiments.analysis import ledger
    from experiments.data import download
    from experiments.engines import execution
    from experiments.records.store import local_store

    chosen = common.chosen_studies(options)
    for study in chosen:
        study.profile(options.profile)
    known("engine", options.engine, execution.ENGINES)
    protocols = common.chosen_protocols(options)
    ledger.ledger()  # a mistake in a claim is told before anything is trained
    store = local_store()
    records = _counted(options, store)
    _warn_of_code(options)
    failed: list[str] = []
    with execution.ENGINES[options.engine](store.path, _engine_options(options)) as train_all:
        for study in chosen:
            choice = download.choose(study.data_set, options.data)
            common.announce(choice)
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
                f"{study.name}: {counted(done, 'run')} done at profile {options.profile}, "
                f"in {store.path}{where}"
            )
            if plan.on_edge:
                arms = ", ".join(plan.on_edge)
                print(f"{study.name}: the best rate of {arms} is at the end of its grid")
    common.report_damage(store)
    if failed:
        raise execution.RunsFailed(failed)
    print(f"next: `{_next(options, 'claims')}` or `{_next(options, 'report')}`")
    return 0


def _warn_of_code(options: argparse.Namespace) -> None:
    """Say it before the training where its records could not be published."""
    from experiments.training import runtime

    if options.profile == "paper" and not held_by_commits(runtime.commit()):
        common.say("adam-study: no commit holds this code, so `publish` will refuse these runs")


def _next(options: argparse.Namespace, command: str) -> str:
    """The command that shows what was trained."""
    given = getattr(options, "data_folder", options.data)
    data = [] if given == "auto" else ["--data", shlex.quote(given)]
    words = [command, *options.studies, "--profile", options.profile, *data]
    return " ".join(("adam-study", *words))


def _engine_options(options: argparse.Namespace, most: int | None = None) -> Any:
    """How the engine works; `most` is how many workers there is work for."""
    from experiments.engines import execution

    if options.timeout is not None and options.engine == "serial":
        raise ValueError("--engine serial can't enforce --timeout; use --engine processes")
    for flag in ("address", "gpus_per_run"):
        if getattr(options, flag) is not None and options.engine != "ray":
            raise ValueError(f"--{flag.replace('_', '-')} is for --engine ray alone")
    if (options.workers or 1) > 1 and options.engine == "serial":
        raise ValueError("--engine serial trains in one process; leave out --workers")
    workers = common.chosen_workers(options)
    if options.workers is None and most is not None:
        workers = min(workers, most)
    if options.workers is None and options.address:
        workers = MOST_WORKERS  # as many as the cluster takes
    more = {} if options.timeout is None else {"timeout": options.timeout}
    return execution.Options(workers, address=options.address, gpus=options.gpus_per_run, **more)


def try_command(options: argparse.Namespace) -> int:
    """Train one arm with the user's own settings, on top of those it is declared with."""
    from experiments.data import download
    from experiments.engines import execution
    from experiments.records.store import local_store

    if len(options.studies) != 1 or not options.arm:
        raise ValueError("--arm and --set try settings: give one study, one --arm and --set K=V")
    if options.protocol != "both" or options.skip_published:
        flag = "--skip-published" if options.skip_published else f"--protocol {options.protocol}"
        raise ValueError(f"{flag} is for whole studies; leave it out, or leave out --arm and --set")
    study = studies.get(options.studies[0])
    profile, arm = study.profile(options.profile), study.arm(options.arm)
    known("engine", options.engine, execution.ENGINES)
    settings = arm.declared | once(setting(text) for text in options.set)
    choice = download.choose(study.data_set, options.data)
    runs = [
        study.run(arm, settings, profile=profile, data=choice.kind, seed=seed)
        for seed in range(profile.seeds)
    ]
    engine = _engine_options(options, len(runs))
    common.announce(choice)
    store = local_store()
    store.check_writable()
    _warn_of_code(options)
    failed = []
    with execution.ENGINES[options.engine](store.path, engine) as train_all:
        for result in train_all(runs):
            store.damaged += result.notes
            if result.failed:
                failed.append(execution.failure(result))
            else:
                print(f"{arm.name} seed {result.run.seed}: {result.end}, run {result.run.id}")
    print(f"{arm.name} with {describe(settings)}; records in {store.path}")
    common.report_damage(store)
    if failed:
        raise execution.RunsFailed(failed)
    return 0


def once(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Names with their values.

    Raises:
        ValueError: a name is given twice.
    """
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"{name} is given twice, {found[name]!r} and {value!r}; give it once")
        found[name] = value
    return found


def setting(text: str, flag: str = "--set ") -> tuple[str, Any]:
    """The name and the value of NAME=VALUE.

    Args:
        text: what was given.
        flag: what it was given to, for the message.

    Returns:
        The name, and the value as a truth value or a number if it reads as one, else as text.

    Raises:
        ValueError: it has no name or no equals sign, or the number is not finite.
    """
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise ValueError(f"{flag}{text!r} is not valid: write NAME=VALUE, as in beta_1=0.8")
    words = {"true": True, "false": False}
    if value.lower() in words:
        return name, words[value.lower()]
    try:
        number = float(value)
    except ValueError:
        return name, value
    if not math.isfinite(number):
        shown = text if len(text) <= 40 else f"{text[:40]}..."
        raise ValueError(f"{flag}{shown} is not valid: the value is not a finite number")
    whole = value.removeprefix("-").isdecimal() and abs(number) < 2**53
    return name, int(value) if whole else number
