"""`adam-study verify`: the published verdicts at once, then checks of them as time allows.

The time is a budget that includes what earlier commands spent on the same records here. So an
interrupted command, repeated, continues where it ended, and one that was not interrupted is done at
once. More minutes check more.
"""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments import pages
from experiments.analysis import claims
from experiments.analysis.claims import Verdict
from experiments.analysis.results import Results
from experiments.data import catalogue, download
from experiments.engines import execution
from experiments.plan import plan
from experiments.problems import registry
from experiments.records.published import Published
from experiments.records.store import Store
from experiments.study import NUMERICS, Study
from experiments.training import runtime
from experiments.verify import again, sample, seeds
from experiments.verify.checks import Budget, Checks, Folder
from experiments.verify.ending import end, in_minutes, in_numbers
from experiments.verify.kept import GET_DATA, folder, from_others, here, published_records
from experiments.words import counted

MINUTES = 10.0
SMOKE_SECONDS = 60.0
SPENT_EVERY = 5.0  # seconds after which the time spent is stored


def verify(
    studies: Sequence[Study],
    *,
    minutes: float = MINUTES,
    data: str = "auto",
    workers: int | None = None,
    report: Callable[[], Path] | None = None,
) -> int:
    """Check the published records of these studies here.

    Args:
        studies: the studies.
        minutes: of training.
        data: "auto", "real" or "stand-in".
        workers: processes; by default one per core.
        report: builds the report once everything is checked.

    Returns:
        1 if something disagrees or could not be trained, else 0.

    Raises:
        ValueError: an impossible number of minutes, or damaged data.
    """
    if not (math.isfinite(minutes) and minutes > 0):
        raise ValueError(f"minutes={minutes:g} is not valid: use a number above 0")
    backend = runtime.backend()
    workers = workers or execution.default_workers()
    found = [pages.published(study) for study in studies]
    print("The published verdicts, each with its numbers in the report:")
    judged: dict[str, list[Verdict]] = {}
    wide = max((len(study.name) for study in studies), default=0)
    for results in found:
        name = results.study.name
        judged[name] = claims.judge(results)
        print(f"  {name:{wide}} {in_numbers(judged[name])}{_unfinished(results)}", flush=True)
    for line in _other_numerics(found):
        print(line)
    if line := _not_comparable(found, backend):
        print(line)
    kept = Folder(folder() / "checks")
    before = here(found)
    for line in (*before.damaged, *(line for each in from_others() for line in each.damaged)):
        print(f"adam-study: {line}", file=sys.stderr)
    if before:
        print(f"Checked here already: {before}.")
    usable, lacking = _with_data(found, data)
    tables = [pages.published_file(results.study) for results in usable]
    budget = Budget(folder() / "spent", filter(Path.exists, tables))
    before_now, given = budget.spent, 60 * minutes
    if before_now and usable:
        print(f"Minutes spent before: {in_minutes(min(before_now, given))} of {minutes:g}.")
    sys.stdout.flush()
    for text in dict.fromkeys(lacking.values()):
        print(text, file=sys.stderr)
    clock = time.monotonic()
    peak, failures = (0.0, 0.0), 0
    with _alone():
        if usable and given > before_now:
            peak, failures = _train(usable, kept, before, given - before_now, workers, budget)
        if lacking and not before_now:
            failures += _exercise([r.study for r in found if r.study.name in lacking], workers)
            budget.keep(max(budget.spent, time.monotonic() - clock, 1.0))
    trained = time.monotonic() - clock
    done = here(found)
    index = report() if report else None
    print()
    verdicts = [verdict for each in judged.values() for verdict in each]
    print("\n".join(end(found, verdicts, done, lacking, trained, peak, index, minutes)))
    return 1 if done.faults or done.failures or failures else 0


@contextlib.contextmanager
def _alone() -> Any:
    """Lock the build folder, since two commands would train the same runs."""
    with Store(folder()).claim("verify") as claimed:
        if not claimed:
            raise ValueError(f"another `verify` is at work in {folder()}: wait for it to end")
        yield


