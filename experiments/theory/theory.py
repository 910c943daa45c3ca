"""What Sections 2.1, 3 and 4 of the paper say about Adam, measured in float64.

Each measurement is a generator function `(data, seed, settings, batch_size, epochs, **options)`
that yields rows of finite numbers by name, every row with the same names; its docstring says what
a row is. `settings` are those of `Adam` below, by the names of
`experiments.methods.optimizers.adam`.

- `step_sizes` and `constructed_steps`: how long a step can be (Section 2.1);
- `moment_bias`: what the bias correction corrects (Section 3);
- `regret`: Theorem 4.1 where Adam converges, and where its bound as printed fails (Section 4);
- `counterexample`: convex problems on which Adam fails, and Theorem 4.1 with it (Reddi, Kale and
  Kumar, On the Convergence of Adam and Beyond, ICLR 2018).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from experiments.data import mnist
from experiments.options import known
from experiments.randomness import batch_order, stream

Array = NDArray[np.float64]
Settings = Mapping[str, Any]
Row = dict[str, float]

CLASSES = 10
DECAYS = ("constant", "sqrt_epoch", "sqrt_step")


@dataclass
class Adam:
    """Algorithm 1 on an array or on a float, with the variants of Sections 4 and 6.4.

        m_t = beta_1,t m_(t-1) + (1 - beta_1,t) g_t       m_hat = m_t / (1 - beta_1^t)
        v_t = beta_2 v_(t-1) + (1 - beta_2) g_t^2         v_hat = v_t / (1 - beta_2^t)
        theta_t = theta_(t-1) - alpha_t m_hat / (sqrt(v_hat) + epsilon)

    A coordinate whose squared gradients were all 0 stays where it is, also with epsilon = 0.

    Attributes:
        learning_rate: alpha.
        decay: alpha_t is alpha ("constant"), or alpha / sqrt(t) with t in steps ("sqrt_step") or in
            passes ("sqrt_epoch").
        beta_1: decay rate of the first moment.
        beta_2: decay rate of the second moment.
        epsilon: what is added outside the square root.
        bias_correction: False takes m_hat = m_t and v_hat = v_t.
        beta_1_decay: lambda of Theorem 4.1: beta_1,t = beta_1 lambda^(t-1).
        amsgrad: put the largest v_s of all s <= t in the place of v_t in v_hat (Reddi et al., who
            correct no bias).
        steps_per_epoch: how many steps a pass has.
        t: steps taken so far.
        m: first moment.
        v: second moment.
        v_max: the largest second moment so far; 0 without `amsgrad`.
    """

    learning_rate: float
    decay: str = "constant"
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8
    bias_correction: bool = True
    beta_1_decay: float = 1.0
    amsgrad: bool = False
    steps_per_epoch: int = 1
    t: int = 0
    m: Any = 0.0
    v: Any = 0.0
    v_max: Any = 0.0

    def __post_init__(self) -> None:
        """Refuse an unknown decay."""
        known("decay", self.decay, DECAYS)

    def observe(self, gradient: Any) -> None:
        """Take the gradient of the next step into the moments."""
        self.t += 1
        beta_1 = self.beta_1 * self.beta_1_decay ** (self.t - 1)
        self.m = beta_1 * self.m + (1 - beta_1) * gradient
        self.v = self.beta_2 * self.v + (1 - self.beta_2) * gradient * gradient
        if self.amsgrad:
            self.v_max = _larger(self.v_max, self.v)

    def step(self, gradient: Any) -> Any:
        """What to subtract from the parameters that have this gradient."""
        self.observe(gradient)
        return self.rate * _quotient(self.m_hat, _root(self.v_hat) + self.epsilon)

    @property
    def rate(self) -> float:
        """alpha_t."""
        if self.decay == "constant":
            return self.learning_rate
        passed = self.t if self.decay == "sqrt_step" else -(-self.t // self.steps_per_epoch)
        return self.learning_rate / math.sqrt(passed)

    @property
    def m_hat(self) -> Any:
        """The first moment, corrected."""
        return self.m / (1 - self.beta_1**self.t) if self.bias_correction else self.m

    @property
    def v_hat(self) -> Any:
        """The second moment, corrected; with `amsgrad` its maximum."""
        v = self.v_max if self.amsgrad else self.v
        return v / (1 - self.beta_2**self.t) if self.bias_correction else v


# The same arithmetic for arrays and for floats: a million steps of one float take seconds.


def _root(value: Any) -> Any:
    return math.sqrt(value) if isinstance(value, float) else np.sqrt(value)


def _larger(a: Any, b: Any) -> Any:
    return max(a, b) if isinstance(b, float) else np.maximum(a, b)


def _quotient(a: Any, b: Any) -> Any:
    """a / b, and 0 where b is 0."""
    if isinstance(b, float):
        return a / b if b > 0 else 0.0
    return np.divide(a, b, out=np.zeros_like(b), where=b > 0)


def recorded_steps(last: int) -> list[int]:
    """Step numbers from 1 to `last`, ten a decade where that many are whole, and `last`."""
    spaced = {round(10 ** (k / 10)) for k in range(int(10 * math.log10(last)) + 1)}
    return sorted(spaced | {last})


# --- Logistic regression on MNIST ---


@dataclass(frozen=True)
class Digits:
    """Training examples of MNIST: images (n, 784) of bytes and labels (n,)."""

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]

    def batch(self, which: Any) -> tuple[Array, NDArray[np.uint8]]:
        """The inputs (n, 785) of some examples, pixels in [0, 1] and a 1, and their labels."""
        images = self.images[which]
        x = np.ones((len(images), images.shape[1] + 1))
        np.divide(images, 255.0, out=x[:, :-1])
        return x, self.labels[which]


def load_digits(data: str, examples: int) -> Digits:
    """The first training examples of a data set.

    Raises:
        ValueError: there are not so many.
    """
    arrays = mnist.load(data)
    n = int(examples)
    if not 0 < n <= len(arrays.x_train):
        raise ValueError(f"train_examples={examples} is not valid: use 1 to {len(arrays.x_train)}")
    return Digits(arrays.x_train[:n].reshape(n, -1), arrays.y_train[:n])


def cross_entropy(theta: Array, x: Array, y: NDArray[np.uint8]) -> tuple[Array, Array]:
    """The cost of each example in nats, and its derivatives by the example's scores.

    With p = softmax(x theta) the cost is -log p_y and its derivatives are p - onehot(y). `theta`
    may be a stack (..., 785, 10) of parameters; the results are (..., n) and (..., n, 10). The
    gradient of the mean cost is `x.T @ derivatives / n`.
    """
    scores = x @ theta
    scores -= scores.max(axis=-1, keepdims=True)
    scores -= np.log(np.exp(scores).sum(axis=-1, keepdims=True))
    rows = np.arange(len(y))
    costs = -scores[..., rows, y]
    derivatives = np.exp(scores)
    derivatives[..., rows, y] -= 1
    return costs, derivatives


# --- Section 2.1: the size of a step ---


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
    data: str, seed: int, settings: Settings, batch_size: int, epochs: int, *, steps: int = 10_000
) -> Iterator[Row]:
    """The last of t steps along gradients made to lengthen it (Section 2.1); nothing is random.

    A row is a number of steps t (`recorded_steps`), each with a fresh start. All lengths are
    |Delta_t| / alpha_t. `sparse`: the gradient is 0 but at step t, where it is 1; the paper's bound
    is the limit for large t, and reached at once without the bias correction. `growing`:
    `worst_gradients`, which reach the sharp bound at every t.

    Names: t; sparse_step, sparse_over_paper; growing_step, growing_over_paper, growing_over_sharp;
    paper_bound, sharp_bound.
    """
    paper = paper_bound(Adam(**settings))
    bounds = sharp_bounds(Adam(**settings), int(steps))
    for t in recorded_steps(int(steps)):
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


def step_sizes(
    data: str,
    seed: int,
    settings: Settings,
    batch_size: int,
    epochs: int,
    *,
    train_examples: int = 60_000,
    scale: float = 1e-3,
) -> Iterator[Row]:
    """Steps and invariances while a logistic regression on MNIST is trained (Section 2.1).

    Six copies are trained on the same batches, from zero: with the given epsilon and with
    epsilon = 0, and each of both on its gradients as they are, times `scale`, and times a factor of
    each coordinate's own, drawn log-uniformly between `scale` and 1 / `scale`.

    A row is a pass. Lengths are |Delta_t| / alpha_t of the first copy:

    - largest_step: over all coordinates and steps of the pass; largest_over_paper and
      largest_over_sharp: relative to `paper_bound` and to `sharp_bounds` of the same step;
    - largest_step_no_epsilon: the same for the copy with epsilon = 0, as the bounds are stated;
    - mean_step and mean_snr: the mean length, and the mean of |m_hat| / sqrt(v_hat), over the
      coordinates that have had a gradient and over the steps of the pass. The latter is to fall
      towards the optimum ("automatic annealing"); a gradient of nothing but noise has
      sqrt((1 - beta_1) / (1 + beta_1)) = 0.23 in the root mean square;
    - overall_snr: the root of sum m_hat^2 / sum v_hat, in which rare pixels do not count;
    - training_cost: mean cost of the pass's batches, each before its step;
    - difference_scaled and difference_rescaled: after the pass, the largest |theta' - theta| over
      the largest |theta| for the copies with rescaled gradients; with "_no_epsilon" for those with
      epsilon = 0, where the paper's invariance is exact but for rounding.
    """
    digits = load_digits(data, train_examples)
    steps = len(batch_order(seed, 0, len(digits.labels), batch_size))
    adams = [
        Adam(**{**settings, **change}, steps_per_epoch=steps) for change in ({}, {"epsilon": 0.0})
    ]
    paper, sharp = paper_bound(adams[0]), sharp_bounds(adams[0], epochs * steps)
    factors = _factors(seed, scale, digits.images.shape[1] + 1)
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
    """The means of a step in a row of `step_sizes`."""
    reached = v_hat > 0
    return {
        "mean_step": float(lengths[reached].mean()),
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


# --- Section 3: the bias of the moments ---


def moment_bias(
    data: str,
    seed: int,
    settings: Settings,
    batch_size: int,
    epochs: int,
    *,
    parameters: str = "fixed",
    train_examples: int = 60_000,
    replicates: int = 32,
) -> Iterator[Row]:
    """What the bias correction corrects (Section 3): E[v_t] = E[g_t^2] (1 - beta_2^t) + zeta.

    The examples are divided into batches once, and each step draws one batch of these, with
    replacement: so the expectations over the gradient g_t of a step, at the parameters of that
    step, are exact means over all batches. The cost is the logistic regression's on MNIST, from
    zero. There are `epochs` times as many steps as batches; a row is a step t (`recorded_steps`).

    - parameters="fixed": the gradients are those at zero throughout, which makes them stationary:
      zeta = 0. The numbers are means over `replicates` independent sequences; first_error and
      second_error are standard errors of `first` and `second`.
    - parameters="moving": one sequence along training, where zeta is not 0.

    Moments are set against expectations with all coordinates together, so that no small number
    divides: `first` = <m_t, E[g_t]> / <E[g_t], E[g_t]>, `second` = sum v_t / sum E[g_t^2].

    Names: t; first, first_expected, first_corrected, first_zeta and the same for `second`.
    "expected" is the sum of the weights of all gradients in the moment: 1 - beta_2^t, and for the
    first moment 1 - prod_s beta_1,s, which is the paper's 1 - beta_1^t if lambda is 1; "corrected"
    is divided by 1 - beta^t; "zeta" is what is left beside the expected.
    """
    known("parameters", parameters, ("fixed", "moving"))
    digits = load_digits(data, train_examples)
    batches = batch_order(seed, 0, len(digits.labels), batch_size)
    adam = Adam(**settings, steps_per_epoch=len(batches))
    theta = np.zeros((digits.images.shape[1] + 1, CLASSES))
    draws = stream(seed, "draws")
    steps = epochs * len(batches)
    recorded = set(recorded_steps(steps))
    pool = batch_gradients(digits, batches, theta)
    for t in range(1, steps + 1):
        if parameters == "fixed":
            adam.observe(pool[draws.integers(len(batches), size=int(replicates))])
        else:
            drawn = draws.integers(len(batches), size=1)
            if t in recorded:
                pool = batch_gradients(digits, batches, theta)
            theta -= adam.step(batch_gradients(digits, batches[drawn], theta)).reshape(theta.shape)
        if t in recorded:
            yield _bias(adam, pool.mean(axis=0), np.mean(pool**2, axis=0))


def batch_gradients(digits: Digits, batches: NDArray[np.int32], theta: Array) -> Array:
    """The gradient of each batch's mean cost, (batches, coordinates)."""
    gradients = np.empty((len(batches), theta.size))
    for i, which in enumerate(batches):
        x, y = digits.batch(which)
        gradients[i] = (x.T @ cross_entropy(theta, x, y)[1] / len(y)).ravel()
    return gradients


