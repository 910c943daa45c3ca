"""Sections 1, 2, 2.1, 3 and 4: what the paper says and proves about Adam, measured, not trained."""

from typing import Any

from experiments.study import Arm, Departure, Panel, Profile, Study

# Pairs of betas in both regimes of Section 2.1: the first and the last have
# (1 - beta_1) > sqrt(1 - beta_2), the second has not.
PAIRS = ((0.9, 0.999), (0.9, 0.95), (0.0, 0.999))
NUMPY = Departure(
    "Algorithm 1 in float64 NumPy, held to `adam_tf.Adam` by tests.",
    "A bound is a statement about exact numbers, and a million steps of one number are slow in "
    "a framework.",
)


def _arms(pairs: tuple[tuple[float, float], ...] = PAIRS, **settings: Any) -> tuple[Arm, ...]:
    """An arm for each pair of betas."""
    return tuple(
        Arm(
            name=f"b1={beta_1:g}/b2={beta_2:g}",
            optimizer="adam",
            grid={"beta_1": (beta_1,), "beta_2": (beta_2,), **settings},
            plotted=False,
        )
        for beta_1, beta_2 in pairs
    )


def _study(
    name: str,
    title: str,
    section: str,
    problem: str,
    arms: tuple[Arm, ...],
    profiles: dict[str, Profile],
    departures: tuple[Departure, ...],
    *,
    options: dict[str, Any] | None = None,
    data_set: str = "mnist",
    batch_size: int = 128,
    epoch_ms: float,
) -> Study:
    """A study that measures; its page is the theory's."""
    return Study(
        name=name,
        title=title,
        section=section,
        problem=problem,
        options=options or {},
        data_set=data_set,
        batch_size=batch_size,
        arms=arms,
        profiles=profiles,
        panels=(Panel(name, x=(0, 1), y=(0, 1)),),
        departures=(NUMPY, *departures),
        notebook="06_theory",
        step_ms=epoch_ms,
    )


MEMORY = _study(
    "sec1-memory",
    "What each method keeps for a parameter",
    "Section 1",
    "optimizer_state",
    (Arm("methods", "adam", grid={"learning_rate": (0.001,)}, plotted=False),),
    {
        "smoke": Profile(epochs=1, seeds=1, options={"largest": 3}),
        "quick": Profile(epochs=1, seeds=1),
        "paper": Profile(epochs=1, seeds=3),
    },
    (
        Departure(
            "What the methods keep between steps, in float32.",
            "The paper gives no numbers. What a step needs for a moment depends on the framework.",
        ),
        Departure("Three equal seeds.", "Nothing is random; the rules ask for three."),
    ),
    data_set="none",
    batch_size=1,
    epoch_ms=500.0,
)

# The speeds are named by how many times that of the first run, `walk`, they are.
MOTIONS: dict[str, dict[str, Any]] = {
    "rest": {"motion": "rest"},
    "walk": {"motion": "walk"},
    "jumps": {"motion": "jumps"},
    "walk/x0.5": {"motion": "walk", "start": "optimum", "speed": 0.005},
    "walk/x1": {"motion": "walk", "start": "optimum", "speed": 0.01},
    "walk/x2": {"motion": "walk", "start": "optimum", "speed": 0.02},
    "walk/x4": {"motion": "walk", "start": "optimum", "speed": 0.04},
    "jumps/settled": {"motion": "jumps", "start": "optimum"},
}

