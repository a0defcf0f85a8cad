"""Search the trained supernet, beside random search with the same number of scores."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from vipnas.config.search import SearchConfig
from vipnas.errors import UserError
from vipnas.files import to_plain, write_atomically
from vipnas.pipeline.level import Level, best_file
from vipnas.pipeline.near_budget import near_budget
from vipnas.pipeline.scorer import Scorer, opened_workers, search_settings
from vipnas.pipeline.work import at_work, timed
from vipnas.quantities import Objective
from vipnas.search.constraints import A, CostOf, FeasibleSpace, Space
from vipnas.search.journal import Journal
from vipnas.search.listed import Listed
from vipnas.search.loop import Workers
from vipnas.search.loop import search as run_search
from vipnas.search.pareto import hypervolume, pareto_front, points_of, to_unit_box
from vipnas.search.ray_cluster import RaySettings
from vipnas.search.searchers import RandomSearcher, Searcher
from vipnas.search.table import SEARCHERS, make_searcher
from vipnas.search.trial import Trial
from vipnas.viz.fronts import draw_front


class WriteBest(Protocol):
    """Writes the best trial of a method, and what else was `found` about the search."""

    def __call__(self, method: str, best: Trial, **found: Any) -> None: ...


# The method name of the reference architectures: the largest and the smallest of the space.
REFERENCES = "reference"


def search_methods(level: Level[Any]) -> tuple[str, str]:
    """Return the experiment's searcher, and what it is compared with."""
    return level.search_config.searcher, "random"


def search(
    level: Level[A],
    ray: RaySettings | None = None,
    after_trial: Callable[[Trial], object] | None = None,
) -> Path:
    """Search the trained supernet, and by random search with as many scores.

    `search/best.json` is the architecture with the best score within the budgets, `pareto.json` the
    front of the objectives, `pareto.png` a picture of both searches. Without `ray` it runs in this
    process. `after_trial` is called with every new trial.
    """
    config = level.search_config
    cost_of, costs = level.cost_of()
    seed, directory = level.experiment.config.seed, best_file(level).parent
    near = near_budget(level, cost_of, directory, ray)
    cost_of = near or cost_of
    with _named(level):
        searchers = searchers_of(config, level.space, seed, cost_of)
        if near is not None:
            searchers = near.measuring(searchers, REFERENCES)
    scorer = Scorer(level)

    def write_best(method: str, best: Trial, **found: Any) -> None:
        level.write_trial(best_file(level, method), best, **found)

    with at_work(level.experiment, directory):
        journal = Journal(directory / "trials.jsonl", {**search_settings(level), **costs})
        with timed(directory), opened_workers(scorer, config, ray) as workers:
            early = config.early_stop_margin is not None
            trials = run_methods(
                config, searchers, workers, cost_of, journal, write_best, early, after_trial
            )
        write_fronts(directory, config, trials)
    return best_file(level)


def check_budgets(level: Level[Any]) -> None:
    """Raise UserError if no architecture can meet one of the budgets of the search."""
    cost_of, _ = level.cost_of()
    with _named(level):
        FeasibleSpace(level.space, cost_of, level.budgets)


@contextmanager
def _named(level: Level[Any]) -> Iterator[None]:
    """Put the section of the search into the place of a UserError."""
    try:
        yield
    except UserError as error:
        raise error.inside(f"{level.experiment.file}: {level.sections}search") from None


