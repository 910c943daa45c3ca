"""What users of optimizers report in public, tried here. Each test names its report, as
`repository#number` on GitHub. On any backend."""

import copy
import json
import pickle
import re
import warnings

import keras
import numpy as np
import oracle
import pytest
from keras import ops
from test_reports import BOTH, on_tensorflow, ones, variables

from adam_tf import Adam, AdaMax, InverseSqrtDecay

# Keras reads its variables through an __array__ without `copy`.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
ORACLES = {Adam: oracle.adam, AdaMax: oracle.adamax}
G = np.random.default_rng(5).standard_normal((4, 3))
# The optimizer, how many variables of one number stand beside those of a test, and `fused`.
CASES = pytest.mark.parametrize(
    ("make", "beside", "fused"),
    [
        pytest.param(Adam, 8, None, id="Adam joined", marks=on_tensorflow),
        pytest.param(AdaMax, 8, None, id="AdaMax joined", marks=on_tensorflow),
        pytest.param(Adam, 1, False, id="Adam plain"),
        pytest.param(AdaMax, 0, None, id="AdaMax alone"),
    ],
)
NARROW = pytest.mark.parametrize("dtype", ["bfloat16", "float16"])


def tensor(value, dtype="float32"):
    return ops.convert_to_tensor(np.asarray(value, "float32"), dtype)


def numbers(variable):
    value = getattr(variable, "value", variable)
    return ops.convert_to_numpy(ops.cast(value, "float32")).astype("float64")


def walk(optimizer, gradients, beside=0, start=None, dtype="float32"):
    """Where one variable (3,) goes; `beside` others of one number get gradient 1."""
    start = np.zeros(3) if start is None else start
    theta = [keras.Variable(start, dtype=dtype), *variables([], beside)]
    optimizer.build(theta)
    for g in gradients:
        optimizer.apply([tensor(g, dtype), *[ones((1,))] * beside], theta)
    return numbers(theta[0])


def network(optimizer, layers=5, **compiling):
    keras.utils.set_random_seed(1)
    dense = [keras.layers.Dense(4, name=f"dense_{i}") for i in range(layers)]
    made = keras.Sequential([keras.Input((4,)), *dense], name="net")
    made.compile(optimizer, "mse", jit_compile=False, **compiling)
    return made


def steps(model, count=1):
    """Steps by hand, which nothing has to be compiled for."""
    variables = model.trainable_variables
    if not model.optimizer.built:
        model.optimizer.build(variables)
    for _ in range(count):
        rng = np.random.default_rng(int(model.optimizer.iterations))
        gradients = [tensor(rng.standard_normal(v.shape)) for v in variables]
        model.optimizer.apply(gradients, variables)


def assert_same(one, other):
    for a, b in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


# --- accumulated gradients and averages -----------------------------------------------------------


@CASES
@pytest.mark.parametrize(
    "rate", [0.1, InverseSqrtDecay(0.1), InverseSqrtDecay(0.1, steps_per_epoch=2)]
)
def test_accumulated_gradients_are_one_large_batch(make, beside, fused, rate):
    # keras-team/keras#19990, google-deepmind/optax#1567: decay and moments move once for each.
    # The step size falls with the steps, too; Keras' own would fall with the batches.
    options = {"weight_decay": 0.1, "fused": fused, "clipnorm": 1.0}
    found = walk(make(rate, gradient_accumulation_steps=2, **options), G, beside, np.ones(3))
    wanted = walk(make(rate, **options), G.reshape(-1, 2, 3).mean(1), beside, np.ones(3))
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


