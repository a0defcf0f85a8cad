"""Predictor-guided search: real scores only for what a regressor finds promising. No torch here.

After LINAS (Cummings et al., arXiv 2202.12954, 2022): fit on all scores so far, search the fit by
NSGA-II, score what that proposes, fit again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vipnas.files import Strict
from vipnas.search.constraints import A, FeasibleSpace
from vipnas.search.pareto import (
    Floats,
    Objective,
    check_objectives,
    crowding_distances,
    domination_ranks,
)
from vipnas.search.score_predictor import ScorePredictor
from vipnas.search.searchers import Child, Proposals, check_count, check_fitness, check_share
from vipnas.search.searchers_nsga2 import NSGA2, NSGA2Searcher

# The fit takes time with the cube of the scores, and what was told last is nearest to where the
# search is.
MOST_SCORES = 2000
INNER = NSGA2(population_size=100, tournament_size=2, offspring_size=100)
INNER_ROUNDS = 20
NUM_SAMPLES = 10_000  # of the box in which hypervolume is counted


@dataclass(frozen=True)
class Predictor(Strict):
    """Settings of `PredictorSearcher`: `num_initial` archs, the cheapest and the largest and random
    ones; then `batch_size` archs a fit, by their predicted score plus `optimism` times its standard
    deviation; a share `exploration` of them is drawn at random instead."""

    num_initial: int = 16
    batch_size: int = 8
    optimism: float = 1.0
    exploration: float = 0.0

    def __post_init__(self) -> None:
        check_count("num_initial", self.num_initial, least=2)
        check_count("batch_size", self.batch_size)
        if not 0 <= self.optimism < math.inf:
            raise ValueError(f"optimism: found {self.optimism}, allowed is from 0")
        check_share("exploration", self.exploration)


class PredictorSearcher(Proposals[A]):
    """A thousand-arch answer out of a few hundred scores. The costs of what it considers are exact;
    only AP is predicted. The generation of a proposal is the number of fits before it."""

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
        self.num_fits = 0
        self.batch: list[A] = []

    def ask(self) -> A | None:
        if self.told < self.settings.num_initial or len(self.fitness) < 2:
            return self.propose(*self._ends())
        if not self.batch:
            self.batch = self._next_batch()
        chosen = self.batch.pop(0) if self.batch else None
        if chosen is None or self.rng.random() < self.settings.exploration:
            return self.propose()
        return self.propose(lambda: Child(chosen, generation=self.num_fits))

    def _ends(self) -> Iterator[Callable[[], Child[A]]]:
        """The ends of the front, which random draws of a large space never meet."""
        space = self.feasible.space
        if len(self.objectives) > 1:
            for arch in (space.min_arch(), space.max_arch()):
                if arch in self.feasible and arch not in self.numbers:
                    yield lambda arch=arch: Child(arch)  # type: ignore[misc]

    def tell(self, arch: A, fitness: float) -> None:
        check_fitness(fitness)
        self.told += 1
        if fitness > -math.inf:
            self.fitness[arch] = fitness

    def _next_batch(self) -> list[A]:
        recent = list(self.fitness.items())[-MOST_SCORES:]
        scores_N = np.array([fitness for _, fitness in recent])
        space = self.feasible.space
        predictor = ScorePredictor(space.num_options, self._genes([a for a, _ in recent]), scores_N)
        self.num_fits += 1
        inner = NSGA2Searcher(self.feasible, self.rng.getrandbits(32), INNER, self.objectives)
        inner.exclude(self.numbers)
        for arch, fitness in recent:
            inner.tell(arch, fitness)
        for archs in self._imagined(inner):
            mean_P, deviation_P = predictor.predict(self._genes(archs))
            hopes_P = mean_P + self.settings.optimism * deviation_P
            for arch, hope in zip(archs, hopes_P.tolist(), strict=True):
                inner.tell(arch, hope)
        inner.renew()
        points_NM = np.array([inner.points[arch] for arch in inner.population])
        is_new_N = np.array([arch not in self.numbers for arch in inner.population])
        chosen = most_volume(points_NM, is_new_N, self.settings.batch_size)
        return [inner.population[i] for i in chosen]

    def _imagined(self, inner: NSGA2Searcher[A]) -> Iterator[list[A]]:
        """Archs to be predicted, in portions: all that are left of a small space, of a large one
        those that the inner search asks for."""
        members = self.feasible.members
        if members is not None:
            left = [arch for arch in members if arch not in self.numbers]
            for start in range(0, len(left), INNER.offspring_size):
                yield left[start : start + INNER.offspring_size]
            return
        for _ in range(INNER_ROUNDS):
            asked = [inner.ask() for _ in range(INNER.offspring_size)]
            archs = [arch for arch in asked if arch is not None]
            if not archs:
                return
            yield archs

    def _genes(self, archs: Sequence[A]) -> NDArray[np.int64]:
        return np.array([self.feasible.space.encode(arch) for arch in archs])


def most_volume(points_NM: Floats, is_new_N: NDArray[np.bool_], count: int) -> list[int]:
    """Indices of up to `count` new points, each the one that adds most to the hypervolume of the
    old ones and those before it; where none adds anything, the best by `spread`.

    The volume is counted in random points of the box around all: the same ones in every call.
    """
    low_M, high_M = points_NM.min(axis=0), points_NM.max(axis=0)
    # A little room beyond the worst, so that the ends of a front count too.
    scaled_NM = (points_NM - low_M) / np.where(high_M > low_M, high_M - low_M, 1.0) / 1.05
    samples_SM = np.random.default_rng(0).random((NUM_SAMPLES, points_NM.shape[1]))
    beats_NS = np.ones((len(points_NM), NUM_SAMPLES), dtype=bool)
    for objective in range(points_NM.shape[1]):
        beats_NS &= scaled_NM[:, objective, None] <= samples_SM[None, :, objective]
    open_S = ~beats_NS[~is_new_N].any(axis=0)
    left_N = is_new_N.copy()
    chosen: list[int] = []
    while len(chosen) < count and left_N.any():
        gains_N = np.where(left_N, (beats_NS & open_S).sum(axis=1), -1)
        best = int(np.argmax(gains_N))
        if gains_N[best] == 0:
            break
        chosen.append(best)
        left_N[best] = False
        open_S &= ~beats_NS[best]
    return chosen + (spread(points_NM, left_N, missing) if (missing := count - len(chosen)) else [])


def spread(points_NM: Floats, is_new_N: NDArray[np.bool_], count: int) -> list[int]:
    """Indices of up to `count` new points: rank by rank, and of the first rank that is too large
    those that remain when the most crowded is taken away again and again."""
    ranks_N = domination_ranks(points_NM)
    chosen: list[int] = []
    for rank in range(int(ranks_N.max()) + 1):
        front = np.flatnonzero(is_new_N & (ranks_N == rank)).tolist()
        while len(chosen) + len(front) > count:
            del front[int(np.argmin(crowding_distances(points_NM[front])))]
        chosen += front
    return chosen
