"""`adam-study verify`: the published verdicts at once, then checks of them as time allows."""

from __future__ import annotations

import contextlib
import math
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments import pages
from experiments.analysis import claims
from experiments.analysis.results import Results
from experiments.data import catalogue, download
from experiments.engines import execution
from experiments.paths import build_folder
from experiments.plan import plan
from experiments.problems import registry
from experiments.records.store import Store
from experiments.study import NUMERICS, PROTOCOLS, Study
from experiments.verify import again, sample, seeds
from experiments.verify.checks import PUBLISHED, Checks, Folder, counted, others, told_by

MINUTES = 8.0
SMOKE_SECONDS = 60.0
LINES = 25  # at the end, at most
GET_DATA = "`adam-study data fetch` downloads them; or name their folder, ADAM_TF_DATA=FOLDER"


def folder() -> Path:
    """Where checks made here are."""
    return build_folder() / "verify"


def here(found: Sequence[Results]) -> Checks:
    """The checks made here of the published records as they are now."""
    return Folder(folder() / "checks").all().valid(_digests(found))


def from_others() -> list[Checks]:
    """The published checks and the imported ones."""
    return others(PUBLISHED, folder() / "imported")


def _digests(found: Sequence[Results]) -> dict[str, str]:
    return {
        run.id: again.digest(record)
        for results in found
        for run in results.plan.runs()
        if (record := results.records.get(run.id)) is not None
    }


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
        studies: which.
        minutes: of training.
        data: "auto", "real" or "stand-in".
        workers: processes; by default one per core.
        report: builds the report, once everything is checked.

    Returns:
        1 if something disagrees, else 0.

    Raises:
        ValueError: an impossible number of minutes, or damaged data.
    """
    if not (math.isfinite(minutes) and minutes > 0):
        raise ValueError(f"minutes={minutes:g} is not valid: use a number above 0")
    workers = workers or execution.default_workers()
    found = [pages.published(study) for study in studies]
    print("The published verdicts, each with its numbers in the report:")
    for results in found:
        print(f"  {results.study.name:20} {_verdicts([results])}{_unfinished(results)}")
    for line in _other_numerics(found):
        print(line)
    kept = Folder(folder() / "checks")
    before = here(found)
    for line in (*before.damaged, *(line for each in from_others() for line in each.damaged)):
        print(f"adam-study: {line}", file=sys.stderr)
    if before.runs or before.seeds:
        print(f"Checked here already: {before}.")
    sys.stdout.flush()
    usable, lacking = _with_data(found, data)
    for text in dict.fromkeys(lacking.values()):
        print(text, file=sys.stderr)
    clock = time.monotonic()
    with _alone():
        peak = _train(usable, kept, before, minutes * 60, workers)
        if lacking:
            _exercise([r.study for r in found if r.study.name in lacking], workers)
    done = here(found)
    index = report() if report else None
    print()
    print("\n".join(_end(found, done, lacking, time.monotonic() - clock, peak, index)))
    return 1 if done.faults else 0


@contextlib.contextmanager
def _alone() -> Any:
    """Hold the build folder: two commands would train the same runs."""
    with Store(folder()).claim("verify") as claimed:
        if not claimed:
            raise ValueError(f"another `verify` is at work in {folder()}: wait for it to end")
        yield


def _train(
    found: Sequence[Results], kept: Folder, before: Checks, seconds: float, workers: int
) -> float:
    """Train what is to be checked; returns the largest memory of a process, in MB."""
    fresh = Store(folder() / "records")
    checked = [(check.run, _asked(check)) for check in before.runs if not check.failed]
    items = sample.items(found, checked)
    items += [item for results in found for item in seeds.items(results, fresh)]
    items.sort(key=lambda item: (item.level, item.seconds, item.run.id))
    by_id = {item.run.id: item for item in items}
    records = {r.id: rec for f in found for r in f.plan.runs() if (rec := f.records.get(r.id))}
    progress = _Progress(seconds, len(items))
    peak = 0.0

    def told(under_way: list[tuple[again.Item, int]], megabytes: float) -> None:
        nonlocal peak
        peak = max(peak, megabytes)
        progress.show(under_way)

    def trained(item: again.Item, record: dict[str, Any]) -> None:
        if item.role.endswith(", new") and len(_passes(record)) + _gone(record) >= _full(item):
            fresh.put(record)
            progress.line(f"{item.words}: trained")

    with contextlib.closing(progress):
        for check in again.train_again(
            items,
            records,
            folder() / "unfinished",
            workers=workers,
            seconds=seconds,
            told=told,
            trained=trained,
        ):
            kept.put(check)
            item = by_id[check.run]
            progress.line(f"{item.words}: {_result(check)}")
    for results in found:
        for seed in seeds.judge(results, fresh):
            kept.put(seed)
    return peak


def _asked(check: again.Check) -> int:
    """Passes that count as checked; of a measurement, whose rows are no passes, all."""
    return sys.maxsize if check.passes >= check.published else check.passes


def _passes(record: Mapping[str, Any]) -> Sequence[float]:
    return next(iter(record["metrics"].values()), ())


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
    """A live bar of the time on a terminal, which moves within a run; elsewhere lines."""

    def __init__(self, seconds: float, items: int) -> None:
        from tqdm import tqdm

        self.live = sys.stderr.isatty()
        self.start, self.seconds = time.monotonic(), seconds
        self.bar = tqdm(
            total=round(seconds),
            disable=not self.live,
            bar_format="{desc} {bar:20} {elapsed} of " + f"{seconds / 60:g} minutes" + "{postfix}",
            desc="checking",
        )
        self.ended = 0

    def show(self, under_way: list[tuple[again.Item, int]]) -> None:
        """Where the runs under way are."""
        runs = [f"{i.study} {i.arm} pass {done + 1}/{i.passes}" for i, done in under_way]
        self.bar.set_postfix_str(f", {self.ended} runs; {'; '.join(runs)}"[:90], refresh=False)
        self.bar.n = min(round(time.monotonic() - self.start), round(self.seconds))
        self.bar.refresh()

    def line(self, text: str) -> None:
        """One run has ended."""
        self.ended += 1
        if self.live:
            self.bar.write(text, file=sys.stderr)
        else:
            print(text, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Leave the bar as it stands."""
        self.bar.close()


