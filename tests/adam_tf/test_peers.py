"""Other implementations, each in the form of epsilon it documents."""

import os
import subprocess
import sys
import textwrap
from importlib.util import find_spec

import keras
import numpy as np
import pytest
from trajectories import START, iterates

from adam_tf import Adam, AdaMax

# Scales at which each epsilon matters.
GRADIENTS = np.random.default_rng(0).standard_normal((40, 10)) * 10.0 ** np.arange(-9, 1)


# Keras takes hyperparameters through float32 even in float64: these survive that.
EXACT = {"beta_1": 0.875, "beta_2": 1 - 2.0**-10, "epsilon": 2.0**-23}


@pytest.mark.parametrize("amsgrad", [False, True])
def test_keras(amsgrad):
    theirs = iterates(keras.optimizers.Adam(0.125, amsgrad=amsgrad, **EXACT), GRADIENTS)
    hat = Adam(0.125, amsgrad=amsgrad, epsilon_form="hat", **EXACT)
    np.testing.assert_allclose(iterates(hat, GRADIENTS), theirs, rtol=1e-11, atol=1e-13)
    # Algorithm 1 is another trajectory where gradients are small.
    other = iterates(Adam(0.125, amsgrad=amsgrad, **EXACT), GRADIENTS)
    assert np.abs(other[0] - theirs[0]).max() > 0.01


def test_keras_adamax():
    # Keras adds epsilon to u.
    betas = {name: EXACT[name] for name in ("beta_1", "beta_2")}
    theirs = iterates(keras.optimizers.Adamax(0.125, epsilon=1e-30, **betas), GRADIENTS)
    ours = iterates(AdaMax(0.125, **betas), GRADIENTS)
    np.testing.assert_allclose(ours, theirs, rtol=1e-11, atol=1e-13)


def torch_iterates(torch, make):
    variable = torch.tensor(START, dtype=torch.float64, requires_grad=True)
    optimizer = make([variable])
    places = []
    for gradient in GRADIENTS:
        variable.grad = torch.tensor(gradient)
        optimizer.step()
        places.append(variable.detach().numpy().copy())
    return np.array(places)


@pytest.mark.parametrize("amsgrad", [False, True])
def test_torch(amsgrad):
    torch = pytest.importorskip("torch")
    theirs = torch_iterates(torch, lambda p: torch.optim.Adam(p, lr=0.1, amsgrad=amsgrad))
    ours = iterates(Adam(0.1, amsgrad=amsgrad), GRADIENTS)
    np.testing.assert_allclose(ours, theirs, rtol=1e-11, atol=1e-14)


def test_torch_adamax():
    torch = pytest.importorskip("torch")
    theirs = torch_iterates(torch, lambda p: torch.optim.Adamax(p, lr=0.1, eps=1e-30))
    np.testing.assert_allclose(iterates(AdaMax(0.1), GRADIENTS), theirs, rtol=1e-11, atol=1e-14)


def optax_iterates(transformation):
    import jax
    import optax

    with jax.enable_x64(True):
        theta = jax.numpy.asarray(START)
        state, places = transformation.init(theta), []
        for gradient in GRADIENTS:
            updates, state = transformation.update(jax.numpy.asarray(gradient), state, theta)
            theta = optax.apply_updates(theta, updates)
            places.append(np.asarray(theta))
    return np.array(places)


def test_optax():
    optax = pytest.importorskip("optax")
    theirs = optax_iterates(optax.adam(0.1))
    # optax computes its bias correction in float32 at best.
    np.testing.assert_allclose(iterates(Adam(0.1), GRADIENTS), theirs, rtol=1e-4, atol=1e-6)


def test_optax_adamax():
    optax = pytest.importorskip("optax")
    theirs = optax_iterates(optax.adamax(0.1, eps=1e-30))
    np.testing.assert_allclose(iterates(AdaMax(0.1), GRADIENTS), theirs, rtol=1e-4, atol=1e-6)


