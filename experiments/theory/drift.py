"""Objectives that move: how closely methods follow a drifting optimum (Section 1 and abstract).

`drift` is a measurement like the others in this folder. Its arguments: see
`registry.Entry.measured`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from experiments.options import known
from experiments.randomness import stream
from experiments.theory.adam import Adam, Array, Row, Settings, quotient, recorded_steps
from experiments.theory.options import Drift

MOTIONS = ("rest", "walk", "jumps")
RATES = 49  # step sizes, an eighth of a decade apart, around the given one
TUNING = 1000  # added to a seed for the sequence on which step sizes are chosen
DEFAULTS = {"beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-8}
Direction = Callable[[Array], Array]


def optima(motion: str, seed: int, steps: int, dimensions: int, speed: float) -> Array:
    """The optimum at each step, (steps, dimensions).

    - "rest": it stays at one point with coordinates from N(0, 1);
    - "walk": it starts at such a point, and each step adds N(0, speed^2) to every coordinate;
    - "jumps": it rests at such a point, which is drawn anew after every twentieth of the steps.

    Args:
        motion: one of `MOTIONS`.
        seed: of the sequence.
        steps: how many there are.
        dimensions: how many coordinates the optimum has.
        speed: the standard deviation of a step of a "walk".

    Raises:
        ValueError: an unknown motion.
    """
    known("motion", motion, MOTIONS)
    normal = stream(seed, "functions").standard_normal
    if motion == "walk":
        first, moves = normal(dimensions), normal((steps - 1, dimensions)) * speed
        return np.cumsum(np.vstack([first, moves]), axis=0)
    places = normal((20, dimensions))
    stay = np.minimum(np.arange(steps) * 20 // steps, 19) if motion == "jumps" else np.zeros(steps)
    found: Array = places[stay.astype(int)]
    return found


def methods(beta_1: float, beta_2: float, epsilon: float, steps: int) -> dict[str, Direction]:
    """Each method's step for alpha = 1, as a function of gradients given one after the other.

    `adam_sqrt` and `adam_decayed` take alpha / sqrt(t), as in Section 4; the second also lets
    beta_1 fall to a hundredth of itself over the run, beta_1,t = beta_1 lambda^(t-1).

    Args:
        beta_1: Adam's.
        beta_2: Adam's.
        epsilon: Adam's.
        steps: the length of the run.

    Returns:
        The functions by name; each has its own memory and takes gradients of any one shape.
    """
    falling = 0.01 ** (1 / steps)
    squares: dict[str, Array] = {}

    def adagrad(gradient: Array) -> Array:
        squares["sum"] = squares.get("sum", 0.0) + gradient**2
        return quotient(gradient, np.sqrt(squares["sum"]))

    def rmsprop(gradient: Array) -> Array:
        squares["mean"] = 0.9 * squares.get("mean", np.zeros_like(gradient)) + 0.1 * gradient**2
        return quotient(gradient, np.sqrt(squares["mean"]))

    def adam(decay: str = "constant", beta_1_decay: float = 1.0) -> Direction:
        made = Adam(1.0, decay, beta_1, beta_2, epsilon, beta_1_decay=beta_1_decay)
        return made.step

    return {
        "sgd": lambda gradient: gradient,
        "adagrad": adagrad,
        "rmsprop": rmsprop,
        "adam": adam(),
        "adam_sqrt": adam("sqrt_step"),
        "adam_decayed": adam("sqrt_step", falling),
    }


def excesses(
    step: Direction,
    alphas: Array,
    seed: int,
    optimum: Array,
    batch_size: int,
    noise: float,
    start: str = "zero",
) -> Array:
    """The excess cost before each step, (steps, alphas), of one method at several step sizes.

    The cost is half the squared error of a linear regression on inputs from N(0, 1) with noisy
    targets; its excess at theta is |theta - optimum|^2 / 2.

    Args:
        step: the method's step for alpha = 1, from gradients (alphas, dimensions).
        alphas: the step sizes, (alphas,).
        seed: of inputs and noise.
        optimum: at each step, (steps, dimensions).
        batch_size: examples of a step.
        noise: standard deviation of the noise in the targets.
        start: where theta begins: at 0 ("zero"), or at the first "optimum".
    """
    steps, dimensions = optimum.shape
    draws = stream(seed, "draws")
    theta, found = np.zeros((len(alphas), dimensions)), np.empty((steps, len(alphas)))
    if start == "optimum":
        theta += optimum[0]
    with np.errstate(over="ignore", invalid="ignore"):  # steps that are too long diverge
        for t, best in enumerate(optimum):
            x = draws.standard_normal((batch_size, dimensions))
            error = (theta - best) @ x.T - noise * draws.standard_normal(batch_size)
            found[t] = np.square(theta - best).sum(axis=1) / 2
            theta = theta - alphas[:, None] * step(error @ x / batch_size)
    return np.where(np.isfinite(found), found, np.inf)


def drift(
    data: str, seed: int, settings: Settings, batch_size: int, epochs: int, options: Drift
) -> Iterator[Row]:
    """How closely SGD, AdaGrad, RMSProp and Adam follow the optimum of a linear regression.

    Every method uses its own best of 49 step sizes, an eighth of a decade apart around
    `learning_rate`: the one with the least mean excess cost on another sequence, that of
    seed + 1000; over all steps, or over the last tenth where that is what is compared. AdaGrad and
    SGD have no other setting; RMSProp's rho is 0.9.

    A row is a number of steps T (`recorded_steps`):

    - t: T;
    - sgd, adagrad, rmsprop, adam, adam_sqrt, adam_decayed (`methods`): the mean excess cost
      (`excesses`) over the first T steps;
    - NAME_late: the same over the last tenth of them, at the step size that is best then;
    - NAME_alpha, NAME_late_alpha: the step sizes;
    - adam_over_adagrad, adam_over_sgd: ratios of the means over the first T steps;
    - decayed_over_sqrt: of `adam_decayed_late` over `adam_sqrt_late`.
    """
    given = {name: float(settings.get(name, default)) for name, default in DEFAULTS.items()}
    alphas = float(settings["learning_rate"]) * 10 ** ((np.arange(RATES) - RATES // 2) / 8)

    def follow(name: str, rates: Array, which: int) -> Array:
        optimum = optima(options.motion, which, options.steps, options.dimensions, options.speed)
        step = methods(**given, steps=options.steps)[name]
        return excesses(step, rates, which, optimum, batch_size, options.noise, options.start)

    names = list(methods(**given, steps=options.steps))
    totals: dict[str, Array] = {}  # running sums at the two step sizes
    chosen: dict[str, Array] = {}
    for name in names:
        with np.errstate(over="ignore"):
            tried = follow(name, alphas, seed + TUNING)
            ends = (tried, tried[-max(1, round(options.steps / 10)) :])
            best = [int(np.argmin(part.mean(axis=0))) for part in ends]
        chosen[name] = alphas[best]
        totals[name] = np.cumsum(follow(name, chosen[name], seed), axis=0)
    for t in recorded_steps(options.steps):
        late = max(1, round(t / 10))
        row = {"t": float(t)}
        for name in names:
            whole, total = totals[name].T
            before = total[t - late - 1] if t > late else 0.0
            row[name] = float(whole[t - 1] / t)
            row[f"{name}_late"] = float((total[t - 1] - before) / late)
            row[f"{name}_alpha"], row[f"{name}_late_alpha"] = map(float, chosen[name])
        row["adam_over_adagrad"] = _over(row["adam"], row["adagrad"])
        row["adam_over_sgd"] = _over(row["adam"], row["sgd"])
        row["decayed_over_sqrt"] = _over(row["adam_decayed_late"], row["adam_sqrt_late"])
        yield row


def _over(cost: float, other: float) -> float:
    """The ratio of two costs; 1 at the first step from the optimum, where nobody pays."""
    return 1.0 if cost == other == 0 else cost / other
