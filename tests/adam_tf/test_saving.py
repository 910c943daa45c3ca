"""Configurations, whole models and bare weights come back and continue bit-identically."""

import gc
import pathlib
import re
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import adam_tf
from adam_tf import Adam, AdaMax, InverseSqrtDecay

# Keras reads its variables through an __array__ without `copy` when it saves.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

OPTIMIZERS = {
    "adam": lambda: Adam(0.01),
    "adam, all options": lambda: Adam(
        InverseSqrtDecay(0.01, 3),
        beta_1=0.8,
        beta_2=0.99,
        epsilon=1e-6,
        epsilon_form="hat",
        bias_correction=False,
        amsgrad=True,
        beta_1_decay=0.99,
        weight_decay=0.1,
        clipnorm=1.0,
        use_ema=True,
        name="all_options",
    ),
    "adamax": lambda: AdaMax(0.01, beta_1=0.8, beta_2=0.99, global_clipnorm=2.0),
}


def data():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((32, 4)).astype("float32")
    return x, x @ np.ones((4, 1), "float32")


def compiled_model(optimizer):
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), keras.layers.Dense(1)])
    model.compile(optimizer, "mse")
    return model


@pytest.fixture(params=OPTIMIZERS.values(), ids=OPTIMIZERS)
def make(request):
    return request.param


def test_config_round_trip(make):
    optimizer = make()
    config = optimizer.get_config()
    copy = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert type(copy) is type(optimizer)
    assert copy.get_config() == config
    assert type(optimizer).from_config(optimizer.get_config()).get_config() == config


def test_saved_model_continues_bit_identically(make, tmp_path):
    x, y = data()
    model = compiled_model(make())
    model.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0)
    model.save(tmp_path / "model.keras")
    copy = keras.models.load_model(tmp_path / "model.keras")
    assert copy.optimizer.get_config() == model.optimizer.get_config()
    for trained in (model, copy):
        trained.fit(x, y, batch_size=8, epochs=1, shuffle=False, verbose=0)
    assert int(copy.optimizer.iterations) == 12
    for a, b in zip(model.get_weights(), copy.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(model.optimizer.variables, copy.optimizer.variables, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


LOADING = """
import sys, keras
try:
    keras.models.load_model(sys.argv[1])
except TypeError as error:
    assert "Could not locate class 'Adam'" in str(error), error
else:
    raise AssertionError("loaded")
assert not keras.models.load_model(sys.argv[1], compile=False).compiled
import adam_tf
assert type(keras.models.load_model(sys.argv[1]).optimizer) is adam_tf.Adam
"""


def test_a_new_process_has_to_import_the_optimizer_or_leave_it_out(tmp_path):
    compiled_model(Adam()).save(tmp_path / "model.keras")
    line = [sys.executable, "-c", LOADING, str(tmp_path / "model.keras")]
    done = subprocess.run(line, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def test_saved_weights_continue_bit_identically(make, tmp_path):
    x, y = data()
    model, copy = compiled_model(make()), compiled_model(make())
    model.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0)
    model.save_weights(tmp_path / "model.weights.h5")
    copy.optimizer.build(copy.trainable_variables)
    copy.load_weights(tmp_path / "model.weights.h5")
    for trained in (model, copy):
        trained.fit(x, y, batch_size=8, epochs=1, shuffle=False, verbose=0)
    for a, b in zip(model.get_weights(), copy.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_resumes_from_the_state_of_keras_adam(tmp_path):
    x, y = data()
    model = compiled_model(keras.optimizers.Adam(0.01))
    model.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0)
    model.save_weights(tmp_path / "model.weights.h5")
    copy = compiled_model(Adam(0.01, epsilon=1e-7, epsilon_form="hat"))
    copy.optimizer.build(copy.trainable_variables)
    copy.load_weights(tmp_path / "model.weights.h5")
    for trained in (model, copy):
        trained.fit(x, y, batch_size=8, epochs=3, shuffle=False, verbose=0)
    for a, b in zip(model.get_weights(), copy.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("make", [Adam, AdaMax])
@pytest.mark.parametrize("rate", [0.1, InverseSqrtDecay(0.1)], ids=["number", "schedule"])
def test_tensorflow_checkpoint(make, rate, tmp_path):
    variable, optimizers = keras.Variable([1.0, 2.0]), [make(rate), make(rate)]
    for optimizer in optimizers:
        optimizer.build([variable])
    optimizers[0].apply([tf.constant([3.0, 4.0])], [variable])
    path = tf.train.Checkpoint(optimizer=optimizers[0]).save(str(tmp_path / "state"))
    tf.train.Checkpoint(optimizer=optimizers[1]).restore(path).assert_existing_objects_matched()
    for a, b in zip(optimizers[0].variables, optimizers[1].variables, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_the_learning_rate_is_float64_and_is_cast_as_the_page_says():
    page = pathlib.Path(adam_tf.__file__).with_name("README.md").read_text(encoding="utf-8")
    line = re.search(r"`(w\.assign_sub\(.*?)`", page)[1]
    optimizer, w, g = Adam(0.5), tf.Variable([1.0, 2.0]), tf.constant([1.0, 1.0])
    with pytest.raises((TypeError, ValueError, tf.errors.InvalidArgumentError)):
        w.assign_sub(optimizer.learning_rate * g)
    exec(line, {"tf": tf, "w": w, "g": g, "optimizer": optimizer})
    np.testing.assert_array_equal(w.numpy(), [0.5, 1.5])


def test_checkpoints_do_not_pass_between_keras_adam_and_this_one(tmp_path):
    variable, keras_adam, ours = keras.Variable([1.0]), keras.optimizers.Adam(0.1), Adam(0.1)
    for optimizer in (keras_adam, ours):
        optimizer.build([variable])
    for one, other in ((keras_adam, ours), (ours, keras_adam)):
        path = tf.train.Checkpoint(optimizer=one).save(str(tmp_path / "state"))
        with pytest.raises(tf.errors.InvalidArgumentError, match="expected dtype"):
            tf.train.Checkpoint(optimizer=other).restore(path)
        gc.collect()  # TensorFlow warns when it drops the checkpoint, which no test captures later
