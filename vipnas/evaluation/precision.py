"""Score thresholds by the precision that they are expected to give. N joints."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray


def score_threshold(
    scores_N: NDArray[np.floating], is_right_N: NDArray[np.bool_], precision: float
) -> float:
    """Return the lowest score from which joints are right with a precision.

    Args:
        scores_N: Scores of joints with known labels.
        is_right_N: Whether each is right.
        precision: Wanted share of right joints among those that score at least the threshold.

    Returns:
        One of the scores; infinity if none gives the precision.
    """
    order = np.argsort(-scores_N, kind="stable")
    scores_N, is_right_N = scores_N[order], is_right_N[order]
    shares_N = np.cumsum(is_right_N) / np.arange(1, len(scores_N) + 1)
    # Joints of equal score are above a threshold together.
    is_last_N = np.append(scores_N[1:] != scores_N[:-1], True)[: len(scores_N)]
    good = np.flatnonzero((shares_N >= precision) & is_last_N)
    return float(scores_N[good[-1]]) if len(good) else math.inf
