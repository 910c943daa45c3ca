"""From records to numbers: tidy tables, curves with intervals, selections, distances to the paper.

Everything that a figure, a verdict or a notebook shows is computed here, once, from records alone.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from experiments.analysis.statistics import best_of, interval
from experiments.data import catalogue
from experiments.paper import curves as digitised
from experiments.plan import plan
from experiments.study import PROTOCOLS, Entry, Panel, Plan, Records, Study
from experiments.training.diagnostics import METRICS
from experiments.words import counted, in_words

# The averages of Section 7.2 as they are recorded, and in words.
AVERAGES = {"mean": "mean of all steps", "exponential": "exponential, corrected"}
# The columns of the tables, those of empty ones too.
PASSES = (
    *("study", "role", "arm", "trial", "run", "problem", "data", "optimizer"),
    *("batch_size", "epochs", "seed", "status", "pass"),
)
OPTION, SETTING = "options.", "settings."  # before the names of these
CURVES = ("arm", "pass", "mean", "low", "high", "n")
TRIALS = ("arm", "trial", "learning_rate", "decay", "seeds", "final_cost", "first_cost")
BEST_OF = ("k", "median", "low", "high", "arm")
SETTINGS = {"matched": "the paper's defaults", "tuned": "tuned"}


@dataclass(frozen=True)
class Results:
    """The records of one study at one profile.

    Attributes:
        study: the declaration.
        profile: name of the profile.
        data: the data set, or its stand-in.
        records: where the records are.
        plan: the study's runs, as far as the records decide them.
        published: whether these are the published records.
    """

    study: Study
    profile: str
    data: str
    records: Records
    plan: Plan
    published: bool = False

    @property
    def stand_in(self) -> bool:
        """Whether the data are not the real ones."""
        return self.data != self.study.data_set

    @property
    def label(self) -> str:
        """What these results are, in a few words."""
        size = self.study.profile(self.profile)
        kind = "published records, " if self.published else ""
        if self.published and self.missing == len(self.plan.runs()) + self.plan.later:
            kind = "nothing published, "
        if self.study.measured:
            kind = f"{kind}profile {self.profile}: "
            data = "" if self.data == "none" else f"{catalogue.title(self.data)}, "
            text = f"{kind}{data}{counted(size.seeds, 'seed')}"
            return text + (f"; not finished, {self.progress}" if self.missing else "")
        data = "STAND-IN DATA" if self.stand_in else catalogue.title(self.study.data_set)
        data = "generated data" if self.data == "none" else data
        if "train_examples" in size.options:  # fewer than the study's
            data += f", {size.options['train_examples']:,} training examples"
        whole = size.seeds_to(size.epochs)
        seeds = counted(whole, "seed")
        if whole < size.seeds:
            seeds += f" ({size.seeds} up to pass {max(size.stages)})"
        passes = counted(size.epochs, "pass", "passes")
        text = f"{kind}profile {self.profile}: {data}, {passes}, {seeds}"
        return text + (f"; not finished, {self.progress}" if self.missing else "")

    @property
    def missing(self) -> int:
        """How many runs are still to be trained, as far as that is known."""
        return len(self.plan.missing(self.records)) + self.plan.later

    @property
    def progress(self) -> str:
        """How many runs there are, of how many."""
        runs = len(self.plan.runs()) + self.plan.later
        return f"{runs - self.missing} of {counted(runs, 'run')}"

    def recorded(self, *roles: str, arm: str = "") -> Iterator[tuple[Entry, Mapping[str, Any]]]:
        """The planned uses of runs that have a record, each with it; all roles if none is named.

        A run may serve several purposes, for example where tuned settings equal the matched ones.
        """
        for entry in self.plan.entries:
            if (not roles or entry.role in roles) and arm in ("", entry.arm):
                record = self.records.get(entry.run.id)
                if record is not None:
                    yield entry, record

    def passes(self, *roles: str) -> pd.DataFrame:
        """A row for each pass of each use of a run: what the run is, and what it recorded.

        A run that diverged in its first pass has one row, without a pass or a metric. The columns
        are those of `PASSES`, `options.NAME` and `settings.NAME`, and every metric.
        """
        frames = []
        for entry, record in self.recorded(*roles):
            frame = pd.DataFrame(record["metrics"])
            number = pd.array(range(len(frame)) if len(frame) else [pd.NA], dtype="Int64")
            frame = frame.reindex(range(len(number)))
            about = {
                "study": self.study.name,
                "role": entry.role,
                "arm": entry.arm,
                "trial": entry.trial,
                **entry.run.facts(options=OPTION, settings=SETTING),
                "status": record["status"],
                "pass": number,
            }
            frames.append(pd.concat([pd.DataFrame(about, index=frame.index), frame], axis=1))
        table = _joined(frames, PASSES)
        names = list(map(str, table))
        first = [name for name in names if name in PASSES or name.startswith((OPTION, SETTING))]
        return table[[*first, *(name for name in names if name not in first)]]

    def matrix(self, role: str, arm: str, metric: str = "training_cost") -> pd.DataFrame:
        """One metric of one arm: a row per seed, a column per pass (of a measurement, per row).

        The longest of a seed's runs counts. Values are infinite once a run has diverged, and NaN
        for passes that none has reached yet.

        Args:
            role: as in `study.Entry`; "tuned" means "matched" for an arm with nothing to tune.
            arm: its name.
            metric: as recorded.
        """
        chosen = self.study.arm(arm)
        if role == "tuned" and chosen.matched and not chosen.tunes:
            role = "matched"
        epochs = 0 if self.study.measured else self.study.profile(self.profile).epochs
        rows: dict[int, list[float]] = {}
        for entry, record in self.recorded(role, arm=arm):
            if metric not in record["metrics"] and not _diverged_at_once(record):
                continue
            values = list(record["metrics"].get(metric, ()))
            if not _finished(record):
                values += [math.inf] * (epochs - len(values))
            if len(values) > len(rows.get(entry.run.seed, ())):
                rows[entry.run.seed] = values
        epochs = max([epochs, *map(len, rows.values())])
        padded = [row + [math.nan] * (epochs - len(row)) for row in rows.values()]
        table = np.array(padded, float).reshape(len(rows), epochs)
        return pd.DataFrame(table, index=list(rows), columns=range(epochs))

    def curves(self, role: str, metric: str = "training_cost") -> pd.DataFrame:
        """Mean over seeds and its 95% interval: arm, pass, mean, low, high, n.

        Means of costs are geometric. A pass that only some seeds have reached is their mean.
        """
        frames = []
        for arm in self.study.arms:
            for block in of_equal_seeds(self.matrix(role, arm.name, metric)):
                values = block.to_numpy()
                log = metric.endswith(("cost", "objective"))
                mean, low, high = interval(values, log=log)
                if log:  # a cost of exactly 0 makes the geometric mean 0
                    zero = (values == 0).any(axis=0)
                    mean, low, high = (np.where(zero, 0.0, x) for x in (mean, low, high))
                columns = {"pass": block.columns, "mean": mean, "low": low, "high": high}
                frames.append(pd.DataFrame({"arm": arm.name, **columns, "n": len(block)}))
        return _joined(frames, CURVES)

    def diagnostic(self, role: str, arm: str) -> list[str]:
        """The names of what an arm's runs recorded in addition to their costs."""
        names: dict[str, None] = {}
        for _, record in self.recorded(role, arm=arm):
            names |= dict.fromkeys(set(record["metrics"]) - set(METRICS))
        return sorted(names)

    def grid(self, last: int, metric: str = "training_cost") -> pd.DataFrame:
        """The paper's grid at pass `last`: arm, learning_rate, seed, loss (infinite: diverged)."""
        rows: dict[tuple[str, float, int], float] = {}
        for entry, record in self.recorded("grid"):
            values = record["metrics"].get(metric, ())
            loss = (
                values[last] if len(values) > last else math.nan if _finished(record) else math.inf
            )
            if not math.isnan(loss):
                rows[entry.arm, entry.run.settings["learning_rate"], entry.run.seed] = loss
        table = [(*key, loss) for key, loss in rows.items()]
        return pd.DataFrame(table, columns=["arm", "learning_rate", "seed", "loss"])

    def at_default(self, arm: str, metric: str) -> pd.DataFrame:
        """A metric of a grid's arm at the paper's default alpha = 0.001, by seed and pass."""
        rows: dict[int, list[float]] = {}
        for entry, record in self.recorded("grid", arm=arm):
            values = list(record["metrics"].get(metric, ()))
            if not _finished(record):
                values += [math.inf] * (entry.run.epochs - len(values))
            longest = len(values) > len(rows.get(entry.run.seed, ()))  # of its stages
            if entry.run.settings.get("learning_rate") == 1e-3 and longest:
                rows[entry.run.seed] = values
        return pd.DataFrame.from_dict(rows, orient="index")

    def averages(self) -> pd.DataFrame:
        """What averaging changes in the costs after the last pass (Section 7.2).

        One row per protocol, arm, average and kind of examples: the cost of the last parameters,
        that of their average, and the difference in percent with its 95% interval over seeds.
        """
        rows = []
        for protocol, arm in itertools.product(PROTOCOLS, self.study.arms):
            for kind, examples in itertools.product(AVERAGES, ("training", "held_out")):
                pair = [
                    self.matrix(protocol, arm.name, f"{which} {examples}_cost").iloc[:, -1].dropna()
                    for which in ("last", kind)
                ]
                last, averaged = (values[np.isfinite(values)] for values in pair)
                gone = len(pair[0]) - len(last)
                if not len(last):
                    continue
                mean, low, high = interval((100 * (averaged / last - 1)).to_numpy())
                seeds = counted(len(pair[0]), "seed")
                rows.append(
                    {
                        "settings": protocol if self.study.fitted else SETTINGS[protocol],
                        "method": arm.name,
                        "average": AVERAGES[kind],
                        "examples": examples.replace("_", "-"),
                        "cost of the last": last.mean(),
                        "of the average": averaged.mean(),
                        "change": f"{mean:+.2f}% [{low:+.2f}, {high:+.2f}]"
                        + (f"; diverged in {gone} of {seeds}" if gone else ""),
                        "n": len(last),
                    }
                )
        return pd.DataFrame(rows)

    def trials(self, role: str = "tuning") -> pd.DataFrame:
        """One row per trial: arm, settings, final training cost (mean over seeds; inf: diverged),
        and its distance to the paper's curve."""
        rows: dict[tuple[str, str], dict[str, Any]] = {}
        for entry, record in self.recorded(role):
            key = (entry.arm, entry.trial)
            row = rows.setdefault(
                key, {"arm": entry.arm, "trial": entry.trial, **entry.run.settings, "costs": []}
            )
            row["costs"].append(record["metrics"]["training_cost"] if _finished(record) else None)
        for row in rows.values():
            costs = row.pop("costs")
            curve = np.mean(costs, axis=0) if None not in costs else None
            row["seeds"] = len(costs)
            row["final_cost"] = math.inf if curve is None else curve[-1]
            row["first_cost"] = math.inf if curve is None else curve[0]
            plotted = self.study.arm(row["arm"]).plotted
            row["rms"], row["largest"] = (
                distance(self.study.panel, row["arm"], curve) if plotted else (math.nan, math.nan)
            )
        return _joined([pd.DataFrame(rows.values())], TRIALS)

    @functools.cached_property
    def _grid_is_trained(self) -> bool:
        return not self.plan.missing(self.records, "tuning")

    def best_of(self) -> pd.DataFrame:
        """The best of k trials drawn at random from each arm's grid: arm, k, median, low, high.

        `low` and `high` are the quartiles. Empty until the whole grid is trained.
        """
        trials = self.trials("tuning") if self._grid_is_trained else _joined([], TRIALS)
        frames = [
            best_of(mine["final_cost"]).assign(arm=arm.name)
            for arm in self.study.arms
            if len(mine := trials[trials["arm"] == arm.name])
        ]
        return _joined(frames, BEST_OF)

    def tried(self, arm: str, first: int, last: int) -> list[float]:
        """The geometric mean over passes `first` to `last` of each tuning trial's training cost.

        Means over tuning seeds; infinite if one diverged. Empty until the whole grid is trained,
        and where its runs are shorter.

        Args:
            arm: name of the arm.
            first: the first pass, from 0.
            last: the last pass, included.
        """
        scores: dict[str, list[float]] = {}
        for entry, record in self.recorded("tuning", arm=arm) if self._grid_is_trained else ():
            costs = record["metrics"]["training_cost"][first : last + 1]
            if _finished(record) and len(costs) < last + 1 - first:
                return []
            with np.errstate(divide="ignore"):  # a cost may be exactly 0 in float32
                score = float(np.exp(np.mean(np.log(costs)))) if _finished(record) else math.inf
            scores.setdefault(entry.trial, []).append(score)
        return [float(np.mean(own)) for own in scores.values()]

    def fit(self, best: int | None = None) -> pd.DataFrame:
        """The settings tried to match the paper's curves, nearest first; the `best` of each arm."""
        trials = self.trials("fit")
        if trials.empty:
            return trials
        matched = {arm.name: arm.matched for arm in self.study.arms}
        trials["chosen"] = [
            all(row[key] == value for key, value in matched[row["arm"]].items())
            for row in trials.to_dict("records")
        ]
        names = [name for arm in self.study.arms for name in arm.matched]
        trials["trial"] = [
            in_words({name: row[name] for name in dict.fromkeys(names) if pd.notna(row.get(name))})
            for row in trials.to_dict("records")
        ]
        columns = ["arm", "trial", "seeds", "rms", "largest", "final_cost", "chosen"]
        trials = trials.sort_values(["arm", "rms"])[columns]
        return trials.groupby("arm").head(best or len(trials)).reset_index(drop=True)

    def selected(self) -> pd.DataFrame:
        """The settings of each tuned arm under both protocols, with the number of trials."""
        rows = []
        role = self.study.profile(self.profile).selects
        trials: dict[str, set[str]] = {}
        for entry in self.plan.entries:
            if entry.role == role:
                trials.setdefault(entry.arm, set()).add(entry.trial)
        for arm in self.study.arms:
            if not arm.tunes:
                continue
            tuned = self.plan.selected.get(arm.name)
            rows.append(
                {
                    "arm": arm.name,
                    "matched": in_words(arm.matched),
                    "tuned": in_words(tuned) if tuned else "not yet tuned",
                    "trials": len(trials.get(arm.name, ())),
                    "best is interior": arm.name not in self.plan.on_edge if tuned else False,
                }
            )
        return pd.DataFrame(rows)

    def departures(self) -> pd.DataFrame:
        """The table of choices that the paper leaves open or that we made differently."""
        return pd.DataFrame(
            {"choice": departure.choice, "reason": departure.reason}
            for departure in self.study.departures
        )

    def alternatives(self) -> pd.DataFrame:
        """What each choice changes: an arm's matched runs as chosen, and with each alternative.

        Costs are means over the same few seeds; the distance is the root mean square to the
        paper's curve. Empty where the profile does not measure alternatives.
        """
        trials = self.trials("departure")
        rows = []
        for arm in self.study.arms:
            others = trials[trials["arm"] == arm.name]
            if others.empty:
                continue
            matched = self.matrix("matched", arm.name)
            seeds = {e.run.seed for e, _ in self.recorded("departure", arm=arm.name)}
            ours = matched.loc[[seed for seed in matched.index if seed in seeds]].to_numpy()
            if len(ours) < len(seeds):  # they are compared at equal seeds
                continue
            curve = ours.mean(axis=0)[: self.study.profile(self.profile).fit_epochs]
            rms, _ = distance(self.study.panel, arm.name, curve)
            measured: list[dict[Any, Any]] = [
                {"trial": "as chosen", "first_cost": curve[0], "final_cost": curve[-1], "rms": rms}
            ]
            for row in measured + others.to_dict("records"):
                rows.append(
                    {
                        "arm": arm.name,
                        "with": row["trial"],
                        "first pass": row["first_cost"],
                        "last pass": row["final_cost"],
                        "distance": row["rms"],
                    }
                )
        return pd.DataFrame(rows)


