"""Which archs a step trains: a pure function of the seed and the step."""

from __future__ import annotations

import random

from vipnas.space import SearchSpace
from vipnas.training.sandwich import archs_of_step, sandwich


def test_the_largest_first_the_smallest_last_random_ones_between(tiny_space: SearchSpace) -> None:
    archs = list(sandwich(tiny_space, random.Random(0), 3))
    rng = random.Random(0)
    between = [tiny_space.sample(rng) for _ in range(3)]
    assert archs == [tiny_space.max_arch(), *between, tiny_space.min_arch()]
    ends = list(sandwich(tiny_space, random.Random(0), 0))
    assert ends == [tiny_space.max_arch(), tiny_space.min_arch()]


def test_the_archs_of_a_step_depend_on_seed_and_step_only(tiny_space: SearchSpace) -> None:
    forwards = [archs_of_step(tiny_space, 1, step, 2) for step in range(20)]
    before = random.getstate()
    backwards = [archs_of_step(tiny_space, 1, step, 2) for step in reversed(range(20))]
    assert forwards == backwards[::-1]
    assert random.getstate() == before
    drawn = {tuple(archs[1:-1]) for archs in forwards}
    assert len(drawn) == 20
    assert drawn.isdisjoint(
        tuple(archs_of_step(tiny_space, 2, step, 2)[1:-1]) for step in range(20)
    )


def test_seed_and_step_do_not_run_into_each_other(tiny_space: SearchSpace) -> None:
    assert archs_of_step(tiny_space, 1, 11, 2) != archs_of_step(tiny_space, 11, 1, 2)


def test_more_random_archs_keep_the_first_ones(tiny_space: SearchSpace) -> None:
    two, three = (archs_of_step(tiny_space, 0, 5, number) for number in (2, 3))
    assert two[:3] == three[:3]
