"""Which architectures a training step of the supernet runs: deciding only, no training.

A step's members are a pure function of the seed and the step's number: a resumed run and every
process of a cluster agree without talking.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

from vipnas.arch.image import Arch
from vipnas.config.training import (
    EVEN_CHOICES,
    RANDOM_ONLY,
    ProgressiveShrinking,
    Sampling,
    Strategy,
)
from vipnas.quantities import Cost
from vipnas.space.image import SearchSpace

Kind = Literal["largest", "random", "smallest"]
Prefer = Literal["lowest_loss", "highest_loss"]


# Of these the step chooses among candidates.
PREFERENCES: dict[Strategy, Prefer] = {"best_up": "lowest_loss", "worst_up": "highest_loss"}

# How far draws lean to an end. With 32 draws and no lean (1) the costs of the shipped spaces stay
# 0.19 to 0.49 away from an even distribution (Kolmogorov-Smirnov), with 8 up to 0.07.
STRONGEST_BIAS = 8.0


class SampledSubnet(NamedTuple):
    """One subnet of a step. Of several candidates the step takes the one that it prefers by the
    loss on its images."""

    kind: Kind
    candidates: tuple[Arch, ...]
    prefer: Prefer = "lowest_loss"


@dataclass(frozen=True)
class SubnetSampler:
    """The members of every step: `sampler(step)`, the largest first, the smallest last.

    `steps_per_epoch` need not be whole. Where only one arch is open, the step trains it alone.
    """

    space: SearchSpace
    seed: int
    steps_per_epoch: float
    cost_of: Callable[[Arch], Cost]
    sampling: Sampling = field(default_factory=Sampling)
    progressive_shrinking: ProgressiveShrinking = field(default_factory=ProgressiveShrinking)

    def __post_init__(self) -> None:
        ends = (self.space.min_arch(), self.space.max_arch())
        lowest, highest = (self.cost_of(arch).macs for arch in ends)
        low, high = self.sampling.macs_between or (lowest, highest)
        if low > highest or high < lowest:
            raise ValueError(
                f"supernet.sampling.macs_between: found {low:,} to {high:,}, allowed is what"
                f" {self.space.name} has: {lowest:,} to {highest:,}"
            )

    def __call__(self, step: int) -> tuple[SampledSubnet, ...]:
        choices = {name for part in self.space.parts for name in part.options}
        open_choices = self.progressive_shrinking.open_at(step / self.steps_per_epoch, choices)
        space = with_open_choices(self.space, open_choices)
        largest = SampledSubnet("largest", (space.max_arch(),))
        if space.size == 1:
            return (largest,)
        rng = random.Random(f"{self.seed}-{step}")
        between = tuple(self._random_subnets(space, rng))
        if self.sampling.strategy in RANDOM_ONLY:
            return between
        return (largest, *between, SampledSubnet("smallest", (space.min_arch(),)))

    def archs(self, step: int) -> list[Arch]:
        """All candidates of a step, in the order in which they run."""
        return [arch for member in self(step) for arch in member.candidates]

    def _random_subnets(self, space: SearchSpace, rng: random.Random) -> Iterator[SampledSubnet]:
        sampling = self.sampling
        lowest, highest = sampling.macs_between or (
            self.cost_of(arch).macs for arch in (space.min_arch(), space.max_arch())
        )
        for _ in range(sampling.num_random):
            if sampling.strategy in EVEN_CHOICES:
                yield SampledSubnet("random", (self._even_draw(space, rng),))
                continue
            target = rng.uniform(lowest, highest)
            near = nearest_to(target, space, self.cost_of, sampling.num_draws, rng)
            if prefer := PREFERENCES.get(sampling.strategy):
                yield SampledSubnet("random", near[: sampling.num_candidates], prefer)
            else:
                yield SampledSubnet("random", near[:1])

    def _even_draw(self, space: SearchSpace, rng: random.Random) -> Arch:
        """Of up to `num_draws` archs the first within `macs_between`, or the nearest to it."""
        if self.sampling.macs_between is None:
            return space.sample(rng)
        low, high = self.sampling.macs_between

        def distance(arch: Arch) -> int:
            macs = self.cost_of(arch).macs
            return max(low - macs, macs - high, 0)

        nearest = space.sample(rng)
        for _ in range(self.sampling.num_draws - 1):
            if distance(nearest) == 0:
                break
            nearest = min(nearest, space.sample(rng), key=distance)
        return nearest


def with_open_choices(space: SearchSpace, open_choices: Set[str]) -> SearchSpace:
    """The space whose other choices have but the option of the largest."""
    parts = (
        replace(
            part,
            options={
                name: options if name in open_choices else options[-1:]
                for name, options in part.options.items()
            },
        )
        for part in space.parts
    )
    return replace(space, parts=tuple(parts))


def nearest_to(
    macs: float,
    space: SearchSpace,
    cost_of: Callable[[Arch], Cost],
    num_draws: int,
    rng: random.Random,
) -> tuple[Arch, ...]:
    """`num_draws` random archs, the one with the nearest cost first.

    The draws lean to the small or the large options, each by its own chance: evenly drawn ones
    hardly ever come near the ends.
    """
    draws = [_biased_sample(space, rng) for _ in range(num_draws)]
    return tuple(sorted(draws, key=lambda arch: abs(cost_of(arch).macs - macs)))


def _biased_sample(space: SearchSpace, rng: random.Random) -> Arch:
    """All choices with one common lean: u ** lean is even at 1, small above it, large below."""
    lean = STRONGEST_BIAS ** rng.uniform(-1, 1)
    return space.decode([int(count * rng.random() ** lean) for count in space.num_options])
