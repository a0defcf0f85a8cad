"""Searchers propose architectures: `ask` for the next one, `tell` its score. No torch here.

The state of a searcher depends on its seed and on the order of asks and tells alone. Repeating
those of a journal restores it. No architecture is proposed twice. Any number may be asked for
before the first is told.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, NamedTuple, Protocol

from vipnas.config.search import Breeding, Evolution
from vipnas.errors import UserError
from vipnas.search.constraints import A, FeasibleSpace, NoneFound

TRIES_FOR_A_NEW_ARCH = 50


@dataclass(frozen=True)
class Origin:
    """Where a proposed architecture comes from.

    Attributes:
        generation: 1 more than the highest of its parents; 0 for an independent sample.
        parents: Numbers of earlier proposals, counted from 0.
    """

    generation: int
    parents: tuple[int, ...]


class Searcher(Protocol[A]):
    """The contract of every search method."""

    def ask(self) -> A | None:
        """Return a new architecture within the budgets; None if none can be found."""

    def tell(self, arch: A, fitness: float) -> None:
        """Report the fitness of a proposed architecture; larger is better, -inf is a failure."""

    def origin(self, arch: A) -> Origin:
        """Return where a proposed architecture comes from."""


class Child(NamedTuple, Generic[A]):
    """An architecture to propose.

    Attributes:
        arch: The architecture.
        parents: Scored architectures that it was bred from.
        generation: Its generation; ignored if there are parents.
    """

    arch: A
    parents: tuple[A, ...] = ()
    generation: int = 0


class Proposals(Generic[A]):
    """Base of all searchers: every proposal is new and has a number and an origin.

    Args:
        feasible: The space under budgets.
        seed: Seed of all random choices.
    """

    def __init__(self, feasible: FeasibleSpace[A], seed: int) -> None:
        self.feasible = feasible
        self.rng = random.Random(seed)
        self.numbers: dict[A, int] = {}
        self._origins: list[Origin] = []
        self._rest: list[A] | None = None

    def exclude(self, archs: Iterable[A]) -> None:
        """Never propose these architectures."""
        for arch in archs:
            self._register(Child(arch))

    def origin(self, arch: A) -> Origin:
        return self._origins[self.numbers[arch]]

    def propose(self, *ways: Callable[[], Child[A]]) -> A | None:
        """Return a new architecture by the first of the ways that leads to one.

        After the ways comes random sampling, then, in a small space, the list of those left. None
        if all of them fail.
        """
        for way in (*ways, self._draw):
            for _ in range(TRIES_FOR_A_NEW_ARCH):
                try:
                    child = way()
                except NoneFound:
                    if not self.numbers:
                        raise
                    break  # budgets this tight have few architectures, all proposed already
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
        """Return a random architecture not proposed yet; None without one that can be listed."""
        if self._rest is None:
            self._rest = list(self.feasible.list_members() or ())
            self.rng.shuffle(self._rest)
        while self._rest:
            if (arch := self._rest.pop()) not in self.numbers:
                return arch
        return None


class RandomSearcher(Proposals[A]):
    """Random search: the baseline of every other method."""

    def ask(self) -> A | None:
        return self.propose()

    def tell(self, arch: A, fitness: float) -> None:
        """Check the fitness only."""
        check_fitness(fitness)


class Breeder(Proposals[A]):
    """Base of evolution and NSGA-II.

    The first proposals equal those of `RandomSearcher` with the same seed. Then come children of
    the `population`, which is sorted from best to worst.
    """

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
        """Return the winner of a tournament.

        One random number is enough: the smallest of n uniform ones is distributed as
        1 - u ** (1 / n).
        """
        smallest = 1 - (1 - self.rng.random()) ** (1 / self.settings.tournament_size)
        return self.population[int(smallest * len(self.population))]


class EvolutionSearcher(Breeder[A]):
    """Evolution towards the best score, under hard budgets.

    Regularized evolution (Real et al., AAAI 2019) removes the oldest, so that one lucky measurement
    does not dominate for ever. Scores with inherited weights are deterministic, so keeping the best
    is the default; `tools/benchmarks/search.py table` compares both.
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
        # The sort is stable: of equals the earlier one is first.
        members.sort(key=lambda member: -self.fitness[member])
        self.population = members[: self.settings.population_size]


def check_fitness(fitness: float) -> None:
    """Raise UserError for NaN, which cannot be ordered; a failure is -inf."""
    if math.isnan(fitness):
        raise UserError("fitness", "a number", "nan", "tell -inf for a failure")
