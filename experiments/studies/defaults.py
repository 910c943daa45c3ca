"""Do Adam's defaults work everywhere? Not a figure of the paper: modern problems, today's methods.

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
        "Regret is excess loss over the best of all methods and settings at equal seed, as a share "
        "of what that best one gained on the first pass's loss.",
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
    log: bool = False,
) -> Study:
    last = profiles["paper"].epochs - 1
    return Study(
        name=f"defaults-{name}",
        title=title,
        section="Not in the paper: defaults",
        problem=problem,
        options=options or {},
        data_set=data_set,
        batch_size=batch_size,
        arms=ARMS,
        profiles=profiles,
        panels=(Panel(f"defaults-{name}", x=(0, last), y=y, log=log),),
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
        "Defaults: a GPT on Tiny Shakespeare",
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
    _study(
        "masked-lm",
        "Defaults: a masked language model on Tiny Shakespeare",
        "tinyshakespeare_masked",
        "tinyshakespeare",
        12,
        (1.5, 3.5),
        100.0,
        _profiles(
            Profile(epochs=10, seeds=3, points_per_decade=2, window=5, tuning_epochs=5, rounds=4),
            {"train_examples": 240, "held_out_examples": 50, "width": 32, "depth": 2},
            {"train_examples": 48, "held_out_examples": 20, "width": 16, "depth": 1},
        ),
        TEXT,
        options={"train_examples": 2_400, "held_out_examples": 500},
    ),
    _study(
        "resnet",
        "Defaults: ResNet-20 on CIFAR-10",
        "cifar10_resnet",
        "cifar10",
        128,
        (0.5, 2.5),
        1_200.0,
        _profiles(
            Profile(epochs=4, seeds=3, points_per_decade=2, window=3, tuning_epochs=2, rounds=4),
            {"train_examples": 640, "held_out_examples": 250, "blocks": 1, "width": 8},
            {"train_examples": 256, "held_out_examples": 100, "blocks": 1, "width": 4},
        ),
        Departure(
            "Four passes over 10,000 training images, and 2,000 test images.",
            "Cost: ten passes over all 50,000 for every method and rate would take a week here.",
        ),
        options={"train_examples": 10_000, "held_out_examples": 2_000},
    ),
    _study(
        "diffusion",
        "Defaults: a diffusion model of MNIST",
        "mnist_diffusion",
        "mnist",
        64,
        (0.02, 1.0),
        350.0,
        _profiles(
            Profile(epochs=6, seeds=3, points_per_decade=2, window=3, tuning_epochs=3, rounds=4),
            {"train_examples": 640, "held_out_examples": 100, "width": 8},
            {"train_examples": 128, "held_out_examples": 50, "width": 8},
        ),
        Departure(
            "A pass is 100 steps on images drawn anew.",
            "A model of noise needs many small steps; 100 show how the loss falls.",
        ),
        options={"train_examples": 6_400, "held_out_examples": 1_000},
        log=True,
    ),
    *(
        _study(
            f"imbalance-{frequencies}",
            f"Defaults: softmax regression on {words}",
            "imbalance",
            "none",
            500,
            (0.01, 7.0),
            9.0,
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
            options={"frequencies": frequencies, "train_examples": 20_000},
            log=True,
        )
        for frequencies, words in (
            ("zipf", "classes of Zipf frequency"),
            ("equal", "equally frequent classes"),
        )
    ),
)
