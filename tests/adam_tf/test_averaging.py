"""Section 7.2: averages of the iterates, beside training and without touching it."""

import keras
import numpy as np
import pytest

from adam_tf import Adam, WeightAveraging

X = np.random.default_rng(0).standard_normal((24, 3)).astype("float32")
Y = X.sum(axis=1, keepdims=True)

# Keras reads its variables through an __array__ without `copy` when it saves.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


class Trace(keras.callbacks.Callback):
    """The weights after each step."""

    def __init__(self):
        super().__init__()
        self.points = []

    def on_train_batch_end(self, batch, logs=None):
        self.points.append([w.copy() for w in self.model.get_weights()])


def make_model(**kwargs):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2), keras.layers.Dense(1)])
    model.compile(kwargs.pop("optimizer", None) or Adam(0.05), "mse", **kwargs)
    return model


def fit(model, *callbacks, epochs=2, **kwargs):
    arguments = {"batch_size": 4, "epochs": epochs, "shuffle": False, "verbose": 0} | kwargs
    return model.fit(X, Y, callbacks=list(callbacks), **arguments).history


def expected(points, decay):
    """The formulas of Section 7.2 as they stand there."""
    result = []
    for weights in zip(*points, strict=True):
        weights = np.array(weights, "float64")
        if decay is None:
            result.append(weights.mean(axis=0))
            continue
        average = 0.0
        for theta in weights:
            average = decay * average + (1 - decay) * theta
        result.append(average / (1 - decay ** len(weights)))
    return result


@pytest.mark.parametrize("decay", [None, 0.0, 0.5, 0.999])
def test_average(decay):
    model, trace, averaging = make_model(), Trace(), WeightAveraging(decay)
    fit(model, trace, averaging)
    fit(model, trace, averaging)  # goes on
    assert averaging.steps == len(trace.points) == 24
    raw = model.get_weights()
    with averaging.applied():
        for found, wanted in zip(model.get_weights(), expected(trace.points, decay), strict=True):
            np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
    for a, b in zip(model.get_weights(), raw, strict=True):
        np.testing.assert_array_equal(a, b)


