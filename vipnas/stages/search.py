"""Search the trained supernet."""

from __future__ import annotations

import json
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from vipnas.arch import Arch, write_arch
from vipnas.cost import count_cost
from vipnas.evaluation.evaluator import InheritedScore
from vipnas.experiment import Experiment, digest
from vipnas.files import to_plain, write_atomically
from vipnas.results import Trial
from vipnas.search.constraints import FeasibleSpace
from vipnas.search.journal import Journal
from vipnas.search.loop import search as run_search
from vipnas.search.pareto import pareto_front
from vipnas.search.searchers import EvolutionSearcher, RandomSearcher, Searcher
from vipnas.stages.supernet import supernet_file
from vipnas.stages.work import needed, timed
from vipnas.training.checkpoint import load_network

METHODS = ("evolution", "random")


def best_file(experiment: Experiment, method: str = "evolution") -> Path:
    name = "best.json" if method == "evolution" else f"{method}_best.json"
    return experiment.output / "search" / name


def search(experiment: Experiment) -> Path:
    """Search the trained supernet by evolution, and by random search with as many scores.

    `search/best.json` is the arch with the best score within the budgets.
    """
    config, seed = needed(experiment.config.search, "search"), experiment.config.seed
    feasible = FeasibleSpace(experiment.space, count_cost, config.constraints)
    directory = best_file(experiment).parent
    scorer = _Scorer(experiment)
    journal = Journal(directory / "trials.jsonl", scorer.settings())
    searchers: dict[str, Searcher] = {
        "evolution": EvolutionSearcher(feasible, seed, config.evolution),
        "random": RandomSearcher(feasible, seed),
    }
    with timed(directory):
        for method in METHODS:
            show = partial(_show_trial, num_trials=config.num_trials)
            trials = run_search(
                searchers[method], method, scorer, count_cost, config.num_trials, journal, show
            )
            best = max(trials, key=lambda trial: trial.fitness)
            if best.score is None:
                raise ValueError(f"all {len(trials)} evaluations failed; the last: {best.failure}")
            write_trial(best_file(experiment, method), best, experiment)
            if method == "evolution":
                front = [to_plain(trial) for trial in pareto_front(trials)]
                write_atomically(directory / "pareto.json", json.dumps(front, indent=1) + "\n")
            print(f"search: best of {len(trials)} by {method}: {best.fitness:.4f}, {best.cost}")
    return best_file(experiment)


class _Scorer:
    """Scores archs with inherited weights; the crops are made at the first."""

    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment
        self.file = supernet_file(experiment)
        if not self.file.exists():
            raise ValueError(f"{self.file}: no supernet; run `vipnas train-supernet` first")
        self.supernet = load_network(self.file, experiment.space.max_arch())

    def settings(self) -> dict[str, Any]:
        """All that a trial of the search depends on."""
        return {
            "seed": self.experiment.config.seed,
            "search": to_plain(self.experiment.config.search),
            "supernet": digest(self.file),
            "search_persons": len(self.experiment.search_data.persons),
            "flip_test": self.experiment.config.flip_test,
            "codec": self.experiment.config.codec,
            "evaluation_batch_size": self.experiment.config.evaluation_batch_size,
        }

    @cached_property
    def score(self) -> InheritedScore:
        return InheritedScore(
            self.supernet.to(self.experiment.device),
            self.experiment.evaluator("search"),
            self.experiment.calibration_images,
        )

    def __call__(self, arch: Arch) -> float:
        return self.score(arch)


def write_trial(path: Path, trial: Trial, experiment: Experiment) -> None:
    found = {key: value for key, value in to_plain(trial).items() if key != "arch"}
    write_arch(path, trial.arch, space=experiment.space.name, seed=experiment.config.seed, **found)


def _show_trial(trial: Trial, num_trials: int) -> None:
    result = f"score {trial.score:.4f}" if trial.score is not None else f"failed: {trial.failure}"
    print(
        f"search: {trial.method} {trial.number + 1}/{num_trials}: {result}, {trial.cost},"
        f" {trial.seconds:.1f} s",
        flush=True,
    )
