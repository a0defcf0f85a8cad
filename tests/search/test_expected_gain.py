"""Expected gains against hypervolumes, by hand, and against draws."""

from __future__ import annotations

import numpy as np
import pytest

from vipnas.search.expected_gain import expected_improvement, most_gain
from vipnas.search.pareto import Floats, hypervolume


def test_an_expected_improvement_is_the_mean_of_many_drawn() -> None:
    drawn = np.random.default_rng(0).standard_normal(400_000)
    for mean, deviation, best in ((0.3, 0.1, 0.35), (0.3, 0.1, 0.1), (0.0, 2.0, 3.0)):
        improvements = np.maximum(mean + deviation * drawn - best, 0)
        found = expected_improvement(np.array([mean]), np.array([deviation]), np.array([best]))
        assert found[0] == pytest.approx(improvements.mean(), rel=0.02)


def test_without_doubt_it_is_what_is_above() -> None:
    means, sure = np.array([0.5, 0.3, 0.2]), np.zeros(3)
    found = expected_improvement(means, sure, np.full(3, 0.25))
    np.testing.assert_allclose(found, [0.25, 0.05, 0.0], atol=1e-9)


def test_a_batch_by_hand() -> None:
    """Told are 0.1 for a cost of 0 and 0.9 for one of 1. Of those known without doubt, 0.7 at 0.2
    adds most; after it 0.6 at 0.1 adds 0.5 over a tenth of the costs, 0.8 at 0.6 adds 0.1 over
    four tenths; 0.5 at 0.9 adds nothing."""
    means = np.array([0.5, 0.6, 0.8, 0.7])
    costs = np.array([[0.9], [0.1], [0.6], [0.2]])
    told = (np.array([0.1, 0.9]), np.array([[0.0], [1.0]]))
    assert most_gain(means, np.zeros(4), costs, *told, 3) == [3, 1, 2]
    assert sorted(most_gain(means, np.zeros(4), costs, *told, 9)) == [0, 1, 2, 3]


@pytest.mark.parametrize("num_costs", [1, 2])
def test_what_is_chosen_adds_most_hypervolume(num_costs: int) -> None:
    """Scores known without doubt: as by trying each. Equal up to the coarseness of the points."""
    rng = np.random.default_rng(num_costs)
    costs = rng.random((60, num_costs))
    scores = costs.mean(axis=1) ** 0.5 + 0.2 * rng.random(60)
    told, new = slice(0, 20), slice(20, 60)
    low, high = costs.min(axis=0), costs.max(axis=0)
    reference = (-scores[told].min(), *(low + 1.05 * (high - low)))

    def volume(rows: list[int]) -> float:
        points: Floats = np.column_stack((-scores, costs))[[*range(20), *rows]]
        return hypervolume(points, reference)

    chosen = [
        20 + i
        for i in most_gain(
            scores[new], np.zeros(40), costs[new], scores[told], costs[told], count=4
        )
    ]
    for number, index in enumerate(chosen):
        before = chosen[:number]
        best = max(volume([*before, i]) for i in range(20, 60) if i not in before)
        assert volume([*before, index]) - volume(before) > 0.8 * (best - volume(before))


def test_doubt_is_worth_something_and_without_costs_the_score_is_all() -> None:
    means, deviations = np.array([0.50, 0.49, 0.30]), np.array([0.01, 0.05, 0.05])
    no_costs = np.empty((3, 0))
    chosen = most_gain(means, deviations, no_costs, np.array([0.5]), np.empty((1, 0)), 3)
    assert chosen == [1, 0, 2]
