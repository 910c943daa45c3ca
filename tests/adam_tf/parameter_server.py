"""Training with a parameter server and a worker, both here: run by `test_parameter_server.py`."""

import json
import socket
import sys

import keras
import numpy as np
import tensorflow as tf

from adam_tf import Adam, AdaMax

STEPS = 5
X = np.random.default_rng(0).standard_normal((64, 5)).astype("float32")
Y = (X @ np.arange(5, dtype="float32"))[:, None]
MAKE = {"Adam": lambda: Adam(0.01), "AdaMax": lambda: AdaMax(0.01)}


def cluster():
    """A strategy whose variables lie on a server and whose steps run on a worker."""
    ports = []
    for _ in range(2):
        with socket.socket() as free:
            free.bind(("localhost", 0))
            ports.append(free.getsockname()[1])
    members = {"worker": [f"localhost:{ports[0]}"], "ps": [f"localhost:{ports[1]}"]}
    spec = tf.train.ClusterSpec(members)
    servers = [tf.distribute.Server(spec, job, 0, protocol="grpc") for job in members]
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(spec, rpc_layer="grpc")
    return servers, tf.distribute.ParameterServerStrategy(resolver)


def train(make, layers, strategy=None):
    """The losses of some steps; with many layers small variables are joined."""
    scope = strategy or tf.distribute.get_strategy()
    with scope.scope():
        keras.utils.set_random_seed(0)
        dense = [keras.layers.Dense(6) for _ in range(layers)]
        model = keras.Sequential([keras.Input((5,)), *dense, keras.layers.Dense(1)])
        optimizer = make()
        optimizer.build(model.trainable_variables)

    def one(x, y):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((model(x) - y) ** 2)
        weights = [variable.value for variable in model.trainable_variables]
        optimizer.apply(tape.gradient(loss, weights), model.trainable_variables)
        return loss

    step = tf.function(lambda x, y: scope.run(one, args=(x, y)))
    coordinator = strategy and tf.distribute.coordinator.ClusterCoordinator(strategy)
    losses = []
    for _ in range(STEPS):
        if coordinator:
            found = coordinator.schedule(step, args=(tf.constant(X), tf.constant(Y)))
            coordinator.join()
            losses.append(float(found.fetch()))
        else:
            losses.append(float(step(tf.constant(X), tf.constant(Y))))
    return losses


if __name__ == "__main__":
    kept, served = cluster()
    for name in sys.argv[1:]:
        method, layers = name.split(",")
        make = MAKE[method]
        found = {"served": train(make, int(layers), served), "plain": train(make, int(layers))}
        print("\n" + json.dumps(found), flush=True)
