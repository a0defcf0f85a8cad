"""Which archs to score next: those that are expected to add most hypervolume. No torch here.

Costs are known, only the score is not: it is taken as normal, with the predicted mean and deviation.
The hypervolume is the mean, over points in the space of costs, of the best score that is to be had
at these costs; so what an arch is expected to add is the mean of its expected improvements (Mockus,
1978) over the points that its costs are within. Without costs it is the expected improvement itself.
"""  # noqa: E501

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from vipnas.search.pareto import Floats, Integers

# P archs to choose from, N archs told, M costs, Q points in the space of costs

NUM_POINTS = 500
NUM_KEPT = 200  # a later choice of a batch is hardly ever outside of what the first puts in front
PORTION = 1000
# A little room beyond the dearest, so that it counts too.
BEYOND = 1.05

# What a standard normal number is above -z on average, for z in -8..8; beyond them 0 and z.
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
    """Indices of up to `count` archs, each the one that is expected to add most to those told and
    those before it, as if they had been scored and had their means."""
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
    """How far a normal number is above `best` on average, where it is not counted as 0."""
    spread = np.maximum(deviation, 1e-12)
    z = (mean - best) / spread
    result: Floats = spread * np.where(z > 8, z, np.interp(z, _Z, _ABOVE))
    return result


def _points_within(costs_NM: Floats) -> Floats:
    """Points spread evenly over the box of the costs: Roberts' sequence, of which every part is
    even in every number of dimensions."""
    low_M, high_M = costs_NM.min(axis=0), costs_NM.max(axis=0)
    dimensions = costs_NM.shape[1]
    root = 2.0
    for _ in range(50):  # of x ** (dimensions + 1) = x + 1
        root = (1 + root) ** (1 / (dimensions + 1))
    steps_M = root ** -np.arange(1.0, dimensions + 1)
    shares_QM = (0.5 + np.arange(NUM_POINTS)[:, None] * steps_M) % 1.0
    result: Floats = low_M + BEYOND * shares_QM * (high_M - low_M)
    return result
