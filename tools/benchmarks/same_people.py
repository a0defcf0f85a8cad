"""Experiments that share one draw of people: for tools that compare trainings."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from tools.benchmarks.scaled_networks import space_of
from vipnas.arch.image import Arch
from vipnas.data.formats.coco import PoseData
from vipnas.pipeline.experiment import Experiment
from vipnas.space.image import SearchSpace


@dataclass(frozen=True, kw_only=True)
class SamePeople(Experiment):
    """Another training on the people of the experiment `people`, whose input size is the same: of a
    space, or of one arch alone. With another seed weights, the order of the people, their
    augmentation and the archs drawn are others; the people are not."""

    people: Experiment
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
