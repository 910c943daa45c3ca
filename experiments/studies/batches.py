"""Does Adam's lead over SGD depend on the size of the batches? A small GPT, equally many tokens.

Every method is tuned at every size. A variant is a size of batches.
"""

from typing import Any

from experiments.study import Arm, Departure, Panel, Profile, Study

# The learning rate around which each method's first grid lies, by size of the batches.
CENTRES: dict[int, dict[str, float]] = {
    4: {"Adam": 0.003, "SGDNesterov": 0.01, "SGD": 0.1},
    16: {"Adam": 0.003, "SGDNesterov": 0.03, "SGD": 0.3},
    64: {"Adam": 0.01, "SGDNesterov": 0.1, "SGD": 0.3},
    256: {"Adam": 0.01, "SGDNesterov": 0.3, "SGD": 1.0},
}
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "Adam": ("adam", {}),
    "SGDNesterov": ("sgd_nesterov", {"momentum": (0.9,)}),
    "SGD": ("sgd_nesterov", {"momentum": (0.0,)}),
}


def _profile(**options: int) -> Profile:
    """One rate for every arm."""
    return Profile(epochs=2, seeds=1, window=1, rounds=0, options={**options, "depth": 1})


STUDY = Study(
    name="batches-gpt",
    title="A small GPT, by the size of the batches",
    section="Beyond the paper",
    problem="tinyshakespeare_gpt",
    options={"width": 64, "depth": 2, "train_examples": 2_560, "held_out_examples": 500},
    data_set="tinyshakespeare",
    batch_size=min(CENTRES),
    arms=tuple(
        Arm(
            f"{method}+batches of {size}",
            optimizer,
            tune={"learning_rate": CENTRES[size][method], **settings},
            batch_size=size,
            plotted=False,
        )
        for size in CENTRES
        for method, (optimizer, settings) in METHODS.items()
    ),
    profiles={
        "smoke": _profile(train_examples=256, held_out_examples=20, width=16),
        "quick": _profile(train_examples=1_024, held_out_examples=100, width=32),
        "paper": Profile(epochs=10, seeds=3, points_per_decade=2, window=5, rounds=4),
    },
    panels=(Panel("batches-gpt", x=(0, 9), y=(1.5, 3.5)),),
    departures=(
        Departure(
            "Batches of 4, 16, 64 and 256 windows. A pass is 2,560 windows drawn anew, so all runs "
            "see equally many letters: 6,400, 1,600, 400 or 100 steps.",
            "Not in the paper, which has batches of 100 and 128. At equally many steps, large "
            "batches would see more of the text.",
        ),
        Departure(
            "Two layers of width 64, half as deep and half as wide as the GPT above.",
            "Cost: every method is tuned at every size.",
        ),
        Departure(
            "Adam, SGD with Nesterov momentum of 0.9, and SGD without momentum; half-decade grids "
            "of equally many constant rates at the full length, one tuning seed, then three fresh "
            "ones. No warm-up, no decay, no clipping; Adam's betas are the defaults at every size.",
            "Marek et al. lower the decay of the second moment for small batches, by holding its "
            "half-life fixed in tokens. Here the question is about the defaults.",
        ),
    ),
    notebook="07_defaults",
    step_ms=20.0,
)
