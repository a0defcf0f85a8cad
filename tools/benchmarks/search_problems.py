"""What `tools/benchmarks/search.py` searches: a space of bare genes, a synthetic problem, and other
libraries' NSGA-II on it."""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Callable, Sequence

import numpy as np

from vipnas.quantities import Cost
from vipnas.search.constraints import CostOf
from vipnas.search.searchers import Searcher

NUM_CHOICES, NUM_OPTIONS = 30, 4
NUM_PAIRS, NUM_TRIPLES, NUM_COST_PAIRS = 60, 20, 10

Genes = tuple[int, ...]
Point = tuple[float, float]  # minus the score, and the cost


class GeneSpace:
    """A space whose architectures are their own genes."""

    def __init__(self, num_options: Sequence[int], num_parts: int = 1) -> None:
        self.name, self.num_parts = "genes", num_parts
        self.num_options = tuple(num_options)

    def encode(self, arch: Genes) -> Genes:
        return arch

    def decode(self, genes: Sequence[int]) -> Genes:
        return tuple(genes)

    def sample(self, rng: random.Random) -> Genes:
        return tuple([rng.randrange(count) for count in self.num_options])

    def mutate(self, arch: Genes, probability: float, rng: random.Random) -> Genes:
        open_choices = [i for i, count in enumerate(self.num_options) if count > 1]
        changed = [i for i in open_choices if rng.random() < probability]
        genes = list(arch)
        for i in changed or [rng.choice(open_choices)]:
            genes[i] = (genes[i] + rng.randrange(1, self.num_options[i])) % self.num_options[i]
        return tuple(genes)

    def crossover(self, first: Genes, second: Genes, rng: random.Random) -> Genes:
        coins = rng.getrandbits(len(first))
        pairs = enumerate(zip(first, second, strict=True))
        return tuple([pair[coins >> choice & 1] for choice, pair in pairs])

    def min_arch(self) -> Genes:
        return tuple(0 for _ in self.num_options)

    def max_arch(self) -> Genes:
        return tuple(count - 1 for count in self.num_options)


class Problem:
    """A score to be made large and a cost to be made small, of 30 choices x_i of 4 options.

        score = 0.5 + 0.1 (sqrt(.50 / 30) sum_i a_i[x_i] + sqrt(.30 / 60) sum_(ij) b_ij[x_i, x_j]
                         + sqrt(.15 / 20) sum_(ijk) c_ijk[x_i, x_j, x_k] + sqrt(.05) u(x))
        cost  = 1e6 (sum_i p_i[x_i] + sum_(10 of the ij) p_i[x_i] p_j[x_j])

    All tables are drawn from the seed: prices p uniform in 0..1; b (60 random pairs) and c (20 random
    triples) standard normal; a = 0.7 times the standardised price + sqrt(1 - 0.7^2) times a standard
    normal, so that what is good costs something. u is the rugged part, which nothing can learn: a
    hash of the whole x, uniform with variance 1. The four parts have 50, 30, 15 and 5 % of the
    variance of the score of a random x.
    """  # noqa: E501

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        choices, options = NUM_CHOICES, NUM_OPTIONS
        prices = rng.random((choices, options))
        worth = 0.7 * (prices - 0.5) * math.sqrt(12) + math.sqrt(1 - 0.7**2) * rng.standard_normal(
            (choices, options)
        )
        pairs = [(i, j) for i in range(choices) for j in range(i)]
        self.pairs = [pairs[p] for p in rng.choice(len(pairs), NUM_PAIRS, replace=False)]
        self.triples = [
            tuple(rng.choice(choices, 3, replace=False).tolist()) for _ in range(NUM_TRIPLES)
        ]
        of_pairs = rng.standard_normal((NUM_PAIRS, options, options))
        of_triples = rng.standard_normal((NUM_TRIPLES, options, options, options))
        # Lists: single numbers out of arrays take much longer.
        self.prices = prices.tolist()
        self.worth = (worth * math.sqrt(0.50 / choices)).tolist()
        self.of_pairs = (of_pairs * math.sqrt(0.30 / NUM_PAIRS)).tolist()
        self.of_triples = (of_triples * math.sqrt(0.15 / NUM_TRIPLES)).tolist()
        self.key = str(seed).encode()

    def score(self, x: Genes) -> float:
        total: float = sum(table[gene] for table, gene in zip(self.worth, x, strict=True))
        for table, (i, j) in zip(self.of_pairs, self.pairs, strict=True):
            total += table[x[i]][x[j]]
        for table, (i, j, k) in zip(self.of_triples, self.triples, strict=True):
            total += table[x[i]][x[j]][x[k]]
        digest = hashlib.blake2b(bytes(x), digest_size=4, key=self.key).digest()
        uniform = int.from_bytes(digest, "big") / 2**31 - 1
        return 0.5 + 0.1 * (total + math.sqrt(0.05 * 3) * uniform)

    def cost(self, x: Genes) -> Cost:
        prices = [table[gene] for table, gene in zip(self.prices, x, strict=True)]
        products = sum(prices[i] * prices[j] for i, j in self.pairs[:NUM_COST_PAIRS])
        return Cost(macs=round(1e6 * (sum(prices) + products)), params=0)

    def point(self, x: Genes) -> Point:
        return -self.score(x), float(self.cost(x).macs)


