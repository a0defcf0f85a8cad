"""How much each choice matters to the score, by a predictor that is fitted to the trials."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import kendalltau

from vipnas.report.choices import Choices
from vipnas.search.pareto import Floats, Integers
from vipnas.search.score_predictor import ScorePredictor
from vipnas.search.trial import Trial

# N architectures, C choices, O options

# Fewer scores than this say nothing about a choice.
MIN_SCORES = 16
# The fit is cubic in the number of scores.
MAX_SCORES = 240
NUM_BASES, NUM_FOLDS = 100, 5


@dataclass(frozen=True)
class Importance:
    """What a predictor of scores says about the choices.

    Attributes:
        choices: The choices.
        scores_N: The scores that it was fitted to.
        effects: For each choice, how far the predicted score moves between its best and its worst
            option while all others stay: the mean over architectures.
        mean_error: The mean absolute error of predictions of scores that were left out of the fit.
        guess_error: The same of predicting the mean score always.
        rank_correlation: Kendall's tau between those predictions and the scores.
    """

    choices: Choices
    scores_N: Floats
    effects: tuple[float, ...]
    mean_error: float
    guess_error: float
    rank_correlation: float


def importance_of(trials: Sequence[Trial]) -> Importance | None:
    """Fit a predictor to trials; return None where they are too few or do not differ."""
    scored = _spread_out(list({t.arch: t for t in trials if _is_whole(t)}.values()))
    choices = Choices.of([trial.arch for trial in scored])
    scores_N = np.array([trial.fitness for trial in scored])
    if len(scored) < MIN_SCORES or not choices.names or not scores_N.std():
        return None
    predictor = ScorePredictor(choices.num_options, choices.genes_NC, scores_N)
    left_out_N, means_N = _cross_validated(choices, scores_N)
    return Importance(
        choices,
        scores_N,
        tuple(_effect(predictor, choices, number) for number in range(len(choices.names))),
        float(np.abs(left_out_N - scores_N).mean()),
        float(np.abs(means_N - scores_N).mean()),
        float(kendalltau(left_out_N, scores_N).statistic),
    )


def _is_whole(trial: Trial) -> bool:
    return trial.score is not None and not trial.partial


def _spread_out(trials: list[Trial]) -> list[Trial]:
    """Return at most `MAX_SCORES` trials, evenly over their order."""
    if len(trials) <= MAX_SCORES:
        return trials
    chosen = np.linspace(0, len(trials) - 1, MAX_SCORES).round().astype(int)
    return [trials[number] for number in chosen]


def _effect(predictor: ScorePredictor, choices: Choices, choice: int) -> float:
    step = max(1, len(choices.genes_NC) // NUM_BASES)
    bases_NC: Integers = choices.genes_NC[::step]
    predicted = []
    for option in range(choices.num_options[choice]):
        changed_NC = bases_NC.copy()
        changed_NC[:, choice] = option
        predicted.append(predictor.predict(changed_NC)[0])
    predicted_ON = np.array(predicted)
    return float((predicted_ON.max(axis=0) - predicted_ON.min(axis=0)).mean())


def _cross_validated(choices: Choices, scores_N: Floats) -> tuple[Floats, Floats]:
    """Return predictions of each score by fits without its fold, and the mean of those fits."""
    folds_N = np.random.default_rng(0).permutation(len(scores_N)) % NUM_FOLDS
    predicted_N, means_N = np.zeros_like(scores_N), np.zeros_like(scores_N)
    for fold in range(NUM_FOLDS):
        out_N = folds_N == fold
        fitted = ScorePredictor(choices.num_options, choices.genes_NC[~out_N], scores_N[~out_N])
        predicted_N[out_N] = fitted.predict(choices.genes_NC[out_N])[0]
        means_N[out_N] = scores_N[~out_N].mean()
    return predicted_N, means_N
