"""Gradients given as rows (tf.IndexedSlices)."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from adam_tf import Adam, AdaMax

ROWS = [[1, 3, 1], [0, 1], [3, 3, 3], [2]]


def slices(step, dtype="float64"):
    values = np.random.default_rng(step).standard_normal((len(ROWS[step]), 2))
    return tf.IndexedSlices(
        tf.constant(values, dtype), tf.constant(ROWS[step]), tf.constant([5, 2])
    )


def summed(step):
    dense = np.zeros((5, 2))
    np.add.at(dense, ROWS[step], slices(step).values.numpy())
    return dense


def trained(optimizer, gradients, compile_with=lambda step: step):
    variable = keras.Variable(np.ones((5, 2)), dtype="float64")
    optimizer.build([variable])
    step = compile_with(lambda gradient: optimizer.apply([gradient], [variable]))
    for gradient in gradients:
        step(gradient)
    return variable.numpy()


OPTIMIZERS = {
    "adam": lambda **kwargs: Adam(0.1, **kwargs),
    "adam, plain operations": lambda **kwargs: Adam(0.1, fused=False, **kwargs),
    "amsgrad": lambda **kwargs: Adam(0.1, amsgrad=True, **kwargs),
    "adamax": lambda **kwargs: AdaMax(0.1, **kwargs),
}
CLIPS = [{}, {"clipnorm": 0.5}, {"clipvalue": 0.1}, {"global_clipnorm": 0.5}]


@pytest.fixture(params=OPTIMIZERS.values(), ids=OPTIMIZERS)
def make(request):
    return request.param


@pytest.mark.parametrize("clip", CLIPS, ids=str)
def test_dense_meaning_by_default(make, clip):
    sparse = trained(make(**clip), [slices(i) for i in range(4)])
    dense = trained(make(**clip), [tf.constant(summed(i)) for i in range(4)])
    np.testing.assert_allclose(sparse, dense, rtol=1e-12)


@pytest.mark.parametrize("clip", CLIPS, ids=str)
def test_lazy_equals_dense_while_every_row_occurs(make, clip):
    everything = [tf.constant(summed(i) + 1.0) for i in range(4)]
    as_rows = [tf.IndexedSlices(g, tf.range(5), (5, 2)) for g in everything]
    lazy = trained(make(sparse="lazy", **clip), as_rows)
    np.testing.assert_allclose(lazy, trained(make(**clip), everything), rtol=1e-12)


@pytest.mark.parametrize("compile_with", [lambda step: step, tf.function])
@pytest.mark.parametrize("clip", CLIPS, ids=str)
def test_lazy_touches_only_the_rows_present(make, compile_with, clip):
    optimizer = make(sparse="lazy", **clip)
    variable = keras.Variable(np.ones((5, 2)), dtype="float64")
    optimizer.build([variable])
    step = compile_with(lambda gradient: optimizer.apply([gradient], [variable]))
    state = [variable, *optimizer.variables[2:]]
    for i in range(4):
        before = [v.numpy() for v in state]
        step(slices(i))
        for old, v in zip(before, state, strict=True):
            changed = set(np.flatnonzero((v.numpy() != old).any(axis=1)))
            assert changed <= set(ROWS[i])
        changed = set(np.flatnonzero((variable.numpy() != before[0]).any(axis=1)))
        assert changed == set(ROWS[i])


@pytest.mark.parametrize("clip", CLIPS, ids=str)
def test_clipped_rows_stay_rows(make, clip):
    gradients = [tf.ones((5, 2), "float64"), slices(0)]
    dense = make(**clip).clip([gradients[0], tf.constant(summed(0))])
    beside, rows = make(sparse="lazy", **clip).clip(gradients)
    assert isinstance(rows, tf.IndexedSlices)
    np.testing.assert_allclose(beside, dense[0], rtol=1e-12)
    np.testing.assert_allclose(tf.convert_to_tensor(rows), dense[1], rtol=1e-12)


def test_lazy_adds_duplicates_up():
    # One row named twice with gradients 1 and 2 has gradient 3: v = 0.001 * 9.
    optimizer = Adam(0.1, sparse="lazy")
    variable = keras.Variable(np.ones((2, 1)), dtype="float64")
    gradient = tf.IndexedSlices(tf.constant([[1.0], [2.0]], tf.float64), [1, 1], (2, 1))
    optimizer.apply([gradient], [variable])
    np.testing.assert_allclose(optimizer.diagnostics(variable).v, [[0.0], [0.009]])


def test_embedding_trains_under_fit():
    x = np.array([[0, 1], [2, 1], [0, 0], [3, 2]])
    y = np.array([0.0, 1.0, 0.0, 1.0])
    results = {}
    for sparse in ("dense", "lazy"):
        keras.utils.set_random_seed(0)
        layers = [keras.Input((2,)), keras.layers.Embedding(5, 3), keras.layers.Flatten()]
        model = keras.Sequential([*layers, keras.layers.Dense(1)])
        model.compile(Adam(0.05, sparse=sparse), "mse", jit_compile=False)
        start = model.layers[0].embeddings.numpy()
        losses = model.fit(x, y, batch_size=2, epochs=30, verbose=0).history["loss"]
        assert losses[-1] < losses[0] / 10
        results[sparse] = model.layers[0].embeddings.numpy()
        np.testing.assert_array_equal(results[sparse][4], start[4])  # never occurs
    assert not np.allclose(results["dense"], results["lazy"], atol=1e-4)


def test_two_replicas(two_replicas):
    def fit(optimizer):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((1,)), keras.layers.Embedding(5, 1)])
        model.compile(optimizer(), "mse", jit_compile=False)
        x = np.array([[0], [1], [0], [0], [3], [1], [0], [1]])
        model.fit(x, np.ones((8, 1, 1)), batch_size=4, epochs=2, shuffle=False, verbose=0)
        return model.get_weights()[0]

    for sparse in ("dense", "lazy"):
        alone = fit(lambda sparse=sparse: Adam(0.1, sparse=sparse))
        with two_replicas.scope():
            together = fit(lambda sparse=sparse: Adam(0.1, sparse=sparse))
        np.testing.assert_allclose(alone, together, rtol=1e-5, atol=1e-6)


def test_lazy_does_not_accumulate():
    with pytest.raises(ValueError, match=r"without gradient_accumulation_steps.* got 2"):
        Adam(sparse="lazy", gradient_accumulation_steps=2)


def test_lazy_goes_without_a_loss_scale_even_of_a_multi_optimizer():
    said = "sparse='lazy' must go without loss_scale_factor"
    with pytest.raises(ValueError, match=said):
        Adam(sparse="lazy", loss_scale_factor=4.0)
    table = keras.Variable(np.zeros((3, 2)))
    chosen = keras.optimizers.OptimizerMap(Adam(sparse="lazy"), {})
    optimizer = keras.optimizers.MultiOptimizer(chosen, loss_scale_factor=4.0)
    with pytest.raises(ValueError, match=said) as caught:
        optimizer.apply([tf.IndexedSlices(tf.ones((1, 2)), [1], [3, 2])], [table])
    assert "\n" not in str(caught.value)


def test_rows_that_are_not_named_decay_even_if_lazy():
    variable = keras.Variable(np.ones((3, 2)), dtype="float64")
    optimizer = Adam(0.1, sparse="lazy", weight_decay=0.5)
    optimizer.apply([tf.IndexedSlices(tf.ones((1, 2), "float64"), [1], [3, 2])], [variable])
    np.testing.assert_allclose(variable.numpy()[:, 0], [0.95, 0.85, 0.95], rtol=1e-6)


def test_cautious_counts_the_named_rows_only():
    variable = keras.Variable(np.zeros((5, 2)), dtype="float64")
    optimizer = Adam(0.1, sparse="lazy", cautious=True)
    optimizer.apply([tf.IndexedSlices(tf.ones((1, 2), "float64"), [1], [5, 2])], [variable])
    np.testing.assert_allclose(variable.numpy()[1], -0.1 * 2 / (1 + 2))  # 2 numbers, 2 agree
    np.testing.assert_array_equal(variable.numpy()[[0, 2, 3, 4]], 0.0)