ON_ANOTHER_BACKEND = textwrap.dedent(
    """
    import warnings
    import keras, numpy as np, oracle
    from adam_tf import Adam, AdaMax, InverseSqrtDecay

    assert keras.backend.backend() == {backend!r}
    start, gradients = np.linspace(-1, 1, 10), oracle.mixed_gradients()
    cases = [
        (Adam, oracle.adam, {{}}), (AdaMax, oracle.adamax, {{}}),
        (Adam, oracle.adam, {{"amsgrad": True, "beta_2": 0.9}}),
        (Adam, oracle.adam, {{"epsilon_form": "hat"}}),
        (Adam, oracle.adam, {{"bias_correction": False}}),
        (Adam, oracle.adam, {{"beta_1_decay": 0.9}}),
    ]
    for make, reference, settings in cases:
        # With float32 as its float type Keras computes in 32 bits there, whatever the dtype.
        for dtype, rtol in (("float32", 2e-5), ("bfloat16", 0.02)):
            variable = keras.Variable(start, dtype=dtype)
            optimizer = make(InverseSqrtDecay(0.1), **settings)
            for gradient in gradients:
                optimizer.apply([keras.ops.convert_to_tensor(gradient, dtype)], [variable])
            found = keras.ops.convert_to_numpy(variable.value)
            expected = reference(start, gradients, lambda t: 0.1 / np.sqrt(t), **settings)[-1]
            np.testing.assert_allclose(found, expected, rtol=rtol, atol=rtol)
    keras.utils.set_random_seed(0)
    x = np.random.default_rng(0).standard_normal((64, 4)).astype("float32")
    for optimizer in (Adam(0.05), AdaMax(0.05)):
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
        model.compile(optimizer, "mse")
        losses = model.fit(x, x[:, :1], batch_size=16, epochs=20, verbose=0).history["loss"]
        assert losses[-1] < losses[0] / 5, losses
        optimizer.diagnostics(model.trainable_variables[0])
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile(Adam(0.05, use_ema=True, ema_momentum=0.5), "mse")
    model.fit(x, x[:, :1], epochs=1, verbose=0)
    assert np.isfinite(model.fit(x, x[:, :1], epochs=1, verbose=0).history["loss"]).all()
    try:
        Adam(fused=True)
    except ValueError as error:
        assert str(error) == "fused=True needs the tensorflow backend, got {backend!r}", error
    else:
        raise AssertionError("fused=True was accepted")
    print("agrees")
    """
)


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_the_same_tests_pass_on_another_backend(backend):
    """Trajectories to 1e-13, mutations and arguments, with float64 as Keras' float type."""
    if find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    here = os.path.dirname(__file__)
    files = ["test_trajectories.py", "test_mutations.py", "test_arguments.py", "test_reports.py"]
    if backend == "jax":
        files.append("test_averaging.py::test_evaluated_averages_go_on")
    settings = {"KERAS_BACKEND": backend, "KERAS_FLOATX": "float64", "JAX_ENABLE_X64": "1"}
    settings["XLA_FLAGS"] = "--xla_backend_optimization_level=0"  # to compile well takes longer
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "--numprocesses=0", "-p", "no:cacheprovider"),
            *("-W", "ignore:__array__ implementation:DeprecationWarning"),  # Keras' variables
            *(os.path.join(here, file) for file in files),
        ],
        env=os.environ | settings,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert " passed" in done.stdout


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_plain_path_on_another_backend(backend):
    if find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    here = os.path.dirname(__file__)
    path = os.pathsep.join([here, os.path.dirname(os.path.dirname(here))])
    done = subprocess.run(
        [sys.executable, "-c", ON_ANOTHER_BACKEND.format(backend=backend)],
        env=os.environ | {"KERAS_BACKEND": backend, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.stdout.strip() == "agrees", done.stderr[-3000:]
