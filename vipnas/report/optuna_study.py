"""The trials of runs as Optuna studies, which optuna-dashboard shows. Needs `vipnas[optuna]`."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vipnas.errors import UserError
from vipnas.quantities import QUANTITIES, SCORE
from vipnas.report.choices import Choices
from vipnas.report.runs import LevelRun
from vipnas.search.trial import Trial

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.study import StudyDirection
    from optuna.trial import FrozenTrial


def write_studies(path: Path, runs: Sequence[LevelRun]) -> list[str]:
    """Write a study for each search of each run, and return their names.

    Parameters are the choices in which trials differ; values are the objectives of the search.

    Args:
        path: The SQLite file.
        runs: The runs.

    Raises:
        UserError: If Optuna is not installed, the file exists, or no run has a search.
    """
    try:
        import optuna
    except ImportError:
        hint = "pip install 'vipnas[optuna]'"
        raise UserError("--optuna", "an installed Optuna", "none", hint) from None
    if path.exists():
        raise UserError(str(path), "a new file", "one that exists", "remove it or name another")
    level = {False: "", True: "/clips"}
    studies = {
        f"{run.name}{level[run.is_clip]}/{method}": (run, trials)
        for run in runs
        for method, trials in ((run.method, run.searched), ("random", run.randoms))
        if trials
    }
    if not studies:
        raise UserError("--optuna", "a run with a search", "none")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    aside = path.with_name(f".{path.name}.partial")  # so that a kill leaves no half of a file
    aside.unlink(missing_ok=True)
    storage = optuna.storages.RDBStorage(f"sqlite:///{aside}")
    for name, (run, trials) in studies.items():
        directions = [_direction(one) for one in run.objectives]
        study = optuna.create_study(storage=storage, study_name=name, directions=directions)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study.set_metric_names(list(run.objectives))
        study.add_trials(_frozen(trials, run.objectives))
    storage.engine.dispose()
    aside.replace(path)
    return list(studies)


def _direction(objective: str) -> StudyDirection:
    from optuna.study import StudyDirection

    return StudyDirection.MAXIMIZE if objective == SCORE else StudyDirection.MINIMIZE


def _frozen(trials: Sequence[Trial], objectives: Sequence[str]) -> list[FrozenTrial]:
    from optuna.distributions import CategoricalDistribution
    from optuna.trial import TrialState, create_trial

    choices = Choices.of([trial.arch for trial in trials])
    distributions: dict[str, BaseDistribution] = {
        name: CategoricalDistribution(options)
        for name, options in zip(choices.names, choices.options, strict=True)
    }
    return [
        create_trial(
            state=TrialState.FAIL if trial.score is None else TrialState.COMPLETE,
            params={
                name: options[gene]
                for name, options, gene in zip(choices.names, choices.options, genes_C, strict=True)
            },
            distributions=distributions,
            values=None if trial.score is None else _values(trial, objectives),
            user_attrs=_attributes(trial),
        )
        for trial, genes_C in zip(trials, choices.genes_NC.tolist(), strict=True)
    ]


def _values(trial: Trial, objectives: Sequence[str]) -> list[float]:
    return [trial.fitness if one == SCORE else trial.cost.value(one) for one in objectives]


def _attributes(trial: Trial) -> dict[str, str | float]:
    costs = {name: trial.cost.get(name) for name in QUANTITIES}
    known = {name: value for name, value in costs.items() if value is not None}
    return {
        **known,
        "seconds": trial.seconds,
        "generation": trial.generation,
        "arch": trial.arch.to_json(),
        **({} if trial.failure is None else {"failure": trial.failure}),
    }
