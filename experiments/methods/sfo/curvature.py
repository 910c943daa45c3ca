"""What the history of a subfunction tells about its curvature."""

from __future__ import annotations

import numpy as np
from scipy import linalg

NEGLIGIBLE = 1e-12  # lengths, correlations and distances below it carry no information


def tells_curvature(move: np.ndarray, change: np.ndarray) -> bool:
    """Whether a change of position and the resulting change of the gradient are informative."""
    lengths = np.linalg.norm(move), np.linalg.norm(change)
    if min(lengths) <= NEGLIGIBLE:
        return False
    return bool(abs(move @ change) > NEGLIGIBLE * lengths[0] * lengths[1])


def fit_hessian(
    moves: np.ndarray, changes: np.ndarray, max_deviation: float
) -> tuple[float, np.ndarray, np.ndarray]:
    """A positive definite Hessian that explains changes of the gradient.

    Args:
        moves: changes of position, a column each, the oldest first.
        changes: the changes of the gradient that came with them.
        max_deviation: largest ratio of its eigenvalues.

    Returns:
        its one eigenvalue outside the span of `moves` and `changes`; its eigenvalues and
        eigenvectors in that span.
    """
    lengths = np.linalg.norm(moves, axis=0)
    moves, changes = moves / lengths, changes / lengths
    span, _ = linalg.qr(np.hstack([moves, changes]), mode="economic")
    moves, changes = span.T @ moves, span.T @ changes
    isotropic = smallest_curvature(moves, changes, max_deviation)
    hessian = isotropic * np.eye(len(moves))
    for move, change in zip(moves.T, changes.T, strict=True):
        hessian = hessian + secant_correction(hessian, move, change)
    values, vectors = linalg.eigh(hessian)
    return isotropic, positive(values, max_deviation), span @ vectors


def smallest_curvature(moves: np.ndarray, changes: np.ndarray, max_deviation: float) -> float:
    """The smallest curvature, in size, that the changes show.

    They show as many as there are independent moves; the rest of the eigenvalues are zero.

    Args:
        moves: changes of position, a column each.
        changes: the changes of the gradient that came with them.
        max_deviation: the result is at least the largest curvature divided by this.
    """
    inverse, independent = linalg.pinv(moves, rtol=NEGLIGIBLE, return_rank=True)
    sizes = linalg.svdvals(changes @ inverse)
    return float(max(sizes[independent - 1], sizes[0] / max_deviation))


def secant_correction(hessian: np.ndarray, move: np.ndarray, change: np.ndarray) -> np.ndarray:
    """The BFGS update: what to add to `hessian` so that it takes `move` to `change`.

    Args:
        hessian: (n, n).
        move: the change of position, (n,).
        change: the change of the gradient, (n,).
    """
    taken = hessian @ move
    curvature = move @ taken
    # Where the curvature is negative on the way to positive, there is nothing to divide by.
    if abs(curvature) <= NEGLIGIBLE * np.linalg.norm(taken) * np.linalg.norm(move):
        return np.zeros_like(hessian)
    return np.outer(change, change) / (change @ move) - np.outer(taken, taken) / curvature


def positive(values: np.ndarray, max_deviation: float) -> np.ndarray:
    """Eigenvalues with the negative and the tiny ones replaced by the median of the others."""
    largest = np.abs(values).max()
    usual = np.median(values[values > 0]) if (values > 0).any() else largest
    return np.where(values < largest / max_deviation, usual, values)
