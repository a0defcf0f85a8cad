"""Score the architectures of a search, in this process or in workers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property, partial
from typing import Any, Generic

import torch

from vipnas.config.search import SearchConfig
from vipnas.evaluation.scoring import Inherited
from vipnas.files import to_plain
from vipnas.memory import keep_freed_memory
from vipnas.pipeline.level import Level, existing_supernet
from vipnas.search.constraints import A
from vipnas.search.loop import Workers
from vipnas.search.parallel import RayWorkers
from vipnas.search.ray_cluster import RaySettings
from vipnas.search.workers import Evaluate, InProcess, MakeEvaluate
from vipnas.settings import content_digest


def search_settings(level: Level[Any]) -> dict[str, Any]:
    """Return the settings that trials of a search depend on; their number is none of them."""
    return {
        **level.experiment.inherited_settings(),
        "search": {**to_plain(level.search_config), "seconds_limit": None, "num_trials": None},
        "supernet": content_digest(existing_supernet(level)),
        **level.search_settings(),
    }


class Scorer(Generic[A]):
    """Make the function that scores architectures, in this process or, pickled, in a worker.

    Crops are made lazily.
    """

    def __init__(self, level: Level[A]) -> None:
        self.level = level
        self.supernet = level.load_supernet(existing_supernet(level))

    @cached_property
    def score(self) -> Inherited[A]:
        return self.level.scorer(self.supernet.to(self.level.experiment.device))

    def __call__(self) -> Evaluate[A]:
        device, threads = self.level.experiment.device, self.level.search_config.threads
        return in_worker(self.score, device, threads)

    def __reduce__(self) -> tuple[Any, ...]:
        # Ray renumbers the GPUs that a worker sees.
        device = torch.device(self.level.experiment.device.type)
        return partial, (in_worker, self.score, device, self.level.search_config.threads)


def in_worker(score: Inherited[A], device: torch.device, threads: int) -> Evaluate[A]:
    """Move the scores to a device. Sums of floats depend on the number of threads."""
    keep_freed_memory()
    torch.set_num_threads(threads)
    return score.to(device)


@contextmanager
def opened_workers(
    scorer: MakeEvaluate[A], config: SearchConfig, ray: RaySettings | None
) -> Iterator[Workers[A]]:
    """A context with the workers that score: this process, or those of Ray."""
    if ray is not None:
        limits = replace(ray, threads=config.threads, seconds_limit=config.seconds_limit)
        with RayWorkers(scorer, limits) as workers:
            yield workers
        return
    threads = torch.get_num_threads()
    try:
        yield InProcess(scorer)
    finally:
        torch.set_num_threads(threads)
