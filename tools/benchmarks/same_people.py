"""Experiments that share one draw of people: for tools that compare trainings."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import Tensor

from tools.benchmarks.scaled_networks import space_of
from vipnas.arch.image import Arch
from vipnas.data.formats.coco import PoseData
from vipnas.pipeline.datasets import Datasets
from vipnas.pipeline.experiment import Experiment
from vipnas.space.image import SearchSpace


@dataclass(frozen=True, kw_only=True)
class SharedDatasets(Datasets):
    """The people of other data sets, cropped for another space, or for one architecture alone."""

    people: Datasets
    only: Arch | None = None

    @cached_property
    def space(self) -> SearchSpace:
        return super().space if self.only is None else space_of(self.only)

    @property
    def train_data(self) -> PoseData:
        return self.people.train_data

    @property
    def val_data(self) -> PoseData:
        return self.people.val_data

    @cached_property
    def test_data(self) -> PoseData:
        return self.people.test_data

    @cached_property
    def calibration_images(self) -> Tensor:
        return self.people.calibration_images

    def train_settings(self) -> dict[str, Any]:
        return self.people.train_settings()

    def test_settings(self) -> dict[str, Any]:
        return self.people.test_settings()


@dataclass(frozen=True, kw_only=True)
class SamePeople(Experiment):
    """Another training on the people of the experiment `people`, whose input size is the same: of a
    space, or of one architecture alone. With another seed weights, the order of the people, their
    augmentation and the architectures drawn are others; the people are not."""

    people: Experiment
    only: Arch | None = None

    @cached_property
    def datasets(self) -> SharedDatasets:
        return SharedDatasets(
            self.config,
            self.data_root,
            self.folder.synthetic,
            self.skip_bad_images,
            people=self.people.datasets,
            only=self.only,
        )
