"""What users report of optimizers: wrong numbers without a word. On any backend."""

import re

import h5py
import keras
import numpy as np
import pytest
from keras import ops

from adam_tf import Adam, AdaMax

# Keras reads its variables through an __array__ without `copy`.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

TENSORFLOW = keras.backend.backend() == "tensorflow"
on_tensorflow = pytest.mark.skipif(not TENSORFLOW, reason="of the TensorFlow backend")
BOTH = pytest.mark.parametrize("make", [Adam, AdaMax])
# How many variables of one number stand beside those of a test: eight are joined.
PATHS = pytest.mark.parametrize(
    ("beside", "fused"),
    [
        pytest.param(8, None, id="joined", marks=on_tensorflow),
        pytest.param(0, None, id="alone"),
        pytest.param(8, False, id="plain"),
    ],
)


def variables(shapes, beside=0):
    made = [keras.Variable(np.zeros(shape), dtype="float32", name="theta") for shape in shapes]
    return made + [keras.Variable(np.zeros(1), dtype="float32") for _ in range(beside)]


def ones(shape):
    return ops.ones(shape, dtype="float32")


@BOTH
@PATHS
def test_swapped_gradients_are_refused(make, beside, fused):
    theta = variables([(2,), (3,)], beside)
    gradients = [ones((3,)), ones((2,)), *[ones((1,))] * beside]
    optimizer = make(0.1, fused=fused)
    message = "the gradient of 'theta' must have its shape (2,), got (3,)"
    for trainable in (theta, None):  # before it is built, and after
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            optimizer.apply(gradients, trainable)
        optimizer.build(theta)
    with pytest.raises(ValueError, match=re.escape(message)):
        optimizer.update_step(gradients[0], theta[0], 0.1)
    assert all((ops.convert_to_numpy(v.value) == 0).all() for v in theta)


@BOTH
@PATHS
@pytest.mark.parametrize("shape", [(3, 2), (6,), (1, 3), (3,), ()])
def test_what_could_be_broadcast_or_reshaped_is_refused(make, beside, fused, shape):
    theta = variables([(2, 3)], beside)
    gradients = [ones(shape), *[ones((1,))] * beside]
    with pytest.raises(ValueError, match=re.escape(f"shape (2, 3), got {shape}")):
        make(0.1, fused=fused).apply(gradients, theta)
    assert not ops.convert_to_numpy(theta[0].value).any()


@PATHS
@on_tensorflow
def test_a_shape_known_only_in_the_graph_is_checked_there(beside, fused):
    import tensorflow as tf

    theta = variables([(2, 3)], beside)
    optimizer = Adam(0.1, fused=fused)
    optimizer.build(theta)

    @tf.function(input_signature=[tf.TensorSpec([None, None])])
    def step(gradient):
        optimizer.apply([gradient, *[ones((1,))] * beside], theta)

    step(ones((2, 3)))
    with pytest.raises(tf.errors.InvalidArgumentError, match="not compatible"):
        step(ones((3, 2)))
    np.testing.assert_allclose(theta[0].numpy(), np.full((2, 3), -0.1), rtol=1e-6)


@on_tensorflow
@pytest.mark.parametrize("sparse", ["dense", "lazy"])
def test_rows_of_the_wrong_width_are_refused(sparse):
    import tensorflow as tf

    rows = tf.IndexedSlices(ones((2, 1)), tf.constant([0, 4]), tf.constant([5, 3]))
    message = "the rows of the gradient of 'theta' must have its shape (3,), got (1,)"
    with pytest.raises(ValueError, match=re.escape(message)):
        Adam(0.1, sparse=sparse).apply([rows], variables([(5, 3)]))


@BOTH
def test_as_many_gradients_as_variables(make):
    theta = variables([(2,), (3,)])
    with pytest.raises(ValueError, match="as many gradients as variables, 2, got 1"):
        make(0.1).apply([ones((2,))], theta)


@PATHS
@pytest.mark.parametrize("of_keras", [False, True])
def test_a_variable_named_twice_moves_twice(beside, fused, of_keras):
    # Tied weights: two updates in each step, as in Keras. 0.2816 is what Keras' Adam gives.
    if of_keras and keras.backend.backend() == "torch":
        pytest.skip("Keras' update of all variables at once gives another number there")
    theta = [keras.Variable([1.0], dtype="float32") for _ in range(beside + 1)]
    named = [*theta, theta[0]]
    optimizer = keras.optimizers.Adam(0.1) if of_keras else Adam(0.1, fused=fused)
    for _ in range(3):
        optimizer.apply([ones((1,))] * len(named), named)
    np.testing.assert_allclose(ops.convert_to_numpy(theta[0].value), [0.2816], atol=5e-5)
    for other in theta[1:]:
        np.testing.assert_allclose(ops.convert_to_numpy(other.value), [0.7], rtol=1e-5)


