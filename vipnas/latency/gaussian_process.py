"""A Gaussian process over points, learnt from weighted sums of its values."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

# Candidates for the relative noise of a measurement.
NOISES = (0.015, 0.03, 0.06)
# Candidates for the length scale, in standard deviations of the points.
LENGTH_SCALES = (1.0, 2.0, 4.0, 8.0)


class GaussianProcess:
    """A Gaussian process of mean 0, conditioned on weighted sums of its values at points.

    The value of a point is a smooth part, correlated with its neighbours of the same label, plus an
    independent part. Length scale, noise and standard deviations are chosen among candidates by
    marginal likelihood.

    Args:
        points: Coordinates (P, coordinates).
        labels: Labels (P,). Points of different labels are independent.
        weights: Weights of the points in each observation (observations, P).
        sums: Observed sums (observations,).
        noise: Noise of each observation (observations,), a factor of the candidates.
        spreads: Candidates for the standard deviations of the smooth and the independent part.
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
        # A constant coordinate carries no information.
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
                        self._alpha = weights.T @ solved

    def __call__(self, point: np.ndarray, label: int = 0, number: int | None = None) -> float:
        """Return the posterior mean at a point; `number` is its index if it is a given one."""
        kernel = self._kernel(self._scaled(point[None]), np.array([label]), self._length_scale)
        shared, own = self._spreads
        value = shared**2 * float(kernel[0] @ self._alpha)
        return value if number is None else value + own**2 * float(self._alpha[number])

    def _scaled(self, points: np.ndarray) -> np.ndarray:
        scaled: np.ndarray = (points - self._centre) * self._per_unit
        return scaled

    def _kernel(self, points: np.ndarray, labels: np.ndarray, length_scale: float) -> np.ndarray:
        """Return the squared-exponential kernel (points, given points); 0 for other labels."""
        squares = (points**2).sum(axis=1)[:, None] + (self._points**2).sum(axis=1)
        distance = np.maximum(squares - 2 * points @ self._points.T, 0.0)
        same_label = labels[:, None] == self._labels
        kernel: np.ndarray = same_label * np.exp(distance / (-2 * length_scale**2))
        return kernel
