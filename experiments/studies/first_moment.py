"""Section 6.3: does the first moment matter more in a convolutional network than in a fully
connected one? Adam as in Figures 3 and 2a, whose runs are the first arm here, and with beta_1 = 0.
"""

import dataclasses
from typing import Any

from experiments.studies import fig2_dropout, fig3
from experiments.study import Arm, Departure, Panel, Profile, Study

MATCHED = {"learning_rate": 0.0003}  # of Adam in both figures
WITHOUT: dict[str, dict[str, Any]] = {
    "Adam": MATCHED,
    "beta_1=0": {**MATCHED, "beta_1": 0.0},
    "beta_1=0, a third of alpha": {"learning_rate": 0.0001, "beta_1": 0.0},
}
DEPARTURES = (
    Departure(
        "Adam's matched settings, without the first moment (beta_1 = 0), and without it at a third "
        "of the step size; three seeds, nothing tuned.",
        "The paper draws its conclusion without showing such a run. A third is tried because steps "
        "that are not averaged are noisier, and may have to be shorter.",
    ),
)


def _study(
    figure: Study, kind: str, title: str, paper: Profile, panel: Panel, **options: Any
) -> Study:
    return dataclasses.replace(
        figure,
        name=f"sec6-first-moment-{kind}",
        title=title,
        section="Section 6.3",
        options={**figure.options, **options},
        arms=tuple(
            Arm(name, "adam", settings, plotted=False) for name, settings in WITHOUT.items()
        ),
        profiles={**figure.profiles, "paper": paper},
        panels=(panel,),
        departures=DEPARTURES,
        notebook="03_fig3_cnn",
    )


STUDIES = (
    _study(
        fig3.STUDY,
        "cnn",
        "Adam without its first moment: convolutional network",
        Profile(epochs=4, seeds=3, window=3),
        Panel("sec6-first-moment-cnn", x=(0, 3), y=(0.5, 2.5)),
        **fig3.CLEAN,
    ),
    _study(
        fig2_dropout.STUDY,
        "mlp",
        "Adam without its first moment: multilayer network",
        Profile(epochs=25, seeds=3, window=3),
        Panel("sec6-first-moment-mlp", x=(0, 24), y=(1e-2, 1.0), log=True),
    ),
)
