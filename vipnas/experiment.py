"""An experiment, opened: the parts its commands are built from, each made when first needed."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from vipnas.config import CocoFiles, ExperimentConfig
from vipnas.data.cache import CropCache, open_crop_cache
from vipnas.data.coco import PoseData, hold_out, read_coco, subset
from vipnas.data.crops import fixed_crops
from vipnas.data.detections import read_detections
from vipnas.data.heatmap import HeatmapCodec, make_codec
from vipnas.data.loader import TrainingCrops
from vipnas.data.skeletons import Skeleton, read_skeleton
from vipnas.data.synthetic import ANNOTATIONS, synthesize
from vipnas.evaluation.evaluator import Evaluator
from vipnas.files import to_plain
from vipnas.shipped import find_shipped
from vipnas.space import SearchSpace, read_space

Split = Literal["test", "search"]

# Drawn test people come of another seed than those of training.
TEST_SEED_OFFSET = 1_000_003


@dataclass(frozen=True)
class Experiment:
    """What an experiment's YAML names: found, read and checked on first use.

    `output` is the folder of this run; paths of the data are relative to `data_root`.
    """

    config: ExperimentConfig
    output: Path
    data_root: Path
    device: torch.device
    skip_bad_images: bool = False

    @cached_property
    def skeleton(self) -> Skeleton:
        return read_skeleton(self.config.skeleton)

    @cached_property
    def space(self) -> SearchSpace:
        space = read_space(find_shipped("search_spaces", self.config.space))
        return space.with_facts(self.config.input_hw, self.skeleton.num_joints)

    @cached_property
    def codec(self) -> HeatmapCodec:
        arch = self.space.max_arch()
        config = self.config
        return make_codec(config.codec, arch.input_hw, arch.heatmap_hw, config.sigma_px)

    @cached_property
    def _train_and_search(self) -> tuple[PoseData, PoseData]:
        data, config = self._read("train"), self.config.data
        if config.max_train_persons is not None:
            data = subset(data, config.max_train_persons + config.search_persons, self.config.seed)
        return hold_out(data, config.search_persons, self.config.seed)

    @property
    def train_data(self) -> PoseData:
        return self._train_and_search[0]

    @property
    def search_data(self) -> PoseData:
        """Held out of the training images: what subnets are scored on."""
        return self._train_and_search[1]

    @cached_property
    def test_data(self) -> PoseData:
        """For final figures only: neither training nor search see it."""
        return self._read("test")

    @cached_property
    def training_crops(self) -> TrainingCrops:
        return TrainingCrops(
            self.train_data.persons,
            self.skeleton,
            self.space.input_hw,
            self.config.augmentation,
            self.config.seed,
            self.skip_bad_images,
            self.codec.span_hw,
            self._crop_cache(),
        )

    @cached_property
    def calibration_images(self) -> Tensor:
        """Augmented training crops (N, 3, H, W), uint8: what batch norm is measured on."""
        persons = self.train_data.persons[: self.config.data.calibration_persons]
        crops = fixed_crops(
            persons,
            self.skeleton,
            self.space.input_hw,
            self.config.augmentation,
            self.config.seed,
            self.skip_bad_images,
            self.codec.span_hw,
        )
        return crops.images_B3HW

    def evaluator(self, split: Split) -> Evaluator:
        """Scores networks on all persons of a split, whose crops are made here."""
        data = self.test_data if split == "test" else self.search_data
        persons, scores_of, suppression = data.persons, None, None
        if split == "test" and self.config.data.detections is not None:
            file = self.data_root / self.config.data.detections
            found = read_detections(file, data, self.config.data.detection_threshold)
            persons, suppression = found.persons, self.config.data.suppression
            pairs = zip(persons, found.scores_N, strict=True)
            scores_of = {person.annotation_id: score for person, score in pairs}
        crops = fixed_crops(
            persons,
            self.skeleton,
            self.space.input_hw,
            skip_bad_images=self.skip_bad_images,
            span_hw=self.codec.span_hw,
        )
        box_scores_N = None
        if scores_of is not None:
            box_scores_N = np.array([scores_of[person.annotation_id] for person in crops.persons])
        return Evaluator(
            crops,
            data.ground_truth,
            self.skeleton,
            self.codec,
            self.config.evaluation_batch_size,
            self.config.flip_test,
            box_scores_N,
            suppression,
        )

    def _crop_cache(self) -> CropCache | None:
        if self.config.data.cache is None:
            return None
        return open_crop_cache(
            Path(self.config.data.cache),
            self.train_data.persons,
            self.skeleton,
            self.codec.span_hw,
            self.config.augmentation,
        )

    def training_settings(self) -> dict[str, Any]:
        """All that any training of this experiment depends on, as plain values."""
        config = self.config
        return {
            "seed": config.seed,
            "space": self.space.to_plain(),
            "skeleton": self.skeleton.name,
            "data": {**to_plain(config.data), "num_workers": None, "cache": None},
            "train_persons": len(self.train_data.persons),
            "augmentation": to_plain(config.augmentation),
            "udp": config.codec == "udp",
            "sigma_px": config.sigma_px,
        }

    def _read(self, split: str) -> PoseData:
        config = self.config.data
        if config.synthetic is not None:
            return self._read_synthetic(split)
        files: CocoFiles | None = getattr(config, split)
        assert files is not None
        return read_coco(
            self.data_root / files.annotations,
            self.data_root / files.images,
            self.skeleton,
            self.skip_bad_images,
        )

    def _read_synthetic(self, split: str) -> PoseData:
        config = self.config.data.synthetic
        assert config is not None
        num_images = getattr(config, f"num_{split}_images")
        seed = self.config.seed + (TEST_SEED_OFFSET if split == "test" else 0)
        directory = self.output / "data" / split
        synthesize(
            directory,
            num_images,
            seed,
            config.image_hw,
            config.people_per_image,
            num_workers=os.cpu_count() or 1,
            difficulty=config.difficulty,
        )
        return read_coco(directory / ANNOTATIONS, directory / "images", self.skeleton)


def digest(path: Path) -> str:
    """A short fingerprint of a file's content."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
