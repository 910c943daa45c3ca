"""What is recorded after each pass: the same of every training, and what a problem asks for.

A diagnostic is a function `(model, optimizer, gradients)` to numbers by name. Its arguments: the
Keras model, its optimizer, and the gradients of the objective on the first batch of the training
set, at the current parameters, with noise. A diagnostic that does not apply to an optimizer gives
no numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

# Of every training; problems without classes have no accuracy.
METRICS = ("training_cost", "objective", "held_out_cost", "held_out_accuracy", "seconds")


def second_moment(model: Any, optimizer: Any, gradients: Sequence[Any]) -> dict[str, float]:
    """Where epsilon outweighs the second moment (Section 6.3), by layer and in all.

    `below_epsilon` is the share of coordinates with sqrt(v_hat) < epsilon, `near_epsilon` that with
    sqrt(v_hat) < 10 epsilon. Only Adam has such numbers.
    """
    if not hasattr(optimizer, "diagnostics") or not hasattr(optimizer, "epsilon"):
        return {}
    found: dict[str, list[np.ndarray]] = {}
    for layer, variables in _layers(model):
        for variable in variables:
            root = np.sqrt(np.asarray(optimizer.diagnostics(variable).v_hat)).ravel()
            found.setdefault(layer, []).append(root)
    roots = {layer: np.concatenate(parts) for layer, parts in found.items()}
    roots["all"] = np.concatenate(list(roots.values()))
    numbers = {}
    for layer, root in roots.items():
        numbers[f"below_epsilon {layer}"] = float(np.mean(root < optimizer.epsilon))
        numbers[f"near_epsilon {layer}"] = float(np.mean(root < 10 * optimizer.epsilon))
    return numbers


def gradient_sparsity(model: Any, optimizer: Any, gradients: Sequence[Any]) -> dict[str, float]:
    """How few coordinates carry a batch's gradient (Section 6.4: gradients "become sparser").

    `gradient_support` is the smallest share of coordinates that carries 90% of the squared norm:
    0.9 if all are equal, near 0 if few matter. `gradient_zeros` is the share below 1e-8 in size.
    """
    squares = np.concatenate([np.square(np.asarray(g, np.float64)).ravel() for g in gradients])
    total = squares.sum()
    if not np.isfinite(total) or total == 0:
        return {"gradient_support": 0.0, "gradient_zeros": float(np.mean(squares < 1e-16))}
    largest = np.cumsum(np.sort(squares)[::-1])
    support = 1 + np.searchsorted(largest, 0.9 * total)
    return {
        "gradient_support": float(support / len(squares)),
        "gradient_zeros": float(np.mean(squares < 1e-16)),
    }


Diagnostic = Callable[[Any, Any, Sequence[Any]], dict[str, float]]
DIAGNOSTICS: dict[str, Diagnostic] = {
    "second_moment": second_moment,
    "gradient_sparsity": gradient_sparsity,
}


def measure(
    names: Sequence[str], model: Any, optimizer: Any, gradients: Sequence[Any]
) -> dict[str, float]:
    """The numbers of the named diagnostics.

    Args:
        names: keys of `DIAGNOSTICS`.
        model: as for a diagnostic.
        optimizer: as for a diagnostic.
        gradients: as for a diagnostic.
    """
    return {
        name: value
        for diagnostic in names
        for name, value in DIAGNOSTICS[diagnostic](model, optimizer, gradients).items()
    }


def _layers(model: Any) -> Iterator[tuple[str, list[Any]]]:
    """The trainable variables of each layer that has any."""
    for layer in model.layers:
        if layer.trainable_variables:
            yield layer.name, layer.trainable_variables