def results(
    study: Study, profile: str, data: str, records: Records, *, published: bool = False
) -> Results:
    """The results of a study from the records that exist; nothing is trained.

    Args:
        study: the declaration.
        profile: one of its profiles.
        data: the data set, or its stand-in.
        records: where the records are.
        published: whether these are the published ones.
    """
    return Results(study, profile, data, records, plan(study, profile, data, records), published)


def _joined(frames: Sequence[pd.DataFrame], columns: Sequence[str]) -> pd.DataFrame:
    """Several tables as one; without any, an empty table with these columns."""
    full = [frame for frame in frames if len(frame)]
    return pd.concat(full, ignore_index=True) if full else pd.DataFrame(columns=list(columns))


def _finished(record: Mapping[str, Any]) -> bool:
    return record["status"] == "finished"


def _diverged_at_once(record: Mapping[str, Any]) -> bool:
    """In its first pass: the record then names the costs only, whatever else was measured."""
    return not _finished(record) and not any(record["metrics"].values())


@functools.cache
def paper_curve(panel: str, arm: str) -> pd.Series:
    """The paper's own curve: training cost by pass."""
    return pd.Series(digitised.points(panel, arm))


def gaps(panel: Panel, arm: str, curve: np.ndarray, first: int, last: int) -> np.ndarray:
    """|curve - the paper's| at the passes of both, in nats; of logarithms if the axis is one.

    Args:
        panel: the paper's.
        arm: whose curve to compare with.
        curve: costs, with passes along the last axis.
        first: the first pass to compare.
        last: the last one.
    """
    paper = digitised.points(panel.name, arm)
    curve = np.asarray(curve, float)
    passes = [int(x) for x in paper if first <= x <= min(last, curve.shape[-1] - 1)]
    ours, theirs = curve[..., passes], np.array([paper[x] for x in passes])
    return np.abs(np.log(ours) - np.log(theirs)) if panel.log else np.abs(ours - theirs)


def distance(panel: Panel, arm: str, curve: np.ndarray | None) -> tuple[float, float]:
    """Root mean square and largest of `gaps` between a curve and the paper's, from `panel.first`.

    Infinite for a diverged run, NaN if there is no pass in common.

    Args:
        panel: the paper's.
        arm: whose curve to compare with.
        curve: costs by pass; None for a diverged run.
    """
    if curve is None:
        return math.inf, math.inf
    gap = gaps(panel, arm, curve, panel.first, len(curve))
    if not gap.size:
        return math.nan, math.nan
    return float(np.sqrt(np.mean(gap**2))), float(gap.max())


def of_equal_seeds(values: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """Blocks of passes that equally many seeds have reached; a row per seed (NaN: not reached)."""
    reached = values.notna().sum()
    for n in sorted(set(reached[reached > 0]), reverse=True):
        yield values.loc[:, reached == n].dropna()