@CASES
@pytest.mark.parametrize("steps", [None, 2])
def test_an_average_counts_steps(make, beside, fused, steps):
    # SWivid/F5-TTS#631, keras-team/keras#18949: not the batches that make up a step.
    options = {"use_ema": True, "ema_momentum": 0.9, "gradient_accumulation_steps": steps}
    theta = [keras.Variable(np.zeros(3), dtype="float32"), *variables([], beside)]
    optimizer = make(0.1, fused=fused, **options)
    optimizer.build(theta)
    batches = np.repeat(G, steps or 1, axis=0)
    for g in batches:
        optimizer.apply([tensor(g), *[ones((1,))] * beside], theta)
    average = None
    for place in ORACLES[make](np.zeros(3), G, 0.1):
        average = place if average is None else 0.9 * average + 0.1 * place
    optimizer.finalize_variable_values(theta)
    np.testing.assert_allclose(numbers(theta[0]), average, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("make", [Adam, AdaMax])
def test_weights_are_not_overwritten_in_the_middle_of_a_step(make):
    # The same kind: Keras overwrites them at each batch that makes up a step.
    options = {"use_ema": True, "gradient_accumulation_steps": 2, "ema_overwrite_frequency": 3}
    with pytest.raises(ValueError, match=r"ema_overwrite_frequency must go without gradient_acc"):
        make(**options)


# --- narrow variables -----------------------------------------------------------------------------


@BOTH
@NARROW
def test_decay_of_narrow_variables(make, dtype):
    # Nerogar/OneTrainer#996: next to 1, bfloat16 has nothing closer than 0.004.
    optimizer = make(1e-3, weight_decay=0.1)
    theta = keras.Variable(np.ones(3), dtype=dtype, name="kernel")
    kept = keras.Variable(np.ones(3), dtype=dtype, name="bias")
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    for _ in range(100):
        optimizer.apply([tensor(np.zeros(3), dtype)] * 2, [theta, kept])
    # One unit of bfloat16 below 1 is 0.004.
    np.testing.assert_allclose(numbers(theta), (1 - 1e-4) ** 100, atol=0.0021)
    np.testing.assert_array_equal(numbers(kept), 1.0)
    wide = numbers(theta) + numbers(optimizer.variables[-2])  # with what is kept beside it
    np.testing.assert_allclose(wide, (1 - 1e-4) ** 100, rtol=1e-5)


@BOTH
@NARROW
def test_averages_of_narrow_variables_move(make, dtype):
    # d8ahazard/sd_dreambooth_extension#1415: 0.001 of a difference is rounded away.
    optimizer = make(0.1, use_ema=True, ema_momentum=0.999)
    theta = keras.Variable(np.ones(3), dtype=dtype)
    average = None
    for _ in range(60):
        optimizer.apply([tensor(np.ones(3), dtype)], [theta])
        place = numbers(theta)
        average = place if average is None else 0.999 * average + 0.001 * place
    optimizer.finalize_variable_values([theta])
    np.testing.assert_allclose(numbers(theta), average, atol=0.003)
    assert abs(1 - average[0]) > 0.1


@BOTH
@NARROW
def test_gradients_of_narrow_variables_are_summed_in_float32(make, dtype):
    # deepspeedai/DeepSpeed#2768: 1 + 0.003 is 1 in bfloat16.
    steps = 50
    gradients = np.full((steps, 3), 0.003)
    gradients[0] = [1.0, -1.0, 0.5]
    optimizer = make(0.1, gradient_accumulation_steps=steps)
    walk(optimizer, gradients, dtype=dtype)
    mean = numbers(tensor(gradients, dtype)).mean(0)
    (m,) = (numbers(v) for v in optimizer.variables if v.path.endswith(("momentum", "_m")))
    np.testing.assert_allclose(m, 0.1 * mean, rtol=1e-5)


@BOTH
@pytest.mark.parametrize("clip", ["clipnorm", "global_clipnorm"])
def test_clipping_does_not_overflow_in_float16(make, clip):
    # tracel-ai/burn#5699, facebookresearch/fairscale#263: the square of 300 is infinite.
    optimizer = make(0.1, **{clip: 1.0})
    theta = [keras.Variable(np.zeros(2), dtype="float16") for _ in range(2)]
    optimizer.apply([tensor([300, -400], "float16"), tensor([0, 0], "float16")], theta)
    (m, _) = (numbers(v) for v in optimizer.variables if v.path.endswith(("momentum", "_m")))
    np.testing.assert_allclose(m, [0.06, -0.08], rtol=1e-3)
    np.testing.assert_allclose(numbers(theta[0]), [-0.1, 0.1], rtol=1e-3)


def test_small_gradients_survive_a_static_loss_scale_in_float16():
    # The same kind: 6e-8 is float16's smallest number.
    optimizer = AdaMax(0.1, loss_scale_factor=2.0**15)
    theta = keras.Variable(np.zeros(2), dtype="float16")
    optimizer.apply([tensor([2.0**-12, -(2.0**-12)], "float16")], [theta])
    np.testing.assert_allclose(numbers(theta), [-0.1, 0.1], rtol=1e-3)


@pytest.mark.parametrize("floatx", ["bfloat16", "float16", "float64"])
def test_steps_are_counted_exactly_whatever_the_float_type(floatx):
    # pytorch/ao#4915 and pytorch/pytorch#110940: a counter of bfloat16 stops at 256.
    before = keras.config.floatx()
    keras.config.set_floatx(floatx)
    try:
        optimizer = Adam(0.1)
        theta = keras.Variable(np.zeros(1), dtype="float32")
        optimizer.build([theta])
        optimizer.iterations.assign(256)
        for _ in range(2):
            optimizer.apply([ones((1,))], [theta])
        assert int(optimizer.iterations) == 258
        found = numbers(theta)
    finally:
        keras.config.set_floatx(before)
    t = np.array([257, 258])
    m, v = np.array([0.1, 0.19]) / (1 - 0.9**t), np.array([0.001, 0.001999]) / (1 - 0.999**t)
    np.testing.assert_allclose(found, -0.1 * (m / np.sqrt(v)).sum(), rtol=1e-5)


@CASES
def test_dtypes_stay_what_they_are(make, beside, fused):
    # jax-ml/jax#4827: with 64 bits on, a float32 variable became float64.
    theta = variables([(2,)], beside)
    optimizer = make(0.1, fused=fused)
    for _ in range(2):
        optimizer.apply([ones(v.shape) for v in theta], theta)
    found = {keras.backend.standardize_dtype(v.value.dtype) for v in theta}
    found |= {keras.backend.standardize_dtype(v.value.dtype) for v in optimizer.variables[2:]}
    assert found == {"float32"}


# --- odd gradients and variables ------------------------------------------------------------------


@CASES
def test_empty_and_scalar_variables(make, beside, fused):
    # NVIDIA/TransformerEngine#3207, pytorch/pytorch#100701, tensorflow/tensorflow#42606:
    # others in the group were not updated, or the process ended.
    for shapes in ([(2,), (), (0,)], [(0,), (3, 0), (), (1,)], [(0,)]):
        theta = variables(shapes, beside)
        optimizer = make(0.1, fused=fused)
        for _ in range(2):
            optimizer.apply([ones(v.shape) for v in theta], theta)
        for v in theta:
            np.testing.assert_allclose(numbers(v), np.full(v.shape, -0.2), rtol=1e-5)


@BOTH
@on_tensorflow
@pytest.mark.parametrize("sparse", ["dense", "lazy"])
def test_rows_of_no_row(make, sparse):
    # pytorch/pytorch#82486: a batch that names padding alone.
    import tensorflow as tf

    theta = variables([(3, 2)])
    optimizer = make(0.1, sparse=sparse, clipnorm=1.0)
    optimizer.apply([tf.IndexedSlices(ones((1, 2)), tf.constant([1]), (3, 2))], theta)
    before = numbers(theta[0])
    none = tf.IndexedSlices(tf.zeros((0, 2)), tf.zeros((0,), tf.int64), (3, 2))
    optimizer.apply([none], theta)
    moved = (numbers(theta[0]) != before).any(1)
    # pytorch/pytorch#18404: under Algorithm 1 a row goes on without a gradient.
    assert moved.tolist() == [False, sparse == "dense", False]


@CASES
@pytest.mark.parametrize("kind", ["Keras variable", "array"])
def test_gradients_that_are_not_tensors(make, beside, fused, kind):
    # tensorflow/tensorflow#3994: gradients that were added up in variables.
    made = keras.Variable if kind == "Keras variable" else np.asarray
    theta = variables([(3,)], beside)
    optimizer = make(0.1, fused=fused)
    for g in G.astype("float32"):
        optimizer.apply([made(g), *[made(np.ones(1, "float32"))] * beside], theta)
    wanted = ORACLES[make](np.zeros(3), G, 0.1)[-1]
    np.testing.assert_allclose(numbers(theta[0]), wanted, rtol=1e-4, atol=1e-6)


@CASES
@pytest.mark.filterwarnings("ignore:Gradients do not exist:UserWarning")
def test_without_a_gradient_nothing_decays(make, beside, fused):
    # KellerJordan/Muon#54
    theta = [keras.Variable(np.ones(3), dtype="float32") for _ in range(2)]
    theta += variables([], beside)
    optimizer = make(0.1, weight_decay=0.5, fused=fused, global_clipnorm=1.0)
    for _ in range(3):
        optimizer.apply([ones((3,)), None, *[ones((1,))] * beside], theta)
    np.testing.assert_array_equal(numbers(theta[1]), 1.0)
    assert (numbers(theta[0]) < 0.7).all()


@CASES
def test_one_gradient_that_is_nan_stays_where_it_is(make, beside, fused):
    # Not the neighbours in a joined step: keras-team/keras#16552.
    theta = variables([(3,)], beside)
    optimizer = make(0.1, fused=fused)
    for _ in range(2):
        optimizer.apply([tensor([1, np.nan, 1]), *[ones((1,))] * beside], theta)
    np.testing.assert_array_equal(np.isnan(numbers(theta[0])), [False, True, False])
    for v in theta[1:]:
        np.testing.assert_allclose(numbers(v), -0.2, rtol=1e-5)


@pytest.mark.skipif(
    keras.backend.backend() == "jax", reason="Keras scales losses there in stateless_apply alone"
)
@CASES
def test_a_skipped_step_changes_no_state(make, beside, fused):
    # huggingface/accelerate#139, keras-team/keras#21706
    theta = variables([(3,)], beside)
    inner = make(0.1, fused=fused)
    optimizer = keras.optimizers.LossScaleOptimizer(inner, initial_scale=4.0)
    bad = [tensor([1, np.inf, 1]), *[ones((1,))] * beside]
    good = [4.0 * ones((3,)), *[4.0 * ones((1,))] * beside]
    optimizer.apply(good, theta)
    state = [numbers(v) for v in (*theta, *inner.variables)]
    optimizer.apply(bad, theta)
    for a, b in zip(state, (*theta, *inner.variables), strict=True):
        np.testing.assert_array_equal(a, numbers(b))
    assert float(optimizer.dynamic_scale) == 2.0


@CASES
def test_overwritten_variables(make, beside, fused):
    # keras-team/keras#21262 and #21193: they are counted as a step, and not scaled.
    theta = variables([(2,), (2,)], beside)
    for v in theta:
        v.overwrite_with_gradient = True
    optimizer = make(0.1, loss_scale_factor=8.0, fused=fused)
    for _ in range(2):
        optimizer.apply([3.0 * ones(v.shape) for v in theta], theta)
    assert int(optimizer.iterations) == 2
    for v in theta:
        np.testing.assert_array_equal(numbers(v), 3.0)


@CASES
def test_without_momentum(make, beside, fused):
    # tensorflow/tensorflow#40832: XLA failed for a beta of 0.
    found = walk(make(0.1, beta_1=0.0, fused=fused), G, beside)
    wanted = ORACLES[make](np.zeros(3), G, 0.1, beta_1=0.0)[-1]
    np.testing.assert_allclose(found, wanted, rtol=1e-4)


@CASES
def test_two_billion_steps(make, beside, fused):
    # Unity-Technologies/ml-agents#4605: NaN when the counter has run over.
    theta = variables([(3,)], beside)
    optimizer = make(0.1, fused=fused)
    optimizer.build(theta)
    optimizer.iterations.assign(2**31 - 2)
    for _ in range(4):
        optimizer.apply([ones(v.shape) for v in theta], theta)
    # Uncorrected by then, from moments of 0: the same as without correction.
    m, v = 1 - 0.9 ** np.arange(1, 5), 1 - 0.999 ** np.arange(1, 5)
    steps = m / np.sqrt(v) if make is Adam else m
    for variable in theta:
        np.testing.assert_allclose(numbers(variable), -0.1 * steps.sum(), rtol=1e-4)


# --- copies, files, settings ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "way"),
    [
        (Adam, "pickle"),
        (Adam, "deepcopy"),
        (Adam, "file"),
        (Adam, "file before a step"),
        (AdaMax, "pickle"),
    ],
)
def test_copies_continue_bit_identically(make, way, tmp_path):
    # keras-team/keras#16752, adriangb/scikeras#126, tensorflow/tensorflow#58973
    model = network(make(0.01, use_ema=True))
    trained = 0 if way == "file before a step" else 2
    steps(model, trained)
    if way == "pickle":
        other = pickle.loads(pickle.dumps(model))
    elif way == "deepcopy":
        other = copy.deepcopy(model)
    else:
        model.save(tmp_path / "m.keras")
        other = keras.models.load_model(tmp_path / "m.keras")
    assert other.optimizer is not model.optimizer
    assert int(other.optimizer.iterations) == trained
    for one in (model, other):
        steps(one, 3)
    assert_same(model, other)
    for a, b in zip(model.optimizer.variables, other.optimizer.variables, strict=True):
        np.testing.assert_array_equal(numbers(a), numbers(b))


