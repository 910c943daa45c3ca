"""Checks of a declared study: what an author may mistype is named in one line.

What a run is given is checked when it is planned (`Study.run`); this tells all of it at once, and
in which study and arm it is.
"""

from __future__ import annotations

import ast
import functools
import inspect
import math
import re
import reprlib
import typing
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.data import catalogue
from experiments.methods import optimizers
from experiments.options import Interval, check_value, declared, known
from experiments.paper import curves
from experiments.problems import registry as problems
from experiments.problems.options import Options
from experiments.search import check_numbers, neighbour
from experiments.study import (
    Alternative,
    Arm,
    Departure,
    Panel,
    Profile,
    Settings,
    Study,
    combinations,
)

PROFILES = ("smoke", "quick", "paper")
COUNT, NONE_OR_MORE = Interval(1, whole=True), Interval(0, whole=True)
OR_NONE = ("tuning_epochs", "fit_epochs", "whole_seeds")
NUMBERS = {
    **dict.fromkeys(("epochs", "seeds", "tuning_seeds", "points_per_decade", "window"), COUNT),
    **dict.fromkeys(("rounds", "fit_seeds"), NONE_OR_MORE),
    **dict.fromkeys(OR_NONE, COUNT),
}
# The types of the fields, by the declared class.
TYPES: dict[type, dict[str, Any]] = {
    kind: typing.get_type_hints(kind)
    for kind in (Study, Arm, Profile, Panel, Departure, Alternative)
}


def check(study: Study) -> None:
    """Raise a ValueError of one line if a study is not declared as it must be."""
    try:
        _check_study(study)
        for name, profile in study.profiles.items():
            _within(f"profile {name}", _check_profile, study, profile)
        for panel in study.panels:
            _within(f"panel {panel.name!r}", _check_panel, panel)
        for arm in study.arms:
            _within(f"arm {arm.name!r}", _check_arm, study, arm)
        _check_candidates(study)
        for departure in study.departures:
            _within("a departure", _check_types, departure)
            for alternative in departure.alternatives:
                _within("an alternative", _check_types, alternative)
                arm = study.arm(alternative.arm)
                optimizers.check_settings(arm.optimizer, {**arm.matched, **alternative.settings})
                problems.check_options(study.problem, alternative.options)
    except ValueError as error:
        raise ValueError(f"study {study.name!r}: {error}") from None


def _within(where: str, function: Callable[..., None], *arguments: Any) -> None:
    try:
        function(*arguments)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _check_types(given: Any) -> None:
    """Every field of a declaration must have the type it is declared with.

    Numbers are left to the checks that also know their limits.
    """
    for name, hint in TYPES[type(given)].items():
        value = getattr(given, name)
        if not _fits(value, hint):
            raise ValueError(f"{name}={_shown(value)} is not valid: use {_in_words(hint)}")


def _shown(value: object) -> str:
    shown = reprlib.Repr()
    shown.maxother = 60  # of an object such as an Arm
    return shown.repr(value)


def _fits(value: object, hint: Any) -> bool:
    kind, inner = typing.get_origin(hint), typing.get_args(hint)
    if kind is Mapping:
        return isinstance(value, Mapping) and all(
            isinstance(name, str) and (inner[1] is not Profile or isinstance(each, Profile))
            for name, each in value.items()
        )
    if kind is tuple:
        if not isinstance(value, tuple | list) or (inner[-1] is not ... and len(value) != 2):
            return False
        if inner[0] in (int, float):
            return all(each in Interval(-math.inf, whole=inner[0] is int) for each in value)
        return all(_fits(each, inner[0]) for each in value)
    return isinstance(value, hint) if hint not in _NUMBERS else True


_NUMBERS = (int, float, int | None, Any)


def _in_words(hint: Any) -> str:
    kind, inner = typing.get_origin(hint), typing.get_args(hint)
    if kind is Mapping:
        return "a dict of Profiles by name" if inner[1] is Profile else "a dict, {NAME: VALUE, ...}"
    if kind is tuple:
        each = {int: "whole numbers", float: "numbers"}.get(inner[0])
        if inner[-1] is not ...:
            return f"two {each}, (LOW, HIGH)"
        if not each:
            each = f"{inner[0].__name__}s" if inspect.isclass(inner[0]) else "dicts"
        return f"a tuple of {each}, with a comma after a single one"
    return {str: "text, in quotes", bool: "True or False"}[hint]


@functools.cache
def _check_method(name: str) -> None:
    """A method is a function, and its signature declares its settings."""
    method = optimizers.OPTIMIZERS[known("optimizer", name, optimizers.OPTIMIZERS)]
    where = f"OPTIMIZERS[{name!r}]"
    if not inspect.isfunction(method):
        raise ValueError(f"{where} is {_shown(method)}: enter the function itself, without ()")
    if method.__name__ != name:
        raise ValueError(f"{where} is the function {method.__name__}: enter it by its own name")
    first, *rest = inspect.signature(method).parameters.values() or (None,)
    if first is None or first.kind is not first.POSITIONAL_OR_KEYWORD:
        raise ValueError(f"{name}() takes no steps: write {name}(steps_per_epoch: int, *, ...)")
    if wrong := [each.name for each in rest if each.kind is not each.KEYWORD_ONLY]:
        raise ValueError(f"{name}() takes {wrong[0]} by position: put * before its settings")
    _check_signature(name, method)


def _check_signature(name: str, signature: Callable[..., Any]) -> None:
    """Every parameter says what it may be, and its default is that."""
    try:
        allowed = declared(signature)
    except (NameError, TypeError) as error:
        raise ValueError(f"{name}: {error}") from None
    for key, parameter in inspect.signature(signature).parameters.items():
        if key in allowed and parameter.default is not parameter.empty:
            check_value(name, key, parameter.default, signature)


