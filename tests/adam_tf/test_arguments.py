"""Bad arguments are refused in one line that holds the value and what is allowed."""

import math
import re

import keras
import numpy as np
import pytest

from adam_tf import Adam, AdaMax, InverseSqrtDecay
from adam_tf.validation import CAN_BE_OFF, check_together

NAN, INF = math.nan, math.inf
BAD = [
    *((Adam, "learning_rate", v, ValueError, r"in \[0, inf\)") for v in (-1e-3, -1, NAN, INF)),
    *((Adam, "learning_rate", v, TypeError, "a finite number") for v in ("0.1", None, True, 1j)),
    pytest.param(Adam, "learning_rate", 10**400, ValueError, r"in \[0, inf\)", id="400 digits"),
    *(
        (Adam, "learning_rate", v, TypeError, "a LearningRateSchedule or a callable without")
        for v in ("cosine", keras.ops.convert_to_tensor(0.1))
    ),
    *((Adam, "beta_1", v, ValueError, r"in \[0, 1\)") for v in (-0.1, 1, 1.5, NAN, -INF)),
    *((Adam, "beta_1", v, TypeError, r"in \[0, 1\)") for v in ("0.9", None, [0.9], False)),
    *((Adam, "beta_2", v, ValueError, r"in \[0, 1\)") for v in (-0.1, 1.0, NAN)),
    *((Adam, "epsilon", v, ValueError, r"in \[0, inf\)") for v in (-1e-8, NAN, INF)),
    *((Adam, "epsilon_form", v, ValueError, "'algorithm1' or 'hat'") for v in ("Hat", None, 1)),
    *((Adam, "bias_correction", v, ValueError, "True or False") for v in ("no", None, 0)),
    *((Adam, "amsgrad", v, ValueError, "True or False") for v in ("yes", 1)),
    *((Adam, "beta_1_decay", v, ValueError, r"in \(0, 1\]") for v in (0, -1, 1.01, NAN)),
    (Adam, "beta_1_decay", None, TypeError, r"in \(0, 1\]"),
    (Adam, "weight_decay", -0.1, ValueError, r"in \[0, inf\)"),
    *((Adam, n, 0, ValueError, r"in \(0, inf\)") for n in ("clipnorm", "global_clipnorm")),
    (Adam, "clipvalue", NAN, ValueError, r"in \(0, inf\)"),
    (Adam, "loss_scale_factor", 0.0, ValueError, r"in \(0, inf\)"),
    (Adam, "gradient_accumulation_steps", 1, ValueError, "an integer of at least 2"),
    (Adam, "gradient_accumulation_steps", 2.0, TypeError, "an integer of at least 2"),
    *((Adam, "use_ema", v, ValueError, "True or False") for v in ("yes", 1, None)),
    (AdaMax, "learning_rate", -1.0, ValueError, r"in \[0, inf\)"),
    (AdaMax, "beta_1", 1.0, ValueError, r"in \[0, 1\)"),
    (AdaMax, "beta_2", -1.0, ValueError, r"in \[0, 1\)"),
    (InverseSqrtDecay, "initial_learning_rate", -0.1, ValueError, r"in \[0, inf\)"),
    (InverseSqrtDecay, "initial_learning_rate", "fast", TypeError, r"in \[0, inf\)"),
    (InverseSqrtDecay, "steps_per_epoch", 0, ValueError, "an integer of at least 1"),
    (InverseSqrtDecay, "steps_per_epoch", 1.5, TypeError, "an integer of at least 1"),
]


@pytest.mark.parametrize(("make", "name", "value", "error", "allowed"), BAD)
def test_refused(make, name, value, error, allowed):
    arguments = {"initial_learning_rate": 0.1} if make is InverseSqrtDecay else {}
    with pytest.raises(error, match=allowed) as caught:
        make(**arguments | {name: value})
    message = str(caught.value)
    assert message.startswith(f"{name} must be ")
    assert repr(value) in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("make", "name", "value"),
    [
        *((Adam, "learning_rate", v) for v in (-0.5, NAN, INF)),
        (Adam, "learning_rate", InverseSqrtDecay),
        (Adam, "weight_decay", -1.0),
        (Adam, "clipnorm", -1.0),
        (Adam, "ema_momentum", 2.0),
        (Adam, "use_ema", 1),
        (Adam, "gradient_accumulation_steps", 1),
        *((Adam, "beta_2", v) for v in (1.0, "0.9")),
        (Adam, "epsilon", -1e-8),
        (Adam, "epsilon_form", "x"),
        (Adam, "bias_correction", 0),
        (Adam, "beta_1_decay", 0),
        (Adam, "sparse", "Lazy"),
        (AdaMax, "beta_1", NAN),
        (AdaMax, "moments", "float16"),
        (AdaMax, "cautious", None),
    ],
)
def test_refused_when_set_later(make, name, value):
    """By the constructor's line, before a file holds what nothing can read."""
    with pytest.raises((TypeError, ValueError)) as caught:
        make(**{name: value})
    said = f"^{re.escape(str(caught.value))}$"
    optimizer = make()
    setattr(optimizer, name, value)
    with pytest.raises(caught.type, match=said):
        optimizer.get_config()
    if name != "learning_rate":  # a graph that builds cannot read it
        with pytest.raises(caught.type, match=said):
            optimizer.build([keras.Variable([1.0])])


