"""The regressor against its formulas written out, and against a score that it can learn."""

from __future__ import annotations

import math

import numpy as np
import pytest

from vipnas.search.pareto import Floats, Integers
from vipnas.search.score_predictor import Scale, ScorePredictor, leave_one_out_losses

NUM_OPTIONS = (2, 3, 4, 1, 3, 2, 4, 3)


OF_PARTS = {1: NUM_OPTIONS, 2: (2, 3, 4, 2) * 2}


def drawn(count: int, seed: int, options: tuple[int, ...] = NUM_OPTIONS) -> Integers:
    return np.random.default_rng(seed).integers(0, options, (count, len(options)))


def score(genes_NC: Integers) -> Floats:
    """Main effects and one interaction."""
    shares: Floats = genes_NC @ np.array([0.3, 0.1, 0.05, 0.0, 0.2, 0.1, 0.02, 0.04])
    return shares / 3 + 0.1 * (genes_NC[:, 0] == genes_NC[:, 4])


def test_what_it_was_not_told_it_predicts() -> None:
    told, new = drawn(150, 0), drawn(200, 1)
    noise = 0.1 * score(told).std() * np.random.default_rng(2).standard_normal(350)
    mean, deviation = ScorePredictor(NUM_OPTIONS, told, score(told) + noise[:150]).predict(new)
    assert np.sqrt(np.mean((mean - score(new)) ** 2)) < 0.1 * score(new).std()
    error = mean - score(new) - noise[150:]
    # What it says of its own error is about right.
    assert 0.7 < np.sqrt(np.mean((error / deviation) ** 2)) < 1.4


def covariance(first: Integers, second: Integers, weights_C: Floats, num_parts: int = 1) -> Floats:
    """By the definition: exp of minus the weights of the choices that differ, and of parts."""
    num_choices = first.shape[1]
    apart = ((first[:, None] != second[None]) * weights_C[:num_choices]).sum(axis=2)
    for choice, weight in enumerate(weights_C[num_choices:]):
        for option in range(max(NUM_OPTIONS)):
            have, other = (
                (genes.reshape(len(genes), num_parts, -1)[:, :, choice] == option).sum(axis=1)
                for genes in (first, second)
            )
            apart = apart + weight * (have[:, None] - other) ** 2 / 2
    result: Floats = np.exp(-apart)
    return result


@pytest.mark.parametrize("num_parts", [1, 2])
def test_the_formulas_written_out(num_parts: int) -> None:
    """Mean and deviation of a Gaussian process, the variance of the scores the most likely one."""
    options = OF_PARTS[num_parts]
    told, new = drawn(30, 2, options), drawn(5, 3, options)
    scores = score(told)
    predictor = ScorePredictor(options, told, scores, num_parts)
    assert predictor.scale.top == math.inf
    inner = covariance(told, told, predictor.weights_C, num_parts) + predictor.noise * np.eye(30)
    outer = covariance(new, told, predictor.weights_C, num_parts)
    scaled = (scores - scores.mean()) / scores.std()
    mean, deviation = predictor.predict(new)
    expected = scores.mean() + scores.std() * (outer @ np.linalg.solve(inner, scaled))
    np.testing.assert_allclose(mean, expected, atol=1e-8)
    variance = scaled @ np.linalg.solve(inner, scaled) / 30
    explained = (outer * np.linalg.solve(inner, outer.T).T).sum(axis=1)
    expected = scores.std() * np.sqrt(variance * (1 - explained + predictor.noise))
    np.testing.assert_allclose(deviation, expected, atol=1e-6)


@pytest.mark.parametrize("num_parts", [1, 2])
def test_the_slope_is_that_of_the_likelihood(num_parts: int) -> None:
    told = drawn(25, 4, OF_PARTS[num_parts])
    targets = score(told) - score(told).mean()
    predictor = ScorePredictor(OF_PARTS[num_parts], told, targets, num_parts)
    logs = np.random.default_rng(5).normal(-1, 0.5, len(predictor.weights_C) + 1)

    def log_likelihood(logs: Floats) -> float:
        kernel = covariance(told, told, np.exp(logs[:-1]), num_parts)
        matrix = kernel + np.exp(logs[-1]) * np.eye(25)
        variance = targets @ np.linalg.solve(matrix, targets) / 25
        return float(-0.5 * (25 * np.log(variance) + np.linalg.slogdet(matrix)[1]))

    found = predictor._slope(predictor.told_NH, targets, np.exp(logs))
    for number in range(len(logs)):
        step = 1e-5 * (np.arange(len(logs)) == number)
        expected = (log_likelihood(logs + step) - log_likelihood(logs - step)) / 2e-5
        assert found[number] == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_what_a_choice_is_worth_in_one_part_says_something_about_the_others() -> None:
    """Three parts with the same eight choices, of equal worth; fewer scores than options."""
    options = NUM_OPTIONS * 3
    genes = drawn(240, 8, options)
    scores = np.sum([score(part) for part in np.split(genes, 3, axis=1)], axis=0)
    errors = {}
    for num_parts in (1, 3):
        predictor = ScorePredictor(options, genes[:30], scores[:30], num_parts)
        errors[num_parts] = np.mean((scores[30:] - predictor.predict(genes[30:])[0]) ** 2)
    assert errors[3] < 0.75 * errors[1]


