"""Who proposes architectures: `ask` for the next one, `tell` what it scored. No torch here.

A searcher is a function of its seed and of what it was told, in order: asked and told again from a
journal, it stands where it stood. It never proposes the same arch twice.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from vipnas.arch import Arch
from vipnas.files import Strict
from vipnas.search.constraints import FeasibleSpace, NoneFound

TRIES_FOR_A_NEW_ARCH = 200


class Searcher(Protocol):
    """The contract of every search method."""

    def ask(self) -> Arch | None:
        """An arch within the budgets that was not proposed before; None when none can be found."""

    def tell(self, arch: Arch, fitness: float) -> None:
        """What the last arch asked for was worth; larger is better, -inf is a failure."""


class RandomSearcher:
    """Independent draws: the baseline that every other method is shown against."""

    def __init__(self, feasible: FeasibleSpace, seed: int) -> None:
        self.feasible = feasible
        self.rng = random.Random(seed)
        self.proposed: set[Arch] = set()

    def ask(self) -> Arch | None:
        return _new(lambda: self.feasible.sample(self.rng), self.proposed)

    def tell(self, arch: Arch, fitness: float) -> None:
        """Nothing is learnt."""


@dataclass(frozen=True)
class Evolution(Strict):
    """Settings of `EvolutionSearcher`; `mutation_probability` is per choice."""

    population_size: int = 32
    tournament_size: int = 4
    crossover_probability: float = 0.5
    mutation_probability: float = 0.1

    def __post_init__(self) -> None:
        if self.population_size < 2 or self.tournament_size < 1:
            raise ValueError(
                f"population_size and tournament_size: found {self.population_size} and"
                f" {self.tournament_size}, allowed are numbers from 2 and from 1"
            )
        for name in ("crossover_probability", "mutation_probability"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: found {getattr(self, name)}, allowed is 0 to 1")


class EvolutionSearcher:
    """Evolution under hard budgets: tournaments among the best so far, crossover, mutation.

    The first `population_size` archs are drawn at random, with the same seed the same as those of
    `RandomSearcher`. Scores with inherited weights are exact for an arch, so that the best stay:
    nothing is gained by forgetting them.
    """

    def __init__(self, feasible: FeasibleSpace, seed: int, settings: Evolution) -> None:
        self.feasible = feasible
        self.rng = random.Random(seed)
        self.settings = settings
        self.proposed: set[Arch] = set()
        self.told = 0
        self.population: list[tuple[float, Arch]] = []  # best first

    def ask(self) -> Arch | None:
        propose = self._child if self.told >= self.settings.population_size else self._random
        return _new(propose, self.proposed) or _new(self._random, self.proposed)

    def tell(self, arch: Arch, fitness: float) -> None:
        self.told += 1
        self.population.append((fitness, arch))
        # The sort is stable: of equals the earlier one stays in front.
        self.population.sort(key=lambda member: -member[0])
        del self.population[self.settings.population_size :]

    def _random(self) -> Arch:
        return self.feasible.sample(self.rng)

    def _child(self) -> Arch:
        return self.feasible.within(self._offspring, self.rng)

    def _offspring(self) -> Arch:
        space, settings = self.feasible.space, self.settings
        child = self._parent()
        if self.rng.random() < settings.crossover_probability:
            child = space.crossover(child, self._parent(), self.rng)
        return space.mutate(child, settings.mutation_probability, self.rng)

    def _parent(self) -> Arch:
        drawn = [
            self.rng.randrange(len(self.population)) for _ in range(self.settings.tournament_size)
        ]
        return self.population[min(drawn)][1]


def _new(propose: Callable[[], Arch], proposed: set[Arch]) -> Arch | None:
    for _ in range(TRIES_FOR_A_NEW_ARCH):
        try:
            arch = propose()
        except NoneFound:
            if not proposed:
                raise
            return None  # under budgets this tight, those proposed were the ones to be found
        if arch not in proposed:
            proposed.add(arch)
            return arch
    return None
