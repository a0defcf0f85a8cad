"""The progress of a search, by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
from search_fixture import trial

from vipnas.quantities import Cost
from vipnas.report.progress import best_so_far, volumes_so_far
from vipnas.search.trial import Trial
from vipnas.space.image import SearchSpace


def at(space: SearchSpace, number: int, score: float | None, macs: int) -> Trial:
    return replace(trial(number, space.min_arch(), score), cost=Cost(macs, 1))


def test_the_best_so_far_skips_failures(tiny_space: SearchSpace) -> None:
    trials = [
        at(tiny_space, number, score, 1) for number, score in enumerate((None, 0.2, 0.1, 0.3))
    ]
    assert best_so_far(trials) == [None, 0.2, 0.2, 0.3]


def test_the_hypervolume_is_that_of_the_box_around_all_searches(tiny_space: SearchSpace) -> None:
    """MACs 0 to 10 and scores 0 to 1 over both searches: areas of steps, by hand."""
    first = [at(tiny_space, 0, 0.5, 5), at(tiny_space, 1, 0.25, 8), at(tiny_space, 2, 1.0, 8)]
    second = [at(tiny_space, 0, 0.0, 0), at(tiny_space, 1, 0.5, 10)]
    found = volumes_so_far({"a": first, "b": second}, ("score", "macs"))
    assert found["a"] == pytest.approx([0.25, 0.25, 0.25 + 0.5 * 0.2])
    assert found["b"] == pytest.approx([0.0, 0.0])
