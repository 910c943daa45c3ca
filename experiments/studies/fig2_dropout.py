"""Figure 2a: a multilayer network on MNIST with dropout (Section 6.2)."""

from typing import Any

from experiments.study import Alternative, Arm, Departure, Panel, Profile, Study


def _decays(
    constant: tuple[float, ...],
    by_passes: tuple[float, ...],
    by_steps: tuple[float, ...],
    **others: tuple[float, ...],
) -> tuple[dict[str, Any], ...]:
    """Blocks of a search: learning rates for each decay of the step size."""
    decays = (("constant", constant), ("sqrt_epoch", by_passes), ("sqrt_step", by_steps))
    return tuple({"learning_rate": rates, "decay": (decay,), **others} for decay, rates in decays)


# Twelve candidates for each method, around what constant rates of ten passes had shown.
SEARCH = {
    "AdaGrad": _decays((0.003, 0.01, 0.03, 0.1), (0.01, 0.03, 0.1, 0.3), (0.1, 0.3, 1.0, 3.0)),
    "RMSProp": (
        *_decays((1e-4, 3e-4), (3e-4, 1e-3), (3e-3, 1e-2), momentum=(0.0,)),
        *_decays((1e-5, 3e-5), (3e-5, 1e-4), (3e-4, 1e-3), momentum=(0.9,)),
    ),
    "SGDNesterov": (
        *_decays((0.03, 0.1), (0.1, 0.3), (0.3, 1.0), momentum=(0.9,)),
        *_decays((0.003, 0.01), (0.01, 0.03), (0.03, 0.1), momentum=(0.99,)),
    ),
    "AdaDelta": _decays((0.1, 0.3, 1.0, 3.0), (0.3, 1.0, 3.0, 10.0), (3.0, 10.0, 30.0, 100.0)),
    "Adam": _decays((1e-4, 3e-4, 1e-3, 3e-3), (3e-4, 1e-3, 3e-3, 1e-2), (3e-3, 1e-2, 3e-2, 0.1)),
}

STUDY = Study(
    name="fig2-dropout",
    title="Multilayer network on MNIST with dropout",
    section="Section 6.2, Figure 2a",
    problem="mnist_multilayer",
    options={
        "input_dropout": 0.2,
        "hidden_dropout": 0.5,
        "l2": 0.0,
        "weights": "glorot_normal",
        "train_examples": 60_000,
    },
    data_set="mnist",
    batch_size=128,
    arms=(
        Arm(
            "AdaGrad",
            "adagrad",
            matched={"learning_rate": 0.01},
            fit={"learning_rate": (0.003, 0.01, 0.03)},
            tune={"learning_rate": 0.01},
            search=SEARCH["AdaGrad"],
        ),
        Arm(
            "RMSProp",
            "rmsprop",
            matched={"learning_rate": 0.0003},
            fit={"learning_rate": (0.0001, 0.0003, 0.001)},
            tune={"learning_rate": 0.0003},
            search=SEARCH["RMSProp"],
        ),
        Arm(
            "SGDNesterov",
            "sgd_nesterov",
            matched={"learning_rate": 0.03, "momentum": 0.9},
            fit={"learning_rate": (0.01, 0.03, 0.1), "momentum": (0.9,)},
            tune={"learning_rate": 0.03},
            search=SEARCH["SGDNesterov"],
        ),
        Arm(
            "AdaDelta",
            "adadelta",
            matched={"learning_rate": 1.0},
            fit={"learning_rate": (0.3, 1.0, 3.0)},
            tune={"learning_rate": 1.0},
            search=SEARCH["AdaDelta"],
        ),
        Arm(
            "Adam",
            "adam",
            matched={"learning_rate": 0.0003},
            fit={"learning_rate": (0.0001, 0.0003, 0.001)},
            tune={"learning_rate": 0.0003},
            search=SEARCH["Adam"],
        ),
    ),
    profiles={
        "smoke": Profile(
            epochs=2,
            seeds=1,
            tuning_seeds=1,
            points_per_decade=1,
            window=1,
            rounds=0,
            options={"train_examples": 1_280, "held_out_examples": 1_000},
        ),
        "quick": Profile(
            epochs=12,
            seeds=1,
            rounds=1,
            tuning_epochs=6,
            options={"hidden": 300, "train_examples": 6_000, "held_out_examples": 2_000},
        ),
        "paper": Profile(
            epochs=200,
            stages=(25,),
            rungs=(8, 40, 200),
            searching=True,
            seeds=10,
            whole_seeds=5,
            tuning_seeds=1,
            points_per_decade=2,
            window=3,
            tuning_epochs=10,
            fit_seeds=1,
            fit_epochs=25,
        ),
    },
    panels=(Panel("fig2a", x=(0, 200), y=(3e-3, 0.2), log=True),),
    departures=(
        Departure(
            "Dropout 0.2 on the pixels, 0.5 on both hidden layers.",
            "The paper gives no rates. These are the usual ones; without dropout on the pixels "
            "the cost falls to half of the paper's curve within 25 passes.",
            (
                Alternative("none on the pixels", "Adam", options={"input_dropout": 0.0}),
                Alternative(
                    "none at all", "Adam", options={"input_dropout": 0.0, "hidden_dropout": 0.0}
                ),
            ),
        ),
        Departure(
            "Weights from a Glorot normal distribution, biases zero.",
            "The paper only says that all methods start alike.",
            (Alternative("He normal", "Adam", options={"weights": "he_normal"}),),
        ),
        Departure(
            "No L2 term.",
            "The paper mentions weight decay for its deterministic network only.",
            (Alternative("L2 coefficient 1e-4", "Adam", options={"l2": 1e-4}),),
        ),
        Departure(
            "Constant step sizes.",
            "The paper mentions a decay for logistic regression only.",
            (Alternative("decay by passes", "Adam", settings={"decay": "sqrt_epoch"}),),
        ),
        Departure(
            "All 60,000 training images; the plotted cost is the mean over a pass, with the noise "
            "on.",
            "The paper does not say.",
            (Alternative("the first 50,000 images", "Adam", options={"train_examples": 50_000}),),
        ),
        Departure(
            "RMSProp has rho = 0.9; AdaDelta rho = 0.95, epsilon 1e-6 and a step size of 1; "
            "AdaGrad an empty accumulator.",
            "The published methods. Keras's own defaults differ. A step size multiplies AdaDelta's "
            "update so that it can be tuned like the others.",
        ),
        Departure(
            "Ten seeds up to pass 25, five of them up to pass 200.",
            "Cost: 200 passes take 20 minutes or more; the claims on the first passes have ten.",
        ),
        Departure(
            "A tuning trial takes 10 of the 200 passes; a fitting run takes 25.",
            "Cost: the full grid would take days on a CPU.",
        ),
        Departure(
            "The 10,000 test images give a held-out cost and accuracy.",
            "An addition: the paper shows training cost only. Nothing is selected by them.",
        ),
    ),
    notebook="02_fig2_multilayer",
    step_ms=10.0,
)
