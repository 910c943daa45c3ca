"""Checks of arguments; an error is one line, with the offending value and what is allowed."""

import inspect
import math
import re
import warnings
from collections.abc import Callable, Iterable
from functools import partial
from numbers import Integral, Real
from typing import Any

import keras

# What other libraries and the paper call some arguments.
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
CLIPS = ("clipnorm", "clipvalue", "global_clipnorm")


def check_number(
    name: str,
    value: Any,
    low: float = -math.inf,
    high: float = math.inf,
    low_open: bool = False,
    high_open: bool = False,
) -> float:
    """Return `value` as a Python float when it is a finite number in the interval.

    Args:
        name: the argument's name, for the message.
        value: what the caller passed.
        low: lower end of the interval.
        high: upper end of the interval.
        low_open: whether `low` itself is excluded.
        high_open: whether `high` itself is excluded.

    Raises:
        TypeError: when `value` is not a real number (a bool is not one).
        ValueError: when it is NaN, infinite or outside the interval.

    Example:
        >>> check_number("beta_1", 0.9, 0, 1, high_open=True)
        0.9
        >>> check_number("beta_1", 1.5, 0, 1, high_open=True)
        Traceback (most recent call last):
        ...
        ValueError: beta_1 must be a finite number in [0, 1), got 1.5
    """
    allowed = "a finite number"
    if math.isfinite(low) or math.isfinite(high):
        left = "(" if low_open or math.isinf(low) else "["
        right = ")" if high_open or math.isinf(high) else "]"
        allowed += f" in {left}{low}, {high}{right}"
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be {allowed}, got {value!r} ({type(value).__name__})")
    try:
        number = float(value)
    except OverflowError:  # an integer of hundreds of digits
        number = math.inf
    below = number <= low if low_open else number < low
    above = number >= high if high_open else number > high
    if not math.isfinite(number) or below or above:
        raise ValueError(f"{name} must be {allowed}, got {value!r}")
    return number


def check_integer(name: str, value: Any, low: int) -> int:
    """Return `value` as a Python int when it is a whole number of at least `low`.

    Args:
        name: the argument's name, for the message.
        value: what the caller passed.
        low: the least allowed value.

    Raises:
        TypeError: when `value` is not an integer (a bool is not one).
        ValueError: when it is below `low`.

    Example:
        >>> check_integer("steps_per_epoch", 0, 1)
        Traceback (most recent call last):
        ...
        ValueError: steps_per_epoch must be an integer of at least 1, got 0
    """
    allowed = f"an integer of at least {low}"
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name} must be {allowed}, got {value!r} ({type(value).__name__})")
    if value < low:
        raise ValueError(f"{name} must be {allowed}, got {value!r}")
    return int(value)


def check_choice(name: str, value: Any, choices: tuple[Any, ...]) -> Any:
    """Return `value` when it is one of `choices`.

    Args:
        name: the argument's name, for the message.
        value: what the caller passed.
        choices: the allowed values.

    Raises:
        ValueError: when it is none of them.

    Example:
        >>> check_choice("epsilon_form", "inside", ("algorithm1", "hat"))
        Traceback (most recent call last):
        ...
        ValueError: epsilon_form must be 'algorithm1' or 'hat', got 'inside'
    """
    # `is` on booleans and None: 1 == True, yet 1 is not what was asked for.
    if not any(value is c or (isinstance(c, str) and value == c) for c in choices):
        raise ValueError(f"{name} must be {' or '.join(map(repr, choices))}, got {value!r}")
    return value


def check_names(cls: type, names: Iterable[str]) -> None:
    """Refuse arguments that have another name here, and say which.

    Args:
        cls: the class that was given them.
        names: the names that are not in its signature.

    Raises:
        ValueError: when one of them is such a name.

    Example:
        >>> from adam_tf import Adam
        >>> Adam(lr=0.1)
        Traceback (most recent call last):
        ...
        ValueError: Adam has no argument 'lr': use learning_rate
    """
    allowed = {*inspect.signature(cls).parameters, "weight_decay", *CLIPS}
    for name in names:
        meant = OTHER_NAMES.get(name.lower(), ())
        if name in allowed or not meant:
            continue
        if name.lower() == "epsilon_hat" and set(meant) <= set(allowed):
            raise ValueError(
                f"{cls.__name__} has no argument {name!r}: use epsilon=... with epsilon_form='hat'"
            )
        if set(meant) <= set(allowed):
            raise ValueError(f"{cls.__name__} has no argument {name!r}: use {' and '.join(meant)}")
        if "epsilon" in meant:
            raise ValueError(f"{cls.__name__} has no argument {name!r}: its rule has no epsilon")


