"""The state of a sharded model over eight devices: run by `test_sharding.py` under JAX."""

import json
import sys

import jax
import keras
import numpy as np
from keras import ops

from adam_tf import Adam

X = np.random.default_rng(0).standard_normal((32, 16)).astype("float32")
Y = X[:, :8] @ np.ones((8, 8), "float32")


def distribution(kind):
    devices = keras.distribution.list_devices("cpu")
    assert len(devices) == 8
    if kind == "data":
        return keras.distribution.DataParallel(devices=devices)
    mesh = keras.distribution.DeviceMesh((4, 2), ("batch", "model"), devices)
    layout_map = keras.distribution.LayoutMap(mesh)
    layout_map[".*kernel"] = (None, "model")
    return keras.distribution.ModelParallel(layout_map=layout_map, batch_dim_name="batch")


def made(optimizer):
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [keras.Input((16,)), keras.layers.Dense(64, "tanh"), keras.layers.Dense(8)]
    )
    model.compile(optimizer, "mse")
    return model


def on_device_0(arrays):
    """Bytes of the first device."""
    return sum(
        shard.data.nbytes
        for array in arrays
        for shard in array.addressable_shards
        if shard.device.id == 0
    )


def main(kind, divide):
    """Train, walk, and print what came out as a line of JSON."""
    keras.distribution.set_distribution(None if kind == "none" else distribution(kind))
    model = made(Adam(0.01, divide_state=divide))
    model.fit(X, Y, batch_size=16, epochs=5, shuffle=False, verbose=0)
    moments = model.optimizer.variables[2:]
    variables = model.trainable_variables
    twice = [variable for variable in variables for _ in range(2)]
    for moment, variable in zip(moments, twice, strict=True):
        assert moment.shape == variable.shape
        if kind != "none" and not divide:
            assert moment.value.sharding.is_equivalent_to(variable.value.sharding, moment.ndim)
    # The same by hand, with given gradients: what reduces a gradient plays no part.
    keras.utils.set_random_seed(2)
    theta = model.trainable_variables
    optimizer = Adam(0.01, divide_state=divide)
    optimizer.build(theta)
    rng = np.random.default_rng(3)
    start = [rng.standard_normal(v.shape).astype("float32") for v in theta]
    fitted = float(model.evaluate(X, Y, verbose=0))
    for v, value in zip(theta, start, strict=True):
        v.assign(value)
    step = jax.jit(optimizer.stateless_apply)
    weights, state = [v.value for v in theta], [v.value for v in optimizer.variables]
    for _ in range(20):
        gradients = [ops.convert_to_tensor(rng.standard_normal(v.shape), "float32") for v in theta]
        weights, state = step(state, gradients, weights)
    for weight, v in zip(weights, theta, strict=True):  # it stays where it was
        if kind != "none":
            assert weight.sharding.is_equivalent_to(v.value.sharding, weight.ndim)
    print(
        json.dumps(
            {
                "loss": fitted,
                "walked": [np.asarray(w).tolist() for w in weights],
                "weight bytes": on_device_0(v.value for v in variables),
                "moment bytes": on_device_0(v.value for v in moments),
                "all moment bytes": sum(v.value.nbytes for v in moments),
            }
        )
    )


if __name__ == "__main__":
    for case in sys.argv[1:]:
        kind, divide = case.split(",")
        main(kind, divide == "divided")
