"""Archs trained alone and scored with inherited weights, in several processes: for
tools/benchmarks/rank_correlation.py and tools/benchmarks/compare_supernets.py."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import replace
from functools import cache, cached_property
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar
from unittest.mock import patch

import torch

from tools.benchmarks.same_people import SamePeople
from vipnas.arch.image import Arch
from vipnas.config.experiment import read_experiment
from vipnas.evaluation.evaluator import Evaluator, calibrate_bn
from vipnas.evaluation.scoring import InheritedScore
from vipnas.files import digest, to_plain
from vipnas.memory import keep_freed_memory
from vipnas.models import elastic
from vipnas.models.counting import count_cost
from vipnas.models.posenet import PoseNet
from vipnas.models.slicing import crop
from vipnas.pipeline.experiment import Experiment
from vipnas.pipeline.image_level import ImageLevel
from vipnas.pipeline.models import open_supernet
from vipnas.pipeline.run_folder import made_with
from vipnas.pipeline.work import train
from vipnas.search.trial import Trial
from vipnas.training.compute import make_forward
from vipnas.training.step import ImageTask, network_backward

Measure = Literal["oks", "ap"]
Sharing = Literal["block_diagonal", "leading"]
Done = TypeVar("Done")


@contextmanager
def sharing(rule: Sharing) -> Iterator[None]:
    """Inside, grouped layers use the leading columns of a larger one, not its block diagonal."""

    def leading(full: Any, shape: Any, *groups: int) -> Any:
        return crop(full, shape)

    with patch.object(elastic, "crop", crop if rule == "block_diagonal" else leading):
        yield


class Source(NamedTuple):
    """Where a measurement comes from: training alone with a seed, or a supernet's weights, with
    which architectures are scored as a search does it, or by AP."""

    seed: int
    supernet: Path | None = None
    measure: Measure = "oks"

    def method(self) -> str:
        """Its name in the journal; that of a supernet changes with its weights."""
        if self.supernet is None:
            return f"alone, seed {self.seed}"
        by_oks = " OKS" if self.measure == "oks" else ""
        return f"inherited{by_oks}, {digest(self.supernet)}"


class Place(NamedTuple):
    """What an experiment is opened from, by each process for itself."""

    experiment: Path
    output: Path
    data_root: Path
    epochs: float | None = None
    device: str = "cpu"

    def open(self, seed: int | None = None) -> Experiment:
        """`epochs` are those of training alone, where they are not the experiment's own. Another
        seed than the experiment's is that of training, not that of the people."""
        config = read_experiment(self.experiment)
        if self.epochs is not None:
            schedule = replace(config.retrain.schedule, epochs=self.epochs)
            config = replace(config, retrain=replace(config.retrain, schedule=schedule))
        parts = (self.output, self.data_root, torch.device(self.device))
        opened = Experiment(config, *parts)
        if seed is None:
            return opened
        return SamePeople(replace(config, seed=seed), *parts, people=opened)


class Bench:
    """Measures architectures; what it needs is made when first needed."""

    def __init__(self, place: Place) -> None:
        self.opened = place.open()
        self.reseeded = cache(place.open)
        self.score_of = cache(self._score)
        self.test_evaluators: dict[tuple[int, int], Evaluator] = {}

    def test_evaluator(self, arch: Arch) -> Evaluator:
        """Return the evaluator on test crops of the architecture's size, which are made once."""
        if arch.input_hw not in self.test_evaluators:
            self.test_evaluators[arch.input_hw] = self.opened.at(arch).evaluator("test")
        return self.test_evaluators[arch.input_hw]

    @cached_property
    def search_evaluator(self) -> Evaluator:
        return self.opened.evaluator("val")

    def _score(self, supernet: Path) -> InheritedScore:
        weights = open_supernet(self.opened, supernet)
        score = InheritedScore(
            weights, self.opened.space, self.search_evaluator, self.opened.calibration_images
        )
        return score.to(self.opened.device)

    def measure(self, number: int, arch: Arch, source: Source) -> Trial:
        started = time.monotonic()
        if source.supernet is None:
            found = self._alone(number, arch, source.seed)
        else:
            score = self.score_of(source.supernet)
            with sharing(_sharing_of(source.supernet)):
                found = score(arch) if source.measure == "oks" else score.metrics(arch).ap
        seconds = round(time.monotonic() - started, 1)
        return Trial(number, source.method(), arch, found, count_cost(arch), seconds)

    def _alone(self, number: int, arch: Arch, seed: int) -> float:
        """AP on the test people after training from scratch; the seed is that of the weights and of
        the order of the people, never that of which people there are."""
        experiment, evaluator = self.reseeded(seed).at(arch), self.test_evaluator(arch)
        torch.manual_seed(seed)
        network = PoseNet(arch).to(experiment.device)
        forward = make_forward(network, experiment.config.compute)
        schedule = experiment.config.retrain.schedule
        directory = experiment.output / "alone" / f"{number}_seed{seed}"
        backward = network_backward(ImageTask(forward, experiment.codec))
        settings = {"arch": to_plain(arch), "seed": seed, "schedule": to_plain(schedule)}
        trained = train(
            ImageLevel(experiment),
            directory,
            network,
            schedule,
            backward,
            settings,
            {"network": arch},
            same_every_step=True,
        )
        assert isinstance(trained, PoseNet)
        calibrate_bn(trained, experiment.calibration_images, evaluator.batch_size)
        ap = evaluator(trained).ap
        shutil.rmtree(directory)
        return ap


def _sharing_of(supernet: Path) -> Sharing:
    found: Sharing = made_with(supernet).get("sharing", "block_diagonal")
    return found


def in_processes(
    num_workers: int, calls: Sequence[tuple[Callable[..., Done], tuple[Any, ...]]]
) -> Iterator[Done]:
    """Results as they come, each from a process of one thread."""
    if not calls:
        return
    context = get_context("spawn")
    with ProcessPoolExecutor(num_workers, context, initializer=_start_worker) as pool:
        futures = [pool.submit(function, *arguments) for function, arguments in calls]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            for future in futures:
                future.cancel()


def _start_worker() -> None:
    torch.set_num_threads(1)
    keep_freed_memory()
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A killed run must leave nobody behind who would write beside the next one."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


bench_of = cache(Bench)  # one for each process


def measured(place: Place, number: int, arch: Arch, source: Source) -> Trial:
    return bench_of(place).measure(number, arch, source)


def draw_people(experiment: Experiment) -> None:
    """Before several processes would."""
    for data in (experiment.train_data, experiment.test_data):
        assert data.persons