def _with_data(found: Sequence[Results], policy: str) -> tuple[list[Results], dict[str, str]]:
    """The results whose data are here, and for the other studies what is lacking."""
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


def _exercise(studies: Sequence[Study], workers: int) -> None:
    """Without real data: try the machinery on stand-ins at profile smoke, a run of each problem."""
    chosen: dict[str, again.Item] = {}
    for study in studies:
        kind = catalogue.stand_in(study.data_set)
        planned = plan(study, "smoke", kind, _Nothing(), ("matched",)).entries
        entry = planned[0]
        item = again.Item(study.name, "smoke", entry.arm, entry.run, entry.run.epochs, 1.0)
        chosen.setdefault(study.problem, item)
    made: dict[str, dict[str, Any]] = {}

    def trained(item: again.Item, record: dict[str, Any]) -> None:
        made.setdefault(item.run.id, record)

    place = folder() / "stand-in"
    for _ in (1, 2):  # train, then train again and compare
        faults = [
            f"{check.study}: {check.fault}"
            for check in again.train_again(
                list(chosen.values()),
                dict(made),
                place,
                workers=workers,
                seconds=SMOKE_SECONDS * len(chosen),
                trained=trained,
            )
            if check.fault
        ]
    text = "; ".join(faults) or "every number equal to the last bit"
    print(
        f"STAND-IN DATA: {counted(len(made), 'tiny run')} of profile smoke trained twice, to try "
        f"the machinery: {text}. That checks no record.",
        file=sys.stderr,
    )


