"""AdaMax and temporal averaging on the paper's problems (Section 7), which the paper only proposes.

Each study takes its problem, options and batch size from the figure that shows the problem.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from experiments.studies import fig1_imdb, fig1_mnist, fig2_dropout, fig4
from experiments.study import Arm, Departure, Panel, Profile, Study

DROPOUT = {"dropout": 0.5}  # of the IMDB figure's own variant

DEPARTURES = (
    Departure(
        "AdaMax and Adam on four of the paper's problems, with constant step sizes.",
        "Section 7 shows no experiment; this one is ours. Everything but the method is as in the "
        "problem's own figure. The convolutional network is left out for its cost.",
    ),
    Departure(
        "Under `matched` both methods have the paper's default settings: alpha = 0.001 for Adam, "
        "0.002 for AdaMax.",
        "There is no curve in the paper to match.",
    ),
    Departure(
        "Both averages of Section 7.2 start at the first step; the exponential one has the decay "
        "0.999 of Adam's second moment.",
        "As the paper writes them. After a few thousand steps the exponential average forgets the "
        "start; the mean of all steps does not.",
    ),
    Departure(
        "Averages are compared after each pass by their cost without dropout on 5,000 training "
        "and 5,000 held-out examples, drawn at random and the same for every run.",
        "The cost over a pass, which the other figures show, belongs to no single set of weights. "
        "They are drawn at random because MNIST's training images are easy and hard by turns.",
    ),
)


def _study(
    name: str,
    title: str,
    figure: Study,
    panel: Panel,
    profiles: Mapping[str, Profile],
    options: Mapping[str, Any] | None = None,
) -> Study:
    """A study of Section 7 on the problem of a figure."""
    return dataclasses.replace(
        figure,
        name=name,
        title=title,
        section="Section 7",
        options={**figure.options, **(options or {}), "averages": 1.0},
        arms=(
            Arm("Adam", "adam", {"learning_rate": 0.001}, tune={"learning_rate": 0.001}, **_OURS),
            Arm(
                "AdaMax", "adamax", {"learning_rate": 0.002}, tune={"learning_rate": 0.002}, **_OURS
            ),
        ),
        profiles=profiles,
        panels=(panel,),
        departures=DEPARTURES,
        notebook="05_adamax_and_averaging",
    )


def _smoke(epochs: int, train_examples: int) -> Profile:
    """The smallest: one seed, one rate, few examples."""
    options = {"train_examples": train_examples, "held_out_examples": 1_000}
    return Profile(epochs=epochs, seeds=1, window=1, rounds=0, options=options)


_OURS: dict[str, Any] = {"plotted": False}

STUDIES = (
    _study(
        "sec7-logistic",
        "AdaMax and averaging: logistic regression on MNIST",
        fig1_mnist.STUDY,
        Panel("sec7-logistic", x=(0, 45), y=(0.2, 0.4)),
        {
            "smoke": _smoke(2, 1_280),
            "quick": Profile(epochs=15, seeds=3, rounds=1, options={"train_examples": 20_000}),
            "paper": Profile(epochs=46, seeds=10, tuning_seeds=3, points_per_decade=4, window=5),
        },
    ),
    _study(
        "sec7-imdb",
        "AdaMax and averaging: logistic regression on IMDB reviews, with dropout",
        fig1_imdb.STUDY,
        Panel("sec7-imdb", x=(0, 59), y=(0.2, 0.5)),
        {
            "smoke": _smoke(2, 1_280),
            "quick": Profile(
                epochs=10,
                seeds=2,
                rounds=0,
                options={"train_examples": 10_000, "held_out_examples": 5_000},
            ),
            "paper": Profile(epochs=60, seeds=10, tuning_seeds=3, points_per_decade=4, window=5),
        },
        DROPOUT,
    ),
    _study(
        "sec7-multilayer",
        "AdaMax and averaging: multilayer network on MNIST, with dropout",
        fig2_dropout.STUDY,
        Panel("sec7-multilayer", x=(0, 24), y=(0.03, 0.5), log=True),
        {
            "smoke": _smoke(1, 1_280),
            "quick": Profile(
                epochs=5,
                seeds=1,
                rounds=0,
                options={"train_examples": 5_000, "held_out_examples": 2_000},
            ),
            "paper": Profile(
                epochs=25, seeds=5, points_per_decade=2, window=3, tuning_epochs=10, rounds=3
            ),
        },
    ),
    _study(
        "sec7-variational",
        "AdaMax and averaging: variational auto-encoder on MNIST",
        fig4.STUDY,
        Panel("sec7-variational", x=(0, 29), y=(95, 160)),
        {
            "smoke": _smoke(1, 1_000),
            "quick": Profile(
                epochs=5,
                seeds=1,
                rounds=0,
                options={"train_examples": 5_000, "held_out_examples": 2_000},
            ),
            "paper": Profile(
                epochs=30, seeds=5, points_per_decade=2, window=3, tuning_epochs=10, rounds=3
            ),
        },
    ),
)