@BOTH
def test_optimizers_alone_are_copied_as_their_settings(make):
    # adriangb/scikeras#70 and keras-team/keras-tuner#818: one for each model of a search.
    optimizer = make(np.float32(0.003), weight_decay=np.float64(0.1), clipnorm=2)
    for other in (
        keras.optimizers.deserialize(keras.optimizers.serialize(optimizer)),
        make.from_config(json.loads(json.dumps(optimizer.get_config()))),
        copy.deepcopy(optimizer),
    ):
        assert other.get_config() == optimizer.get_config()
        walk(other, G)


@BOTH
def test_settings_are_plain_numbers(make):
    # tensorflow/tensorflow#36801, keras-team/keras#15606: not JSON serializable.
    half, three = np.float32(0.5), np.int64(3)
    for settings in (
        {"weight_decay": half, "clipnorm": half, "gradient_accumulation_steps": three},
        {"clipvalue": half, "loss_scale_factor": half, "use_ema": True, "ema_momentum": half},
        {"global_clipnorm": half, "use_ema": True, "ema_overwrite_frequency": three},
    ):
        optimizer = make(half, beta_1=half, **settings)
        found = make.from_config(json.loads(json.dumps(optimizer.get_config()))).get_config()
        assert settings.items() <= found.items()
        assert {type(found[name]) for name in settings} <= {float, int, bool}


