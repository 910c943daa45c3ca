"""What every Keras optimizer offers works, and means the same as around the paper's algorithm."""

import keras
import numpy as np
import oracle
import pytest
import tensorflow as tf
from trajectories import GRADIENTS, START, assert_steps_close, iterates

from adam_tf import Adam, AdaMax, InverseSqrtDecay

BOTH = pytest.mark.parametrize(
    ("make", "reference"), [(Adam, oracle.adam), (AdaMax, oracle.adamax)], ids=["adam", "adamax"]
)
PATHS = pytest.mark.parametrize("fused", [False, None], ids=["plain", "automatic"])
G = np.random.default_rng(3).standard_normal((12, 10))


def test_the_class_of_tensorflow():
    for make in (Adam, AdaMax):
        assert issubclass(make, tf.keras.optimizers.Optimizer)
        assert issubclass(make, keras.optimizers.Optimizer)
        assert issubclass(make, keras.Optimizer)


@BOTH
@PATHS
def test_schedules_and_callables(make, reference, fused):
    step = keras.optimizers.schedules.PiecewiseConstantDecay([3, 6], [0.5, 0.25, 0.125])
    rates = {1: 0.5, 2: 0.5, 3: 0.5, 4: 0.5, 5: 0.25, 6: 0.25, 7: 0.25}
    expected = reference(START, G, lambda t: rates.get(t, 0.125))
    assert_steps_close(iterates(make(step, fused=fused), G), expected, 1e-13)
    # A callable's Python float is not rounded either.
    expected = reference(START, G, 0.3)
    assert_steps_close(iterates(make(lambda: 0.3, fused=fused), G), expected, 1e-13)


@BOTH
@PATHS
def test_learning_rate_set_between_steps(make, reference, fused):
    optimizer, variable = make(0.1, fused=fused), keras.Variable(START, dtype="float64")
    optimizer.build([variable])
    apply = tf.function(lambda g: optimizer.apply([g], [variable]))
    for t, g in enumerate(G, start=1):
        optimizer.learning_rate = 0.1 / t
        apply(tf.constant(g))
    expected = reference(START, G, lambda t: 0.1 / t)[-1]
    np.testing.assert_allclose(variable.numpy(), expected, rtol=1e-12)


@BOTH
@PATHS
def test_weight_decay_is_decoupled_and_has_exclusions(make, reference, fused):
    decayed, kept = (keras.Variable(START, dtype="float64", name=n) for n in ("kernel", "bias"))
    optimizer = make(0.1, weight_decay=0.3, fused=fused)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    for g in G:
        optimizer.apply([tf.constant(g)] * 2, [decayed, kept])
    np.testing.assert_allclose(kept.numpy(), reference(START, G, 0.1)[-1], rtol=1e-12)
    theta = START
    moves = np.diff(reference(START, G, 0.1), axis=0, prepend=START[None])
    for move in moves:
        theta = theta * (1 - 0.1 * 0.3) + move
    np.testing.assert_allclose(decayed.numpy(), theta, rtol=1e-13)


@pytest.mark.parametrize("rate", [0.1, lambda: 0.1, InverseSqrtDecay(0.1)])
def test_decay_and_rate_have_all_digits_of_a_float64_variable(rate):
    optimizer, variable = Adam(rate, weight_decay=0.3), keras.Variable([1.0], dtype="float64")
    optimizer.apply([tf.zeros(1, "float64")], [variable])
    np.testing.assert_allclose(variable.numpy(), 1 - 0.1 * 0.3, rtol=1e-15)


def test_decay_set_later_is_saved_as_a_plain_number():
    optimizer = Adam(weight_decay=0.3)
    optimizer.weight_decay = 0.7
    config = optimizer.get_config()
    assert (config["weight_decay"], type(config["weight_decay"])) == (0.7, float)
    optimizer.weight_decay = None
    assert optimizer.get_config()["weight_decay"] is None


CLIPS = {
    "clipnorm": lambda g: g * min(1.0, 0.5 / np.linalg.norm(g)),
    "global_clipnorm": lambda g: g * min(1.0, 0.5 / np.linalg.norm(g)),
    "clipvalue": lambda g: np.clip(g, -0.5, 0.5),
}


