"""The searchers beside pymoo's and optuna's NSGA-II, and on a table of real scores.

    python -m tools.benchmarks.search synthetic [--seeds N] [--picture FILE] [--keep DIR]
    python -m tools.benchmarks.search table TABLE [--seeds N] [--picture FILE]

`synthetic`: 30 categorical choices of 4 options, two objectives (`search_problems.Problem`), 2,000
evaluations for each seed, 1,000 by the predictor; needs vipnas[bench]. The settings of the
searchers were chosen on problems 1 to 3 with seeds from 100; reported is problem 0 with seeds from
0. With --keep, the same command resumes with the runs that it had not finished.

`table`: every architecture of a small space has its real score (`tools.benchmarks.score_table`), so
that the best one and the front are known. Pictures show hypervolume over evaluations, with the
lowest and the highest seed.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
import time
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import mean, median

import numpy as np

from tools.benchmarks.command import exit_with
from tools.benchmarks.search_problems import (
    NUM_CHOICES,
    NUM_OPTIONS,
    Genes,
    GeneSpace,
    Point,
    Problem,
    searched,
    with_optuna,
    with_pymoo,
)
from vipnas.config.search import NSGA2, Evolution, Predictor
from vipnas.files import read_json, write_atomically
from vipnas.quantities import Constraint, Cost, Objective
from vipnas.search.constraints import FeasibleSpace
from vipnas.search.pareto import hypervolume
from vipnas.search.searchers import EvolutionSearcher, RandomSearcher, Searcher
from vipnas.search.searchers_nsga2 import NSGA2Searcher
from vipnas.search.searchers_predictor import PredictorSearcher
from vipnas.viz.plots import write_figure

NUM_EVALUATIONS, PREDICTOR_EVALUATIONS = 2000, 1000
COUNTS = (100, 200, 500, 1000, 2000)
GOALS = COUNTS[-3:]
SHARES_OF_BUDGET = (0.01, 0.02, 0.05)
FRONT: tuple[Objective, ...] = ("score", "macs")

Runs = Mapping[str, Sequence[Sequence[Point]]]  # by method, one for every seed
Measure = Callable[[Sequence[Point]], float]


def synthetic(options: argparse.Namespace) -> list[str]:
    problem = Problem(options.problem)
    feasible = FeasibleSpace(GeneSpace([NUM_OPTIONS] * NUM_CHOICES), problem.cost, ())
    rng = random.Random(0)
    drawn = [problem.point(feasible.sample(rng)) for _ in range(10_000)]
    reference = (max(score for score, _ in drawn), max(cost for _, cost in drawn))
    own_seconds = _own_seconds(problem, feasible)

    def ours(make: Callable[[int], Searcher[Genes]], seed: int, count: int) -> list[Point]:
        return searched(make(seed), problem.score, problem.cost, count)

    searchers = front_searchers(feasible)
    num_ours = {name: NUM_EVALUATIONS for name in searchers}
    num_ours["PredictorSearcher"] = PREDICTOR_EVALUATIONS
    ways: dict[str, Callable[[int], list[Point]]] = {
        "pymoo NSGA2": lambda seed: with_pymoo(problem, seed, NUM_EVALUATIONS),
        "optuna NSGAIISampler": lambda seed: with_optuna(problem, seed, NUM_EVALUATIONS),
        **{name: partial(ours, make, count=num_ours[name]) for name, make in searchers.items()},
    }
    runs: dict[str, list[list[Point]]] = {}
    micros: dict[str, float] = {}
    for name, way in ways.items():
        path = options.keep and options.keep / f"problem{options.problem}_{name}"
        found = [
            kept(path and path.with_name(f"{path.name}_{seed}.json"), partial(way, seed))
            for seed in range(options.seeds)
        ]
        runs[name] = [run for run, _ in found]
        seconds = sum(taken for _, taken in found)
        micros[name] = 1e6 * (seconds / sum(map(len, runs[name])) - own_seconds)
        print(f"{name}: done", file=sys.stderr, flush=True)
    everything = [point for found in runs.values() for run in found for point in run]
    whole = hypervolume(everything, reference)

    def share(found: Sequence[Point]) -> float:
        return 100 * hypervolume(found, reference) / whole

    if options.picture:
        draw(options.picture, runs, share, "that of all points found")
    return [
        f"Problem {options.problem}, seeds 0 to {options.seeds - 1}. Hypervolume in % of that of"
        " all points of all runs together: mean (lowest to highest seed).",
        "",
        *rows(runs, share, COUNTS),
        "",
        "Microseconds of the processor an evaluation, without the problem's own:",
        "; ".join(f"{name} {micro:,.0f}" for name, micro in micros.items()) + ".",
        "",
        *_needed(runs, share),
    ]


def _own_seconds(problem: Problem, feasible: FeasibleSpace[Genes]) -> float:
    """The processor's time of an evaluation of the problem itself."""
    started = time.process_time()
    for _ in range(NUM_EVALUATIONS):
        problem.point(feasible.space.min_arch())
    return (time.process_time() - started) / NUM_EVALUATIONS