@BOTH
def test_two_clips_are_refused_when_they_are_set_later_too(make, tmp_path):
    # keras-team/keras#17278: saved without a word, and not to be loaded again.
    optimizer = make(0.1, clipnorm=1.0)
    with pytest.raises(ValueError, match="clipnorm"):
        make(0.1, clipnorm=1.0, global_clipnorm=1.0)
    optimizer.global_clipnorm = 0.5
    with pytest.raises(ValueError, match=r"[Oo]nly one of"):
        optimizer.get_config()
    with pytest.raises(ValueError, match=r"[Oo]nly one of"):
        optimizer.build(variables([(2,)]))


@CASES
def test_state_of_another_length_is_refused(make, beside, fused):
    # keras-team/keras#9435: taken without a word, in part.
    theta = variables([(3,)], beside)
    optimizer = make(0.1, fused=fused)
    optimizer.build(theta)
    state = [numbers(v) for v in optimizer.variables]
    for wrong in (state[:-1], [*state, np.zeros(1)], []):
        message = f"weights must be {len(state)} arrays, one for each variable, got {len(wrong)}"
        with pytest.raises(ValueError, match=re.escape(message)):
            optimizer.set_weights(wrong)
    with pytest.raises(ValueError, match="shape"):
        optimizer.set_weights([*state[:-1], np.zeros(7)])