DRIFT = _study(
    "sec1-drift",
    "Objectives that move",
    "Section 1",
    "drift",
    tuple(
        Arm(name, "adam", grid={"learning_rate": (0.01,)}, options=options, plotted=False)
        for name, options in MOTIONS.items()
    ),
    {
        "smoke": Profile(epochs=1, seeds=1, options={"steps": 200, "dimensions": 5}),
        "quick": Profile(epochs=1, seeds=1, options={"steps": 3_000}),
        "paper": Profile(epochs=1, seeds=10),
    },
    (
        Departure(
            "A linear regression, one example a step, whose optimum rests, walks or jumps.",
            "The paper has no experiment with an objective that changes.",
        ),
        Departure(
            "The walk is judged at four speeds, from 0.5 to 4 times that of the first run, all "
            "started at the optimum. The first run, from zero, stays as a control.",
            "From zero, most of the cost is the approach. At first there was that run alone, in "
            "which Adam's cost was 1.35 times AdaGrad's. Other starts and speeds had been tried "
            "before this grid was declared: 0.72 at that speed from the optimum, 0.85 and 0.68 at "
            "two and three times the speed.",
        ),
        Departure(
            "Each method at its own best of 49 constant step sizes, an eighth of a decade apart, "
            "chosen on another sequence; AdaGrad too, although its steps shrink by themselves.",
            "At a step size that suits one method alone the comparison would say nothing. At "
            "first there were 13, half a decade apart; AdaGrad's best lay between two of them, and "
            "Adam's cost on the walking optimum seemed 1.11 times as high.",
        ),
        Departure(
            "beta_1 falls to a hundredth over the run. The step size is alpha / sqrt(t), with the "
            "alpha that is best over the last tenth of the steps, which is what is compared.",
            "The paper's lambda of 1 - 1e-8 changes nothing within 10,000 steps.",
        ),
    ),
    data_set="none",
    batch_size=1,
    epoch_ms=10_000.0,
)

STEPS = _study(
    "sec2-steps",
    "The size of Adam's steps in training, and its invariances",
    "Section 2.1",
    "step_sizes",
    _arms(learning_rate=(0.001,)),
    {
        "smoke": Profile(epochs=1, seeds=1, options={"train_examples": 640}),
        "quick": Profile(epochs=3, seeds=1, options={"train_examples": 10_000}),
        "paper": Profile(epochs=45, seeds=3),
    },
    (
        Departure(
            "Logistic regression on MNIST, batches of 128, alpha = 0.001, from zero, for 45 "
            "passes, as long as Figure 1.",
            "The paper states the bounds and shows no measurement. At first there were ten passes, "
            "in which no step of the default betas was too long; then 45 were tried, in which the "
            "longest of one seed in three was 1.04 times the bound.",
        ),
        Departure(
            "Gradients are rescaled by 0.001, and by a random factor between 0.001 and 1000 for "
            "each coordinate; both with epsilon = 0 and with 1e-8.",
            "The paper's invariance holds for epsilon = 0; 1e-8 shows what a user gets.",
        ),
    ),
    options={"train_examples": 60_000},
    epoch_ms=6000.0,
)

WORST = _study(
    "sec2-worst",
    "The longest steps that Adam can take",
    "Section 2.1",
    "constructed_steps",
    # And one at which the paper's condition holds with equality.
    _arms((*PAIRS, (0.9, 0.99)), learning_rate=(0.001,), epsilon=(0.0,)),
    {
        "smoke": Profile(epochs=1, seeds=1, options={"steps": 100}),
        "quick": Profile(epochs=1, seeds=1, options={"steps": 3_000}),
        "paper": Profile(epochs=1, seeds=3),
    },
    (
        Departure(
            "Two sequences of gradients made to lengthen the last step: nothing before it, and "
            "gradients that grow by beta_2 / beta_1 a step.",
            "The first is the paper's own worst case; by the inequality of Cauchy and Schwarz the "
            "second is the worst there is.",
        ),
        Departure("Three equal seeds.", "Nothing is random; the rules ask for three."),
    ),
    options={"steps": 10_000},
    data_set="none",
    batch_size=1,
    epoch_ms=2000.0,
)

SIGNAL = _study(
    "sec2-signal",
    "Steps along gradients of a known signal-to-noise ratio",
    "Section 2.1",
    "signal_steps",
    tuple(
        Arm(
            f"signal {signal:g}",
            "adam",
            grid={"learning_rate": (0.001,), "epsilon": (0.0,)},
            options={"signal": signal},
            plotted=False,
        )
        for signal in (0.0, 0.1, 0.5, 0.9, 0.99)
    ),
    {
        "smoke": Profile(epochs=1, seeds=1, options={"steps": 100, "dimensions": 10}),
        "quick": Profile(epochs=1, seeds=1, options={"steps": 1_000}),
        "paper": Profile(epochs=1, seeds=3),
    },
    (
        Departure(
            "Independent Gaussian gradients with E[g] / √E[g²] of 0, 0.1, 0.5, 0.9 and 0.99.",
            "The paper speaks of this ratio and shows no measurement.",
        ),
    ),
    data_set="none",
    batch_size=1,
    epoch_ms=1500.0,
)

