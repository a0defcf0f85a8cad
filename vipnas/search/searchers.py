"""Who proposes architectures: `ask` for the next one, `tell` what it scored. No torch here.

A searcher is a function of its seed and of what it was asked and told, in order: asked and told
again from a journal, it stands where it stood. It never proposes the same arch twice. Any number of
archs may be asked for before the first of them is told.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, NamedTuple, Protocol

from vipnas.config.search import Breeding, Evolution
from vipnas.search.constraints import A, FeasibleSpace, NoneFound

TRIES_FOR_A_NEW_ARCH = 50


@dataclass(frozen=True)
class Origin:
    """Where a proposed arch comes from: `parents` are numbers of archs asked for before, counted
    from 0; `generation` is one more than the highest of theirs, and 0 for an independent draw."""

    generation: int
    parents: tuple[int, ...]


class Searcher(Protocol[A]):
    """The contract of every search method."""

    def ask(self) -> A | None:
        """An arch within the budgets that was not proposed before; None when none can be found."""

    def tell(self, arch: A, fitness: float) -> None:
        """What an arch that was asked for is worth; larger is better, -inf is a failure. Costs need
        no telling: they are those of the feasible space."""

    def origin(self, arch: A) -> Origin:
        """Where an arch that was asked for comes from."""


class Child(NamedTuple, Generic[A]):
    """An arch about to be proposed, and the told ones that it was made from; the generation says
    itself where there are none."""

    arch: A
    parents: tuple[A, ...] = ()
    generation: int = 0


class Proposals(Generic[A]):
    """What all searchers share: every arch is new, and known by its number and origin."""

    def __init__(self, feasible: FeasibleSpace[A], seed: int) -> None:
        self.feasible = feasible
        self.rng = random.Random(seed)
        self.numbers: dict[A, int] = {}
        self._origins: list[Origin] = []
        self._rest: list[A] | None = None

    def exclude(self, archs: Iterable[A]) -> None:
        """Archs that are never to be proposed, as if they had been."""
        for arch in archs:
            self._register(Child(arch))

    def origin(self, arch: A) -> Origin:
        return self._origins[self.numbers[arch]]

    def propose(self, *ways: Callable[[], Child[A]]) -> A | None:
        """A new arch by the first of the ways that leads to one; after them by a random draw, and
        where the space can be listed one of those left. None where all that fails."""
        for way in (*ways, self._draw):
            for _ in range(TRIES_FOR_A_NEW_ARCH):
                try:
                    child = way()
                except NoneFound:
                    if not self.numbers:
                        raise
                    break  # under budgets this tight, those proposed were the ones to be found
                if child.arch not in self.numbers:
                    return self._register(child)
        left = self._left()
        return None if left is None else self._register(Child(left))

    def _draw(self) -> Child[A]:
        return Child(self.feasible.sample(self.rng))

    def _register(self, child: Child[A]) -> A:
        parents = tuple(dict.fromkeys(self.numbers[parent] for parent in child.parents))
        generation = child.generation
        if parents:
            generation = 1 + max(self._origins[parent].generation for parent in parents)
        self.numbers[child.arch] = len(self._origins)
        self._origins.append(Origin(generation, parents))
        return child.arch

    def _left(self) -> A | None:
        """A random member not proposed yet; None where there is none, or they cannot be listed."""
        if self._rest is None:
            self._rest = list(self.feasible.list_members() or ())
            self.rng.shuffle(self._rest)
        while self._rest:
            if (arch := self._rest.pop()) not in self.numbers:
                return arch
        return None


class RandomSearcher(Proposals[A]):
    """Independent draws: the baseline that every other method is shown against."""

    def ask(self) -> A | None:
        return self.propose()

    def tell(self, arch: A, fitness: float) -> None:
        """Nothing is learnt."""
        check_fitness(fitness)


class Breeder(Proposals[A]):
    """What evolution and NSGA-II share. The first archs are, with the same seed, the same as those
    of `RandomSearcher`; then come children of the `population`, in which the best stand first."""

    def __init__(self, feasible: FeasibleSpace[A], seed: int, settings: Breeding) -> None:
        super().__init__(feasible, seed)
        self.settings = settings
        self.told = 0
        self.population: list[A] = []

    def ask(self) -> A | None:
        if self.told < self.settings.population_size or not self.population:
            return self.propose()
        return self.propose(self._child)

    def _child(self) -> Child[A]:
        parents: tuple[A, ...] = (self._parent(),)
        if self.rng.random() < self.settings.crossover_probability:
            parents += (self._partner(*parents),)
        return Child(self.feasible.within(lambda: self._offspring(parents), self.rng), parents)

    def _offspring(self, parents: tuple[A, ...]) -> A:
        space, settings = self.feasible.space, self.settings
        child = parents[0]
        if len(parents) == 2:
            child = space.crossover(*parents, self.rng)
            if self.rng.random() >= settings.mutation_after_crossover:
                return child
        return space.mutate(child, settings.mutation_probability, self.rng)

    def _partner(self, parent: A) -> A:
        return self._parent()

    def _parent(self) -> A:
        """The best of a tournament, by one draw: the smallest of n uniform numbers is distributed
        as 1 - u ** (1 / n)."""
        smallest = 1 - (1 - self.rng.random()) ** (1 / self.settings.tournament_size)
        return self.population[int(smallest * len(self.population))]


class EvolutionSearcher(Breeder[A]):
    """Evolution under hard budgets, for the best score: tournaments, crossover, mutation.

    Real et al., "Regularized evolution for image classifier architecture search", 2019, let the
    oldest die, so that one lucky measurement does not rule for ever. Scores with inherited weights
    are exact for an arch, and the best staying is the default; `tools/benchmarks/search.py table`
    compares the two.
    """

    def __init__(self, feasible: FeasibleSpace[A], seed: int, settings: Evolution) -> None:
        super().__init__(feasible, seed, settings)
        self.settings: Evolution = settings
        self.fitness: dict[A, float] = {}  # in the order told

    def tell(self, arch: A, fitness: float) -> None:
        check_fitness(fitness)
        self.told += 1
        self.fitness[arch] = fitness
        members = [*self.population, arch]
        if self.settings.survivors == "youngest":
            members = list(self.fitness)[-self.settings.population_size :]
        # The sort is stable: of equals the earlier one stays in front.
        members.sort(key=lambda member: -self.fitness[member])
        self.population = members[: self.settings.population_size]


def check_fitness(fitness: float) -> None:
    """Raises ValueError for not-a-number, which has no place in an order; a failure is -inf."""
    if math.isnan(fitness):
        raise ValueError("the fitness told is not a number; a failure is told as -inf")