def _bias(adam: Adam, mean: Array, square: Array) -> Row:
    """A row of `moment_bias` from E[g] and E[g^2]; the moments have a row per replicate."""
    t = adam.t
    row = {"t": float(t)}
    momentum = adam.beta_1**t
    for name, values, expected, correction in (
        (
            "first",
            adam.m @ mean / (mean @ mean),
            1 - momentum * adam.beta_1_decay ** (t * (t - 1) / 2),
            1 - momentum,
        ),
        ("second", adam.v.sum(axis=1) / square.sum(), 1 - adam.beta_2**t, 1 - adam.beta_2**t),
    ):
        value = float(values.mean())
        row[name] = value
        row[f"{name}_expected"] = expected
        row[f"{name}_corrected"] = value / correction
        row[f"{name}_zeta"] = value - expected
        if len(values) > 1:
            row[f"{name}_error"] = float(values.std(ddof=1) / math.sqrt(len(values)))
    return row


# --- Section 4: regret ---


def check_theorem(adam: Adam) -> None:
    """Raise a ValueError if the settings are not those of Theorem 4.1."""
    if adam.decay != "sqrt_step":
        raise ValueError(f"decay={adam.decay!r} is not valid for Theorem 4.1: use sqrt_step")
    if adam.beta_1**2 >= math.sqrt(adam.beta_2):
        raise ValueError("Theorem 4.1 needs beta_1^2 < sqrt(beta_2)")
    if adam.beta_1 > 0 and adam.beta_1_decay == 1:
        raise ValueError("Theorem 4.1 needs beta_1_decay < 1, for example 0.99")


