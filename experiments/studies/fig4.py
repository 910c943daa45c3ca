"""Figure 4: a variational auto-encoder with and without bias correction (Section 6.4)."""

from experiments.study import Arm, Departure, Panel, Profile, Study

BETAS = tuple((beta_1, beta_2) for beta_1 in (0.0, 0.9) for beta_2 in (0.99, 0.999, 0.9999))
# The points of the paper's figure, and beyond them to the ends of the range that it names.
PAPER_RATES = (3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
RATES = (1e-5, *PAPER_RATES, 3e-2, 1e-1)


def _arm(beta_1: float, beta_2: float, correction: bool) -> Arm:
    return Arm(
        name=f"b1={beta_1:g}/b2={beta_2:g}/{'biascorr' if correction else 'nocorr'}",
        optimizer="adam",
        grid={
            "learning_rate": RATES,
            "beta_1": (beta_1,),
            "beta_2": (beta_2,),
            "bias_correction": (correction,),
        },
    )


STUDY = Study(
    name="fig4",
    title="Variational auto-encoder with and without bias correction",
    section="Section 6.4, Figure 4",
    problem="mnist_variational",
    options={
        "weights": "normal_0.01",
        "pixels": "real",
        "prior": 0.0,
        "train_examples": 50_000,
    },
    data_set="mnist",
    batch_size=100,
    arms=tuple(_arm(*betas, correction) for betas in BETAS for correction in (True, False)),
    profiles={
        "smoke": Profile(
            epochs=2,
            seeds=1,
            grid={"learning_rate": (1e-3,)},
            options={"train_examples": 1_000, "held_out_examples": 1_000},
        ),
        "quick": Profile(
            epochs=10,
            seeds=1,
            grid={"learning_rate": PAPER_RATES[2:]},
            options={"hidden": 200, "train_examples": 6_000, "held_out_examples": 1_000},
        ),
        "paper": Profile(epochs=100, stages=(10,), seeds=3),
    },
    panels=(Panel("fig4", x=(-5.1, -0.9), y=(95, 140), points=PAPER_RATES),),
    departures=(
        Departure(
            "MNIST, its first 50,000 training images, batches of 100.",
            "The paper names neither data set nor batch size. The loss in its figure is that of "
            "MNIST, and Kingma & Welling (2013), whose architecture it takes, used batches of 100.",
        ),
        Departure(
            "Grey pixels are the targets of the Bernoulli likelihood.",
            "The paper does not say. Pixels drawn anew in every batch lower the loss by 1 to 3 "
            "nats at most step sizes, away from the figure.",
        ),
        Departure(
            "Weights from N(0, 0.01²), biases zero, no prior on the weights.",
            "Kingma & Welling (2013) start this way. Weights scaled by the fan-in fit the figure "
            "less well at small step sizes.",
        ),
        Departure(
            "The loss is minus the variational bound, in nats per image, as the mean over the "
            "batches of the 10th and of the 100th pass, with one draw per image.",
            "The paper does not say on which images, nor when.",
        ),
        Departure(
            "Step sizes from 1e-5 to 1e-1, three more than the six of the figure.",
            "The paper's text names this range; its figure has six points.",
        ),
        Departure(
            "A diverged run counts as an infinite loss.",
            "The figure shows such settings by lines that leave it.",
        ),
        Departure(
            "Without bias correction, beta_1 = 0 is RMSProp, and beta_1 = 0.9 is RMSProp with "
            "momentum.",
            "That is what the paper calls them.",
        ),
    ),
    notebook="04_fig4_bias_correction",
    step_ms=4.5,
)