@BOTH
@PATHS
def test_a_variable_given_twice_to_one_step_moves_twice(make, beside, fused):
    theta = variables([(2,)], beside)
    twin = keras.Variable(np.zeros(2), dtype="float32")
    optimizer, reference = make(0.1, fused=fused), make(0.1, fused=False)
    optimizer.build(theta)
    reference.build([twin])
    for g in (1.0, -2.0, 3.0):
        pairs = [(g * ones((2,)), theta[0]), (ones((2,)), theta[0])]
        optimizer.apply_gradients(pairs)
        reference.update_step(g * ones((2,)), twin, 0.1)
        reference.update_step(ones((2,)), twin, 0.1)
        reference._iterations.assign_add(1)
    found, wanted = (ops.convert_to_numpy(v.value) for v in (theta[0], twin))
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
    for other in theta[1:]:
        assert not ops.convert_to_numpy(other.value).any()


@BOTH
@pytest.mark.parametrize("dtype", ["complex64", "int32", "bool"])
@pytest.mark.parametrize("beside", [0, 8])
def test_only_real_floating_variables(make, dtype, beside):
    wrong = keras.Variable(np.ones(2), dtype=dtype, name="phase", trainable=False)
    theta = [*variables([(2,)], beside), wrong]
    message = f"variable 'phase' must have a real floating dtype, got {dtype}"
    for act in (
        lambda optimizer: optimizer.build(theta),
        lambda optimizer: optimizer.apply([ones(v.shape) for v in theta], theta),
    ):
        with pytest.raises(ValueError, match=message) as caught:
            act(make(0.1))
        assert "\n" not in str(caught.value)


@BOTH
def test_a_complex_gradient_is_refused(make):
    theta = variables([(2,)])
    with pytest.raises(ValueError, match="gradient of 'theta' must be real, got complex64"):
        make(0.1).apply([ops.cast(ones((2,)), "complex64")], theta)


@BOTH
@on_tensorflow
@pytest.mark.parametrize("shape", [[None], [None, 3], None])
def test_a_variable_without_a_known_shape(make, shape):
    import tensorflow as tf

    start = np.zeros((2, 3) if shape != [None] else (2,), "float32")
    wrong = tf.Variable(start, shape=tf.TensorShape(shape), name="growing")
    got = None if shape is None else tuple(shape)
    message = f"variable 'growing:0' must have a shape without None, got {got}"
    for act in (lambda o: o.build([wrong]), lambda o: o.apply([tf.ones_like(start)], [wrong])):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            act(make(0.1))


@BOTH
def test_mistyped_calls_are_refused_in_one_line(make):
    gradient, theta = ones((2,)), variables([(2,)])[0]
    tensor = type(gradient).__name__
    narrow = keras.Variable([1.0, 2.0], dtype="float8_e4m3fn", name="narrow")
    alone = r"must be a list, got one \w+: put it in \[\.\.\.\]$"
    swapped = f"^variables must be those of Keras or TensorFlow, got one {tensor}: gradients come"
    dtypes = "float16, bfloat16, float32, float64, got float8_e4m3fn: make it wider$"
    for error, said, call in (
        (TypeError, swapped, lambda o: o.apply_gradients([(theta, gradient)])),
        (TypeError, swapped, lambda o: o.build([gradient])),
        (TypeError, f"^grads {alone}", lambda o: o.apply(gradient, theta)),
        (TypeError, f"^grads {alone}", lambda o: o.apply(gradient, [theta])),
        (TypeError, f"^trainable_variables {alone}", lambda o: o.apply([gradient], theta)),
        (TypeError, f"^variables {alone}", lambda o: o.build(theta)),
        (ValueError, "as many gradients as variables, 0, got 1", lambda o: o.apply([gradient], [])),
        (ValueError, dtypes, lambda o: o.apply([gradient], [narrow])),
        (ValueError, dtypes, lambda o: o.build([narrow])),
    ):
        optimizer = make(0.1)
        with pytest.raises(error, match=said) as caught:
            call(optimizer)
        assert "\n" not in str(caught.value)
        optimizer.apply([gradient], [theta])  # it is still good for the right call
    built = make(0.1)
    built.build(v for v in [theta])
    with pytest.raises(ValueError, match="as many gradients as variables, 0, got 1"):
        built.apply([gradient], [])
    built.apply([gradient])


