"""Half-rank warping of scores, for a search of the best one. No torch here.

Scores may lie in two heaps: clips whose frames all see the heatmaps before, and the others. A
process that is fitted to both spends its likelihood on the distance between them. Which scores are
low is enough: it is the differences among the high ones that the search must predict.
"""

from __future__ import annotations

from statistics import NormalDist

import numpy as np

from vipnas.search.pareto import Floats


def half_rank_warped(scores_N: Floats) -> Floats:
    """Return scores whose lower half is as far from the median as a normal one would be.

    Scores from the median up stay. Those below keep their order, and become quantiles of the normal
    distribution around the median, whose deviation is that of the upper half (Song et al., "The
    Vizier Gaussian Process Bandit Algorithm", arXiv 2408.11527, 2024).

    Args:
        scores_N: Finite scores, at least one.
    """
    median = float(np.median(scores_N))
    is_low_N = scores_N < median
    deviation = float(np.sqrt(np.mean((scores_N[~is_low_N] - median) ** 2)))
    if deviation == 0.0:
        return scores_N
    low_L, of_score_N = np.unique(scores_N[is_low_N], return_inverse=True)
    ranks_L = np.searchsorted(np.sort(scores_N), low_L)
    normal = NormalDist(median, deviation)
    quantiles_L = np.array([normal.inv_cdf((rank + 0.5) / len(scores_N)) for rank in ranks_L])
    warped_N = scores_N.copy()
    warped_N[is_low_N] = quantiles_L[of_score_N]
    return warped_N
