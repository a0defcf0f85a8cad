"""The searchers beside pymoo's and optuna's NSGA-II, and on a table of real scores.

    python tools/bench_search.py synthetic [--seeds N] [--report FILE]     # needs vipnas[bench]
    python tools/bench_search.py table TABLE [--seeds N] [--report FILE]   # tools/score_table.py makes TABLE

`synthetic`: 30 categorical choices of 4 options, two objectives (`Problem`), 2,000 evaluations for
each seed. The settings of the searchers were chosen on problems 1 to 3 with seeds from 100; reported
is problem 0 with seeds from 0. `table`: every arch of a small space has its real score, so that the
best one and the front are known.
"""  # noqa: E501

from __future__ import annotations

import argparse
import hashlib
import json
import math
import random
import sys
import time
from bisect import bisect_left
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from statistics import mean, median

import numpy as np

from vipnas.results import Cost
from vipnas.search.constraints import Constraint, CostOf, FeasibleSpace
from vipnas.search.pareto import Objective, hypervolume
from vipnas.search.searchers import Evolution, EvolutionSearcher, RandomSearcher, Searcher
from vipnas.search.searchers_nsga2 import NSGA2, NSGA2Searcher
from vipnas.search.searchers_predictor import Predictor, PredictorSearcher

NUM_CHOICES, NUM_OPTIONS = 30, 4
NUM_EVALUATIONS = 2000
COUNTS = (500, 1000, 2000)
PREDICTOR_EVALUATIONS = COUNTS[0]
NUM_PAIRS, NUM_TRIPLES, NUM_COST_PAIRS = 60, 20, 10
SHARES_OF_BUDGET = (0.01, 0.02, 0.05, 0.1)
FRONT: tuple[Objective, ...] = ("ap", "macs")

Genes = tuple[int, ...]
Point = tuple[float, float]  # minus the score, and the cost
Run = Callable[[int], list[Point]]


class GeneSpace:
    """A space whose architectures are their own genes."""

    def __init__(self, num_options: Sequence[int]) -> None:
        self.name = "genes"
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
        total = sum(table[gene] for table, gene in zip(self.worth, x, strict=True))
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
    points = []
    while len(points) < num_trials and (arch := searcher.ask()) is not None:
        fitness = score(arch)
        searcher.tell(arch, fitness)
        points.append((-fitness, float(cost_of(arch).macs)))
    return points


def with_pymoo(problem: Problem, seed: int) -> list[Point]:
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
    minimize(Recorded(), algorithm, ("n_eval", NUM_EVALUATIONS), seed=seed)
    return points


def with_optuna(problem: Problem, seed: int) -> list[Point]:
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
    study.optimize(objective, n_trials=NUM_EVALUATIONS)
    return points


def synthetic(options: argparse.Namespace) -> list[str]:
    problem = Problem(options.problem)
    feasible = FeasibleSpace(GeneSpace([NUM_OPTIONS] * NUM_CHOICES), problem.cost, ())
    rng = random.Random(0)
    drawn = [problem.point(feasible.sample(rng)) for _ in range(10_000)]
    reference = (max(score for score, _ in drawn), max(cost for _, cost in drawn))
    started = time.process_time()
    for _ in range(NUM_EVALUATIONS):
        problem.point(feasible.space.min_arch())
    own_seconds = (time.process_time() - started) / NUM_EVALUATIONS

    def ours(make: Callable[[int], Searcher[Genes]], num_trials: int = NUM_EVALUATIONS) -> Run:
        return lambda seed: searched(make(seed), problem.score, problem.cost, num_trials)

    ways: dict[str, Run] = {
        "random": ours(lambda seed: RandomSearcher(feasible, seed)),
        "pymoo NSGA2": lambda seed: with_pymoo(problem, seed),
        "optuna NSGAIISampler": lambda seed: with_optuna(problem, seed),
        "NSGA2Searcher": ours(lambda seed: NSGA2Searcher(feasible, seed, NSGA2(), FRONT)),
        "PredictorSearcher": ours(
            lambda seed: PredictorSearcher(feasible, seed, Predictor(), FRONT),
            PREDICTOR_EVALUATIONS,
        ),
    }
    runs: dict[str, list[list[Point]]] = {}
    micros: dict[str, float] = {}
    for name, way in ways.items():
        started = time.process_time()
        runs[name] = [way(seed) for seed in range(options.seeds)]
        evaluations = sum(map(len, runs[name]))
        micros[name] = 1e6 * ((time.process_time() - started) / evaluations - own_seconds)
        print(f"{name}: done", file=sys.stderr, flush=True)
    everything = [point for found in runs.values() for run in found for point in run]
    whole = hypervolume(everything, reference)

    def share(run: Sequence[Point], count: int) -> float:
        return 100 * hypervolume(run[:count], reference) / whole

    return _synthetic_rows(runs, micros, share, options)