def kept(path: Path | None, search: Callable[[], list[Point]]) -> tuple[list[Point], float]:
    """The points of a run and its seconds of the processor, read if the file is there."""
    if path and path.exists():
        content = read_json(path)
        return [(score, cost) for score, cost in content["points"]], content["seconds"]
    started = time.process_time()
    points = search()
    seconds = time.process_time() - started
    if path:
        write_atomically(path, json.dumps({"seconds": seconds, "points": points}) + "\n")
    return points, seconds


def front_searchers(
    feasible: FeasibleSpace[Genes],
) -> dict[str, Callable[[int], Searcher[Genes]]]:
    return {
        "random": lambda seed: RandomSearcher(feasible, seed),
        "NSGA2Searcher": lambda seed: NSGA2Searcher(feasible, seed, NSGA2(), FRONT),
        "PredictorSearcher": lambda seed: PredictorSearcher(feasible, seed, Predictor(), FRONT),
    }


def rows(runs: Runs, measure: Measure, counts: Sequence[int]) -> list[str]:
    """A table: mean (lowest to highest seed) after so many evaluations."""
    lines = ["| method | " + " | ".join(f"at {count:,}" for count in counts) + " |"]
    lines.append("|---" * (len(counts) + 1) + "|")
    for name, found in runs.items():
        cells = []
        for count in counts:
            values = [measure(run[:count]) for run in found if len(run) >= count]
            cells.append(
                f"{mean(values):.2f} ({min(values):.2f} to {max(values):.2f})" if values else ""
            )
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def _needed(runs: Runs, share: Measure) -> list[str]:
    """After how many evaluations the predictor has what NSGA-II has."""
    lines = [
        "Evaluations until PredictorSearcher has the mean hypervolume of NSGA2Searcher"
        f" ({PREDICTOR_EVALUATIONS + 1:,} stands for never):",
        "",
        "| NSGA2Searcher | median | most | seeds that need less than half |",
        "|---|---|---|---|",
    ]
    for count in GOALS:
        goal = mean(share(run[:count]) for run in runs["NSGA2Searcher"])
        needed = [_number_needed(run, goal, share) for run in runs["PredictorSearcher"]]
        in_half = sum(number < count / 2 for number in needed)
        lines.append(
            f"| {count:,} | {median(needed):,.0f} | {max(needed):,} | {in_half} of {len(needed)} |"
        )
    return lines


def _number_needed(run: Sequence[Point], goal: float, share: Measure) -> int:
    return 1 + bisect_left(range(len(run)), goal, key=lambda number: share(run[: number + 1]))


