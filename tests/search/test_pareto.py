"""The trials that no other trial beats."""

from __future__ import annotations

import random
from dataclasses import replace

from search_fixture import trial

from vipnas.results import Cost, Trial
from vipnas.search.pareto import pareto_front
from vipnas.space import SearchSpace


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
