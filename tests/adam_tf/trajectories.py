"""What several test files share: the trajectories' settings and how two are compared."""

import keras
import numpy as np
import oracle
import tensorflow as tf

START = np.linspace(-1.0, 1.0, 10)
GRADIENTS = oracle.mixed_gradients()

ADAM_CASES = {
    "defaults": {},
    "betas": {"beta_1": 0.5, "beta_2": 0.9},
    "no momentum": {"beta_1": 0.0},
    "no memory": {"beta_2": 0.0},
    "long memory": {"beta_2": 1 - 1e-6},
    "large epsilon": {"epsilon": 1e-3},
    "hat": {"epsilon_form": "hat", "epsilon": 1e-7},
    "no correction": {"bias_correction": False},
    "no correction, hat": {"bias_correction": False, "epsilon_form": "hat"},
    "amsgrad": {"amsgrad": True, "beta_2": 0.9},
    "amsgrad, hat": {"amsgrad": True, "beta_2": 0.9, "epsilon_form": "hat"},
    "amsgrad, no correction": {"amsgrad": True, "beta_2": 0.9, "bias_correction": False},
    "decaying beta_1": {"beta_1_decay": 0.9},
    "decaying beta_1, hat": {"beta_1_decay": 0.99, "epsilon_form": "hat"},
}
# The settings whose plain and automatic paths differ.
KERNEL_CASES = ["defaults", "betas", "large epsilon", "hat", "no correction", "no correction, hat"]
ADAMAX_CASES = {
    "defaults": {},
    "betas": {"beta_1": 0.5, "beta_2": 0.9},
    "no momentum": {"beta_1": 0.0},
    "short memory": {"beta_2": 0.5},
}


def iterates(optimizer, gradients=GRADIENTS, start=START, dtype="float64"):
    """Every value of a variable that starts at `start` and receives `gradients`."""
    variable = keras.Variable(start, dtype=dtype)
    optimizer.build([variable])

    def step(gradient):
        optimizer.apply([gradient], [variable])
        return keras.ops.copy(variable.value)

    if keras.backend.backend() == "tensorflow":
        step = tf.function(step)
    gradients = (keras.ops.convert_to_tensor(g, dtype) for g in np.asarray(gradients, dtype))
    return np.stack([keras.ops.convert_to_numpy(step(gradient)) for gradient in gradients])


def assert_steps_close(actual, expected, rtol, dtype="float64", start=START):
    """Movements from the start agree to `rtol` of their size, plus the rounding of the variable."""
    unit = np.finfo(dtype).eps
    moved, expected_moved = actual - start, expected - start
    # Each of t additions rounds by at most half a unit of the larger operand.
    t = np.arange(1, len(actual) + 1)[:, None]
    size = np.maximum(np.abs(start), np.abs(expected).max(0))
    path = np.abs(np.diff(expected, axis=0, prepend=start[None])).cumsum(0)
    error = np.abs(moved - expected_moved)
    limit = rtol * path + t * unit * size
    worst = np.unravel_index(np.argmax(error - limit), error.shape)
    assert (error <= limit).all(), (
        f"steps differ at step {worst[0] + 1}, coordinate {worst[1]}: "
        f"by {error[worst]:.3g}, allowed {limit[worst]:.3g}"
    )
