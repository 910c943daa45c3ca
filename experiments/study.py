"""What a study declares, and the runs that follow from it.

A `Study` declares one figure of the paper: the problem, the compared arms, the profiles and the
departures. `plan`, a pure function, turns the declaration and the records that exist into the runs
still to train: a further round of a tuning grid, and the runs of the tuned settings, appear once
the records they depend on exist. To run a study is to train what the plan lacks, and plan again.

Only the standard library is imported here: planning a study takes milliseconds.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from experiments.data import catalogue
from experiments.methods import optimizers
from experiments.options import known
from experiments.problems import registry as problems

Settings = Mapping[str, Any]

PROTOCOLS = ("matched", "tuned")
# Raise a component's version when a change to it changes its results: earlier records then no
# longer count. Refactorings leave the versions alone.
NUMERICS: dict[str, int] = {"training": 1, "drift": 2, "step_sizes": 2}

FIRST_TUNING_SEED = 1000  # tuning never sees the seeds that are reported


@dataclass(frozen=True)
class Run:
    """One training, as plain data: everything that determines its numbers, and nothing else.

    Attributes:
        problem: a key of `experiments.problems.registry.PROBLEMS`.
        options: keyword arguments of the problem, for example the L2 coefficient.
        data: a data set or its stand-in, for example "mnist" or "mnist-stand-in".
        optimizer: a key of `experiments.methods.optimizers.OPTIMIZERS`.
        settings: keyword arguments of the optimizer, for example the learning rate.
        batch_size: examples per step.
        epochs: passes over the training set.
        seed: determines initial weights, batch order and all noise, the same for every optimizer.
    """

    problem: str
    options: Settings
    data: str
    optimizer: str
    settings: Settings
    batch_size: int
    epochs: int
    seed: int

    def config(self) -> dict[str, Any]:
        """The run as a JSON object, with the data's fingerprint and the numerics versions."""
        parts = ("training", self.problem, self.optimizer)
        return {
            **{name: getattr(self, name) for name in _FIELDS},
            "options": dict(self.options),
            "settings": dict(self.settings),
            "data_fingerprint": catalogue.fingerprint(self.data),
            "numerics": {part: NUMERICS.get(part, 1) for part in parts},
        }

    def facts(self, *, options: str = "", settings: str = "") -> dict[str, Any]:
        """What the run is, by name; the arguments prefix the names of options and settings."""
        return {
            "run": self.id,
            "problem": self.problem,
            **{options + name: value for name, value in self.options.items()},
            "data": self.data,
            "optimizer": self.optimizer,
            **{settings + name: value for name, value in self.settings.items()},
            "batch_size": self.batch_size,
            "epochs": self.epochs,
            "seed": self.seed,
        }

    @functools.cached_property
    def id(self) -> str:
        """Sixteen hexadecimal digits that name this run."""
        return config_id(self.config())

    @functools.cached_property
    def lineage(self) -> str:
        """An id shared by runs that differ only in length: a longer one continues a shorter one."""
        return config_id({**self.config(), "epochs": None})

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Run:
        """The inverse of `config`."""
        return cls(**{name: config[name] for name in _FIELDS})


_FIELDS = tuple(field.name for field in dataclasses.fields(Run))
_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)


