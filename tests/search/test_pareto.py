"""The trials that no other trial beats."""

from __future__ import annotations

import itertools
import math
import random
from dataclasses import replace

import numpy as np
import pytest
from search_fixture import trial

from vipnas.quantities import Cost, check_objectives
from vipnas.search.pareto import (
    crowding_distances,
    domination_ranks,
    hypervolume,
    pareto_front,
    to_minimise,
)
from vipnas.search.trial import Trial
from vipnas.space.image import SearchSpace


def trials_of(space: SearchSpace, points: list[tuple[int, float | None]]) -> list[Trial]:
    arch = space.min_arch()
    return [
        replace(trial(number, arch, score), cost=Cost(macs, 1))
        for number, (macs, score) in enumerate(points)
    ]


def numbers(front: list[Trial]) -> list[int]:
    return [found.number for found in front]


def test_a_front_by_hand(tiny_space: SearchSpace) -> None:
    points = [(30, 0.7), (10, 0.5), (20, 0.4), (20, 0.6), (40, 0.7), (5, None), (50, 0.8)]
    assert numbers(pareto_front(trials_of(tiny_space, points))) == [1, 3, 0, 6]


def test_of_equals_the_first_stands(tiny_space: SearchSpace) -> None:
    assert numbers(pareto_front(trials_of(tiny_space, [(10, 0.5), (10, 0.5), (11, 0.5)]))) == [0]


def test_failures_alone_have_no_front(tiny_space: SearchSpace) -> None:
    assert pareto_front(trials_of(tiny_space, [(10, None), (20, None)])) == []
    assert pareto_front([]) == []


def test_a_front_is_what_the_definition_says(tiny_space: SearchSpace) -> None:
    rng = random.Random(0)
    points: list[tuple[int, float | None]] = [
        (rng.randrange(20), rng.randrange(20) / 20) for _ in range(60)
    ]
    trials = trials_of(tiny_space, points)

    def beaten(one: Trial) -> bool:
        return any(
            other.cost.macs <= one.cost.macs
            and other.fitness >= one.fitness
            and (other.cost.macs, other.fitness) != (one.cost.macs, one.fitness)
            for other in trials
        )

    front = pareto_front(trials)
    expected = {(t.cost.macs, t.fitness) for t in trials if not beaten(t)}
    assert [(t.cost.macs, t.fitness) for t in front] == sorted(expected)


def test_a_front_of_three_objectives_by_hand(tiny_space: SearchSpace) -> None:
    costs = [Cost(1, 9, 5.0), Cost(2, 8, 4.0), Cost(2, 8, 4.0), Cost(3, 9, 6.0), Cost(9, 1, 5.0)]
    scores = [0.5, 0.5, 0.5, 0.5, 0.4]
    trials = [
        replace(trial(number, tiny_space.min_arch(), score), cost=cost)
        for number, (cost, score) in enumerate(zip(costs, scores, strict=True))
    ]
    assert numbers(pareto_front(trials, ("score", "macs", "params"))) == [0, 1, 4]
    assert numbers(pareto_front(trials, ("latency_ms", "score"))) == [1]
    assert numbers(pareto_front(trials, ("score",))) == [0]


def test_what_is_made_small() -> None:
    objectives = ("latency_ms", "score", "params")
    assert to_minimise(0.25, Cost(7, 8, 1.5), objectives) == (1.5, -0.25, 8)


@pytest.mark.parametrize(
    "objectives", [(), ("macs",), ("score", "macs", "score"), ("score", "flops")]
)
def test_objectives_without_the_score_or_twice_are_refused(objectives: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="objectives: expected score and any of macs"):
        check_objectives(objectives)


@pytest.mark.parametrize("num_objectives", [1, 2, 3, 4])
def test_ranks_are_what_the_definition_says(num_objectives: int) -> None:
    """Take the front away, and the front of the rest, until nothing is left."""
    points = np.random.default_rng(0).integers(0, 6, (60, num_objectives)).astype(float)
    left = set(range(60))
    expected = np.zeros(60)
    for rank in itertools.count():
        front = {
            i
            for i in left
            if not any(
                (points[j] <= points[i]).all() and (points[j] < points[i]).any() for j in left
            )
        }
        expected[list(front)] = rank
        left -= front
        if not left:
            break
    assert (domination_ranks(points) == expected).all()
    two_fronts = int(np.count_nonzero(expected <= 1))
    assert (domination_ranks(points, enough=two_fronts) == np.minimum(expected, 2)).all()
    assert (domination_ranks(points, enough=1) == np.minimum(expected, 1)).all()


def test_crowding_by_hand() -> None:
    points = np.array([[0.0, 10.0], [4.0, 0.0], [1.0, 6.0], [2.0, 5.0]])
    assert crowding_distances(points).tolist() == [
        math.inf,
        math.inf,
        2 / 4 + 5 / 10,
        3 / 4 + 6 / 10,
    ]
    assert crowding_distances(np.ones((3, 2))).tolist() == [math.inf, 0.0, math.inf]
    assert crowding_distances(np.ones((1, 2))).tolist() == [math.inf]


def test_a_hypervolume_by_hand() -> None:
    # (1, 3) and (2, 1) before (4, 4): 3 x 1 + 2 x 2; (3, 3) is beaten, (5, 0) lies beyond.
    points = [(2, 1), (3, 3), (1, 3), (5, 0), (2, 1)]
    assert hypervolume(points, (4, 4)) == 7
    assert hypervolume([], (4, 4)) == hypervolume([(4, 0)], (4, 4)) == 0
    assert hypervolume([(1,), (3,)], (4,)) == 3
    # Two boxes of 2 x 2 x 2 that share a cube of one.
    assert hypervolume([(1, 0, 1), (0, 1, 0)], (2, 2, 2)) == 1 * 2 * 1 + 2 * 1 * 2 - 1


@pytest.mark.parametrize("num_objectives", [2, 3, 4])
def test_a_hypervolume_is_the_number_of_cells_covered(num_objectives: int) -> None:
    side = 7
    points = np.random.default_rng(1).integers(0, side, (25, num_objectives))
    cells = itertools.product(range(side), repeat=num_objectives)
    covered = sum(any((point <= cell).all() for point in points) for cell in cells)
    assert hypervolume(points, [side] * num_objectives) == covered
