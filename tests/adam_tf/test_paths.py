"""The kernel and the plain operations give the same weights, however TensorFlow runs them."""

import keras
import numpy as np
import oracle
import pytest
import tensorflow as tf
from trajectories import (
    ADAM_CASES,
    ADAMAX_CASES,
    GRADIENTS,
    KERNEL_CASES,
    assert_steps_close,
    iterates,
)

from adam_tf import Adam, AdaMax
from adam_tf.tensorflow import kernels

ZERO = np.zeros(10)
ULP = float(np.finfo("float32").eps)
SETTINGS = {f"adam {name}": (Adam, ADAM_CASES[name]) for name in KERNEL_CASES}
SETTINGS |= {f"adamax {name}": (AdaMax, case) for name, case in ADAMAX_CASES.items()}


def uses_kernel(optimizer, variable):
    """Whether a graph of one step holds one of TensorFlow's kernels."""
    optimizer.build([variable])
    gradient = tf.ones(variable.shape, variable.dtype)
    graph = tf.function(lambda: optimizer.apply([gradient], [variable])).get_concrete_function()
    names = {op.type for op in graph.graph.get_operations()}
    return bool(
        names & {"ResourceApplyAdam", "ResourceApplyAdaMax", "ResourceApplyAdamWithAmsgrad"}
    )


@pytest.mark.parametrize(("make", "settings"), SETTINGS.values(), ids=SETTINGS)
def test_kernel_equals_plain_operations(make, settings):
    gradients = GRADIENTS.astype("float32")
    plain = iterates(make(0.1, fused=False, **settings), gradients, ZERO, "float32")
    automatic = iterates(make(0.1, **settings), gradients, ZERO, "float32")
    assert_steps_close(automatic, plain.astype("float64"), 8 * ULP, "float32", ZERO)


@pytest.mark.parametrize("make", [Adam, AdaMax])
def test_kernel_is_the_algorithm_with_rounded_betas_in_the_long_run(make):
    # Rare spikes show the weight of old gradients, where a rounded beta matters most.
    rng = np.random.default_rng(0)
    gradients = rng.standard_t(1.5, (4000, 4)).astype("float32")
    start = np.zeros(4)
    kernel = iterates(make(0.1), gradients, start, "float32")
    plain = iterates(make(0.1, fused=False), gradients, start, "float32")
    reference = oracle.adam if make is Adam else oracle.adamax
    betas = {f"beta_{i}": kernels.rounded(b, "float32") for i, b in ((1, 0.9), (2, 0.999))}
    exact = reference(start, gradients, 0.1)
    assert_steps_close(
        kernel, reference(start, gradients, 0.1, **betas), 16 * ULP, "float32", start
    )
    assert_steps_close(plain, exact, 16 * ULP, "float32", start)
    # What the rounding of beta itself amounts to.
    assert_steps_close(kernel, exact, 1.3e-5 / 2, "float32", start)


@pytest.mark.parametrize("make", [Adam, AdaMax])
def test_chosen_where_possible(make):
    assert uses_kernel(make(), keras.Variable([1.0]))
    assert uses_kernel(make(fused=True), keras.Variable([1.0], dtype="float64"))
    assert not uses_kernel(make(fused=False), keras.Variable([1.0]))
    assert not uses_kernel(make(), keras.Variable([1.0], dtype="bfloat16"))
    assert not uses_kernel(make(beta_1=0.0), keras.Variable([1.0]))
    assert not uses_kernel(make(beta_2=1 - 1e-6), keras.Variable([1.0]))
    assert uses_kernel(make(beta_2=1 - 1e-6), keras.Variable([1.0], dtype="float64"))


def test_amsgrad_kernel_only_on_request():
    assert not uses_kernel(Adam(amsgrad=True), keras.Variable([1.0]))
    assert uses_kernel(Adam(amsgrad=True, fused=True), keras.Variable([1.0]))
    plain = iterates(Adam(0.1, amsgrad=True, beta_2=0.9, fused=False), dtype="float64")
    kernel = iterates(Adam(0.1, amsgrad=True, beta_2=0.9, fused=True), dtype="float64")
    assert_steps_close(kernel, plain, 1e-13)


