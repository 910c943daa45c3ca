"""The compared methods by name.

Each entry of `OPTIMIZERS` is a function from settings to a Keras optimizer; its signature declares
the settings, what each may be, and their defaults. Adam, AdamW, AdaMax and SFO are this project's;
the others are Keras's classes with the arguments of their textbook form. To add a method, write one
function and one entry.

Arguments that several of these functions share:

- `steps_per_epoch`: steps in a pass, which `decay="sqrt_epoch"` needs;
- `learning_rate`: the step size alpha, before any decay;
- `decay`: "constant", or alpha / sqrt(t) with t in passes ("sqrt_epoch") or steps ("sqrt_step");
- `beta_1`, `beta_2`: decay rates of the first and the second moment (AdaMax: the infinity norm);
- `epsilon`: what is added to the root of the second moment;
- `momentum`, `rho`: decay rates of the velocity, and of the mean squared gradient.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from experiments.options import (
    AtLeastZero,
    BelowOne,
    Interval,
    Positive,
    check_value,
    declared,
    known,
)

Decay = Literal["constant", "sqrt_epoch", "sqrt_step"]
# What others call some settings; as in `adam_tf.validation`, which takes seconds to import.
OTHER_NAMES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("lr", "alpha", "step_size", "stepsize", "rate"), ("learning_rate",)),
    **dict.fromkeys(("eps", "epsilon"), ("epsilon",)),
    "epsilon_hat": ("epsilon", "epsilon_form"),
    **dict.fromkeys(("beta1", "b1", "beta_one"), ("beta_1",)),
    **dict.fromkeys(("beta2", "b2", "beta_two"), ("beta_2",)),
    "betas": ("beta_1", "beta_2"),
    "lambda": ("beta_1_decay",),
    "lambda_": ("beta_1_decay",),
    "wd": ("weight_decay",),
    "clip_norm": ("clipnorm",),
    "global_clip_norm": ("global_clipnorm",),
}


def adam(
    steps_per_epoch: int,
    *,
    learning_rate: Positive,
    decay: Decay = "constant",
    beta_1: BelowOne = 0.9,
    beta_2: BelowOne = 0.999,
    epsilon: AtLeastZero = 1e-8,
    epsilon_form: Literal["algorithm1", "hat"] = "algorithm1",
    bias_correction: bool = True,
    beta_1_decay: Annotated[float, Interval(0, 1, open="(")] = 1.0,
    amsgrad: bool = False,
    warmup_steps: Annotated[int, Interval(0, whole=True)] = 0,
) -> Any:
    """Algorithm 1 of the paper, optionally with Section 4's decaying beta_1, AMSGrad or a warm-up.

    The other arguments are those of `adam_tf.Adam`. Over the first `warmup_steps` steps, the
    learning rate rises in equal increments to its value.
    """
    from adam_tf import Adam

    rate = schedule(learning_rate, decay, steps_per_epoch)
    return Adam(
        warmed_up(learning_rate, warmup_steps) if warmup_steps > 1 else rate,
        beta_1=beta_1,
        beta_2=beta_2,
        epsilon=epsilon,
        epsilon_form=epsilon_form,
        bias_correction=bias_correction,
        beta_1_decay=beta_1_decay,
        amsgrad=amsgrad,
    )


def adamw(
    steps_per_epoch: int,
    *,
    learning_rate: Positive,
    decay: Decay = "constant",
    beta_1: BelowOne = 0.9,
    beta_2: BelowOne = 0.999,
    epsilon: AtLeastZero = 1e-8,
    weight_decay: AtLeastZero = 0.01,
) -> Any:
    """AdamW (Loshchilov & Hutter, 2019): each step also takes rate * weight_decay of every weight.

    The decay of 0.01 is that of PyTorch's class.
    """
    from adam_tf import Adam

    return Adam(
        schedule(learning_rate, decay, steps_per_epoch),
        beta_1=beta_1,
        beta_2=beta_2,
        epsilon=epsilon,
        weight_decay=weight_decay,
    )


def adamax(
    steps_per_epoch: int,
    *,
    learning_rate: Positive,
    decay: Decay = "constant",
    beta_1: BelowOne = 0.9,
    beta_2: BelowOne = 0.999,
) -> Any:
    """Algorithm 2 of the paper."""
    from adam_tf import AdaMax

    rate = schedule(learning_rate, decay, steps_per_epoch)
    return AdaMax(rate, beta_1=beta_1, beta_2=beta_2)


def sgd_nesterov(
    steps_per_epoch: int,
    *,
    learning_rate: Positive,
    decay: Decay = "constant",
    momentum: BelowOne = 0.9,
) -> Any:
    """Stochastic gradient descent with Nesterov momentum."""
    import keras

    rate = schedule(learning_rate, decay, steps_per_epoch)
    return keras.optimizers.SGD(rate, momentum=momentum, nesterov=True)


def adagrad(steps_per_epoch: int, *, learning_rate: Positive, decay: Decay = "constant") -> Any:
    """AdaGrad with an empty initial accumulator.

    Keras adds epsilon inside the square root; 1e-16 there is 1e-8 outside.
    """
    import keras

    rate = schedule(learning_rate, decay, steps_per_epoch)
    return keras.optimizers.Adagrad(rate, initial_accumulator_value=0.0, epsilon=1e-16)


def rmsprop(
    steps_per_epoch: int,
    *,
    learning_rate: Positive,
    decay: Decay = "constant",
    rho: BelowOne = 0.9,
    momentum: BelowOne = 0.0,
) -> Any:
    """RMSProp (Tieleman & Hinton, 2012), not centred; momentum acts on the rescaled gradient.

    Keras adds epsilon inside the square root; 1e-16 there is 1e-8 outside.
    """
    import keras

    rate = schedule(learning_rate, decay, steps_per_epoch)
    return keras.optimizers.RMSprop(rate, rho=rho, momentum=momentum, epsilon=1e-16)


def adadelta(
    steps_per_epoch: int,
    *,
    learning_rate: Positive = 1.0,
    decay: Decay = "constant",
    rho: BelowOne = 0.95,
    epsilon: AtLeastZero = 1e-6,
) -> Any:
    """AdaDelta (Zeiler, 2012), which has a step size of 1; rho and epsilon as in its paper."""
    import keras

    rate = schedule(learning_rate, decay, steps_per_epoch)
    return keras.optimizers.Adadelta(rate, rho=rho, epsilon=epsilon)


def sfo(steps_per_epoch: int, *, minibatches: Annotated[int, Interval(2, whole=True)] = 25) -> Any:
    """The Sum-of-Functions Optimizer with its published defaults, still to be given its problem.

    Its steps are not the batches of the other methods: it divides the training set into
    `minibatches` parts once and for all, and a pass makes one iteration per part, on average.
    """
    from experiments.methods.sfo import SFO

    return functools.partial(SFO, subfunctions=range(minibatches))


OPTIMIZERS: dict[str, Callable[..., Any]] = {
    "adam": adam,
    "adamw": adamw,
    "adamax": adamax,
    "sgd_nesterov": sgd_nesterov,
    "adagrad": adagrad,
    "rmsprop": rmsprop,
    "adadelta": adadelta,
    "sfo": sfo,
}


def schedule(learning_rate: float, decay: str, steps_per_epoch: int) -> Any:
    """The learning rate as a number, or decayed by 1/sqrt(t) with t in epochs or in steps.

    Args:
        learning_rate: alpha.
        decay: "constant", "sqrt_epoch" or "sqrt_step".
        steps_per_epoch: for "sqrt_epoch".
    """
    if decay == "constant":
        return learning_rate
    from adam_tf import InverseSqrtDecay

    return InverseSqrtDecay(learning_rate, steps_per_epoch if decay == "sqrt_epoch" else None)


def warmed_up(learning_rate: float, steps: int) -> Any:
    """A learning rate that is k / steps of its value at step k, and constant from then on."""
    import keras

    first = learning_rate / steps
    return keras.optimizers.schedules.PolynomialDecay(first, steps - 1, learning_rate)


def build(name: str, settings: Mapping[str, Any], steps_per_epoch: int) -> Any:
    """The optimizer `name` with `settings`; a Keras optimizer unless it is "sfo".

    Args:
        name: a key of `OPTIMIZERS`.
        settings: its keyword arguments.
        steps_per_epoch: steps in a pass.
    """
    return OPTIMIZERS[name](steps_per_epoch, **settings)


def check_settings(name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings if they are valid; otherwise raise a ValueError of one line."""
    method = OPTIMIZERS[known("optimizer", name, OPTIMIZERS)]
    parameters = declared(method)
    for key, value in settings.items():
        if key not in parameters:
            meant = OTHER_NAMES.get(key.lower(), ())
            if meant and set(meant) <= set(parameters):
                raise ValueError(f"unknown parameter of {name} {key!r}: use {' and '.join(meant)}")
            known(f"parameter of {name}", key, parameters)
        check_value(name, key, value, method)
    if settings.get("warmup_steps") and settings.get("decay", "constant") != "constant":
        raise ValueError(
            f"{name} warms up to a constant rate: use decay=constant, or leave out warmup_steps"
        )
    if "learning_rate" in parameters and "learning_rate" not in settings:
        raise ValueError(f"{name} needs a learning_rate; give learning_rate=NUMBER")
    return dict(settings)
