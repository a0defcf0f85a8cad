"""Hard budgets, and proposals that keep to them. No torch here."""

from __future__ import annotations

import itertools
import logging
import math
import random
from collections.abc import Callable, Hashable, Iterator, Sequence
from functools import cached_property
from typing import Generic, Protocol, TypeAlias, TypeVar

from vipnas.errors import UserError
from vipnas.quantities import Constraint, Cost

log = logging.getLogger(__name__)

# Spaces up to this size are listed when sampling finds nothing more, which takes a few seconds.
ENUMERABLE = 1 << 15
# Up to this size, for a predictor: some seconds of counting.
QUICKLY_LISTED = 1 << 17
# Up to this size, where nothing else finds an arch: some minutes of counting.
LISTABLE = 1 << 22

A = TypeVar("A", bound=Hashable)
CostOf: TypeAlias = Callable[[A], Cost]


class Space(Protocol[A]):
    """What a search needs from a space of any kind of architecture.

    Genes are one index per choice, below its entry in `num_options`. All combinations are in the
    space. An architecture may have `num_parts` parts with the same choices, one after the other.
    """

    @property
    def name(self) -> str: ...
    @property
    def num_options(self) -> tuple[int, ...]: ...
    @property
    def num_parts(self) -> int: ...
    def encode(self, arch: A) -> tuple[int, ...]: ...
    def decode(self, genes: Sequence[int]) -> A: ...
    def sample(self, rng: random.Random) -> A: ...
    def mutate(self, arch: A, probability: float, rng: random.Random) -> A: ...
    def crossover(self, first: A, second: A, rng: random.Random) -> A: ...
    def min_arch(self) -> A: ...
    def max_arch(self) -> A: ...


class NoneFound(UserError):
    """No architecture was found that keeps to all budgets, though each budget can be met."""