@pytest.mark.parametrize("make", [Adam, keras.optimizers.Adam])
@pytest.mark.parametrize("name", CLIPS)
def test_each_replica_clips_its_part_as_in_keras(make, name, two_replicas):
    parts = np.array([[3.0, 4.0], [0.3, 0.0]])
    with two_replicas.scope():
        variable = keras.Variable(np.zeros(2), dtype="float64")
        optimizer = make(0.1, beta_1=0.5, **{name: 0.5})
        optimizer.build([variable])

    def step():
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        optimizer.apply([tf.gather(parts, replica)], [variable])

    two_replicas.run(step)
    expected = 0.5 * sum(map(CLIPS[name], parts))
    np.testing.assert_allclose(optimizer.variables[2].numpy(), expected, rtol=1e-7)


@BOTH
@PATHS
@pytest.mark.parametrize("clip", CLIPS)
def test_clipping(make, reference, fused, clip):
    optimizer = make(0.1, fused=fused, **{clip: 0.5})
    expected = reference(START, [CLIPS[clip](g) for g in G], 0.1)
    np.testing.assert_allclose(iterates(optimizer, G), expected, rtol=1e-6)


@BOTH
@PATHS
def test_use_ema(make, reference, fused):
    variable = keras.Variable(START, dtype="float64")
    optimizer = make(0.1, use_ema=True, ema_momentum=0.75, fused=fused)
    for g in G:
        optimizer.apply([tf.constant(g)], [variable])
    points = reference(START, G, 0.1)
    np.testing.assert_allclose(variable.numpy(), points[-1], rtol=1e-12)
    average = points[0]
    for point in points[1:]:
        average = 0.75 * average + 0.25 * point
    optimizer.finalize_variable_values([variable])
    np.testing.assert_allclose(variable.numpy(), average, rtol=1e-12)


@BOTH
@PATHS
@pytest.mark.parametrize("compile_with", [lambda step: step, tf.function], ids=["eager", "graph"])
def test_gradient_accumulation(make, reference, fused, compile_with):
    variable = keras.Variable(START, dtype="float64")
    optimizer = make(0.1, gradient_accumulation_steps=3, fused=fused)
    optimizer.build([variable])
    apply = compile_with(lambda g: optimizer.apply([g], [variable]))
    for g in G:
        apply(tf.constant(g))
    means = G.reshape(4, 3, 10).mean(axis=1)
    expected = reference(START, means, 0.1)[-1]
    np.testing.assert_allclose(variable.numpy(), expected, rtol=1e-12)


@BOTH
@PATHS
@pytest.mark.parametrize("beside", [0, 8], ids=["alone", "joined"])
@pytest.mark.parametrize("compile_with", [lambda step: step, tf.function], ids=["eager", "graph"])
@pytest.mark.filterwarnings("ignore:Gradients do not exist")
def test_accumulation_keeps_gradients_that_the_last_batch_lacks(
    make, reference, fused, beside, compile_with
):
    variables = [keras.Variable(START, dtype="float64") for _ in range(2 + beside)]
    optimizer = make(0.1, gradient_accumulation_steps=2, fused=fused)
    optimizer.build(variables)
    rest = [tf.ones(10, "float64")] * beside
    first = compile_with(lambda g: optimizer.apply([g, None, *rest], variables))
    second = compile_with(lambda g: optimizer.apply([None, g, *rest], variables))
    for g in G:
        first(tf.constant(g))
        second(tf.constant(-g))
    for variable, sign in zip(variables, (0.5, -0.5), strict=False):
        expected = reference(START, sign * G, 0.1)[-1]
        np.testing.assert_allclose(variable.numpy(), expected, rtol=1e-12)


