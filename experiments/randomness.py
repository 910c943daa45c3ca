"""Every random number of a run: from its seed, a purpose and the epoch, not from what ran before.

So a resumed run repeats the interrupted one, and with the same seed every method sees the same
weights, batches and noise.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Records depend on these numbers: never change one; a new purpose takes the next.
STREAMS = {
    "order": 0,
    "weights": 1,
    "noise": 2,
    "draws": 3,
    "factors": 4,
    "functions": 5,
    "sample": 6,
    "gradients": 7,
    "examples": 8,
}


def stream(seed: int, name: str, epoch: int = 0) -> np.random.Generator:
    """The random numbers of one purpose in one epoch of one seed.

    Args:
        seed: the run's.
        name: the purpose, a key of `STREAMS`.
        epoch: from 0; 0 for what is drawn once in a run.
    """
    return np.random.default_rng([seed, STREAMS[name], epoch])


def steps_per_epoch(examples: int, batch_size: int) -> int:
    """How many whole batches the examples make.

    Raises:
        ValueError: there are fewer examples than a batch has.
    """
    if batch_size > examples:
        raise ValueError(f"batch_size={batch_size} exceeds {examples} examples")
    return examples // batch_size


def batch_order(seed: int, epoch: int, examples: int, batch_size: int) -> NDArray[np.int32]:
    """Indices of an epoch's batches, shape (steps, batch_size): a fresh shuffle in whole batches.

    The examples that do not fill a last batch are left out of this epoch; others are in the next.

    Args:
        seed: the run's.
        epoch: from 0.
        examples: how many there are.
        batch_size: examples in a batch.

    Raises:
        ValueError: there are fewer examples than a batch has.
    """
    steps = steps_per_epoch(examples, batch_size)
    order = stream(seed, "order", epoch).permutation(examples)[: steps * batch_size]
    return order.reshape(steps, batch_size).astype(np.int32)
