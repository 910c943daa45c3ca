"""May one just use Adam's defaults? No figure of the paper: problems and methods of today.

Every study has the same arms. `matched` stands for a method's default, `tuned` for the best of a
half-decade grid of equally many rates for all, which grows until the best is no end of it.
"""

import functools
from collections.abc import Mapping
from typing import Any

from experiments.study import Arm, Departure, Panel, Profile, Study

# Each method at its default, and whose it is.
METHODS: dict[str, tuple[str, dict[str, Any], str]] = {
    "Adam": ("adam", {"learning_rate": 0.001}, "Kingma & Ba (2015), Algorithm 1"),
    "AdamW": ("adamw", {"learning_rate": 0.001, "weight_decay": 0.01}, "torch.optim.AdamW"),
    "AdaMax": ("adamax", {"learning_rate": 0.002}, "Kingma & Ba (2015), Algorithm 2"),
    "RMSProp": ("rmsprop", {"learning_rate": 0.001}, "keras.optimizers.RMSprop"),
    "AdaGrad": (
        "adagrad",
        {"learning_rate": 0.001},
        "the rate of keras.optimizers.Adagrad; torch.optim.Adagrad has 0.01",
    ),
    "SGDNesterov": (
        "sgd_nesterov",
        {"learning_rate": 0.01, "momentum": 0.9},
        "keras.optimizers.SGD; the momentum is that of the paper's comparison",
    ),
}
RATES = {name: settings["learning_rate"] for name, (_, settings, _) in METHODS.items()}
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
    for name, (optimizer, settings, _) in METHODS.items()
)

COMMON = (
    Departure(
        "Adam, AdamW, AdaMax, RMSProp, AdaGrad and SGD-Nesterov, each at its default and at the "
        "best rate of a half-decade grid; one tuning seed, then fresh seeds.",
        "Not in the paper. Everyone gets the same number of trials; a default is a method's own.",
    ),
    Departure(
        "AdaGrad starts with an empty accumulator (Keras: 0.1), and AdaGrad and RMSProp have an "
        "epsilon of 1e-16 inside the root (Keras: 1e-7).",
        "Their textbook form.",
    ),
    Departure(
        "Constant rates: no warm-up, no decay, no clipping.",
        "The question is whether the default may be used as it is.",
    ),
    Departure(
        "Regret is the excess of the last cost over the lowest of all methods and settings at "
        "equal seed, as a share of the way from the lowest cost of the first pass to the lowest of "
        "the last.",
        "A ratio of losses near zero means nothing; a share of the way down does. But it depends "
        "on where the way starts, so page 07 shows it from the second pass as well.",
    ),
)


_study = functools.partial(Study, section="Beyond the paper", arms=ARMS, notebook="07_defaults")


def _profiles(
    paper: Profile, quick: Mapping[str, Any], smoke: Mapping[str, Any]
) -> dict[str, Profile]:
    """Tiny, small and whole. The small ones show the code at work, not which method is better."""
    return {
        "smoke": Profile(epochs=2, seeds=1, window=1, rounds=0, options=smoke),
        "quick": Profile(epochs=3, seeds=1, points_per_decade=2, window=2, rounds=0, options=quick),
        "paper": paper,
    }


TEN_PASSES = Profile(epochs=10, seeds=5, points_per_decade=2, window=5, tuning_epochs=5, rounds=4)
HALF = Departure(
    "A trial takes five of the ten passes.",
    "Cost. A rate that is better only later would not be selected.",
)
TEXT = Departure(
    "A pass is 200 steps on windows drawn anew; validation on 500 windows of the last tenth.",
    "The text has a million windows, which overlap: seeing each once would be 84,000 steps.",
)
HIDDEN = (
    Departure(
        "Two layers of width 64; batches of 32 windows of 32 letters, 5 of them hidden; a pass is "
        "300 steps on windows drawn anew. Validation on 500 windows of the last tenth.",
        "Cost. With the GPT's sizes and 2,000 steps, some seeds never left the first plateau.",
    ),
    Departure(
        "Norms before each part, no dropout, and every hidden letter replaced by a sign.",
        "BERT has its norms after each part, has dropout, and leaves a tenth of its hidden words "
        "as they are and changes another tenth at random. Norms placed before are easier to train.",
    ),
    Departure(
        "A trial takes all ten passes.",
        "The cost first stays on a plateau; the moment a run leaves it decides how low it ends.",
    ),
    Departure(
        "Seen before the rules were fixed: eight runs at the GPT's sizes, and Adam at 0.001 and "
        "0.003 for 1,200 of these steps (2.69 and 2.24 nats).",
        "The model first had to beat a table of letter pairs, 2.48 nats.",
    ),
)

DRAWN = (
    Departure(
        "A U-Net of 8 channels, 16 at half size, on MNIST at 16x16; 3,000 steps on batches of 32; "
        "a pass is 300 of them.",
        "Cost: published diffusion models have thousands of times as many weights.",
    ),
    Departure(
        "After each pass 100 images are drawn in 25 steps, and a small classifier reads them. It "
        "has an eleventh class, for images made of digits that are no digits themselves.",
        "Without this class it would read noise as a digit. It still reads a tenth of such images "
        "as digits, and 92% of real ones. All runs draw from the same noise, so the intervals do "
        "not cover other draws.",
    ),
    Departure(
        "Seen before the rules were fixed: Adam at 0.003 for 3,000 steps (30 of 100 images were "
        "read as digits), and at 0.001 to 0.003 with other norms and widths.",
        "The model and its sampler had to work first: one norm for each channel left the "
        "background grey.",
    ),
)

