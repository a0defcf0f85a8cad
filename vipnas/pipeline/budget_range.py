"""The MACs that a supernet is trained for, derived from the budget of its search.

Subnets near the budget rank better if the supernet trains these only
(`experiments/reports/ranking_2026-11-26.md`).
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from vipnas.config.training import Sampling
from vipnas.pipeline.level import Level
from vipnas.quantities import LATENCY, MACS, Constraint
from vipnas.training.sampling import biased_sample

# Fractions of the budget that the range begins and ends at, as in the shipped experiments.
BELOW, ABOVE = 0.8, 1.1
# A budget in milliseconds: architectures that are sampled, and how many of them must be near it.
NUM_SAMPLES, LEAST_NEAR = 2000, 20
# Of those near the budget, as many are left out at each end of their MACs.
LEFT_OUT = 0.05


class BudgetRange(NamedTuple):
    """A range of MACs, and the budget that it comes from."""

    macs: tuple[int, int]
    budget: Constraint

    def __str__(self) -> str:
        low, high = (macs / 1e6 for macs in self.macs)
        return (
            f"random subnets of {low:,.1f} to {high:,.1f} MMACs, near the budget {self.budget}"
            " (supernet.sampling.macs_between: all trains the whole space)"
        )


def budget_range(level: Level[Any]) -> BudgetRange | None:
    """Return the range near the tightest budget of the search.

    None if `macs_between` is given, or no budget on MACs or milliseconds restricts the space.
    """
    if level.supernet_config.sampling.macs_between is not None:
        return None
    return min(_ranges(level), key=lambda found: found.macs[1], default=None)


def resolved_sampling(level: Level[Any]) -> Sampling:
    """Return the sampling of a level's supernet, with the range near its budget."""
    sampling, found = level.supernet_config.sampling, budget_range(level)
    return sampling if found is None else replace(sampling, macs_between=found.macs)


def _ranges(level: Level[Any]) -> Iterator[BudgetRange]:
    space = level.space
    lowest, highest = (level.count_cost(arch).macs for arch in (space.min_arch(), space.max_arch()))
    for budget in level.budgets:
        if budget.quantity == MACS.name:
            low = max(BELOW * budget.at_most, budget.at_least)
            found = low, ABOVE * budget.at_most
        elif budget.quantity == LATENCY.name:
            found = _macs_at(level, budget)
        else:
            continue
        # A budget that all or none keep to does not say where the search will look.
        if lowest < found[1] < highest:
            yield BudgetRange((int(found[0]), int(found[1])), budget)


def _macs_at(level: Level[Any], budget: Constraint) -> tuple[float, float]:
    """Return the range of MACs of sampled architectures with about the latency of a budget."""
    cost_of, _ = level.cost_of()
    rng = random.Random("budget")
    costs = [cost_of(biased_sample(level.space, rng)) for _ in range(NUM_SAMPLES)]
    low, high = max(BELOW * budget.at_most, budget.at_least), ABOVE * budget.at_most
    near = [cost.macs for cost in costs if low <= budget.value(cost) <= high]
    if len(near) < LEAST_NEAR:
        return 0.0, 0.0
    first, last = np.quantile(near, (LEFT_OUT, 1 - LEFT_OUT))
    return float(first), float(last)
