"""Checks of a declared study: what an author may mistype is named in one line.

What a run is given is checked when it is planned (`Study.run`); this tells all of it at once, and
in which study and arm it is.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from experiments.data import catalogue
from experiments.methods import optimizers
from experiments.options import Interval, known
from experiments.paper import curves
from experiments.problems import registry as problems
from experiments.search import check_numbers, neighbour
from experiments.study import Arm, Profile, Settings, Study, combinations

PROFILES = ("smoke", "quick", "paper")
COUNT, NONE_OR_MORE = Interval(1, whole=True), Interval(0, whole=True)
OR_NONE = ("tuning_epochs", "fit_epochs", "whole_seeds")
NUMBERS = {
    **dict.fromkeys(("epochs", "seeds", "tuning_seeds", "points_per_decade", "window"), COUNT),
    **dict.fromkeys(("rounds", "fit_seeds"), NONE_OR_MORE),
    **dict.fromkeys(OR_NONE, COUNT),
}


def check(study: Study) -> None:
    """Raise a ValueError of one line if a study is not declared as it must be."""
    try:
        _check_study(study)
        for name, profile in study.profiles.items():
            _within(f"profile {name}", _check_profile, study, profile)
        for arm in study.arms:
            _within(f"arm {arm.name!r}", _check_arm, study, arm)
        _check_candidates(study)
        for alternative in (a for departure in study.departures for a in departure.alternatives):
            arm = study.arm(alternative.arm)
            optimizers.check_settings(arm.optimizer, {**arm.matched, **alternative.settings})
            problems.check_options(study.problem, alternative.options)
    except ValueError as error:
        raise ValueError(f"study {study.name!r}: {error}") from None


def _within(where: str, function: Any, *arguments: Any) -> None:
    try:
        function(*arguments)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _check_study(study: Study) -> None:
    if not re.fullmatch(r"[a-z0-9-]+", study.name):
        raise ValueError("its name is also that of files: use small letters, digits and hyphens")
    known("problem", study.problem, problems.PROBLEMS)
    known("data set", study.data_set, [*catalogue.DATASETS, catalogue.NONE])
    problems.check_options(study.problem, study.options)
    if study.notebook.endswith(".ipynb"):
        raise ValueError(f"notebook={study.notebook!r} is not valid: leave out .ipynb")
    if study.step_ms not in Interval(0, open="("):
        raise ValueError(f"step_ms={study.step_ms!r} is not valid: use a finite number > 0")
    _whole("batch_size", study.batch_size, NONE_OR_MORE if study.measured else COUNT)
    for name in ("arms", "panels"):
        if not getattr(study, name):
            raise ValueError(f"it has no {name}: declare at least one")
    names = Counter(arm.name for arm in study.arms)
    if twice := [name for name, number in names.items() if number > 1]:
        raise ValueError(f"two arms are called {twice[0]!r}: give one another name")
    for name in study.profiles:
        known("profile", name, PROFILES)
    if lacking := [name for name in PROFILES if name not in study.profiles]:
        raise ValueError(f"it lacks the profile {lacking[0]}; declare {', '.join(PROFILES)}")


def _whole(name: str, value: object, allowed: Interval) -> None:
    if value not in allowed:
        raise ValueError(f"{name}={value!r} is not valid: use {allowed}")


def _check_profile(study: Study, profile: Profile) -> None:
    for name, allowed in NUMBERS.items():
        value = getattr(profile, name)
        if value is not None or name not in OR_NONE:
            _whole(name, value, allowed)
    stages, rungs = list(profile.stages), list(profile.rungs)
    if stages != sorted(set(stages)) or not all(0 < each < profile.epochs for each in stages):
        raise ValueError(f"stages={profile.stages} must rise, below epochs={profile.epochs}")
    if rungs and (rungs != sorted(set(rungs)) or rungs[0] < 1 or rungs[-1] != profile.epochs):
        raise ValueError(f"rungs={profile.rungs} must rise, and end at epochs={profile.epochs}")
    problems.check_options(study.problem, profile.options)


def _check_arm(study: Study, arm: Arm) -> None:
    if not arm.name or ":" in arm.name:
        raise ValueError("a name has letters, and no colon: `compare` takes STUDY:ARM")
    known("optimizer", arm.optimizer, optimizers.OPTIMIZERS)
    problems.check_options(study.problem, arm.options)
    _whole("batch_size", arm.batch_size, NONE_OR_MORE)
    if not any((arm.matched, arm.tune, arm.grid, arm.search)):
        raise ValueError("there is nothing to train: give it matched, tune, grid or search")
    for settings in _tried(arm):
        optimizers.check_settings(arm.optimizer, settings)
    for block in arm.search:
        rates = block["learning_rate"]
        above = [neighbour(rate, up=True) for rate in rates]
        if list(rates[1:]) != above[:-1]:
            raise ValueError(
                f"search has learning_rate={rates}: give neighbours on the ladder 1, 3, 10, rising"
            )
    shown = [f"{passes}ep/{arm.name}" for passes in (10, 100)] if arm.grid else [arm.name]
    names = [panel.name for panel in study.panels]
    if arm.plotted and not any(curves.shows(panel, curve) for panel in names for curve in shown):
        raise ValueError("the paper shows no curve of it: give it plotted=False")


def _check_candidates(study: Study) -> None:
    """Every tuned arm enters the same number of candidates into a search."""
    if not any(arm.search for arm in study.arms):
        if rungs := [name for name, profile in study.profiles.items() if profile.rungs]:
            raise ValueError(f"profile {rungs[0]}: rungs need arms with `search`")
        return
    check_numbers(arm for arm in study.arms if arm.search or arm.tune)


def _tried(arm: Arm) -> Iterator[Settings]:
    """The settings that a plan begins with, one for each combination of what is declared."""
    if arm.matched:
        yield arm.matched
    if arm.tune:
        centre = arm.tune.get("learning_rate")
        if not isinstance(centre, int | float):
            raise ValueError(
                f"tune has learning_rate={centre!r}: give one number, the centre of its grid"
            )
        others = {name: values for name, values in arm.tune.items() if name != "learning_rate"}
        yield from ({"learning_rate": centre, **each} for each in _combined("tune", others))
    searched = [("search", block) for block in arm.search]
    for name, listed in (("fit", arm.fit), ("grid", arm.grid), *searched):
        yield from _combined(name, listed) if listed else ()


def _combined(name: str, values: Mapping[str, Sequence[Any]]) -> Iterable[dict[str, Any]]:
    for key, listed in values.items():
        if isinstance(listed, str) or not isinstance(listed, Sequence) or not listed:
            raise ValueError(f"{name} has {key}={listed!r}: give a list of values")
    return combinations(values)
