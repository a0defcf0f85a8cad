"""Predictor-guided search: only promising architectures are scored. No torch here.

After LINAS (Cummings et al., arXiv 2202.12954, 2022): fit a predictor to all scores so far, search
its predictions by NSGA-II, score the most promising architectures, repeat.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic

import numpy as np

from vipnas.config.search import NSGA2, Predictor
from vipnas.quantities import Objective, check_objectives, costs_among
from vipnas.search.constraints import QUICKLY_LISTED, A, FeasibleSpace
from vipnas.search.expected_gain import most_gain
from vipnas.search.half_rank import half_rank_warped
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
STILL_ROUNDS = 3  # an inner search of the best one ends after so many without a better one


@dataclass(frozen=True)
class Candidates(Generic[A]):
    """Architectures that may be proposed.

    Attributes:
        archs: The architectures.
        genes_PC: Their genes.
        costs_PM: Their costs among the objectives.
    """

    archs: Sequence[A]
    genes_PC: Integers
    costs_PM: Floats

    def without(self, genes_NC: Integers) -> Candidates[A]:
        """Return the candidates that have other genes than these."""
        without = {genes.tobytes() for genes in genes_NC}
        rows = [i for i, genes in enumerate(self.genes_PC) if genes.tobytes() not in without]
        if len(rows) == len(self.archs):
            return self
        return Candidates([self.archs[i] for i in rows], self.genes_PC[rows], self.costs_PM[rows])


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
        self.left: Candidates[A] | None = None  # of a space that is listed

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
        predictor, scores_N = self._fitted(self._genes(told), scores_N)
        self.num_fits += 1
        found = self._candidates(predictor, told, scores_N)
        if not found.archs:
            return []
        # Architectures that are being scored count with their predicted scores.
        known, known_N = told, scores_N
        if self.waiting:
            known = [*told, *self.waiting]
            waiting_N, _ = predictor.predict(self._genes([*self.waiting]))
            known_N = np.append(scores_N, waiting_N)
        mean_P, deviation_P = _predicted(predictor, found.genes_PC)
        count = min(self.settings.batch_size, max(1, self.told // TOLD_TO_BATCH))
        known_costs_NM = self._costs(known)
        chosen = most_gain(mean_P, deviation_P, found.costs_PM, known_N, known_costs_NM, count)
        return [found.archs[i] for i in chosen]

    def _fitted(self, genes_NC: Integers, scores_N: Floats) -> tuple[ScorePredictor, Floats]:
        """Return a predictor, and the scores that it is fitted to.

        Where one architecture is sought, these may be half-rank warped. What predicts the upper
        half of the scores better, each from all others, is taken.
        """
        space = self.feasible.space
        is_high_N = scores_N >= np.median(scores_N)
        fitted_to = [scores_N, half_rank_warped(scores_N)] if self.seeks_one else [scores_N]
        found = [
            (ScorePredictor(space.num_options, genes_NC, each_N, space.num_parts), each_N)
            for each_N in fitted_to
        ]
        return min(found, key=lambda one: one[0].leave_one_out_loss(is_high_N))

    def _candidates(
        self, predictor: ScorePredictor, told: Sequence[A], scores_N: Floats
    ) -> Candidates[A]:
        """Return all architectures that are left, or in a large space those of an inner search."""
        if self.left is None and (members := self.feasible.list_members(most=QUICKLY_LISTED)):
            self.left = self._described(members)
        if self.left is not None:
            self.left = self.left.without(self._genes([*self.numbers]))
            return self.left
        inner = NSGA2Searcher(self.feasible, self.rng.getrandbits(32), INNER, self.objectives)
        inner.exclude(self.numbers)
        for arch, score in zip(told, scores_N.tolist(), strict=True):
            inner.tell(arch, score)
        found: list[A] = []
        bests = [-math.inf]
        while len(bests) <= INNER_ROUNDS and not (self.seeks_one and _stands_still(bests)):
            asked = [inner.ask() for _ in range(INNER.offspring_size)]
            archs = [arch for arch in asked if arch is not None]
            if not archs:
                break
            found += archs
            mean_P, deviation_P = predictor.predict(self._genes(archs))
            hopes_P = mean_P + self.settings.optimism * deviation_P
            bests.append(max(bests[-1], float(hopes_P.max())))
            for arch, hope in zip(archs, hopes_P.tolist(), strict=True):
                inner.tell(arch, hope)
        return self._described(found)

    @property
    def seeks_one(self) -> bool:
        """Whether the best architecture is sought, and no front."""
        return len(self.objectives) == 1

    def _described(self, archs: Sequence[A]) -> Candidates[A]:
        return Candidates(archs, self._genes(archs), self._costs(archs))

    def _genes(self, archs: Sequence[A]) -> Integers:
        return np.array([self.feasible.space.encode(arch) for arch in archs])

    def _costs(self, archs: Sequence[A]) -> Floats:
        """Return a row per architecture with its costs among the objectives."""
        names = [quantity.name for quantity in costs_among(self.objectives)]
        if not names:
            return np.empty((len(archs), 0))
        costs = [self.feasible.cost_of(arch) for arch in archs]
        return np.array([[cost.value(name) for name in names] for cost in costs])


def _predicted(predictor: ScorePredictor, genes_PC: Integers) -> tuple[Floats, Floats]:
    portions = np.array_split(genes_PC, -(-len(genes_PC) // PORTION))
    means, deviations = zip(*map(predictor.predict, portions), strict=True)
    return np.concatenate(means), np.concatenate(deviations)


def _stands_still(bests: Sequence[float]) -> bool:
    """Return whether the best of an inner search is that of some rounds before."""
    return len(bests) > STILL_ROUNDS and bests[-1] == bests[-1 - STILL_ROUNDS]