def test_training_is_not_affected():
    plain, averaged = make_model(), make_model()
    fit(plain)
    fit(averaged, WeightAveraging(validate=True), validation_data=(X, Y))
    for a, b in zip(plain.get_weights(), averaged.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_validation_with_the_average():
    model, averaging = make_model(), WeightAveraging(None, validate=True)
    history = fit(model, averaging, validation_data=(X, Y), epochs=3)
    raw = model.evaluate(X, Y, verbose=0)
    with averaging.applied():
        averaged = model.evaluate(X, Y, verbose=0)
    np.testing.assert_allclose(history["val_loss"][-1], averaged, rtol=1e-6)
    assert abs(raw - averaged) > 1e-3


def test_the_best_epoch_is_kept_with_its_own_weights(tmp_path):
    """It is chosen by the average, which is out of the model again when the epoch ends."""
    model, trace, averaging = make_model(), Trace(), WeightAveraging(None, validate=True)
    best = {"monitor": "val_loss", "mode": "max"}  # the first epoch's
    path = tmp_path / "best.keras"
    stop = keras.callbacks.EarlyStopping(restore_best_weights=True, patience=1, **best)
    keep = keras.callbacks.ModelCheckpoint(path, save_best_only=True, **best)
    fit(model, trace, averaging, stop, keep, validation_data=(X, Y), epochs=4)
    kept = keras.models.load_model(path)
    for found in (model, kept):
        for a, b in zip(found.get_weights(), trace.points[5], strict=True):
            np.testing.assert_array_equal(a, b)


def test_another_optimizer_and_steps_that_do_not_step():
    model = make_model(optimizer=keras.optimizers.SGD(0.01, gradient_accumulation_steps=3))
    trace, averaging = Trace(), WeightAveraging(None)
    fit(model, trace, averaging)
    assert averaging.steps == 4
    with averaging.applied():
        for found, wanted in zip(
            model.get_weights(), expected(trace.points[2::3], None), strict=True
        ):
            np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("held", [{"a": 1}, {}, {"steps": 1, "decay": 0.9, "average_1": 1}])
def test_a_file_of_something_else_is_refused(held, tmp_path):
    path = tmp_path / "other.npz"
    np.savez(path, **held)
    with pytest.raises(ValueError, match=r"must be a file of WeightAveraging\.save") as caught:
        WeightAveraging(0.9).load(path, make_model())
    assert (", ".join(held) or "nothing") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_saved_with_the_model_and_taken_up_again(tmp_path):
    whole, averaging = make_model(), WeightAveraging(0.9)
    fit(whole, averaging, epochs=4)

    first, half = make_model(), WeightAveraging(0.9)
    fit(first, half, epochs=2)
    first.save(tmp_path / "model.keras")
    half.save(tmp_path / "average.npz")
    second, resumed = keras.models.load_model(tmp_path / "model.keras"), WeightAveraging(0.9)
    resumed.load(tmp_path / "average.npz", second)
    fit(second, resumed, epochs=2)

    with averaging.applied(), resumed.applied():
        for a, b in zip(whole.get_weights(), second.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)
        second.save(tmp_path / "averaged.keras")
    averaged = keras.models.load_model(tmp_path / "averaged.keras")
    with resumed.applied():
        np.testing.assert_array_equal(averaged.get_weights()[0], second.get_weights()[0])


def test_refused(tmp_path):
    for decay in (-0.1, 1.0, float("nan")):
        with pytest.raises(ValueError, match=r"decay must be a finite number in \[0, 1\)"):
            WeightAveraging(decay)
    with pytest.raises(TypeError, match="decay must be"):
        WeightAveraging("mean")
    with pytest.raises(ValueError, match="must be 1, got 3"):
        fit(make_model(steps_per_execution=3), WeightAveraging())
    model, averaging = make_model(), WeightAveraging(0.9)
    averaging.set_model(model)
    with pytest.raises(ValueError, match="no average yet"), averaging.applied():
        pass
    fit(model, averaging)
    with averaging.applied(), pytest.raises(ValueError, match="applied already"):
        averaging.applied().__enter__()
    averaging.save(tmp_path / "average.npz")
    with pytest.raises(ValueError, match=r"0\.9, got 0\.5"):
        WeightAveraging(0.5).load(tmp_path / "average.npz", model)
    small = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    with pytest.raises(ValueError, match="averages of shapes"):
        WeightAveraging(0.9).load(tmp_path / "average.npz", small)


@pytest.mark.parametrize("first", ["validate", "applied"])
def test_evaluated_averages_go_on(first):
    """JAX deletes the buffers that it evaluated with: the average must not be among them."""
    model, trace, averaging = make_model(), Trace(), WeightAveraging(None, validate=True)
    if first == "validate":
        fit(model, trace, averaging, validation_data=(X, Y), epochs=2)
    else:
        fit(model, trace, averaging, epochs=1)
        with averaging.applied():
            model.predict(X, verbose=0)
            model.evaluate(X, Y, verbose=0)
        fit(model, trace, averaging, epochs=1)
    assert averaging.steps == len(trace.points) == 12
    with averaging.applied():
        for found, wanted in zip(model.get_weights(), expected(trace.points, None), strict=True):
            np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("thaw", [False, True])
def test_layers_frozen_or_unfrozen_between_two_fits_are_refused(thaw):
    model, averaging = make_model(), WeightAveraging(None)
    model.layers[0].trainable = not thaw
    model.compile(Adam(0.05), "mse")
    fit(model, averaging)
    model.layers[0].trainable = thaw
    model.compile(Adam(0.05), "mse")
    before, average = model.get_weights(), [a.numpy() for a in averaging._averages]
    with pytest.raises(ValueError, match=r"the average is of \d variables and the model trains \d"):
        fit(model, averaging)
    with pytest.raises(ValueError, match="keep the same layers"), averaging.applied():
        pass
    for a, b in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(averaging._averages, average, strict=True):
        np.testing.assert_array_equal(a.numpy(), b)
    model.layers[0].trainable = not thaw
    model.compile(Adam(0.05), "mse")
    fit(model, averaging)  # as it was: it goes on
    assert averaging.steps == 24


def test_an_average_is_not_taken_over_to_another_model():
    averaging = WeightAveraging(None)
    fit(make_model(), averaging)
    with pytest.raises(ValueError, match="start a new WeightAveraging"):
        fit(make_model(), averaging)


@pytest.mark.parametrize("decay", [None, 0.5])
def test_a_model_that_is_built_by_its_first_batch(decay):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.layers.Dense(2), keras.layers.Dense(1)])
    model.compile(Adam(0.05), "mse")
    trace, averaging = Trace(), WeightAveraging(decay)
    fit(model, trace, averaging, epochs=1)
    fit(model, trace, averaging, epochs=1)
    assert averaging.steps == len(trace.points) == 12
    with averaging.applied():
        for found, wanted in zip(model.get_weights(), expected(trace.points, decay), strict=True):
            np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def test_a_multi_optimizer_steps_when_a_group_does():
    if not hasattr(keras.optimizers, "MultiOptimizer"):
        pytest.skip("this Keras has no MultiOptimizer")
    mapping = keras.optimizers.OptimizerMap(
        Adam(0.05, gradient_accumulation_steps=3),
        {".*bias": Adam(0.01, gradient_accumulation_steps=3)},
    )
    model = make_model(optimizer=keras.optimizers.MultiOptimizer(mapping))
    trace, averaging = Trace(), WeightAveraging(None)
    fit(model, trace, averaging)
    assert averaging.steps == 4  # 12 batches
    with averaging.applied():
        for found, wanted in zip(
            model.get_weights(), expected(trace.points[2::3], None), strict=True
        ):
            np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


