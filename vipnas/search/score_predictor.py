"""A Gaussian process that predicts scores from genes, refitted during the search. No torch here.

The kernel of two architectures is exp(-w), where w is the sum of the weights of the choices in
which they differ. On one-hot genes it has all interactions of choices; higher orders count less.
Every choice has its own weight, because some choices hardly matter.

Where an architecture has several parts with the same choices, as a clip has frames, w also has a
weight for each of these, times half of the squared difference in how many parts have each option.
What a choice is worth in one part says something about the others.

Scores saturate: what adds three points to a poor architecture adds a third of a point to a good
one. If the likelihood says so, the process is fitted to -log(top - score) instead.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vipnas.search.pareto import Floats, Integers

# N scored architectures, P to predict, C choices (then those that parts share), H columns: the
# options of all choices, one-hot (then how many parts have them)

# The fit starts with equal weights, such that architectures that differ in all choices have the
# kernel exp(-1 / length).
LENGTHS = (0.2, 0.5, 1.0, 2.0, 4.0)
NOISES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)  # relative to the variance of the scores
# Distances of the top from the best score, in standard deviations of the scores; inf is no top.
ROOMS = (math.inf, 4.0, 2.0, 1.0, 0.5, 0.25)
# The fit is cubic in the number of scores; the last ones are nearest to where the search is.
NUM_FITTED = 300
# A fixed number of steps, so that no branch depends on rounding, which differs by processor.
NUM_STEPS, STEP = 25, 0.25
# Predictions are rounded to this many digits, in standard deviations of the scores, so that
# symmetric architectures stay equal whatever the order of summation.
DIGITS = 9


@dataclass(frozen=True)
class Scale:
    """Map scores to targets with mean 0 and deviation 1, and back.

    Attributes:
        top: The score at which scores saturate; infinite for none.
        mean: Mean of the scores, or of their -log(top - score).
        deviation: Standard deviation of the same.
    """

    top: float
    mean: float = 0.0
    deviation: float = 1.0

    @classmethod
    def of(cls, scores_N: Floats, room: float) -> Scale:
        """Return the scale whose top is `room` standard deviations above the best score."""
        top = float(scores_N.max()) + room * max(float(scores_N.std()), 1e-9)
        straight_N = cls(top).targets(scores_N)
        return cls(top, float(straight_N.mean()), float(straight_N.std()) or 1.0)

    def targets(self, scores_N: Floats) -> Floats:
        """Return the targets of scores."""
        straight_N = scores_N if self.top == math.inf else -np.log(self.top - scores_N)
        targets_N: Floats = (straight_N - self.mean) / self.deviation
        return targets_N

    def log_slopes(self, scores_N: Floats) -> Floats:
        """Return the log derivatives of targets by scores.

        Added to a log density of targets it gives that of scores, which scales are compared by.
        """
        if self.top == math.inf:
            return np.full(len(scores_N), -math.log(self.deviation))
        slopes_N: Floats = -np.log(self.top - scores_N) - math.log(self.deviation)
        return slopes_N

    def scores(self, mean_P: Floats, deviation_P: Floats) -> tuple[Floats, Floats]:
        """Return mean and deviation of scores whose targets are normal with these."""
        straight_P, spread_P = self.mean + self.deviation * mean_P, self.deviation * deviation_P
        if self.top == math.inf:
            return straight_P, spread_P
        distance_P = np.exp(spread_P**2 / 2 - straight_P)  # lognormal
        return self.top - distance_P, distance_P * np.sqrt(np.expm1(spread_P**2))


class ScorePredictor:
    """Predict scores from genes; fitted when it is built.

    Args:
        num_options: Number of options of every choice.
        genes_NC: Genes of the scored architectures.
        scores_N: Their scores.
        num_parts: Number of parts with the same choices, whose genes follow each other.
    """

    def __init__(
        self,
        num_options: Sequence[int],
        genes_NC: Integers,
        scores_N: Floats,
        num_parts: int = 1,
    ) -> None:
        self.num_parts = num_parts
        self.first_columns_C = np.cumsum([0, *num_options[:-1]])
        self.num_one_hot = sum(num_options)
        shared = num_options[: len(num_options) // num_parts] if num_parts > 1 else ()
        counts_C = (*num_options, *shared)
        self.num_weights = len(counts_C)
        self.choice_H = np.repeat(np.arange(self.num_weights), counts_C)
        self.scores_N = scores_N
        self.told_NH = self._features(genes_NC)
        num_open = max(sum(count > 1 for count in counts_C), 1)
        last = slice(-NUM_FITTED, None)
        scales = [Scale.of(scores_N, room) for room in ROOMS]
        self.scale, start = self._start(self.told_NH[last], scores_N[last], scales, 1.0 / num_open)
        targets_N = self.scale.targets(scores_N)
        self.weights_C, self.noise = self._fit(self.told_NH[last], targets_N[last], start)
        covariance_NN = self._covariance(self.told_NH, self.weights_C)
        self.inverse_NN = np.linalg.inv(covariance_NN + self.noise * np.eye(len(targets_N)))
        self.alpha_N = self.inverse_NN @ targets_N
        self.variance = _variance(targets_N, self.alpha_N)

    def predict(self, genes_PC: Integers) -> tuple[Floats, Floats]:
        """Return mean and standard deviation of the scores of other architectures.

        The deviation includes the noise, because an architecture may be better than all similar
        ones.
        """
        covariance_PN = self._covariance(self._features(genes_PC), self.weights_C)
        mean_P = covariance_PN @ self.alpha_N
        explained_P = ((covariance_PN @ self.inverse_NN) * covariance_PN).sum(axis=1)
        posterior_variance_P = np.maximum(0.0, 1.0 - explained_P) + self.noise
        deviation_P = np.sqrt(self.variance * posterior_variance_P)
        return self.scale.scores(mean_P.round(DIGITS), deviation_P.round(DIGITS))

    def leave_one_out_loss(self, rows_N: NDArray[np.bool_]) -> float:
        """Return the mean negative log density of these scores, each predicted from all others.

        Without its constant, and rounded.
        """
        precisions_N = self.inverse_NN.diagonal()
        errors_N = self.alpha_N**2 / precisions_N / self.variance
        losses_N = (errors_N - np.log(precisions_N / self.variance)) / 2
        slopes_N = self.scale.log_slopes(self.scores_N)
        return round(float((losses_N - slopes_N)[rows_N].mean()), DIGITS)

    def _start(
        self, told_NH: Floats, scores_N: Floats, scales: Sequence[Scale], weight: float
    ) -> tuple[Scale, Floats]:
        """Return the scale and the log weights and noise with the best leave-one-out likelihood.

        All weights are equal here.
        """
        equal_C = np.full(self.num_weights, weight)
        found = []
        for length in LENGTHS:
            covariance_NN = self._covariance(told_NH, equal_C / length, told_NH)
            values_N, vectors_NN = np.linalg.eigh(covariance_NN)
            for number, scale in enumerate(scales):
                losses = leave_one_out_losses(values_N, vectors_NN, scale.targets(scores_N))
                bend = 2 * float(scale.log_slopes(scores_N).mean())
                for loss, noise in zip(losses, NOISES, strict=True):
                    found.append((round(loss - bend, DIGITS), number, length, noise))
        _, number, length, noise = min(found)
        return scales[number], np.log(np.append(equal_C / length, noise))

    def _fit(self, told_NH: Floats, targets_N: Floats, start: Floats) -> tuple[Floats, float]:
        """Return the weights and the noise of maximum posterior probability.

        The prior of their logarithms is normal around the start with deviation 1, so that few
        scores change little.
        """
        logs, speed, size = start, np.zeros_like(start), np.zeros_like(start)
        for step in range(1, NUM_STEPS + 1):  # Adam
            slope = self._slope(told_NH, targets_N, np.exp(logs)) - (logs - start)
            speed = 0.8 * speed + 0.2 * slope
            size = 0.9 * size + 0.1 * slope**2
            scale = np.sqrt(size / (1 - 0.9**step)) + 0.01
            logs = logs + STEP * speed / (1 - 0.8**step) / scale
        fitted = np.exp(logs.round(DIGITS))
        return fitted[:-1], float(fitted[-1])

    def _slope(self, told_NH: Floats, targets_N: Floats, parameters: Floats) -> Floats:
        """Return the gradient of the log likelihood by the log weights and the log noise.

        The variance is at its maximum-likelihood value.
        """
        weights_C, noise = parameters[:-1], parameters[-1]
        covariance_NN = self._covariance(told_NH, weights_C, told_NH)
        inverse_NN = np.linalg.inv(covariance_NN + noise * np.eye(len(targets_N)))
        alpha_N = inverse_NN @ targets_N
        variance = _variance(targets_N, alpha_N)
        outer_NN = np.outer(alpha_N, alpha_N) / variance - inverse_NN
        weighted_NN = outer_NN * covariance_NN
        own_H = weighted_NN.sum(axis=1) @ told_NH**2
        shared_H = ((weighted_NN @ told_NH) * told_NH).sum(axis=0)
        slope_C = -0.5 * weights_C * np.bincount(self.choice_H, own_H - shared_H)
        return np.append(slope_C, 0.5 * noise * np.trace(outer_NN))

    def _covariance(
        self, archs_PH: Floats, weights_C: Floats, told_NH: Floats | None = None
    ) -> Floats:
        others_NH = self.told_NH if told_NH is None else told_NH
        weights_H = weights_C[self.choice_H]
        shared_PN = (archs_PH * weights_H) @ others_NH.T
        own_P, own_N = archs_PH**2 @ weights_H / 2, others_NH**2 @ weights_H / 2
        covariance_PN: Floats = np.exp(shared_PN - own_P[:, None] - own_N)
        return covariance_PN

    def _features(self, genes_PC: Integers) -> Floats:
        one_hot_PH = np.zeros((len(genes_PC), self.num_one_hot))
        rows_P1 = np.arange(len(genes_PC))[:, None]
        one_hot_PH[rows_P1, genes_PC + self.first_columns_C] = 1.0
        if self.num_parts == 1:
            return one_hot_PH
        counts_PH = one_hot_PH.reshape(len(genes_PC), self.num_parts, -1).sum(axis=1)
        return np.concatenate((one_hot_PH, counts_PH), axis=1)


def _variance(targets_N: Floats, alpha_N: Floats) -> float:
    """Return the maximum-likelihood factor of the kernel."""
    return max(float(targets_N @ alpha_N) / len(targets_N), 1e-9)


def leave_one_out_losses(
    values_N: Floats, vectors_NN: Floats, targets_N: Floats, noises: Sequence[float] = NOISES
) -> list[float]:
    """Return, for every noise, -2 times the mean leave-one-out log density, without its constant.

    Closed form in the eigenvalues and eigenvectors of the kernel matrix.
    """
    projected_N = vectors_NN.T @ targets_N
    losses = []
    for noise in noises:
        inverse_values_N = 1.0 / (np.maximum(values_N, 0.0) + noise)
        weights_N = vectors_NN @ (inverse_values_N * projected_N)
        precisions_N = (vectors_NN**2) @ inverse_values_N
        losses.append(float(np.mean(weights_N**2 / precisions_N - np.log(precisions_N))))
    return losses