@BOTH
def test_accumulation_needs_every_variable_that_is_not_overwritten(make, reference):
    scale, *theta = (keras.Variable([1.0]) for _ in range(3))
    scale.overwrite_with_gradient = True
    optimizer = make(0.1, gradient_accumulation_steps=2)
    optimizer.build([scale, *theta])
    with pytest.raises(ValueError, match="and 1 of 2 are missing: give None") as caught:
        optimizer.apply([tf.ones(1)] * 2, [scale, theta[0]])
    assert "\n" not in str(caught.value)
    for _ in range(2):
        with pytest.warns(UserWarning, match="Gradients do not exist"):
            optimizer.apply([None, tf.ones(1), tf.ones(1)], [scale, theta[0].value, theta[1]])
    found = [float(v.numpy()[0]) for v in (scale, *theta)]
    np.testing.assert_allclose(found, [1.0, 0.9, 0.9], rtol=1e-6)
    with pytest.raises(ValueError, match="No gradients"):
        optimizer.apply([None] * 3)


@BOTH
@PATHS
def test_loss_scaling(make, reference, fused):
    variable = keras.Variable(START)
    inner = make(0.1, fused=fused)
    optimizer = keras.optimizers.LossScaleOptimizer(inner, initial_scale=1024.0)
    optimizer.build([variable])
    apply = tf.function(lambda g: optimizer.apply([optimizer.scale_loss(g)], [variable]))
    apply(tf.constant(np.full(10, np.inf), tf.float32))  # is skipped
    assert int(inner.iterations) == 0
    for g in G:
        apply(tf.constant(g, tf.float32))
    assert int(inner.iterations) == len(G)
    np.testing.assert_allclose(variable.numpy(), reference(START, G, 0.1)[-1], rtol=1e-4, atol=1e-6)
    static = make(0.1, loss_scale_factor=1024.0, fused=fused)
    scaled = iterates(static, G * 1024.0)
    np.testing.assert_allclose(scaled, reference(START, G, 0.1), rtol=1e-12)


@BOTH
@PATHS
def test_constraint(make, reference, fused):
    variable = keras.Variable(np.ones(3))
    variable.constraint = keras.constraints.NonNeg()
    optimizer = make(0.6, fused=fused)
    for _ in range(3):
        optimizer.apply([tf.ones(3)], [variable])
    np.testing.assert_array_equal(variable.numpy(), np.zeros(3))


@BOTH
@PATHS
def test_missing_gradients(make, reference, fused):
    used, unused = (keras.Variable(START, dtype="float64") for _ in range(2))
    optimizer = make(0.1, fused=fused)
    for g in G:
        with pytest.warns(UserWarning, match="Gradients do not exist"):
            optimizer.apply([tf.constant(g), None], [used, unused])
    np.testing.assert_allclose(used.numpy(), reference(START, G, 0.1)[-1], rtol=1e-12)
    np.testing.assert_array_equal(unused.numpy(), START)
    with pytest.raises(ValueError, match="No gradients"):
        optimizer.apply([None, None], [used, unused])
    with pytest.raises(ValueError, match="Unknown variable"):
        optimizer.apply([tf.ones(1)], [keras.Variable([1.0])])


@BOTH
@PATHS
def test_mixed_dtypes_in_one_model(make, reference, fused):
    dtypes = ["float64", "float32", "bfloat16", "float16"]
    variables = [keras.Variable(START, dtype=dtype) for dtype in dtypes]
    optimizer = make(0.1, fused=fused)
    optimizer.build(variables)
    apply = tf.function(lambda gs: optimizer.apply(gs, variables))
    for g in G:
        apply([tf.cast(g, dtype) for dtype in dtypes])
    expected = reference(START, G, 0.1)[-1]
    for variable, tolerance in zip(variables, (1e-12, 1e-5, 0.1, 0.01), strict=True):
        found = tf.cast(variable.value, tf.float64).numpy()
        np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float64"])
@pytest.mark.parametrize("make", [Adam, AdaMax])
def test_dtype_policies_under_fit(make, policy):
    keras.utils.set_random_seed(0)
    x = np.random.default_rng(0).standard_normal((64, 4))
    layers = [keras.layers.Dense(8, "relu", dtype=policy), keras.layers.Dense(1, dtype=policy)]
    model = keras.Sequential([keras.Input((4,)), *layers])
    model.compile(make(0.02), "mse", jit_compile=False)
    losses = model.fit(x, x[:, :1], batch_size=16, epochs=15, verbose=0).history["loss"]
    assert losses[-1] < losses[0] / 5


