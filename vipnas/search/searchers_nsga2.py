"""NSGA-II: search for a whole front. No torch here.

Deb et al., "A fast and elitist multiobjective genetic algorithm: NSGA-II", 2002: non-dominated
sorting, crowding distance, tournaments. Choices are categories, so children come from uniform
crossover and from resampling choices, not from small steps.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vipnas.config.search import NSGA2
from vipnas.quantities import Objective, check_objectives
from vipnas.search.constraints import A, FeasibleSpace
from vipnas.search.pareto import Floats, crowding_distances, domination_ranks, to_minimise
from vipnas.search.searchers import Breeder, check_fitness


class NSGA2Searcher(Breeder[A]):
    """Evolution towards the front of several objectives, under hard budgets.

    Nothing that breaks a budget is proposed. Failures are ignored.
    """

    def __init__(
        self,
        feasible: FeasibleSpace[A],
        seed: int,
        settings: NSGA2,
        objectives: Sequence[Objective],
    ) -> None:
        check_objectives(objectives)
        super().__init__(feasible, seed, settings)
        self.settings: NSGA2 = settings
        self.objectives = tuple(objectives)
        self.points: dict[A, tuple[float, ...]] = {}
        self.newcomers: list[A] = []
        self.scale: tuple[float, ...] = ()

    def tell(self, arch: A, fitness: float) -> None:
        check_fitness(fitness)
        self.told += 1
        if fitness > float("-inf"):
            cost = self.feasible.cost_of(arch)
            self.points[arch] = to_minimise(fitness, cost, self.objectives)
            self.newcomers.append(arch)
        started = self.told - self.settings.population_size
        if started >= 0 and started % self.settings.offspring_size == 0:
            self.renew()

    def renew(self) -> None:
        """Select the new population from the old one and all that were told since."""
        candidates = [*self.population, *self.newcomers]
        self.newcomers = []
        if candidates:
            points_NM = np.array([self.points[candidate] for candidate in candidates])
            chosen = best_first(points_NM, self.settings.population_size)
            self.population = [candidates[i] for i in chosen]
            ranges_M = np.ptp(points_NM[chosen], axis=0)
            self.scale = tuple(1 / span if span > 0 else 0.0 for span in ranges_M.tolist())

    def _partner(self, parent: A) -> A:
        """Return a partner from the same region of the front.

        Children of its opposite ends are seldom good.
        """
        here = self.points[parent]

        def distance(member: A) -> float:
            there = self.points[member]
            return sum(
                abs(a - b) * scale for a, b, scale in zip(here, there, self.scale, strict=True)
            )

        candidates = [self._parent() for _ in range(self.settings.mating_size)]
        others = [candidate for candidate in candidates if candidate != parent]
        return min(others or candidates, key=distance)


def best_first(points_NM: Floats, count: int) -> list[int]:
    """Return the indices of the `count` best points.

    Sorted by rank, then by crowding distance (largest first), then by index.
    """
    ranks_N = domination_ranks(points_NM, enough=count)
    room_N = np.empty(len(points_NM))
    for rank in range(int(ranks_N.max()) + 1):
        room_N[ranks_N == rank] = crowding_distances(points_NM[ranks_N == rank])
    order: list[int] = np.lexsort((-room_N, ranks_N)).tolist()
    return order[:count]
