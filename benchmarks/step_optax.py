"""The models in plain JAX with optax."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax


def dense(key: jax.Array, inputs: int, outputs: int, stddev: float) -> dict[str, jax.Array]:
    """A dense layer."""
    kernel = stddev * jax.random.normal(key, (inputs, outputs))
    return {"kernel": kernel, "bias": jnp.zeros(outputs)}


def apply(layer: dict[str, jax.Array], x: jax.Array) -> jax.Array:
    """The layer's outputs."""
    return x @ layer["kernel"] + layer["bias"]


def dropout(key: jax.Array, x: jax.Array, rate: float) -> jax.Array:
    """Each element with the probability 1 - rate, enlarged; else 0."""
    return jnp.where(jax.random.bernoulli(key, 1 - rate, x.shape), x / (1 - rate), 0.0)


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """The mean over the batch."""
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def logistic(parameters: Any, key: jax.Array, images: jax.Array, labels: jax.Array) -> jax.Array:
    """Logistic regression on pixels."""
    return cross_entropy(apply(parameters[0], images / 255.0), labels)


def reviews(rate: float) -> Callable[..., jax.Array]:
    """Logistic regression on padded bags of words."""

    def cost(p: Any, key: jax.Array, words: jax.Array, counts: Any, labels: Any) -> jax.Array:
        values = dropout(key, counts.astype(jnp.float32), rate)
        rows = p[0]["kernel"].at[words].get(mode="clip")
        return cross_entropy(jnp.einsum("bl,blu->bu", values, rows) + p[0]["bias"], labels)

    return cost


def multilayer(rate: float) -> Callable[..., jax.Array]:
    """Two hidden layers of ReLUs."""

    def cost(p: Any, key: jax.Array, images: jax.Array, labels: jax.Array) -> jax.Array:
        x = images / 255.0
        for layer, mask in zip(p[:-1], jax.random.split(key), strict=True):
            x = dropout(mask, jax.nn.relu(apply(layer, x)), rate)
        return cross_entropy(apply(p[-1], x), labels)

    return cost


def convolutional(p: Any, key: jax.Array, x: jax.Array, labels: jax.Array) -> jax.Array:
    """Three stages of convolution and pooling, then 1000 ReLUs."""
    for layer in p[:3]:
        x = jax.lax.conv_general_dilated(
            x, layer["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        x = jax.nn.relu(x + layer["bias"])
        x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 3, 3, 1), (1, 2, 2, 1), "SAME")
    x = jax.nn.relu(apply(p[3], x.reshape(len(x), -1)))
    return cross_entropy(apply(p[4], x), labels)


def autoencoder(p: Any, key: jax.Array, images: jax.Array) -> jax.Array:
    """Minus the variational bound."""
    target = images / 255.0
    code = jax.nn.softplus(apply(p[0], target))
    mean, log_variance = apply(p[1], code), apply(p[2], code)
    drawn = mean + jnp.exp(log_variance / 2) * jax.random.normal(key, mean.shape)
    logits = apply(p[4], jax.nn.softplus(apply(p[3], drawn)))
    divergence = jnp.exp(log_variance) + mean**2 - 1 - log_variance
    pixels = optax.sigmoid_binary_cross_entropy(logits, target)
    return (divergence.sum() / 2 + pixels.sum()) / len(images)


def start(problem: str) -> list[dict[str, jax.Array]]:
    """Initial weights."""
    keys = jax.random.split(jax.random.key(0), 5)
    if problem == "mnist_logistic_regression":
        return [dense(keys[0], 784, 10, 0.0)]
    if problem == "imdb_logistic_regression":
        return [dense(keys[0], 10_000, 2, 0.0)]
    if problem == "mnist_multilayer":
        sizes = ((784, 1000), (1000, 1000), (1000, 10))
        return [
            dense(k, a, b, (2 / (a + b)) ** 0.5) for k, (a, b) in zip(keys, sizes, strict=False)
        ]
    if problem == "mnist_variational":
        sizes = ((784, 500), (500, 50), (500, 50), (50, 500), (500, 784))
        return [dense(k, a, b, 0.01) for k, (a, b) in zip(keys, sizes, strict=True)]
    shapes = ((5, 5, 3, 64), (5, 5, 64, 64), (5, 5, 64, 128))
    stages = [
        {"kernel": 0.01 * jax.random.normal(k, shape), "bias": jnp.zeros(shape[-1])}
        for k, shape in zip(keys[:3], shapes, strict=True)
    ]
    return [*stages, dense(keys[3], 2048, 1000, 0.01), dense(keys[4], 1000, 10, 0.01)]


def prepare(
    model: Any, arrays: tuple[np.ndarray, ...], threads: int, update: str, rate: float
) -> Callable[[np.ndarray], float]:
    """The training of a model: from the batches' indices to the mean cost."""
    jax.config.update("jax_default_matmul_precision", "float32")
    options, data = model.options, [jnp.asarray(array) for array in arrays]
    costs: dict[str, Callable[..., jax.Array]] = {
        "mnist_logistic_regression": logistic,
        "imdb_logistic_regression": reviews(options.get("dropout", 0.0)),
        "mnist_multilayer": multilayer(options.get("hidden_dropout", 0.0)),
        "cifar10_convolutional": convolutional,
        "mnist_variational": autoencoder,
    }
    cost_of = costs[model.problem]
    optimizer = optax.adam(rate) if update == "adam" else optax.sgd(rate)

    def objective(parameters: Any, key: jax.Array, batch: Any) -> tuple[jax.Array, jax.Array]:
        cost = cost_of(parameters, key, *batch)
        l2 = options.get("l2", 0.0)
        penalty = l2 / 2 * sum(jnp.sum(layer["kernel"] ** 2) for layer in parameters) if l2 else 0
        return cost + penalty, cost

    def step(state: Any, rows: jax.Array, data: Any) -> tuple[Any, jax.Array]:
        parameters, moments, key = state
        key, noise = jax.random.split(key)
        batch = [array[rows] for array in data]
        gradients, cost = jax.grad(objective, has_aux=True)(parameters, noise, batch)
        updates, moments = optimizer.update(gradients, moments, parameters)
        return (optax.apply_updates(parameters, updates), moments, key), cost

    def steps(state: Any, order: jax.Array, data: Any) -> tuple[Any, jax.Array]:
        return jax.lax.scan(lambda state, rows: step(state, rows, data), state, order)

    # XLA for CPUs takes ten times as long for gradients of convolutions within a compiled loop.
    one_by_one = cost_of is convolutional and jax.default_backend() == "cpu"
    advance = jax.jit(step if one_by_one else steps, donate_argnums=0)
    parameters = start(model.problem)
    held = [(parameters, optimizer.init(parameters), jax.random.key(1))]

    def train(order: np.ndarray) -> float:
        found = []
        for rows in order if one_by_one else [order]:
            held[0], cost = advance(held[0], rows, data)
            found.append(cost)
        return float(np.hstack(found).mean())

    return train
