"""Two logical CPUs, so that distribution is tested without a second device."""

import contextlib
import importlib.metadata

import pytest
import tensorflow as tf


def pytest_configure(config):
    if importlib.metadata.version("keras").startswith("3.12."):  # its variables with NumPy 2
        config.addinivalue_line(
            "filterwarnings",
            "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning",
        )


with contextlib.suppress(RuntimeError):  # TensorFlow has started: the fixture below skips
    CPU = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(CPU, [tf.config.LogicalDeviceConfiguration()] * 2)


@pytest.fixture(scope="session")  # a second strategy would reuse the first one's collective keys
def two_replicas():
    if len(tf.config.list_logical_devices("CPU")) < 2:
        pytest.skip("TensorFlow had started before two logical CPUs could be made")
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


@pytest.fixture
def deterministic():
    tf.config.experimental.enable_op_determinism()
    tf.keras.utils.set_random_seed(0)
    yield
    from tensorflow.python.framework import config  # there is no public way back

    config.disable_op_determinism()


@pytest.fixture
def compilable():
    """Keras compiles nothing in deterministic mode, which an earlier test may have turned on."""
    from tensorflow.python.framework import config

    enabled = config.is_op_determinism_enabled()
    config.disable_op_determinism()
    yield
    if enabled:
        config.enable_op_determinism()
