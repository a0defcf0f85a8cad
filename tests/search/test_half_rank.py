"""Half-rank warping by hand, and what a search makes of scores in two heaps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from tools.benchmarks.search_problems import Genes, GeneSpace, searched
from vipnas.config.search import Predictor
from vipnas.quantities import Cost
from vipnas.search.constraints import FeasibleSpace
from vipnas.search.half_rank import half_rank_warped
from vipnas.search.searchers_predictor import PredictorSearcher


def test_by_hand() -> None:
    """The median is 0.7; the deviation of 0.7, 0.8 and 0.9 from it is sqrt(0.05 / 3) = 0.12910.

    The lowest two of five are the quantiles 0.1 and 0.3: -1.28155 and -0.52440 deviations.
    """
    warped = half_rank_warped(np.array([0.8, 0.1, 0.7, 0.2, 0.9]))
    np.testing.assert_allclose(warped, [0.8, 0.53455, 0.7, 0.63230, 0.9], atol=1e-5)


def test_equal_scores_stay_equal() -> None:
    """Both of the lowest are the quantile of the first: 0.1."""
    warped = half_rank_warped(np.array([0.1, 0.9, 0.1, 0.7, 0.8]))
    assert warped[0] == warped[2] == pytest.approx(0.53455, abs=1e-5)
    np.testing.assert_array_equal(half_rank_warped(np.full(4, 0.5)), np.full(4, 0.5))
    np.testing.assert_array_equal(half_rank_warped(np.array([0.1, 0.5, 0.5])), [0.1, 0.5, 0.5])


@pytest.mark.parametrize("depth", [0.0, 0.5])
def test_a_lower_heap_does_not_hide_which_of_the_higher_ones_are_best(depth: float) -> None:
    """Two choices together make a quarter of all scores lower by `depth`, the others move little.

    The best score of 128 architectures within 18, wherever the lower heap lies.
    """
    space = GeneSpace([2] * 7)

    def score(genes: Sequence[int]) -> float:
        gains = sum(0.001 * 0.6**i * gene for i, gene in enumerate(genes[2:]))
        return 0.7 + gains - depth * genes[0] * genes[1]

    def cost_of(genes: Genes) -> Cost:
        return Cost(macs=1, params=1)

    for seed in range(3):
        feasible = FeasibleSpace(space, cost_of, ())
        searcher = PredictorSearcher(feasible, seed, Predictor(num_initial=6), ("score",))
        best = max(-point[0] for point in searched(searcher, score, cost_of, 18))
        assert best == score((0, 0, 1, 1, 1, 1, 1))
