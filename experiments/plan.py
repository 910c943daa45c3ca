"""Planning: from a declaration and the existing records to the runs that are needed."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping

from experiments import search
from experiments.study import (
    FIRST_TUNING_SEED,
    PROTOCOLS,
    Entry,
    Plan,
    Profile,
    Records,
    Settings,
    Study,
    combinations,
    describe,
    final_cost,
)

START_SECONDS = 1.5  # of a run, in estimates of its time: data, model, compilation


def plan(
    study: Study,
    profile_name: str,
    data: str,
    records: Records,
    protocols: Iterable[str] = PROTOCOLS,
) -> Plan:
    """The runs that `study` needs at a profile, given the records that exist.

    Tuning: every arm starts with a grid of `window` learning rates centred on its declared value,
    times the values of its other tuned settings. While any arm's best trial is at an end of its
    grid, every arm's grid grows by one learning rate on the side nearer to its own best; so all
    arms always have the same number of trials. A trial's score is the training cost of its last
    pass, averaged over the tuning seeds; a diverged trial counts as infinite. Profiles with `rungs`
    search by successive halving as well (`experiments.search`), and once it is no longer under way,
    it selects; the grid stays, to show what constant step sizes reach.

    Args:
        study: the declaration.
        profile_name: one of its profiles.
        data: the data set, or its stand-in.
        records: those that exist.
        protocols: which of `PROTOCOLS` to plan for.
    """

    profile = study.profile(profile_name)
    protocols = set(protocols)
    entries = list(_grid(study, profile, data))
    if "matched" in protocols:
        entries += _matched(study, profile, data)
    selected: Mapping[str, Settings] = {}
    on_edge: tuple[str, ...] = ()
    nearest: Mapping[str, Settings] = {}
    promoted: Mapping[int, int] = {}
    later = 0
    if "tuned" in protocols:
        trials, selected, on_edge = _tuning(study, profile, data, records)
        entries += trials
        tuned = sum(bool(arm.tune) for arm in study.arms)
        if profile.rungs:
            found = search.halving(study, profile, data, records)
            entries = [*found.entries, *entries]
            nearest, promoted = found.nearest, found.later
            later = sum(promoted.values())
            tuned = sum(bool(arm.search) for arm in study.arms)
            if profile.selects == "search":
                selected, on_edge = found.selected, found.on_edge
        entries += _reported(study, selected, profile, data, "tuned")
        later += 0 if selected else tuned * len(list(profile.reported()))
    lengths = {*profile.stages, *profile.rungs[:-1]}
    roles = ("matched", "tuned", "grid", "search")
    shortened = frozenset(e.run.id for e in entries if e.role in roles and e.run.epochs in lengths)
    return Plan(tuple(entries), later, selected, on_edge, nearest, shortened, promoted)


def _reported(
    study: Study, settings: Mapping[str, Settings], profile: Profile, data: str, role: str
) -> Iterator[Entry]:
    """The reported runs of these arms: short ones first, then one seed at a time for all arms."""
    make = functools.partial(study.run, profile=profile, data=data)
    for epochs, seed in profile.reported():
        for name, chosen in settings.items():
            run = make(study.arm(name), chosen, seed=seed, epochs=epochs)
            yield Entry(role, name, describe(chosen), run)


def _grid(study: Study, profile: Profile, data: str) -> Iterator[Entry]:
    """The paper's own grid, one seed at a time, so that every setting has its first seed early."""
    for epochs, seed in profile.reported():
        for arm in study.arms:
            for settings in combinations({**arm.grid, **profile.grid}) if arm.grid else ():
                run = study.run(arm, settings, profile=profile, data=data, seed=seed, epochs=epochs)
                yield Entry("grid", arm.name, describe(settings), run)


def _matched(study: Study, profile: Profile, data: str) -> Iterator[Entry]:
    matched = {arm.name: arm.matched for arm in study.arms if arm.matched}
    yield from _reported(study, matched, profile, data, "matched")
    make = functools.partial(study.run, profile=profile, data=data, epochs=profile.fit_epochs)
    for seed in range(FIRST_TUNING_SEED, FIRST_TUNING_SEED + profile.fit_seeds):
        for arm in study.arms:
            for settings in combinations(arm.fit) if arm.fit else ():
                yield Entry("fit", arm.name, describe(settings), make(arm, settings, seed=seed))
    for alternative in (a for departure in study.departures for a in departure.alternatives):
        arm = study.arm(alternative.arm)
        settings = {**arm.matched, **alternative.settings}
        for seed in range(profile.fit_seeds):
            run = make(arm, settings, seed=seed, options=alternative.options)
            yield Entry("departure", arm.name, alternative.name, run)


def _tuning(
    study: Study, profile: Profile, data: str, records: Records
) -> tuple[list[Entry], dict[str, Settings], tuple[str, ...]]:
    """The trials; once all of them have records, the selection and the arms on an edge."""
    density, half = profile.points_per_decade, profile.window // 2
    make = functools.partial(study.run, profile=profile, data=data, epochs=profile.tuning_epochs)
    window = {}
    arms = [arm for arm in study.arms if arm.tune]
    for arm in arms:
        low = round(density * math.log10(arm.tune["learning_rate"])) - half
        window[arm.name] = (low, low + profile.window - 1)
    for round_number in range(profile.rounds + 1):
        entries: list[Entry] = []
        best: dict[str, tuple[float, int, Settings]] = {}
        complete = True
        for arm in arms:
            low, high = window[arm.name]
            others = combinations({k: v for k, v in arm.tune.items() if k != "learning_rate"})
            for k, other in itertools.product(range(low, high + 1), others):
                settings = {"learning_rate": lattice(k, density), **other}
                costs = []
                for seed in range(FIRST_TUNING_SEED, FIRST_TUNING_SEED + profile.tuning_seeds):
                    run = make(arm, settings, seed=seed)
                    entries.append(Entry("tuning", arm.name, describe(settings), run))
                    costs.append(final_cost(records.get(run.id)))
                done = [cost for cost in costs if cost is not None]
                complete &= len(done) == len(costs)
                score = sum(done) / len(costs)
                if arm.name not in best or score < best[arm.name][0]:
                    best[arm.name] = (score, k, settings)
        if not complete:
            best = {}
        on_edge = tuple(name for name, (_, k, _) in best.items() if k in window[name])
        if not on_edge or round_number == profile.rounds:
            break
        for name, (low, high) in window.items():
            k = best[name][1]
            window[name] = (low - 1, high) if k - low < high - k else (low, high + 1)
    return entries, {name: settings for name, (_, _, settings) in best.items()}, on_edge


def lattice(k: int, points_per_decade: int) -> float:
    """The k-th learning rate of the common log grid: 10^(k / points_per_decade), to 4 digits."""
    return float(f"{10 ** (k / points_per_decade):.4g}")