def theorem_terms(
    adam: Adam,
    *,
    coordinates: int,
    root_sum: float,
    norm_sum: float,
    g_inf: float,
    d_norm: float,
    d_inf: float,
) -> tuple[float, float, float]:
    """The three terms of Theorem 4.1 as printed; their sum is to bound the regret R(T).

        D^2 / (2 alpha (1 - beta_1)) sum_i sqrt(T v_hat_T,i)
        alpha (1 + beta_1) G_inf / ((1 - beta_1) sqrt(1 - beta_2) (1 - gamma)^2) sum_i |g_1:T,i|
        sum_i D_inf^2 G_inf sqrt(1 - beta_2) / (2 alpha (1 - beta_1) (1 - lambda)^2)

    with gamma = beta_1^2 / sqrt(beta_2). If beta_1 = 0, lambda does not matter to Adam and stands
    for 0 here, where the bound is smallest. With the paper's lambda = 1 - 1e-8 the third term is
    of order 1e16: the theorem then says nothing before T is as large.

    Args:
        adam: the settings.
        coordinates: how many there are.
        root_sum: sum_i sqrt(T v_hat_T,i).
        norm_sum: sum_i |g_1:T,i|, with the Euclidean norm over the steps.
        g_inf: largest |g_t,i|.
        d_norm: largest distance of two iterates, or of one and the optimum.
        d_inf: the same in the maximum norm.
    """
    momentum = 1 - adam.beta_1
    gamma = adam.beta_1**2 / math.sqrt(adam.beta_2)
    root = math.sqrt(1 - adam.beta_2)
    decay = adam.beta_1_decay if adam.beta_1 > 0 else 0.0
    alpha = adam.learning_rate
    return (
        d_norm**2 / (2 * alpha * momentum) * root_sum,
        alpha * (1 + adam.beta_1) * g_inf / (momentum * root * (1 - gamma) ** 2) * norm_sum,
        coordinates * d_inf**2 * g_inf * root / (2 * alpha * momentum * (1 - decay) ** 2),
    )