def check_rate(value: Any) -> Any:
    """Return a learning rate: a Python float, or the schedule or callable that `value` is.

    Raises:
        TypeError: when it is neither a number nor a schedule nor a callable without arguments.
        ValueError: when it is negative, NaN or infinite.

    Example:
        >>> from adam_tf import Adam, InverseSqrtDecay
        >>> Adam(InverseSqrtDecay)
        Traceback (most recent call last):
        ...
        TypeError: learning_rate must be an instance, got the class InverseSqrtDecay: use \
InverseSqrtDecay(...)
    """
    if isinstance(value, Real) and not isinstance(value, bool):
        return check_number("learning_rate", value, 0)
    if isinstance(value, str) or not callable(value):
        raise TypeError(
            "learning_rate must be a finite number in [0, inf), a LearningRateSchedule or a "
            f"callable without arguments, got {value!r} ({type(value).__name__})"
        )
    if inspect.isclass(value):
        name = value.__name__
        raise TypeError(f"learning_rate must be an instance, got the class {name}: use {name}(...)")
    if isinstance(value, keras.optimizers.schedules.LearningRateSchedule):
        return value
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):  # some built-in functions do not say what they take
        return value
    try:
        signature.bind()
    except TypeError:
        raise TypeError(
            "learning_rate must be a number, a LearningRateSchedule or a callable without "
            f"arguments, got {value!r} with {signature}: make it a LearningRateSchedule"
        ) from None
    return value


def check_held_rate(rate: Any) -> None:
    """Check a learning rate once more, which may have been set since construction.

    Args:
        rate: a variable, a schedule or a callable.

    Raises:
        TypeError: when it cannot be called.
        ValueError: when it is negative, NaN or infinite.
    """
    number = rate.numpy() if isinstance(rate, keras.Variable) else rate
    check_rate(rate if callable(rate) else float(number))


def check_exclusion(
    optimizer: Any, var_list: Any, var_names: Any
) -> tuple[tuple[Any, ...], tuple[str, ...]]:
    """Return what is to be excluded from weight decay: variables, and names.

    Args:
        optimizer: must not be built yet.
        var_list: a list of variables, or None.
        var_names: a list of regular expressions, or None.

    Raises:
        TypeError: when one is not a list of variables or strings.
        ValueError: when the optimizer is built, or a string is not a regular expression.
    """
    if optimizer.built:
        raise ValueError(
            "exclude_from_weight_decay must be called before the optimizer is built, and this one "
            "is: call it on a new optimizer"
        )
    # A string is a list of letters, and a variable one of its rows.
    alone = isinstance(var_names, str) or not isinstance(var_names or (), Iterable)
    names = () if alone else tuple(var_names or ())
    if alone or not all(isinstance(name, str) for name in names):
        raise TypeError(
            f"var_names must be a list of strings, got {var_names!r}: use ['bias'], say"
        )
    alone = hasattr(var_list, "dtype") or not isinstance(var_list or (), Iterable)
    variables = () if alone else tuple(var_list or ())
    if alone or not all(hasattr(variable, "dtype") for variable in variables):
        raise TypeError(
            f"var_list must be a list of variables, got {var_list!r}: give patterns as var_names"
        )
    for name in names:
        try:
            re.compile(name)
        except re.error as error:
            raise ValueError(
                f"var_names must be regular expressions, got {name!r} ({error}): use re.escape"
            ) from None
    return variables, names


def warn_unmatched(argument: str, what: str) -> None:
    """Warn that a part of what is excluded from weight decay is no variable of the optimizer.

    Args:
        argument: of `exclude_from_weight_decay`.
        what: the path or pattern.
    """
    warnings.warn(
        f"exclude_from_weight_decay: {what!r} of {argument} matches none of the variables that the "
        "optimizer is built with, so it excludes nothing",
        stacklevel=2,
    )


def check_built(optimizer: Any) -> None:
    """Refuse weights for an optimizer that has no state yet.

    Raises:
        ValueError: when it is not built.
    """
    if not optimizer.built:
        raise ValueError(
            "set_weights needs an optimizer that is built; build the optimizer first: "
            "optimizer.build(model.trainable_variables)"
        )


