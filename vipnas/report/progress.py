"""How a search improves: the best score and the hypervolume so far, trial by trial."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np

from vipnas.quantities import Objective
from vipnas.search.pareto import Floats, hypervolume, points_of, to_unit_box
from vipnas.search.trial import Trial

# N trials, M objectives

K = TypeVar("K")


def best_so_far(trials: Sequence[Trial]) -> list[float | None]:
    """Return the highest score up to each trial; None before the first score."""
    found: list[float | None] = []
    best = None
    for trial in trials:
        if trial.score is not None and (best is None or trial.score > best):
            best = trial.score
        found.append(best)
    return found


def volumes_so_far(
    searches: Mapping[K, Sequence[Trial]], objectives: Sequence[Objective]
) -> dict[K, list[float]]:
    """Return the hypervolume of the front after each scored trial, 0 to 1, by search.

    It is relative to the box around the points of all searches, so that they can be compared.
    """
    boxed = to_unit_box({name: points_of(found, objectives) for name, found in searches.items()})
    return {name: _volumes(points_NM) for name, points_NM in boxed.items()}


def _volumes(points_NM: Floats) -> list[float]:
    """Return the hypervolume of the first 1, 2, … N points, up to the point 1, …, 1."""
    front: list[Floats] = []
    found: list[float] = []
    reference = [1.0] * points_NM.shape[1]
    for point_M in points_NM:
        if any((other_M <= point_M).all() for other_M in front):
            found.append(found[-1])
            continue
        front = [other_M for other_M in front if not (point_M <= other_M).all()]
        front.append(point_M)
        found.append(hypervolume(np.array(front), reference))
    return found