def run_methods(
    config: SearchConfig,
    searchers: Mapping[str, Searcher[A]],
    workers: Workers[A],
    cost_of: CostOf[A],
    journal: Journal,
    write_best: WriteBest,
    stop_early: bool = False,
    after_trial: Callable[[Trial], object] | None = None,
) -> dict[str, list[Trial]]:
    """Run the searchers one after the other, with the same number of trials each.

    Args:
        stop_early: Whether scores can be cut short. It needs workers that support it.
        after_trial: Called with every new trial.

    Returns:
        The trials of each searcher, by method.
    """
    trials: dict[str, list[Trial]] = {}
    for method, searcher in searchers.items():
        wanted = 2 if method == REFERENCES else config.num_trials
        show = partial(_show, num_trials=wanted, after_trial=after_trial)
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
            ended = ended_early(trials[method], wanted)
            write_best(method, best, **({} if ended is None else {"ended_early": ended}))
            print(
                f"search: best of {len(trials[method])} by {method}: {best.fitness:.4f},"
                f" {best.cost}"
            )
    return trials


def write_fronts(directory: Path, config: SearchConfig, trials: dict[str, list[Trial]]) -> None:
    """Write `pareto.json`, and plot all searches."""
    front = [to_plain(trial) for trial in pareto_front(trials[config.searcher], config.objectives)]
    write_atomically(directory / "pareto.json", json.dumps(front, indent=1) + "\n")
    ends = dict(zip(("largest", "smallest"), trials[REFERENCES], strict=True))
    searched = {method: found for method, found in trials.items() if method != REFERENCES}
    draw_front(directory / "pareto.png", searched, ends, config.objectives)
    if SEARCHERS[config.searcher].finds_front and len(config.objectives) > 1:
        volumes = front_volumes(searched, config.objectives)
        shares = ", ".join(f"{method} {volume:.3f}" for method, volume in volumes.items())
        print(f"search: hypervolume of the fronts of {'/'.join(config.objectives)}: {shares}")
    for method, found in searched.items():
        if (ended := ended_early(found, config.num_trials)) is not None:
            print(f"search: {method} {ended}")


def ended_early(trials: Sequence[Trial], num_trials: int) -> str | None:
    """Return why a search has fewer trials than asked for; None if it has all."""
    if len(trials) >= num_trials:
        return None
    found = f"ended early: {len(trials)} of {num_trials} trials"
    return f"{found}, no other architecture within the budgets was found"


def front_volumes(
    searched: Mapping[str, Sequence[Trial]], objectives: Sequence[Objective]
) -> dict[str, float]:
    """Return the hypervolume of the front of each search.

    It is relative to the box around the points of all searches: 0 to 1.
    """
    boxed = to_unit_box({name: points_of(trials, objectives) for name, trials in searched.items()})
    return {
        name: hypervolume(points_NM, [1.0] * len(objectives)) for name, points_NM in boxed.items()
    }


def best_of(trials: list[Trial]) -> Trial:
    """Return the first trial with the highest score; raises UserError if all failed."""
    best = max(trials, key=lambda trial: trial.fitness, default=None)
    if best is None or best.score is None:
        reason = f" that failed, the last with: {trials[-1].failure}" if trials else ""
        raise UserError("search", "evaluations that succeed", f"{len(trials)}{reason}")
    return best


def searchers_of(
    config: SearchConfig, space: Space[A], seed: int, cost_of: CostOf[A]
) -> Mapping[str, Searcher[A]]:
    """Return the searchers by method, in the order they run.

    Raises:
        UserError: If no architecture is within the budgets.
    """
    feasible = FeasibleSpace(space, cost_of, config.constraints)
    return {
        config.searcher: make_searcher(config, feasible, seed),
        "random": RandomSearcher(feasible, seed),
        REFERENCES: Listed((space.max_arch(), space.min_arch())),
    }


def _show(trial: Trial, num_trials: int, after_trial: Callable[[Trial], object] | None) -> None:
    show_trial(trial, num_trials)
    if after_trial is not None:
        after_trial(trial)


def show_trial(trial: Trial, num_trials: int) -> None:
    result = f"score {trial.score:.4f}" if trial.score is not None else f"failed: {trial.failure}"
    print(
        f"search: {trial.method} {trial.number + 1}/{num_trials}: {result}, {trial.cost},"
        f" {trial.seconds:.1f} s",
        flush=True,
    )