def check_whole(missing: int, trained: int) -> None:
    """Refuse to accumulate the gradients of a part of the variables.

    Args:
        missing: how many of the variables a call lacks.
        trained: how many the optimizer was built with.

    Raises:
        ValueError: when there are missing ones.
    """
    if missing:
        raise ValueError(
            "with gradient_accumulation_steps, apply needs every variable that the optimizer was "
            f"built with, and {missing} of {trained} are missing: give None as their gradients"
        )


def check_keras_arguments(kwargs: dict[str, Any]) -> None:
    """Check the numbers among the keywords of every Keras optimizer that Keras does not check.

    Args:
        kwargs: the keywords; numbers become Python's, since those of NumPy could not be saved.

    Raises:
        TypeError: when one is not a number.
        ValueError: when one is out of its range.
    """
    for name in ("weight_decay", *CLIPS):
        if kwargs.get(name) is not None:
            # Keras reads a clip of 0 as "no clip", which None says better.
            kwargs[name] = check_number(name, kwargs[name], 0, low_open=name != "weight_decay")
    if kwargs.get("loss_scale_factor") is not None:
        scale = check_number("loss_scale_factor", kwargs["loss_scale_factor"], 0, low_open=True)
        kwargs["loss_scale_factor"] = scale
    needed = kwargs.get("use_ema") and "ema_momentum" in kwargs
    if needed or kwargs.get("ema_momentum") is not None:
        kwargs["ema_momentum"] = check_number("ema_momentum", kwargs["ema_momentum"], 0, 1)
    if "use_ema" in kwargs:
        check_choice("use_ema", kwargs["use_ema"], (True, False))
    for name, low in (("gradient_accumulation_steps", 2), ("ema_overwrite_frequency", 1)):
        if kwargs.get(name) is not None:
            kwargs[name] = check_integer(name, kwargs[name], low)


# The settings that are not Keras', as they are when they are given and when they are read again.
SETTINGS: dict[str, Callable[[str, Any], Any]] = {
    "fused": partial(check_choice, choices=(None, True, False)),
    "sparse": partial(check_choice, choices=("dense", "lazy")),
    "moments": partial(check_choice, choices=(None, "bfloat16")),
    "cautious": partial(check_choice, choices=(True, False)),
    "divide_state": partial(check_choice, choices=(True, False)),
    "beta_1": partial(check_number, low=0, high=1, high_open=True),
    "beta_2": partial(check_number, low=0, high=1, high_open=True),
    "epsilon": partial(check_number, low=0),
    "epsilon_form": partial(check_choice, choices=("algorithm1", "hat")),
    "bias_correction": partial(check_choice, choices=(True, False)),
    "amsgrad": partial(check_choice, choices=(True, False)),
    "beta_1_decay": partial(check_number, low=0, high=1, low_open=True),
}
# Keras reads a 0 that is set later as "off".
CAN_BE_OFF = (*CLIPS, "gradient_accumulation_steps", "ema_overwrite_frequency")


def check_setting(name: str, value: Any) -> Any:
    """Return the value of a setting that is not Keras', checked; numbers as Python's.

    Args:
        name: of the setting, one of `SETTINGS`.
        value: what it is set to.

    Raises:
        TypeError: when it has the wrong type.
        ValueError: when it is not allowed.
    """
    return SETTINGS[name](name, value)


def checked_settings(optimizer: Any) -> dict[str, Any]:
    """The present values of an optimizer's own settings, which may have been set since it was made.

    Args:
        optimizer: whose settings they are.

    Raises:
        TypeError: when one has the wrong type.
        ValueError: when one is not allowed.
    """
    return {
        name: check_setting(name, getattr(optimizer, name))
        for name in SETTINGS
        if hasattr(optimizer, name)
    }


def checked_config(config: dict[str, Any]) -> dict[str, Any]:
    """Keras' part of a configuration, if the constructor will take it; what is off as None.

    Args:
        config: what Keras' `get_config` gave.

    Raises:
        TypeError: when a setting has the wrong type.
        ValueError: when a setting is not allowed.
    """
    config = dict(config)
    for name in CAN_BE_OFF:
        config[name] = config[name] or None
    check_keras_arguments(config)
    return config


