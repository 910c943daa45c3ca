"""Small variables that one kernel updates together get what each would get alone."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from adam_tf import Adam, AdaMax
from adam_tf.tensorflow import joined as joining

# Keras reads its variables through an __array__ without `copy` when it saves.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

ULP = float(np.finfo("float32").eps)
SHAPES = [(3, 5), (), (1,), (7,), (2, 3, 4), (5, 2), (11,), (4, 4), (6,)]
OPTIMIZERS = {
    "adam": lambda **kwargs: Adam(0.01, **kwargs),
    "amsgrad": lambda **kwargs: Adam(0.01, amsgrad=True, fused=True, **kwargs),
    "hat": lambda **kwargs: Adam(0.01, epsilon_form="hat", epsilon=1e-7, **kwargs),
    "adamax": lambda **kwargs: AdaMax(0.01, **kwargs),
}
COMPILERS = {
    "eager": lambda step: step,
    "graph": tf.function,
    "xla": lambda step: tf.function(step, jit_compile=True),
}


@pytest.fixture(params=OPTIMIZERS.values(), ids=OPTIMIZERS)
def make(request):
    return request.param


def gradients(step, dtype="float32"):
    """Gradients of many scales, with zeros and spikes."""
    rng = np.random.default_rng(step)
    made = []
    for i, shape in enumerate(SHAPES):
        g = rng.standard_normal(shape) * 10.0 ** (3 * (i % 5) - 8)
        g = np.where(rng.random(shape) < 0.2, 0.0, g) * (1e3 if step % 17 == 16 else 1.0)
        made.append(tf.constant(g, dtype))
    return made


class Trained:
    """Variables of `SHAPES` and their optimizer, joined or (`apart`) not."""

    def __init__(self, optimizer, apart=False, dtype="float32"):
        rng = np.random.default_rng(99)
        self.variables = [keras.Variable(rng.standard_normal(s), dtype=dtype) for s in SHAPES]
        self.optimizer = optimizer
        self.compiled = {}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(joining, "FEWEST", 1000 if apart else 8)
            optimizer.build(self.variables)
        assert any(slot.joined for slot in optimizer._slots) is not apart

    def step(self, grads, compiler=COMPILERS["eager"]):
        if compiler not in self.compiled:  # once: tracing takes far longer than a step
            self.compiled[compiler] = compiler(self.apply)
        self.compiled[compiler](grads)

    def apply(self, grads):
        pairs = [(g, v) for g, v in zip(grads, self.variables, strict=True) if g is not None]
        self.optimizer.apply_gradients(pairs)

    def state(self):
        return [v.numpy() for v in [*self.variables, *self.optimizer.variables]]


def assert_alike(joined, apart, ulps=8):
    """The same state, but for what the vector units make of the last digits."""
    for a, b in zip(joined.state(), apart.state(), strict=True):
        np.testing.assert_allclose(a, b, rtol=ulps * np.finfo(a.dtype).eps if a.ndim else 1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_joined_equals_apart(make, dtype):
    joined, apart = Trained(make(), dtype=dtype), Trained(make(), apart=True, dtype=dtype)
    for trained in (joined, apart):
        step = tf.function(lambda *g, t=trained: t.optimizer.apply(list(g), t.variables))
        for i in range(60):
            step(*gradients(i, dtype))
    assert len(joined.optimizer._slots[0].joined.variables) == len(SHAPES)
    tolerance = 60 * float(np.finfo(dtype).eps)
    for a, b in zip(joined.state(), apart.state(), strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * 0.01)


@pytest.mark.parametrize("compiler", COMPILERS.values(), ids=COMPILERS)
def test_variables_without_a_gradient_are_left_alone(make, compiler):
    joined, apart = Trained(make()), Trained(make(), apart=True)
    if compiler is COMPILERS["xla"] and len(apart.optimizer.moment_names()) == 3:
        pytest.skip("XLA has no kernel for AMSGrad")
    for i in range(4):
        grads = gradients(i)
        if i in (1, 2):
            grads[i :: i + 1] = [None] * len(grads[i :: i + 1])
        before = [v.numpy() for v in joined.variables]
        for trained in (joined, apart):
            trained.step(grads, compiler)
        for g, old, v in zip(grads, before, joined.variables, strict=True):
            if g is None:
                np.testing.assert_array_equal(v.numpy(), old)
    for a, b in zip(joined.state(), apart.state(), strict=True):
        np.testing.assert_allclose(a, b, rtol=16 * ULP, atol=1e-9)


def test_none_among_the_gradients(make):
    joined, apart = Trained(make()), Trained(make(), apart=True)
    for trained in (joined, apart):
        with pytest.warns(UserWarning, match="Gradients do not exist"):
            trained.optimizer.apply([*gradients(0)[:-1], None], trained.variables)
    assert_alike(joined, apart)


@pytest.mark.parametrize("compiler", COMPILERS.values(), ids=COMPILERS)
def test_rows_of_a_gradient(make, compiler):
    if compiler is COMPILERS["xla"]:
        pytest.skip("tf.unique has no fixed shape")
    joined, apart = (Trained(make(sparse="lazy"), apart=apart) for apart in (False, True))
    values = tf.constant([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    rows = tf.IndexedSlices(values, tf.constant([4, 0, 4]), tf.constant([5, 2]))
    for i in range(3):
        grads = gradients(i)
        grads[SHAPES.index((5, 2))] = rows
        for trained in (joined, apart):
            trained.step(grads, compiler)
    assert_alike(joined, apart, 16)
    m = joined.optimizer.diagnostics(joined.variables[SHAPES.index((5, 2))]).m
    assert (m[[1, 2, 3]] == 0).all()
    assert (m[[0, 4]] != 0).all()


def test_update_step_by_hand(make):
    joined, apart = Trained(make()), Trained(make(), apart=True)
    for trained in (joined, apart):
        for g, v in zip(gradients(0), trained.variables, strict=True):
            trained.optimizer.update_step(g, v, 0.25)
    assert_alike(joined, apart)


@pytest.mark.parametrize(
    "other", [{"ema_overwrite_frequency": 3}, {"gradient_accumulation_steps": 2}], ids=str
)
def test_other_features(make, other):
    settings = {
        "weight_decay": 0.1,
        "global_clipnorm": 2.0,
        "use_ema": True,
        "loss_scale_factor": 4.0,
        **other,
    }
    joined, apart = Trained(make(**settings)), Trained(make(**settings), apart=True)
    for i in range(8):
        for trained in (joined, apart):
            trained.step(gradients(i), tf.function)
    for a, b in zip(joined.state(), apart.state(), strict=True):
        np.testing.assert_allclose(a, b, rtol=32 * ULP, atol=1e-9)


def test_diagnostics(make):
    joined, apart = Trained(make()), Trained(make(), apart=True)
    for trained in (joined, apart):
        for i in range(3):
            trained.step(gradients(i))
    for v, w in zip(joined.variables, apart.variables, strict=True):
        pairs = zip(joined.optimizer.diagnostics(v), apart.optimizer.diagnostics(w), strict=True)
        for a, b in pairs:
            assert a.shape == v.shape
            np.testing.assert_allclose(a, b, rtol=1e-5)


def test_an_overflowing_square_is_seen_where_it_happened():
    trained = Trained(Adam(0.01))
    grads = gradients(0)
    grads[0] += 1e25
    grads[3] = None
    trained.step(grads)
    grads = gradients(1)
    grads[3] = None
    trained.step(grads)
    for i, v in enumerate(trained.variables):
        assert np.isnan(v.numpy()).any() == (i == 0)
    assert np.isnan(trained.variables[0].numpy()).all()
    assert (trained.optimizer.diagnostics(trained.variables[3]).v == 0).all()


def test_who_is_joined(two_replicas):
    def groups(variables, **kwargs):
        optimizer = Adam(**kwargs)
        optimizer.build(variables)
        return [slot.joined and len(slot.joined.variables) for slot in optimizer._slots]

    small = [keras.Variable(np.zeros(3, "float32")) for _ in range(8)]
    large = keras.Variable(np.zeros(joining.LARGEST + 1, "float32"))
    wide = [keras.Variable(np.zeros(3), dtype="float64") for _ in range(9)]
    assert groups([large, *small]) == [None] + [8] * 8
    assert groups([*small, *wide]) == [8] * 8 + [9] * 9
    assert groups([*small[:7], large]) == [None] * 8
    assert groups(small, fused=False) == [None] * 8
    assert groups(small, epsilon=0.0) == [None] * 8
    with two_replicas.scope():
        mirrored = [keras.Variable(np.zeros(3, "float32")) for _ in range(8)]
        assert groups(mirrored) == [None] * 8


def test_built_within_a_function():
    variables = [keras.Variable(np.zeros(3, "float32")) for _ in range(8)]
    optimizer = Adam(0.1)
    traces = []

    @tf.function
    def step(gradient):
        traces.append(None)
        optimizer.apply([gradient] * 8, variables)

    for _ in range(3):
        step(tf.ones(3))
    assert len(traces) <= 2  # the first one creates the variables
    np.testing.assert_allclose(variables[5].numpy(), [-0.3] * 3, rtol=1e-5)


def data():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((32, 4)).astype("float32")
    return x, x @ np.ones((4, 1), "float32")


def model(optimizer, joined=True):
    keras.utils.set_random_seed(1)
    layers = [keras.layers.Dense(5) for _ in range(4)]
    made = keras.Sequential([keras.Input((4,)), *layers, keras.layers.Dense(1)])
    made.compile(optimizer, "mse")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(joining, "FEWEST", 8 if joined else 1000)
        optimizer.build(made.trainable_variables)
    return made


def train(made, epochs):
    made.fit(*data(), batch_size=8, epochs=epochs, shuffle=False, verbose=0)


def test_saved_model_continues_bit_identically(make, tmp_path):
    trained = model(make())
    train(trained, 2)
    trained.save(tmp_path / "model.keras")
    copy = keras.models.load_model(tmp_path / "model.keras")
    assert copy.optimizer._slots[0].joined
    for one in (trained, copy):
        train(one, 1)
    for a, b in zip(trained.get_weights(), copy.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(trained.optimizer.variables, copy.optimizer.variables, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


@pytest.mark.parametrize("first", [False, True], ids=["apart first", "joined first"])
def test_weight_files_know_nothing_of_joining(make, first, tmp_path):
    trained, copy = model(make(), first), model(make(), not first)
    train(trained, 2)
    trained.save_weights(tmp_path / "model.weights.h5")
    copy.load_weights(tmp_path / "model.weights.h5")
    for a, b in zip(trained.optimizer.variables, copy.optimizer.variables, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
    for one in (trained, copy):
        train(one, 1)
    for a, b in zip(trained.get_weights(), copy.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("theirs_first", [False, True])
def test_files_of_keras_adam(theirs_first, tmp_path):
    theirs = model(keras.optimizers.Adam(0.01))
    ours = model(Adam(0.01, epsilon=1e-7, epsilon_form="hat"))
    trained, copy = (theirs, ours) if theirs_first else (ours, theirs)
    train(trained, 2)
    trained.save_weights(tmp_path / "model.weights.h5")
    copy.load_weights(tmp_path / "model.weights.h5")
    for one in (trained, copy):
        train(one, 3)
    for a, b in zip(trained.get_weights(), copy.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_state_goes_through_set_weights_and_shapes_are_checked(make):
    trained, copy = Trained(make()), Trained(make())
    trained.step(gradients(0))
    state = [np.asarray(v) for v in trained.optimizer.variables]
    copy.optimizer.set_weights(state)
    for a, b in zip(state, copy.optimizer.variables, strict=True):
        np.testing.assert_array_equal(a, b.numpy())
    with pytest.raises(ValueError, match="must match"):
        copy.optimizer.variables[2].assign(np.zeros((5, 3)))


def test_checkpoint_round_trip(make, tmp_path):
    trained, copy = Trained(make()), Trained(make())
    trained.step(gradients(0))
    path = tf.train.Checkpoint(optimizer=trained.optimizer).save(str(tmp_path / "state"))
    status = tf.train.Checkpoint(optimizer=copy.optimizer).restore(path)
    status.assert_existing_objects_matched()
    for a, b in zip(trained.optimizer.variables, copy.optimizer.variables, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


@pytest.mark.parametrize("first", ["joined", "apart", "by hand"])
@pytest.mark.parametrize("place", ["alone", "replicas"])
def test_checkpoint_of_others_before_the_build_is_refused(first, place, two_replicas, tmp_path):
    trained = Trained(Adam(0.1), apart=first == "apart")
    trained.optimizer.apply(gradients(0), trained.variables)
    path = tf.train.Checkpoint(optimizer=trained.optimizer).save(str(tmp_path / "state"))
    strategy = two_replicas if place == "replicas" else tf.distribute.get_strategy()
    for fused in (None, False):
        with strategy.scope():
            variables = [keras.Variable(np.ones(shape), dtype="float32") for shape in SHAPES]
            optimizer = Adam(0.1, fused=fused)
            if first == "by hand":
                optimizer.iterations.assign(1)
                optimizer.build(variables)
                continue
            tf.train.Checkpoint(optimizer=optimizer).restore(path).expect_partial()
            assert int(optimizer.iterations.numpy()) == 1
            if (first == "joined") == (fused is None and place == "alone"):
                optimizer.build(variables)
                assert np.any(optimizer.variables[2].numpy())
                continue
            with pytest.raises(ValueError, match="moments of variables that were joined") as caught:
                optimizer.build(variables)
        assert "\n" not in str(caught.value)


def test_loss_scaling_keeps_the_layout(tmp_path):
    wrapped = [keras.optimizers.LossScaleOptimizer(Adam(0.01)) for _ in range(2)]
    trained, copy = model(wrapped[0]), model(wrapped[1], joined=False)
    train(trained, 2)
    trained.save_weights(tmp_path / "model.weights.h5")
    copy.load_weights(tmp_path / "model.weights.h5")
    for a, b in zip(wrapped[0].variables, wrapped[1].variables, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_several_steps_per_execution(make):
    trained = []
    for steps in (1, 4):
        one = model(make())
        one.compile(one.optimizer, "mse", steps_per_execution=steps, jit_compile=False)
        train(one, 2)
        assert one.optimizer._slots[0].joined
        trained.append(one.get_weights())
    for a, b in zip(*trained, strict=True):
        np.testing.assert_array_equal(a, b)
