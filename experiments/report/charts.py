"""What the interactive charts show: curves, trials and grids, and the margins of claims."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from experiments.analysis import claims
from experiments.analysis.results import Results, paper_curve
from experiments.figures import style
from experiments.paper import curves as digitised
from experiments.report.summary import Part
from experiments.study import PROTOCOLS, Arm
from experiments.words import in_words


def data(found: Iterable[Results], parts: Iterable[Part]) -> dict[str, Any]:
    """Everything that the page of charts draws, as plain data.

    Returns:
        `studies`: for each study with curves or a grid, what its charts need; costs in nats, by
        pass. `claims`: for each claim with numbers, its rule and its interval under each protocol.
    """
    studies = [chart for results in found if (chart := _study(results))]
    return {"studies": studies, "claims": _claims(parts)}


def library() -> str:
    """The source of the charting library, for inclusion in the page."""
    from plotly.offline import get_plotlyjs

    source: str = get_plotlyjs()
    return source


def _study(results: Results) -> dict[str, Any] | None:
    study = results.study
    if study.measured:
        return None
    shown: dict[str, Any] = {
        "name": study.name,
        "title": study.title,
        "section": study.section,
        "page": study.notebook,
        "label": results.label[:1].upper() + results.label[1:],
        "log": study.panel.log,
        "standIn": results.stand_in,
    }
    if any("learning_rate" in arm.grid for arm in study.arms):
        shown["grid"] = _grid(results)
        return shown if shown["grid"] else None
    curves = [
        _curve(results, protocol, results.study.arm(str(name)), table)
        for protocol in PROTOCOLS
        if len(found := results.curves(protocol))
        for name, table in found.groupby("arm", sort=False)
    ]
    if not curves:
        return None
    return {**shown, "curves": curves, "paper": _paper(results), "trials": _trials(results)}


def _curve(results: Results, protocol: str, arm: Arm, table: pd.DataFrame) -> dict[str, Any]:
    """The mean cost of an arm by pass with its interval, and every seed's own."""
    table = table.sort_values("pass")
    seeds = results.matrix(protocol, arm.name)
    return {
        "protocol": protocol,
        "arm": arm.name,
        "colour": style.colour_of(arm.method),
        **{name: _short(table[name]) for name in ("mean", "low", "high")},
        "seeds": {str(seed): _short(row) for seed, row in seeds.iterrows()},
    }


def _paper(results: Results) -> list[dict[str, Any]]:
    """The paper's own curves, where results may be compared with them: not on stand-in data."""
    if results.stand_in:
        return []
    study = results.study
    panel = study.panel.name  # whose axis the chart has, and which shows the most passes
    shown = []
    for arm in study.arms:
        if digitised.shows(panel, arm.name):
            curve = paper_curve(panel, arm.name)
            x, y = _short(curve.index), _short(curve)
            shown.append({"arm": arm.name, "colour": style.colour_of(arm.method), "x": x, "y": y})
    return shown


def _trials(results: Results) -> list[dict[str, Any]]:
    """The trials of each tuned arm by learning rate: their longest runs, averaged over seeds."""
    kept: dict[tuple[str, str], dict[int, list[float]]] = {}
    settings: dict[tuple[str, str], dict[str, Any]] = {}
    for entry, record in results.recorded("tuning"):
        if "learning_rate" not in entry.run.settings:
            continue
        key = entry.arm, entry.trial
        costs = list(record["metrics"]["training_cost"])
        if record["status"] == "diverged":
            costs += [math.inf] * (entry.run.epochs - len(costs))
        seeds = kept.setdefault(key, {})
        if len(costs) > len(seeds.get(entry.run.seed, ())):
            seeds[entry.run.seed] = costs
        settings[key] = dict(entry.run.settings)
    rows = []
    for (arm, trial), seeds in kept.items():
        longest = max(map(len, seeds.values()))
        mean = pd.DataFrame([row for row in seeds.values() if len(row) == longest]).mean()
        rate = settings[arm, trial].pop("learning_rate")
        others = in_words(settings[arm, trial])
        rows.append(
            {
                "arm": arm,
                "colour": style.colour_of(results.study.arm(arm).method),
                "rate": rate,
                "others": others,
                "curve": _short(mean),
            }
        )
    return sorted(rows, key=lambda row: (row["arm"], row["others"], row["rate"]))


def _grid(results: Results) -> list[dict[str, Any]]:
    """The loss by step size of each arm, after each number of passes that was reached."""
    size = results.study.profile(results.profile)
    shown = []
    for passes in sorted({*size.stages, size.epochs}):
        table = results.grid(passes - 1)
        for arm in results.study.arms:
            mine = table[table["arm"] == arm.name].groupby("learning_rate")["loss"]
            if not len(mine):
                continue
            spread = mine.agg(["mean", "min", "max"])
            betas, _, kind = arm.name.rpartition("/")
            panel = results.study.panel.name
            line: dict[str, Any] = {
                "passes": passes,
                "betas": betas.replace("b1", "β₁").replace("b2", "β₂").replace("/", ", "),
                "corrected": kind == "biascorr",
                "colour": style.CORRECTED[kind],
                "rate": _short(spread.index),
                **{name: _short(spread[name]) for name in ("mean", "min", "max")},
            }
            curve = f"{passes}ep/{arm.name}"
            if digitised.shows(panel, curve) and not results.stand_in:
                paper = paper_curve(panel, curve)
                line["paper"] = {"rate": _short(10.0**paper.index), "loss": _short(paper)}
            shown.append(line)
    return shown


def _claims(parts: Iterable[Part]) -> list[dict[str, Any]]:
    shown = []
    for part in parts:
        for row in part.judged:
            claim = row.claim
            judged = {
                protocol: {
                    "value": _number(verdict.value),
                    "low": _number(verdict.low),
                    "high": _number(verdict.high),
                    "n": verdict.n,
                    "verdict": verdict.verdict,
                }
                for protocol, verdict in row.verdicts.items()
                if verdict.verdict and np.isfinite([verdict.value, verdict.low, verdict.high]).all()
            }
            if judged:
                shown.append(
                    {
                        "id": claim.id,
                        "part": part.title,
                        "reading": claim.reading,
                        "study": row.study.title,
                        "criterion": claim.criterion,
                        "rule": claim.rule,
                        "limit": claim.limit,
                        "fewest": claims.FEWEST_SEEDS,
                        "judged": judged,
                    }
                )
    return shown


def _short(values: Iterable[float]) -> list[float | None]:
    """Values to five digits, finer than any screen; those not finite are null, and leave a gap."""
    return [_number(value) for value in values]


def _number(value: float) -> float | None:
    return float(f"{value:.5g}") if math.isfinite(value) else None
