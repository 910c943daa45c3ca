"""What a search by successive halving (`experiments.search`) has found, as tables."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from experiments.analysis.results import Results, distance
from experiments.search import final_cost
from experiments.words import in_words


def candidates(results: Results) -> pd.DataFrame:
    """The longest run of every candidate of the search.

    Returns:
        A row per pass: arm, trial (its settings as text), the settings in words, decay, seed,
        epochs (of the longest run), status, pass and training_cost (nats).
    """
    frame = results.passes("search")
    if frame.empty:
        return frame.assign(settings=[], decay=[], training_cost=[])
    own = [frame["arm"], frame["trial"], frame["seed"]]
    frame = frame[frame["epochs"] == frame["epochs"].groupby(own).transform("max")]
    words = {entry.trial: in_words(entry.run.settings) for entry in results.plan.entries}
    columns = ["arm", "trial", "settings", "decay", "seed", "epochs", "status", "pass"]
    return frame.assign(settings=frame["trial"].map(words), decay=frame["settings.decay"])[
        [*columns, "training_cost"]
    ]


def table(results: Results) -> pd.DataFrame:
    """The candidates that trained to the last rung, each arm's cheapest first.

    Returns:
        A row per candidate: arm, settings, seeds, cost (what ranks it: the geometric mean over its
        last passes, in nats), rms and largest (its distances to the paper's curve). A candidate
        that diverged has infinite cost.
    """
    frame, rungs = candidates(results), results.study.profile(results.profile).rungs
    rows = []
    whole = frame[frame["epochs"] == max(rungs, default=0)]
    for (arm, settings), trial in whole.groupby(["arm", "settings"]):
        diverged = (trial["status"] != "finished").any()
        costs = [own["training_cost"].tolist() for _, own in trial.groupby("seed")]
        curve = None if diverged else np.mean(costs, axis=0)
        plotted = results.study.arm(str(arm)).plotted
        rms, largest = (
            distance(results.study.panel, str(arm), curve) if plotted else (math.nan, math.nan)
        )
        cost = math.inf if diverged else float(np.mean([final_cost(own) for own in costs]))
        row = {"arm": arm, "settings": settings, "seeds": len(costs), "cost": cost}
        rows.append({**row, "rms": rms, "largest": largest})
    columns = ["arm", "settings", "seeds", "cost", "rms", "largest"]
    found = pd.DataFrame(rows, columns=columns)
    return found.sort_values(["arm", "cost"]).reset_index(drop=True)
