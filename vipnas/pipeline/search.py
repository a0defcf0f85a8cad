"""Search the trained supernet, beside random search with the same number of scores."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from vipnas.arch.image import Arch
from vipnas.arch.io import write_arch
from vipnas.config.search import SearchConfig
from vipnas.files import to_plain, write_atomically
from vipnas.models.counting import count_cost
from vipnas.pipeline.experiment import Experiment
from vipnas.pipeline.scorer import Scorer, opened_workers
from vipnas.pipeline.work import at_work, needed, timed
from vipnas.quantities import Cost, Objective
from vipnas.search.constraints import A, CostOf, FeasibleSpace, Space
from vipnas.search.journal import Journal
from vipnas.search.listed import Listed
from vipnas.search.loop import Workers
from vipnas.search.loop import search as run_search
from vipnas.search.parallel import RaySettings
from vipnas.search.pareto import hypervolume, pareto_front, to_minimise
from vipnas.search.searchers import EvolutionSearcher, RandomSearcher, Searcher
from vipnas.search.searchers_nsga2 import NSGA2Searcher
from vipnas.search.searchers_predictor import PredictorSearcher
from vipnas.search.trial import Trial
from vipnas.space.image import SearchSpace
from vipnas.viz.fronts import draw_front

# The method name of the reference architectures: the largest and the smallest of the space.
REFERENCES = "reference"


def search_methods(experiment: Experiment) -> tuple[str, str]:
    """The experiment's searcher, and what it is compared with."""
    return needed(experiment.config.search, "search").searcher, "random"


def best_file(experiment: Experiment, method: str | None = None) -> Path:
    """The arch that a method found; the experiment's searcher by default."""
    name = "random_best.json" if method == "random" else "best.json"
    return experiment.folder.search / name


def existing_best(experiment: Experiment) -> Path:
    """Raises ValueError where nothing was searched yet."""
    file = best_file(experiment)
    if not file.exists():
        raise ValueError(f"{file}: no arch found yet; run `vipnas search` first or give --arch")
    return file


def search(experiment: Experiment, ray: RaySettings | None = None) -> Path:
    """Search the trained supernet, and by random search with as many scores; without `ray` in this
    process.

    `search/best.json` is the arch with the best score within the budgets, `pareto.json` the front
    of the objectives, `pareto.png` a picture of both searches.
    """
    config = needed(experiment.config.search, "search")
    cost_of, costs = cost_of_images(config, experiment.space)
    searchers = searchers_of(config, experiment.space, experiment.config.seed, cost_of)
    directory = best_file(experiment).parent
    scorer = Scorer(experiment, config.threads)

    def write_best(method: str, best: Trial) -> None:
        path = best_file(experiment, method)
        write_trial(path, best, experiment, latency=_measured(config, experiment, path.name, best))

    with at_work(experiment, directory):
        journal = Journal(directory / "trials.jsonl", {**scorer.settings(), **costs})
        with timed(directory), opened_workers(scorer, config, ray) as workers:
            early = config.early_stop_margin is not None
            trials = run_methods(config, searchers, workers, cost_of, journal, write_best, early)
        write_fronts(directory, config, trials)
    return best_file(experiment)


def _measured(
    config: SearchConfig, experiment: Experiment, name: str, best: Trial
) -> dict[str, Any] | None:
    """What a winner really takes, where the search went by predictions; also printed."""
    if config.latency is None:
        return None
    from vipnas.latency.predictors import open_predictor

    assert isinstance(best.arch, Arch)
    compared = open_predictor(config.latency, experiment.space).compare(best.arch)
    warning = ""
    if compared.measured is not None:
        cost = replace(best.cost, latency_ms=compared.measured.median_ms)
        missed = [str(limit) for limit in config.constraints if limit.excess(cost)]
        warning = f"; outside of the budget: {', '.join(missed)}" if missed else ""
    print(f"search: {name}: {compared}{warning}")
    return asdict(compared)


def run_methods(
    config: SearchConfig,
    searchers: Mapping[str, Searcher[A]],
    workers: Workers[A],
    cost_of: CostOf[A],
    journal: Journal,
    write_best: Callable[[str, Trial], None],
    stop_early: bool = False,
) -> dict[str, list[Trial]]:
    """Let one searcher after another try as many archs; the trials of each. `stop_early` needs
    workers whose scores can be cut short."""
    trials: dict[str, list[Trial]] = {}
    for method, searcher in searchers.items():
        wanted = 2 if method == REFERENCES else config.num_trials
        show = partial(show_trial, num_trials=wanted)
        trials[method] = run_search(
            searcher,
            method,
            workers,
            cost_of,
            wanted,
            journal,
            show,
            config.pending,
            stop_early=config.objectives if stop_early and method != REFERENCES else None,
            earlier=tuple(trials),
        )
        if method != REFERENCES:
            best = best_of(trials[method])
            write_best(method, best)
            print(
                f"search: best of {len(trials[method])} by {method}: {best.fitness:.4f},"
                f" {best.cost}"
            )
    return trials


