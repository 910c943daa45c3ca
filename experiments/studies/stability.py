"""Does Adam slow down where the gradient is noisy? Steps against signal, and twice the noise.

The GPT is that of `defaults-gpt`; measuring does not change how it trains.
"""

import dataclasses
from typing import Any

from experiments.studies import defaults
from experiments.study import Arm, Departure, Panel, Profile, Study

METHODS = ("Adam", "SGDNesterov")  # each at its default
ARMS = tuple(
    Arm(name, optimizer, settings, plotted=False)
    for name, (optimizer, settings, _) in defaults.METHODS.items()
    if name in METHODS
)
MEASURED = {"stability": 1.0}

_GPT = next(study for study in defaults.STUDIES if study.name == "defaults-gpt")

HOW = (
    Departure(
        "After each pass, from the same state: the mean size of eight steps, and the mean and "
        "standard deviation of up to 64 gradients, all on batches to come. Coordinates whose "
        "gradient is the same in every batch do not count.",
        "A step is that of the method itself, momentum included. Even where there is no signal, 64 "
        "gradients give a ratio of 0.1, which weakens every correlation; the agreement of two "
        "halves of the gradients tells how much.",
    ),
    Departure(
        "Twice the noise: 20 steps on a quarter of each batch, against 20 steps on whole ones.",
        "The standard deviation of a mean over a quarter of the examples is twice as large; its "
        "expectation is the same, except that on the residual network batch normalisation changes "
        "with the batch, too. Twenty steps renew 2% of Adam's second moment: this is what noise "
        "does before Adam has adapted to it.",
    ),
    Departure(
        "Adam at 0.001 and SGD-Nesterov at 0.01, their defaults; three seeds, nothing tuned.",
        "On the GPT these are also the best of the rates that were tried.",
    ),
)


def _profiles(paper: Profile, options: dict[str, Any]) -> dict[str, Profile]:
    """The smaller ones have just the batches that a pass must have."""
    small = Profile(epochs=2, seeds=1, window=1, rounds=0, options=options)
    return {"smoke": small, "quick": small, "paper": paper}


STUDIES = (
    dataclasses.replace(
        _GPT,
        name="stability-gpt",
        title="Steps and noise: a GPT",
        options={**_GPT.options, **MEASURED},
        arms=ARMS,
        profiles=_profiles(
            dataclasses.replace(_GPT.profile("paper"), seeds=3),
            {"train_examples": 144, "held_out_examples": 20, "width": 16, "depth": 1},
        ),
        panels=(Panel("stability-gpt", x=(0, 9), y=(1.2, 3.5)),),
        departures=(defaults.TEXT, *HOW),
    ),
    Study(
        name="stability-resnet",
        title="Steps and noise: a residual network",
        section="Beyond the paper",
        problem="cifar10_resnet",
        options={"blocks": 1, "train_examples": 6_400, "held_out_examples": 500, **MEASURED},
        data_set="cifar10",
        batch_size=128,
        arms=ARMS,
        profiles=_profiles(
            Profile(epochs=5, seeds=3),
            {"train_examples": 1_536, "held_out_examples": 20, "width": 2, "side": 16},
        ),
        panels=(Panel("stability-resnet", x=(0, 4), y=(0.0, 2.5)),),
        departures=(
            Departure(
                "Eight layers (one residual block at each width) and 6,400 images, 250 steps.",
                "Cost: ResNet-20 takes 1.5 seconds a step on one thread.",
            ),
            *HOW,
        ),
        notebook="07_defaults",
        step_ms=600.0,
    ),
)