def _against_theorem(adam: Adam, regret: float, terms: tuple[float, float, float]) -> Row:
    """The terms, the bound and the regret's share of it, as printed and with the appendix's end.

    The appendix ends with beta_1 where the theorem has 1 - beta_1 in the third denominator; at
    beta_1 = 0 that bound is infinite and left out.
    """
    row = dict(zip(("distance_term", "gradient_term", "momentum_term"), terms, strict=True))
    row |= {"bound": sum(terms), "regret_over_bound": regret / sum(terms)}
    if adam.beta_1 > 0:
        appendix = terms[0] + terms[1] + terms[2] * (1 - adam.beta_1) / adam.beta_1
        row |= {"appendix_bound": appendix, "regret_over_appendix_bound": regret / appendix}
    return row


class Online(Protocol):
    """Convex functions f_1, f_2, ..., f_steps of parameters theta, a vector."""

    @property
    def start(self) -> Array:
        """theta_1."""

    @property
    def steps(self) -> int:
        """How many functions there are."""

    def play(self, t: int, theta: Array) -> tuple[float, Array]:
        """f_t(theta) and its gradient."""

    def optimum(self, steps: int) -> tuple[Array, float]:
        """The minimiser of f_1 + ... + f_steps, and by how much its sum may exceed the minimum."""

    def costs(self, theta: Array, steps: int) -> Array:
        """f_1(theta) to f_steps(theta)."""


