"""A regressor of scores on genes, small and exact, re-fitted while the search goes on. No torch
here.

A Gaussian process whose covariance falls with the choices in which two archs differ, exp(-sum of
their weights): one-hot encoding, and all interactions of choices, the higher the fainter. Every
choice has a weight of its own, since some hardly matter.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vipnas.search.pareto import Floats, Integers

# N archs told, P archs to be predicted, C choices, H one-hot columns: the options of all choices

# Where the fit of the weights starts: the same for all choices, so that archs that differ in all of
# them have the covariance exp(-1 / length).
LENGTHS = (0.2, 0.5, 1.0, 2.0, 4.0)
NOISES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)  # as a share of the variance of the scores
# The fit takes time with the cube of the scores; the last are nearest to where the search is.
NUM_FITTED = 300
# A fixed number of steps, so that nothing branches on what a processor rounds.
NUM_STEPS, STEP = 25, 0.25
# Predictions are rounded to this, in standard deviations of the scores: symmetric archs then stay
# equal whatever the order in which a processor adds.
DIGITS = 9


class ScorePredictor:
    """Fitted on told archs when built."""

    def __init__(self, num_options: Sequence[int], genes_NC: Integers, scores_N: Floats) -> None:
        self.first_columns_C = np.cumsum([0, *num_options[:-1]])
        self.choice_H = np.repeat(np.arange(len(num_options)), num_options)
        self.mean = float(scores_N.mean())
        self.deviation = float(scores_N.std()) or 1.0
        self.told_NH = self._one_hot(genes_NC)
        targets_N = (scores_N - self.mean) / self.deviation
        num_open = max(sum(count > 1 for count in num_options), 1)
        last = slice(-NUM_FITTED, None)
        self.weights_C, self.noise = self._fit(self.told_NH[last], targets_N[last], num_open)
        covariance_NN = self._covariance(self.told_NH, self.weights_C)
        self.inverse_NN = np.linalg.inv(covariance_NN + self.noise * np.eye(len(targets_N)))
        self.pulls_N = self.inverse_NN @ targets_N
        self.variance = _variance(targets_N, self.pulls_N)

    def predict(self, genes_PC: Integers) -> tuple[Floats, Floats]:
        """Mean and standard deviation of the scores of archs that were not told. What no other arch
        tells of a score (the noise) is part of it: an arch may be better than all like it."""
        covariance_PN = self._covariance(self._one_hot(genes_PC), self.weights_C)
        mean_P = covariance_PN @ self.pulls_N
        explained_P = ((covariance_PN @ self.inverse_NN) * covariance_PN).sum(axis=1)
        doubt_P = np.maximum(0.0, 1.0 - explained_P) + self.noise
        deviation_P = np.sqrt(self.variance * doubt_P)
        return (
            self.mean + self.deviation * mean_P.round(DIGITS),
            self.deviation * deviation_P.round(DIGITS),
        )

    def _fit(self, told_NH: Floats, targets_N: Floats, num_open: int) -> tuple[Floats, float]:
        """The weights and the noise under which the targets are most likely, near the equal weights
        under which each target is predicted best from all others.

        "Near" is a normal prior of the logarithms, deviation 1: few scores change little.
        """
        num_choices = len(self.first_columns_C)
        equal_C = np.full(num_choices, 1.0 / num_open)
        _, length, noise = min(
            found
            for length in LENGTHS
            for found in leave_one_out_losses(
                self._covariance(told_NH, equal_C / length, told_NH), length, targets_N
            )
        )
        start = np.log(np.append(equal_C / length, noise))
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
        """The gradient of the log likelihood by the logarithms of the weights and of the noise, the
        variance being the most likely one."""
        weights_C, noise = parameters[:-1], parameters[-1]
        covariance_NN = self._covariance(told_NH, weights_C, told_NH)
        inverse_NN = np.linalg.inv(covariance_NN + noise * np.eye(len(targets_N)))
        pulls_N = inverse_NN @ targets_N
        variance = _variance(targets_N, pulls_N)
        outer_NN = np.outer(pulls_N, pulls_N) / variance - inverse_NN
        weighted_NN = outer_NN * covariance_NN
        same_H = ((weighted_NN @ told_NH) * told_NH).sum(axis=0)
        same_C = np.bincount(self.choice_H, same_H)
        slope_C = -0.5 * weights_C * (weighted_NN.sum() - same_C)
        return np.append(slope_C, 0.5 * noise * np.trace(outer_NN))

    def _covariance(
        self, archs_PH: Floats, weights_C: Floats, told_NH: Floats | None = None
    ) -> Floats:
        others_NH = self.told_NH if told_NH is None else told_NH
        same_PN = (archs_PH * weights_C[self.choice_H]) @ others_NH.T
        covariance_PN: Floats = np.exp(same_PN - weights_C.sum())
        return covariance_PN

    def _one_hot(self, genes_PC: Integers) -> Floats:
        one_hot_PH = np.zeros((len(genes_PC), len(self.choice_H)))
        rows_P1 = np.arange(len(genes_PC))[:, None]
        one_hot_PH[rows_P1, genes_PC + self.first_columns_C] = 1.0
        return one_hot_PH


def _variance(targets_N: Floats, pulls_N: Floats) -> float:
    """The most likely one, for which the covariance is to be multiplied."""
    return max(float(targets_N @ pulls_N) / len(targets_N), 1e-9)


def leave_one_out_losses(
    covariance_NN: Floats, length: float, targets_N: Floats, noises: Sequence[float] = NOISES
) -> list[tuple[float, float, float]]:
    """(loss, length, noise) for every noise: minus twice the mean log density of a target given all
    others, without its constant. In closed form, from one eigendecomposition."""
    values_N, vectors_NN = np.linalg.eigh(covariance_NN)
    projected_N = vectors_NN.T @ targets_N
    losses = []
    for noise in noises:
        inverse_values_N = 1.0 / (np.maximum(values_N, 0.0) + noise)
        weights_N = vectors_NN @ (inverse_values_N * projected_N)
        precisions_N = (vectors_NN**2) @ inverse_values_N
        loss = float(np.mean(weights_N**2 / precisions_N - np.log(precisions_N)))
        losses.append((round(loss, DIGITS), length, noise))
    return losses
