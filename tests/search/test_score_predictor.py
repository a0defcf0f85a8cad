"""The regressor against its formulas written out, and against a score that it can learn."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vipnas.search.pareto import Floats
from vipnas.search.score_predictor import ScorePredictor, leave_one_out_losses

NUM_OPTIONS = (2, 3, 4, 1, 3, 2, 4, 3)


def drawn(count: int, seed: int) -> NDArray[np.int64]:
    return np.random.default_rng(seed).integers(0, NUM_OPTIONS, (count, len(NUM_OPTIONS)))


def score(genes_NC: NDArray[np.int64]) -> Floats:
    """Main effects and one interaction."""
    shares: Floats = genes_NC @ np.array([0.3, 0.1, 0.05, 0.0, 0.2, 0.1, 0.02, 0.04])
    return shares / 3 + 0.1 * (genes_NC[:, 0] == genes_NC[:, 4])


def test_what_it_was_not_told_it_predicts() -> None:
    told, new = drawn(150, 0), drawn(200, 1)
    predictor = ScorePredictor(NUM_OPTIONS, told, score(told))
    mean, deviation = predictor.predict(new)
    error = mean - score(new)
    assert np.sqrt(np.mean(error**2)) < 0.15 * score(new).std()
    assert (deviation >= 0).all()
    # What it says of its own error is about right.
    assert 0.5 < np.sqrt(np.mean((error / np.maximum(deviation, 1e-3)) ** 2)) < 2


def test_the_formulas_written_out() -> None:
    """Mean and deviation of a Gaussian process, its covariance from the choices that differ."""
    told, new = drawn(30, 2), drawn(5, 3)
    scores = score(told)
    predictor = ScorePredictor(NUM_OPTIONS, told, scores)

    def covariance(first: NDArray[np.int64], second: NDArray[np.int64]) -> Floats:
        share = (first[:, None] != second[None]).mean(axis=2)
        result: Floats = np.exp(-share / predictor.length)
        return result

    inner = covariance(told, told) + predictor.noise * np.eye(30)
    outer = covariance(new, told)
    scaled = (scores - scores.mean()) / scores.std()
    mean, deviation = predictor.predict(new)
    expected = scores.mean() + scores.std() * (outer @ np.linalg.solve(inner, scaled))
    np.testing.assert_allclose(mean, expected, atol=1e-8)
    explained = (outer * np.linalg.solve(inner, outer.T).T).sum(axis=1)
    np.testing.assert_allclose(deviation, scores.std() * np.sqrt(1 - explained), atol=1e-6)


def test_the_loss_is_that_of_leaving_each_out() -> None:
    told = drawn(20, 4)
    targets = score(told) - score(told).mean()
    shares = (told[:, None] != told[None]).mean(axis=2)
    [(found, _, _)] = leave_one_out_losses(shares, 0.7, targets, noises=[0.05])
    covariance = np.exp(-shares / 0.7) + 0.05 * np.eye(20)
    losses = []
    for i in range(20):
        others = np.arange(20) != i
        outer = np.linalg.solve(covariance[np.ix_(others, others)], covariance[others, i])
        variance = covariance[i, i] - covariance[others, i] @ outer
        losses.append((targets[i] - outer @ targets[others]) ** 2 / variance + np.log(variance))
    np.testing.assert_allclose(found, np.mean(losses), atol=1e-6)


def test_equal_scores_are_no_trouble() -> None:
    told = drawn(10, 5)
    mean, deviation = ScorePredictor(NUM_OPTIONS, told, np.full(10, 0.5)).predict(drawn(4, 6))
    np.testing.assert_allclose(mean, 0.5)
    assert np.isfinite(deviation).all()