@BOTH
def test_a_rate_that_was_set_before_the_first_step_counts(make, tmp_path):
    # tensorflow/tensorflow#31287
    optimizer = make(0.1)
    optimizer.learning_rate = 0.5
    model = network(optimizer)
    steps(model)
    assert optimizer.get_config()["learning_rate"] == 0.5
    model.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras")
    assert float(again.optimizer.learning_rate) == 0.5
    np.testing.assert_allclose(walk(make(0.1), G[:1]), -0.1 * np.sign(G[0]), rtol=1e-5)


class Halving(keras.optimizers.schedules.LearningRateSchedule):
    """A user's own."""

    def __init__(self, initial=0.1):
        self.initial = initial

    def __call__(self, step):
        return self.initial * 0.5 ** ops.cast(step, "float32")

    def get_config(self):
        return {"initial": self.initial}


@BOTH
def test_a_schedule_of_the_users_own_is_saved(make, tmp_path):
    # keras-team/keras-hub#973
    model = network(make(Halving(0.02)))
    steps(model)
    model.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras", custom_objects={"Halving": Halving})
    assert float(again.optimizer.learning_rate) == pytest.approx(0.02 / 2)
    for one in (model, again):
        steps(one)
    assert_same(model, again)


@BOTH
def test_callbacks_on_a_schedule_say_what_to_do(make):
    # tensorflow/tensorflow#36612
    callback = keras.callbacks.ReduceLROnPlateau("loss", patience=0, min_delta=1e9)
    callback.set_model(network(make(Halving()), 1))
    callback.on_train_begin()
    callback.on_epoch_end(0, {"loss": 1.0})
    with pytest.raises(TypeError, match="not settable"):
        callback.on_epoch_end(1, {"loss": 1.0})