@dataclass(frozen=True)
class Quadratics:
    """f_t(theta) = 1/2 sum_i s_t,i a_i (theta_i - c_t,i)^2 with s_t,i of 0 or 1, from 0.

    The optimum is the mean of the c_t,i that count; a coordinate of which none counts has 0.

    Attributes:
        curvature: a, (coordinates,).
        targets: c, (steps, coordinates).
        counts: s, (steps, coordinates).
    """

    curvature: Array
    targets: Array
    counts: Array

    @property
    def start(self) -> Array:
        """Zero."""
        return np.zeros(len(self.curvature))

    @property
    def steps(self) -> int:
        """How many functions there are."""
        return len(self.targets)

    def play(self, t: int, theta: Array) -> tuple[float, Array]:
        """f_t(theta) and its gradient."""
        error = theta - self.targets[t - 1]
        gradient = self.counts[t - 1] * self.curvature * error
        return float(error @ gradient) / 2, gradient

    def optimum(self, steps: int) -> tuple[Array, float]:
        """The minimiser of the first functions' sum, in closed form."""
        counts = self.counts[:steps]
        return _quotient((counts * self.targets[:steps]).sum(axis=0), counts.sum(axis=0)), 0.0

    def costs(self, theta: Array, steps: int) -> Array:
        """f_1(theta) to f_steps(theta)."""
        return self.counts[:steps] * (theta - self.targets[:steps]) ** 2 @ self.curvature / 2


@dataclass(frozen=True)
class Absolute:
    """f_t(theta) = scale |theta|, in one dimension; the optimum is 0.

    The derivative at 0 is that to its right: Adam's steps may meet 0 to the last digit.

    Attributes:
        scale: size of all gradients.
        start: theta_1.
        steps: how many functions there are.
    """

    scale: float
    start: Array
    steps: int

    def play(self, t: int, theta: Array) -> tuple[float, Array]:
        """f_t(theta) and its gradient."""
        return self.scale * abs(float(theta[0])), np.where(theta < 0, -self.scale, self.scale)

    def optimum(self, steps: int) -> tuple[Array, float]:
        """Zero."""
        return np.zeros(1), 0.0

    def costs(self, theta: Array, steps: int) -> Array:
        """f_1(theta) to f_steps(theta), all the same."""
        return np.full(steps, self.scale * abs(float(theta[0])))


OPTIMUM_TOLERANCE = 1e-8  # how far the average regret may be off
CHUNK = 4096  # examples that are unpacked to float64 at a time


@dataclass(frozen=True)
class LogisticRegressions:
    """f_t(theta) = mean cross-entropy of batch t + l2/2 |theta|^2 on MNIST, from 0.

    Attributes:
        digits: the examples.
        batches: the examples of each step, (steps, batch_size).
        l2: positive, so that there is one optimum (the scores of all classes may else be shifted).
    """

    digits: Digits
    batches: NDArray[np.int64]
    l2: float

    @property
    def start(self) -> Array:
        """Zero."""
        return np.zeros((self.digits.images.shape[1] + 1) * CLASSES)

    @property
    def steps(self) -> int:
        """How many functions there are."""
        return len(self.batches)

    def play(self, t: int, theta: Array) -> tuple[float, Array]:
        """f_t(theta) and its gradient."""
        x, y = self.digits.batch(self.batches[t - 1])
        costs, derivatives = cross_entropy(theta.reshape(-1, CLASSES), x, y)
        gradient = (x.T @ derivatives / len(y)).ravel() + self.l2 * theta
        return float(costs.mean()) + self._penalty(theta), gradient

    def _penalty(self, theta: Array) -> float:
        return self.l2 / 2 * float(theta @ theta)

    def mean(self, theta: Array, steps: int) -> tuple[float, Array]:
        """(f_1(theta) + ... + f_steps(theta)) / steps and its gradient."""
        drawn = self.batches[:steps]
        weights = np.bincount(drawn.ravel(), minlength=len(self.digits.labels)) / drawn.size
        value, gradient = self._penalty(theta), self.l2 * theta
        for first in range(0, len(weights), CHUNK):
            part = slice(first, first + CHUNK)
            x, y = self.digits.batch(part)
            costs, derivatives = cross_entropy(theta.reshape(-1, CLASSES), x, y)
            value += float(weights[part] @ costs)
            gradient += (x.T @ (weights[part, None] * derivatives)).ravel()
        return value, gradient

    def optimum(self, steps: int) -> tuple[Array, float]:
        """The minimiser of the first functions' sum F, by L-BFGS from 0.

        F is steps * l2 - strongly convex, so F - min F <= |grad F|^2 / (2 steps l2): with the mean
        f = F / steps the sum is off by at most steps |grad f|^2 / (2 l2).

        Raises:
            ValueError: the average is not known to `OPTIMUM_TOLERANCE`.
        """
        from scipy.optimize import minimize

        smallest = math.sqrt(2 * self.l2 * OPTIMUM_TOLERANCE / self.start.size)
        options = {"maxiter": 20_000, "maxfun": 40_000, "maxcor": 20, "gtol": smallest, "ftol": 0}
        found = minimize(
            self.mean, self.start, args=(steps,), jac=True, method="L-BFGS-B", options=options
        )
        error = float(found.jac @ found.jac) / (2 * self.l2)
        if not error <= OPTIMUM_TOLERANCE:
            raise ValueError(f"the optimum in hindsight is off by {error:.1e}: use a larger l2")
        return found.x, steps * error

    def costs(self, theta: Array, steps: int) -> Array:
        """f_1(theta) to f_steps(theta)."""
        parts = []
        for first in range(0, len(self.digits.labels), CHUNK):
            x, y = self.digits.batch(slice(first, first + CHUNK))
            parts.append(cross_entropy(theta.reshape(-1, CLASSES), x, y)[0])
        return np.concatenate(parts)[self.batches[:steps]].mean(axis=1) + self._penalty(theta)