def test_conflicts_are_refused_when_they_are_set_later():
    optimizer = Adam(amsgrad=True)
    optimizer.moments = "bfloat16"
    for read in (optimizer.get_config, lambda: optimizer.build([keras.Variable([1.0])])):
        with pytest.raises(ValueError, match=r"^amsgrad=True must go without moments='bfloat16'"):
            read()


@pytest.mark.parametrize("make", [Adam, AdaMax])
@pytest.mark.parametrize("name", CAN_BE_OFF)
def test_keras_may_be_told_later_that_something_is_off(make, name):
    optimizer = make(0.1, use_ema=True, **{name: 2})
    setattr(optimizer, name, 0)
    assert optimizer.get_config()[name] is None
    assert make.from_config(optimizer.get_config()).get_config() == optimizer.get_config()
    optimizer.build([keras.Variable([1.0])])


@pytest.mark.parametrize("make", [Adam, AdaMax])
def test_unknown_argument(make):
    with pytest.raises(ValueError, match="momentum"):
        make(momentum=0.9)


@pytest.mark.parametrize(
    ("make", "name", "said"),
    [
        *((Adam, name, "use learning_rate") for name in ("lr", "alpha", "step_size")),
        (Adam, "betas", "use beta_1 and beta_2"),
        (Adam, "eps", "use epsilon"),
        (Adam, "epsilon_hat", "use epsilon=... with epsilon_form='hat'"),
        (AdaMax, "epsilon_hat", "its rule has no epsilon"),
        (Adam, "beta1", "use beta_1"),
        (AdaMax, "lr", "use learning_rate"),
        (AdaMax, "betas", "use beta_1 and beta_2"),
        *((make, "wd", "use weight_decay") for make in (Adam, AdaMax)),
        (Adam, "clip_norm", "use clipnorm"),
        (Adam, "global_clip_norm", "use global_clipnorm"),
        (AdaMax, "eps", "its rule has no epsilon"),
        (AdaMax, "epsilon", "its rule has no epsilon"),
    ],
)
def test_arguments_under_other_names(make, name, said):
    with pytest.raises(ValueError, match="has no argument") as caught:
        make(**{name: 0.5})
    assert str(caught.value) == f"{make.__name__} has no argument {name!r}: {said}"


@pytest.mark.parametrize("make", [Adam, AdaMax])
@pytest.mark.parametrize("value", [1, 0, 0.5, np.float32(0.5), np.float64(0.1), np.int64(2)])
def test_any_real_number_is_a_learning_rate(make, value):
    assert float(make(value).learning_rate) == float(value)


def test_learning_rate_is_not_rounded():
    optimizer = Adam(0.001)
    assert optimizer.get_config()["learning_rate"] == 0.001
    optimizer.learning_rate = 0.3
    assert float(optimizer.learning_rate) == 0.3
    assert [v.name for v in optimizer.variables] == ["iteration", "learning_rate"]
    optimizer.learning_rate = keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.5)
    assert len(optimizer.variables) == 1


@pytest.mark.parametrize("make", [Adam, AdaMax])
def test_a_rate_that_could_not_be_called_is_refused(make):
    for rate, said in (
        (InverseSqrtDecay, r"an instance, got the class InverseSqrtDecay: use InverseSqrtDecay\("),
        (lambda t: 0.1 / t, r"got <function .*> with \(t\): make it a LearningRateSchedule"),
    ):
        with pytest.raises(TypeError, match=said) as caught:
            make(rate)
        assert str(caught.value).startswith("learning_rate must be ")
        assert "\n" not in str(caught.value)
    for rate in (lambda: 0.1, lambda t=1: 0.1 / t, InverseSqrtDecay(0.1), {"a": 0.1}.popitem):
        make(rate)


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_rows_are_for_tensorflow_alone(backend, monkeypatch):
    """Elsewhere gradients are whole, and "lazy" would do nothing."""
    optimizer = Adam()
    optimizer.sparse = "lazy"
    monkeypatch.setattr(keras.backend, "backend", lambda: backend)
    with pytest.raises(ValueError, match=f"got '{backend}': use sparse='dense'") as caught:
        check_together(optimizer)
    assert str(caught.value).startswith("sparse='lazy' needs the tensorflow backend")


@pytest.mark.parametrize("make", [Adam, AdaMax])
def test_settings_that_conflict(make):
    with pytest.raises(ValueError, match=r"sparse='lazy' must go without loss_scale_factor.*1024"):
        make(sparse="lazy", loss_scale_factor=1024.0)
    for ema in ({}, {"use_ema": False}):
        with pytest.raises(ValueError, match="ema_overwrite_frequency must go with use_ema=True"):
            make(ema_overwrite_frequency=3, **ema)
    make(ema_overwrite_frequency=3, use_ema=True)
    with pytest.raises(TypeError, match=r"^ema_momentum must be .* in \[0, 1\], got None"):
        make(use_ema=True, ema_momentum=None)
    make(ema_momentum=None)