def check_settings(optimizer: Any) -> None:
    """Check once more what may have been set since construction, except the learning rate.

    Raises:
        TypeError: when a setting has the wrong type.
        ValueError: when a setting is not allowed, or two conflict.
    """
    checked_settings(optimizer)
    decay = optimizer.weight_decay
    names = ("loss_scale_factor", "use_ema", "ema_momentum")
    check_keras_arguments(
        {"weight_decay": None if decay is None else float(decay)}
        | {name: getattr(optimizer, name) for name in names}
        | {name: getattr(optimizer, name) or None for name in CAN_BE_OFF}
    )
    check_clips(optimizer)
    check_together(optimizer)


def check_together(optimizer: Any) -> None:
    """Refuse settings that conflict with each other or with the backend.

    Raises:
        ValueError: when some do.
    """
    if optimizer.fused and keras.backend.backend() != "tensorflow":
        raise ValueError(
            f"fused=True needs the tensorflow backend, got {keras.backend.backend()!r}"
        )
    for name, default, why in (
        ("moments", None, "a kernel keeps them as wide as the variable"),
        ("cautious", False, "it looks at a whole variable, a kernel at each number"),
    ):
        if optimizer.fused and (value := getattr(optimizer, name)) != default:
            raise ValueError(f"fused=True must go without {name}={value!r}: {why}; use fused=None")
    if getattr(optimizer, "amsgrad", False) and optimizer.moments:
        raise ValueError(
            "amsgrad=True must go without moments='bfloat16': its maximum would accumulate what "
            "is rounded up"
        )
    if optimizer.divide_state and keras.backend.backend() != "jax":
        raise ValueError(
            f"divide_state=True needs the jax backend, got {keras.backend.backend()!r}"
        )
    if optimizer.sparse == "lazy" and optimizer.loss_scale_factor:
        raise ValueError(
            "sparse='lazy' must go without loss_scale_factor, by which Keras cannot divide rows, "
            f"got {optimizer.loss_scale_factor}: use sparse='dense'"
        )
    if optimizer.ema_overwrite_frequency and not optimizer.use_ema:
        raise ValueError(
            "ema_overwrite_frequency must go with use_ema=True, got "
            f"{optimizer.ema_overwrite_frequency}"
        )
    if optimizer.sparse == "lazy" and keras.backend.backend() != "tensorflow":
        raise ValueError(
            "sparse='lazy' needs the tensorflow backend, where gradients come as rows, got "
            f"{keras.backend.backend()!r}: use sparse='dense'"
        )
    if optimizer.sparse == "lazy" and optimizer.gradient_accumulation_steps:
        raise ValueError(
            "sparse='lazy' must go without gradient_accumulation_steps, which adds gradients "
            f"up densely, got {optimizer.gradient_accumulation_steps}"
        )
    if optimizer.ema_overwrite_frequency and optimizer.gradient_accumulation_steps:
        raise ValueError(
            "ema_overwrite_frequency must go without gradient_accumulation_steps: Keras would "
            "overwrite the weights within a step, got "
            f"{optimizer.ema_overwrite_frequency} and {optimizer.gradient_accumulation_steps}"
        )


def chosen_clips(optimizer: Any) -> list[str]:
    """The ways of clipping that an optimizer has been given, as `name=value`."""
    return [f"{name}={getattr(optimizer, name)}" for name in CLIPS if getattr(optimizer, name)]


def check_replicas(optimizer: Any, replicas: int) -> None:
    """Refuse what Keras cannot do on several replicas.

    Args:
        optimizer: about to be built.
        replicas: of its strategy.

    Raises:
        ValueError: when there are several, and it is to do such a thing.
    """
    for name in ("gradient_accumulation_steps", "ema_overwrite_frequency"):
        if replicas > 1 and (value := getattr(optimizer, name)):
            raise ValueError(
                f"{name} must be None under a strategy of {replicas} replicas, where Keras cannot "
                f"branch within a step, got {value}"
            )


def check_clips(optimizer: Any) -> None:
    """Refuse two ways of clipping, one of them set later: such an optimizer could not be reloaded.

    Raises:
        ValueError: when there are two.
    """
    chosen = chosen_clips(optimizer)
    if len(chosen) > 1:
        raise ValueError(f"only one of {', '.join(CLIPS)} can be set, got {', '.join(chosen)}")