@functools.cache
def _check_problem(name: str) -> None:
    """A problem's entry names a function that is there, and a class of options with defaults."""
    entry = problems.PROBLEMS[known("problem", name, problems.PROBLEMS)]
    where = f"problem {name}"
    if not isinstance(entry, problems.Entry):
        raise ValueError(f"{where} is {_shown(entry)}: use Entry(MODULE, FUNCTION, OPTIONS)")
    root = Path(__file__).parent
    folder, _, module = str(entry.module).rpartition(".")
    modules = [path.stem for path in (root / folder).glob("*.py")]
    known(f"module of {where} in experiments/{folder}", module, sorted(modules))
    path = root / folder / f"{module}.py"
    tree = ast.parse(path.read_bytes(), str(path))  # without importing it, and with it Keras
    functions = {each.name: each for each in tree.body if isinstance(each, ast.FunctionDef)}
    function = functions[known(f"function of {where} in {module}.py", entry.function, functions)]
    wanted = ["data", "seed", "options"]
    if entry.measured:
        wanted[2:2] = ["settings", "batch_size", "epochs"]
    given = function.args
    taken = len(given.posonlyargs + given.args)
    if not taken - len(given.defaults) <= len(wanted) <= (math.inf if given.vararg else taken):
        raise ValueError(f"{where}: {entry.function}() must take {', '.join(wanted)}")
    options = entry.options
    if not inspect.isclass(options) or not (entry.measured or issubclass(options, Options)):
        raise ValueError(f"{where} has options={_shown(options)}: use a class based on Options")
    if not hasattr(options, "__dataclass_fields__") or "__init__" not in vars(options):
        raise ValueError(f"{where}: write @dataclass(frozen=True, kw_only=True) above its options")
    _check_signature(name, options)
    parameters = inspect.signature(options).parameters.values()
    if bare := [each.name for each in parameters if each.default is each.empty]:
        raise ValueError(f"{where}: its option {bare[0]} needs a default")


def _check_study(study: Study) -> None:
    _check_types(study)
    if not re.fullmatch(r"[a-z0-9-]+", study.name):
        raise ValueError("its name is also that of files: use small letters, digits and hyphens")
    known("problem", study.problem, problems.PROBLEMS)
    _check_problem(study.problem)
    known("data set", study.data_set, [*catalogue.DATASETS, catalogue.NONE])
    problems.check_options(study.problem, study.options)
    if study.notebook.endswith(".ipynb"):
        raise ValueError(f"notebook={study.notebook!r} is not valid: leave out .ipynb")
    if not re.fullmatch(r"[\w-]+", study.notebook):
        raise ValueError(f"notebook={study.notebook!r} is not valid: name a page of notebooks/")
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
    _check_types(profile)
    for name, allowed in NUMBERS.items():
        value = getattr(profile, name)
        if value is not None or name not in OR_NONE:
            _whole(name, value, allowed)
    stages, rungs = list(profile.stages), list(profile.rungs)
    if stages != sorted(set(stages)) or not all(0 < each < profile.epochs for each in stages):
        raise ValueError(f"stages={profile.stages} must rise, below epochs={profile.epochs}")
    if rungs and (rungs != sorted(set(rungs)) or rungs[0] < 1 or rungs[-1] != profile.epochs):
        raise ValueError(f"rungs={profile.rungs} must rise, and end at epochs={profile.epochs}")
    for name, most in (*((name, "epochs") for name in OR_NONE[:2]), (OR_NONE[2], "seeds")):
        value, limit = getattr(profile, name), getattr(profile, most)
        if value is not None and value > limit:
            raise ValueError(f"{name}={value} is more than {most}={limit}: lower it")
    problems.check_options(study.problem, profile.options)
    if profile.grid:
        _combined("grid", profile.grid)
        if not any(arm.grid for arm in study.arms):
            raise ValueError("its grid replaces values of the arms' grids, and no arm has one")


def _check_panel(panel: Panel) -> None:
    _check_types(panel)
    _whole("first", panel.first, NONE_OR_MORE)
    for name in ("x", "y"):
        low, high = getattr(panel, name)
        if not low < high:
            raise ValueError(f"{name}={(low, high)} is not valid: use (LOW, HIGH)")
    if panel.log and panel.y[0] <= 0:
        raise ValueError(f"y={panel.y} is not valid: a logarithmic axis begins above 0")


def _check_arm(study: Study, arm: Arm) -> None:
    _check_types(arm)
    if not arm.name or ":" in arm.name:
        raise ValueError("a name has letters, and no colon: `compare` takes STUDY:ARM")
    _check_method(arm.optimizer)
    problems.check_options(study.problem, arm.options)
    _whole("batch_size", arm.batch_size, NONE_OR_MORE)
    _check_batches(study, arm)
    if not any((arm.matched, arm.tune, arm.grid, arm.search)):
        raise ValueError("there is nothing to train: give it matched, tune, grid or search")
    for settings in _tried(arm):
        optimizers.check_settings(arm.optimizer, settings)
    for profile in study.profiles.values():
        if arm.grid and profile.grid:
            for settings in combinations({**arm.grid, **profile.grid}):
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


def _check_batches(study: Study, arm: Arm) -> None:
    """A pass has at least one batch."""
    if study.measured:
        return
    size = arm.batch_size or study.batch_size
    for name, profile in study.profiles.items():
        given = {**study.options, **arm.options, **profile.options}
        examples = problems.PROBLEMS[study.problem].options(**given).train_examples
        if size > examples:
            raise ValueError(
                f"batch_size={size} is more than the {examples} training examples of profile {name}"
            )


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