def _train(
    found: Sequence[Results],
    kept: Folder,
    before: Checks,
    seconds: float,
    workers: int,
    budget: Budget,
) -> tuple[tuple[float, float], int]:
    """Train what is to be checked.

    Returns:
        The largest memory of a process, in MB, and how much of it is shared; how many new seeds
        could not be trained.
    """
    clock, spent = time.monotonic(), budget.spent

    def keep() -> None:
        budget.keep(min(spent + time.monotonic() - clock, spent + seconds))

    fresh = Store(folder() / "records")
    checked = [(check.run, _asked(check)) for check in before.runs if not check.failed]
    items = sample.items(found, checked, runtime.backend())
    items += [item for results in found for item in seeds.items(results, fresh)]
    items = sample.in_order(items, workers, seconds)
    by_id = {item.run.id: item for item in items}
    records = published_records(found)
    progress = _Progress(seconds, len(items))
    peak = (0.0, 0.0)
    lost: list[again.Item] = []

    def told(under_way: list[tuple[again.Item, int]], memory: tuple[float, float]) -> None:
        nonlocal peak
        peak = max(peak, memory)
        progress.show(under_way)
        if spent + time.monotonic() - clock - budget.spent > SPENT_EVERY:
            keep()

    def trained(item: again.Item, record: dict[str, Any]) -> None:
        if item.role.endswith(", new") and again.passes_of(record) + _gone(record) >= _full(item):
            fresh.put(record)
            progress.line(f"{item.words}: trained")

    def failed(item: again.Item, error: str) -> None:
        lost.append(item)
        progress.line(f"{item.words}: FAILED: {error}")

    with contextlib.ExitStack() as stack:
        stack.callback(keep)
        stack.enter_context(contextlib.closing(progress))
        for check in again.train_again(
            items,
            records,
            folder() / "unfinished",
            workers=workers,
            seconds=seconds,
            told=told,
            trained=trained,
            failed=failed,
        ):
            kept.put(check)
            item = by_id[check.run]
            progress.line(f"{item.words}: {_result(check)}")
    for results in found:
        for seed in seeds.judge(results, fresh):
            kept.put(seed)
    budget.keep(spent + seconds)  # whatever time is left is too short for anything
    return peak, len(lost)


def _asked(check: again.Check) -> int:
    """Passes that count as checked; all of them for a measurement, which has rows instead."""
    return sys.maxsize if check.passes >= check.published else check.passes


def _gone(record: Mapping[str, Any]) -> int:
    return sys.maxsize if record["diverged_at"] is not None else 0


def _full(item: again.Item) -> int:
    """How many passes a whole run has; a measurement is whole or nothing."""
    return 1 if registry.PROBLEMS[item.run.problem].measured else item.run.epochs


def _result(check: again.Check) -> str:
    if check.fault:
        return f"{'FAILED' if check.failed else 'DISAGREES'}: {check.fault}"
    passes = f"{counted(check.passes, 'pass', 'passes')} of {check.published:,}"
    if check.equal == check.passes:
        return f"{passes}, equal to the last bit"
    text = f"{passes}, largest difference {check.largest:.0e}"
    return text + (f", {check.chaotic} chaotic" if check.chaotic else "")