def table(options: argparse.Namespace) -> list[str]:
    header, *entries = [json.loads(line) for line in options.table.read_text().splitlines()]
    scores = {tuple(entry["genes"]): entry["ap"] for entry in entries}
    costs = {tuple(entry["genes"]): Cost(entry["macs"], entry["params"]) for entry in entries}
    space = GeneSpace(header["num_options"])
    if len(scores) != math.prod(space.num_options):
        raise ValueError(f"{options.table}: found {len(scores)} archs, the space has more")
    points = [(-scores[arch], float(costs[arch].macs)) for arch in scores]
    budget = Constraint("macs", at_most=median(macs for _, macs in points))
    anywhere = FeasibleSpace(space, costs.__getitem__, ())
    within = FeasibleSpace(space, costs.__getitem__, [budget])
    best: float = max(score for arch, score in scores.items() if arch in within)
    reference = (max(score for score, _ in points) + 1e-9, max(macs for _, macs in points) + 1)
    whole = hypervolume(points, reference)
    counts = [round(len(scores) * part) for part in SHARES_OF_BUDGET]

    def run_all(searchers: Mapping[str, Callable[[int], Searcher[Genes]]]) -> Runs:
        return {
            name: [
                searched(make(seed), scores.__getitem__, costs.__getitem__, counts[-1])
                for seed in range(options.seeds)
            ]
            for name, make in searchers.items()
        }

    def regret(found: Sequence[Point]) -> float:
        return 100 * (best + min(score for score, _ in found))

    def share(found: Sequence[Point]) -> float:
        return 100 * hypervolume(found, reference) / whole

    near = sum(score >= best - 0.001 for arch, score in scores.items() if arch in within)
    fronts = run_all(front_searchers(anywhere))
    if options.picture:
        draw(options.picture, fronts, share, "the true front's")
    return [
        f"Table {options.table.name}: {len(scores):,} archs, seeds 0 to {options.seeds - 1}. Within"
        f" the budget of {budget.at_most / 1e6:.2f} MMACs, the median, the best AP is"
        f" {100 * best:.2f}; {near} archs are within 0.1 points of it.",
        "",
        "Regret in AP points within the budget, mean (lowest to highest seed):",
        "",
        *rows(run_all(best_searchers(within)), regret, counts),
        "",
        "Hypervolume of (AP, MACs) in % of the true front's, mean (lowest to highest seed):",
        "",
        *rows(fronts, share, counts),
    ]


def best_searchers(within: FeasibleSpace[Genes]) -> Mapping[str, Callable[[int], Searcher[Genes]]]:
    ageing = Evolution(survivors="youngest")
    return {
        "random": lambda seed: RandomSearcher(within, seed),
        "EvolutionSearcher": lambda seed: EvolutionSearcher(within, seed, Evolution()),
        "the same, youngest survive": lambda seed: EvolutionSearcher(within, seed, ageing),
        "PredictorSearcher": lambda seed: PredictorSearcher(within, seed, Predictor(), ("score",)),
    }


def draw(path: Path, runs: Runs, share: Measure, whole: str) -> None:
    """Hypervolume over evaluations: the mean of the seeds, in a band from lowest to highest."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    panel = figure.subplots()
    for name, found in runs.items():
        most = min(map(len, found))
        counts = np.unique(np.geomspace(10, most, 40).round().astype(int))
        shares_SN = np.array([[share(run[:count]) for count in counts] for run in found])
        [line] = panel.plot(counts, shares_SN.mean(axis=0), label=name)
        band = (shares_SN.min(axis=0), shares_SN.max(axis=0))
        panel.fill_between(counts, *band, color=line.get_color(), alpha=0.15, linewidth=0)
    panel.set(xscale="log", xlabel="scores", ylabel=f"hypervolume in % of {whole}")
    panel.grid(alpha=0.3, which="both")
    panel.legend(loc="lower right")
    write_figure(path, figure)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(required=True)
    for make_lines in (synthetic, table):
        command = commands.add_parser(make_lines.__name__)
        command.set_defaults(lines=make_lines)
        command.add_argument("--seeds", type=int, default=10)
        command.add_argument("--picture", type=Path, help="write it there, as PNG")
        if make_lines is table:
            command.add_argument("table", type=Path)
        else:
            command.add_argument("--keep", type=Path, help="finished runs, as JSON")
            command.add_argument("--problem", type=int, default=0, help="seed of its tables")
    options = parser.parse_args()
    print("\n".join(options.lines(options)))
    return 0


if __name__ == "__main__":
    exit_with(main)