IMPOSSIBLE = {
    "bfloat16": (Adam, {}, "bfloat16", "its dtype is bfloat16"),
    "no epsilon": (Adam, {"epsilon": 0.0}, "float32", "epsilon is 0.0"),
    "small beta": (Adam, {"beta_1": 0.0}, "float32", "a beta below 0.25, got 0.0"),
    "beta close to 1": (AdaMax, {"beta_2": 1 - 1e-7}, "float32", "0.9999999 is too close to 1"),
    "decaying beta": (Adam, {"beta_1_decay": 0.9}, "float32", "beta_1 decays"),
}


@pytest.mark.parametrize(("make", "settings", "dtype", "why"), IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_insisting_on_an_impossible_kernel(make, settings, dtype, why):
    variable = keras.Variable([1.0], dtype=dtype, name="theta")
    with pytest.raises(
        ValueError, match=f"fused=True is impossible for 'theta': .*{why}"
    ) as caught:
        make(fused=True, **settings).build([variable])
    assert "\n" not in str(caught.value)


def train(optimizer, run, steps=7):
    """Weights after some steps on a small problem, one step being run by `run`."""
    rng = np.random.default_rng(0)
    a, b = (keras.Variable(rng.standard_normal(s), dtype="float32") for s in ((3, 4), (4,)))
    x = rng.standard_normal((steps, 16, 3)).astype("float32")
    optimizer.build([a, b])

    def step(batch):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(tf.tanh(batch @ a + b) - 1.0))
        optimizer.apply(tape.gradient(loss, [a.value, b.value]), [a, b])

    step = run(step)
    for batch in x:
        step(tf.constant(batch))
    return np.concatenate([a.numpy().ravel(), b.numpy()])


RUNS = {
    "graph": tf.function,
    "xla": lambda step: tf.function(step, jit_compile=True),
}


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
@pytest.mark.parametrize("make", [Adam, AdaMax])
@pytest.mark.parametrize("path", [False, None])
@pytest.mark.usefixtures("deterministic")
def test_eager_graph_and_xla_agree(make, run, path):
    eager = train(make(0.01, fused=path), lambda step: step)
    # XLA contracts products and sums, and the gradients go through tanh: a few ulp of a step each.
    np.testing.assert_allclose(train(make(0.01, fused=path), run), eager, rtol=0, atol=8 * ULP)


@pytest.mark.parametrize(("make", "path"), [(Adam, False), (Adam, None), (AdaMax, None)])
@pytest.mark.usefixtures("deterministic")
def test_two_replicas_agree_with_one(make, path, two_replicas):
    def fit(**kwargs):
        keras.utils.set_random_seed(2)
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), keras.layers.Dense(1)])
        model.compile(make(0.01, fused=path), "mse", jit_compile=False, **kwargs)
        x = np.random.default_rng(0).standard_normal((32, 4)).astype("float32")
        model.fit(x, x[:, :1], batch_size=8, epochs=2, shuffle=False, verbose=0)
        return model

    single = fit()
    with two_replicas.scope():
        double = fit()
    blocked = fit(steps_per_execution=4)
    for a, b, c in zip(
        single.get_weights(), double.get_weights(), blocked.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(a, c)
        # The gradient is a sum of two halves there.
        np.testing.assert_allclose(a, b, rtol=0, atol=64 * ULP)


@pytest.mark.parametrize("make", [Adam, AdaMax])
@pytest.mark.parametrize("jit", [False, True])
def test_second_call_does_not_retrace(make, jit):
    optimizer, variable = make(0.1), keras.Variable([1.0, 2.0])
    optimizer.build([variable])
    traces = []

    @tf.function(jit_compile=jit)
    def step(gradient):
        traces.append(None)
        optimizer.apply([gradient], [variable])

    for _ in range(3):
        step(tf.constant([1.0, -1.0]))
    optimizer.learning_rate = 0.5
    step(tf.constant([1.0, -1.0]))
    assert len(traces) == 1
    assert int(optimizer.iterations) == 4


def test_update_step_by_hand():
    # MultiOptimizer-like code calls it with a bare learning rate.
    for make in (Adam, AdaMax):
        optimizer, variable = make(0.1), keras.Variable([1.0])
        optimizer.build([variable])
        optimizer.update_step(tf.constant([3.0]), variable, 0.25)
        np.testing.assert_allclose(variable.numpy(), [0.75], rtol=1e-6)