def _synthetic_rows(
    runs: dict[str, list[list[Point]]],
    micros: dict[str, float],
    share: Callable[[Sequence[Point], int], float],
    options: argparse.Namespace,
) -> list[str]:
    lines = [
        f"Problem {options.problem}, seeds 0 to {options.seeds - 1}. Hypervolume in % of that of"
        " all points of all runs together: mean (lowest to highest seed).",
        "",
        f"| method | {' | '.join(f'at {count:,}' for count in COUNTS)} | us an evaluation |",
        "|---" * (len(COUNTS) + 2) + "|",
    ]
    for name, found in runs.items():
        cells = []
        for count in COUNTS:
            shares = [share(run, count) for run in found if len(run) >= count]
            text = f"{mean(shares):.1f} ({min(shares):.1f} to {max(shares):.1f})" if shares else ""
            cells.append(text)
        lines.append(f"| {name} | {' | '.join(cells)} | {micros[name]:,.0f} |")
    lines += [
        "",
        "Time is the processor's, without the problem's own. Evaluations until PredictorSearcher"
        " has the mean hypervolume of NSGA2Searcher: median, most over the seeds"
        f" ({PREDICTOR_EVALUATIONS + 1} stands for never):",
        "",
        "| NSGA2Searcher | PredictorSearcher |",
        "|---|---|",
    ]
    for count in COUNTS:
        goal = mean(share(run, count) for run in runs["NSGA2Searcher"])
        needed = [
            bisect_left(range(len(run)), goal, key=lambda n, run=run: share(run, n + 1)) + 1
            for run in runs["PredictorSearcher"]
        ]
        lines.append(f"| {count:,} | {median(needed):,.0f}, {max(needed):,} |")
    return lines


def table(options: argparse.Namespace) -> list[str]:
    header, *rows = [json.loads(line) for line in options.table.read_text().splitlines()]
    scores = {tuple(row["genes"]): row["ap"] for row in rows}
    costs = {tuple(row["genes"]): Cost(row["macs"], row["params"]) for row in rows}
    space = GeneSpace(header["num_options"])
    if len(scores) != math.prod(space.num_options):
        raise ValueError(f"{options.table}: found {len(scores)} archs, the space has more")
    points = [(-scores[arch], float(costs[arch].macs)) for arch in scores]
    budget = Constraint("macs", at_most=median(macs for _, macs in points))
    anywhere = FeasibleSpace(space, costs.__getitem__, ())
    within = FeasibleSpace(space, costs.__getitem__, [budget])
    best = max(score for arch, score in scores.items() if arch in within)
    reference = (max(score for score, _ in points) + 1e-9, max(macs for _, macs in points) + 1)
    whole = hypervolume(points, reference)
    counts = [round(len(scores) * part) for part in SHARES_OF_BUDGET]
    best_ways: dict[str, Callable[[int], Searcher[Genes]]] = {
        "random": lambda seed: RandomSearcher(within, seed),
        "EvolutionSearcher": lambda seed: EvolutionSearcher(within, seed, Evolution()),
        "the same, youngest survive": lambda seed: EvolutionSearcher(
            within, seed, Evolution(survivors="youngest")
        ),
        "PredictorSearcher": lambda seed: PredictorSearcher(within, seed, Predictor(), ("ap",)),
    }
    front_ways: dict[str, Callable[[int], Searcher[Genes]]] = {
        "random": lambda seed: RandomSearcher(anywhere, seed),
        "NSGA2Searcher": lambda seed: NSGA2Searcher(anywhere, seed, NSGA2(), FRONT),
        "PredictorSearcher": lambda seed: PredictorSearcher(anywhere, seed, Predictor(), FRONT),
    }

    def regret(found: Sequence[Point]) -> float:
        return 100 * (best + min(score for score, _ in found))

    def share(found: Sequence[Point]) -> float:
        return 100 * hypervolume(found, reference) / whole

    near = sum(score >= best - 0.001 for arch, score in scores.items() if arch in within)
    lines = [
        f"Table {options.table.name}: {len(scores):,} archs, seeds 0 to {options.seeds - 1}. Within"
        f" the budget of {budget.at_most / 1e6:.2f} MMACs, the median, the best AP is"
        f" {100 * best:.2f}; {near} archs are within 0.1 points of it.",
    ]
    for title, ways, measure in (
        ("Regret in AP points within the budget", best_ways, regret),
        ("Hypervolume of (AP, MACs) in % of the true front's", front_ways, share),
    ):
        lines += ["", f"{title}, mean (worst seed):", ""]
        lines.append("| scored | " + " | ".join(f"{count:,}" for count in counts) + " |")
        lines.append("|---" * (len(counts) + 1) + "|")
        worst = max if measure is regret else min
        for name, make in ways.items():
            runs = [
                searched(make(seed), scores.__getitem__, costs.__getitem__, counts[-1])
                for seed in range(options.seeds)
            ]
            cells = []
            for count in counts:
                values = [measure(run[:count]) for run in runs]
                cells.append(f"{mean(values):.2f} ({worst(values):.2f})")
            lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(required=True)
    for make_rows in (synthetic, table):
        command = commands.add_parser(make_rows.__name__)
        command.set_defaults(rows=make_rows)
        command.add_argument("--seeds", type=int, default=10)
        command.add_argument("--report", type=Path, help="write the tables there, as markdown")
        if make_rows is table:
            command.add_argument("table", type=Path)
        else:
            command.add_argument("--problem", type=int, default=0, help="seed of its tables")
    options = parser.parse_args()
    lines = [
        f"# Searchers, {date.today()}",
        "",
        f"Command: `python tools/bench_search.py {' '.join(sys.argv[1:])}`",
        "",
        *options.rows(options),
    ]
    print("\n".join(lines))
    if options.report:
        options.report.write_text("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