# --- what stands in optimizer.variables -----------------------------------------------------------


def model(optimizer, layers=5):
    keras.utils.set_random_seed(1)
    dense = [keras.layers.Dense(4, name=f"dense_{i}") for i in range(layers)]
    made = keras.Sequential([keras.Input((4,)), *dense], name="net")
    made.compile(optimizer, keras.losses.MeanSquaredError(), jit_compile=False)
    return made


X = np.random.default_rng(0).standard_normal((16, 4)).astype("float32")


def train(made, epochs=1):
    made.fit(X, X, batch_size=8, epochs=epochs, shuffle=False, verbose=0)


@BOTH
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5:UserWarning")
def test_hdf5_file_continues_bit_identically(make, tmp_path):
    trained = model(make(0.01))
    train(trained)
    trained.save(tmp_path / "m.h5")
    # Keras reads the state of no optimizer from such a file: it builds it for no variables.
    with h5py.File(tmp_path / "m.h5") as file:
        group = file["optimizer_weights"]
        state = [group[name][()] for name in group.attrs["weight_names"]]
    again = keras.models.load_model(tmp_path / "m.h5", compile=False)
    again.compile(make(0.01), "mse", jit_compile=False)
    again.optimizer.build(again.trainable_variables)
    again.optimizer.set_weights(state)
    for one in (trained, again):
        train(one)
    for a, b in zip(trained.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_state_tree_is_that_of_keras_and_goes_back(tmp_path):
    ours, theirs = model(Adam(0.01, name="adam")), model(keras.optimizers.Adam(0.01, name="adam"))
    for one in (ours, theirs):
        train(one)
    tree = ours.get_state_tree(value_format="numpy_array")
    wanted = theirs.get_state_tree(value_format="numpy_array")
    names = tree["optimizer_variables"]["adam"]
    assert set(names) == set(wanted["optimizer_variables"]["adam"])
    assert names["net_dense_0_kernel_momentum"].any()
    again = model(Adam(0.01, name="adam"))
    again.optimizer.build(again.trainable_variables)
    again.set_state_tree(tree)
    for one in (ours, again):
        train(one)
    for a, b in zip(ours.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_state_variables_do_what_keras_variables_do():
    ours, theirs = Adam(0.01, name="adam"), keras.optimizers.Adam(0.01, name="adam")
    theta = variables([(2, 3), ()], 8)
    for optimizer in (ours, theirs):
        optimizer.build(theta)
        optimizer.apply([ones(v.shape) for v in theta])
    for a, b in zip(ours.variables, theirs.variables, strict=True):
        assert isinstance(a, keras.Variable)
        assert (a.path, a.name, a.trainable) == (b.path, b.name, b.trainable)
        assert tuple(a.shape) == tuple(b.shape)
        assert a.ndim == b.ndim
    a, b = (
        next(v for v in o.variables if tuple(v.shape) == (2, 3) and "velocity" in v.path)
        for o in (ours, theirs)
    )
    assert a.path == "adam/theta_velocity"
    neighbours = [ops.convert_to_numpy(v.value).copy() for v in ours.variables if v is not a]
    for v in (a, b):
        v.assign(np.arange(6.0).reshape(2, 3))
        v.assign_add(ones((2, 3)))
        v.assign_sub(3 * ones((2, 3)))
    for act in (
        lambda v: v.value,
        lambda v: v + 1,
        lambda v: 2 * v,
        lambda v: v - v,
        lambda v: v / 2,
        lambda v: v**2,
        lambda v: -v,
        lambda v: abs(v),
        lambda v: v[1],
        lambda v: v > 0,
        lambda v: v @ ones((3, 1)),
        lambda v: ops.sum(v),
        lambda v: ops.cast(v, "float16"),
    ):
        np.testing.assert_array_equal(*(ops.convert_to_numpy(act(v)) for v in (a, b)))
    assert repr(a).startswith("<Variable path=adam/theta_velocity, shape=(2, 3), dtype=float32")
    with pytest.raises(ValueError, match="must match"):
        a.assign(np.zeros((3, 2)))
    others = (v for v in ours.variables if v is not a)
    for v, before in zip(others, neighbours, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(v.value), before)
