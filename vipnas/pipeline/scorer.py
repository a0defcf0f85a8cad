"""Who scores archs in a search: this process, or workers that are sent all that a score needs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Protocol

import torch

from vipnas.arch.image import Arch
from vipnas.config.search import SearchConfig
from vipnas.evaluation.scoring import InheritedScore
from vipnas.files import to_plain
from vipnas.memory import keep_freed_memory
from vipnas.pipeline.experiment import Experiment
from vipnas.pipeline.supernet import existing_supernet
from vipnas.pipeline.work import needed
from vipnas.search.constraints import A
from vipnas.search.loop import Workers
from vipnas.search.parallel import RaySettings, RayWorkers
from vipnas.search.workers import Evaluate, InProcess, MakeEvaluate
from vipnas.settings import content_digest
from vipnas.training.checkpoint import load_network


def search_settings(experiment: Experiment, config: SearchConfig, supernet: Path) -> dict[str, Any]:
    """Return what the trials of a search depend on, at either level: not on how many there are."""
    return {
        **experiment.inherited_settings(),
        "search": {**to_plain(config), "seconds_limit": None, "num_trials": None},
        "supernet": content_digest(supernet),
    }


class Scorer:
    """Makes the function that scores archs, in this process or, pickled, in a worker. The crops are
    made when first needed."""

    def __init__(self, experiment: Experiment, threads: int) -> None:
        self.experiment = experiment
        self.threads = threads
        self.file = existing_supernet(experiment)
        self.supernet = load_network(self.file, experiment.space.max_arch())

    def settings(self) -> dict[str, Any]:
        """All that a trial of the search depends on."""
        search = needed(self.experiment.config.search, "search")
        return {
            **search_settings(self.experiment, search, self.file),
            "flip_test": self.experiment.config.flip_test,
        }

    @cached_property
    def score(self) -> InheritedScore:
        evaluator = self.experiment.evaluator("val")
        margin = needed(self.experiment.config.search, "search").early_stop_margin
        images = self.experiment.calibration_images
        return InheritedScore(self.supernet, evaluator, images, margin or 0.0)

    def __call__(self) -> Evaluate[Arch]:
        return in_worker(self.score, self.experiment.device, self.threads)

    def __reduce__(self) -> tuple[Any, ...]:
        # Ray numbers the GPUs anew that it lets a worker see.
        device = torch.device(self.experiment.device.type)
        return partial, (in_worker, self.score, device, self.threads)


class Movable(Protocol):
    """A function that scores archs, and has tensors."""

    def to(self, device: torch.device) -> Evaluate[Any]:
        """The same on a device."""


def in_worker(score: Movable, device: torch.device, threads: int) -> Evaluate[Any]:
    """The same number of threads everywhere: sums of floats depend on it."""
    keep_freed_memory()
    torch.set_num_threads(threads)
    return score.to(device)


@contextmanager
def opened_workers(
    scorer: MakeEvaluate[A], config: SearchConfig, ray: RaySettings | None
) -> Iterator[Workers[A]]:
    """Who scores: this process, or the workers of Ray."""
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