RESIDUAL = (
    Departure(
        "Eight layers (one residual block at each width) on images of 16x16 pixels, means of 2x2; "
        "12,800 of the 50,000 images, 10 passes of 100 steps. Flips, and moves by up to two "
        "pixels, half of the usual four.",
        "Cost: ten passes of ResNet-20 over all of CIFAR-10 take an hour on these two processors, "
        "and the study has a hundred runs.",
    ),
    Departure(
        "No weight decay but AdamW's.",
        "The usual 1e-4 would act differently on every method; see the row on AdamW.",
    ),
    Departure(
        "Seen before the rules were fixed: Adam at 0.001 for two or three passes, on networks of "
        "four sizes.",
        "To know what a run costs.",
    ),
)

CLASSES = (
    Departure(
        "500 classes around points drawn once, the same for every seed; a seed decides the order "
        "of the batches.",
        "After Kunstner et al. (2024), who train on whole sets; batches of 500 of 20,000. So the "
        "intervals do not cover other draws of the classes.",
    ),
    Departure(
        "20 dimensions, so that the classes overlap.",
        "In the 100 dimensions tried first, every method reached a cost of zero with large enough "
        "steps. Two runs in 20 dimensions were seen before this was chosen.",
    ),
)

STUDIES = (
    _study(
        name="defaults-gpt",
        title="A GPT on Tiny Shakespeare",
        problem="tinyshakespeare_gpt",
        options={"train_examples": 2_400, "held_out_examples": 500},
        data_set="tinyshakespeare",
        batch_size=12,
        profiles=_profiles(
            TEN_PASSES,
            {"train_examples": 240, "held_out_examples": 50, "width": 32, "depth": 1},
            {"train_examples": 48, "held_out_examples": 20, "width": 16, "depth": 1},
        ),
        panels=(Panel("defaults-gpt", x=(0, 9), y=(1.2, 3.5)),),
        departures=(
            TEXT,
            *COMMON,
            HALF,
        ),
        step_ms=120.0,
    ),
    _study(
        name="defaults-masked-lm",
        title="A masked language model on Tiny Shakespeare",
        problem="tinyshakespeare_masked",
        options={
            "width": 64,
            "depth": 2,
            "context": 32,
            "train_examples": 9_600,
            "held_out_examples": 500,
        },
        data_set="tinyshakespeare",
        batch_size=32,
        profiles=_profiles(
            Profile(epochs=10, seeds=5, points_per_decade=2, window=5, rounds=4),
            {"train_examples": 640, "held_out_examples": 50, "width": 32, "depth": 1},
            {"train_examples": 128, "held_out_examples": 20, "width": 16, "depth": 1},
        ),
        panels=(Panel("defaults-masked-lm", x=(0, 9), y=(1.5, 3.5)),),
        departures=(*HIDDEN, *COMMON),
        step_ms=16.0,
    ),
    _study(
        name="defaults-diffusion",
        title="A diffusion model, MNIST",
        problem="mnist_diffusion",
        options={"width": 8, "train_examples": 9_600, "held_out_examples": 1_000, "drawn": 100},
        data_set="mnist",
        batch_size=32,
        profiles=_profiles(
            TEN_PASSES,
            {"train_examples": 640, "held_out_examples": 100, "width": 4, "drawn": 0},
            {"train_examples": 64, "held_out_examples": 50, "width": 2, "drawn": 0},
        ),
        panels=(Panel("defaults-diffusion", x=(0, 9), y=(0.05, 0.5)),),
        departures=(*DRAWN, *COMMON, HALF),
        step_ms=38.0,
    ),
    _study(
        name="defaults-resnet",
        title="A residual network, CIFAR-10",
        problem="cifar10_resnet",
        options={
            "blocks": 1,
            "side": 16,
            "shift": 2,
            "train_examples": 12_800,
            "held_out_examples": 2_000,
        },
        data_set="cifar10",
        batch_size=128,
        profiles=_profiles(
            TEN_PASSES,
            {"train_examples": 1_280, "held_out_examples": 200, "width": 4},
            {"train_examples": 256, "held_out_examples": 50, "width": 2},
        ),
        panels=(Panel("defaults-resnet", x=(0, 9), y=(0.8, 2.4)),),
        departures=(*RESIDUAL, *COMMON, HALF),
        step_ms=80.0,
    ),
    *(
        _study(
            name=f"defaults-imbalance-{frequencies}",
            title=title,
            problem="imbalance",
            options={"frequencies": frequencies, "train_examples": 20_000, "dimensions": 20},
            data_set="none",
            batch_size=500,
            profiles=_profiles(
                Profile(epochs=25, seeds=5, points_per_decade=2, window=5, rounds=6),
                {"train_examples": 4_000, "held_out_examples": 1_000},
                {"train_examples": 1_000, "held_out_examples": 500},
            ),
            panels=(Panel(f"defaults-imbalance-{frequencies}", x=(0, 24), y=(0.0, 6.5)),),
            departures=(*CLASSES, *COMMON),
            step_ms=11.0,
        )
        for frequencies, title in (
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