class _Progress:
    """On a terminal, a live bar of the time, which moves within a run; elsewhere, lines."""

    def __init__(self, seconds: float, items: int) -> None:
        from experiments.bar import Bar

        self.live = sys.stderr.isatty()
        self.start, self.seconds = time.monotonic(), seconds
        self.bar = Bar(
            total=round(seconds),
            disable=not self.live,
            bar_format="{desc} {bar:20} {elapsed} of " + f"{seconds / 60:g} minutes" + "{postfix}",
            desc="checking",
        )
        self.ended = 0

    def show(self, under_way: list[tuple[again.Item, int]]) -> None:
        """Show how far the runs under way are."""
        runs = [f"{i.study} {i.arm} pass {done + 1}/{i.passes}" for i, done in under_way]
        ended = counted(self.ended, "run")
        self.bar.set_postfix_str(f", {ended}; {'; '.join(runs)}"[:90], refresh=False)
        self.bar.n = min(round(time.monotonic() - self.start), round(self.seconds))
        self.bar.refresh()

    def line(self, text: str) -> None:
        """Print a line for a run that has ended."""
        self.ended += 1
        if self.live:
            self.bar.write(text, file=sys.stderr)
        else:
            print(text, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Leave the bar as it stands."""
        self.bar.close()


def _with_data(found: Sequence[Results], policy: str) -> tuple[list[Results], dict[str, str]]:
    """The results whose data are here, and what the other studies lack."""
    usable, lacking = [], {}
    choices: dict[str, download.Choice] = {}
    for results in found:
        name = results.study.data_set
        if name not in choices:
            choices[name] = download.choose(name, policy)
        if choices[name].kind == name:
            usable.append(results)
        else:
            reason = choices[name].reason
            lacking[results.study.name] = (
                f"No real data of {name} ({reason}): its published records are shown, not checked. "
                f"To check them: {GET_DATA}."
            )
    return usable, lacking


def _exercise(studies: Sequence[Study], workers: int) -> int:
    """Without real data, try the machinery on stand-ins at profile smoke, one run per problem.

    Returns:
        How many of these runs disagree with themselves or could not be trained.
    """
    chosen: dict[str, again.Item] = {}
    for study in studies:
        kind = catalogue.stand_in(study.data_set)
        entry = plan(study, "smoke", kind, {}).entries[0]
        item = again.Item(study.name, "smoke", entry.arm, entry.run, entry.run.epochs, 1.0)
        chosen.setdefault(study.problem, item)
    made: dict[str, dict[str, Any]] = {}
    faults: list[str] = []

    def trained(item: again.Item, record: dict[str, Any]) -> None:
        made.setdefault(item.run.id, record)

    def failed(item: again.Item, error: str) -> None:
        faults.append(f"{item.study}: {error}")

    place = folder() / "stand-in"
    for _ in (1, 2):  # train, then train again and compare
        found = again.train_again(
            list(chosen.values()),
            dict(made),
            place,
            workers=workers,
            seconds=SMOKE_SECONDS * len(chosen),
            trained=trained,
            failed=failed,
        )
        faults.extend(f"{check.study}: {check.fault}" for check in found if check.fault)
    text = "; ".join(faults) or "every number equal to the last bit"
    print(
        f"STAND-IN DATA: {counted(len(made), 'tiny run')} of profile smoke trained twice, to try "
        f"the machinery: {text}. That checks no record.",
        file=sys.stderr,
    )
    return len(faults)


def _unfinished(results: Results) -> str:
    return f" (not finished: {results.progress})" if results.missing else ""


def _other_numerics(found: Sequence[Results]) -> list[str]:
    """A line for each study with records that this version of the code no longer answers for."""
    lines, records = [], Published(pages.RESULTS)
    for results in found:
        planned = {run.id for run in results.plan.runs()}
        old = 0
        for run_id in records.ids():
            record = records.get(run_id)
            if record is None or run_id in planned:
                continue
            config = record["config"]
            current = {part: NUMERICS.get(part, 1) for part in config["numerics"]}
            mine = config["problem"] == results.study.problem
            old += mine and config["numerics"] != current
        if old:
            lines.append(
                f"{results.study.name}: {counted(old, 'record')} of older numerics can't be "
                "checked; train them again and publish"
            )
    return lines


def _not_comparable(found: Sequence[Results], backend: str) -> str:
    """How many records another backend made, with random numbers that this one does not draw."""
    runs = [run for results in found for run in results.plan.runs()]
    records = published_records(found)
    others = [r for r in runs if r.id in records]
    left = [r for r in others if not sample.comparable(r, records[r.id], backend)]
    if not left:
        return ""
    return (
        f"{backend} draws other random numbers than the records' backend: {len(left):,} of "
        f"{len(others):,} runs can't be compared; new seeds of them can."
    )