class Interrupt(keras.callbacks.Callback):
    """Ctrl+C in the first batch of a validation."""

    def on_test_batch_end(self, batch, logs=None):
        raise KeyboardInterrupt


def interrupted():
    """A model whose validation was interrupted, its average and its own weights."""
    model, trace, averaging = make_model(), Trace(), WeightAveraging(None, validate=True)
    with pytest.raises(KeyboardInterrupt):
        fit(model, trace, averaging, Interrupt(), epochs=1, validation_data=(X, Y))
    return model, averaging, trace.points


def test_an_interrupted_validation_is_undone_by_the_next_fit():
    model, averaging, points = interrupted()
    trace, twin = Trace(), make_model()
    fit(model, trace, averaging, epochs=1)
    fit(twin, epochs=2)
    for a, b in zip(model.get_weights(), twin.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    with averaging.applied():
        for found, wanted in zip(
            model.get_weights(), expected(points + trace.points, None), strict=True
        ):
            np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("then", ["applied", "evaluate"])
def test_an_interrupted_validation_is_undone_by_what_applies_the_average(then):
    model, averaging, points = interrupted()
    if then == "applied":
        with averaging.applied():
            average = model.get_weights()
        for found, wanted in zip(average, expected(points, None), strict=True):
            np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
    else:
        model.evaluate(X, Y, verbose=0, callbacks=[averaging])
    for a, b in zip(model.get_weights(), points[-1], strict=True):
        np.testing.assert_array_equal(a, b)


def test_weights_that_were_set_after_an_interrupted_validation_stay():
    model, averaging, points = interrupted()
    given = [w + 1 for w in points[0]]
    model.set_weights(given)
    with averaging.applied():
        pass
    for a, b in zip(model.get_weights(), given, strict=True):
        np.testing.assert_array_equal(a, b)


def test_fit_and_evaluate_inside_applied():
    model, averaging = make_model(), WeightAveraging(None, validate=True)
    fit(model, averaging)
    raw = model.get_weights()
    with averaging.applied():
        average = model.get_weights()
        model.evaluate(X, Y, verbose=0, callbacks=[averaging])
        for a, b in zip(model.get_weights(), average, strict=True):
            np.testing.assert_array_equal(a, b)
        with pytest.raises(ValueError, match=r"leave `with averaging\.applied\(\)` before fit"):
            fit(model, averaging)
    for a, b in zip(model.get_weights(), raw, strict=True):
        np.testing.assert_array_equal(a, b)


def test_file_names_and_messages_of_a_file(tmp_path):
    model, averaging = make_model(), WeightAveraging(None)
    fit(model, averaging)
    averaging.save(tmp_path / "avg")  # NumPy writes avg.npz
    again = WeightAveraging(None)
    for path in (tmp_path / "avg", str(tmp_path / "avg"), tmp_path / "avg.npz"):
        again.load(path, model)
        assert again.steps == 12
    with pytest.raises(ValueError, match=r"decay must be that of .*avg\.npz, None, got 0\.5"):
        WeightAveraging(0.5).load(tmp_path / "avg", model)


def test_replicas_have_the_averages_of_one_device(two_replicas):
    alone, averaging = make_model(), WeightAveraging(0.9)
    with two_replicas.scope():
        model, mirrored = make_model(), WeightAveraging(0.9)
    model.set_weights(alone.get_weights())
    fit(alone, averaging)
    fit(model, mirrored)
    assert mirrored.steps == averaging.steps > 0
    assert model.optimizer.diagnostics(model.trainable_variables[0])
    with averaging.applied(), mirrored.applied():
        for found, wanted in zip(model.get_weights(), alone.get_weights(), strict=True):
            np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
