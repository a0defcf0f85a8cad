"""Multi-objective tools: domination, Pareto fronts, hypervolume. No torch here.

A point is a row of numbers that are all minimised: the score is negated.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vipnas.quantities import DEFAULT_OBJECTIVES, SCORE, Cost, Objective
from vipnas.search.trial import Trial

# N points, M objectives

Floats: TypeAlias = NDArray[np.float64]
Integers: TypeAlias = NDArray[np.int64]
K = TypeVar("K")


def to_minimise(fitness: float, cost: Cost, objectives: Sequence[Objective]) -> tuple[float, ...]:
    """Return the point of an architecture."""
    return tuple(-fitness if name == SCORE else cost.value(name) for name in objectives)


def points_of(trials: Iterable[Trial], objectives: Sequence[Objective]) -> Floats:
    """Return the points of all trials with a score, in their order."""
    points = [to_minimise(t.fitness, t.cost, objectives) for t in trials if t.score is not None]
    return np.array(points, dtype=np.float64).reshape(len(points), len(objectives))


def to_unit_box(points: Mapping[K, Floats]) -> dict[K, Floats]:
    """Scale the points of several searches, so that the box around all of them is 0 to 1."""
    everything_NM = np.concatenate(list(points.values()))
    if not len(everything_NM):
        return dict(points)
    low_M, high_M = everything_NM.min(axis=0), everything_NM.max(axis=0)
    scale_M = np.where(high_M > low_M, high_M - low_M, 1.0)
    return {name: (found_NM - low_M) / scale_M for name, found_NM in points.items()}


def pareto_front(
    trials: Iterable[Trial], objectives: Sequence[Objective] = DEFAULT_OBJECTIVES
) -> list[Trial]:
    """Return the trials that no other dominates, the cheapest first.

    Of trials with equal points the first is kept. Failures are left out.
    """
    first: dict[tuple[float, ...], Trial] = {}
    for trial in trials:
        if trial.score is not None:
            first.setdefault(to_minimise(trial.fitness, trial.cost, objectives), trial)
    points_NM = np.array(list(first), dtype=np.float64).reshape(len(first), len(objectives))
    ranks_N = domination_ranks(points_NM, enough=1)
    front = [trial for trial, rank in zip(first.values(), ranks_N, strict=True) if rank == 0]
    cheapest_first = [*(objective for objective in objectives if objective != SCORE), SCORE]
    return sorted(front, key=lambda trial: to_minimise(trial.fitness, trial.cost, cheapest_first))


def domination_ranks(points_NM: Floats, enough: int | None = None) -> Integers:
    """Return the rank of every point in non-dominated sorting.

    Rank 0 is the front; rank 1 is the front without the points of rank 0, and so on.

    Args:
        points_NM: The points.
        enough: Stop when this many points have a rank; the others share the next rank.
    """
    no_worse_NN = np.logical_and.reduce(points_NM[:, None] <= points_NM[None], axis=2)
    beats_NN: NDArray[np.bool_] = no_worse_NN & ~no_worse_NN.T
    beaten_by_N = beats_NN.sum(axis=0)
    ranks_N = np.full(len(points_NM), -1, dtype=np.int64)
    wanted = len(points_NM) if enough is None else min(enough, len(points_NM))
    rank = 0
    while np.count_nonzero(ranks_N >= 0) < wanted:
        front_N = (ranks_N < 0) & (beaten_by_N == 0)
        ranks_N[front_N] = rank
        beaten_by_N -= beats_NN[front_N].sum(axis=0)
        rank += 1
    ranks_N[ranks_N < 0] = rank
    return ranks_N


def crowding_distances(points_NM: Floats) -> Floats:
    """Return the crowding distance of every point of a front.

    It is the sum over the objectives of the gap between both neighbours, relative to the range;
    infinite at the ends.
    """
    distances_N = np.zeros(len(points_NM))
    for values_N in points_NM.T:
        order_N = np.argsort(values_N, kind="stable")
        sorted_N = values_N[order_N]
        distances_N[order_N[[0, -1]]] = np.inf
        if sorted_N[-1] > sorted_N[0]:
            gaps = (sorted_N[2:] - sorted_N[:-2]) / (sorted_N[-1] - sorted_N[0])
            distances_N[order_N[1:-1]] += gaps
    return distances_N


def hypervolume(points: ArrayLike, reference: Sequence[float]) -> float:
    """Return the exact hypervolume of the points, for any number of objectives.

    Args:
        points: The points.
        reference: A point that is worse than they are. Points beyond it are ignored.
    """
    found_NM = np.asarray(points, dtype=np.float64).reshape(-1, len(reference))
    within_NM = found_NM[(found_NM < np.asarray(reference)).all(axis=1)]
    return _volume(within_NM[np.argsort(within_NM[:, -1], kind="stable")], reference)


def _volume(sorted_NM: Floats, reference: Sequence[float]) -> float:
    """Sum slabs along the last objective, by which the points are sorted."""
    if not len(sorted_NM):
        return 0.0
    if len(reference) == 1:
        return float(reference[0] - sorted_NM[0, 0])
    heights_N = np.diff(sorted_NM[:, -1], append=reference[-1])
    if len(reference) == 2:
        best_N = np.minimum.accumulate(sorted_NM[:, 0])
        return float(np.sum((reference[0] - best_N) * heights_N))
    return sum(
        float(height) * hypervolume(sorted_NM[: count + 1, :-1], reference[:-1])
        for count, height in enumerate(heights_N)
        if height > 0
    )
