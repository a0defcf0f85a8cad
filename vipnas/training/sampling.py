"""Sample the architectures that a step of the supernet trains.

The subnets of a step are a pure function of (seed, step): a resumed run and every process of a
cluster agree without communication.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeVar

from vipnas.config.training import (
    EVEN_CHOICES,
    RANDOM_ONLY,
    ProgressiveShrinking,
    Sampling,
    Strategy,
)
from vipnas.errors import UserError
from vipnas.quantities import Cost
from vipnas.space.genes import GeneSpace

Kind = Literal["largest", "random", "smallest"]
Prefer = Literal["lowest_loss", "highest_loss"]
A = TypeVar("A")

# Strategies that let the step choose among candidates.
PREFERENCES: dict[Strategy, Prefer] = {"best_up": "lowest_loss", "worst_up": "highest_loss"}

# How strongly draws are biased; 1 is no bias. `docs/architecture.md` has the distances from an even
# spread of costs.
STRONGEST_BIAS = 8.0


@dataclass(frozen=True)
class SampledSubnet(Generic[A]):
    """One subnet of a step; the loss on the batch decides between several candidates."""

    kind: Kind
    candidates: tuple[A, ...]
    prefer: Prefer = "lowest_loss"


@dataclass(frozen=True)
class SubnetSampler(Generic[A]):
    """The subnets of every step: `sampler(step)`, the largest first, the smallest last.

    `steps_per_epoch` need not be whole. Where only one architecture is open, the step trains it
    alone. Steps of equal `seed` and number draw the same subnets.
    """

    space: GeneSpace[A]
    seed: int | str
    steps_per_epoch: float
    cost_of: Callable[[A], Cost]
    sampling: Sampling = field(default_factory=Sampling)
    progressive_shrinking: ProgressiveShrinking = field(default_factory=ProgressiveShrinking)

    def __post_init__(self) -> None:
        if self.sampling.given_range is None:
            return
        low, high = self.sampling.given_range
        lowest, highest = self._macs_of(self.space)
        if low > highest or high < lowest:
            expected = f"a range that overlaps {lowest:,} to {highest:,} of {self.space.name}"
            found = f"{low:,} to {high:,}"
            raise UserError("supernet.sampling.macs_between", expected, found)

    def __call__(self, step: int) -> tuple[SampledSubnet[A], ...]:
        choices = self.space.choices
        open_choices = self.progressive_shrinking.open_at(step / self.steps_per_epoch, choices)
        space = self.space.with_open_choices(open_choices)
        rng = random.Random(f"{self.seed}-{step}")
        if not open_choices or space.size == 1:
            return (SampledSubnet("largest", (space.largest(rng),)),)
        between = tuple(self._random_subnets(space, rng))
        if self.sampling.strategy in RANDOM_ONLY:
            return between
        largest = SampledSubnet("largest", (space.largest(rng),))
        return (largest, *between, SampledSubnet("smallest", (space.smallest(rng),)))

    def archs(self, step: int) -> list[A]:
        """Return all candidates of a step, in the order in which they run."""
        return [arch for subnet in self(step) for arch in subnet.candidates]

    def _macs_of(self, space: GeneSpace[A]) -> tuple[int, int]:
        """Return the MACs of the smallest and of the largest architecture."""
        return self.cost_of(space.min_arch()).macs, self.cost_of(space.max_arch()).macs

    def _random_subnets(
        self, space: GeneSpace[A], rng: random.Random
    ) -> Iterator[SampledSubnet[A]]:
        sampling = self.sampling
        for _ in range(sampling.num_random):
            if sampling.strategy in EVEN_CHOICES:
                yield SampledSubnet("random", (self._even_draw(space, rng),))
                continue
            target = rng.uniform(*(sampling.given_range or self._macs_of(space)))
            near = nearest_to(target, space, self.cost_of, sampling.num_draws, rng)
            if prefer := PREFERENCES.get(sampling.strategy):
                yield SampledSubnet("random", near[: sampling.num_candidates], prefer)
            else:
                yield SampledSubnet("random", near[:1])

    def _even_draw(self, space: GeneSpace[A], rng: random.Random) -> A:
        """Return the first of up to `num_draws` draws within `macs_between`, or the nearest."""
        if self.sampling.given_range is None:
            return space.sample(rng)
        low, high = self.sampling.given_range

        def distance(arch: A) -> int:
            macs = self.cost_of(arch).macs
            return max(low - macs, macs - high, 0)

        nearest = space.sample(rng)
        for _ in range(self.sampling.num_draws - 1):
            if distance(nearest) == 0:
                break
            nearest = min(nearest, space.sample(rng), key=distance)
        return nearest


def nearest_to(
    macs: float,
    space: GeneSpace[A],
    cost_of: Callable[[A], Cost],
    num_draws: int,
    rng: random.Random,
) -> tuple[A, ...]:
    """Return `num_draws` random architectures, the one with the nearest cost first.

    Each draw is biased towards small or large options, by its own chance: even draws rarely come
    near the extremes.
    """
    draws = [biased_sample(space, rng) for _ in range(num_draws)]
    return tuple(sorted(draws, key=lambda arch: abs(cost_of(arch).macs - macs)))


def biased_sample(space: GeneSpace[A], rng: random.Random) -> A:
    """Draw all choices with one common bias: u ** bias is even at 1, small above, large below."""
    bias = STRONGEST_BIAS ** rng.uniform(-1, 1)
    return space.decode([int(count * rng.random() ** bias) for count in space.num_options])