def config_id(config: Mapping[str, Any]) -> str:
    """The id of a run from its configuration: a hash of canonical JSON."""
    return hashlib.sha256(_CANONICAL.encode(config).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Arm:
    """One compared method, in one variant of the problem; one line of the figure.

    Attributes:
        name: the method's name as in the paper's legend, with "+VARIANT" where there are variants:
            "Adam", "Adam+dropout". Also the name of its digitised curve.
        optimizer: a key of `experiments.methods.optimizers.OPTIMIZERS`.
        matched: settings fitted to the paper's curve (the `matched` protocol); where it shows none,
            the paper's default settings.
        fit: values tried for that fit, by setting; every combination is trained.
        tune: what the `tuned` protocol tries: `learning_rate` is the centre of its log grid, any
            other setting lists its values. Settings named in neither are the optimizer's defaults.
            A method with nothing to tune uses its matched settings under both protocols.
        search: the candidates of a search by successive halving (profiles with `rungs`), which
            replaces `fit` and `tune`: blocks of settings with their values, where every combination
            in a block is a candidate. The learning rates of a block are neighbours on the ladder
            1, 3, 10, so that it can grow at either end.
        grid: where the paper's figure is itself a grid: the values of each setting. Every
            combination is trained with every reported seed, under no protocol but the paper's.
        options: problem options of this arm's variant, for example a dropout rate.
        batch_size: examples per step, where its variant is a size of batches; 0: the study's.
        plotted: whether the paper's figure shows this arm.
    """

    name: str
    optimizer: str
    matched: Settings = field(default_factory=dict)
    fit: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    tune: Mapping[str, Any] = field(default_factory=dict)
    search: tuple[Mapping[str, Sequence[Any]], ...] = ()
    grid: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    options: Settings = field(default_factory=dict)
    batch_size: int = 0
    plotted: bool = True

    @property
    def method(self) -> str:
        """The method without its variant: "Adam" for "Adam+dropout"."""
        return self.name.partition("+")[0]

    @property
    def variant(self) -> str:
        """The variant alone: "dropout" for "Adam+dropout", "" for "Adam"."""
        return self.name.partition("+")[2]

    @property
    def declared(self) -> dict[str, Any]:
        """Its settings before anything is searched.

        The matched ones; else the first of its grid; else the centre of what is tuned.
        """
        centre = {k: v if k == "learning_rate" else v[0] for k, v in self.tune.items()}
        return dict(self.matched or (combinations(self.grid)[0] if self.grid else centre))

    @property
    def tunes(self) -> bool:
        """Whether it has anything to tune."""
        return bool(self.tune or self.search)


@dataclass(frozen=True)
class Alternative:
    """What could have been done instead; its effect on an arm's matched runs is measured.

    Attributes:
        name: the alternative in words.
        arm: the arm whose matched runs it changes.
        options: the problem options it changes.
        settings: the optimizer settings it changes.
    """

    name: str
    arm: str
    options: Settings = field(default_factory=dict)
    settings: Settings = field(default_factory=dict)


@dataclass(frozen=True)
class Departure:
    """A choice that the paper leaves open, or that we make differently.

    Attributes:
        choice: what we do.
        reason: why we do it.
        alternatives: what is tried instead; none where there is nothing to measure.
    """

    choice: str
    reason: str
    alternatives: tuple[Alternative, ...] = ()


@dataclass(frozen=True)
class Profile:
    """How much of a study to run; never which code runs.

    Attributes:
        epochs: passes over the training set.
        seeds: seeds reported for each arm and protocol.
        whole_seeds: how many of them go beyond the `stages`, to the full length; None: all.
        tuning_seeds: seeds that each trial of the tuning grid is averaged over.
        points_per_decade: density of the learning-rate grid.
        window: learning rates each arm's grid starts with.
        rounds: how often the grids may grow; one that is still too narrow after that is reported.
        fit_seeds: seeds for the fit to the paper's curve and for measured departures; 0 leaves
            both out.
        options: problem options that shorten the study, for example fewer training examples.
        grid: values that replace those of the arms' grids.
        stages: shorter lengths that every reported run is also trained to, before the full one,
            so that the figure's first passes are complete long before its last.
        rungs: passes after which a search by successive halving drops candidates; the last rung is
            the whole length. Empty: arms are tuned on plain grids alone.
        searching: whether that search is under way: its runs are planned and published, but the
            plain grid still selects the tuned settings.
        tuning_epochs: passes of a tuning trial, whose last pass decides; None: all of them.
        fit_epochs: passes of a fitting run and of a measured alternative; None: all of them.
    """

    epochs: int
    seeds: int
    tuning_seeds: int = 1
    points_per_decade: int = 1
    window: int = 3
    rounds: int = 12
    fit_seeds: int = 0
    options: Settings = field(default_factory=dict)
    grid: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    stages: tuple[int, ...] = ()
    rungs: tuple[int, ...] = ()
    searching: bool = False
    tuning_epochs: int | None = None
    fit_epochs: int | None = None
    whole_seeds: int | None = None

    @property
    def selects(self) -> str:
        """The role of the runs that select the tuned settings: "search" or "tuning"."""
        return "search" if self.rungs and not self.searching else "tuning"

    def reported(self) -> Iterator[tuple[int, int]]:
        """The passes and the seed of each reported run of an arm: short ones first."""
        for epochs in (*self.stages, self.epochs):
            for seed in range(self.seeds_to(epochs)):
                yield epochs, seed

    def seeds_to(self, passes: int) -> int:
        """How many seeds are trained for so many passes."""
        short = passes <= max(self.stages, default=0)
        return self.seeds if short or self.whole_seeds is None else self.whole_seeds


@dataclass(frozen=True)
class Panel:
    """One panel of the paper's figure.

    Attributes:
        name: the panel in `paper/curves.csv`.
        x: limits of its axis of passes.
        y: limits of its axis of costs.
        log: whether the cost is on a logarithmic scale.
        title: what the panel shows, where a figure has several.
        points: of a grid: the step sizes at which the paper's curves have points.
        clock: whether x is wall time, in passes of the study's first arm, instead of passes.
        first: the pass from which settings are fitted to the paper's curves; the passes before it
            are the steepest, and say more about the start than about the settings.
    """

    name: str
    x: tuple[float, float]
    y: tuple[float, float]
    log: bool = False
    title: str = ""
    points: tuple[float, ...] = ()
    clock: bool = False
    first: int = 3


@dataclass(frozen=True)
class Study:
    """One figure of the paper.

    Attributes:
        name: what the command line calls it.
        title: one line for people.
        section: where in the paper.
        problem: a key of `experiments.problems.registry.PROBLEMS`.
        options: its keyword arguments.
        data_set: a key of `experiments.data.catalogue.DATASETS`, or "none".
        batch_size: examples per step, unless an arm has its own.
        arms: the compared methods.
        profiles: by name: smoke, quick, paper.
        panels: the panels of the paper's figure; the last one shows the most passes.
        departures: the table of choices.
        notebook: the page that shows it, a file of `notebooks/` without its ending.
        step_ms: milliseconds per step (of a measurement, per epoch) on the reference machine with
            2 cores, for time estimates until there are records.
    """

    name: str
    title: str
    section: str
    problem: str
    options: Settings
    data_set: str
    batch_size: int
    arms: tuple[Arm, ...]
    profiles: Mapping[str, Profile]
    panels: tuple[Panel, ...]
    departures: tuple[Departure, ...]
    notebook: str
    step_ms: float

    @property
    def panel(self) -> Panel:
        """The panel that claims and distances to the paper are computed on: the last."""
        return self.panels[-1]

    @property
    def measured(self) -> bool:
        """Whether its runs measure instead of train, and record rows instead of passes."""
        return problems.PROBLEMS[self.problem].measured

    @property
    def in_paper(self) -> bool:
        """Whether the paper has a figure of it."""
        return self.fitted or any(panel.points for panel in self.panels)

    @property
    def fitted(self) -> bool:
        """Whether the paper shows curves, to which the matched settings are fitted."""
        return any(arm.plotted and arm.matched for arm in self.arms)

    @property
    def tunes(self) -> bool:
        """Whether any of its arms is tuned."""
        return any(arm.tunes for arm in self.arms)

    def arm(self, name: str) -> Arm:
        """The arm of that name."""
        arms = {arm.name: arm for arm in self.arms}
        return arms[known("arm", name, arms)]

    def profile(self, name: str) -> Profile:
        """The profile of that name."""
        return self.profiles[known("profile", name, self.profiles)]

    def run(
        self,
        arm: Arm,
        settings: Settings,
        *,
        profile: Profile,
        data: str,
        seed: int,
        options: Settings | None = None,
        epochs: int | None = None,
    ) -> Run:
        """The run of one arm at one setting and seed.

        Args:
            arm: one of `arms`.
            settings: the optimizer's.
            profile: one of `profiles`.
            data: the data set, or its stand-in.
            seed: see `Run`.
            options: problem options beside those of the study, the arm and the profile.
            epochs: the first passes to train, at most those of the profile; None: all.
        """
        merged = {**self.options, **arm.options, **(options or {}), **profile.options}
        _check_options(self.problem, *_hashable(merged))
        _check_settings(arm.optimizer, *_hashable(settings))
        return Run(
            problem=self.problem,
            options=merged,
            data=data,
            optimizer=arm.optimizer,
            settings=dict(settings),
            batch_size=arm.batch_size or self.batch_size,
            epochs=min(epochs or profile.epochs, profile.epochs),
            seed=seed,
        )


def _hashable(values: Settings) -> tuple[tuple, tuple]:
    """Names with values, and the types: 1, 1.0 and True differ only in type."""
    return tuple(values.items()), tuple(map(type, values.values()))


@functools.lru_cache(maxsize=4096)
def _check_options(problem: str, options: tuple[tuple[str, Any], ...], types: tuple) -> None:
    """Check options only once, however many runs share them."""
    problems.check_options(problem, dict(options))


@functools.lru_cache(maxsize=4096)
def _check_settings(optimizer: str, settings: tuple[tuple[str, Any], ...], types: tuple) -> None:
    """The same for the settings of an optimizer."""
    optimizers.check_settings(optimizer, dict(settings))


class Records(Protocol):
    """What planning needs to know of the records: see `experiments.records.store`."""

    def get(self, run_id: str, /) -> dict[str, Any] | None:
        """The record of a run, or None."""


@dataclass(frozen=True)
class Entry:
    """A planned run and what it is for.

    Attributes:
        role: "matched", "tuned", "grid", "search", "tuning", "fit" or "departure".
        arm: name of the arm.
        trial: what the seeds of one setting share: its text, or the alternative's name.
        run: the run.
    """

    role: str
    arm: str
    trial: str
    run: Run


@dataclass(frozen=True)
class Plan:
    """The runs of a study at a profile, as far as the records determine them.

    Attributes:
        entries: every run known to be needed, done or not.
        later: how many runs are sure to follow, once the tuning grid or a rung is complete.
        selected: by arm, the tuned settings; empty until what selects them is complete.
        on_edge: arms whose best learning rate is still an end of their grid.
        nearest: by arm, what `matched` should be: a complete search's nearest to the paper's curve.
        shortened: ids of runs that a longer one may continue, so that their last state is kept.
        promoted: of those that follow, how many are of a search, by their passes.
    """

    entries: tuple[Entry, ...]
    later: int
    selected: Mapping[str, Settings]
    on_edge: tuple[str, ...]
    nearest: Mapping[str, Settings] = field(default_factory=dict)
    shortened: frozenset[str] = frozenset()
    promoted: Mapping[int, int] = field(default_factory=dict)

    def runs(self, *roles: str) -> list[Run]:
        """The distinct runs with one of these roles (all roles if none is named)."""
        chosen = (entry for entry in self.entries if not roles or entry.role in roles)
        return list({entry.run.id: entry.run for entry in chosen}.values())

    def uses(self) -> dict[str, tuple[str, str]]:
        """The arm and the role of each run, by its id; several are joined in one line of text."""
        found: dict[str, list[Entry]] = {}
        for entry in self.entries:
            found.setdefault(entry.run.id, []).append(entry)
        return {
            run_id: (
                "; ".join(dict.fromkeys(entry.arm for entry in entries)),
                "; ".join(dict.fromkeys(entry.role for entry in entries)),
            )
            for run_id, entries in found.items()
        }

    def missing(self, records: Records, *roles: str) -> list[Run]:
        """The runs among them that have no record yet."""
        return [run for run in self.runs(*roles) if records.get(run.id) is None]


def combinations(values: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Every combination of the listed values: {"a": (1, 2), "b": (3,)} -> [{a: 1, b: 3}, ...]."""
    return [dict(zip(values, each, strict=True)) for each in itertools.product(*values.values())]


def describe(settings: Settings) -> str:
    """Settings as one line of text."""
    return ", ".join(f"{name}={value}" for name, value in settings.items())


def final_cost(record: Mapping[str, Any] | None) -> float | None:
    """The training cost of a record's last pass; infinite if it diverged; None without a record."""
    if record is None:
        return None
    if record["status"] == "diverged":
        return math.inf
    return record["metrics"]["training_cost"][-1]
