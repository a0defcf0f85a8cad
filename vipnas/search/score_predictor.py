"""A regressor of scores on genes, small and exact, re-fitted while the search goes on. No torch
here.

A Gaussian process whose covariance falls with the share of choices in which two archs differ,
exp(-share / length): one-hot encoding, and all interactions of choices, the higher the fainter.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vipnas.search.pareto import Floats, Integers

# N archs told, P archs to be predicted, C choices, H one-hot columns: the options of all choices

LENGTHS = (0.2, 0.5, 1.0, 2.0, 4.0)
NOISES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)  # as a share of the variance of the scores
# Predictions are rounded to this, in standard deviations of the scores: symmetric archs then stay
# equal whatever the order in which a processor adds.
DIGITS = 9


class ScorePredictor:
    """Fitted on told archs when built: the length and the noise are those under which each told
    score is predicted best from all others."""

    def __init__(self, num_options: Sequence[int], genes_NC: Integers, scores_N: Floats) -> None:
        self.first_columns_C = np.cumsum([0, *num_options[:-1]])
        self.num_columns = sum(num_options)
        self.mean = float(scores_N.mean())
        self.deviation = float(scores_N.std()) or 1.0
        self.told_NH = self._one_hot(genes_NC)
        shares_NN = self._shares_differing(self.told_NH)
        targets_N = (scores_N - self.mean) / self.deviation
        _, self.length, self.noise = min(
            found
            for length in LENGTHS
            for found in leave_one_out_losses(shares_NN, length, targets_N)
        )
        covariance_NN = np.exp(-shares_NN / self.length) + self.noise * np.eye(len(targets_N))
        self.inverse_NN = np.linalg.inv(covariance_NN)
        self.weights_N = self.inverse_NN @ targets_N

    def predict(self, genes_PC: Integers) -> tuple[Floats, Floats]:
        """Mean and standard deviation of the scores."""
        shares_PN = self._shares_differing(self._one_hot(genes_PC))
        covariance_PN = np.exp(-shares_PN / self.length)
        mean_P = covariance_PN @ self.weights_N
        explained_P = ((covariance_PN @ self.inverse_NN) * covariance_PN).sum(axis=1)
        deviation_P = np.sqrt(np.maximum(0.0, 1.0 - explained_P))
        return (
            self.mean + self.deviation * mean_P.round(DIGITS),
            self.deviation * deviation_P.round(DIGITS),
        )

    def _one_hot(self, genes_PC: Integers) -> Floats:
        one_hot_PH = np.zeros((len(genes_PC), self.num_columns))
        rows_P1 = np.arange(len(genes_PC))[:, None]
        one_hot_PH[rows_P1, genes_PC + self.first_columns_C] = 1.0
        return one_hot_PH

    def _shares_differing(self, one_hot_PH: Floats) -> Floats:
        shares_PN: Floats = 1.0 - one_hot_PH @ self.told_NH.T / len(self.first_columns_C)
        return shares_PN


def leave_one_out_losses(
    shares_NN: Floats, length: float, targets_N: Floats, noises: Sequence[float] = NOISES
) -> list[tuple[float, float, float]]:
    """(loss, length, noise) for every noise: minus twice the mean log density of a target given all
    others, without its constant. In closed form, from one eigendecomposition."""
    values_N, vectors_NN = np.linalg.eigh(np.exp(-shares_NN / length))
    projected_N = vectors_NN.T @ targets_N
    losses = []
    for noise in noises:
        inverse_values_N = 1.0 / (np.maximum(values_N, 0.0) + noise)
        weights_N = vectors_NN @ (inverse_values_N * projected_N)
        precisions_N = (vectors_NN**2) @ inverse_values_N
        loss = float(np.mean(weights_N**2 / precisions_N - np.log(precisions_N)))
        losses.append((round(loss, DIGITS), length, noise))
    return losses
