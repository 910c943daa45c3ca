"""Figure 1, left: logistic regression on MNIST (Section 6.1)."""

from experiments.study import Arm, Departure, Profile, Study

DECAYS = ("constant", "sqrt_epoch")

STUDY = Study(
    name="fig1-mnist",
    title="Logistic regression on MNIST",
    section="Section 6.1, Figure 1 (left)",
    problem="mnist_logistic_regression",
    options={"l2": 1e-4, "train_examples": 60_000},
    data_set="mnist",
    batch_size=128,
    arms=(
        Arm(
            name="AdaGrad",
            optimizer="adagrad",
            matched={"learning_rate": 0.00095, "decay": "constant"},
            fit={
                "learning_rate": (0.0009, 0.00095, 0.001, 0.00105, 0.0011),
                "decay": DECAYS,
            },
            tune={"learning_rate": 0.1, "decay": DECAYS},
        ),
        Arm(
            name="SGDNesterov",
            optimizer="sgd_nesterov",
            matched={"learning_rate": 0.01, "momentum": 0.9, "decay": "constant"},
            fit={
                "learning_rate": (0.008, 0.009, 0.01, 0.011, 0.0125),
                "momentum": (0.9,),
                "decay": DECAYS,
            },
            tune={"learning_rate": 0.1, "decay": DECAYS},
        ),
        Arm(
            name="Adam",
            optimizer="adam",
            matched={"learning_rate": 0.001, "decay": "sqrt_epoch"},
            fit={
                "learning_rate": (0.0008, 0.0009, 0.001, 0.0011, 0.0012),
                "decay": DECAYS,
            },
            tune={"learning_rate": 0.001, "decay": DECAYS},
        ),
    ),
    profiles={
        "smoke": Profile(
            epochs=2,
            seeds=2,
            tuning_seeds=1,
            points_per_decade=1,
            window=3,
            options={"train_examples": 2_560},
        ),
        "quick": Profile(epochs=46, seeds=3, tuning_seeds=1, points_per_decade=2, window=5),
        "paper": Profile(
            epochs=46, seeds=10, tuning_seeds=3, points_per_decade=4, window=9, fit_seeds=3
        ),
    },
    panel="fig1L",
    axes=((0, 45), (0.2, 0.7)),
    departures=(),
    step_ms=0.2,
)
