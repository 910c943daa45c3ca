"""May one just use Adam's defaults? No figure of the paper: problems and methods of today.

Every study has the same arms. `matched` stands for a method's default, `tuned` for the best of a
half-decade grid of equally many rates for all, which grows until the best is no end of it.
"""

from collections.abc import Mapping
from typing import Any

from experiments.study import Arm, Departure, Panel, Profile, Study

# Each method at its default: the rate that its paper or its library gives (`DEFAULTS` says which).
RATES: dict[str, tuple[str, dict[str, Any]]] = {
    "Adam": ("adam", {"learning_rate": 0.001}),
    "AdamW": ("adamw", {"learning_rate": 0.001, "weight_decay": 0.01}),
    "AdaMax": ("adamax", {"learning_rate": 0.002}),
    "RMSProp": ("rmsprop", {"learning_rate": 0.001}),
    "AdaGrad": ("adagrad", {"learning_rate": 0.001}),
    "SGDNesterov": ("sgd_nesterov", {"learning_rate": 0.01, "momentum": 0.9}),
}
# Where the defaults come from.
DEFAULTS: dict[str, tuple[str, str]] = {
    "Adam": ("alpha 0.001, betas 0.9 and 0.999, epsilon 1e-8", "Kingma & Ba (2015), Algorithm 1"),
    "AdamW": (
        "rate 0.001, betas 0.9 and 0.999, epsilon 1e-8, decay 0.01",
        "torch.optim.AdamW",
    ),
    "AdaMax": ("alpha 0.002, betas 0.9 and 0.999", "Kingma & Ba (2015), Algorithm 2"),
    "RMSProp": ("rate 0.001, rho 0.9, no momentum", "keras.optimizers.RMSprop"),
    "AdaGrad": ("rate 0.001 (PyTorch's is 0.01)", "keras.optimizers.Adagrad"),
    "SGDNesterov": (
        "rate 0.01, momentum 0.9 (Keras' own is 0)",
        "keras.optimizers.SGD; the momentum is that of the paper's comparison",
    ),
}
ARMS = tuple(
    Arm(
        name,
        optimizer,
        settings,
        tune={
            key: value if key == "learning_rate" else (value,) for key, value in settings.items()
        },
        plotted=False,
    )
    for name, (optimizer, settings) in RATES.items()
)

COMMON = (
    Departure(
        "Adam, AdamW, AdaMax, RMSProp, AdaGrad and SGD-Nesterov, each at its default and at the "
        "best rate of a half-decade grid; one tuning seed, then fresh seeds.",
        "Not in the paper. Everyone gets the same number of trials; a default is a method's own.",
    ),
    Departure(
        "Constant rates: no warm-up, no decay, no clipping.",
        "The question is whether the default may be used as it is.",
    ),
    Departure(
        "Regret is the excess of the last cost over the lowest of all methods and settings at "
        "equal seed, as a share of the way from the lowest cost of the first pass to the lowest of "
        "the last.",
        "A ratio of losses near zero means nothing; a share of the way down does.",
    ),
)


def _study(
    name: str,
    title: str,
    problem: str,
    data_set: str,
    batch_size: int,
    y: tuple[float, float],
    step_ms: float,
    profiles: Mapping[str, Profile],
    *departures: Departure,
    options: Mapping[str, Any] | None = None,
) -> Study:
    last = profiles["paper"].epochs - 1
    return Study(
        name=f"defaults-{name}",
        title=title,
        section="Beyond the paper",
        problem=problem,
        options=options or {},
        data_set=data_set,
        batch_size=batch_size,
        arms=ARMS,
        profiles=profiles,
        panels=(Panel(f"defaults-{name}", x=(0, last), y=y),),
        departures=(*departures, *COMMON),
        notebook="07_defaults",
        step_ms=step_ms,
    )


def _profiles(
    paper: Profile, quick: Mapping[str, Any], smoke: Mapping[str, Any]
) -> dict[str, Profile]:
    """Tiny, small and whole."""
    return {
        "smoke": Profile(epochs=2, seeds=1, window=1, rounds=0, options=smoke),
        "quick": Profile(epochs=3, seeds=1, points_per_decade=2, rounds=0, options=quick),
        "paper": paper,
    }


TEXT = Departure(
    "A pass is 200 steps on windows drawn anew; validation on 500 windows of the last tenth.",
    "The text has a million windows, which overlap: seeing each once would be 84,000 steps.",
)

STUDIES = (
    _study(
        "gpt",
        "A GPT on Tiny Shakespeare",
        "tinyshakespeare_gpt",
        "tinyshakespeare",
        12,
        (1.2, 3.5),
        120.0,
        _profiles(
            Profile(epochs=10, seeds=5, points_per_decade=2, window=5, tuning_epochs=5, rounds=4),
            {"train_examples": 240, "held_out_examples": 50, "width": 32, "depth": 2},
            {"train_examples": 48, "held_out_examples": 20, "width": 16, "depth": 1},
        ),
        TEXT,
        options={"train_examples": 2_400, "held_out_examples": 500},
    ),
    *(
        _study(
            f"imbalance-{frequencies}",
            words,
            "imbalance",
            "none",
            500,
            (0.0, 6.5),
            11.0,
            _profiles(
                Profile(epochs=25, seeds=5, points_per_decade=2, window=5, rounds=6),
                {"train_examples": 4_000, "held_out_examples": 1_000},
                {"train_examples": 1_000, "held_out_examples": 500},
            ),
            Departure(
                "500 classes around points drawn once, the same for every seed; a seed decides the "
                "order of the batches.",
                "After Kunstner et al. (2024), who train on whole sets; batches of 500 of 20,000.",
            ),
            Departure(
                "20 dimensions, so that the classes overlap.",
                "In the 100 dimensions tried first, every method reached a cost of zero with steps "
                "large enough. Two runs in 20 were seen before this was chosen.",
            ),
            options={"frequencies": frequencies, "train_examples": 20_000, "dimensions": 20},
        )
        for frequencies, words in (
            ("zipf", "Classes of Zipf frequency"),
            ("equal", "Equally frequent classes"),
        )
    ),
)

# The problems on which page 07 judges defaults: a title, the study, which of its arms. On those of
# the paper the tuning trials answer.
CASES = (
    ("Logistic regression, MNIST", "fig1-mnist", ""),
    ("Logistic regression, IMDB", "fig1-imdb", "dropout"),
    ("Multilayer network, MNIST", "fig2-dropout", ""),
    ("Convolutional network, CIFAR-10", "fig3", ""),
    ("Auto-encoder, MNIST", "sec7-variational", ""),
    *((study.title, study.name, "") for study in STUDIES),
)
