"""Trainings side by side, of which the hopeless are stopped early (Ray Tune, ASHA). No torch here.

Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020: at each rung (1/9
and 1/3 of the run) a training goes on only if it is among the best third of those that came so far.
Which these are depends on who is quicker, so that a second run may stop others.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

from vipnas.search.parallel import RaySettings, import_ray, start_ray

REDUCTION = 3
# Percent of the run: rungs are whole numbers.
FIRST_RUNG, LAST = 11, 100

# Called with the share of the run that is done (0..1) and the score there.
Report: TypeAlias = Callable[[float, float], None]


def run_all(
    run: Callable[[str, Report], None], names: Sequence[str], settings: RaySettings, storage: Path
) -> None:
    """Call `run(name, report)` for every name in workers of Ray, as many at a time as there are
    workers. A call that is stopped early does not come back from `report`.

    Nothing is restored here: run again, each call must report again what it had, go on from there,
    and return where it is finished. Raises ValueError with the reason of the first that failed.
    """
    # A worker's working folder stays that of the command, for paths that are relative to it.
    os.environ["RAY_CHDIR_TO_TRIAL_DIR"] = "0"
    owns_ray = start_ray(settings)
    ray, tune = import_ray(), import_ray("ray.tune")
    schedulers = import_ray("ray.tune.schedulers")

    def trial(config: dict[str, str]) -> None:
        def report(share: float, score: float) -> None:
            tune.report({"percent": round(LAST * share), "score": score})

        run(config["name"], report)

    resources = {"cpu": settings.threads, "gpu": settings.gpus_per_worker}
    scheduler = schedulers.ASHAScheduler(
        time_attr="percent", max_t=LAST, grace_period=FIRST_RUNG, reduction_factor=REDUCTION
    )
    try:
        results = tune.Tuner(
            tune.with_resources(trial, resources),
            param_space={"name": tune.grid_search(list(names))},
            tune_config=tune.TuneConfig(
                metric="score",
                mode="max",
                scheduler=scheduler,
                max_concurrent_trials=settings.num_workers,
            ),
            run_config=tune.RunConfig(storage_path=str(storage.resolve()), name="tune", verbose=0),
        ).fit()
    finally:
        if owns_ray:
            ray.shutdown()
    if results.errors:
        raise ValueError(f"a training failed: {str(results.errors[0]).strip().splitlines()[-1]}")
