"""A function learnt from sums of its values."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

# Candidates for how far, relative, a measurement is from the truth.
NOISES = (0.015, 0.03, 0.06)
# Candidates for the distance at which two points stop being correlated, in standard deviations.
LENGTH_SCALES = (1.0, 2.0, 4.0, 8.0)


class Process:
    """A Gaussian process of mean 0, given weighted sums of its values at `points` (P, coordinates).

    Points of different `labels` (P,) have nothing to do with each other; beside what it shares with
    its neighbours each point may have a part of its own. `weights` (observations, P), `sums` and
    `noise` (observations,), the latter relative to the candidates. Length scale, noise, and the
    spreads of both parts (of the candidates `spreads`) are those under which the sums are most
    likely.
    """

    def __init__(
        self,
        points: np.ndarray,
        labels: np.ndarray,
        weights: np.ndarray,
        sums: np.ndarray,
        noise: np.ndarray,
        spreads: Sequence[tuple[float, float]],
    ) -> None:
        spread = points.std(axis=0)
        self._centre = points.mean(axis=0)
        # A coordinate in which no two points differ says nothing.
        self._per_unit = np.divide(1.0, spread, out=np.zeros_like(spread), where=spread > 1e-9)
        self._points, self._labels = self._scaled(points), labels
        best = -math.inf
        own = weights @ weights.T
        for length_scale in LENGTH_SCALES:
            shared = weights @ self._kernel(self._points, labels, length_scale) @ weights.T
            for both in spreads:
                prior = both[0] ** 2 * shared + both[1] ** 2 * own
                for level in NOISES:
                    covariance = prior + np.diag((level * noise) ** 2)
                    root = np.linalg.cholesky(covariance)
                    solved = np.linalg.solve(root.T, np.linalg.solve(root, sums))
                    likelihood = -0.5 * (sums @ solved) - np.log(np.diag(root)).sum()
                    if likelihood > best:
                        best, self._length_scale, self._spreads = likelihood, length_scale, both
                        self._pull = weights.T @ solved

    def __call__(self, point: np.ndarray, label: int = 0, number: int | None = None) -> float:
        """`number` where it is one of the points given."""
        kernel = self._kernel(self._scaled(point[None]), np.array([label]), self._length_scale)
        shared, own = self._spreads
        value = shared**2 * float(kernel[0] @ self._pull)
        return value if number is None else value + own**2 * float(self._pull[number])

    def _scaled(self, points: np.ndarray) -> np.ndarray:
        scaled: np.ndarray = (points - self._centre) * self._per_unit
        return scaled

    def _kernel(self, points: np.ndarray, labels: np.ndarray, length_scale: float) -> np.ndarray:
        """1 for the same position, falling to 0, which it is for other labels: (points, points
        given)."""
        squares = (points**2).sum(axis=1)[:, None] + (self._points**2).sum(axis=1)
        distance = np.maximum(squares - 2 * points @ self._points.T, 0.0)
        alike = labels[:, None] == self._labels
        kernel: np.ndarray = alike * np.exp(distance / (-2 * length_scale**2))
        return kernel