def quadratics(seed: int, steps: int, dimensions: int, sparse: bool) -> Quadratics:
    """Random quadratics: a_i from 0.1 to 10, c_t,i uniform within 1 of a centre in [-1, 1].

    If `sparse`, coordinate i counts with probability 1 / i, like words by their rank.
    """
    draws = stream(seed, "functions")
    centre = draws.uniform(-1, 1, dimensions)
    targets = centre + draws.uniform(-1, 1, (steps, dimensions))
    chance = 1 / np.arange(1, dimensions + 1) if sparse else np.ones(dimensions)
    counts = (draws.random((steps, dimensions)) < chance).astype(float)
    curvature = draws.permutation(np.geomspace(0.1, 10, dimensions))
    return Quadratics(curvature, targets, counts)


@dataclass(frozen=True)
class Snapshot:
    """What Theorem 4.1 reads of the steps up to T, but for the optimum."""

    steps: int
    root_sum: float
    norm_sum: float
    g_norm: float
    g_inf: float
    low: Array
    high: Array


def play(problem: Online, adam: Adam) -> tuple[Array, list[Snapshot]]:
    """The costs f_t(theta_t) that Adam pays, and what it has seen at `recorded_steps`."""
    theta = problem.start
    squares, low, high = np.zeros_like(theta), theta.copy(), theta.copy()
    g_norm = g_inf = 0.0
    paid, snapshots = np.empty(problem.steps), []
    recorded = set(recorded_steps(problem.steps))
    for t in range(1, problem.steps + 1):
        low, high = np.minimum(low, theta), np.maximum(high, theta)
        paid[t - 1], gradient = problem.play(t, theta)
        squares += gradient**2
        g_norm = max(g_norm, float(np.linalg.norm(gradient)))
        g_inf = max(g_inf, float(np.abs(gradient).max()))
        theta = theta - adam.step(gradient)
        if t in recorded:
            roots = float(np.sqrt(t * adam.v_hat).sum())
            norms = float(np.sqrt(squares).sum())
            snapshots.append(Snapshot(t, roots, norms, g_norm, g_inf, low, high))
    return paid, snapshots