def write_fronts(directory: Path, config: SearchConfig, trials: dict[str, list[Trial]]) -> None:
    """`pareto.json`, and the picture of all searches."""
    front = [to_plain(trial) for trial in pareto_front(trials[config.searcher], config.objectives)]
    write_atomically(directory / "pareto.json", json.dumps(front, indent=1) + "\n")
    ends = dict(zip(("largest", "smallest"), trials[REFERENCES], strict=True))
    searched = {method: found for method, found in trials.items() if method != REFERENCES}
    draw_front(directory / "pareto.png", searched, ends, config.objectives)
    if config.searcher != "evolution":
        volumes = front_volumes(searched, config.objectives)
        shares = ", ".join(f"{method} {volume:.3f}" for method, volume in volumes.items())
        print(f"search: hypervolume of the fronts of {'/'.join(config.objectives)}: {shares}")


def front_volumes(
    searched: Mapping[str, Sequence[Trial]], objectives: Sequence[Objective]
) -> dict[str, float]:
    """Of each search the hypervolume of its front, in the box around the points of all searches:
    0 to 1."""
    points = {
        method: np.array(
            [to_minimise(t.fitness, t.cost, objectives) for t in trials if t.score is not None]
        )
        for method, trials in searched.items()
    }
    everything = np.concatenate([found for found in points.values() if len(found)])
    low, high = everything.min(axis=0), everything.max(axis=0)
    scale = np.where(high > low, high - low, 1.0)
    return {
        method: hypervolume((found - low) / scale, [1.0] * len(objectives)) if len(found) else 0.0
        for method, found in points.items()
    }


def best_of(trials: list[Trial]) -> Trial:
    """The first of those with the highest score; raises ValueError if all failed."""
    best = max(trials, key=lambda trial: trial.fitness)
    if best.score is None:
        raise ValueError(f"all {len(trials)} evaluations failed; the last: {trials[-1].failure}")
    return best


def cost_of_images(
    config: SearchConfig, space: SearchSpace
) -> tuple[CostOf[Arch], dict[str, str | None]]:
    """What an arch costs, and what of it the journal must know."""
    if config.latency is None:
        return count_cost, {"latency_table": None}
    from vipnas.latency.predictors import open_predictor, with_latency

    predictor = open_predictor(config.latency, space)
    print(f"search: {predictor}")
    return with_latency(count_cost, predictor), {"latency_table": predictor.fingerprint}


def searchers_of(
    config: SearchConfig, space: Space[A], seed: int, cost_of: CostOf[A]
) -> Mapping[str, Searcher[A]]:
    """By method, in the order they run. Raises ValueError for budgets that cannot be met."""
    feasible = FeasibleSpace(space, cost_of, config.constraints)
    searcher: Searcher[A]
    if config.searcher == "evolution":
        searcher = EvolutionSearcher(feasible, seed, config.evolution)
    elif config.searcher == "nsga2":
        searcher = NSGA2Searcher(feasible, seed, config.nsga2, config.objectives)
    else:
        searcher = PredictorSearcher(feasible, seed, config.predictor, config.objectives)
    return {
        config.searcher: searcher,
        "random": RandomSearcher(feasible, seed),
        REFERENCES: Listed((space.max_arch(), space.min_arch())),
    }


def write_trial(
    path: Path, trial: Trial, experiment: Experiment, latency: dict[str, Any] | None = None
) -> None:
    """`latency`: what is known of it besides the cost that the search went by."""
    assert isinstance(trial.arch, Arch)
    name, seed = experiment.space.name, experiment.config.seed
    measured = {} if latency is None else {"latency": latency}
    write_arch(path, trial.arch, space=name, seed=seed, **found_by(trial), **measured)


def found_by(trial: Trial) -> dict[str, Any]:
    """What an arch file says of where the arch comes from."""
    return {key: value for key, value in to_plain(trial).items() if key != "arch"}


def check_budgets(config: SearchConfig, cost: Cost, where: str) -> None:
    """Raise ValueError naming the first budget of today's experiment that a cost is outside of."""
    for limit in config.constraints:
        if limit.excess(cost):
            raise ValueError(
                f"{where}: expected {limit}, got {limit.format(limit.value(cost))} (search within"
                " the budgets of the experiment, or change these)"
            )


def show_trial(trial: Trial, num_trials: int) -> None:
    result = f"score {trial.score:.4f}" if trial.score is not None else f"failed: {trial.failure}"
    print(
        f"search: {trial.method} {trial.number + 1}/{num_trials}: {result}, {trial.cost},"
        f" {trial.seconds:.1f} s",
        flush=True,
    )
