"""Which architectures a training step of the supernet runs: deciding only, no training.

A step's members are a pure function of the seed and the step's number: a resumed run and every
process of a cluster agree without talking.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt

from vipnas.arch import Arch
from vipnas.files import Strict
from vipnas.results import Cost
from vipnas.space import SearchSpace

Kind = Literal["largest", "random", "smallest"]
Prefer = Literal["lowest_loss", "highest_loss"]
Strategy = Literal["sandwich", "uniform", "uniform_macs", "cost_balanced", "best_up", "worst_up"]
Choice = Literal["width", "depth", "kernel_size", "groups", "attention", "expand_ratio"]

# Of these a step trains the random members alone.
WITHOUT_ENDS: tuple[Strategy, ...] = ("uniform", "uniform_macs")
# Of these every choice is drawn evenly; of the others MACs are.
EVEN_CHOICES: tuple[Strategy, ...] = ("sandwich", "uniform")

# Of these the step chooses among candidates.
PREFERENCES: dict[Strategy, Prefer] = {"best_up": "lowest_loss", "worst_up": "highest_loss"}

# How far draws lean to an end. With 32 draws and no lean (1) the costs of the shipped spaces stay
# 0.19 to 0.49 away from an even distribution (Kolmogorov-Smirnov), with 8 up to 0.07.
STRONGEST_LEAN = 8.0


class Member(NamedTuple):
    """One subnet of a step. Of several candidates the step takes the one that it prefers by the
    loss on its images."""

    kind: Kind
    candidates: tuple[Arch, ...]
    prefer: Prefer = "lowest_loss"


@dataclass(frozen=True)
class Sampling(Strict):
    """Which subnets a step trains.

    - `sandwich`: largest, `num_random` random ones, smallest (Yu & Huang, ICCV 2019; BigNAS, Yu et
      al., ECCV 2020).
    - `uniform`: the random ones alone, on the labels; with `num_random` 1 the single path of Guo et
      al. (ECCV 2020).
    - `uniform_macs`: so too, but spread evenly over MACs; choices drawn evenly crowd around the
      middle. A target is drawn evenly between the smallest and the largest cost; of `num_draws`
      archs the nearest is taken.
    - `cost_balanced`: a sandwich whose random ones are spread over MACs like that.
    - `best_up`, `worst_up`: so too, but of the `num_candidates` nearest the step trains the one
      with the lowest or the highest loss (AttentiveNAS, Wang et al., CVPR 2021).

    With `macs_between`, (at least, at most), the random ones have MACs within that range (and where
    none of `num_draws` has, the nearest): where a budget is known, shared weights need not serve
    what no search will look at.
    """

    strategy: Strategy = "uniform_macs"
    num_random: NonNegativeInt = 1
    num_draws: PositiveInt = 32
    num_candidates: PositiveInt = 3
    macs_between: tuple[NonNegativeInt, PositiveInt] | None = None

    def __post_init__(self) -> None:
        if self.strategy in WITHOUT_ENDS and self.num_random < 1:
            raise ValueError(
                f"num_random: found 0, of strategy {self.strategy} allowed is 1 or more"
            )
        if self.num_candidates > self.num_draws:
            raise ValueError(
                f"num_candidates: found {self.num_candidates}, allowed is up to num_draws,"
                f" {self.num_draws}"
            )
        if self.macs_between is not None and self.macs_between[0] > self.macs_between[1]:
            raise ValueError(
                f"macs_between: found {list(self.macs_between)}, allowed are two numbers, the"
                " smaller one first"
            )


@dataclass(frozen=True)
class Opening(Strict):
    """When the choices open. A closed choice stays at the option of the largest.

    The largest trains alone for `largest_alone_epochs`; then all choices open at once, or, with an
    `order`, its groups of choices one after another, `epochs_each` apart (progressive shrinking,
    Cai et al., ICLR 2020). What `order` does not name opens with its last group.
    """

    largest_alone_epochs: NonNegativeFloat = 0.0
    order: tuple[tuple[Choice, ...], ...] = ()
    epochs_each: NonNegativeFloat = 0.0

    def __post_init__(self) -> None:
        if bool(self.order) != (self.epochs_each > 0):
            raise ValueError(
                f"found order {[list(group) for group in self.order]} with epochs_each"
                f" {self.epochs_each}: allowed are both or neither"
            )

    @property
    def all_open_epoch(self) -> float:
        """From here on nothing is closed."""
        return self.largest_alone_epochs + self.epochs_each * max(0, len(self.order) - 1)

    def open_at(self, epoch: float, choices: Set[str]) -> Set[str]:
        """Those of the choices that are open when `epoch` epochs, or a part of one, are over."""
        if epoch >= self.all_open_epoch:
            return choices
        if epoch < self.largest_alone_epochs:
            return frozenset()
        num_open = 1 + int((epoch - self.largest_alone_epochs) / self.epochs_each)
        return choices & {choice for group in self.order[:num_open] for choice in group}


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
    opening: Opening = field(default_factory=Opening)

    def __post_init__(self) -> None:
        ends = (self.space.min_arch(), self.space.max_arch())
        lowest, highest = (self.cost_of(arch).macs for arch in ends)
        low, high = self.sampling.macs_between or (lowest, highest)
        if low > highest or high < lowest:
            raise ValueError(
                f"supernet.sampling.macs_between: found {low:,} to {high:,}, allowed is what"
                f" {self.space.name} has: {lowest:,} to {highest:,}"
            )

    def __call__(self, step: int) -> tuple[Member, ...]:
        choices = {name for part in self.space.parts for name in part.options}
        open_choices = self.opening.open_at(step / self.steps_per_epoch, choices)
        space = with_open_choices(self.space, open_choices)
        largest = Member("largest", (space.max_arch(),))
        if space.size == 1:
            return (largest,)
        rng = random.Random(f"{self.seed}-{step}")
        between = tuple(self._random_members(space, rng))
        if self.sampling.strategy in WITHOUT_ENDS:
            return between
        return (largest, *between, Member("smallest", (space.min_arch(),)))

    def archs(self, step: int) -> list[Arch]:
        """All candidates of a step, in the order in which they run."""
        return [arch for member in self(step) for arch in member.candidates]

    def _random_members(self, space: SearchSpace, rng: random.Random) -> Iterator[Member]:
        sampling = self.sampling
        lowest, highest = sampling.macs_between or (
            self.cost_of(arch).macs for arch in (space.min_arch(), space.max_arch())
        )
        for _ in range(sampling.num_random):
            if sampling.strategy in EVEN_CHOICES:
                yield Member("random", (self._even_draw(space, rng),))
                continue
            target = rng.uniform(lowest, highest)
            near = nearest_to(target, space, self.cost_of, sampling.num_draws, rng)
            if prefer := PREFERENCES.get(sampling.strategy):
                yield Member("random", near[: sampling.num_candidates], prefer)
            else:
                yield Member("random", near[:1])

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
    draws = [_leaning_sample(space, rng) for _ in range(num_draws)]
    return tuple(sorted(draws, key=lambda arch: abs(cost_of(arch).macs - macs)))


def _leaning_sample(space: SearchSpace, rng: random.Random) -> Arch:
    """All choices with one common lean: u ** lean is even at 1, small above it, large below."""
    lean = STRONGEST_LEAN ** rng.uniform(-1, 1)
    return space.decode([int(count * rng.random() ** lean) for count in space.num_options])