# Keras' callback reads the learning rate through an __array__ without `copy`.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("make", [Adam, AdaMax])
@pytest.mark.parametrize("jit", [False, True])
def test_callbacks_that_set_the_learning_rate(make, jit, compilable):
    x = np.ones((8, 1))
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(make(0.1), "mse", jit_compile=jit)
    scheduler = keras.callbacks.LearningRateScheduler(lambda epoch, rate: 0.1 / (epoch + 1))
    plateau = keras.callbacks.ReduceLROnPlateau("loss", patience=100)
    history = model.fit(x, x, epochs=3, verbose=0, callbacks=[scheduler, plateau]).history
    np.testing.assert_allclose(history["learning_rate"], [0.1, 0.05, 0.1 / 3], rtol=1e-6)
    assert float(model.optimizer.learning_rate) == 0.1 / 3


def test_inverse_sqrt_decay_per_epoch_under_fit():
    x = np.random.default_rng(0).standard_normal((12, 1))
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(Adam(InverseSqrtDecay(0.1, steps_per_epoch=3)), "mse")
    rates = []
    log = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda *_: rates.append(float(model.optimizer.learning_rate))
    )
    model.fit(x, x, batch_size=4, epochs=4, verbose=0, callbacks=[log])
    np.testing.assert_allclose(rates, 0.1 / np.sqrt([1, 2, 3, 4]))


@BOTH
def test_converges_on_rosenbrock(make, reference):
    # Not a test of correctness (see test_mutations), but of doing the job at all.
    variable = keras.Variable([-1.0, 1.0], dtype="float64")
    optimizer = make(0.02)
    optimizer.build([variable])

    def step(i):
        with tf.GradientTape() as tape:
            a, b = variable.value[0], variable.value[1]
            loss = (1 - a) ** 2 + 100 * (b - a**2) ** 2
        optimizer.apply([tape.gradient(loss, variable.value)], [variable])
        return (i + 1,)

    @tf.function(jit_compile=True, autograph=False)
    def run():
        return tf.while_loop(lambda i: i < 5000, step, (0,))

    run()
    np.testing.assert_allclose(variable.numpy(), [1.0, 1.0], atol=0.01)


def test_gradient_scales_of_the_oracle_are_those_promised():
    scales = np.abs(GRADIENTS[0])
    assert scales[2:].min() < 1e-4
    assert scales.max() > 10
    assert not GRADIENTS[7].any()


@BOTH
@pytest.mark.parametrize(
    "options",
    [{"gradient_accumulation_steps": 2}, {"use_ema": True, "ema_overwrite_frequency": 2}],
    ids=["accumulation", "overwriting"],
)
def test_refused_on_several_replicas(make, reference, options, two_replicas):
    with two_replicas.scope():
        variable, optimizer = keras.Variable(START), make(0.1, **options)
        with pytest.raises(ValueError, match=r"under a strategy of 2 replicas.* got 2") as caught:
            optimizer.build([variable])
    assert "\n" not in str(caught.value)
    assert not optimizer.built
    with tf.distribute.OneDeviceStrategy("CPU:0").scope():
        make(0.1, **options).build([keras.Variable(START)])


@BOTH
@pytest.mark.parametrize("replicas", [1, 2])
def test_averages_go_to_their_own_variables(make, reference, replicas, request):
    """Fit ends with the averages of what is trainable then: a layer may have been frozen."""
    strategy = request.getfixturevalue("two_replicas") if replicas == 2 else None
    strategy = strategy or tf.distribute.get_strategy()
    with strategy.scope():
        theta = [keras.Variable(np.zeros(10), dtype="float64") for _ in range(3)]
        optimizer = make(0.1, use_ema=True, ema_momentum=0.75)
        optimizer.build(theta)
    gradients = [factor * G for factor in (1.0, -1.0, 1.0)]
    for step in zip(*gradients, strict=True):
        strategy.run(
            lambda step=step: optimizer.apply([tf.constant(g / replicas) for g in step], theta)
        )
    raw = [v.numpy() for v in theta]
    optimizer.finalize_variable_values(theta[1:])
    np.testing.assert_array_equal(theta[0].numpy(), raw[0])
    for variable, g in zip(theta[1:], gradients[1:], strict=True):
        points = reference(np.zeros(10), g, 0.1)
        average = points[0]
        for point in points[1:]:
            average = 0.75 * average + 0.25 * point
        np.testing.assert_allclose(variable.numpy(), average, rtol=1e-9, atol=1e-12)


