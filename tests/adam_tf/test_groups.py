"""Parameter groups: Keras' MultiOptimizer with an Adam for each group of variables."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from adam_tf import Adam, InverseSqrtDecay

pytestmark = [
    pytest.mark.skipif(
        not hasattr(keras.optimizers, "MultiOptimizer"), reason="this Keras has no MultiOptimizer"
    ),
    # Keras reads its variables through an __array__ without `copy` when it saves.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]
X = np.random.default_rng(0).standard_normal((32, 4)).astype("float32")
Y = X @ np.ones((4, 2), "float32")


def rates():
    """What the recipe in docs/optimizers.md has: a group's Adam by the group's name."""
    return {
        "backbone": Adam(1e-3, beta_1=0.8, weight_decay=0.1),
        "biases": Adam(InverseSqrtDecay(0.01)),
        "head": Adam(InverseSqrtDecay(0.01), weight_decay=0.1),
    }


def group_of(path):
    if path.endswith("/bias"):
        return "biases"
    return "backbone" if "/backbone" in path else "head"


def grouped():
    groups = rates()
    # No slash in front: a model that is loaded leaves its own name out of the paths.
    by_path = {r".*bias": groups["biases"], r".*backbone_\d+/kernel": groups["backbone"]}
    mapping = keras.optimizers.OptimizerMap(groups["head"], by_path)
    return keras.optimizers.MultiOptimizer(mapping)


def network(optimizer):
    keras.utils.set_random_seed(3)
    backbone = [keras.layers.Dense(4, "tanh", name=f"backbone_{i}") for i in range(9)]
    layers = [keras.Input((4,)), *backbone, keras.layers.Dense(2, name="head")]
    model = keras.Sequential(layers, name="net")
    model.compile(optimizer, keras.losses.MeanSquaredError(), jit_compile=False)
    return model


def fit(model, epochs=2):
    model.fit(X, Y, batch_size=8, epochs=epochs, shuffle=False, verbose=0)


def test_each_group_moves_by_its_own_optimizer():
    model, twin = network(grouped()), network(None)
    fit(model)
    joined = [o._slots[0].joined for o in model.optimizer.optimizers]
    assert [bool(group) for group in joined] == [True, True, False]  # 10 biases, 9 kernels, 1
    groups = rates()
    members = {name: [] for name in groups}
    for i, variable in enumerate(twin.trainable_variables):
        members[group_of(variable.path)].append(i)
    assert {name: len(found) for name, found in members.items()} == {
        "backbone": 9,
        "biases": 10,
        "head": 1,
    }

    @tf.function
    def step(x, y):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(twin(x, training=True) - y))
        gradients = tape.gradient(loss, [v.value for v in twin.trainable_variables])
        for name, optimizer in groups.items():
            pairs = [(gradients[i], twin.trainable_variables[i]) for i in members[name]]
            optimizer.apply_gradients(pairs)

    for _ in range(2):
        for start in range(0, 32, 8):
            step(X[start : start + 8], Y[start : start + 8])
    for a, b in zip(model.get_weights(), twin.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


def test_groups_are_saved_and_continue_bit_identically(tmp_path):
    model = network(grouped())
    fit(model)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    for one in (model, again):
        fit(one, 1)
    for a, b in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    rates = [optimizer.learning_rate for optimizer in again.optimizer.optimizers]
    steps = 12  # the schedules go on, too
    assert sorted(map(float, rates)) == pytest.approx([1e-3, *[0.01 / (steps + 1) ** 0.5] * 2])


def test_the_rate_of_one_group_is_set_alone():
    model = network(grouped())
    fit(model, 1)
    before = model.get_weights()
    backbone = next(o for o in model.optimizer.optimizers if o.beta_1 == 0.8)
    backbone.learning_rate = 0.0
    fit(model, 1)
    for variable, a, b in zip(model.trainable_variables, before, model.get_weights(), strict=True):
        assert (a == b).all() == (group_of(variable.path) == "backbone")


def test_callbacks_set_the_rate_of_every_group_but_not_of_a_schedule():
    def made(biases):
        mapping = keras.optimizers.OptimizerMap(Adam(0.1), {".*bias": biases})
        return network(keras.optimizers.MultiOptimizer(mapping))

    def fitted(model):
        halve = keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate / 2)
        model.fit(X, Y, epochs=2, verbose=0, callbacks=[halve])
        return [float(one.learning_rate) for one in model.optimizer.optimizers]

    np.testing.assert_allclose(fitted(made(Adam(0.01))), [0.0025, 0.025], rtol=1e-6)
    with pytest.raises(TypeError, match="not settable"):
        fitted(made(Adam(InverseSqrtDecay(0.01))))
