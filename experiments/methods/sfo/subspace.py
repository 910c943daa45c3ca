"""The few directions in which an optimizer keeps its positions and gradients."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import linalg

from experiments.methods.sfo.curvature import NEGLIGIBLE

BLOCK = 8192  # columns of the basis that turn at a time, in the cache


def subspace_size(parameters: int, subfunctions: int) -> int:
    """How many dimensions the subspace may have; that of the whole space at most."""
    return min(math.ceil(1.5 * min(2 * subfunctions + 2, parameters)), parameters)


class Subspace:
    """An orthonormal basis, a row per vector, that grows by the gradients it is given.

    Rows that follow each other in memory make the basis so far one contiguous matrix, however many
    there are.

    Attributes:
        room: how many dimensions there may be: the length of every vector of coordinates.
        size: how many there are.
        basis: (room, parameters); None stands for the identity, where the subspace is the whole
            space.
        start: the coordinates of the parameters that it was made for.
    """

    def __init__(self, theta: np.ndarray, room: int, rng: np.random.Generator) -> None:
        """Make the subspace whose first direction is that of theta, or random where theta is 0."""
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
        """Whether it could not take the two gradients that an iteration may learn."""
        return self.basis is not None and self.size + 2 > self.room

    def lift(self, position: np.ndarray) -> np.ndarray:
        """From coordinates to parameters."""
        if self.basis is None:
            return position.copy()
        return position[: self.size] @ self.basis[: self.size]

    def project(self, gradient: np.ndarray) -> np.ndarray:
        """From a gradient to coordinates; the basis grows by what it does not hold yet."""
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
            # What rounding leaves of the basis in the rest is tiny unless the rest is small.
            if length > before / 10:
                break
        if length > NEGLIGIBLE:
            np.divide(rest, length, out=self.basis[self.size])
            coordinates[self.size] = length
            self.size += 1
        return coordinates

    def collapse(self, kept: np.ndarray, projected: Sequence[np.ndarray]) -> None:
        """Keep of the basis what holds some coordinates.

        All that is kept lies in the basis, so that the new one is a product of the old one and a
        small matrix, and needs no memory of its own; random directions to fill it up would hold
        nothing. With the basis B, its rows drifted from orthonormal by rounding, and
        B B^T = L L^T, the rows of L^-1 B are orthonormal; Q holds what is kept in their
        coordinates, and the new basis is Q^T L^-1 B.

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