@BOTH
def test_averages_beside_overwritten_and_unknown_variables(make, reference):
    scale, theta, unknown = (keras.Variable([1.0], dtype="float32") for _ in range(3))
    scale.overwrite_with_gradient = True
    optimizer = make(0.5, use_ema=True, ema_momentum=0.5)
    for _ in range(2):
        optimizer.apply([tf.constant([7.0]), tf.constant([1.0])], [scale, theta])
    optimizer.finalize_variable_values([scale, unknown, theta])
    found = [float(v.numpy()[0]) for v in (scale, unknown, theta)]
    np.testing.assert_allclose(found, [7.0, 1.0, 0.25], rtol=1e-6)  # of 0.5 and 0.0


@BOTH
def test_a_layer_that_was_frozen_does_not_shift_the_averages_of_fit(make, reference):
    keras.utils.set_random_seed(0)
    dense = [keras.layers.Dense(2, use_bias=False) for _ in range(3)]
    model = keras.Sequential([keras.Input((2,)), *dense])
    optimizer = make(0.1, use_ema=True, ema_momentum=1.0)  # the weights after the first step
    model.compile(optimizer, "mse", jit_compile=False)
    x = np.random.default_rng(0).standard_normal((8, 2))
    model.fit(x, x, verbose=0)
    first = model.get_weights()
    model.layers[0].trainable = False
    model.compile(optimizer, "mse", jit_compile=False)
    model.fit(x, x, epochs=3, verbose=0)
    for a, b in zip(model.get_weights(), first, strict=True):
        np.testing.assert_array_equal(a, b)


@BOTH
@pytest.mark.parametrize("by", ["fused", "divide_state"])
def test_a_refused_build_leaves_nothing_behind(make, reference, by):
    variable = keras.Variable([1.0], dtype="bfloat16")
    optimizer = make(0.1, fused=True) if by == "fused" else make(0.1)
    optimizer.divide_state = by == "divide_state"  # refused without JAX; here, at the build
    for _ in range(2):
        with pytest.raises(ValueError, match=r"fused=True is impossible|divide_state=True needs"):
            optimizer.apply([tf.constant([1.0])], [variable])
    assert not optimizer.built
    assert [v.name for v in optimizer.variables] == ["iteration", "learning_rate"]
    optimizer.divide_state, optimizer.fused = False, None
    optimizer.apply([tf.constant([1.0])], [variable])
    np.testing.assert_allclose(tf.cast(variable.value, "float32").numpy(), 0.9, atol=0.004)


@BOTH
@PATHS
@pytest.mark.parametrize("steps", [None, 3])
def test_gradients_of_numpy_are_taken_whatever_their_dtype(make, reference, fused, steps):
    variable = keras.Variable(START, dtype="float32")
    optimizer = make(0.1, gradient_accumulation_steps=steps, clipnorm=100.0, fused=fused)
    optimizer.build([variable])
    for g in np.repeat(G, steps or 1, axis=0):
        optimizer.apply([g], [variable])  # float64
    expected = reference(START, G, 0.1)[-1]
    np.testing.assert_allclose(variable.numpy(), expected, rtol=1e-4, atol=1e-5)


@BOTH
def test_state_is_set_once_there_is_one(make, reference):
    optimizer = make(0.1)
    with pytest.raises(ValueError, match=r"build the optimizer first: optimizer\.build\("):
        optimizer.set_weights([1, 0.1])