IDENTITIES = _study(
    "sec2-identities",
    "What Adam equals, and what it tends to",
    "Section 2",
    "identities",
    (Arm("defaults", "adam", grid={"learning_rate": (0.001,)}, plotted=False),),
    {
        "smoke": Profile(epochs=1, seeds=1, options={"steps": 100}),
        "quick": Profile(epochs=1, seeds=1),
        "paper": Profile(epochs=1, seeds=3, options={"steps": 10_000}),
    },
    (
        Departure(
            "Gaussian gradients of 100 coordinates, whose scales fall from 1 to 1e-9.",
            "The paper's statements are about any gradients; the smallest are below epsilon.",
        ),
        Departure(
            "The limit of AdaGrad is taken at beta_2 = 1 - 1e-8.",
            "The paper's is infinitesimal. After 10,000 steps a difference of up to 1e-8 times "
            "10,000 could be left, which the rule allows; it is smaller.",
        ),
    ),
    options={"steps": 1_000},
    data_set="none",
    batch_size=1,
    epoch_ms=1000.0,
)

LIMIT = _study(
    "sec2-limit",
    "AdaMax as the limit of Adam with an L^p norm",
    "Section 2",
    "norms",
    (Arm("defaults", "adam", grid={"learning_rate": (0.002,)}, plotted=False),),
    {
        "smoke": Profile(epochs=1, seeds=1, options={"steps": 100}),
        "quick": Profile(epochs=1, seeds=1),
        "paper": Profile(epochs=1, seeds=3, options={"steps": 10_000}),
    },
    (
        Departure(
            "p = 2, 8, 32 and 128, along the same gradients as the identities of Section 2.",
            "The paper takes p → ∞. |g|^p underflows; we update the p-th root instead.",
        ),
    ),
    options={"steps": 1_000},
    data_set="none",
    batch_size=1,
    epoch_ms=2000.0,
)

BIAS = _study(
    "sec3-bias",
    "The bias of the moments, with and without correction",
    "Section 3",
    "moment_bias",
    tuple(
        Arm(
            name,
            "adam",
            grid={"learning_rate": (0.001,)},
            options={"parameters": name},
            plotted=False,
        )
        for name in ("fixed", "moving")
    )
    + tuple(
        Arm(
            f"path/b2={beta_2:g}",
            "adam",
            grid={"learning_rate": (0.001,), "beta_2": (beta_2,)},
            options={"parameters": "path", "train_examples": 2_560},
            plotted=False,
        )
        for beta_2 in (0.9, 0.99, 0.999, 0.9999)
    ),
    {
        "smoke": Profile(epochs=1, seeds=1, options={"train_examples": 640, "replicates": 4}),
        "quick": Profile(epochs=10, seeds=1, options={"train_examples": 2_560, "replicates": 8}),
        "paper": Profile(epochs=100, seeds=3),
    },
    (
        Departure(
            "Each step draws one of 78 batches of 128 images, so that expectations are exact "
            "means over all of them; 32 sequences for each seed while the parameters rest.",
            "The paper's derivation speaks of expectations; it shows no measurement.",
        ),
        Departure(
            "In training zeta is measured along one sequence, alpha = 0.001.",
            "The paper says that zeta can be kept small.",
        ),
        Departure(
            "With beta_2 of 0.9, 0.99, 0.999 and 0.9999, v averages the expected squared gradients "
            "along the path of the parameters, on 20 batches of 128, 2,000 steps.",
            "A short average of single gradients is noisy, and noise is not zeta. The expectation "
            "at every step takes all batches: fewer of them keep it cheap.",
        ),
    ),
    options={"train_examples": 10_000, "replicates": 32},
    epoch_ms=1000.0,
)

THEOREM = {"decay": ("sqrt_step",), "beta_1_decay": (0.99,), "epsilon": (0.0,)}

