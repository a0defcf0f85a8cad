"""The progress of a search, by hand."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from search_fixture import trial

from vipnas.quantities import Cost
from vipnas.report.blocks import Charts
from vipnas.report.progress import best_so_far, volumes_so_far
from vipnas.report.searches import progress
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


@pytest.mark.parametrize(
    ("objectives", "titles"),
    [
        (("score",), ["best score so far"]),
        (("score", "macs"), ["best score so far", "hypervolume of score, macs"]),
    ],
)
def test_only_several_objectives_have_a_hypervolume(
    tiny_space: SearchSpace, objectives: tuple[str, ...], titles: list[str]
) -> None:
    trials = [at(tiny_space, 0, 0.5, 5), at(tiny_space, 1, 0.25, 8)]
    run: Any = SimpleNamespace(
        name="mine",
        method="evolution",
        searched=trials,
        randoms=trials,
        objectives=objectives,
        early_ends={},
    )
    section = progress([run])
    assert section is not None
    (block,) = section.blocks
    assert isinstance(block, Charts)
    assert [chart.title for chart in block.charts] == titles
    first, second = block.charts[0].series
    assert (first.name, list(first.y), first.dashed) == ("evolution", [0.5, 0.5], False)
    assert (second.name, list(second.x), second.dashed) == ("random", [1, 2], True)