def test_choices_that_do_not_matter_weigh_little() -> None:
    """The score has nothing of choices 5, 6 and 7 if their shares are left out."""
    told = drawn(120, 6)
    matter = told @ np.array([0.3, 0.1, 0.05, 0.0, 0.2, 0.0, 0.0, 0.0])
    predictor = ScorePredictor(NUM_OPTIONS, told, matter)
    assert max(predictor.weights_C[5:]) < 0.5 * min(predictor.weights_C[[0, 1, 2, 4]])


def test_the_loss_is_that_of_leaving_each_out() -> None:
    told = drawn(20, 4)
    targets = score(told) - score(told).mean()
    plain = covariance(told, told, np.full(len(NUM_OPTIONS), 0.2))
    [found] = leave_one_out_losses(*np.linalg.eigh(plain), targets, noises=[0.05])
    noisy = plain + 0.05 * np.eye(20)
    losses = []
    for i in range(20):
        others = np.arange(20) != i
        outer = np.linalg.solve(noisy[np.ix_(others, others)], noisy[others, i])
        variance = noisy[i, i] - noisy[others, i] @ outer
        losses.append((targets[i] - outer @ targets[others]) ** 2 / variance + np.log(variance))
    np.testing.assert_allclose(found, np.mean(losses), atol=1e-6)


def test_the_loss_of_some_scores_is_that_of_predicting_each_from_the_others() -> None:
    """Weights, noise and variance of all; the density of a score is that of its target, bent."""
    told = drawn(12, 5)
    scores = 0.5 - 0.3 * np.exp(-score(told))
    fitted = ScorePredictor(NUM_OPTIONS, told, scores)
    noisy = covariance(told, told, fitted.weights_C) + fitted.noise * np.eye(12)
    targets, slopes = fitted.scale.targets(scores), fitted.scale.log_slopes(scores)
    is_high = scores >= np.median(scores)
    losses = []
    for i in np.flatnonzero(is_high):
        others = np.arange(12) != i
        outer = np.linalg.solve(noisy[np.ix_(others, others)], noisy[others, i])
        variance = fitted.variance * (noisy[i, i] - noisy[others, i] @ outer)
        error = targets[i] - outer @ targets[others]
        losses.append((error**2 / variance + np.log(variance)) / 2 - slopes[i])
    assert fitted.leave_one_out_loss(is_high) == pytest.approx(np.mean(losses), abs=1e-6)


@pytest.mark.parametrize("room", [math.inf, 0.5])
def test_a_scale_goes_there_and_back(room: float) -> None:
    scores = score(drawn(20, 7))
    scale = Scale.of(scores, room)
    targets = scale.targets(scores)
    assert targets.mean() == pytest.approx(0, abs=1e-9) and targets.std() == pytest.approx(1)
    back, no_deviation = scale.scores(targets, np.zeros(20))
    np.testing.assert_allclose(back, scores)
    np.testing.assert_allclose(no_deviation, 0)
    slopes = (scale.targets(scores + 1e-6) - scale.targets(scores - 1e-6)) / 2e-6
    np.testing.assert_allclose(scale.log_slopes(scores), np.log(slopes), atol=1e-5)
    draws = np.random.default_rng(8).normal(0.3, 0.4, 400_000)
    drawn_scores, _ = scale.scores(draws, np.zeros_like(draws))
    mean, deviation = scale.scores(np.array(0.3), np.array(0.4))
    assert mean == pytest.approx(drawn_scores.mean(), abs=0.01 * scores.std())
    assert deviation == pytest.approx(drawn_scores.std(), rel=0.02)


def test_scores_that_press_against_a_top_are_learnt_as_such() -> None:
    """Main effects on the distance to the top: few scores are enough, and what is predicted stays
    below it. The best archs are told first, and only the last ones are fitted to."""
    pressed = drawn(400, 9)
    effects = pressed @ np.array([1.0, 0.5, 0.3, 0.0, 0.4, 0.2, 0.1, 0.2])
    scores = 0.5 - 0.3 * np.exp(-effects)
    told, new = slice(0, 40), slice(40, 400)
    predictor = ScorePredictor(NUM_OPTIONS, pressed[told], scores[told])
    assert predictor.scale.top < math.inf
    mean, _ = predictor.predict(pressed[new])
    good = scores[new] > np.median(scores)
    error = np.sqrt(np.mean((mean - scores[new])[good] ** 2))
    assert error < 0.2 * scores[new][good].std()
    order = np.argsort(-scores)
    mean, deviation = ScorePredictor(NUM_OPTIONS, pressed[order], scores[order]).predict(pressed)
    assert np.isfinite(mean).all() and np.isfinite(deviation).all() and (mean < 0.51).all()


def test_equal_scores_are_no_trouble() -> None:
    told = drawn(10, 5)
    mean, deviation = ScorePredictor(NUM_OPTIONS, told, np.full(10, 0.5)).predict(drawn(4, 6))
    np.testing.assert_allclose(mean, 0.5)
    assert np.isfinite(deviation).all()
