"""Exclusions from weight decay: by the whole path, and kept by copies, files and configurations."""

import copy
import json
import pickle

import keras
import numpy as np
import pytest
import tensorflow as tf

from adam_tf import Adam, AdaMax

# Keras reads its variables through an __array__ without `copy` when it saves.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
BOTH = pytest.mark.parametrize("make", [Adam, AdaMax])


def network(optimizer, dtype="float32"):
    dense = {"kernel_initializer": "ones", "bias_initializer": "ones", "dtype": dtype}
    layers = [keras.layers.Dense(2, name=name, **dense) for name in ("norm", "head")]
    model = keras.Sequential([keras.Input((2,)), *layers], name="net")
    model.compile(optimizer, "mse", jit_compile=False)
    return model


def decayed(model):
    """Which variables a step with gradients of 0 moves, by layer and name."""
    variables = model.trainable_variables
    before = [np.float64(tf.cast(v.value, "float32")) for v in variables]
    for _ in range(3):
        model.optimizer.apply([tf.zeros(v.shape, v.dtype) for v in variables], variables)
    return {
        "/".join(v.path.split("/")[-2:])
        for v, b in zip(variables, before, strict=True)
        if (b != np.float64(tf.cast(v.value, "float32"))).all()
    }


ALL = {"norm/kernel", "norm/bias", "head/kernel", "head/bias"}
COPIES = {
    "itself": lambda model, path: model,
    "pickle": lambda model, path: pickle.loads(pickle.dumps(model)),
    "deepcopy": lambda model, path: copy.deepcopy(model),
    "file": lambda model, path: (model.save(path), keras.models.load_model(path))[1],
    "file of a file": lambda model, path: COPIES["file"](COPIES["file"](model, path), path),
    "configuration": lambda model, path: network(
        type(model.optimizer).from_config(json.loads(json.dumps(model.optimizer.get_config())))
    ),
}


@BOTH
@pytest.mark.parametrize("way", COPIES)
@pytest.mark.parametrize("fused", [False, None])
def test_exclusions_are_kept(make, way, fused, tmp_path):
    for by in ("names", "list"):
        optimizer = make(0.1, weight_decay=0.5, fused=fused)
        model = network(optimizer)
        if by == "names":  # of the layer, then of the variable
            optimizer.exclude_from_weight_decay(var_names=["norm", "^b.*s$|bias$"])
        else:
            first = model.layers[0].trainable_variables
            optimizer.exclude_from_weight_decay(var_list=[*first, model.layers[1].bias])
        if way != "configuration":
            optimizer.build(model.trainable_variables)
        assert decayed(COPIES[way](model, tmp_path / "m.keras")) == {"head/kernel"}


def test_a_list_means_these_variables_and_not_others_of_the_same_path():
    one, other = (keras.Variable([1.0], name="kernel") for _ in range(2))
    optimizer = Adam(0.1, weight_decay=0.5)
    optimizer.exclude_from_weight_decay([one])
    optimizer.apply([tf.zeros(1), tf.zeros(1)], [one, other])
    np.testing.assert_allclose([one.numpy()[0], other.numpy()[0]], [1.0, 0.95], rtol=1e-6)


@BOTH
def test_a_pattern_or_path_without_a_match_is_warned_of(make):
    model = network(make(0.1, weight_decay=0.5))
    model.optimizer.exclude_from_weight_decay(var_names=["bais", "norm", "bais"])
    with pytest.warns(UserWarning, match="'bais' of var_names matches none") as caught:
        assert decayed(model) == {"head/kernel", "head/bias"}
    assert len(caught) == 1
    optimizer = make(0.1, weight_decay=0.5)
    optimizer.exclude_from_weight_decay([*model.trainable_variables, keras.Variable([1.0])])
    copy = make.from_config(optimizer.get_config())
    with pytest.warns(UserWarning, match="'variable.*' of var_list matches none") as caught:
        assert decayed(network(copy)) == set()
    assert len(caught) == 1


def test_native_variables_are_known_by_their_names():
    one, other = tf.Variable([1.0], name="bias"), tf.Variable([1.0], name="kernel")
    optimizer = Adam(0.1, weight_decay=0.5)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    optimizer.apply([tf.zeros(1), tf.zeros(1)], [one, other])
    np.testing.assert_allclose([one.numpy()[0], other.numpy()[0]], [1.0, 0.95], rtol=1e-6)


def test_on_two_replicas_and_in_bfloat16(two_replicas):
    with two_replicas.scope():
        variables = [keras.Variable(np.ones(2), name=name) for name in ("norm_w", "head_w")]
        optimizer = Adam(0.1, weight_decay=0.5)
        optimizer.exclude_from_weight_decay(var_names=["norm"])
        optimizer.build(variables)
    two_replicas.run(lambda: optimizer.apply([tf.zeros(2)] * 2, variables))
    np.testing.assert_allclose(variables[0].numpy(), 1.0)
    np.testing.assert_allclose(variables[1].numpy(), 0.95, rtol=1e-6)
    optimizer = Adam(0.1, weight_decay=0.5)
    optimizer.exclude_from_weight_decay(var_names=["norm/"])
    assert decayed(network(optimizer, "bfloat16")) == {"head/kernel", "head/bias"}


@BOTH
def test_without_exclusions_nothing_is_in_the_configuration(make):
    optimizer = make(0.1, weight_decay=0.5)
    assert "exclude_from_weight_decay" not in optimizer.get_config()
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    optimizer.exclude_from_weight_decay()  # replaces the first
    assert "exclude_from_weight_decay" not in optimizer.get_config()
    assert decayed(network(optimizer)) == ALL


@pytest.mark.parametrize(
    ("error", "said", "arguments"),
    [
        (TypeError, r"var_names must be a list of strings, got 'bias'", {"var_names": "bias"}),
        (TypeError, r"var_names must be a list of strings, got \[1\]", {"var_names": [1]}),
        (TypeError, r"var_list must be a list of variables, got 'bias'", {"var_list": "bias"}),
        (
            TypeError,
            r"var_list must be a list of variables, got \['bias'\]",
            {"var_list": ["bias"]},
        ),
        (ValueError, r"var_names must be regular expressions, got '\('", {"var_names": ["("]}),
    ],
)
def test_refused(error, said, arguments):
    with pytest.raises(error, match=said) as caught:
        Adam(weight_decay=0.1).exclude_from_weight_decay(**arguments)
    assert "\n" not in str(caught.value)


def test_a_variable_instead_of_a_list_is_refused():
    with pytest.raises(TypeError, match="var_list must be a list of variables"):
        Adam(weight_decay=0.1).exclude_from_weight_decay(keras.Variable([1.0]))


@BOTH
def test_after_the_build_it_is_refused(make):
    optimizer = make(weight_decay=0.1)
    optimizer.build([keras.Variable([1.0])])
    with pytest.raises(ValueError, match="must be called before the optimizer is built"):
        optimizer.exclude_from_weight_decay(var_names=["bias"])


def test_an_iterator_is_as_good_as_a_list():
    optimizer = Adam(0.1, weight_decay=0.5)
    optimizer.exclude_from_weight_decay(var_names=(name for name in ["bias"]))
    assert decayed(network(optimizer)) == {"norm/kernel", "head/kernel"}
    optimizer = Adam(0.1, weight_decay=0.5)
    model = network(optimizer)
    optimizer.exclude_from_weight_decay(var_list=iter(model.trainable_variables[:3]))
    assert decayed(model) == {"head/bias"}