def regret(
    data: str,
    seed: int,
    settings: Settings,
    batch_size: int,
    epochs: int,
    *,
    problem: str = "logistic",
    comparator: str = "horizon",
    train_examples: int = 10_000,
    l2: float = 1e-3,
    steps: int = 10_000,
    dimensions: int = 100,
    scale: float = 0.01,
) -> Iterator[Row]:
    """The regret of Adam on convex problems, against the bound of Theorem 4.1 (Section 4).

        R(T) = sum over t <= T of f_t(theta_t) - f_t(theta*)

    Problems, with the options that they read:

    - "logistic": `LogisticRegressions` on the batches of `epochs` passes (train_examples, l2);
    - "quadratic" and "sparse": random `Quadratics` (steps, dimensions);
    - "absolute": `Absolute`, f_t = scale |theta|, from theta_1 = alpha / 2 (steps, scale). Beside
      the first and the third term of the bound, which are proportional to the gradients' scale as
      the regret is (epsilon = 0), the second is to its square. So a small scale leaves too little,
      and at beta_1 = 0 the regret exceeds the bound as printed though Adam converges.

    `theta*` is the best fixed point in hindsight: comparator="horizon" takes that of all functions
    played, which every row then shares: the regrets of one sequence are sums of the same terms, and
    the last row's is the theorem's. Earlier ones are less than the theorem's by what the best point
    of fewer functions would save, and may be negative. comparator="prefix" takes the best point for
    the T functions of each row, as the theorem has it, and costs an optimisation for each.

    A row is a number of steps T (`recorded_steps`):

    - t: T; regret: R(T); average_regret: R(T) / T; regret_over_sqrt: R(T) / sqrt(T);
    - optimum_error: by how much the regret may be too small, since theta* is found numerically;
    - g_norm, g_inf: largest Euclidean and maximum norm of the gradients met (G and G_inf);
    - d_norm, d_inf: the same of the box that holds the iterates and theta* (D and D_inf). The proof
      needs distances to theta* as well as the theorem's among iterates. The box's diagonal is at
      least the largest distance, and that itself in one dimension;
    - sparsity: sum_i |g_1:T,i| over d G_inf sqrt(T), which is at most 1 and small for sparse data;
    - distance_term, gradient_term, momentum_term, bound, regret_over_bound: `theorem_terms`, their
      sum, and the regret relative to it;
    - appendix_bound, regret_over_appendix_bound: with beta_1 in the place of 1 - beta_1 in the
      third denominator, as at the end of the appendix; left out if beta_1 = 0, where that is 0.

    Raises:
        ValueError: the settings are not the theorem's (`check_theorem`).
    """
    known("comparator", comparator, ("horizon", "prefix"))
    adam = Adam(**settings)
    check_theorem(adam)
    makers: dict[str, Callable[[], Online]] = {
        "logistic": lambda: _logistic(data, seed, batch_size, epochs, train_examples, l2),
        "quadratic": lambda: quadratics(seed, int(steps), int(dimensions), sparse=False),
        "sparse": lambda: quadratics(seed, int(steps), int(dimensions), sparse=True),
        "absolute": lambda: Absolute(scale, np.full(1, adam.learning_rate / 2), int(steps)),
    }
    online = makers[known("problem", problem, makers)]()
    paid, snapshots = play(online, adam)
    optimum, error = online.optimum(online.steps)
    best = online.costs(optimum, online.steps)
    for seen in snapshots:
        if comparator == "prefix":
            optimum, error = online.optimum(seen.steps)
            best = online.costs(optimum, seen.steps)
        total = float(np.sum(paid[: seen.steps] - best[: seen.steps]))
        yield _regret_row(adam, seen, optimum, total, error)


def _logistic(
    data: str, seed: int, batch_size: int, epochs: int, examples: int, l2: float
) -> LogisticRegressions:
    digits = load_digits(data, examples)
    passes = [batch_order(seed, epoch, len(digits.labels), batch_size) for epoch in range(epochs)]
    return LogisticRegressions(digits, np.concatenate(passes), l2)


def _regret_row(adam: Adam, seen: Snapshot, optimum: Array, total: float, error: float) -> Row:
    box = np.maximum(seen.high, optimum) - np.minimum(seen.low, optimum)
    d_norm, d_inf = float(np.linalg.norm(box)), float(box.max())
    terms = theorem_terms(
        adam,
        coordinates=len(optimum),
        root_sum=seen.root_sum,
        norm_sum=seen.norm_sum,
        g_inf=seen.g_inf,
        d_norm=d_norm,
        d_inf=d_inf,
    )
    return {
        "t": float(seen.steps),
        "regret": total,
        "average_regret": total / seen.steps,
        "regret_over_sqrt": total / math.sqrt(seen.steps),
        "optimum_error": error,
        "g_norm": seen.g_norm,
        "g_inf": seen.g_inf,
        "d_norm": d_norm,
        "d_inf": d_inf,
        "sparsity": seen.norm_sum / (len(optimum) * seen.g_inf * math.sqrt(seen.steps)),
        **_against_theorem(adam, total, terms),
    }


# --- Reddi, Kale and Kumar: where Adam fails ---

