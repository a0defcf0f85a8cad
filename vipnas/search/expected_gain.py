"""Expected hypervolume improvement with known costs. No torch here.

Only the score is uncertain: it is normal with the predicted mean and deviation. The hypervolume is
a mean over points in the space of costs, of the best score at these costs. So the expected gain of
an architecture is its mean expected improvement (Mockus, 1978) over the points that its costs are
within. Without costs it is the expected improvement itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from vipnas.search.pareto import Floats, Integers

# P candidate architectures, N scored ones, M costs, Q points in the space of costs

NUM_POINTS = 500
NUM_KEPT = 200  # the rest of a batch is almost always among the best of its first choice
PORTION = 1000
# Points reach a little beyond the most expensive architecture, so that it counts too.
BEYOND = 1.05

# Expected improvement of a standard normal variable over -z, for z in -8..8; outside 0 and z.
_Z = np.linspace(-8, 8, 4001)
_ABOVE = np.array(
    [z * math.erfc(-z / math.sqrt(2)) / 2 + math.exp(-z * z / 2) / math.sqrt(math.tau) for z in _Z]
)


def most_gain(
    mean_P: Floats,
    deviation_P: Floats,
    costs_PM: Floats,
    scores_N: Floats,
    told_costs_NM: Floats,
    count: int,
) -> list[int]:
    """Choose architectures greedily by expected hypervolume improvement.

    Each choice counts as scored, with its predicted mean, for the choices after it.

    Args:
        mean_P: Predicted scores of the candidates.
        deviation_P: Their standard deviations.
        costs_PM: Their costs.
        scores_N: Known scores.
        told_costs_NM: Costs of the architectures with known scores.
        count: Most architectures to choose.

    Returns:
        Indices of candidates, in the order of the choices.
    """
    costs_QM = _points_within(np.concatenate((costs_PM, told_costs_NM)))
    best_Q = np.full(len(costs_QM), scores_N.min())
    for score, costs_M in zip(scores_N, told_costs_NM, strict=True):
        best_Q = np.where((costs_M <= costs_QM).all(axis=1), np.maximum(best_Q, score), best_Q)

    def gains(indices: Sequence[int] | Integers) -> Floats:
        within = (costs_PM[indices, None] <= costs_QM[None]).all(axis=2)
        improvements = expected_improvement(
            mean_P[indices, None], deviation_P[indices, None], best_Q[None]
        )
        result: Floats = (within * improvements).mean(axis=1)
        return result

    portions = np.array_split(np.arange(len(mean_P)), -(-len(mean_P) // PORTION))
    gains_P = np.concatenate([gains(portion) for portion in portions])
    left = np.argsort(-gains_P, kind="stable")[: max(NUM_KEPT, count)].tolist()
    chosen: list[int] = []
    while left and len(chosen) < count:
        best = left.pop(int(np.argmax(gains(left))))
        chosen.append(best)
        within_Q = (costs_PM[best] <= costs_QM).all(axis=1)
        best_Q = np.where(within_Q, np.maximum(best_Q, mean_P[best]), best_Q)
    return chosen


def expected_improvement(mean: Floats, deviation: Floats, best: Floats) -> Floats:
    """Return the mean of max(0, x - best) for x normal with this mean and deviation."""
    spread = np.maximum(deviation, 1e-12)
    z = (mean - best) / spread
    result: Floats = spread * np.where(z > 8, z, np.interp(z, _Z, _ABOVE))
    return result


def _points_within(costs_NM: Floats) -> Floats:
    """Return quasi-random points in the bounding box of the costs: Roberts' R sequence."""
    low_M, high_M = costs_NM.min(axis=0), costs_NM.max(axis=0)
    dimensions = costs_NM.shape[1]
    if not dimensions:
        return np.empty((1, 0))
    root = 2.0
    for _ in range(50):  # of x ** (dimensions + 1) = x + 1
        root = (1 + root) ** (1 / (dimensions + 1))
    steps_M = root ** -np.arange(1.0, dimensions + 1)
    shares_QM = (0.5 + np.arange(NUM_POINTS)[:, None] * steps_M) % 1.0
    result: Floats = low_M + BEYOND * shares_QM * (high_M - low_M)
    return result
