"""Hard budgets: what an arch may cost, and proposals that keep to it. No torch here."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from vipnas.arch import Arch
from vipnas.files import Strict
from vipnas.results import Cost
from vipnas.space import SearchSpace

CostOf = Callable[[Arch], Cost]


@dataclass(frozen=True)
class Constraint(Strict):
    """A hard range of one quantity of `Cost`, both ends allowed."""

    quantity: Literal["macs", "params"]
    at_most: float
    at_least: float = 0

    def __post_init__(self) -> None:
        if not self.at_least <= self.at_most:  # not-a-number neither
            raise ValueError(
                f"{self.quantity}: found at_least {self.at_least:g} and at_most {self.at_most:g},"
                " allowed are numbers with at_least not above at_most"
            )

    def excess(self, cost: Cost) -> float:
        """How far outside the range, in its unit: above 0 too much, below 0 too little."""
        value: int = getattr(cost, self.quantity)
        return max(0.0, value - self.at_most) or min(0.0, value - self.at_least)


class NoneFound(ValueError):
    """Budgets that may be met by some arch, but none was found."""


class FeasibleSpace:
    """A search space under budgets: every arch that it hands out keeps to all of them.

    Raises ValueError when built if a budget lies outside what the space can reach, with the nearest
    value that it can; NoneFound when asked, if budgets can hardly be met together.
    """

    def __init__(
        self, space: SearchSpace, cost_of: CostOf, constraints: Sequence[Constraint]
    ) -> None:
        self.space = space
        self.cost_of = cost_of
        self.constraints = tuple(constraints)
        smallest, largest = cost_of(space.min_arch()), cost_of(space.max_arch())
        for constraint in self.constraints:
            name = constraint.quantity
            low, high = getattr(smallest, name), getattr(largest, name)
            if constraint.at_most < low:
                raise ValueError(
                    f"constraint {name}: at_most {constraint.at_most:,.0f} cannot be met: the"
                    f" smallest arch of {space.name} has {low:,}"
                )
            if constraint.at_least > high:
                raise ValueError(
                    f"constraint {name}: at_least {constraint.at_least:,.0f} cannot be met: the"
                    f" largest arch of {space.name} has {high:,}"
                )

    def __contains__(self, arch: Arch) -> bool:
        cost = self.cost_of(arch)
        return not any(constraint.excess(cost) for constraint in self.constraints)

    def sample(self, rng: random.Random) -> Arch:
        """A random member within the budgets: uniform where rejection finds one, else repaired."""
        return self.within(lambda: self.space.sample(rng), rng)

    def within(self, propose: Callable[[], Arch], rng: random.Random, tries: int = 50) -> Arch:
        """The first proposal that keeps to the budgets; after `tries`, the last one, repaired."""
        for _ in range(tries):
            arch = propose()
            if arch in self:
                return arch
        return self._repaired(arch, rng)

    def _repaired(self, arch: Arch, rng: random.Random) -> Arch:
        """Move random choices by one option, smaller or larger, until every budget is kept."""
        genes = list(self.space.encode(arch))
        num_options = self.space.num_options
        for _ in range(20 * sum(num_options)):
            cost = self.cost_of(self.space.decode(genes))
            broken = [excess for c in self.constraints if (excess := c.excess(cost))]
            if not broken:
                return self.space.decode(genes)
            # Several budgets may pull both ways: a random one of those broken decides.
            step = -1 if rng.choice(broken) > 0 else 1
            movable = [i for i, gene in enumerate(genes) if 0 <= gene + step < num_options[i]]
            if movable:
                genes[rng.choice(movable)] += step
        cost = self.cost_of(self.space.decode(genes))
        wanted = "; ".join(
            f"{c.quantity} {c.at_least:,.0f} to {c.at_most:,.0f}"
            f" (last try {getattr(cost, c.quantity):,})"
            for c in self.constraints
        )
        raise NoneFound(f"no arch of {self.space.name} found that keeps to all of: {wanted}")
