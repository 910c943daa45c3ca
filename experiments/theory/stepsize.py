"""How long a step can be (Section 2.1).

Arguments of the measurements: see `registry.Entry.measured`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from experiments.randomness import batch_order, stream
from experiments.theory.adam import Adam, Array, Row, Settings, recorded_steps
from experiments.theory.options import ConstructedSteps, SignalSteps, StepSizes
from experiments.theory.regression import CLASSES, cross_entropy, load_digits


def paper_bound(adam: Adam) -> float:
    """The paper's bound on |Delta_t| / alpha for epsilon = 0 (Section 2.1).

    (1 - beta_1) / sqrt(1 - beta_2) if (1 - beta_1) > sqrt(1 - beta_2), otherwise 1.
    """
    return max(1.0, (1 - adam.beta_1) / math.sqrt(1 - adam.beta_2))


def sharp_bounds(adam: Adam, last: int) -> Array:
    """The least upper bound of |Delta_t| / alpha_t over all gradients, for t = 1 to `last`.

    With m_t = sum_k w_k g_k and v_t = sum_k u_k g_k^2, by Cauchy and Schwarz

        |m_t| / sqrt(v_t) <= sqrt(S_t),    S_t = sum_k w_k^2 / u_k,

    and S_t = beta_1,t^2 / beta_2 S_(t-1) + (1 - beta_1,t)^2 / (1 - beta_2). The correction adds the
    factor sqrt(1 - beta_2^t) / (1 - beta_1^t). With the default betas the limit is 7.27. A positive
    epsilon and AMSGrad only make steps smaller.

    Raises:
        ValueError: beta_2 is 0, so that there is no bound.
    """
    if adam.beta_2 == 0:
        raise ValueError("beta_2=0 is not valid here: a step then has no bound")
    squares = np.empty(last)
    square = 0.0
    for t in range(1, last + 1):
        beta_1 = adam.beta_1 * adam.beta_1_decay ** (t - 1)
        square = beta_1**2 / adam.beta_2 * square + (1 - beta_1) ** 2 / (1 - adam.beta_2)
        squares[t - 1] = square
    if not adam.bias_correction:
        return np.sqrt(squares)
    steps = np.arange(1, last + 1)
    return np.sqrt(squares * (1 - adam.beta_2**steps)) / (1 - adam.beta_1**steps)


def worst_gradients(adam: Adam, last: int) -> Array:
    """The gradients g_1 to g_last that make the last step as long as `sharp_bounds` allows.

    g_k is proportional to w_k / u_k, which is (beta_1 / beta_2)^(last - k) at lambda = 1: gradients
    that grow by beta_2 / beta_1 from step to step.
    """
    beta_1 = adam.beta_1 * adam.beta_1_decay ** np.arange(last)
    later = np.cumprod(beta_1[:0:-1] / adam.beta_2)[::-1]
    gradients = (1 - beta_1) * np.append(later, 1.0)
    return gradients / gradients.max()


def constructed_steps(
    data: str,
    seed: int,
    settings: Settings,
    batch_size: int,
    epochs: int,
    options: ConstructedSteps,
) -> Iterator[Row]:
    """The last of t steps along gradients made to lengthen it (Section 2.1); nothing is random.

    A row is a number of steps t (`recorded_steps`), each from a fresh start. All lengths are
    |Delta_t| / alpha_t. `sparse`: the gradient is 0 except at step t, where it is 1; the length
    tends to the paper's bound for large t, and reaches it at once without the bias correction.
    `growing`: `worst_gradients`, which reach the sharp bound at every t.

    Names: t; sparse_step, sparse_over_paper; growing_step, growing_over_paper, growing_over_sharp;
    paper_bound, sharp_bound.
    """
    paper = paper_bound(Adam(**settings))
    bounds = sharp_bounds(Adam(**settings), options.steps)
    for t in recorded_steps(options.steps):
        adam = Adam(**settings)
        gradients = np.zeros((t, 2))
        gradients[-1, 0] = 1.0
        gradients[:, 1] = worst_gradients(adam, t)
        for gradient in gradients:
            move = adam.step(gradient)
        sparse, growing = (float(length) for length in np.abs(move) / adam.rate)
        yield {
            "t": float(t),
            "sparse_step": sparse,
            "sparse_over_paper": sparse / paper,
            "growing_step": growing,
            "growing_over_paper": growing / paper,
            "growing_over_sharp": growing / float(bounds[t - 1]),
            "paper_bound": paper,
            "sharp_bound": float(bounds[t - 1]),
        }


def signal_steps(
    data: str, seed: int, settings: Settings, batch_size: int, epochs: int, options: SignalSteps
) -> Iterator[Row]:
    """How long steps are along random gradients of a given signal (Section 2.1).

    The gradients are independent draws from N(s, 1 - s^2) with s = `signal`, so that
    E[g] / sqrt(E[g^2]) = s: 1 is all signal, 0 is pure noise.

    A row is a step t (`recorded_steps`):

    - t;
    - mean_step: the mean of |Delta_t| / alpha_t over the coordinates.
    """
    adam = Adam(**settings)
    draws = stream(seed, "gradients")
    noise = math.sqrt(1 - options.signal**2)
    recorded = set(recorded_steps(options.steps))
    for t in range(1, options.steps + 1):
        gradient = options.signal + noise * draws.standard_normal(options.dimensions)
        move = adam.step(gradient)
        if t in recorded:
            yield {"t": float(t), "mean_step": float(np.abs(move).mean() / adam.rate)}


def step_sizes(
    data: str, seed: int, settings: Settings, batch_size: int, epochs: int, options: StepSizes
) -> Iterator[Row]:
    """Steps and invariances while a logistic regression on MNIST is trained (Section 2.1).

    Six copies are trained on the same batches, from zero: three with the given epsilon and three
    with epsilon = 0. Of each three, one takes its gradients as they are, one multiplies them by
    `scale`, and one by a separate factor for each coordinate, drawn log-uniformly between `scale`
    and 1 / `scale`.

    A row is a pass. Lengths are |Delta_t| / alpha_t of the first copy:

    - largest_step: over all coordinates and steps of the pass; largest_over_paper and
      largest_over_sharp: relative to `paper_bound` and to `sharp_bounds` of the same step;
    - largest_step_no_epsilon: the same for the copy with epsilon = 0, as the bounds are stated;
    - mean_step and mean_snr: the mean length, and the mean of |m_hat| / sqrt(v_hat), over the
      coordinates that have had a gradient and over the steps of the pass. The latter should fall
      towards the optimum ("automatic annealing"); for gradients of pure noise its root mean square
      is sqrt((1 - beta_1) / (1 + beta_1)) = 0.23;
    - longer_than_alpha: the share of these coordinates whose step is longer than alpha;
    - overall_snr: the root of sum m_hat^2 / sum v_hat, in which rare pixels do not count;
    - training_cost: mean cost of the pass's batches, each before its step;
    - difference_scaled and difference_rescaled: after the pass, the largest |theta' - theta| over
      the largest |theta| for the copies with rescaled gradients; with "_no_epsilon" for those with
      epsilon = 0, where the paper's invariance is exact up to rounding.
    """
    digits = load_digits(data, options.train_examples)
    steps = len(batch_order(seed, 0, len(digits.labels), batch_size))
    adams = [
        Adam(**{**settings, **change}, steps_per_epoch=steps) for change in ({}, {"epsilon": 0.0})
    ]
    paper, sharp = paper_bound(adams[0]), sharp_bounds(adams[0], epochs * steps)
    factors = _factors(seed, options.scale, digits.images.shape[1] + 1)
    theta = np.zeros((2, *factors.shape))
    for epoch in range(epochs):
        seen = []
        for which in batch_order(seed, epoch, len(digits.labels), batch_size):
            x, y = digits.batch(which)
            costs, derivatives = cross_entropy(theta, x, y)
            gradients = x.T @ derivatives / len(y) * factors
            moves = np.stack([adam.step(g) for adam, g in zip(adams, gradients, strict=True)])
            theta -= moves
            given, without = np.abs(moves[:, 0]) / adams[0].rate
            seen.append(
                {
                    "largest_step": given.max(),
                    "largest_over_paper": given.max() / paper,
                    "largest_over_sharp": given.max() / sharp[adams[0].t - 1],
                    "largest_step_no_epsilon": without.max(),
                    **_means(given, adams[0].m_hat[0], adams[0].v_hat[0]),
                    "training_cost": costs[0, 0].mean(),
                }
            )
        whole = {}
        for name in seen[0]:
            over = np.max if name.startswith("largest") else np.mean
            whole[name] = float(over([step[name] for step in seen]))
        yield {
            **whole,
            "difference_scaled": _difference(theta[0, 1], theta[0, 0]),
            "difference_rescaled": _difference(theta[0, 2], theta[0, 0]),
            "difference_scaled_no_epsilon": _difference(theta[1, 1], theta[1, 0]),
            "difference_rescaled_no_epsilon": _difference(theta[1, 2], theta[1, 0]),
        }


def _means(lengths: Array, m_hat: Array, v_hat: Array) -> Row:
    """The means over one step that go into a row of `step_sizes`."""
    reached = v_hat > 0
    return {
        "mean_step": float(lengths[reached].mean()),
        "longer_than_alpha": float(np.mean(lengths[reached] > 1)),
        "mean_snr": float(np.mean(np.abs(m_hat[reached]) / np.sqrt(v_hat[reached]))),
        "overall_snr": math.sqrt(np.sum(m_hat**2) / np.sum(v_hat)),
    }


def _factors(seed: int, scale: float, inputs: int) -> Array:
    """What the gradients of the three copies are multiplied by, (3, inputs, classes)."""
    decades = abs(math.log10(scale))
    drawn = stream(seed, "factors").uniform(-decades, decades, (inputs, CLASSES))
    return np.stack([np.ones_like(drawn), np.full_like(drawn, scale), 10.0**drawn])


def _difference(theta: Array, reference: Array) -> float:
    return float(np.abs(theta - reference).max() / np.abs(reference).max())
