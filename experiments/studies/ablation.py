"""Which parts of Adam matter on a GPT? Bias correction, beta_2 and warm-up, taken away or added.

The problem is that of `defaults-gpt`, whose runs of Adam at its default are the first arm here.
"""

import dataclasses
from typing import Any

from experiments.studies import defaults
from experiments.study import Arm, Departure

DEFAULT = {"learning_rate": 0.001}
UNCORRECTED = {"bias_correction": False}
SHORT_MEMORY = {"beta_2": 0.95}
WARM = {"warmup_steps": 100}

PARTS: dict[str, dict[str, Any]] = {
    "Adam": DEFAULT,
    "no correction": {**DEFAULT, **UNCORRECTED},
    "beta_2=0.95": {**DEFAULT, **SHORT_MEMORY},
    "beta_2=0.95, no correction": {**DEFAULT, **SHORT_MEMORY, **UNCORRECTED},
    "warm-up": {**DEFAULT, **WARM},
    "warm-up, no correction": {**DEFAULT, **WARM, **UNCORRECTED},
}

_GPT = next(study for study in defaults.STUDIES if study.name == "defaults-gpt")

STUDY = dataclasses.replace(
    _GPT,
    name="ablation-gpt",
    title="Adam's parts on a GPT",
    arms=tuple(Arm(name, "adam", settings, plotted=False) for name, settings in PARTS.items()),
    profiles={
        **_GPT.profiles,
        "paper": dataclasses.replace(_GPT.profile("paper"), seeds=3),
    },
    departures=(
        defaults.TEXT,
        Departure(
            "Adam at its default, without bias correction, with beta_2 = 0.95, with warm-up, and "
            "the pairs of these with and without correction; three seeds, nothing tuned.",
            "Not in the paper, which takes bias correction away on an auto-encoder (Section 6.4). "
            "beta_2 = 0.95 is what GPT-3 and Llama used.",
        ),
        Departure(
            "Warm-up: over the first 100 steps the step size rises in equal steps to 0.001.",
            "The length in nanoGPT's recipe for a CPU, a twentieth of the run.",
        ),
    ),
)