class FeasibleSpace(Generic[A]):
    """A search space under budgets: every architecture that it returns keeps to all of them.

    Args:
        space: The search space.
        cost_of: Returns the cost of an architecture.
        constraints: The budgets.

    Raises:
        UserError: If no architecture can meet one of the budgets.
        NoneFound: From `sample` and `within`, if budgets can hardly be met together.
    """

    def __init__(
        self, space: Space[A], cost_of: CostOf[A], constraints: Sequence[Constraint]
    ) -> None:
        self.space = space
        self.cost_of = cost_of
        self.constraints = tuple(constraints)
        self._listed: tuple[A, ...] | None = None
        for constraint in self.constraints:
            self._check_reachable(constraint)

    def __contains__(self, arch: A) -> bool:
        if not self.constraints:
            return True
        cost = self.cost_of(arch)
        return not any(constraint.excess(cost) for constraint in self.constraints)

    def sample(self, rng: random.Random) -> A:
        """Sample an architecture within the budgets.

        Uniform if rejection sampling finds one; otherwise the last sample is repaired.
        """
        return self.within(lambda: self.space.sample(rng), rng)

    def within(self, propose: Callable[[], A], rng: random.Random, tries: int = 50) -> A:
        """Return the first of `tries` proposals that keeps to the budgets.

        If there is none, the last proposal is repaired. If that fails, a small space is listed, and
        a large one is descended from its smallest and largest architecture.
        """
        for _ in range(tries):
            arch = propose()
            if arch in self:
                return arch
        if self._listed:
            return rng.choice(self._listed)
        nearest = _Nearest(self.constraints)
        if (repaired := self._repaired(arch, rng, nearest)) is not None:
            return repaired
        if self.members:
            return rng.choice(self.members)
        for end in (self.space.min_arch(), self.space.max_arch()):
            arch, violation = self._descend(end, nearest.violation, 0.0)
            if not violation:
                return arch
        listed = self.list_members(nearest)
        if listed:
            return rng.choice(listed)
        found = "none by sampling" if listed is None else "none among all"
        expected = f"an architecture of {self.space.name} that keeps to all budgets"
        raise NoneFound("constraints", expected, found, nearest.hint())

    @cached_property
    def members(self) -> tuple[A, ...] | None:
        """All architectures within the budgets; None if the space is large."""
        if math.prod(self.space.num_options) > ENUMERABLE:
            return None
        return tuple(arch for arch in self._every() if arch in self)

    def list_members(
        self, nearest: _Nearest | None = None, most: int | None = None
    ) -> tuple[A, ...] | None:
        """Return `members` of spaces up to `most` too, which may take minutes the first time.

        `most` is LISTABLE by default. `nearest` records the costs of all that are counted.
        """
        size = math.prod(self.space.num_options)
        if self._listed is None and self.members is not None:
            self._listed = self.members
        if self._listed is None and size <= (LISTABLE if most is None else most):
            if size > QUICKLY_LISTED:
                counted = f"{size:,}"
                log.warning("%s: counting all %s architectures", self.space.name, counted)
            nearest = nearest or _Nearest(self.constraints)
            archs = self._every()
            self._listed = tuple(a for a in archs if not nearest.look_at(self.cost_of(a)))
        return self._listed

    def _every(self) -> Iterator[A]:
        choices = (range(count) for count in self.space.num_options)
        return map(self.space.decode, itertools.product(*choices))

    def _repaired(self, arch: A, rng: random.Random, nearest: _Nearest) -> A | None:
        """Move random choices by one option until every budget is kept; None if that fails."""
        genes = list(self.space.encode(arch))
        num_options = self.space.num_options
        for _ in range(20 * sum(num_options)):
            arch = self.space.decode(genes)
            broken = nearest.look_at(self.cost_of(arch))
            if not broken:
                return arch
            # Budgets may require opposite steps: a random one of the broken budgets decides.
            step = -1 if rng.choice(broken) > 0 else 1
            movable = [i for i, gene in enumerate(genes) if 0 <= gene + step < num_options[i]]
            if movable:
                genes[rng.choice(movable)] += step
        return None

    def _check_reachable(self, constraint: Constraint) -> None:
        least = self._extreme(constraint, 1, constraint.at_most)
        if constraint.at_most < least:
            raise UserError(
                f"constraint {constraint.quantity}: at_most",
                f"at least {constraint.format(least)}",
                constraint.format(constraint.at_most),
                f"the lowest that was found in {self.space.name}",
            )
        most = -self._extreme(constraint, -1, -constraint.at_least)
        if constraint.at_least > most:
            raise UserError(
                f"constraint {constraint.quantity}: at_least",
                f"at most {constraint.format(most)}",
                constraint.format(constraint.at_least),
                f"the highest that was found in {self.space.name}",
            )

    def _extreme(self, constraint: Constraint, sign: int, enough: float) -> float:
        """Return the lowest `sign` times value in the space, or any that is not above `enough`.

        MACs and parameters of an image network grow with every gene, so the smallest and largest
        architecture have the extremes. With fusions, and for latency, this need not hold: hence the
        descent.
        """
        ends = (self.space.min_arch(), self.space.max_arch())
        nearest = math.inf
        for end in ends[::sign]:
            if nearest > enough:
                found = self._descend(end, lambda cost: sign * constraint.value(cost), enough)[1]
                nearest = min(nearest, found)
        return nearest

    def _descend(self, arch: A, loss_of: Callable[[Cost], float], enough: float) -> tuple[A, float]:
        """Set choice after choice to its best option, for at most five rounds.

        Stops when no change helps or the loss is not above `enough`.
        """
        loss = loss_of(self.cost_of(arch))
        for _ in range(5):
            before = loss
            for choice, count in enumerate(self.space.num_options):
                genes = self.space.encode(arch)
                for option in range(count):
                    changed = self.space.decode([*genes[:choice], option, *genes[choice + 1 :]])
                    if loss > enough and (found := loss_of(self.cost_of(changed))) < loss:
                        arch, loss = changed, found
            if loss <= enough or loss == before:
                break
        return arch, loss


class _Nearest:
    """For each budget, the value nearest to its range that was seen while all others were kept."""

    def __init__(self, constraints: Sequence[Constraint]) -> None:
        self.constraints = constraints
        self.found: dict[Constraint, float] = {}

    def look_at(self, cost: Cost) -> list[float]:
        """Record a cost; return `Constraint.excess` of every budget that it breaks."""
        broken = [(c, excess) for c in self.constraints if (excess := c.excess(cost))]
        if len(broken) == 1:
            [(constraint, excess)] = broken
            if abs(excess) < self._distance(constraint):
                self.found[constraint] = constraint.value(cost)
        return [excess for _, excess in broken]

    def violation(self, cost: Cost) -> float:
        """Return the sum of all excesses, each relative to the largest bound of its range."""
        self.look_at(cost)
        return sum(
            abs(c.excess(cost)) / max(c.bounds.values(), default=1.0) for c in self.constraints
        )

    def _distance(self, constraint: Constraint) -> float:
        value = self.found.get(constraint, math.inf)
        return max(value - constraint.at_most, constraint.at_least - value)

    def hint(self) -> str:
        """Return all budgets, each with its nearest value."""
        return "; ".join(
            f"{constraint}, nearest within the others {constraint.format(self.found[constraint])}"
            if constraint in self.found
            else str(constraint)
            for constraint in self.constraints
        )