REGRET = _study(
    "sec4-regret",
    "The regret of Adam on convex problems, against Theorem 4.1",
    "Section 4",
    "regret",
    (
        Arm(
            "logistic",
            "adam",
            grid={"learning_rate": (0.01,), **THEOREM},
            options={"problem": "logistic"},
            plotted=False,
        ),
        Arm(
            "quadratic",
            "adam",
            grid={"learning_rate": (0.1,), **THEOREM},
            options={"problem": "quadratic"},
            plotted=False,
        ),
        Arm(
            "sparse",
            "adam",
            grid={"learning_rate": (0.1,), **THEOREM},
            options={"problem": "sparse"},
            plotted=False,
        ),
        Arm(
            "absolute",
            "adam",
            grid={
                "learning_rate": (0.1,),
                "decay": ("sqrt_step",),
                "beta_1": (0.0,),
                "epsilon": (0.0,),
            },
            options={"problem": "absolute"},
            plotted=False,
        ),
    ),
    {
        "smoke": Profile(
            epochs=1, seeds=1, options={"train_examples": 640, "steps": 100, "dimensions": 5}
        ),
        "quick": Profile(epochs=10, seeds=1, options={"train_examples": 5_000, "steps": 3_000}),
        "paper": Profile(epochs=128, seeds=3, options={"steps": 100_000}),
    },
    (
        Departure(
            "Four sequences of convex losses: MNIST minibatches with an L2 term, quadratics with "
            "random centres, the same with few coordinates at a time, and 0.01 |theta|.",
            "The paper proves the theorem and shows no measurement.",
        ),
        Departure(
            "lambda = 0.99 and epsilon = 0. For the last one beta_1 = 0, so that Adam does not "
            "depend on lambda; the bound does, and we take its limit lambda → 0, where it is "
            "smallest.",
            "With the paper's lambda = 1 - 1e-8 the third term of the bound is of order 1e16: "
            "the theorem then says nothing.",
        ),
        Departure(
            "G, D and their maximum norms are those encountered on the way.",
            "The theorem needs bounds; small ones make its bound tight. D is the diagonal of the "
            "box of iterates and optimum.",
        ),
    ),
    options={
        "train_examples": 10_000,
        "l2": 1e-3,
        "steps": 10_000,
        "dimensions": 100,
        "scale": 0.01,
    },
    epoch_ms=1000.0,
)


def _reddi(
    kind: str,
    bounds: str,
    betas: tuple[float, float],
    methods: tuple[str, ...] = ("Adam", "AMSGrad"),
) -> tuple[Arm, ...]:
    """Methods on one kind of functions; as in Reddi et al., only what says so is corrected."""
    name = f"{kind}, walled" if bounds == "wall" else kind
    return tuple(
        Arm(
            f"{name}/{method}",
            "adam",
            grid={
                "learning_rate": (0.5,),
                "decay": ("sqrt_step",),
                "beta_1": (betas[0],),
                "beta_2": (betas[1],),
                "epsilon": (0.0,),
                "bias_correction": ("corrected" in method,),
                "amsgrad": (method == "AMSGrad",),
            },
            options={"kind": kind, "bounds": bounds},
            plotted=False,
        )
        for method in methods
    )


COUNTEREXAMPLE = _study(
    "sec4-counterexample",
    "Where Adam fails: the functions of Reddi, Kale and Kumar",
    "Section 4",
    "counterexample",
    (
        *_reddi("three", "clip", (0.0, 0.1)),
        *_reddi("three", "wall", (0.0, 0.1)),
        *_reddi("online", "clip", (0.9, 0.99)),
        *_reddi("stochastic", "clip", (0.9, 0.99)),
        *_reddi("three", "wall", (0.0, 0.1), ("Adam, corrected",)),
    ),
    {
        "smoke": Profile(epochs=1, seeds=1, options={"steps": 1_000}),
        "quick": Profile(epochs=1, seeds=1, options={"steps": 100_000}),
        "paper": Profile(epochs=1, seeds=3, options={"steps": 3_000_000}),
    },
    (
        Departure(
            "alpha_t = 0.5 / sqrt(t), from 0; Adam without bias correction and epsilon.",
            "Reddi, Kale and Kumar (2018) analyse this form; they give no step size.",
        ),
        Departure(
            "`walled` leaves theta free and adds a steep convex wall outside [-1, 1].",
            "Theorem 4.1 has no clipping. This meets its conditions except for the bias "
            "correction, which at beta_2 = 0.1 is gone within a few steps; `Adam, corrected` has "
            "it, and meets them all.",
        ),
    ),
    options={"c": 3.0, "x_1": 0.0, "steps": 300_000},
    data_set="none",
    batch_size=1,
    epoch_ms=4000.0,
)

STUDIES = (
    *(MEMORY, DRIFT, STEPS, SIGNAL, IDENTITIES, LIMIT),
    *(WORST, BIAS, REGRET, COUNTEREXAMPLE),
)