def searched(
    searcher: Searcher[Genes],
    score: Callable[[Genes], float],
    cost_of: CostOf[Genes],
    num_trials: int,
) -> list[Point]:
    points: list[Point] = []
    while len(points) < num_trials and (arch := searcher.ask()) is not None:
        fitness = score(arch)
        searcher.tell(arch, fitness)
        points.append((-fitness, float(cost_of(arch).macs)))
    return points


def with_pymoo(problem: Problem, seed: int, num_trials: int) -> list[Point]:
    """Population 50, uniform crossover, choice mutation of 1/30, no duplicates."""
    from pymoo.algorithms.moo.nsga2 import NSGA2 as PymooNSGA2
    from pymoo.core.mutation import Mutation
    from pymoo.core.problem import ElementwiseProblem
    from pymoo.operators.crossover.ux import UX
    from pymoo.operators.sampling.rnd import IntegerRandomSampling
    from pymoo.optimize import minimize

    points = []

    class Recorded(ElementwiseProblem):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(n_var=NUM_CHOICES, n_obj=2, xl=0, xu=NUM_OPTIONS - 1, vtype=int)

        def _evaluate(self, x, out, *_, **__):  # type: ignore[no-untyped-def]
            points.append(problem.point(tuple(x.tolist())))
            out["F"] = points[-1]

    class ChoiceMutation(Mutation):  # type: ignore[misc]
        """pymoo's ChoiceRandomMutation, for integers that stand for options."""

        def _do(self, _, X, random_state=None, **__):  # type: ignore[no-untyped-def]
            redrawn = random_state.random(X.shape) < 1 / NUM_CHOICES
            return np.where(redrawn, random_state.integers(0, NUM_OPTIONS, X.shape), X)

    algorithm = PymooNSGA2(
        pop_size=50,
        sampling=IntegerRandomSampling(),
        crossover=UX(),
        mutation=ChoiceMutation(),
        eliminate_duplicates=True,
    )
    minimize(Recorded(), algorithm, ("n_eval", num_trials), seed=seed)
    return points


def with_optuna(problem: Problem, seed: int, num_trials: int) -> list[Point]:
    """NSGAIISampler as it comes: population 50, uniform crossover, mutation of 1/30."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    points = []

    def objective(trial: optuna.Trial) -> Point:
        options = range(NUM_OPTIONS)
        x = tuple(trial.suggest_categorical(str(i), options) for i in range(NUM_CHOICES))
        points.append(problem.point(x))
        return points[-1]

    sampler = optuna.samplers.NSGAIISampler(seed=seed)
    study = optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)
    study.optimize(objective, n_trials=num_trials)
    return points
