"""Predictor-guided search: only promising architectures are scored. No torch here.

After LINAS (Cummings et al., arXiv 2202.12954, 2022): fit a predictor to all scores so far, search
its predictions by NSGA-II, score the most promising architectures, repeat.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from vipnas.config.search import NSGA2, Predictor
from vipnas.quantities import Objective, check_objectives, costs_among
from vipnas.search.constraints import A, FeasibleSpace
from vipnas.search.expected_gain import most_gain
from vipnas.search.pareto import Floats, Integers
from vipnas.search.score_predictor import ScorePredictor
from vipnas.search.searchers import Child, Proposals, check_fitness
from vipnas.search.searchers_nsga2 import NSGA2Searcher

# The fit is cubic in the number of scores, and the last ones are nearest to where the search is.
MAX_SCORES = 2000
INNER = NSGA2(population_size=100, tournament_size=2, offspring_size=100)
INNER_ROUNDS = 20
TOLD_TO_BATCH = 16
PORTION = 1000  # predicted at once
# Up to this many architectures within the budgets are all predicted, in about a second. An inner
# search among so few would propose the same ones again and again.
MAX_LISTED = 1 << 14


class PredictorSearcher(Proposals[A]):
    """Propose the architectures with the largest expected hypervolume improvement.

    Costs are exact, only scores are predicted. The generation of a proposal is the number of fits
    before it.
    """

    def __init__(
        self,
        feasible: FeasibleSpace[A],
        seed: int,
        settings: Predictor,
        objectives: Sequence[Objective],
    ) -> None:
        check_objectives(objectives)
        super().__init__(feasible, seed)
        self.settings = settings
        self.objectives = tuple(objectives)
        self.told = 0
        self.fitness: dict[A, float] = {}
        self.waiting: dict[A, None] = {}  # proposed, not told yet, in this order
        self.num_fits = 0
        self.batch: list[A] = []

    def ask(self) -> A | None:
        arch = self._next()
        if arch is not None:
            self.waiting[arch] = None
        return arch

    def _next(self) -> A | None:
        if self.told < self.settings.num_initial or len(self.fitness) < 2:
            return self.propose(*self._ends())
        if not self.batch:
            self.batch = self._next_batch()
        chosen = self.batch.pop(0) if self.batch else None
        if chosen is None or self.rng.random() < self.settings.exploration:
            return self.propose()
        return self.propose(lambda: Child(chosen, generation=self.num_fits))

    def _ends(self) -> Iterator[Callable[[], Child[A]]]:
        """Yield the ends of the front, which random samples of a large space never hit."""
        space = self.feasible.space
        if len(self.objectives) > 1:
            for arch in (space.min_arch(), space.max_arch()):
                if arch in self.feasible and arch not in self.numbers:
                    yield lambda arch=arch: Child(arch)  # type: ignore[misc]

    def tell(self, arch: A, fitness: float) -> None:
        check_fitness(fitness)
        self.told += 1
        del self.waiting[arch]
        if fitness > -math.inf:
            self.fitness[arch] = fitness

    def _next_batch(self) -> list[A]:
        recent = list(self.fitness.items())[-MAX_SCORES:]
        told, scores_N = [arch for arch, _ in recent], np.array([score for _, score in recent])
        num_options = self.feasible.space.num_options
        predictor = ScorePredictor(num_options, self._genes(told), scores_N)
        self.num_fits += 1
        archs = self._candidates(predictor, recent)
        if not archs:
            return []
        # Architectures that are being scored count with their predicted scores.
        known, known_N = told, scores_N
        if self.waiting:
            known = [*told, *self.waiting]
            known_N = np.append(scores_N, self._predicted(predictor, [*self.waiting])[0])
        mean_P, deviation_P = self._predicted(predictor, archs)
        costs_PM, known_costs_NM = self._costs(archs), self._costs(known)
        count = min(self.settings.batch_size, max(1, self.told // TOLD_TO_BATCH))
        chosen = most_gain(mean_P, deviation_P, costs_PM, known_N, known_costs_NM, count)
        return [archs[i] for i in chosen]

    def _candidates(self, predictor: ScorePredictor, told: Sequence[tuple[A, float]]) -> list[A]:
        """Return all architectures that are left, or in a large space those of an inner search."""
        members = self.feasible.members
        if members is not None and len(members) <= MAX_LISTED:
            return [arch for arch in members if arch not in self.numbers]
        inner = NSGA2Searcher(self.feasible, self.rng.getrandbits(32), INNER, self.objectives)
        inner.exclude(self.numbers)
        for arch, fitness in told:
            inner.tell(arch, fitness)
        found: list[A] = []
        for _ in range(INNER_ROUNDS):
            asked = [inner.ask() for _ in range(INNER.offspring_size)]
            archs = [arch for arch in asked if arch is not None]
            if not archs:
                break
            found += archs
            mean_P, deviation_P = self._predicted(predictor, archs)
            hopes_P = mean_P + self.settings.optimism * deviation_P
            for arch, hope in zip(archs, hopes_P.tolist(), strict=True):
                inner.tell(arch, hope)
        return found

    def _predicted(self, predictor: ScorePredictor, archs: Sequence[A]) -> tuple[Floats, Floats]:
        portions = (archs[start : start + PORTION] for start in range(0, len(archs), PORTION))
        found = [predictor.predict(self._genes(portion)) for portion in portions]
        means, deviations = zip(*found, strict=True)
        return np.concatenate(means), np.concatenate(deviations)

    def _genes(self, archs: Sequence[A]) -> Integers:
        return np.array([self.feasible.space.encode(arch) for arch in archs])

    def _costs(self, archs: Sequence[A]) -> Floats:
        """Return a row per architecture with its costs among the objectives."""
        names = [quantity.name for quantity in costs_among(self.objectives)]
        costs = [self.feasible.cost_of(arch) for arch in archs]
        rows = [[cost.value(name) for name in names] for cost in costs]
        return np.array(rows, dtype=np.float64).reshape(len(archs), len(names))