# The mean slope of each kind, which is positive: -1 is the best point of [-1, 1].
KINDS: dict[str, Callable[[float], float]] = {
    "three": lambda c: (c - 2) / 3,
    "online": lambda c: 10 / 101,
    "stochastic": lambda c: 0.2,
}


def slopes(kind: str, seed: int, c: float) -> Iterator[float]:
    """The slopes of the linear functions, without end.

    "three": c, -1, -1 and again; "online": 1010, then -10 a hundred times, and again; "stochastic":
    1010 with probability 0.01, otherwise -10.
    """
    if kind == "three":
        yield from itertools.cycle([float(c), -1.0, -1.0])
    if kind == "online":
        yield from itertools.cycle([1010.0] + [-10.0] * 100)
    draws = stream(seed, "functions")
    while True:
        yield from np.where(draws.random(10_000) < 0.01, 1010.0, -10.0).tolist()


def counterexample(
    data: str,
    seed: int,
    settings: Settings,
    batch_size: int,
    epochs: int,
    *,
    kind: str = "three",
    bounds: str = "clip",
    c: float = 3.0,
    x_1: float = 0.0,
    steps: int = 300_000,
) -> Iterator[Row]:
    """Linear functions on [-1, 1] on which Adam goes to 1 and the optimum is -1.

    f_t(x) = s_t x with the `slopes` of a kind. In Reddi et al. "three" has c > 2, beta_1 = 0,
    beta_2 = 1 / (1 + c^2), alpha_t = alpha / sqrt(t) and alpha < sqrt(1 - beta_2) (0.948 for
    c = 3, beta_2 = 0.1); "online" and "stochastic" have beta_1 = 0.9 and beta_2 = 0.99. Their
    Adam has no bias correction and no epsilon.

    bounds="clip" moves x back into [-1, 1] after each step. bounds="wall" leaves x alone, as
    Theorem 4.1 does, and adds the convex w max(0, |x| - 1) to every function, w twice the steepest
    falling slope: Adam then comes back by itself, and -1 stays the best point.

    A row is a step t (`recorded_steps` up to `steps`):

    - t; x: where Adam is after step t;
    - average_regret: R(t) / t, R(t) = sum over s <= t of f_s(x_s) - f_s(-1). Of "stochastic" the
      drawn slopes make it a random number, with a spread of about 100 (1 + x) / sqrt(t);
    - expected_regret: the same with the mean slope in the place of each s_t;
    - distance_term, gradient_term, momentum_term, bound, regret_over_bound (and with beta_1 > 0 the
      appendix's): Theorem 4.1 for G_inf, D and D_inf as met so far, where D is of the iterates
      and of -1. They are there if the settings are the theorem's (`check_theorem`). The theorem
      knows no clipping ("wall" meets its conditions to the letter), but clipping only brings x
      nearer to -1 than the proof needs.
    """
    known("bounds", bounds, ("clip", "wall"))
    mean_slope = KINDS[known("kind", kind, KINDS)](c)
    adam = Adam(**settings)
    try:
        check_theorem(adam)
        judged = True
    except ValueError:
        judged = False
    clipped = bounds == "clip"
    wall = 0.0 if clipped else 2.0 if kind == "three" else 20.0
    recorded = iter(recorded_steps(int(steps)))
    due = next(recorded)
    x = low = high = float(x_1)
    paid = expected = squares = g_inf = 0.0
    for slope in itertools.islice(slopes(kind, seed, c), int(steps)):
        low, high = min(low, x), max(high, x)
        gradient, outside = slope, abs(x) - 1
        if outside > 0:
            gradient += math.copysign(wall, x)
            paid += wall * outside
            expected += wall * outside
        paid += slope * (x + 1)
        expected += mean_slope * (x + 1)
        squares += gradient * gradient
        g_inf = max(g_inf, abs(gradient))
        x -= adam.step(gradient)
        if clipped:
            x = min(1.0, max(-1.0, x))
        if adam.t != due:
            continue
        row = {"t": due, "x": x, "average_regret": paid / due, "expected_regret": expected / due}
        if judged:
            width = max(high, -1.0) - min(low, -1.0)
            terms = theorem_terms(
                adam,
                coordinates=1,
                root_sum=math.sqrt(due * adam.v_hat),
                norm_sum=math.sqrt(squares),
                g_inf=g_inf,
                d_norm=width,
                d_inf=width,
            )
            row |= _against_theorem(adam, paid, terms)
        yield {name: float(value) for name, value in row.items()}
        due = next(recorded, 0)
