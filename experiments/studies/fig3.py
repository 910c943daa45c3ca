"""Figure 3: a convolutional network on CIFAR-10 (Section 6.3)."""

from typing import Any

from experiments.study import Alternative, Arm, Departure, Panel, Profile, Study

CLEAN = {"input_dropout": 0.0, "hidden_dropout": 0.0}
NOISY = {"input_dropout": 0.2, "hidden_dropout": 0.5}


def _arms(name: str, optimizer: str, matched: dict[str, Any], rates: tuple[float, ...]) -> Any:
    """A method without and with dropout."""
    fixed = {key: (value,) for key, value in matched.items() if key != "learning_rate"}
    fit = {"learning_rate": rates, **fixed}
    tune = {"learning_rate": matched["learning_rate"], **fixed}
    return (
        Arm(name, optimizer, matched, fit, tune, options=CLEAN),
        Arm(f"{name}+dropout", optimizer, matched, fit, tune, options=NOISY),
    )


STUDY = Study(
    name="fig3",
    title="Convolutional network on CIFAR-10",
    section="Section 6.3, Figure 3",
    problem="cifar10_convolutional",
    options={
        "l2": 0.0,
        "weights": "normal_0.01",
        "padding": "same",
        "whitening": "zca",
        "floor": 0.01,
        "train_examples": 50_000,
    },
    data_set="cifar10",
    batch_size=128,
    arms=(
        *_arms("AdaGrad", "adagrad", {"learning_rate": 0.001}, (0.0005, 0.001, 0.002)),
        *_arms(
            "SGDNesterov",
            "sgd_nesterov",
            {"learning_rate": 0.01, "momentum": 0.9},
            (0.005, 0.01, 0.02),
        ),
        *_arms("Adam", "adam", {"learning_rate": 0.0003}, (0.0001, 0.0003, 0.001)),
    ),
    profiles={
        "smoke": Profile(
            epochs=1,
            seeds=1,
            tuning_seeds=1,
            points_per_decade=1,
            window=1,
            rounds=0,
            options={"train_examples": 128, "held_out_examples": 128, "whitening": "channel"},
        ),
        "quick": Profile(
            epochs=8,
            seeds=1,
            rounds=0,
            tuning_epochs=2,
            options={
                "filters": 16,
                "hidden": 250,
                "weights": "glorot_normal",  # from the paper's, 160 steps show nothing but a plain
                "train_examples": 2_560,
                "held_out_examples": 500,
            },
        ),
        "paper": Profile(
            epochs=46,
            stages=(4,),
            seeds=3,
            tuning_seeds=1,
            points_per_decade=2,
            window=3,
            tuning_epochs=4,
            fit_seeds=1,
            fit_epochs=4,
        ),
    },
    panels=(
        Panel("fig3L", x=(0, 3), y=(0.5, 3.0), title="first passes"),
        Panel("fig3R", x=(0, 45), y=(1e-4, 10.0), log=True, title="all passes", first=0),
    ),
    departures=(
        Departure(
            "Whitening is ZCA on all 3,072 values of an image, fitted on the training images, "
            "pixels in [0, 1], 0.01 added to every eigenvalue.",
            "The paper says whitened, and no more.",
            (
                Alternative("ZCA, 0.1 added", "Adam", options={"floor": 0.1}),
                Alternative(
                    "each colour by its mean and spread", "Adam", options={"whitening": "channel"}
                ),
            ),
        ),
        Departure(
            "Convolutions and pools keep the borders (same padding), ReLU before each pool.",
            "The paper gives filters, strides and pool sizes only. The borders decide whether the "
            "last stage has 2,048 values or 128.",
        ),
        Departure(
            "Weights from N(0, 0.01²), biases zero.",
            "The paper only says that all methods start alike. Such small weights give the long "
            "plateau that SGD's curve shows in the first pass.",
            (
                Alternative("Glorot normal", "Adam", options={"weights": "glorot_normal"}),
                Alternative("Glorot normal", "SGDNesterov", options={"weights": "glorot_normal"}),
            ),
        ),
        Departure(
            "With dropout: 0.2 on the input, 0.5 on the fully connected layer.",
            "The paper says where, but gives no rates.",
        ),
        Departure(
            "Epsilon 1e-8 in Adam.",
            "The paper's default. It says that epsilon dominates here, so its size should matter.",
            (
                Alternative("epsilon 1e-7", "Adam", settings={"epsilon": 1e-7}),
                Alternative("epsilon 1e-9", "Adam", settings={"epsilon": 1e-9}),
            ),
        ),
        Departure(
            "No L2 term, constant step sizes, no augmentation, 50,000 training images, mean cost "
            "over a pass.",
            "The paper mentions none of these.",
        ),
        Departure(
            "A tuning trial, a fitting run and a measured alternative take 4 of the 46 passes.",
            "Cost: the full grid would take weeks on a CPU.",
        ),
        Departure(
            "The 10,000 test images give a held-out cost and accuracy.",
            "An addition: the paper shows training cost only. Nothing is selected by them.",
        ),
    ),
    notebook="03_fig3_cnn",
    step_ms=200.0,
)