class _Nothing:
    def get(self, run_id: str) -> None:
        """No run has a record."""


def _verdicts(found: Sequence[Results]) -> str:
    """Verdicts in numbers, by protocol."""
    judged = [verdict for results in found for verdict in claims.judge(results)]
    parts = []
    for protocol in PROTOCOLS:
        mine = [v for v in judged if v.protocol == protocol and v.claim.source != "control"]
        counts = Counter(v.verdict for v in mine if v.verdict)
        if counts:
            text = ", ".join(f"{n} {verdict}" for verdict, n in counts.most_common())
            parts.append(f"{protocol}: {text}")
    return "; ".join(parts) or "no claims"


def _unfinished(results: Results) -> str:
    return f" (not finished: {results.progress})" if results.missing else ""


def _other_numerics(found: Sequence[Results]) -> list[str]:
    """A line for each study with records that this version of the code no longer answers for."""
    lines = []
    for results in found:
        planned = {run.id for run in results.plan.runs()}
        old = 0
        for run_id in getattr(results.records, "ids", list)():
            record = results.records.get(run_id)
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


def _end(
    found: Sequence[Results],
    done: Checks,
    lacking: Mapping[str, str],
    seconds: float,
    peak: float,
    index: Path | None,
) -> list[str]:
    """At most 25 lines that say what was checked and what came of it."""
    published = sum(len(_digests([results])) for results in found)
    passes = sum(
        len(_passes(record))
        for results in found
        for run in results.plan.runs()
        if (record := results.records.get(run.id)) is not None
    )
    trained = [check for check in done.runs if not check.failed]
    mine = sum(check.passes for check in trained)
    equal = sum(check.equal for check in trained)
    lines = [
        f"Published: {_verdicts(found)}.",
        f"Checked here: {counted(len(trained), 'run')} of {published:,}, "
        f"{counted(mine, 'pass', 'passes')} of {passes:,} ({mine / max(passes, 1):.1%}), "
        f"{equal:,} of them equal to the last bit; {seconds / 60:.1f} minutes now.",
    ]
    names = [results.study.name for results in found]
    without = [name for name in names if name in lacking]
    unchecked = [n for n in names if n not in lacking and str(done.of(n)) == "nothing"]
    lines += [f"  {n:20} {done.of(n)}" for n in names if n not in without and n not in unchecked]
    if unchecked:
        lines.append(f"  nothing yet: {', '.join(unchecked)}")
    if without:
        lines.append(f"  nothing: no real data: {', '.join(without)}")
    faults = done.faults
    if faults:
        lines.append(f"{counted(len(faults), 'DISAGREEMENT', 'DISAGREEMENTS')}:")
        room = max(1, LINES - len(lines) - 5)
        lines += [f"  {fault}" for fault in faults[:room]]
        if len(faults) > room:
            lines.append(f"  and {len(faults) - room} more, in {folder() / 'checks'}")
    elif trained:
        lines.append("Nothing disagrees by more than rounding.")
    else:
        lines.append(f"Nothing was checked. {GET_DATA}" if lacking else "Nothing was checked.")
    if speeds := [c.seconds / c.seconds_published for c in trained if c.seconds_published]:
        lines.append(
            f"A pass takes {statistics.median(speeds):.2g} times as long as in the records"
            + (f"; the largest process held {peak / 1024:.1f} GB." if peak else ".")
        )
    told = [line for line in told_by(from_others()) if line]
    if told:
        more = f" (and {len(told) - 1} more)" if len(told) > 1 else ""
        lines.append(f"By others{more}: {told[0]}")
    if index:
        lines.append(f"report: {index}")
    lines.append(
        "Next: `make reproduce MINUTES=120` checks more; `adam-study verify --export FILE` "
        "writes the check as a file to send."
    )
    return lines
