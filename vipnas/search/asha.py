"""Train in parallel and stop the worst early: ASHA by Ray Tune. No torch here.

Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020. Rungs are at 1/9 and
1/3 of the run. A training continues only if it is in the best third of those that reached the rung
so far. This depends on the order of completion, so a second run may stop others.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

from vipnas.errors import UserError
from vipnas.search.ray_cluster import RaySettings, import_ray, start_ray

REDUCTION = 3
# In percent of the run, because rungs are whole numbers.
FIRST_RUNG, LAST = 11, 100

# Called with the fraction of the run that is done (0 to 1) and the score at that point.
Report: TypeAlias = Callable[[float, float], None]


def run_all(
    run: Callable[[str, Report], None], names: Sequence[str], settings: RaySettings, storage: Path
) -> None:
    """Call `run(name, report)` for every name in Ray workers.

    A call that is stopped early does not return from `report`. When the command is run again, every
    call runs again: it must report its earlier scores, resume, and return if it is done.

    Args:
        run: Trains one network.
        names: One per training.
        settings: Number and size of the workers.
        storage: Folder for the files of Ray Tune.

    Raises:
        UserError: If a training fails, with the first reason.
    """
    # Workers stay in the working directory of the command, to which paths may be relative.
    os.environ["RAY_CHDIR_TO_TRIAL_DIR"] = "0"
    owns_ray = start_ray(settings)
    ray, tune, schedulers = map(import_ray, ("ray", "ray.tune", "ray.tune.schedulers"))

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
        reason = str(results.errors[0]).strip().splitlines()[-1]
        raise UserError("training", "every training to end", "a failure", reason)
