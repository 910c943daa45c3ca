"""The few directions in which an optimizer keeps its positions and gradients."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import linalg

from experiments.methods.sfo.curvature import NEGLIGIBLE

BLOCK = 8192  # columns of the basis that turn at a time, in the cache


def subspace_size(parameters: int, subfunctions: int) -> int:
    """How many dimensions the subspace may have; at most those of the whole space."""
    return min(math.ceil(1.5 * min(2 * subfunctions + 2, parameters)), parameters)


class Subspace:
    """An orthonormal basis, one row per vector, that grows with the gradients it is given.

    Since rows follow each other in memory, the basis so far is always one contiguous matrix.

    Attributes:
        room: how many dimensions there may be: the length of every vector of coordinates.
        size: how many there are.
        basis: (room, parameters); None stands for the identity, where the subspace is the whole
            space.
        start: the coordinates of the parameters that it was made for.
    """

    def __init__(self, theta: np.ndarray, room: int, rng: np.random.Generator) -> None:
        """Make the subspace whose first direction is that of theta, or random where theta is 0.

        Args:
            theta: the parameters.
            room: how many dimensions there may be.
            rng: draws the direction.
        """
        parameters = len(theta)
        self.room = room
        self.start = np.zeros(room)
        self.basis: np.ndarray | None = None
        if room == parameters:
            self.size = parameters
            self.start[:] = theta
            return
        self.basis = np.empty((room, parameters))
        self.size = 1
        length = np.linalg.norm(theta)
        direction = theta if length else rng.standard_normal(parameters)
        self.basis[0] = direction / np.linalg.norm(direction)
        self.start[0] = length

    @property
    def full(self) -> bool:
        """Whether there is no room for the two gradients that an iteration may add."""
        return self.basis is not None and self.size + 2 > self.room

    def lift(self, position: np.ndarray) -> np.ndarray:
        """From coordinates to parameters."""
        if self.basis is None:
            return position.copy()
        return position[: self.size] @ self.basis[: self.size]

    def project(self, gradient: np.ndarray) -> np.ndarray:
        """From a gradient to coordinates; the basis grows by the part it does not span yet."""
        if self.basis is None:
            return gradient.copy()
        basis = self.basis[: self.size]
        coordinates = np.zeros(self.room)
        rest, length = gradient, np.linalg.norm(gradient)
        for _ in range(3):
            before = length
            part = basis @ rest
            rest = rest - part @ basis
            coordinates[: self.size] += part
            length = np.linalg.norm(rest)
            # The part of the basis that rounding leaves in the rest is tiny unless the rest is.
            if length > before / 10:
                break
        if length > NEGLIGIBLE:
            np.divide(rest, length, out=self.basis[self.size])
            coordinates[self.size] = length
            self.size += 1
        return coordinates

    def collapse(self, kept: np.ndarray, projected: Sequence[np.ndarray]) -> None:
        """Shrink the basis to what spans some coordinates.

        Everything kept lies in the old basis, so the new one is that times a small matrix and needs
        no extra memory; random directions to fill it up would hold nothing. Let B be the basis,
        whose rows rounding has moved away from orthonormal, and B B^T = L L^T. Then the rows of
        L^-1 B are orthonormal; Q spans what is kept, in their coordinates; and the new basis is
        Q^T L^-1 B.

        Args:
            kept: what stays as it is, (size, vectors).
            projected: all arrays of coordinates, (room, ...), which turn with the basis.
        """
        assert self.basis is not None
        size = self.size
        basis = self.basis[:size]
        lower = linalg.cholesky(basis @ basis.T, lower=True)
        q, _ = linalg.qr(lower.T @ kept, mode="economic")
        turn = linalg.solve_triangular(lower, q, lower=True, trans="T").T
        for start in range(0, basis.shape[1], BLOCK):
            block = basis[:, start : start + BLOCK]
            block[: len(turn)] = turn @ block
        self.size = len(turn)
        for coordinates in projected:
            flat = coordinates.reshape(self.room, -1)
            flat[: self.size] = q.T @ (lower.T @ flat[:size])
            flat[self.size :] = 0