@CASES
def test_variables_are_told_apart_by_what_they_are(make, beside, fused):
    # larq/larq#735: not by their names.
    theta = [keras.Variable(np.zeros(3), dtype="float32", name="kernel") for _ in range(2)]
    theta += variables([], beside)
    optimizer = make(0.1, fused=fused)
    optimizer.build(theta)
    for g in G:
        optimizer.apply([tensor(g), tensor(-2 * g), *[ones((1,))] * beside], theta)
    for v, sign in zip(theta[:2], (1, -1), strict=True):
        wanted = ORACLES[make](np.zeros(3), sign * G, 0.1)[-1]
        np.testing.assert_allclose(numbers(v), wanted, rtol=1e-4, atol=1e-5)


@BOTH
def test_one_optimizer_for_two_models(make):
    # entbappy/End-to-End-Chest-Cancer-Classification-using-MLflow-DVC#2, yzhao062/pyod#459
    optimizer = make(0.01)
    first, second = network(optimizer), network(optimizer)
    steps(first)
    before = second.get_weights()
    with pytest.raises(ValueError, match="Unknown variable"):
        steps(second)
    for a, b in zip(before, second.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    optimizer = make(0.01)  # built for both, it trains each and leaves the other alone
    optimizer.build([*first.trainable_variables, *second.trainable_variables])
    second.compile(optimizer, "mse", jit_compile=False)
    kept = first.get_weights()
    steps(second)
    for a, b in zip(kept, first.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert any((a != b).any() for a, b in zip(before, second.get_weights(), strict=True))


@BOTH
def test_layers_that_are_frozen_later_stay(make):
    # keras-team/keras#3268
    model = network(make(0.01, weight_decay=0.1))
    steps(model)
    model.layers[1].trainable = False
    model.compile(model.optimizer, "mse", jit_compile=False)
    frozen, free = model.layers[1].get_weights(), model.layers[2].get_weights()
    steps(model)
    for a, b in zip(frozen, model.layers[1].get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert (free[0] != model.layers[2].get_weights()[0]).all()


@on_tensorflow
@BOTH
def test_an_optimizer_made_within_a_function(make):
    # tensorflow/tensorflow#42183: variables on the first call only.
    import tensorflow as tf

    theta = variables([(3,)], 9)
    optimizers = []

    @tf.function
    def step():
        if not optimizers:
            optimizers.append(make(0.1))
        optimizers[0].apply([ones(v.shape) for v in theta], theta)

    for _ in range(3):
        step()
    for v in theta:
        np.testing.assert_allclose(numbers(v), -0.3, rtol=1e-5)


@BOTH
@pytest.mark.filterwarnings("ignore:Skipping variable loading:UserWarning")
def test_state_of_another_optimizer_is_left_alone(make, tmp_path):
    # protein_bert#2 and the question at stackoverflow.com/questions/42666046
    model = network(keras.optimizers.SGD(0.01))
    steps(model)
    model.save_weights(tmp_path / "m.weights.h5")
    other = network(make(0.01))
    other.optimizer.build(other.trainable_variables)
    other.load_weights(tmp_path / "m.weights.h5")
    assert_same(model, other)
    assert not any(numbers(v).any() for v in other.optimizer.variables[2:])
    steps(other)
    # The states of Adam and AdaMax are alike, and Keras cannot tell them apart.
    model = network((AdaMax if make is Adam else Adam)(0.01))
    steps(model)
    model.save_weights(tmp_path / "n.weights.h5")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        other.load_weights(tmp_path / "n.weights.h5")
    for a, b in zip(model.optimizer.variables, other.optimizer.variables, strict=True):
        np.testing.assert_array_equal(numbers(a), numbers(b))
